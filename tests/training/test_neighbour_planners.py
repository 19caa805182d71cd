"""Plans by neighbours, pivots and weights: each does what it promises."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_manifests.errors import InputError
from tests.training.conftest import MakeVersion, seal
from tests.training.test_plan import make_index
from training.batches.basic import CurriculumPlan, ShuffledPlan
from training.batches.epoch import column_needs, load_index
from training.batches.index import PlanIndex
from training.batches.similarity import NeighbourPlan, SimclipPlan, WeightedPlan


def positions(rows: np.ndarray) -> list[int]:
    return (rows // 2).tolist()


def test_most_images_meet_a_listed_neighbour() -> None:
    index = make_index(400)
    assert index.neighbours is not None

    def share(planner: ShuffledPlan | NeighbourPlan) -> float:
        plan = planner(index, 0, 0, 20)
        met = 0
        for rows in plan.rows:
            batch = set(positions(rows))
            met += sum(bool(batch & set(index.neighbours[at, :3].tolist())) for at in batch)  # type: ignore[index]
        return met / plan.rows.size

    assert share(ShuffledPlan()) < 0.2
    assert share(NeighbourPlan()) > 0.6


def test_neighbours_change_from_epoch_to_epoch() -> None:
    index = make_index(60)
    first, later = (NeighbourPlan()(index, 0, epoch, 10).rows for epoch in (0, 1))
    assert not np.array_equal(first, later)


def test_a_pivot_brings_those_nearest_to_it() -> None:
    points = np.eye(4, dtype=np.float32).repeat(5, axis=0)
    index = make_index(20)
    grouped = PlanIndex(index.rows, index.uids, index.num_captions, embeddings=points)
    for epoch in range(3):
        plan = SimclipPlan(fraction=1.0, cluster_size=5)(grouped, 0, epoch, 5)
        assert [len({at // 5 for at in positions(rows)}) for rows in plan.rows] == [1, 1, 1, 1]
    apart = SimclipPlan(fraction=1.0, cluster_size=5, max_similarity=0.5)(grouped, 0, 0, 5)
    first = [at // 5 for at in positions(apart.rows[0])]
    assert 1 in [first.count(group) for group in range(4)], "nobody as near as a double joins the pivot"


def test_spread_draws_from_a_wider_circle() -> None:
    points = np.stack([np.cos(np.arange(40) / 40), np.sin(np.arange(40) / 40)], axis=1).astype(np.float32)
    index = make_index(40)
    line = PlanIndex(index.rows, index.uids, index.num_captions, embeddings=points)

    def width(spread: int) -> float:
        plan = SimclipPlan(fraction=1.0, cluster_size=4, spread=spread)(line, 0, 0, 4)
        return float(np.mean([max(batch) - min(batch) for batch in map(positions, plan.rows[:5])]))

    assert width(1) < width(3) < 25


def test_the_share_of_clusters_doubles_up_to_the_wished_one() -> None:
    plan = SimclipPlan(fraction=0.5, doubling_epochs=(4, 6, 8, 10, 12, 14, 16, 18))
    assert plan.fraction_at(0) == plan.fraction_at(3) == 1 / 512
    assert plan.fraction_at(4) == 1 / 256
    assert plan.fraction_at(18) == plan.fraction_at(99) == 0.5


def test_a_table_names_all_candidates() -> None:
    index = make_index(60)
    assert index.neighbours is not None
    plan = SimclipPlan(fraction=1.0, cluster_size=3, table=True)(index, 0, 0, 3)
    listed = [
        any(set(batch) - {pivot} <= set(index.neighbours[pivot].tolist()) for pivot in batch)
        for batch in map(positions, plan.rows)
    ]
    assert np.mean(listed[:10]) > 0.8


def test_samples_are_seen_by_their_weight() -> None:
    index = make_index(400)
    assert index.weight is not None
    seen = np.zeros(400)
    for epoch in range(60):
        np.add.at(seen, WeightedPlan(ShuffledPlan())(index, 0, epoch, 10).rows.ravel() // 2, 1)
    assert np.corrcoef(seen, index.weight)[0, 1] > 0.95
    assert seen[np.argmax(index.weight)] > 55


def test_what_is_missing_or_out_of_range_is_said() -> None:
    bare = PlanIndex(np.arange(9), tuple("abcdefghi"), np.ones(9, dtype=int))
    for planner, stage in (
        (NeighbourPlan(), "find_neighbours"),
        (SimclipPlan(cluster_size=2), "embed_samples"),
        (SimclipPlan(cluster_size=2, table=True), "find_neighbours"),
        (WeightedPlan(ShuffledPlan()), "balance_attributes"),
    ):
        with pytest.raises(InputError, match=stage):
            planner(bare, 0, 0, 4)
    with pytest.raises(InputError, match="cluster_size=4"):
        SimclipPlan(cluster_size=5)(make_index(9), 0, 0, 4)
    for make in (
        lambda: NeighbourPlan(num_neighbours=0),
        lambda: SimclipPlan(fraction=0.0),
        lambda: SimclipPlan(table=True, online=True),
    ):
        with pytest.raises(InputError, match="allowed"):
            make()


def test_columns_are_read_only_when_needed_and_in_the_order_of_the_index(make_version: MakeVersion) -> None:
    assert column_needs(CurriculumPlan(NeighbourPlan())) == ("image_neighbours",)
    assert column_needs(ShuffledPlan()) == ()
    version = make_version(6, {"split": ["train", "train", "dev", "train", "train", "train"]})
    uids = version.index().column("uid").to_pylist()
    version.manifest.body["shards"] = [{}, {}]
    for shard in (0, 1):
        held = uids[shard * 3 : shard * 3 + 3]
        near = [[{"uid": uids[2], "similarity": 0.9}, {"uid": uids[0], "similarity": 0.8}] for _ in held]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6) + 6 * shard, pa.float32()), 2)
        pq.write_table(
            pa.table({"image_neighbours": near, "image_embedding": vectors}), version.folder / f"{shard:05d}.parquet"
        )
    version = seal(version)
    index = load_index(version, "train", NeighbourPlan())
    assert index.neighbours is not None and index.embeddings is None
    assert index.neighbours.tolist() == [[0]] * 5, "the neighbour of another split is left out"
    index = load_index(version, "train", SimclipPlan())
    assert index.embeddings is not None and index.embeddings[:, 0].tolist() == [0, 2, 6, 8, 10]
    with open(version.folder / "00001.parquet", "ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="00001.parquet is damaged"):
        load_index(version, "train", NeighbourPlan())


def test_a_version_without_the_column_says_which_stage_makes_it(make_version: MakeVersion) -> None:
    version = make_version(6)
    version.manifest.body["shards"] = [{}, {}]
    for shard in (0, 1):
        pq.write_table(pa.table({"uid": ["a"]}), version.folder / f"{shard:05d}.parquet")
    with pytest.raises(InputError, match="find_neighbours"):
        load_index(seal(version), "train", NeighbourPlan())
