"""Judges that see no image: they find what gives negatives away, and are at chance where nothing does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from curation.blind import judges
from curation.blind.judges import JUDGES, Judge, Pair, PairSample, blind_accuracy, positive_of
from curation.blind.pair_features import NUM_HASHED, TokenView, fit_logistic, pair_features
from curation.blind.scores import FoldJudges
from curation.blind.tokens import Encoded, Float64s, Padded, pad
from tests.curation.gru_judge import GruJudge

THINGS = ("dog", "cat", "horse", "child", "woman", "man")
PLACES = ("grass", "street", "beach", "field", "snow", "bench")


def uid(number: int) -> str:
    return blake3(str(number).encode()).hexdigest(length=16)


def leaking(num: int) -> list[Pair]:
    """Return captions "a dog on the grass" and negatives "a grass on the dog"."""
    draw = random.Random(0)
    drawn = [(draw.choice(THINGS), draw.choice(PLACES)) for _ in range(num)]
    texts = [(f"a {thing} on the {place} .", f"a {place} on the {thing} .") for thing, place in drawn]
    return [Pair(uid(number), *text, "swap noun") for number, text in enumerate(texts)]


def turned(pairs: Sequence[Pair]) -> list[Pair]:
    """Return each pair and the same with caption and negative exchanged: nothing tells them apart."""
    return [one for pair in pairs for one in (pair, pair._replace(caption=pair.negative, negative=pair.caption))]


@pytest.mark.parametrize("name", ["words", "features"])
def test_a_judge_finds_what_gives_negatives_away_and_nothing_where_nothing_does(name: str) -> None:
    assert blind_accuracy(leaking(200), JUDGES[name])["overall"] > 0.98
    assert blind_accuracy(turned(leaking(200)), JUDGES[name]) == {
        "swap noun": 0.5,
        "overall": 0.5,
        "num": len(set(turned(leaking(200)))),
    }


def test_the_network_learns_and_is_the_same_twice() -> None:
    assert blind_accuracy(leaking(300), GruJudge(num_epochs=4))["overall"] > 0.9
    few, network = leaking(60), GruJudge(num_epochs=2)
    halves: tuple[Any, ...] = (few[:40], [], few[40:])
    assert network.gaps(*halves).tolist() == GruJudge(num_epochs=2).gaps(*halves).tolist()
    assert blind_accuracy(turned(leaking(60)), network)["overall"] == 0.5


class Recorder:
    """Prefers every caption, and notes what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[set[str], set[str], set[str]]] = []

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:
        self.given.append(({pair.uid for pair in train}, set(captions), {pair.uid for pair in test}))
        return np.where([pair.operation == "tie" for pair in test], 1e-6, 1.0)


def test_no_judge_meets_an_image_that_it_is_asked_about() -> None:
    pairs = [*leaking(60), *(pair._replace(operation="tie") for pair in leaking(20))]
    pairs = [pair._replace(caption=f"{pair.caption} {pair.uid}") for pair in pairs]
    more = [(uid(number), f"another of {uid(number)}") for number in range(90)]
    recorder = Recorder()
    assert blind_accuracy(pairs, recorder, captions=more) == {
        "swap noun": 1.0, "tie": 0.5, "overall": 0.875, "num": 80,
    }  # fmt: skip
    assert len(recorder.given) == 2
    for learned, captions, asked in recorder.given:
        assert len(learned) > 15 and len(asked) > 15 and not learned & asked
        assert {caption.split()[-1] for caption in captions} >= learned
        assert not {caption.split()[-1] for caption in captions} & asked
    assert recorder.given[0][2] | recorder.given[1][2] == {pair.uid for pair in pairs}


@pytest.mark.parametrize("name", ["words", "features"])
def test_neither_order_nor_repetition_of_pairs_matters(name: str) -> None:
    pairs = leaking(60)
    expected = blind_accuracy(pairs, JUDGES[name])
    assert blind_accuracy([*pairs[::-1], pairs[0]], JUDGES[name]) == expected


@pytest.mark.parametrize("judge", [*JUDGES.values(), GruJudge()])
def test_few_and_odd_pairs(judge: Judge) -> None:
    assert blind_accuracy([], judge) == {"num": 0}
    assert blind_accuracy([Pair(uid(0), "a", "b", "x")], judge) == {"x": 0.5, "overall": 0.5, "num": 1}
    odd = [Pair(uid(number), text, "", "x") for number, text in enumerate(["\U0001f600", " ", "\0", "WORD " * 900])]
    assert blind_accuracy(odd, judge)["num"] == 4


def test_a_sample_of_pairs_is_bounded_and_the_same_in_any_order() -> None:
    records = [{"text": f"b a {k}", "caption": 0, "operation": "swap", "span_class": "noun"} for k in range(100)]
    images = [(uid(number), [f"a b {number}"], records[: number % 7]) for number in range(80)]
    one, other = PairSample(max_pairs=50), PairSample(max_pairs=50)
    for image in images:
        one.add(*image)
    for image in images[::-1]:
        other.add(*image)
    found = one.accuracy()
    assert found == other.accuracy()
    assert 40 <= found["words"]["num"] <= 50
    assert set(found["words"]) == {"swap noun", "overall", "num"}
    large = PairSample()
    large.add(uid(0), ["a b"], records)
    assert large.accuracy() == {name: {"swap noun": 0.5, "overall": 0.5, "num": 64} for name in ("words", "features")}
    assert PairSample().accuracy() == {"words": {"num": 0}, "features": {"num": 0}}


def test_the_judged_images_are_known_from_numbers_of_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "MAX_PAIRS", 50)
    record = {"caption": 0, "operation": "swap", "span_class": "noun"}
    numbers = {uid(number): number % 7 for number in range(80)}
    images: judges.JudgedImages[str] = judges.JudgedImages()
    for image, number in numbers.items():
        images.add(image, number, image)
    judged = images.items()
    every, alone = PairSample(max_pairs=50), PairSample(max_pairs=sum(numbers.values()))
    for image, number in numbers.items():
        records = [{**record, "text": f"b a {k}"} for k in range(number)]
        every.add(image, [f"a b {image}"], records)
        if image in judged:
            alone.add(image, [f"a b {image}"], records)
    assert 0 < len(judged) < 40
    assert every.accuracy() == alone.accuracy()


def test_features_of_a_pair_are_what_its_texts_do_not_share() -> None:
    def texts(*rows: list[int]) -> Padded:
        lengths = np.array([len(row) for row in rows])
        return pad(Encoded(np.array([k for row in rows for k in row], np.int64), lengths))

    captions, negatives = texts([3, 4, 5], [3], [3, 3]), texts([3, 5, 4], [3], [3])
    found = pair_features([TokenView(captions, negatives, 2)], np.array([[0.5], [0.0], [2.0]]))
    first = found[[0]].indices[:-1]
    assert len(first) == len(set(first.tolist())) == 6  # three pairs of neighbours each: 34 45 5-end, 35 54 4-end
    assert (found @ np.ones(NUM_HASHED + 1)).tolist() == [0.5, 0.0, 2 + 2.0]  # one 3 and one 33 more
    swapped = pair_features([TokenView(negatives, captions, 2)], np.zeros((3, 1)))
    weights = np.random.default_rng(0).normal(size=NUM_HASHED + 1)
    weights[-1] = 0
    assert (swapped @ weights).tolist() == pytest.approx((-(found @ weights)).tolist())


def test_logistic_regression_reaches_the_minimum() -> None:
    draw = np.random.default_rng(0)
    dense = draw.normal(size=(300, 5)) + np.array([1.0, -0.5, 0, 0, 0.2])
    pairs = pair_features([], dense)
    weights = fit_logistic(pairs, penalty=2.0, num_steps=200)
    margin = dense.astype(np.float32) @ weights[NUM_HASHED:]
    slope = -(dense / (1 + np.exp(margin))[:, None]).sum(axis=0) + 2.0 * weights[NUM_HASHED:]
    assert np.abs(slope / 300).max() < 1e-4
    assert not weights[:NUM_HASHED].any()
    assert fit_logistic(pairs, penalty=2.0, num_steps=200).tolist() == weights.tolist()


def test_a_judge_of_a_fold_has_not_met_it_and_knows_no_rare_feature() -> None:
    dense = np.zeros((12, 3))
    dense[:, 0] = [1.0] * 6 + [-1.0] * 6  # right in fold 0, wrong in fold 1
    dense[:2, 1] = 5.0
    features, folds = pair_features([], dense), np.arange(12) // 6
    judges = FoldJudges.learn(features, folds, 3, 50)
    assert judges.columns.tolist() == [NUM_HASHED]
    gaps = judges.gaps(features, folds)
    assert (gaps < 0).all()  # each fold is judged by what holds in the other
    assert judges.gaps(features, np.full(12, 2)).tolist() == [0.0] * 12  # both folds together tell nothing
    unknown = pair_features([], np.array([[0.0, 0.0, 9.0]]))
    assert judges.gaps(unknown, np.zeros(1, np.int64)).tolist() == [0.0]


def test_a_negative_is_told_from_the_text_that_it_names() -> None:
    record = {"caption": 1, "text": "no dog", "operation": "negate", "span_class": "thing"}
    assert positive_of({**record, "against": "no cat"}, ["x", "a dog"]) == "no cat"
    assert positive_of({**record, "against": ""}, ["x", "a dog"]) == positive_of(record, ["x", "a dog"]) == "a dog"
    held = PairSample()
    for number in range(40):
        texts = ("no dog", "no cat") if number % 2 else ("no cat", "no dog")
        held.add(uid(number), ["x", "a dog"], [{**record, "text": texts[0], "against": texts[1]}])
    assert abs(held.accuracy()["features"]["overall"] - 0.5) < 0.25
