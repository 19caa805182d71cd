"""Facts of a knowledge graph as texts: read from the views that state them, for objectives over triples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from training.model.clip_model import StepEncoder

_RULE = re.compile(r"/a/\[/r/([^/]+)/,/c/[^/]+/([^/]+)/(?:[^\]]*?/)?,/c/[^/]+/([^/]+)/(?:[^\]]*/)?\]")
"""A fact as ConceptNet names its assertions; see `curation.knowledge.interface.Edge.uri`."""

_WORD_STARTS = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Fact(NamedTuple):
    """A fact, as words: ``dog``, ``is a``, ``animal``."""

    head: str
    relation: str
    tail: str


@dataclass(frozen=True)
class Triplets:
    """Facts of a knowledge graph as texts, each text once. T facts, E entities, R relations.

    Attributes:
        query: Unit-norm features of "head relation", the question whose answer is the tail [T, d].
        pair: Of "head, tail", the question whose answer is the relation [T, d].
        entity: Of the heads and tails [E, d].
        relation_text: Of the relations [R, d].
        head: Number of each fact's head among the entities, int64 [T].
        tail: The same of its tail.
        relation: Number of its relation, int64 [T].
    """

    query: Tensor
    pair: Tensor
    entity: Tensor
    relation_text: Tensor
    head: Tensor
    tail: Tensor
    relation: Tensor


def read_fact(rule: str) -> Fact | None:
    """Return the fact that a view's rule names; None for rules of other kinds.

    Args:
        rule: Such as ``/a/[/r/IsA/,/c/en/dog/n/,/c/en/animal/]``.
    """
    found = _RULE.fullmatch(rule)
    if found is None:
        return None
    relation, head, tail = found.groups()
    return Fact(*(text.replace("_", " ") for text in (head, _WORD_STARTS.sub(" ", relation).lower(), tail)))


def distinct_facts(rules: Iterable[Sequence[str]]) -> list[Fact]:
    """Return the facts of a batch, each once, in order of appearance.

    Args:
        rules: The rules of each sample's knowledge captions.
    """
    return list(dict.fromkeys(fact for own in rules for rule in own if (fact := read_fact(rule)) is not None))


def encode_facts(encoder: StepEncoder, facts: Sequence[Fact]) -> Triplets:
    """Return the features of facts, with a gradient."""
    import torch

    model = encoder.model
    entities = list(dict.fromkeys(name for fact in facts for name in (fact.head, fact.tail)))
    relations = list(dict.fromkeys(fact.relation for fact in facts))
    groups = [
        [f"{fact.head} {fact.relation}" for fact in facts],
        [f"{fact.head}, {fact.tail}" for fact in facts],
        entities,
        relations,
    ]
    texts = list(chain(*groups))
    encoded = torch.zeros(0, model.embed_dim, device=model.device)
    if texts:
        encoded = encoder.encode_text(model.trim(model.tokenize(texts)).to(model.device), cached=False)
    query, pair, entity, relation_text = torch.split(encoded, [len(group) for group in groups])
    numbers = [
        [names.index(name) for name in column]
        for names, column in (
            (entities, [fact.head for fact in facts]),
            (entities, [fact.tail for fact in facts]),
            (relations, [fact.relation for fact in facts]),
        )
    ]
    head, tail, relation = torch.tensor(numbers, dtype=torch.int64, device=model.device)
    return Triplets(query, pair, entity, relation_text, head, tail, relation)
