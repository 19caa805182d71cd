"""Weights between a base and a tuned model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_manifests.errors import InputError
from tests.training.conftest import MakeVersion
from tests.training.test_model import load
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.model.spec import ModelSpec
from training.model.wise_ft import blend
from training.objectives.info_nce import InfoNCE
from training.train import train
from training.train_parts import TrainParts

PARTS = TrainParts("clip", ShuffledPlan(), (InfoNCE(),))
CONFIG = TrainConfig(steps=6, batch_size=6, lr=3e-3, warmup_steps=0, checkpoint_every=2, seed=5, num_threads=1)


@pytest.mark.filterwarnings("ignore:model 'tiny'")
@pytest.mark.parametrize("tune", ["lora", "projection", "full"])
def test_a_run_may_end_part_of_the_way_back(make_version: MakeVersion, tmp_path: Path, tune: str) -> None:
    version, config = make_version(16), replace(CONFIG, tune=tune)
    states = {}
    for share in (1.0, 0.25, 0.0):
        run = tmp_path / str(share)
        train(version, PARTS, ModelSpec.parse("tiny"), replace(config, wise_ft=share), run)
        states[share] = ModelSpec.parse(str(run)).load().module.state_dict()
    mixed = load("tiny")
    start = mixed.module.state_dict()
    assert any(not torch.allclose(value, states[1.0][name], atol=1e-4) for name, value in start.items())
    for name, value in start.items():
        for share, state in states.items():
            expected = value + share * (states[1.0][name] - value)
            assert torch.allclose(state[name], expected, atol=2e-6), (name, share)


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_a_run_that_is_stopped_goes_back_once(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, config, spec = make_version(16), replace(CONFIG, wise_ft=0.5), ModelSpec.parse("tiny")
    whole = train(version, PARTS, spec, config, tmp_path / "whole")
    with monkeypatch.context() as patch:

        def fail(*_given: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("training.train.save_run_model", fail)
        with pytest.raises(KeyboardInterrupt):
            train(version, PARTS, spec, config, tmp_path / "stopped")
    assert train(version, PARTS, spec, config, tmp_path / "stopped", resume=True).weights_hash == whole.weights_hash


def test_the_line_between_two_models() -> None:
    start, end = load("tiny").module.state_dict(), load("tiny@1").module.state_dict()
    shares = (1.0, 0.0, 0.25, 1.0)
    for share, tuned in zip(shares, blend(load("tiny"), load("tiny@1"), shares), strict=True):
        for name, value in tuned.module.state_dict().items():
            if value.is_floating_point():
                assert torch.allclose(value, start[name] + share * (end[name] - start[name]), atol=1e-6), name
    assert torch.equal(tuned.module.state_dict()["logit_scale"], end["logit_scale"])


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(InputError, match="0 to 1"):
        next(blend(load("tiny"), load("tiny"), [1.5]))
    other = load("tiny")
    other.module.extra = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(InputError, match="'extra'"):
        next(blend(load("tiny"), other, [0.5]))


def test_runs_from_before_there_was_a_way_back_are_still_the_same_runs() -> None:
    assert "wise_ft" not in CONFIG.to_json() and replace(CONFIG, wise_ft=0.5).to_json()["wise_ft"] == 0.5
