"""No batch holds two copies: for every planner, with whatever groups, without breaking what a plan promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.errors import InputError
from tests.training.test_plan import PLANNERS, make_index
from training.batches.basic import ShuffledPlan
from training.batches.epoch import Planner
from training.batches.index import PlanIndex
from training.batches.plan import make_plan
from training.batches.separate_duplicates import separate_duplicates


def grouped_index(size: int, seed: int, pictures: int, captions: int) -> PlanIndex:
    """Return an index with groups of several sizes; about half of the samples are alone."""
    draws = np.random.default_rng(seed)

    def groups(number: int) -> np.ndarray:
        return np.where(draws.random(size) < 0.5, -1, draws.integers(0, max(1, number), size))

    return replace(make_index(size, seed), duplicate_group=groups(pictures), caption_group=groups(captions))


def clashes(index: PlanIndex, rows: np.ndarray) -> int:
    """Return how many members of groups have company in their batch, each group counted once less."""
    total = 0
    place = {row: at for at, row in enumerate(index.rows.tolist())}
    for column in (index.duplicate_group, index.caption_group):
        assert column is not None
        for batch in rows.tolist():
            count = Counter(int(column[place[row]]) for row in batch if column[place[row]] >= 0)
            total += sum(number - 1 for number in count.values())
    return total


@settings(max_examples=120, deadline=None)
@given(
    planner=st.sampled_from(PLANNERS),
    size=st.integers(4, 90),
    batch=st.integers(2, 20),
    seed=st.integers(0, 50),
    epoch=st.integers(0, 5),
    pictures=st.integers(1, 40),
    captions=st.integers(1, 40),
)
def test_copies_never_meet_and_a_plan_stays_a_plan(
    planner: Planner, size: int, batch: int, seed: int, epoch: int, pictures: int, captions: int
) -> None:
    if size < batch:
        return
    index = grouped_index(size, seed, pictures, captions)
    before = planner(index, seed, epoch, batch)
    plan = separate_duplicates(before, index, seed, epoch)
    again = separate_duplicates(before, index, seed, epoch)
    assert np.array_equal(plan.rows, again.rows) and np.array_equal(plan.caption, again.caption)
    assert clashes(index, plan.rows) == 0
    assert plan.rows.dtype == np.int64 and plan.caption.dtype == np.int16
    assert plan.rows.shape[1] == batch and len(plan.rows) <= len(before.rows)
    flat = plan.rows.ravel().tolist()
    assert len(set(flat)) == len(flat) and set(flat) <= set(index.rows.tolist())
    assert all((np.diff(rows) > 0).all() for rows in plan.rows), "reads go forward"
    shown = dict(zip(before.rows.ravel().tolist(), before.caption.ravel().tolist(), strict=True))
    limits = dict(zip(index.rows.tolist(), index.num_captions.tolist(), strict=True))
    for row, caption in zip(flat, plan.caption.ravel().tolist(), strict=True):
        assert caption == shown.get(row, caption) and 0 <= caption < limits[row]
    if clashes(index, before.rows) == 0:
        assert plan is before


def test_pairs_cost_no_sample_and_no_batch() -> None:
    index = make_index(600)
    groups = np.full(600, -1)
    groups[:120] = np.repeat(np.arange(60), 2)  # neighbours in the index: cluster plans love to put them together
    paired = replace(index, duplicate_group=groups, caption_group=np.full(600, -1))
    total = 0
    for planner in PLANNERS[:3]:
        before = planner(paired, 1, 0, 50)
        plan = separate_duplicates(before, paired, 1, 0)
        total += clashes(paired, before.rows)
        assert clashes(paired, plan.rows) == 0
        assert plan.rows.shape == before.rows.shape
        assert set(plan.rows.ravel().tolist()) == set(before.rows.ravel().tolist())
    assert total > 0, "nothing was there to be mended"


def test_a_run_is_planned_apart_and_the_index_is_read_from_its_table() -> None:
    rows = 40
    names = ["", *(f"{at // 2:032x}" for at in range(rows - 1))]
    table = pa.table(
        {"uid": [f"{at:032x}" for at in range(rows)], "num_captions": [2] * rows, "duplicate_group": names}
    )
    index = PlanIndex.from_table(table)
    assert index.duplicate_group is not None and index.caption_group is None
    assert index.duplicate_group[:4].tolist() == [-1, 1, 1, 2] and len(index.take(np.arange(3))) == 3
    plan = make_plan(ShuffledPlan(), index, 0, 40, 8)
    both = replace(index, caption_group=np.full(rows, -1))
    assert plan.num_steps == 40 and clashes(both, plan.rows) == 0
    raw = np.concatenate([ShuffledPlan()(index, 0, epoch, 8).rows for epoch in range(8)])
    assert clashes(both, raw) > 0


def test_too_many_copies_for_a_batch_are_refused() -> None:
    index = replace(make_index(20), duplicate_group=np.zeros(20, dtype=np.int64), caption_group=np.full(20, -1))
    with pytest.raises(InputError, match="no batch of 5 samples"):
        make_plan(ShuffledPlan(), index, 0, 3, 5)
