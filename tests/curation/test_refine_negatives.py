"""Refined negatives: balanced for every scorer, unchanged but for their scores, and accounted for."""

from __future__ import annotations

import dataclasses
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
from scipy.sparse import csr_array

from curation.blind import mirror_odds
from curation.blind.judges import JUDGES, Pair, blind_accuracy
from curation.blind.mirror_odds import MirrorOdds
from curation.blind.pair_features import pair_features
from curation.blind.scores import FoldJudges
from curation.engine.fits import Evidence, Fit
from curation.engine.stage import Drop
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives import refine_negatives
from curation.stages.negatives.refine_negatives import RefineNegatives
from curation.stages.negatives.swap_words import SwapWords
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from data_manifests.seeds import draw_seed
from tests.curation.listed_columns import ListedColumns

THINGS = ("dog", "cat", "horse", "child", "woman", "man", "girl", "boy")
PLACES = ("grass", "street", "beach", "field", "snow", "bench")


@dataclass
class Columns:
    """Samples as columns, which tests change."""

    columns: dict[str, list[Any]]

    @property
    def uids(self) -> list[str]:
        return self.columns["uid"]

    def samples(self) -> list[Sample]:
        rows = [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]
        return [
            Sample(uid, uid, ImageRef(uid), tuple(captions)).adding(row)
            for row in rows
            for uid, captions in [(row.pop("uid"), row.pop("captions"))]
        ]


def refined(stage: RefineNegatives, corpus: Columns) -> list[Any]:
    """Return the results of a stage that is fitted to the samples that it is applied to."""
    samples = corpus.samples()
    return stage.apply(samples, stage.fit(ListedColumns(samples)))


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


def test_each_scorer_is_right_half_of_the_time() -> None:
    corpus = made(150)
    results = refined(RefineNegatives(num_rounds=1), corpus)
    gaps = gaps_of(results, "object")
    assert len(gaps) > 200
    assert gaps.shape[1] == 3
    assert np.abs(np.sign(gaps).mean(axis=0)).max() < 0.1
    assert (gaps > 0).any(axis=0)[[0, 2]].all()  # words and what was learned do differ between the texts
    assert len(gaps_of(results, "order")) == 0  # "a grass on the dog" is told by its words
    reasons = Counter(one["reason"] for result in results for one in result["refine_rejected"])
    assert reasons["given_away"] == 300


def test_records_are_passed_on_whole_and_every_one_is_accounted_for() -> None:
    corpus = made(80)
    corpus.columns["swap_negatives"][0][0]["scores"] = '{"graph":2}'
    corpus.columns["swap_negatives"][0][1]["source"] = "order_words"
    before = orjson.dumps(corpus.columns)
    stage = RefineNegatives()
    results = refined(stage, corpus)
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
            assert sorted(one) == ["caption", "detail", "reason", "rule", "source", "text"]
            assert one["reason"] in ("unbalanced", "given_away")
            assert one["rule"] == of_text[one["caption"], one["text"]].get("rule", "")
        usage.update(result["refine_usage"])
    kept = Counter(one["span_class"] for result in results for one in result["refined_negatives"])
    assert usage["given replace object"] == usage["given replace order"] == 160
    assert usage["kept replace object"] == kept["object"] > 50


def test_a_kind_that_wording_gives_away_is_dropped_whole_and_by_name() -> None:
    corpus = made(200)
    results = refined(RefineNegatives(), corpus)
    assert len(gaps_of(results, "order")) == 0
    reasons = Counter((one["rule"] == "", one["reason"]) for result in results for one in result["refine_rejected"])
    assert reasons[True, "given_away"] == 400  # those of the class "order" have no rule
    assert reasons[False, "given_away"] == reasons[True, "unbalanced"] == 0


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
        results = refined(RefineNegatives(num_rounds=1), corpus)
        kept.append(sum(len(result["refined_negatives"]) for result in results))
        assert all(("against" in one) is named for result in results for one in result["refined_negatives"])
    assert kept[0] < 15
    assert kept[1] > 100


def test_the_same_twice_and_another_with_another_seed() -> None:
    corpus, stage = made(60), RefineNegatives()
    first = refined(stage, corpus)
    assert refined(pickle.loads(pickle.dumps(stage)), corpus) == first
    assert refined(RefineNegatives(seed=1), corpus) != first
    doubled = Columns({**corpus.columns, "more_negatives": [[] for _ in corpus.uids]})
    assert refined(RefineNegatives(fields=("swap_negatives", "more_negatives")), doubled) == first


def test_an_image_never_scores_its_own_negatives() -> None:
    """A word that one image alone uses is unknown to those who score it, however often it says it."""
    corpus = made(60)
    other = made(60)
    corpus.columns["captions"][7] = ["a zyx on the zyx"] * 2
    other.columns["captions"][7] = ["a zyx on the zyx"] * 2
    other.columns["captions"][7].append("a qqq on the zyx qqq")
    for columns in (corpus.columns, other.columns):
        columns["swap_negatives"][7] = [record("a zyx on the qqq")]
    first, second = (refined(RefineNegatives(), one)[7] for one in (corpus, other))

    def words(result: Any) -> float:
        one: dict[str, Any] = (result["refined_negatives"] + result["refine_rejected"])[0]
        text = one["scores"] if "scores" in one else one["detail"][one["detail"].index("{") :]
        return float(orjson.loads(text)["blind_words"])

    assert words(first) == words(second) == 0.0


def test_what_is_learned_of_chance_alone_is_worth_nothing_elsewhere() -> None:
    draw = np.random.default_rng(0)
    features, folds = pair_features([], draw.normal(size=(300, 200))), np.arange(300) % 5
    gaps = FoldJudges.learn(features, folds, 5, 100).gaps(features, folds)
    assert 0.4 < (gaps > 0).mean() < 0.6  # a judge that had met the pairs would be right of nearly all


def test_later_rounds_look_longer_and_over_other_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the folds that it was balanced over, what is left looks smaller than it is."""
    rounds: list[tuple[list[int], int]] = []
    learn = FoldJudges.learn

    def recorded(features: Any, folds: Any, num_folds: int, num_steps: int) -> FoldJudges:
        rounds.append((folds.tolist(), num_steps))
        return learn(features, folds, num_folds, num_steps)

    monkeypatch.setattr(FoldJudges, "learn", recorded)
    corpus = made(120)
    stage = RefineNegatives(num_rounds=3)
    stage.fit(ListedColumns(corpus.samples()))
    (first, steps), (second, more), (third, as_many) = rounds
    assert len(first) > len(second) >= len(third)
    assert steps < more == as_many
    folds = [refine_folds(stage, uid) for uid in corpus.uids]
    assert sorted(first) == sorted(fold for fold, _, _ in folds for _ in range(4))
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert 0.1 < np.mean([row[one] == row[other] for row in folds]) < 0.35  # five folds drawn anew


def refine_folds(stage: RefineNegatives, uid: str) -> list[int]:
    """Return an image's fold in each round; the format of the seed is part of what a fit means."""
    return [draw_seed(stage.seed, "refine_negatives", uid, "fold", number) % stage.num_folds for number in range(3)]


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_images(num: int) -> None:
    corpus = made(num) if num else Columns({"uid": [], "captions": [], "parses": [], "swap_negatives": []})
    results = refined(RefineNegatives(), corpus)
    assert len(results) == num
    assert all(len(one["refined_negatives"]) + len(one["refine_rejected"]) == 4 for one in results)


def test_images_without_negatives() -> None:
    corpus = made(3)
    corpus.columns["swap_negatives"] = [[], [], []]
    nothing: dict[str, Any] = {
        "refined_negatives": [], "refine_rejected": [], "refine_usage": {}, "refine_evidence": {},
    }  # fmt: skip
    assert refined(RefineNegatives(), corpus) == [nothing] * 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fields": ()}, "refine_negatives: fields"),
        ({"fields": ("a", "a")}, "each once"),
        ({"least_share": -0.1}, "least_share="),
        ({"least_share": 2}, "a share from 0 to 1"),
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
        refined(RefineNegatives(), corpus)


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


def test_an_external_model_is_balanced_too() -> None:
    stage = RefineNegatives(num_rounds=1, model=Longer())
    assert stage.fingerprint() != RefineNegatives(num_rounds=1).fingerprint()
    assert "model" not in stage.config()
    gaps = gaps_of(refined(stage, made(150)), "object")
    assert gaps.shape[1] == 4
    assert np.abs(np.sign(gaps).mean(axis=0)).max() < 0.1
    assert (gaps[:, 1] != 0).sum() > 20  # alphabetical order: learned, model, tags, words


GAPS = st.lists(st.tuples(*[st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])] * 2), min_size=1, max_size=60)


def no_words(num: int) -> Any:
    return csr_array((num, 9))


def learned_odds(gaps: Any, groups: Any, draws: Any, least_share: float = 0.0, share: float = 1.0) -> MirrorOdds:
    return MirrorOdds.learn(gaps, groups, draws, gaps[:, :1], no_words(len(gaps)), groups * 0, least_share, share)


def kept_by(odds: MirrorOdds, gaps: Any, groups: Any, draws: Any) -> Any:
    return odds.keeps(gaps, groups, draws, no_words(len(gaps)))


@settings(max_examples=100, deadline=None)
@given(GAPS, st.randoms(use_true_random=False))
def test_a_pair_or_its_mirror_is_kept_whatever_its_draw_and_its_company(
    rows: list[tuple[float, float]], draw: random.Random
) -> None:
    gaps = np.array(rows)
    num, groups = len(rows), np.arange(len(rows)) % 2
    draws = np.array([draw.getrandbits(64) for _ in rows], np.uint64)
    odds = learned_odds(gaps, groups, draws)
    odds.given_up[:] = False
    kept, mirrored = kept_by(odds, gaps, groups, draws), kept_by(odds, -gaps, groups, draws)
    assert (kept | mirrored).all()
    order = np.array(draw.sample(range(num), num))[: 1 + num // 2]
    assert kept_by(odds, gaps[order], groups[order], draws[order]).tolist() == kept[order].tolist()
    assert not kept_by(odds, gaps, groups * 0 - 1, draws).any()  # a group that nothing was learned of
    assert not kept_by(odds, gaps, groups + 2, draws).any()


def drawn_pairs(num: int, mean: float, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return gaps of two scorers that are alike, one group, and draws."""
    draw = np.random.default_rng(seed)
    gaps = np.round(draw.normal(mean, 1.0, size=(num, 1)) + draw.normal(0, 0.3, size=(num, 2)), 4)
    return gaps, np.zeros(num, np.int64), draw.integers(2**63, size=num, dtype=np.uint64)


@pytest.mark.parametrize("num", [20, 100, 400, 3000])
def test_what_tells_nothing_is_left_whole_and_what_tells_is_balanced_at_any_size(num: int) -> None:
    pairs = drawn_pairs(num, 0.0)
    assert kept_by(learned_odds(*pairs), *pairs).mean() > 0.9 - 2 / num
    pairs = drawn_pairs(num, 0.8)  # captions are preferred by 78 %
    kept = kept_by(learned_odds(*pairs), *pairs)
    told = (pairs[0] > 0).mean()
    assert kept.mean() > 0.85 * 2 * (1 - told)  # no balance keeps more than twice the mirrors
    assert (pairs[0][kept] > 0).mean(axis=0).max() < 0.52 + 0.6 / num**0.5
    assert kept.mean() < 2 * (1 - told) * (1.25 + 2 / num**0.5)


def test_of_pairs_learned_from_a_part_fewer_stay_since_the_rest_comes_out_worse() -> None:
    pairs = drawn_pairs(4000, 0.8)
    whole, half, tenth = (kept_by(learned_odds(*pairs, share=share), *pairs).mean() for share in (1.0, 0.5, 0.1))
    assert whole > half == tenth > 0.9 * whole


def test_new_pairs_stay_with_the_shares_of_those_learned_from() -> None:
    learned, new = drawn_pairs(4000, 0.8), drawn_pairs(4000, 0.8, seed=1)
    odds = learned_odds(*learned)
    shares = [kept_by(odds, *pairs) for pairs in (learned, new)]
    assert abs(shares[0].mean() - shares[1].mean()) < 0.03
    assert (learned[0][shares[0]] > 0).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.03)
    assert (new[0][shares[1]] > 0).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.05)


def test_what_one_scorer_errs_in_another_must_not_tell() -> None:
    """The few that a scorer finds better than their captions by error alone are no mirrors: another scorer tells them."""
    draw = np.random.default_rng(0)
    truth = draw.normal(2.0, 0.5, size=600)
    gaps, others = (np.round(truth + draw.normal(0, 1.3, 600), 4)[:, None] for _ in range(2))
    groups, draws = np.zeros(600, np.int64), draw.integers(2**63, size=600, dtype=np.uint64)
    seen, checked = (
        MirrorOdds.learn(gaps, groups, draws, one, no_words(600), groups, 0.0, 1.0) for one in (gaps, others)
    )
    assert not seen.given_up.any()
    assert (others[kept_by(seen, gaps, groups, draws)] > 0).mean() > 0.65
    assert checked.given_up.all()
    assert not kept_by(checked, gaps, groups, draws).any()


def test_kinds_of_which_little_would_stay_are_given_up() -> None:
    pairs, many = drawn_pairs(300, 1.7), drawn_pairs(3000, 1.7)  # captions are preferred by 95 %
    few, all_of_it = (learned_odds(*pairs, share) for share in (0.3, 0.0))
    assert few.given_up.tolist() == [True]
    assert not kept_by(few, *pairs).any()
    assert 0.05 < kept_by(all_of_it, *pairs).mean() < 0.2
    assert learned_odds(*many, 0.3).given_up.tolist() == [False]  # what is left of them is no accident


@pytest.mark.parametrize("times", [30, 300])
def test_exchanges_are_mirrored_although_every_scorer_is_at_one_half(times: int) -> None:
    """ "two" becomes "three" five times as often as "three" becomes "two", and context alone tells the scorers nothing."""
    num, direction = 6 * times, np.repeat([1.0, -1.0], [5 * times, times])
    words, draw = csr_array(np.column_stack([direction, -direction])), np.random.default_rng(0)
    gaps, groups = np.round(draw.normal(size=(num, 2)), 4), np.zeros(num, np.int64)
    draws = draw.integers(2**63, size=num, dtype=np.uint64)
    odds = MirrorOdds.learn(gaps, groups, draws, gaps[:, :1], words, np.arange(num) % 2, 0.0, 1.0)
    kept = odds.keeps(gaps, groups, draws, words)
    assert abs((direction[kept] > 0).mean() - 0.5) < 0.03 + 1.5 / num**0.5
    assert kept.sum() > 1.5 * times  # no mirror keeps more than twice the rarer direction
    assert (kept | odds.keeps(-gaps, groups, draws, -words)).all()
    assert odds.keeps(gaps[-1:], groups[-1:], draws[-1:], words[[num - 1]]).tolist() == kept[-1:].tolist()
    assert kept_by(odds, gaps, groups, draws).mean() > 0.85  # other words of the kind stay as they are


def test_a_sample_alone_in_a_batch_or_elsewhere_has_the_same_result() -> None:
    corpus, new = made(90), made(30, seed=9)
    new.columns["uid"] = [image_uid(uid.encode()) for uid in new.uids]
    stage = RefineNegatives()
    samples = [*corpus.samples(), *new.samples()]
    fit = stage.fit(ListedColumns(corpus.samples()))
    expected = {one.uid: result for one, result in zip(samples, stage.apply(samples, fit), strict=True)}
    assert sum(len(result["refined_negatives"]) for result in expected.values() if isinstance(result, dict)) > 80
    random.Random(1).shuffle(samples)
    for size in (1, 7):
        for start in range(0, len(samples), size):
            batch = samples[start : start + size]
            assert stage.apply(batch, fit) == [expected[one.uid] for one in batch]
    edited = dataclasses.replace(samples[0], captions=("a cow on the moon", *samples[0].captions[1:]))
    changed = stage.apply([edited, *samples[1:]], fit)
    assert changed[1:] == [expected[one.uid] for one in samples[1:]]
    assert changed[0] != expected[edited.uid]


def test_a_fit_is_the_same_twice_from_its_file_and_in_any_batches(tmp_path: Path) -> None:
    samples, stage = made(70).samples(), RefineNegatives()
    fit = stage.fit(ListedColumns(samples))
    data = fit.to_bytes()
    assert stage.fit(ListedColumns(samples[::-1], batch=70)).to_bytes() == data
    assert not any(thing.encode() in data for thing in (*THINGS, *PLACES) if len(thing) > 3)  # words are hashed
    (tmp_path / "fit").write_bytes(data)
    assert stage.apply(samples, Fit.load(tmp_path / "fit")) == stage.apply(samples, fit)


def test_what_is_learned_from_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images with larger hashes are left out: what they say changes nothing in the fit."""
    monkeypatch.setattr(refine_negatives, "_MAX_PAIRS", 200)
    samples, stage = made(90).samples(), RefineNegatives()
    fit = stage.fit(ListedColumns(samples))
    unread = sorted(samples, key=lambda one: draw_seed("refine_negatives", one.uid))[50:]
    broken = {one.uid: dataclasses.replace(one, captions=("other words",) * 2) for one in unread}
    assert stage.fit(ListedColumns([broken.get(one.uid, one) for one in samples])).to_bytes() == fit.to_bytes()
    others = [dataclasses.replace(one, captions=("other words",) * 2) for one in samples]
    assert stage.fit(ListedColumns(others)).to_bytes() != fit.to_bytes()
    results: list[Any] = stage.apply(samples, fit)
    assert sum(len(result["refined_negatives"]) for result in results) > 80  # the rest has results too


def test_of_an_image_with_many_pairs_those_with_the_smallest_draws_of_each_kind_are_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror_odds, "_NEAREST", mirror_odds._NEAR)  # the share learned from plays no part here
    corpus, stage = made(60), RefineNegatives()
    fewer = made(60)
    for uid, captions, records in zip(
        corpus.uids, corpus.columns["captions"], fewer.columns["swap_negatives"], strict=True
    ):
        of_kind: dict[str, list[int]] = {}
        for one in records:
            draw = draw_seed(0, stage.name, uid, captions[one["caption"]], one["text"])
            of_kind.setdefault(one["span_class"], []).append(draw)
        last = max((sorted(draws).index(draw), draw) for draws in of_kind.values() for draw in draws)
        records[:] = [
            one for one in records if draw_seed(0, stage.name, uid, captions[one["caption"]], one["text"]) != last[1]
        ]
    assert sum(map(len, fewer.columns["swap_negatives"])) == 3 * 60
    expected = stage.fit(ListedColumns(fewer.samples())).to_bytes()
    assert stage.fit(ListedColumns(corpus.samples())).to_bytes() != expected
    monkeypatch.setattr(refine_negatives, "_MAX_PAIRS_OF_IMAGE", 3)
    assert stage.fit(ListedColumns(corpus.samples())).to_bytes() == expected


def test_kinds_that_nothing_was_learned_of_are_rejected_by_name() -> None:
    corpus = made(60)
    samples, stage = corpus.samples(), RefineNegatives()
    fit = stage.fit(ListedColumns(samples))
    odd = [{**record("a cow on the moon"), "operation": operation} for operation in ("number", "bind")]
    result: Any = stage.apply(
        [dataclasses.replace(samples[0], fields={**samples[0].fields, "swap_negatives": odd})], fit
    )[0]
    assert [one["reason"] for one in result["refine_rejected"]] == ["unknown_kind"] * 2
    assert result["refined_negatives"] == []
    assert result["refine_evidence"] == {"given": 2.0, "unknown": 2.0}
    failed = [one.measure for one in stage.check(fit, Evidence(1, 0, result["refine_evidence"])) if not one.holds]
    assert failed == ["share of negatives of operations that it has not learned from"]
    empty = stage.fit(ListedColumns([]))
    results: list[Any] = stage.apply(samples, empty)
    assert {one["reason"] for result in results for one in result["refine_rejected"]} == {"unknown_kind"}


def test_words_that_no_caption_has_are_dropped_by_name_where_captions_are_many() -> None:
    """An exchange of them never goes the other way; a new caption may bring words of its own."""
    samples, stage = made(150).samples(), RefineNegatives()
    fields = samples[0].fields
    thing, place = samples[0].captions[0].split()[1], samples[0].captions[0].split()[-1]
    other = next(one for one in THINGS if one != thing)
    texts = (f"a hedge on the {place}", f"a {other} on the {place}")
    odd = dataclasses.replace(samples[0], fields={**fields, "swap_negatives": [record(text) for text in texts]})
    new = dataclasses.replace(
        odd,
        captions=("a hedge on the snow",),
        fields={**odd.fields, "swap_negatives": [record("a hedge on the grass")]},
    )

    def foreign(one: Sample, known: Sequence[Sample]) -> list[str]:
        (result,) = stage.apply([one], stage.fit(ListedColumns(known)))
        assert not isinstance(result, Drop)
        return [one["text"] for one in result["refine_rejected"] if one["reason"] == "foreign_word"]

    assert foreign(odd, samples) == [texts[0]]
    assert foreign(new, samples) == []
    assert foreign(odd, samples[:149]) == []  # 298 captions
    assert stage.fit(ListedColumns([odd, *samples[1:]])).to_bytes() != stage.fit(ListedColumns(samples)).to_bytes()
    without = dataclasses.replace(odd, fields={**fields, "swap_negatives": odd["swap_negatives"][1:]})
    assert (
        stage.fit(ListedColumns([odd, *samples[1:]])).to_bytes()
        == stage.fit(ListedColumns([without, *samples[1:]])).to_bytes()
    )


def test_a_fit_holds_until_judges_tell_the_kept_negatives() -> None:
    samples, stage = made(150).samples(), RefineNegatives()
    fit = stage.fit(ListedColumns(samples))
    sums: Counter[str] = Counter()
    for result in stage.apply(samples, fit):
        assert isinstance(result, dict)
        sums.update(result["refine_evidence"])
    checks = stage.check(fit, Evidence(150, 0, sums))
    assert [check.figure for check in checks] == pytest.approx([0, 0, 0, 0], abs=0.05)
    assert all(check.holds for check in checks)
    assert checks[0].bound == pytest.approx(0.05 + sums["kept"] ** -0.5, abs=1e-4)
    told = {**sums, "blind_words": 0.5 * sums["kept"] + (checks[0].bound + 0.01) * sums["kept"]}
    assert [check.holds for check in stage.check(fit, Evidence(150, 0, told))] == [True, False, True, True]
    assert stage.check(fit, Evidence(150, 0, {})) == []


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
    results = refined(RefineNegatives(), Columns({name: [sample[name] for sample in samples] for name in names}))
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
