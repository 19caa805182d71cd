"""Plans: pure, without repeats, whole; saved and read back; and doing what each planner promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.errors import InputError
from data_manifests.seeds import draw_seed
from training.batches.basic import ClusterPlan, CurriculumPlan, ShuffledPlan
from training.batches.epoch import Planner
from training.batches.index import PlanIndex
from training.batches.plan import BatchPlan, make_plan
from training.batches.similarity import NeighbourPlan, SimclipPlan

PLANNERS: list[Planner] = [
    ShuffledPlan(),
    ClusterPlan(fraction=1.0, clusters_per_batch=2),
    ClusterPlan(fraction=0.6, clusters_per_batch=3),
    CurriculumPlan(ShuffledPlan()),
    CurriculumPlan(ClusterPlan(fraction=0.5, clusters_per_batch=1), direction="hard_to_easy"),
    NeighbourPlan(),
    CurriculumPlan(NeighbourPlan(num_neighbours=2)),
    SimclipPlan(cluster_size=2, spread=2),
    SimclipPlan(cluster_size=2, fraction=1.0, max_similarity=0.9, doubling_epochs=(2, 4)),
    SimclipPlan(cluster_size=2, table=True),
]


def make_index(size: int, seed: int = 0, num_clusters: int = 4) -> PlanIndex:
    """Return an index of `size` samples at every second row."""
    draws = np.random.default_rng(seed)
    points = draws.normal(size=(size, 6)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    similarity = points @ points.T - 3 * np.eye(size)
    neighbours = np.full((size, 4), -1)
    neighbours[:, : min(4, size - 1)] = np.argsort(-similarity, axis=1)[:, : min(4, size - 1)]
    return PlanIndex(
        rows=2 * np.arange(size, dtype=np.int64),
        uids=tuple(f"{number:032x}" for number in range(size)),
        num_captions=draws.integers(1, 6, size),
        cluster_id=np.sort(draws.integers(0, num_clusters, size)),
        difficulty=draws.random(size),
        weight=draws.random(size),
        neighbours=neighbours,
        embeddings=points,
    )


@settings(max_examples=60, deadline=None)
@given(
    planner=st.sampled_from(PLANNERS),
    size=st.integers(2, 90),
    batch=st.integers(2, 30),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 6),
)
def test_every_epoch_is_whole_pure_and_without_repeats(
    planner: Planner, size: int, batch: int, seed: int, epoch: int
) -> None:
    index = make_index(size)
    if size < batch:
        with pytest.raises(InputError, match="fewer than one batch"):
            planner(index, seed, epoch, batch)
        return
    plan = planner(index, seed, epoch, batch)
    again = planner(make_index(size), seed, epoch, batch)
    assert np.array_equal(plan.rows, again.rows) and np.array_equal(plan.caption, again.caption)
    assert plan.rows.dtype == np.int64 and plan.caption.dtype == np.int16 and plan.rows.shape[1] == batch
    flat = plan.rows.ravel().tolist()
    assert len(set(flat)) == len(flat), "a sample comes twice in an epoch"
    assert set(flat) <= set(index.rows.tolist())
    limits = dict(zip(index.rows.tolist(), index.num_captions.tolist(), strict=True))
    assert all(0 <= shown < limits[row] for row, shown in zip(flat, plan.caption.ravel().tolist(), strict=True))
    assert len(flat) == size // batch * batch, "only an incomplete last batch may be dropped"


def test_epochs_and_seeds_differ_and_captions_are_drawn_evenly() -> None:
    index = make_index(600)
    first, later, other = (ShuffledPlan()(index, seed, epoch, 50) for seed, epoch in ((0, 0), (0, 1), (1, 0)))
    assert not np.array_equal(first.rows, later.rows) and not np.array_equal(first.rows, other.rows)
    shown = np.zeros((600, 5), dtype=int)
    for epoch in range(20):
        plan = ShuffledPlan()(index, 0, epoch, 50)
        np.add.at(shown, (plan.rows.ravel() // 2, plan.caption.ravel()), 1)
    distinct = (shown[index.num_captions == 5] > 0).sum(axis=1)
    assert distinct.mean() > 4.5, "a sample shows the same caption in every epoch"
    five = shown[index.num_captions == 5].sum(axis=0)
    assert five.min() > 0.85 * five.mean(), "some caption is hardly ever shown"


def test_a_caption_depends_on_the_sample_and_not_on_its_batch() -> None:
    index = make_index(60)
    shown: list[dict[int, int]] = []
    for planner, batch in ((ShuffledPlan(), 6), (ClusterPlan(clusters_per_batch=1), 20)):
        plan = planner(index, 3, 1, batch)
        shown.append(dict(zip(plan.rows.ravel().tolist(), plan.caption.ravel().tolist(), strict=True)))
    assert shown[0] == shown[1]


def test_clusters_meet_in_cluster_plans_and_runs_are_consecutive_rows() -> None:
    index = make_index(400, num_clusters=20)
    assert index.cluster_id is not None

    def clusters_in_a_batch(planner: Planner) -> float:
        plan = planner(index, 0, 0, 40)
        return float(np.mean([len(set(index.cluster_id[rows // 2].tolist())) for rows in plan.rows]))  # type: ignore[index]

    mixed = clusters_in_a_batch(ShuffledPlan())
    half = clusters_in_a_batch(ClusterPlan(fraction=0.5, clusters_per_batch=2))
    whole = clusters_in_a_batch(ClusterPlan(fraction=1.0, clusters_per_batch=2))
    assert whole <= 5 < half < mixed
    assert all((np.diff(rows) > 0).all() for rows in ClusterPlan()(index, 0, 0, 40).rows), "reads go forward"


@pytest.mark.parametrize(("direction", "sign"), [("easy_to_hard", 1), ("hard_to_easy", -1)])
@pytest.mark.parametrize("num_steps", [4, 8, 10, 37, 60])
def test_a_curriculum_goes_from_one_end_to_the_other_whatever_the_length(
    direction: Any, sign: int, num_steps: int
) -> None:
    index = make_index(200)
    assert index.difficulty is not None
    planner = CurriculumPlan(ShuffledPlan(), direction=direction, start_fraction=0.3, pace=0.6)
    plan = make_plan(planner, index, 0, num_steps, 20)
    ordered = np.sort(sign * index.difficulty)
    hardest = [float((sign * index.difficulty[plan.rows[step] // 2]).max()) for step in range(num_steps)]
    third = ordered[2 * len(ordered) // 3]
    assert any(value > third for value in hardest[num_steps // 2 :]), "a run meets the last third of the scale"
    for epoch in range(int(plan.epoch[-1]) + 1):
        steps = np.flatnonzero(plan.epoch == epoch)
        means = sign * index.difficulty[plan.rows[steps] // 2].mean(axis=1)
        assert (np.diff(means) >= 0).all(), "within an epoch batches come in the order of their mean difficulty"
        share = min(1.0, float(np.sqrt(0.09 + 0.91 * (steps[-1] + 1) / num_steps / 0.6)))
        assert max(hardest[step] for step in steps) <= ordered[min(199, int(np.ceil(share * 200)) - 1)] + 1e-12
        rows = plan.rows[steps].ravel().tolist()
        assert len(set(rows)) == len(rows)
    if num_steps == 60:
        sizes = np.bincount(plan.epoch)
        assert sizes[0] < 10 and 10 in sizes, "the pool grows to all samples"


def test_the_same_curriculum_of_a_longer_run_is_another() -> None:
    index = make_index(200)
    short, long = (make_plan(CurriculumPlan(ShuffledPlan()), index, 0, steps, 20) for steps in (20, 60))
    assert not np.array_equal(short.rows[:7], long.rows[:7])


def test_missing_columns_and_values_out_of_range_are_refused() -> None:
    index = PlanIndex(np.arange(9), tuple("abcdefghi"), np.ones(9, dtype=int))
    with pytest.raises(InputError, match="cluster_embeddings"):
        ClusterPlan()(index, 0, 0, 4)
    with pytest.raises(InputError, match="order_difficulty"):
        CurriculumPlan(ShuffledPlan())(index, 0, 0, 4)
    for make in (lambda: ClusterPlan(fraction=1.5), lambda: CurriculumPlan(ShuffledPlan(), start_fraction=0.0)):
        with pytest.raises(InputError, match="allowed"):
            make()


def test_only_the_split_is_trained_on() -> None:
    table = pa.table(
        {"uid": ["a", "b", "c", "d"], "num_captions": [1, 2, 3, 4], "split": ["dev", "train", None, "test"]}
    )
    index = PlanIndex.from_table(table)
    assert index.uids == ("b", "c") and index.rows.tolist() == [1, 2] and index.num_captions.tolist() == [2, 3]
    assert index.cluster_id is None and index.difficulty is None
    with pytest.raises(InputError, match="splits are dev, test"):
        PlanIndex.from_table(table.take([0, 3]))


def test_a_run_plan_is_saved_replayed_and_guarded(tmp_path: Path) -> None:
    index = make_index(50)
    plan = make_plan(ShuffledPlan(), index, 7, num_steps=12, batch_size=10)
    assert plan.rows.shape == (12, 10) and plan.epoch.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    assert plan.uids[:10] == tuple(f"{row // 2:032x}" for row in plan.rows[0])
    path = tmp_path / "plan.parquet"
    plan.save(path)
    first = path.read_bytes()
    loaded = BatchPlan.load(path)
    assert loaded.fingerprint == plan.fingerprint and np.array_equal(loaded.caption, plan.caption)
    plan.save(path)
    assert path.read_bytes() == first
    table = pq.read_table(path)
    captions = table.column("caption").to_pylist()
    captions[3] += 1
    edited = table.set_column(table.column_names.index("caption"), "caption", pa.array(captions, pa.int16()))
    pq.write_table(edited, path)
    with pytest.raises(InputError, match="edited by hand"):
        BatchPlan.load(path)
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match="not a training plan"):
        BatchPlan.load(path)


def test_draws_do_not_run_into_each_other() -> None:
    assert draw_seed("a", 11) != draw_seed("a1", 1) and draw_seed(1, 2) == draw_seed("1", "2")
    assert 0 <= draw_seed("x") < 2**64
