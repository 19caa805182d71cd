"""Parts that several recipes share: recipes do not import each other."""

from __future__ import annotations

from dataclasses import replace

from curation.contrasts.vocabulary import VocabularyFile
from curation.engine.stage import Stage
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import LanguageModel
from curation.models.masked_model import MaskedModel
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.expand_knowledge import ExpandKnowledge
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.rewrite_captions import RewriteCaptions
from curation.stages.negatives.bind_attributes import BindAttributes
from curation.stages.negatives.change_numbers import ChangeNumbers
from curation.stages.negatives.fill_masks import FillMasks
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
    "mined_negatives",
)  # fmt: skip


_BLUE_OR_GREEN = '["scene_background_colour:blue|scene_background_colour:green"]'
SCENE_TAGS = 'stages.tag_attributes.columns=["scene.background.colour"]'
SCENES_BALANCED = f"stages.balance_attributes.sensitive={_BLUE_OR_GREEN}"
SCENES_COMPARED = (f"objectives.group_parity.groups={_BLUE_OR_GREEN}", "objectives.group_parity.smallest=1")
"""Settings for generated scenes, which show nobody whose gender a caption could tell: the background's colour stands for it
as a tag, in the balance of samples, and in the fair loss."""


def checked_negatives(
    graph: KnowledgeGraph, vocabulary: VocabularyFile | None, *, many: bool = False
) -> tuple[Stage, ...]:
    """Return stages that make negatives of seven operations, take out the true ones, balance and grade the rest.

    They need parses and provide ``graded_negatives``.

    Args:
        graph: Knows siblings and synonyms.
        vocabulary: What people have decided about words that exclude each other.
        many: Make several negatives of one word, for trainers that choose among them.
    """
    replaced, mined = ReplaceWords(graph=graph), MineContrasts(graph=graph, vocabulary=vocabulary, per_caption=6)
    if many:
        replaced, mined = replace(replaced, per_caption=12, per_slot=4), replace(mined, per_caption=14, at_least=14)
    made: tuple[Stage, ...] = (
        SwapWords(), replaced, BindAttributes(), SwapRoles(), InvertRelations(), ChangeNumbers(), mined,
    )  # fmt: skip
    judged = (
        # words of different classes in each other's place make sentences that nobody would write
        FindFalseNegatives(_FIELDS, graph, "exactly", like_swaps=True),
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


def svlc_negatives(masked: MaskedModel | None) -> tuple[Stage, ...]:
    """Return stages that make SVLC's negatives, words from lists and, with a masked model, fills; they need parses.

    Args:
        masked: Fills blanks; None for lists alone.
    """
    lists = ReplaceWords(lists=("colour", "material", "size", "state", "action", "relation"))
    if masked is None:
        return (lists,)
    kinds = ("object", "relation", "attribute", "action")
    return (lists, FillMasks(masked, kinds=kinds, ranks=(1, 2, 3, 4, 5)))
