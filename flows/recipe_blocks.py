"""Parts that several recipes share: recipes do not import each other."""

from __future__ import annotations

from curation.contrasts.vocabulary import VocabularyFile
from curation.engine.stage import Stage
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import LanguageModel
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.expand_knowledge import ExpandKnowledge
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.rewrite_captions import RewriteCaptions
from curation.stages.negatives.bind_attributes import BindAttributes
from curation.stages.negatives.change_numbers import ChangeNumbers
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from curation.stages.negatives.grade_negatives import GradeNegatives
from curation.stages.negatives.invert_relations import InvertRelations
from curation.stages.negatives.mine_contrasts import MineContrasts
from curation.stages.negatives.refine_negatives import RefineNegatives
from curation.stages.negatives.replace_words import ReplaceWords
from curation.stages.negatives.swap_roles import SwapRoles
from curation.stages.negatives.swap_words import SwapWords

_FIELDS = (
    "swap_negatives", "replace_negatives", "bind_negatives", "role_negatives", "space_negatives", "number_negatives",
)  # fmt: skip


def checked_negatives(
    graph: KnowledgeGraph, *, exchanges: bool = False, mined: bool = False, vocabulary: VocabularyFile | None = None
) -> tuple[Stage, ...]:
    """Return stages that make negatives of six operations, take out the true ones, balance and grade the rest.

    They need parses and provide ``graded_negatives``.

    Args:
        graph: Knows siblings and synonyms.
        exchanges: Leave exchanges of words of different classes to the balance, instead of taking them out before.
        mined: Make negatives of a seventh operation too: words that exclude each other as the captions show.
        vocabulary: What people have decided about these words.
    """
    # where mined words are made, more of all: which of them read like captions is for the balance to say
    replaced = ReplaceWords(graph=graph, per_caption=12, per_slot=4) if mined else ReplaceWords(graph=graph)
    made: tuple[Stage, ...] = (
        SwapWords(), replaced, BindAttributes(), SwapRoles(), InvertRelations(), ChangeNumbers(),
    )  # fmt: skip
    fields: tuple[str, ...] = _FIELDS
    if mined:
        contrasts = MineContrasts(graph=graph, vocabulary=vocabulary)
        made, fields = (*made, contrasts), (*fields, "mined_negatives")
    judged = (
        FindFalseNegatives(fields, graph, "exactly", like_swaps=not exchanges),
        RefineNegatives(("true_negatives",)),
    )
    return (*made, *judged, GradeNegatives(("refined_negatives",), graph=graph))


def caption_view_stages(graph: KnowledgeGraph, writer: LanguageModel | RuleWriter) -> tuple[Stage, ...]:
    """Return stages that say captions in other words and with what a graph knows; they need parses.

    Args:
        graph: Knows what captions may add.
        writer: Rewrites captions.
    """
    return (LinkConcepts(graph), ExpandKnowledge(graph), RewriteCaptions(writer, max_captions=2))
