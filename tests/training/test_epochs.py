"""Plans made as training goes: replayed from a file, or epoch by epoch with the current model, killed and resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_manifests.errors import InputError
from tests.training.conftest import MakeVersion
from tests.training.test_train import CONFIG, PLAIN, TINY, Killed, kill_before_step, log_of
from training.batches.basic import ShuffledPlan
from training.batches.index import PlanIndex
from training.batches.plan import BatchPlan
from training.batches.similarity import SimclipPlan, WeightedPlan
from training.config import TrainConfig
from training.distributed import Ranks
from training.objectives.info_nce import InfoNCE
from training.online_plan import GrowingPlan, embed_images, is_online
from training.train import train
from training.train_parts import TrainParts

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")

ONLINE = TrainParts("simclip", SimclipPlan(fraction=1.0, cluster_size=3, online=True), (InfoNCE(),))
# 20 samples are 3 batches of 6, so that 13 steps see five epochs; the weights must move the neighbours
MOVING = replace(CONFIG, tune="full", lr=3e-3, lora_dropout=0.0)


@pytest.mark.parametrize("step", [2, 6])
def test_epochs_made_with_the_model_resume_to_the_same_bytes(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    version = make_version(20)
    whole = train(version, ONLINE, TINY, MOVING, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_before_step(patch, step)
        with pytest.raises(Killed):
            train(version, ONLINE, TINY, MOVING, tmp_path / "killed")
    known = BatchPlan.load(tmp_path / "killed" / "plan.parquet")
    # killed before a step of an epoch: that epoch is saved, and none after it
    assert known.num_steps == min(13, 3 * (step // 3 + 1))
    resumed = train(version, ONLINE, TINY, MOVING, tmp_path / "killed", resume=True)
    assert resumed.weights_hash == whole.weights_hash and log_of(resumed.run) == log_of(whole.run)
    plan = whole.run / "plan.parquet"
    assert (resumed.run / "plan.parquet").read_bytes() == plan.read_bytes()
    saved = BatchPlan.load(plan)
    assert saved.epoch.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]


def test_later_epochs_look_at_the_model_as_it_then_is(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, seen = make_version(20), []

    def keep(*given: Any) -> np.ndarray:
        seen.append(embed_images(*given))
        return seen[-1]

    monkeypatch.setattr("training.train.embed_images", keep)
    run = train(version, ONLINE, TINY, MOVING, tmp_path / "run").run
    assert len(seen) == 5 and all(np.allclose(np.linalg.norm(part, axis=1), 1, atol=1e-5) for part in seen)
    assert np.abs(seen[1] - seen[0]).max() > 1e-3
    # each saved epoch is the planner's with the embeddings of its moment
    index = PlanIndex.from_table(version.index())
    fixed = replace(ONLINE.planner, online=False)  # type: ignore[type-var]
    saved = BatchPlan.load(run / "plan.parquet")
    for epoch in range(4):
        made = fixed(replace(index, embeddings=seen[epoch]), MOVING.seed, epoch, 6)
        assert made.rows.tolist() == saved.rows[epoch * 3 : epoch * 3 + 3].tolist()
    assert is_online(WeightedPlan(ONLINE.planner)) and not is_online(WeightedPlan(ShuffledPlan()))


def test_a_saved_order_is_replayed(make_version: MakeVersion, tmp_path: Path) -> None:
    version = make_version(20)
    first = train(version, ONLINE, TINY, MOVING, tmp_path / "first")
    plan = first.run / "plan.parquet"
    again = train(version, ONLINE, TINY, MOVING, tmp_path / "again", replay=plan)
    other = train(version, PLAIN, TINY, replace(MOVING, steps=7), tmp_path / "other", replay=plan)
    assert again.weights_hash == first.weights_hash and log_of(again.run) == log_of(first.run)
    assert BatchPlan.load(other.run / "plan.parquet").rows.tolist() == BatchPlan.load(plan).rows[:7].tolist()
    for config, message in (
        (replace(MOVING, batch_size=5), "batches of 6(.|\n)*--set train.batch_size=6"),
        (replace(MOVING, steps=14), "13 steps, train.steps is 14(.|\n)*--steps 13"),
        (replace(MOVING, split="dev"), "no sample to train on"),
    ):
        with pytest.raises(InputError, match=message):
            train(version, ONLINE, TINY, config, tmp_path / "bad", replay=plan)
    assert not (tmp_path / "bad").exists()
    held_out = make_version(20, columns={"split": ["test"] * 10 + ["train"] * 10}, name="other")
    with pytest.raises(InputError, match="in other@1.0.0 is not of the split train"):
        train(held_out, ONLINE, TINY, MOVING, tmp_path / "held", replay=plan)


def test_a_plan_shorter_than_what_is_done_is_refused(make_version: MakeVersion, tmp_path: Path) -> None:
    index = PlanIndex.from_table(make_version(20).index())
    growing = GrowingPlan(ONLINE.planner, index, TrainConfig(batch_size=6), tmp_path / "plan.parquet", Ranks())
    with pytest.raises(InputError, match="shorter than the 4 steps"):
        list(growing.plans(4, lambda: np.zeros((20, 2))))
