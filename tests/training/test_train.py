"""The trainer: it learns, it can be killed anywhere and resumed to the same bytes, and it refuses what does not fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from data_manifests.errors import InputError
from tests.training.conftest import MakeVersion
from training import checkpoint
from training.batches.basic import ClusterPlan, ShuffledPlan
from training.batches.batch import StepTexts
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.hard_negatives import AdaptiveNegatives, UniformNegatives
from training.log import TIMES, read_lines
from training.model.spec import ModelSpec
from training.objectives.ce_clip import CrossModalRank
from training.objectives.cutoff import CutoffContrast
from training.objectives.info_nce import InfoNCE
from training.objectives.joined_contrast import JoinedContrast
from training.objectives.knowledge import Distillation
from training.objectives.negative_contrast import NegativeContrast
from training.objectives.sigmoid import Sigmoid
from training.train import Trainer, learning_rate, train
from training.train_parts import TrainParts, check_texts

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")

TINY = ModelSpec.parse("tiny")
PLAIN = TrainParts("clip", ShuffledPlan(), (InfoNCE(),))
STATEFUL = (Sigmoid(weight=0.1, further=True), CrossModalRank())
HARD = TrainParts(
    "ahnm",
    ShuffledPlan(),
    (InfoNCE(negatives=False), NegativeContrast(), Distillation(), CutoffContrast(), *STATEFUL),
    AdaptiveNegatives(candidates=4, choose=2, band_start=(0.0, 0.5), band_end=(0.5, 1.0), gate_quantile=0.98),
    positives=FurtherTexts(),
)
CONFIG = TrainConfig(
    steps=13, batch_size=6, lr=1e-3, warmup_steps=3, tune="lora", lora_dropout=0.2, checkpoint_every=5, seed=11
)


class Killed(BaseException):
    """Stands for a kill: nothing in the trainer may catch it."""


def kill_before_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    real = Trainer.make_step

    def make_step(self: Trainer, batch: Any) -> dict[str, Any]:
        if batch.step == step:
            raise Killed
        return real(self, batch)

    monkeypatch.setattr(Trainer, "make_step", make_step)


def log_of(run: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in TIMES} for line in read_lines(run / "log.jsonl")
    ]


def files_of(run: Path) -> dict[str, bytes]:
    names = ("model.json", "plan.parquet", "done.json", "run.json", "feedback.parquet")
    weights = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.safetensors")}
    return weights | {name: (run / name).read_bytes() for name in names}


@pytest.mark.slow
def test_it_learns_to_tell_shapes_apart(make_version: MakeVersion, tmp_path: Path) -> None:
    config = TrainConfig(steps=60, batch_size=32, lr=1e-3, warmup_steps=5, tune="full", checkpoint_every=60)
    parts = TrainParts("negclip", ShuffledPlan(), (InfoNCE(),), UniformNegatives(2))
    result = train(make_version(64), parts, TINY, config, tmp_path / "run")
    losses = [line["loss"] for line in read_lines(tmp_path / "run" / "log.jsonl")]
    assert len(losses) == 60 and losses[0] > 3.0
    assert sum(losses[-5:]) / 5 < 0.5 * losses[0] and result.loss == losses[-1] and result.steps == 60


@pytest.mark.parametrize("step", [0, 4, 5, 12])
def test_a_killed_run_resumes_to_the_same_bytes(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    version = make_version(20)
    whole = train(version, HARD, TINY, CONFIG, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_before_step(patch, step)
        with pytest.raises(Killed):
            train(version, HARD, TINY, CONFIG, tmp_path / "killed")
    resumed = train(version, HARD, TINY, CONFIG, tmp_path / "killed", resume=True)
    assert resumed.weights_hash == whole.weights_hash and files_of(resumed.run) == files_of(whole.run)
    assert log_of(resumed.run) == log_of(whole.run) and len(log_of(whole.run)) == 13
    assert [path.name for path in (resumed.run / "checkpoint").iterdir()] == ["state.pt"]


@pytest.mark.slow
def test_kill_9_at_a_random_step(make_version: MakeVersion, tmp_path: Path) -> None:
    version = make_version(20)
    config = replace(CONFIG, steps=40)
    whole = train(version, HARD, TINY, config, tmp_path / "whole")
    manifest = tmp_path / "manifest.json"
    version.manifest.save(manifest)
    script = f"""
import sys, warnings; sys.path.insert(0, {str(Path(__file__).parent)!r}); warnings.simplefilter("ignore")
from pathlib import Path
from data_manifests.manifest import DatasetVersion, Manifest
from test_train import HARD, TINY, CONFIG, replace, train
version = DatasetVersion(Manifest.load(Path({str(manifest)!r})), Path({str(version.folder)!r}))
train(version, HARD, TINY, replace(CONFIG, steps=40), Path({str(tmp_path / "killed")!r}))
"""
    at = int.from_bytes(os.urandom(1), "big") % 36
    log = tmp_path / "killed" / "log.jsonl"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not log.exists() or log.read_bytes().count(b"\n") <= at:
            assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert not (tmp_path / "killed" / "done.json").exists(), f"it ended before the kill after step {at}"
    resumed = train(version, HARD, TINY, config, tmp_path / "killed", resume=True)
    assert resumed.weights_hash == whole.weights_hash, f"killed after step {at}"
    assert log_of(resumed.run) == log_of(whole.run)


def test_a_kill_while_the_model_is_saved(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_version(20)
    whole = train(version, PLAIN, TINY, CONFIG, tmp_path / "whole")

    def half(run: Path, *_: object) -> None:
        (run / "head.safetensors").write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("training.train.save_run_model", half)
        with pytest.raises(Killed):
            train(version, PLAIN, TINY, CONFIG, tmp_path / "killed")
    resumed = train(version, PLAIN, TINY, CONFIG, tmp_path / "killed", resume=True)
    assert resumed.weights_hash == whole.weights_hash and log_of(resumed.run) == log_of(whole.run)


def test_a_finished_run_is_returned_as_it_is(make_version: MakeVersion, tmp_path: Path) -> None:
    version, run = make_version(20), tmp_path / "run"
    config = replace(CONFIG, steps=2)
    first = train(version, PLAIN, TINY, config, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert train(version, PLAIN, TINY, config, run, resume=True) == first
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(InputError, match="exists already"):
        train(version, PLAIN, TINY, config, run)
    (run / "head.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="weight files changed"):
        train(version, PLAIN, TINY, config, run, resume=True)


def test_resume_refuses_another_run_and_names_the_difference(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, other, run = make_version(20), make_version(21, name="other"), tmp_path / "run"
    with monkeypatch.context() as patch:
        kill_before_step(patch, 3)
        with pytest.raises(Killed):
            train(version, PLAIN, TINY, CONFIG, run)

    def refused(what: str, **changes: Any) -> None:
        given = {"dataset": version, "parts": PLAIN, "spec": TINY, "config": CONFIG} | changes
        with pytest.raises(InputError, match=what):
            train(run=run, resume=True, **given)

    refused(r"config\.lr was 0\.001, is 0\.002", config=replace(CONFIG, lr=0.002))
    refused(r"manifest\.fingerprint was", dataset=other)
    refused(r"model\.hash was", spec=ModelSpec.parse("tiny@4"))
    refused(r"recipe\.objectives was", parts=replace(PLAIN, objectives=(InfoNCE(weight=2.0),)))
    (run / "plan.parquet").write_bytes(b"PAR1")
    refused("not a training plan")


def test_frozen_trunks_are_computed_once_and_shared_between_runs(make_version: MakeVersion, tmp_path: Path) -> None:
    version, cache = make_version(20), tmp_path / "cache"
    config = replace(CONFIG, tune="projection", steps=6)
    parts = TrainParts("negclip", ShuffledPlan(), (InfoNCE(),), UniformNegatives(2))
    kept = train(version, parts, TINY, config, tmp_path / "a", cache=cache)
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    assert {path.parent.parent.name for path in files} == {"image", "text"}
    stamps = [path.stat().st_mtime_ns for path in files]
    again = train(version, parts, TINY, config, tmp_path / "b", cache=cache)
    assert [path.stat().st_mtime_ns for path in sorted(p for p in cache.rglob("*") if p.is_file())] == stamps
    forgotten = train(version, parts, TINY, config, tmp_path / "c")
    assert kept.weights_hash == again.weights_hash == forgotten.weights_hash
    line = read_lines(tmp_path / "a" / "log.jsonl")[-1]
    assert (
        line["negatives"]["operation"] == {"replace/colour": line["negatives"]["count"]}
        and line["negatives"]["count"] > 0
    )


def test_what_a_run_leaves(make_version: MakeVersion, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    version = make_version(20, columns={"cluster_id": [number // 5 for number in range(20)]})
    parts = replace(HARD, planner=ClusterPlan(fraction=1.0, clusters_per_batch=2))
    config = replace(CONFIG, steps=4)
    result = train(version, parts, TINY, config, tmp_path / "run")
    record = orjson.loads((result.run / "run.json").read_bytes())
    assert record["manifest"] == {"name": "shapes", "version": "1.0.0", "fingerprint": version.manifest.fingerprint}
    assert (
        record["config"] == replace(config, device="cpu", precision="float32").to_json()
        and record["recipe"]["planner"]["clusters_per_batch"] == 2
    )
    assert record["recipe"]["negatives"]["name"] == "adaptive" and record["model"]["hash"] == TINY.content_hash()
    lines = read_lines(result.run / "log.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 2, 3] and [line["lr"] for line in lines[:3]] == pytest.approx(
        [1e-3 / 3, 2e-3 / 3, 1e-3]
    )
    objective = lines[2]["objective"]
    weighted = sum(term.weight * objective[term.name] for term in parts.objectives)
    assert lines[2]["loss"] == pytest.approx(weighted, rel=1e-5)
    assert all(line["wait_s"] >= 0 and 0 <= line["loader_stall"] <= 1 for line in lines)
    assert lines[0]["negatives"]["band_low"] == 0.0 and lines[3]["negatives"]["band_low"] == pytest.approx(0.375)
    events = EventAccumulator(str(result.run / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([line["loss"] for line in lines])
    assert len(events.Scalars("negatives/mean_similarity")) == 4
    state = torch.load(result.run / "checkpoint" / "state.pt", weights_only=True)
    assert state["step"] == 4 and {"gate", "hopeless_over_median", "gap_00", "gap_32"} <= set(state["negatives"])


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    first = checkpoint.run_folder(tmp_path / "run", resume=False)
    second = checkpoint.run_folder(tmp_path / "run", resume=True)
    with first, pytest.raises(InputError, match="another process"), second:
        pass


def test_bad_checkpoints_and_losses_are_refused(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, run = make_version(20), tmp_path / "run"
    with monkeypatch.context() as patch:
        kill_before_step(patch, 6)
        with pytest.raises(Killed):
            train(version, PLAIN, TINY, CONFIG, run)
    path = run / "checkpoint" / "state.pt"
    torch.save({"step": Path("/evil")}, path)
    for _ in range(2):
        with pytest.raises(InputError, match="damaged checkpoint"):
            train(version, PLAIN, TINY, CONFIG, run, resume=True)
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="the loss is nan"):
        train(version, PLAIN, TINY, replace(CONFIG, lr=1e30, grad_clip=0.0, tune="full"), tmp_path / "nan")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 1),
        ("lr", float("nan")),
        ("betas", (0.9, 1.0)),
        ("tune", "lorra"),
        ("schedule", "step"),
    ],
)
def test_config_values_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{name}=(.|\n)*--set train\.{name}"):
        TrainConfig(**{name: value})


def test_the_learning_rate_warms_up_and_falls() -> None:
    config = TrainConfig(steps=100, warmup_steps=10, lr=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[55] == pytest.approx(0.5) and rates[99] < 0.001
    assert learning_rate(replace(config, schedule="constant"), 99) == 1.0


LONG = "it is not known who has taken this picture and when and where it was taken or what for and why so and so on and on and on and on "


def negclip(choose: int = 4) -> TrainParts:
    return TrainParts("negclip", ShuffledPlan(), (InfoNCE(),), UniformNegatives(choose))


def test_texts_that_the_model_reads_as_their_caption_are_left_out_counted_and_said(
    make_version: MakeVersion, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    version = make_version(20, text=lambda text: LONG + text if "left" in text and "circle" in text else text)
    train(version, negclip(), TINY, replace(CONFIG, tune="projection"), tmp_path / "run")
    counts = [line["negatives"]["equal_to_caption"] for line in read_lines(tmp_path / "run" / "log.jsonl")]
    assert len(counts) == 13 and sum(counts) > 0
    assert capsys.readouterr().err.count("views of this step equal their caption in the 32 tokens that the model") == 1


def test_equal_texts_are_said_before_the_first_step(make_version: MakeVersion, tmp_path: Path) -> None:
    version = make_version(20, text=LONG.__add__)
    with pytest.raises(
        InputError, match=r"all 78 captions are equal in the 32 tokens that the model reads: 'it is not known"
    ):
        train(version, PLAIN, TINY, CONFIG, tmp_path / "plain")
    with pytest.raises(InputError, match=r"all \d+ negatives drawn equal their caption in the 32 tokens"):
        train(version, negclip(), TINY, CONFIG, tmp_path / "late")
    assert not read_lines(tmp_path / "plain" / "log.jsonl") and not read_lines(tmp_path / "late" / "log.jsonl")


def test_texts_are_read_until_two_captions_differ_and_one_has_a_negative() -> None:
    def step(captions: str, num_negatives: int) -> StepTexts:
        records: list[list[dict[str, Any]]] = [[{}] * num_negatives, *([] for _ in captions[1:])]
        zeros = (0,) * len(captions)
        return StepTexts(tuple(captions), tuple(captions), records, [], tuple(captions), [], [], zeros, zeros)

    same, other, false = step("aa", 0), step("ab", 0), step("aa", 1)
    for parts, steps, num_read in ((PLAIN, [same, other, same], 2), (negclip(), [other, same, false, same], 3)):
        remaining = iter(steps)
        assert check_texts(parts, remaining, 9) == "" and len(steps) - len(list(remaining)) == num_read
    assert "all 4 captions are equal in the 9 tokens" in check_texts(negclip(), [same, false], 9)
    assert check_texts(negclip(), [other], 9) == "", "captions without negatives, which nobody has cut"


@pytest.mark.parametrize("name", ["index.parquet", "00001.tar"])
def test_a_damaged_version_is_not_trained_on(name: str, make_version: MakeVersion, tmp_path: Path) -> None:
    version = make_version(20)
    data = bytearray((version.folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (version.folder / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name} is damaged: its sha256 is"):
        train(version, PLAIN, TINY, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run" / "done.json").exists()


def test_objectives_in_turn(make_version: MakeVersion, tmp_path: Path) -> None:
    """Each step has the loss of one objective alone, of the model that the steps before left; a run resumes in its turn."""
    version, config = make_version(20), replace(CONFIG, steps=5, lora_dropout=0.0)
    both = InfoNCE(), Sigmoid(weight=0.1)
    turns = TrainParts("turns", ShuffledPlan(), both, in_turn=True)
    whole = train(version, turns, TINY, config, tmp_path / "turns")
    losses = [line["objective"] for line in log_of(whole.run)]
    assert [list(loss) for loss in losses] == [["info_nce"], ["sigmoid"]] * 2 + [["info_nce"]]
    alone = train(version, replace(PLAIN, objectives=both[:1]), TINY, config, tmp_path / "alone")
    added = train(version, replace(turns, in_turn=False), TINY, config, tmp_path / "added")
    first, steps_alone, sums = (log_of(result.run) for result in (whole, alone, added))
    assert first[0] == steps_alone[0], "the first step has the first objective and nothing else"
    assert first[1]["loss"] == pytest.approx(0.1 * losses[1]["sigmoid"])
    assert sums[0]["loss"] == pytest.approx(first[0]["loss"] + 0.1 * sums[0]["objective"]["sigmoid"])
    assert "in_turn" in turns.to_json() and "in_turn" not in PLAIN.to_json()


def test_samples_are_joined_when_it_is_their_turn() -> None:
    both = InfoNCE(), JoinedContrast()
    turns = TrainParts("turns", ShuffledPlan(), both, in_turn=True).text_sampling
    assert [turns.joins(step) for step in range(5)] == [False, True, False, True, False]
    added = TrainParts("added", ShuffledPlan(), both).text_sampling
    assert added.joins(0) and added.joins(1)
    assert not PLAIN.text_sampling.joins(0)
