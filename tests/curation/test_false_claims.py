"""What is looked at first in the captions' words: it must never say what the captions' worlds do not."""

from __future__ import annotations

import pytest

from curation.entailment.check_negative import ImageClaims, ReadSample, read_sample, words_of
from curation.entailment.entail import follows, may_hold
from curation.entailment.word_meanings import kinds_of
from curation.knowledge.open_graph import SeedGraph
from data_manifests.sample import Sample
from tests.curation.negative_checks import made, operations, parsed, sample
from tests.curation.negative_golden_captions import CAPTIONS

TOGETHER = 5


@pytest.fixture(scope="module")
def images() -> list[Sample]:
    return parsed([sample(*CAPTIONS[at : at + TOGETHER]) for at in range(0, len(CAPTIONS), TOGETHER)])


def with_negatives(images: list[Sample], *, copies: bool) -> list[ReadSample]:
    return [
        read_sample(
            one.captions,
            one["parses"],
            [record for stage in operations() for record in made(stage, one)],
            copies=copies,
        )
        for one in images
    ]


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("graph", [None, SeedGraph()])
def test_quick_looks_only_say_sooner_what_the_worlds_say(
    images: list[Sample], graph: SeedGraph | None, copies: bool
) -> None:
    read = with_negatives(images, copies=copies)
    kinds = kinds_of(graph, {word for one in read for word in words_of(one)})
    quick = open_ones = told = 0
    for one in read:
        image = ImageClaims(one, kinds)
        for claims in one.claims:
            held = may_hold(claims, image.world(-1), kinds)
            assert image.may_hold(claims) == held
            said = any(follows(claims, image.world(at), kinds) for at in range(-1, len(one.captions)))
            assert image.mentions(claims) or not said
            quick, open_ones, told = quick + (not image.mentions(claims)), open_ones + held, told + said
    assert quick > 100
    assert open_ones > 10
    assert told > 10
