"""A batch's way through a step is short: how many files run between taking a batch and the end of the optimiser step."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import training
from flows.recipe import RecipeInputs, load_recipe
from tests.training.conftest import MakeVersion
from training.batches.basic import ShuffledPlan
from training.model.spec import ModelSpec
from training.train import Trainer, train

ROOT = Path(training.__file__).parent
MOST = 8
"""Before the trainer was one page: 17 for `clip`, 20 for `ce_clip`, 22 for `ahnm`."""


@pytest.mark.filterwarnings("ignore:model 'tiny'")
@pytest.mark.parametrize("name", ["clip", "ce_clip", "ahnm"])
def test_a_batch_visits_few_files(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recipe = load_recipe(name, RecipeInputs(model="tiny"))
    parts = replace(recipe.train_parts(), planner=ShuffledPlan())
    if parts.gate is not None:  # this version has no calibrated thresholds
        parts = replace(parts, gate=replace(parts.gate, quantiles=(0.99, 0.9, 0.99, 0.99)))
    visited: set[str] = set()
    make_step = Trainer.make_step

    def profiled(self: Trainer, batch: Any) -> dict[str, Any]:
        def note(frame: FrameType, event: str, _: Any) -> None:
            file = Path(frame.f_code.co_filename)
            if event == "call" and file.is_relative_to(ROOT):
                visited.add(str(file.relative_to(ROOT)))

        hook = self.optimizer.register_step_post_hook(lambda *_: sys.setprofile(None))
        sys.setprofile(note)
        try:
            return make_step(self, batch)
        finally:
            sys.setprofile(None)
            hook.remove()

    monkeypatch.setattr(Trainer, "make_step", profiled)
    config = replace(recipe.train, steps=1, batch_size=8)
    train(make_version(24), parts, ModelSpec.parse("tiny"), config, tmp_path / "run")
    assert {"train.py", "features.py", "model/clip_model.py"} < visited
    assert len(visited) <= MOST, " ".join(sorted(visited))
