"""Parts that several recipes share: recipes do not import each other."""

from __future__ import annotations

from curation.language.rule_rewrites import RuleWriter
from curation.models.knowledge_graph import KnowledgeGraph
from curation.models.language_model import LanguageModel
from curation.stage import Stage
from curation.stages.bind_attributes import BindAttributes
from curation.stages.change_numbers import ChangeNumbers
from curation.stages.expand_knowledge import ExpandKnowledge
from curation.stages.find_false_negatives import FindFalseNegatives
from curation.stages.grade_negatives import GradeNegatives
from curation.stages.invert_relations import InvertRelations
from curation.stages.link_concepts import LinkConcepts
from curation.stages.refine_negatives import RefineNegatives
from curation.stages.replace_words import ReplaceWords
from curation.stages.rewrite_captions import RewriteCaptions
from curation.stages.swap_roles import SwapRoles
from curation.stages.swap_words import SwapWords

_FIELDS = (
    "swap_negatives", "replace_negatives", "bind_negatives", "role_negatives", "space_negatives", "number_negatives",
)  # fmt: skip


_EXCHANGES = ("swap", "bind", "role")


def checked_negatives(graph: KnowledgeGraph, *, exchanges: bool = False) -> tuple[Stage, ...]:
    """Return stages that make negatives of six operations, take out the true ones, balance and grade the rest.

    They need parses and provide ``graded_negatives``.

    Args:
        graph: Knows siblings and synonyms.
        exchanges: Keep what exchanges words of one sentence, odd sentences included, instead of balancing it away.
    """
    made = (SwapWords(), ReplaceWords(graph=graph), BindAttributes(), SwapRoles(), InvertRelations(), ChangeNumbers())
    refine = RefineNegatives(("true_negatives",), spared=_EXCHANGES if exchanges else ())
    judged = (FindFalseNegatives(_FIELDS, graph, "exactly", like_swaps=not exchanges), refine)
    return (*made, *judged, GradeNegatives(("refined_negatives",), graph=graph))


def told_views(graph: KnowledgeGraph, writer: LanguageModel | RuleWriter) -> tuple[Stage, ...]:
    """Return stages that say captions in other words and with what a graph knows; they need parses.

    Args:
        graph: Knows what captions may add.
        writer: Rewrites captions.
    """
    return (LinkConcepts(graph), ExpandKnowledge(graph), RewriteCaptions(writer, max_captions=2))
