"""What is looked at first in the captions' words: it must never say what the captions' worlds do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curation.entailment.check_negative import ImageClaims, SampleClaims, claim_words, read_sample_claims
from curation.entailment.entail import is_compatible, is_entailed
from curation.entailment.word_meanings import word_relations
from curation.knowledge.open_graph import SeedGraph
from data_manifests.sample import Sample
from tests.curation.negative_checks import made, operations, parsed, sample
from tests.curation.negative_golden_captions import CAPTIONS
from training.evaluate.word_order import perturb

TOGETHER = 5


@pytest.fixture(scope="module")
def images() -> list[Sample]:
    return parsed([sample(*CAPTIONS[at : at + TOGETHER]) for at in range(0, len(CAPTIONS), TOGETHER)])


def with_negatives(images: list[Sample], *, copies: bool) -> list[SampleClaims]:
    return [
        read_sample_claims(
            one.captions,
            one["parses"],
            [*(record for stage in operations() for record in made(stage, one)), *shuffled(one)],
            copies=copies,
        )
        for one in images
    ]


def shuffled(one: Sample) -> list[dict[str, Any]]:
    """Return each caption with its words in other orders: what they say is often still open."""
    rng = np.random.default_rng(0)
    records = []
    for number, caption in enumerate(one.captions):
        words = caption.split()
        for name in ("trigrams", "within_trigrams"):
            text = " ".join(perturb(name, words, [""] * len(words), rng))
            records.append({"caption": number, "text": text, "edits": [], "type": "order"})
    return records


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("graph", [None, SeedGraph()])
def test_quick_looks_only_say_sooner_what_the_worlds_say(
    images: list[Sample], graph: SeedGraph | None, copies: bool
) -> None:
    read = with_negatives(images, copies=copies)
    kinds = word_relations(graph, {word for one in read for word in claim_words(one)})
    quick = open_ones = told = 0
    for one in read:
        image = ImageClaims(one, kinds)
        for claims in one.claims:
            held = is_compatible(claims, image.merged(-1), kinds)
            assert image.is_compatible(claims) == held
            said = any(is_entailed(claims, image.merged(at), kinds) for at in range(-1, len(one.captions)))
            assert image.mentions_all(claims) or not said
            quick, open_ones, told = quick + (not image.mentions_all(claims)), open_ones + held, told + said
    assert quick > 100
    assert open_ones > 10
    assert told > 10
