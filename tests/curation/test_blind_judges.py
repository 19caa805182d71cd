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
from data_manifests.blind_accuracy import BLIND_TOTALS, blind_rows
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


@pytest.mark.parametrize("name", list(JUDGES))
def test_a_judge_finds_what_gives_negatives_away_and_nothing_where_nothing_does(name: str) -> None:
    assert blind_accuracy(leaking(200), JUDGES[name])["overall"] > 0.98
    found = blind_accuracy(turned(leaking(200)), JUDGES[name])
    num = len(set(turned(leaking(200))))
    assert (found["swap noun"], found["overall"], found["num"]) == (0.5, 0.5, num)
    half = 1.96 * 0.5 / num**0.5
    operation = {"accuracy": 0.5, "low": round(0.5 - half, 3), "high": round(0.5 + half, 3), "num": num}
    assert found["operations"] == {"swap": operation}


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
    found = blind_accuracy(pairs, recorder, captions=more)
    assert (found["swap noun"], found["tie"], found["overall"], found["num"]) == (1.0, 0.5, 0.875, 80)
    assert len(recorder.given) == 2
    for learned, captions, asked in recorder.given:
        assert len(learned) > 15 and len(asked) > 15 and not learned & asked
        assert {caption.split()[-1] for caption in captions} >= learned
        assert not {caption.split()[-1] for caption in captions} & asked
    assert recorder.given[0][2] | recorder.given[1][2] == {pair.uid for pair in pairs}


@pytest.mark.parametrize("name", list(JUDGES))
def test_neither_order_nor_repetition_of_pairs_matters(name: str) -> None:
    pairs = leaking(60)
    expected = blind_accuracy(pairs, JUDGES[name])
    assert blind_accuracy([*pairs[::-1], pairs[0]], JUDGES[name]) == expected


@pytest.mark.parametrize("judge", [*JUDGES.values(), GruJudge()])
def test_few_and_odd_pairs(judge: Judge) -> None:
    assert blind_accuracy([], judge) == {"num": 0}
    operations = {"x": {"accuracy": 0.5, "low": 0.0, "high": 1.0, "num": 1}}
    alone = {"x": 0.5, "overall": 0.5, "num": 1, "operations": operations}
    assert blind_accuracy([Pair(uid(0), "a", "b", "x")], judge) == alone
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
    assert set(found["words"]) == {"swap noun", *BLIND_TOTALS}
    large = PairSample()
    large.add(uid(0), ["a b"], records)
    alone = {"swap noun": 0.5, "overall": 0.5, "num": 16}
    assert {name: {**one, "operations": {}} for name, one in large.accuracy().items()} == {
        name: {**alone, "operations": {}} for name in ("words", "features", "letters")
    }
    assert PairSample().accuracy() == {name: {"num": 0} for name in ("words", "features", "letters")}


def test_pairs_of_one_image_count_as_one_in_an_interval() -> None:
    """Ten pairs of each of 40 images, all right or all wrong, tell as much as 40 pairs."""
    words = ("dog", "cat", "horse", "child", "woman", "man", "girl", "boy", "bird", "sheep")
    pairs = [
        Pair(uid(image), *(texts if image % 2 else texts[::-1]), f"{operation} noun")
        for operation, times in (("many", 10), ("one", 1))
        for image in range(40)
        for word in words[:times]
        for texts in [(f"a {word} {image} left {operation}", f"a {word} {image} right {operation}")]
    ]
    found = blind_accuracy(pairs, Odd())["operations"]
    assert found["many"]["accuracy"] == found["one"]["accuracy"] == 0.5
    assert found["many"]["high"] - found["many"]["low"] == pytest.approx(
        found["one"]["high"] - found["one"]["low"], abs=0.01
    )
    assert found["one"]["high"] - found["one"]["low"] == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, abs=0.01)
    rows = dict(
        blind_rows(
            {"odd": {"overall": 0.5, "num": 440, "operations": found}, "older": {"overall": 0.6, "many noun": 0.6}}
        )
    )
    assert rows["overall"] == ["50.0", "60.0"]
    assert rows["many, all 400"] == ["50.0 (34-66)", ""]
    assert rows["many noun"] == ["", "60.0"]


class Odd:
    """Prefers what is on the left."""

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:
        return np.array([1.0 if " left " in pair.caption else -1.0 for pair in test])


def test_the_judge_of_letters_sees_what_words_hide() -> None:
    """Endings that no two words share, so that each word is new to the judges of words."""
    draw = random.Random(0)
    stems = ["".join(draw.choices("bcdfghjklm", k=7)) for _ in range(300)]
    pairs = [Pair(uid(number), f"a {stem}oo", f"a {stem}ee", "x") for number, stem in enumerate(stems)]
    assert blind_accuracy(pairs, JUDGES["letters"])["overall"] == 1.0
    assert blind_accuracy(pairs, JUDGES["words"])["overall"] == 0.5


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
