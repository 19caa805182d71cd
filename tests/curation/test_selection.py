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

from curation.engine.stage import Drop
from curation.selection.scores import (
    clip_loss_batch,
    highest,
    norm_sim_2,
    norm_sim_d,
    norm_sim_inf,
    s_clip_loss,
    second_moment,
    unit_rows,
    variance_alignment,
)
from curation.selection.target_images import TargetImages
from curation.stages.selection.keep_top import KeepTop
from curation.stages.selection.score_alignment import ScoreAlignment
from curation.stages.selection.score_target import ScoreTarget
from data_manifests.errors import InputError
from tests.curation.few_samples import FewSamples, directions, uids_of

Array = np.ndarray[Any, Any]
SHAPES = {"seed": st.integers(0, 2**32), "size": st.integers(1, 40), "width": st.integers(1, 24)}


def literal_clip_loss(images: Array, texts: Array, tau: float) -> list[float]:
    """R_i = (tau/2) [log sum_j exp(s_ij/tau) + log sum_j exp(s_ji/tau)]; the score is s_ii - R_i."""
    unit_f = [f / math.sqrt(sum(x * x for x in f)) for f in images.astype(np.float64)]
    unit_g = [g / math.sqrt(sum(x * x for x in g)) for g in texts.astype(np.float64)]
    s = [[float(sum(f * g)) for g in unit_g] for f in unit_f]
    scores = []
    for i in range(len(s)):
        row = math.fsum(math.exp(s[i][j] / tau) for j in range(len(s)))
        column = math.fsum(math.exp(s[j][i] / tau) for j in range(len(s)))
        scores.append(s[i][i] - tau / 2 * (math.log(row) + math.log(column)))
    return scores


@given(**SHAPES, tau=st.sampled_from([0.01, 0.03, 0.07, 1.0]))
@settings(max_examples=40, deadline=None)
def test_s_clip_loss_is_the_equation(seed: int, size: int, width: int, tau: float) -> None:
    draws = np.random.default_rng(seed)
    images, texts = directions(draws, size, width), directions(draws, size, width)
    got = clip_loss_batch(unit_rows(images), unit_rows(texts), tau)
    np.testing.assert_allclose(got, literal_clip_loss(images, texts, tau), atol=2e-6)


def test_blocks_and_one_batch_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(3)
    images, texts = (unit_rows(directions(draws, 50, 8)) for _ in range(2))
    whole = clip_loss_batch(images, texts, 0.01)
    monkeypatch.setattr("curation.selection.scores._BLOCK_FLOATS", 7 * 50)
    np.testing.assert_allclose(clip_loss_batch(images, texts, 0.01), whole, atol=1e-6)
    np.testing.assert_allclose(norm_sim_inf(images, texts), np.abs(images @ texts.T).max(axis=1), atol=1e-6)


def test_dissimilar_rivals_do_not_underflow() -> None:
    images, texts = np.eye(3, 8), -np.eye(3, 8)
    got = clip_loss_batch(unit_rows(images), unit_rows(texts), 0.001)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, -1 - 0.001 * math.log(2), atol=1e-6)  # log(2 exp(0) + exp(-1000)), twice


def test_shuffles_are_averaged_over_equal_batches() -> None:
    draws = np.random.default_rng(5)
    images, texts = (unit_rows(directions(draws, 30, 6)) for _ in range(2))
    got = s_clip_loss(images, texts, np.random.default_rng(9), 0.05, batch_size=10, num_shuffles=4)
    again, wanted = np.random.default_rng(9), np.zeros(30)
    for _ in range(4):
        order = again.permutation(30)
        for batch in (order[:10], order[10:20], order[20:]):
            wanted[batch] += np.array(literal_clip_loss(images[batch], texts[batch], 0.05)) / 4
    np.testing.assert_allclose(got, wanted, atol=2e-6)


@given(**SHAPES, targets=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_norm_sim_is_the_norm_of_the_similarities(seed: int, size: int, width: int, targets: int) -> None:
    draws = np.random.default_rng(seed)
    images, target = (unit_rows(directions(draws, number, width)) for number in (size, targets))
    for place, f in enumerate(images.astype(np.float64)):
        dots = [math.fsum(f * t) for t in target.astype(np.float64)]
        assert norm_sim_2(images, target)[place] == pytest.approx(math.sqrt(math.fsum(d * d for d in dots)), abs=1e-6)
        assert norm_sim_inf(images, target)[place] == pytest.approx(max(abs(d) for d in dots), abs=1e-6)
        vas = variance_alignment(images, second_moment(target))[place]
        assert vas == pytest.approx(math.fsum(d * d for d in dots) / targets, abs=1e-6)


def literal_norm_sim_d(images: Array, start: list[int], keep: int, rounds: int) -> list[int]:
    """Return who is left: drop the lowest f^T Sigma f of the current set, equal portions a round."""
    left, sizes = start, np.round(np.linspace(len(start), keep, rounds + 1)).astype(int)[1:]
    for size in sizes.tolist():
        f = images[left].astype(np.float64)
        sigma = sum(np.outer(row, row) for row in f) / len(left)
        scores = [round(float(row @ sigma @ row), 5) for row in f]
        left = sorted(sorted(left, key=lambda one: (-scores[left.index(one)], one))[:size])
    return left


@given(**SHAPES, rounds=st.integers(1, 12), part=st.floats(0.3, 1))
@settings(max_examples=30, deadline=None)
def test_norm_sim_d_keeps_what_the_rounds_keep(seed: int, size: int, width: int, rounds: int, part: float) -> None:
    draws = np.random.default_rng(seed)
    images = unit_rows(directions(draws, size, width))
    start = np.sort(draws.permutation(size)[: max(1, int(part * size))])
    keep = max(1, len(start) // 2)
    survival = norm_sim_d(images, start, keep, rounds, 5)
    kept = np.flatnonzero(highest(survival, np.ones(size, np.bool_), keep)).tolist()
    assert kept == literal_norm_sim_d(images, start.tolist(), keep, rounds)
    assert (survival > 0).sum() == len(start)


def scored(size: int = 40, seed: int = 0) -> FewSamples:
    draws = np.random.default_rng(seed)
    texts = [directions(draws, draws.integers(1, 4), 8) for _ in range(size)]
    return FewSamples(uids_of(size), {"image_embedding": directions(draws, size, 8), "text_embeddings": texts})


def test_captions_are_scored_one_by_one_and_averaged_or_the_best_taken() -> None:
    corpus = scored()
    images, texts = corpus.array("image_embedding"), corpus.column("text_embeddings")
    by_round = [
        literal_clip_loss(images, np.stack([own[place % len(own)] for own in texts]), 0.01)
        for place in range(max(map(len, texts)))
    ]
    own = [[by_round[place][who] for place in range(len(texts[who]))] for who in range(len(texts))]
    for captions, over in (("mean", np.mean), ("best", np.max)):
        found = ScoreAlignment(captions=captions).fit(corpus)
        got = [one["s_clip_loss"] for one in found if isinstance(one, dict)]
        np.testing.assert_allclose(got, [over(numbers) for numbers in own], atol=1.1e-5)


def test_a_caption_that_fits_everything_is_taken_down() -> None:
    """The reason for s-CLIPLoss: of two captions equally near their images, the generic one scores lower."""
    images, texts = np.eye(6, 7), np.eye(6, 7)
    texts[0] = [*[math.sqrt(1 / 6)] * 6, 0]
    texts[1] = [0, math.sqrt(1 / 6), 0, 0, 0, 0, math.sqrt(5 / 6)]
    columns = {"image_embedding": list(images), "text_embeddings": [row[None] for row in texts]}
    corpus = FewSamples(uids_of(6), columns)
    generic, exact, *_ = [one for one in ScoreAlignment(temperature=0.1).fit(corpus) if isinstance(one, dict)]
    assert generic["clip_score"] == pytest.approx(exact["clip_score"], abs=1e-5)
    assert generic["s_clip_loss"] < exact["s_clip_loss"] - 0.01


@pytest.mark.parametrize("bad", [{"captions": "all"}, {"temperature": 0.0}, {"batch_size": 1}, {"num_shuffles": 0}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="allowed:"):
        ScoreAlignment(**bad)


def test_an_embedding_without_direction_is_told_by_its_uid() -> None:
    corpus = scored(4)
    corpus.columns["image_embedding"][2][:] = 0
    for stage in (ScoreAlignment(), ScoreTarget()):
        with pytest.raises(InputError, match=corpus.uids[2]):
            stage.fit(corpus)


def test_targets_are_known_by_content_and_not_by_place(tmp_path: Path) -> None:
    rows = directions(np.random.default_rng(1), 9, 8)
    (tmp_path / "part").mkdir()
    for name in ("one.npy", "part/two.npy"):
        np.save(tmp_path / name, rows)
    one, two = (ScoreTarget(target=f"npy:{tmp_path / name}") for name in ("one.npy", "part"))  # type: ignore[arg-type]
    assert one.fingerprint() == two.fingerprint() == pickle.loads(pickle.dumps(one)).fingerprint()
    assert str(tmp_path) not in str(one.identity())
    assert one.fit(scored()) == two.fit(scored())
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
        ScoreTarget(target=TargetImages.parse(f"npy:{path}")).fit(scored())


def test_target_and_norm_must_go_together(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", directions(np.random.default_rng(1), 9, 8))
    target = TargetImages.parse(f"npy:{tmp_path / 't.npy'}")
    for stage in (ScoreTarget(norm="inf"), ScoreTarget(norm="d", target=target)):
        with pytest.raises(InputError, match="d without"):
            stage.fit(scored())
    for text in ("npz:x", "npy:", str(tmp_path), f"npy:{tmp_path / 'none.npy'}"):
        with pytest.raises(InputError, match="allowed:"):
            TargetImages.parse(text)


def kept(stage: KeepTop, **columns: list[float]) -> list[int]:
    size = len(next(iter(columns.values())))
    return [
        place for place, one in enumerate(stage.fit(FewSamples(uids_of(size), columns))) if not isinstance(one, Drop)
    ]


def test_shares_are_of_the_full_pool_and_ties_go_by_uid() -> None:
    first, second = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 2, 2, 5, 6, 7, 8, 9]
    stage = KeepTop(("a 50%", "b 20%"))
    assert kept(stage, a=first, b=second) == [2, 3]
    corpus = FewSamples(uids_of(10), {"a": first, "b": second})
    reasons = [one.reason for one in stage.fit(corpus) if isinstance(one, Drop)]
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
