"""s-CLIPLoss, NormSim and keep_top against slow literal transcriptions, and what people get wrong about them."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.engine.fits import Evidence
from curation.engine.stage import Drop
from curation.selection.scores import (
    Cut,
    norm_sim_inf,
    pool_core,
    second_moment,
    unit_rows,
    variance_alignment,
)
from curation.selection.target_images import TargetImages
from curation.stages.selection.keep_top import KeepTop
from curation.stages.selection.score_alignment import ScoreAlignment
from curation.stages.selection.score_target import ScoreTarget
from curation.vectors.rows import on_grid
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from tests.curation.few_samples import directions, uids_of
from tests.curation.fitted_stages import (
    check_that_each_sample_is_by_itself,
    fit_and_apply,
    holds,
    kept_fields,
    samples_of,
)
from tests.curation.listed_columns import ListedColumns
from training.model.spec import ModelSpec

Array = np.ndarray[Any, Any]
SHAPES = {"seed": st.integers(0, 2**32), "size": st.integers(1, 40), "width": st.integers(1, 24)}


def literal_clip_loss(image: Array, text: Array, images: Array, texts: Array, tau: float, share: float = 1.0) -> float:
    """s - (tau/2) [log sum_j exp(s_ij/tau) + log sum_j exp(s_ji/tau)], j over the pair itself and the others."""
    f, g, *_ = unit = [v.astype(np.float64) / np.linalg.norm(v.astype(np.float64)) for v in (image, text)]
    others = [
        rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1)[:, None] for rows in (images, texts)
    ]
    own = float(f @ g)
    total = 0.0
    for vector, rows in zip(unit, others[::-1], strict=True):
        total += math.log(math.exp(own / tau) + share * math.fsum(math.exp(float(vector @ row) / tau) for row in rows))
    return own - tau / 2 * total


def scored(size: int = 40, seed: int = 0, most: int = 4, **fields: Any) -> list[Sample]:
    draws = np.random.default_rng(seed)
    texts = [directions(draws, draws.integers(1, most), 8) for _ in range(size)]
    return samples_of(uids_of(size), image_embedding=directions(draws, size, 8), text_embeddings=texts, **fields)


@given(seed=st.integers(0, 2**32), size=st.integers(1, 40), tau=st.sampled_from([0.01, 0.03, 0.07, 1.0]))
@settings(max_examples=30, deadline=None)
def test_s_clip_loss_is_the_equation(seed: int, size: int, tau: float) -> None:
    samples = scored(size, seed, most=2)
    images = np.stack([one["image_embedding"] for one in samples])
    texts = np.concatenate([one["text_embeddings"] for one in samples])
    got = [one["s_clip_loss"] for one in kept_fields(fit_and_apply(ScoreAlignment(temperature=tau), samples))]
    for place, score in enumerate(got):
        rest = np.arange(size) != place
        wanted = literal_clip_loss(images[place], texts[place], images[rest], texts[rest], tau)
        assert score == pytest.approx(wanted, abs=2e-6)


def test_captions_are_scored_one_by_one_and_averaged_or_the_best_taken() -> None:
    samples = scored(60)
    for captions, over in (("mean", np.mean), ("best", np.max)):
        stage = ScoreAlignment(temperature=0.05, captions=captions, num_references=20)
        fit = stage.fit(ListedColumns(samples))
        assert len(set(fit.values["uids"])) == 20
        for sample, result in zip(samples, kept_fields(stage.apply(samples, fit)), strict=True):
            rest = np.array([uid != sample.uid for uid in fit.values["uids"]])
            images, texts = fit.arrays["images"][rest], fit.arrays["texts"][rest]
            wanted = [
                literal_clip_loss(sample["image_embedding"], text, images, texts, 0.05, 59 / len(images))
                for text in sample["text_embeddings"]
            ]
            assert result["s_clip_loss"] == pytest.approx(over(wanted), abs=2e-6)
            plain = unit_rows(sample["text_embeddings"]) @ unit_rows(sample["image_embedding"][None])[0]
            assert result["clip_score"] == pytest.approx(float(over(plain)), abs=2e-6)


def test_references_are_pairs_and_few_of_them_rank_as_all_do() -> None:
    samples = scored(300)
    stage = ScoreAlignment(temperature=0.07, num_references=60)
    fit = stage.fit(ListedColumns(samples))
    by_uid = {one.uid: one for one in samples}
    for uid, image, text in zip(fit.values["uids"], fit.arrays["images"], fit.arrays["texts"], strict=True):
        assert np.array_equal(image, by_uid[uid]["image_embedding"])
        assert (text == by_uid[uid]["text_embeddings"]).all(axis=1).any()
    some, every = (
        [one["s_clip_loss"] for one in kept_fields(fit_and_apply(ScoreAlignment(0.07, num_references=number), samples))]
        for number in (60, 300)
    )
    assert np.corrcoef(some, every)[0, 1] > 0.98


def test_dissimilar_rivals_do_not_underflow() -> None:
    samples = samples_of(uids_of(3), image_embedding=np.eye(3, 8), text_embeddings=[-row[None] for row in np.eye(3, 8)])
    got = [one["s_clip_loss"] for one in kept_fields(fit_and_apply(ScoreAlignment(temperature=0.001), samples))]
    np.testing.assert_allclose(got, -1 - 0.001 * math.log(2), atol=1e-6)  # log(2 exp(0) + exp(-1000)), twice


def test_a_caption_that_fits_everything_is_taken_down() -> None:
    """The reason for s-CLIPLoss: of two captions equally near their images, the generic one scores lower."""
    images, texts = np.eye(6, 7), np.eye(6, 7)
    texts[0] = [*[math.sqrt(1 / 6)] * 6, 0]
    texts[1] = [0, math.sqrt(1 / 6), 0, 0, 0, 0, math.sqrt(5 / 6)]
    samples = samples_of(uids_of(6), image_embedding=images, text_embeddings=[row[None] for row in texts])
    generic, exact, *_ = kept_fields(fit_and_apply(ScoreAlignment(temperature=0.1), samples))
    assert generic["clip_score"] == pytest.approx(exact["clip_score"], abs=1e-5)
    assert generic["s_clip_loss"] < exact["s_clip_loss"] - 0.01


def test_a_fit_of_alignment_holds_for_its_kind_and_not_for_captions_of_others(tmp_path: Path) -> None:
    learned, more = scored(400), scored(404, seed=1)[400:]
    stage = ScoreAlignment(temperature=0.07, num_references=100)
    check_that_each_sample_is_by_itself(stage, learned, more, tmp_path)
    fit = stage.fit(ListedColumns(learned))
    assert holds(stage, fit, [*learned, *more])
    texts = [one["text_embeddings"] for one in learned]
    images = [one["image_embedding"] for one in learned]
    for place in range(120):
        texts[place] = -texts[place]
    assert not holds(stage, fit, samples_of(uids_of(400), image_embedding=images, text_embeddings=texts))


@given(**SHAPES, targets=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_norm_sim_is_the_norm_of_the_similarities(seed: int, size: int, width: int, targets: int) -> None:
    draws = np.random.default_rng(seed)
    images, target = (unit_rows(directions(draws, number, width)) for number in (size, targets))
    vas = variance_alignment(images, np.ones(size), second_moment(target, np.ones(targets)))
    largest = norm_sim_inf(images, on_grid(target))
    for place, f in enumerate(images.astype(np.float64)):
        dots = [math.fsum(f * t) for t in target.astype(np.float64)]
        assert largest[place] == pytest.approx(max(abs(d) for d in dots), abs=1e-6)
        assert vas[place] == pytest.approx(math.fsum(d * d for d in dots) / targets, abs=1e-6)


def test_each_norm_is_what_it_says(tmp_path: Path) -> None:
    rows, samples = directions(np.random.default_rng(1), 9, 8), scored()
    np.save(tmp_path / "t.npy", rows)
    target = TargetImages.parse(f"npy:{tmp_path / 't.npy'}")
    images = np.stack([one["image_embedding"] for one in samples])
    dots = unit_rows(images).astype(np.float64) @ unit_rows(rows).astype(np.float64).T
    wanted = {"2": np.sqrt((dots**2).sum(axis=1)), "vas": (dots**2).mean(axis=1), "inf": np.abs(dots).max(axis=1)}
    for norm, values in wanted.items():
        stage = ScoreTarget(norm=norm, target=target)
        got = [one["norm_sim"] for one in kept_fields(fit_and_apply(stage, samples))]
        np.testing.assert_allclose(got, values, atol={"2": 6e-5, "vas": 2e-6, "inf": 6e-6}[norm])
        check_that_each_sample_is_by_itself(stage, samples[:30], samples[30:], tmp_path)


def literal_core(images: Array, keep: int, rounds: int) -> list[int]:
    """Return who is left: drop the lowest f^T Sigma f of the current set, equal portions a round; then refine among all."""
    f = images.astype(np.float64)

    def best(among: list[int], moment_of: list[int], number: int) -> list[int]:
        def score(one: int) -> float:
            others = [other for other in moment_of if other != one]
            return round(sum(float(f[one] @ f[other]) ** 2 for other in others) / max(len(others), 1), 6)

        return sorted(sorted(among, key=lambda one: (-score(one), one))[:number])

    everyone = left = list(range(len(f)))
    for size in np.round(np.linspace(len(f), keep, rounds + 1)).astype(int)[1:].tolist():
        left = best(left, left, size)
    for _ in range(rounds):
        left = best(everyone, left, keep)
    return left


@given(**SHAPES, rounds=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_the_core_is_what_the_rounds_keep_until_it_stays(seed: int, size: int, width: int, rounds: int) -> None:
    images = unit_rows(directions(np.random.default_rng(seed), size, width)).astype(np.float64)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    keep = max(1, size // 2)
    assert pool_core(images, np.ones(size), keep, rounds, 6).tolist() == literal_core(images, keep, rounds)


def test_without_a_target_the_core_scores_highest_and_keep_top_keeps_it(tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).normal(size=300).tolist()
    samples = scored(300, s_clip_loss=numbers)
    stage = ScoreTarget(start_field="s_clip_loss", start_share=0.5, keep=0.2, num_rounds=10)
    fit = stage.fit(ListedColumns(samples[:280]))
    scores = [one["norm_sim"] for one in kept_fields(stage.apply(samples[:280], fit))]
    inside = sorted(range(280), key=lambda one: -numbers[one])[:140]
    assert sorted(inside) == [place for place, score in enumerate(scores) if score > 0]
    core = [place for place, score in enumerate(scores) if score >= sorted(scores)[-56]]
    assert len(core) == 56
    moment = second_moment(unit_rows(np.stack([samples[one]["image_embedding"] for one in core])), np.ones(56))
    np.testing.assert_allclose(fit.arrays["moment"], moment, atol=1e-6)
    check_that_each_sample_is_by_itself(stage, samples[:280], samples[280:], tmp_path)
    assert holds(stage, fit, samples)
    images = np.stack([one["image_embedding"] for one in samples])
    images[::3, ::2] *= -1
    assert not holds(stage, fit, samples_of(uids_of(300), image_embedding=images, s_clip_loss=numbers))


@pytest.mark.parametrize("bad", [{"captions": "all"}, {"temperature": 0.0}, {"num_pairs": 1}, {"num_references": 1}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="allowed:"):
        ScoreAlignment(**bad)


def test_an_embedding_without_direction_is_told_by_its_uid() -> None:
    samples = scored(4)
    samples[2]["image_embedding"][:] = 0
    for stage in (ScoreAlignment(0.01), ScoreTarget()):
        with pytest.raises(InputError, match=samples[2].uid):
            stage.fit(ListedColumns(samples))
        with pytest.raises(InputError, match=samples[2].uid):
            stage.apply(samples, stage.fit(ListedColumns(samples[:2])))


def test_targets_are_known_by_content_and_not_by_place(tmp_path: Path) -> None:
    rows = directions(np.random.default_rng(1), 9, 8)
    (tmp_path / "part").mkdir()
    for name in ("one.npy", "part/two.npy"):
        np.save(tmp_path / name, rows)
    one, two = (ScoreTarget(target=f"npy:{tmp_path / name}") for name in ("one.npy", "part"))  # type: ignore[arg-type]
    assert one.fingerprint() == two.fingerprint() == pickle.loads(pickle.dumps(one)).fingerprint()
    assert str(tmp_path) not in str(one.identity())
    assert fit_and_apply(one, scored()) == fit_and_apply(two, scored())
    np.save(tmp_path / "one.npy", rows[:8])
    assert one.fingerprint() != two.fingerprint()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.ones((3, 7), np.float32), "rows of 8 floats"),
        (np.ones(8, np.float32), "rows of 8 floats"),
        (np.ones((3, 8), np.int64), "rows of 8 floats"),
        (np.zeros((3, 8), np.float32), "row 0 has no direction"),
        (np.ones((0, 8), np.float32), "no rows"),
        (np.array([{"a": 1}], object), "cannot be read"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 8), }", "cannot be read"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(tmp_path: Path, rows: Any, told: str) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(rows) if isinstance(rows, bytes) else np.save(path, rows, allow_pickle=True)
    with pytest.raises(InputError, match=told):
        ScoreTarget(target=TargetImages.parse(f"npy:{path}")).fit(ListedColumns(scored()))


def test_target_and_norm_must_go_together(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", directions(np.random.default_rng(1), 9, 8))
    target = TargetImages.parse(f"npy:{tmp_path / 't.npy'}")
    for stage in (ScoreTarget(norm="inf"), ScoreTarget(norm="d", target=target)):
        with pytest.raises(InputError, match="d without"):
            stage.fit(ListedColumns(scored()))
    for text in ("npz:x", "npy:", str(tmp_path), f"npy:{tmp_path / 'none.npy'}"):
        with pytest.raises(InputError, match="allowed:"):
            TargetImages.parse(text)


def kept(stage: KeepTop, **columns: list[float]) -> list[int]:
    samples = samples_of(uids_of(len(next(iter(columns.values())))), **columns)
    return [place for place, one in enumerate(fit_and_apply(stage, samples)) if not isinstance(one, Drop)]


def test_shares_are_of_the_full_pool_and_ties_go_by_uid() -> None:
    first, second = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 2, 2, 5, 6, 7, 8, 9]
    stage = KeepTop(("a 50%", "b 20%"))
    assert kept(stage, a=first, b=second) == [2, 3]
    samples = samples_of(uids_of(10), a=first, b=second)
    reasons = [one.reason for one in fit_and_apply(stage, samples) if isinstance(one, Drop)]
    assert reasons == ["low_b"] * 3 + ["low_a"] * 5
    assert set(reasons) <= set(stage.drops)
    assert kept(KeepTop(("a >= 7",)), a=first) == [0, 1, 2]
    assert kept(KeepTop(("b 1",)), b=[1.0, 1.0, 1.0]) == [0]


def test_the_control_keeps_as_many_by_uid_alone() -> None:
    scores = np.random.default_rng(0).normal(size=200).tolist()
    control = KeepTop(("a 30%",), at_random=True)
    chosen = kept(control, a=scores)
    assert len(chosen) == 60
    assert kept(control, a=scores[::-1]) == chosen
    assert kept(KeepTop(("a 30%",), at_random=True, seed=1), a=scores) != chosen
    assert len(set(chosen) & set(kept(KeepTop(("a 30%",)), a=scores))) < 40


@pytest.mark.parametrize("rule", ["a", "a 0%", "a 130%", "a > 3", "A 3", "a -3", "a 3;b 4", ""])
def test_rules_that_cannot_be_read_are_refused(rule: str) -> None:
    with pytest.raises(InputError, match="allowed:"):
        KeepTop((rule,))


def test_a_sample_without_a_number_and_rules_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="a=None"):
        kept(KeepTop(("a 1",)), a=[1.0, None])  # type: ignore[list-item]
    with pytest.raises(InputError, match="keep none of 2"):
        kept(KeepTop(("a >= 5",)), a=[1.0, 2.0])


@given(seed=st.integers(0, 2**32), size=st.integers(1, 60), share=st.integers(1, 100), number=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_cuts_keep_what_the_rules_keep_of_all_samples(seed: int, size: int, share: int, number: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 9, (2, size)).astype(float)
    wanted = sorted(range(size), key=lambda one: (-a[one], one))[: max(1, int(share / 100 * size + 0.5))]
    wanted = sorted(sorted(wanted, key=lambda one: (-b[one], one))[:number])
    assert kept(KeepTop((f"a {share}%", f"b {number}")), a=a.tolist(), b=b.tolist()) == wanted


@pytest.mark.parametrize("at_random", [False, True])
def test_cuts_hold_for_samples_of_their_kind_and_not_for_better_ones(at_random: bool, tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=1010)
    stage = KeepTop(("a 50%", "b 30%"), at_random=at_random)
    samples = samples_of(uids_of(1010), a=scores.tolist(), b=scores[::-1].tolist())
    check_that_each_sample_is_by_itself(stage, samples[:1000], samples[1000:], tmp_path)
    fit = stage.fit(ListedColumns(samples[:1000]))
    assert holds(stage, fit, samples)
    assert stage.apply(samples[-1:], fit) == [{}] or isinstance(stage.apply(samples[-1:], fit)[0], Drop)
    better = scores + np.where(np.arange(1010) % 3 == 0, 3.0, 0.0)
    drifted = samples_of(uids_of(1010), a=better.tolist(), b=better.tolist())
    assert holds(stage, fit, drifted) == at_random


def test_a_rule_that_drops_none_and_a_minimum_have_no_cut() -> None:
    fit = KeepTop(("a 100%", "a >= 0")).fit(ListedColumns(samples_of(uids_of(3), a=[1.0, 2.0, 3.0])))
    assert fit.values["cuts"] == [[], []]
    assert KeepTop(("a >= 0",)).check(fit, Evidence(3)) == []
    everyone = np.ones(3, np.bool_)
    assert Cut.after(np.array([2.0, 1.0, 2.0]), "abc", everyone, np.array([True, False, True])) == Cut(2.0, "c")


@pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")
def test_the_temperature_is_the_models_unless_one_is_given() -> None:
    tiny, samples = ModelSpec.parse("tiny"), scored(30)
    logit_scale = float(tiny.load().logit_scale.detach())
    assert logit_scale == pytest.approx(1 / 0.07)
    own = kept_fields(fit_and_apply(ScoreAlignment(model=tiny), samples))
    assert own == kept_fields(fit_and_apply(ScoreAlignment(0.07), samples))
    other = kept_fields(fit_and_apply(ScoreAlignment(0.2, model=tiny), samples))
    assert other == kept_fields(fit_and_apply(ScoreAlignment(0.2), samples)) and other != own
    with pytest.raises(InputError, match="the model to take it from"):
        ScoreAlignment()
