"""Refined negatives: balanced for every scorer, unchanged but for their scores, and accounted for."""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.blind.adversarial_refinement import mirror_balance
from curation.blind.judges import JUDGES, Pair, blind_accuracy
from curation.blind.scores import BlindGaps, PairTexts
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.refine_negatives import RefineNegatives
from curation.stages.negatives.swap_words import SwapWords
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid

THINGS = ("dog", "cat", "horse", "child", "woman", "man", "girl", "boy")
PLACES = ("grass", "street", "beach", "field", "snow", "bench")


@dataclass
class Columns:
    """A corpus of columns."""

    columns: dict[str, list[Any]]

    @property
    def uids(self) -> list[str]:
        return self.columns["uid"]

    def column(self, name: str) -> list[Any]:
        return self.columns[name]


def record(text: str, caption: int = 0, span_class: str = "object", **more: Any) -> dict[str, Any]:
    return {"text": text, "caption": caption, "operation": "replace", "span_class": span_class, **more}


def made(num: int, seed: int = 0) -> Columns:
    """Return images with two captions; each caption has a fluent negative of one class and a clumsy one of another."""
    draw = random.Random(seed)
    rows = []
    for number in range(num):
        captions, parses, records = [], [], []
        for index in range(2):
            thing, place = draw.choice(THINGS), draw.choice(PLACES)
            words = ["a", thing, "on", "the", place]
            captions.append(" ".join(words))
            parses.append({"words": words, "tags": ["DT", "NN", "IN", "DT", "NN"]})
            other = draw.choice([one for one in THINGS if one != thing])
            records += [
                record(f"a {other} on the {place}", index, rule=f"{thing} -> {other}"),
                record(f"a {place} on the {thing}", index, "order"),
            ]
        rows.append((image_uid(str(number).encode()), captions, parses, records))
    names = ("uid", "captions", "parses", "swap_negatives")
    return Columns(dict(zip(names, map(list, zip(*sorted(rows, key=lambda row: row[0]), strict=True)), strict=True)))


def gaps_of(results: Sequence[Any], span_class: str) -> np.ndarray[Any, Any]:
    """Return the gaps of refined negatives of a class [negatives, scorers], scorers in alphabetical order."""
    records = [one for result in results for one in result["refined_negatives"] if one["span_class"] == span_class]
    rows = [[value for _, value in sorted(orjson.loads(one["scores"]).items())] for one in records]
    return np.array(rows)


def test_each_scorer_and_all_together_are_right_half_of_the_time() -> None:
    corpus = made(150)
    results = RefineNegatives(num_rounds=1).fit(corpus)
    gaps = gaps_of(results, "object")
    assert len(gaps) > 100
    assert gaps.shape[1] == 3
    assert np.sign(gaps).sum(axis=0).tolist() == [0, 0, 0]
    signs = Counter(map(tuple, np.sign(gaps).astype(int).tolist()))
    assert all(signs[pattern] == signs[tuple(-sign for sign in pattern)] for pattern in signs)
    assert (gaps > 0).any(axis=0)[[0, 2]].all()  # words and what was learned do differ between the texts
    assert len(gaps_of(results, "order")) < 15  # "a grass on the dog" has hardly a mirror


def test_records_are_passed_on_whole_and_every_one_is_accounted_for() -> None:
    corpus = made(80)
    corpus.columns["swap_negatives"][0][0]["scores"] = '{"graph":2}'
    corpus.columns["swap_negatives"][0][1]["source"] = "order_words"
    before = orjson.dumps(corpus.columns)
    stage = RefineNegatives()
    results: list[Any] = stage.fit(corpus)
    assert orjson.dumps(corpus.columns) == before  # nothing given was changed
    usage: Counter[str] = Counter()
    for had, result in zip(corpus.columns["swap_negatives"], results, strict=True):
        assert sorted(result) == sorted(field.name for field in stage.provides)
        of_text = {(one["caption"], one["text"]): one for one in had}
        for one in result["refined_negatives"]:
            original = of_text.pop((one["caption"], one["text"]))
            names = ["blind_learned", "blind_tags", "blind_words", *(["graph"] if "scores" in original else [])]
            assert list(orjson.loads(one["scores"])) == names
            assert {**one, "scores": ""} == {"source": "swap_words", **original, "scores": ""}
        assert [(one["caption"], one["text"]) for one in result["refine_rejected"]] == list(of_text)
        for one in result["refine_rejected"]:
            assert sorted(one) == ["caption", "detail", "reason", "rule", "text"]
            assert one["reason"] == "unbalanced"
            assert one["rule"] == of_text[one["caption"], one["text"]].get("rule", "")
        usage.update(result["refine_usage"])
    kept = Counter(one["span_class"] for result in results for one in result["refined_negatives"])
    assert usage["given replace object"] == usage["given replace order"] == 160
    assert usage["kept replace object"] == kept["object"] > 50


def test_spared_operations_stay_whole_and_the_others_as_they_would() -> None:
    corpus = made(80)
    for one in (one for records in corpus.columns["swap_negatives"] for one in records):
        one["operation"] = "swap" if one["span_class"] == "order" else "replace"
    plain: list[Any] = RefineNegatives().fit(corpus)
    spared: list[Any] = RefineNegatives(spared=("swap",)).fit(corpus)
    kept = Counter(one["operation"] for result in spared for one in result["refined_negatives"])
    assert kept["swap"] == 160
    assert len(gaps_of(plain, "order")) < 15
    assert gaps_of(spared, "object").tolist() == gaps_of(plain, "object").tolist()
    assert not [one for result in spared for one in result["refine_rejected"] if one["rule"] == ""]


def test_denials_stay_where_each_is_told_from_a_true_one() -> None:
    """Against captions that deny nothing every "no" is told; against a true denial of another thing none is."""
    kept = []
    for named in (False, True):
        corpus = made(150)
        for captions, records in zip(corpus.columns["captions"], corpus.columns["swap_negatives"], strict=True):
            records[:] = [one for one in records if one["span_class"] == "object"]
            for one in records:
                true = one["text"].replace("a ", "no ", 1)
                one["text"] = captions[one["caption"]].replace("a ", "no ", 1)
                one.update({"against": true} if named else {})
        results: list[Any] = RefineNegatives(num_rounds=1).fit(corpus)
        kept.append(sum(len(result["refined_negatives"]) for result in results))
        assert all(("against" in one) is named for result in results for one in result["refined_negatives"])
    assert kept[0] < 15
    assert kept[1] > 100


def test_the_same_twice_and_another_with_another_seed() -> None:
    corpus, stage = made(60), RefineNegatives()
    first = stage.fit(corpus)
    assert pickle.loads(pickle.dumps(stage)).fit(corpus) == first
    assert RefineNegatives(seed=1).fit(corpus) != first
    doubled = Columns({**corpus.columns, "more_negatives": [[] for _ in corpus.uids]})
    assert RefineNegatives(fields=("swap_negatives", "more_negatives")).fit(doubled) == first


def test_an_image_never_scores_its_own_negatives() -> None:
    """A word that one image alone uses is unknown to those who score it, however often it says it."""
    corpus = made(60)
    other = made(60)
    corpus.columns["captions"][7] = ["a zyx on the zyx"] * 2
    other.columns["captions"][7] = ["a zyx on the zyx"] * 2
    other.columns["captions"][7].append("a qqq on the zyx qqq")
    for columns in (corpus.columns, other.columns):
        columns["swap_negatives"][7] = [record("a zyx on the qqq")]
    first, second = (RefineNegatives().fit(one)[7] for one in (corpus, other))

    def words(result: Any) -> float:
        one: dict[str, Any] = (result["refined_negatives"] + result["refine_rejected"])[0]
        text = one["scores"] if "scores" in one else one["detail"][one["detail"].index("{") :]
        return float(orjson.loads(text)["blind_words"])

    assert words(first) == words(second) == 0.0


def test_what_is_learned_of_chance_alone_is_worth_nothing_elsewhere() -> None:
    draw = random.Random(0)
    drawn = [[f"{draw.choice(THINGS)} w{draw.randrange(400)} {draw.choice(PLACES)}" for _ in "ab"] for _ in range(300)]
    folds = np.arange(300) % 5
    rights, wrongs = [one for one, _ in drawn], [other for _, other in drawn]
    gaps = BlindGaps(PairTexts(rights, folds, rights, wrongs, folds, 5), []).learned_gaps(np.arange(300), folds, 100)
    assert 0.4 < (gaps > 0).mean() < 0.6  # a judge that had met the pairs would be right of nearly all


def test_later_rounds_look_longer_and_over_other_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the folds that it was balanced over, what is left looks smaller than it is."""
    rounds: list[dict[int, int]] = []
    steps: list[int] = []
    learned = BlindGaps.learned_gaps

    def recorded(self: BlindGaps, chosen: Any, folds: Any, num_steps: int) -> Any:
        rounds.append(dict(zip(chosen.tolist(), folds.tolist(), strict=True)))
        steps.append(num_steps)
        return learned(self, chosen, folds, num_steps)

    monkeypatch.setattr(BlindGaps, "learned_gaps", recorded)
    RefineNegatives(num_rounds=3).fit(made(120))
    first, second, third = rounds
    assert first.keys() > second.keys() >= third.keys()
    for one, other in ((first, second), (second, third), (first, third)):
        shared = [one[pair] == other[pair] for pair in other]
        assert 0.1 < np.mean(shared) < 0.35  # five folds drawn anew
    assert steps[0] < steps[1] == steps[2]


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_images(num: int) -> None:
    results: list[Any] = (
        RefineNegatives().fit(made(num))
        if num
        else RefineNegatives().fit(Columns({"uid": [], "captions": [], "parses": [], "swap_negatives": []}))
    )
    assert len(results) == num
    assert all(len(one["refined_negatives"]) + len(one["refine_rejected"]) == 4 for one in results)


def test_images_without_negatives() -> None:
    corpus = made(3)
    corpus.columns["swap_negatives"] = [[], [], []]
    nothing: dict[str, Any] = {"refined_negatives": [], "refine_rejected": [], "refine_usage": {}}
    assert RefineNegatives().fit(corpus) == [nothing] * 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fields": ()}, "refine_negatives: fields"),
        ({"fields": ("a", "a")}, "each once"),
        ({"bins": ()}, "bins="),
        ({"bins": (2, 4)}, "fine to coarse"),
        ({"bins": (0,)}, "bins="),
        ({"num_rounds": 0}, "num_rounds is 0"),
        ({"num_folds": 1}, "num_folds is 1"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        RefineNegatives(**changes)


@pytest.mark.parametrize("broken", [{"caption": 2}, {"caption": -1}, {"text": None}, {"operation": 3}])
def test_a_record_that_is_none_is_told_with_its_sample(broken: dict[str, Any]) -> None:
    corpus = made(5)
    corpus.columns["swap_negatives"][2][1].update(broken)
    with pytest.raises(InputError, match=f"sample {corpus.uids[2]}: a record of 'swap_negatives'"):
        RefineNegatives().fit(corpus)


def test_needs_and_consumes_the_fields_it_is_given() -> None:
    stage = RefineNegatives(fields=("replace_negatives", "bind_negatives"))
    assert stage.required_fields() == ("uid", "captions", "parses", "replace_negatives", "bind_negatives")
    assert stage.superseded_fields() == ("replace_negatives", "bind_negatives")


class Longer:
    """A scorer that likes long words."""

    def content_hash(self) -> str:
        return "longer"

    def describe(self) -> str:
        return "longer"

    def score(self, texts: Sequence[str]) -> list[float]:
        assert len(set(texts)) == len(texts)
        return [float(len(text)) for text in texts]


def test_a_model_from_outside_is_balanced_too() -> None:
    stage = RefineNegatives(num_rounds=1, model=Longer())
    assert stage.fingerprint() != RefineNegatives(num_rounds=1).fingerprint()
    assert "model" not in stage.config()
    gaps = gaps_of(stage.fit(made(150)), "object")
    assert gaps.shape[1] == 4
    assert np.sign(gaps).sum(axis=0).tolist() == [0, 0, 0, 0]
    assert (gaps[:, 1] != 0).sum() > 20  # alphabetical order: learned, model, tags, words


GAPS = st.lists(st.tuples(*[st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])] * 2), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(GAPS, st.sampled_from([(8, 4, 2), (1,), (3,)]), st.randoms(use_true_random=False))
def test_every_kept_pair_has_a_mirror(
    rows: list[tuple[float, float]], bins: tuple[int, ...], draw: random.Random
) -> None:
    gaps = np.array(rows)
    groups, draws = np.arange(len(rows)) % 2, np.arange(len(rows))
    kept = mirror_balance(gaps, groups, draws, bins)
    for group in (0, 1):
        signs = Counter(map(tuple, np.sign(gaps[kept & (groups == group)]).tolist()))
        assert all(signs[a, b] == signs[-a, -b] for a, b in signs)
        if bins[-1] == 1:  # the coarsest grid: as many as signs alone allow
            given = Counter(map(tuple, np.sign(gaps[groups == group]).tolist()))
            assert all(signs[a, b] == min(number, given[-a, -b]) for (a, b), number in given.items())
    order = np.array(draw.sample(range(len(rows)), len(rows)))
    assert mirror_balance(gaps[order], groups[order], draws[order], bins).tolist() == kept[order].tolist()


def test_partners_are_alike_in_size() -> None:
    gaps = np.array([[9.0], [8.0], [7.0], [1.0], [0.9], [-1.1], [-7.5]])
    kept = mirror_balance(gaps, np.zeros(7, np.int64), np.arange(7), (2,))
    assert kept.tolist() == [True, False, False, True, False, True, True]
    assert mirror_balance(gaps[:5], np.zeros(5, np.int64), np.arange(5), (2,)).tolist() == [False] * 5


@pytest.mark.slow
def test_blind_judges_are_near_chance_on_real_captions(real_data: Path) -> None:
    captions: dict[str, list[str]] = {}
    for line in (real_data / "flickr8k/Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition("\t")
        captions.setdefault(name.partition("#")[0], []).append(caption)
    first = itertools.islice(captions.items(), 1500)
    samples = [Sample(image_uid(name.encode()), name, ImageRef(name), tuple(texts)) for name, texts in first]
    samples.sort(key=lambda sample: sample.uid)
    for stage in (ParseCaptions(), SwapWords()):
        results = stage.process(samples)
        samples = [one.adding(result) for one, result in zip(samples, results, strict=True) if isinstance(result, dict)]
    names = ("uid", "captions", "parses", "swap_negatives")
    results = RefineNegatives().fit(Columns({name: [sample[name] for sample in samples] for name in names}))
    pairs = {"raw": [], "refined": []}  # type: dict[str, list[Pair]]
    for sample, result in zip(samples, results, strict=True):
        assert isinstance(result, dict)
        for kind, records in (("raw", sample["swap_negatives"]), ("refined", result["refined_negatives"])):
            pairs[kind] += [Pair(sample.uid, sample.captions[one["caption"]], one["text"], "swap") for one in records]
    every = [(sample.uid, caption) for sample in samples for caption in sample.captions]
    for judge, least in (("words", 0.88), ("features", 0.83)):
        assert blind_accuracy(pairs["raw"], JUDGES[judge], captions=every)["overall"] > least
        assert 0.42 < blind_accuracy(pairs["refined"], JUDGES[judge], captions=every)["overall"] < 0.57
    assert len(pairs["refined"]) > 0.1 * len(pairs["raw"])
