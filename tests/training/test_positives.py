"""The label matrix of FFF's gate against a literal transcription."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.errors import InputError
from training.false_negative_gate import (
    PositiveGate,
    PositiveThresholds,
    batch_thresholds,
    positive_labels,
    thresholds_of,
)
from training.features import Features
from training.objectives.info_nce import InfoNCE


def literal(
    s_it: list[list[float]], s_ii: list[list[float]], s_tt: list[list[float]], p: PositiveThresholds
) -> list[list[int]]:
    """+1 if i = j, or S_it > p1, or (S_ii > p2 and S_it > p1'), or S_tt > p3; else -1."""
    size = range(len(s_it))
    return [
        [
            1
            if i == j or s_it[i][j] > p.t2i or (s_ii[i][j] > p.i2i and s_it[i][j] > p.t2i_weak) or s_tt[i][j] > p.t2t
            else -1
            for j in size
        ]
        for i in size
    ]


def similarities(seed: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    one, other, last = (torch.rand((size, size), generator=draws, dtype=torch.float64) for _ in range(3))
    return one, other, last


@given(seed=st.integers(0, 2**32), size=st.integers(1, 12), band=st.booleans())
@settings(max_examples=40, deadline=None)
def test_labels_are_the_assignment_and_doubt_only_takes_from_the_negatives(seed: int, size: int, band: bool) -> None:
    given_ = similarities(seed, size)
    sure, doubtful = PositiveThresholds(0.8, 0.5, 0.6, 0.9), PositiveThresholds(0.7, 0.4, 0.5, 0.8)
    got = positive_labels(*given_, sure, doubtful if band else None)
    assert got.dtype == torch.int8
    s_it, s_ii, s_tt = (one.tolist() for one in given_)
    plain, loose = (literal(s_it, s_ii, s_tt, thresholds) for thresholds in (sure, doubtful))
    wanted = [
        [own if own == 1 or not band else 0 if other == 1 else -1 for own, other in zip(*rows, strict=True)]
        for rows in zip(plain, loose, strict=True)
    ]
    assert got.tolist() == wanted


@given(seed=st.integers(0, 2**32), size=st.integers(2, 12), quantile=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_a_batch_gives_its_own_thresholds(seed: int, size: int, quantile: float) -> None:
    given_ = similarities(seed, size)
    for one in given_:
        one.fill_diagonal_(7.0)  # never to be seen
    found = batch_thresholds(*given_, PositiveThresholds(quantile, quantile / 2, quantile, 1.0))
    others = [sorted(one[~torch.eye(size, dtype=torch.bool)].tolist()) for one in given_]

    def at(numbers: list[float], q: float) -> float:
        return numbers[math.ceil(q * (len(numbers) - 1) - 1e-9)]

    wanted = (at(others[0], quantile), at(others[0], quantile / 2), at(others[1], quantile), others[2][-1])
    assert (found.t2i, found.t2i_weak, found.i2i, found.t2t) == pytest.approx(wanted, abs=1e-12)
    assert (positive_labels(*given_, found)[~torch.eye(size, dtype=torch.bool)] == 1).sum() <= size * size


def test_large_batches_have_quantiles_too() -> None:
    size = 4200  # torch.quantile refuses more than 2**24 numbers
    ranks = torch.arange(size * size, dtype=torch.float32).reshape(size, size)
    assert batch_thresholds(ranks, ranks, ranks, PositiveThresholds(1.0, 0.5, 0.5, 0.0)).t2t == 1.0


def test_the_objective_takes_the_labels() -> None:
    """Two captions of the same thing: as negatives they cost more than as positives."""
    image = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 0.0, 1.0]]), dim=1)
    labels = positive_labels(image @ image.T, image @ image.T, image @ image.T, PositiveThresholds(0.9, 0.9, 0.9, 0.9))
    assert labels.tolist() == [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]
    scale = torch.tensor(10.0)
    losses = [float(InfoNCE()(Features(image, image, scale, labels=one))) for one in (labels, None)]
    assert losses[0] != pytest.approx(losses[1])


def test_thresholds_come_from_the_manifest() -> None:
    sure, doubtful = ({"t2i": a, "t2i_weak": a - 0.1, "i2i": a, "t2t": a} for a in (0.9, 0.8))
    found = thresholds_of({"quality": {"calibrate_positives": {"sure": sure, "doubtful": doubtful}}})
    assert found == (PositiveThresholds(**sure), PositiveThresholds(**doubtful))
    with pytest.raises(InputError, match="recipe fff"):
        thresholds_of({"quality": {}})


def test_numbers_that_make_no_sense_are_refused() -> None:
    for bad in ((0.5, 0.6, 0.5, 0.5), (math.nan, 0.1, 0.5, 0.5)):
        with pytest.raises(InputError, match="t2i_weak not above"):
            PositiveThresholds(*bad)
    square = torch.zeros(2, 2)
    with pytest.raises(InputError, match="quantiles"):
        batch_thresholds(square, square, square, PositiveThresholds(1.5, 0.5, 0.5, 0.5))


def test_the_gate_finds_positives_over_what_labels_say() -> None:
    image = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    text = image.flip(1)
    own = torch.tensor([[1, -1, 0, -1], [-1, 1, -1, 0], [-1, -1, 1, -1]], dtype=torch.int8)
    sure = {"t2i": 2.0, "t2i_weak": -2.0, "i2i": 0.9, "t2t": 2.0}
    found = {"quality": {"calibrate_positives": {"sure": sure, "doubtful": sure | {"i2i": 0.05}}}}
    labels = PositiveGate().start(found).labels(image, text, own)
    # the first two pictures are alike beyond doubt, the second and third in doubt, the first and third not at all
    assert labels.tolist() == [[1, 1, 0, -1], [1, 1, 0, 0], [-1, 0, 1, -1]]
    with pytest.raises(InputError, match="calibrate_positives"):
        PositiveGate().start({})
    batch = PositiveGate(quantiles=(1.0, 0.0, 0.5, 1.0)).start({})
    assert batch.labels(image, text, None).shape == (3, 3)
