"""What `clipcurate train` takes as plain options, how it fits small data sets, and the function that `--log-to` names."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from flows.cli.main import main
from training.config import TrainConfig

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")

ROOT = Path(__file__).parents[2]
NUM_SCENES = 60

LOGGER = """
import json, os
from pathlib import Path

HERE = Path(__file__).parent

def note(event, step, figures):
    with open(HERE / "seen.jsonl", "a") as file:
        print(json.dumps([event, step, figures, os.environ.get("RANK", "0")]), file=file)

def stops(event, step, figures):
    note(event, step, figures)
    if (event, step) == ("step", 3):
        raise KeyboardInterrupt

def refuses(event, step, figures):
    raise PermissionError("not logged in")

def breaks(event, step, figures):
    note(event, step, figures)
    if event == "step" and step > 0:
        raise ConnectionError("gone")
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the options of a workspace with a data set of 60 scenes, 48 of them to train on."""
    folder = tmp_path_factory.mktemp("places")
    options = ["--workspace", str(folder / "w"), "--manifests", str(folder / "m")]
    job = ["curate", "clip", "--source", f"scenes:{NUM_SCENES}", "--name", "toy", "--no-prefect", "--workers", "1"]
    run = subprocess.run([sys.executable, "-m", "flows.cli.main", *options, *job], cwd=ROOT, check=False)
    assert run.returncode == 0
    return options


class Train:
    def __init__(
        self, places: Sequence[str], folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.run, self.seen_file = folder / "run", folder / "seen.jsonl"
        self._places, self._patch, self._capsys = places, patch, capsys
        self.words = ["train", "toy@1", "--recipe", "clip", "--model", "tiny", "--out", str(self.run)]

    def __call__(self, *more: str) -> tuple[int, str]:
        """Return the exit code and all that is printed."""
        self._patch.setattr(sys, "argv", ["clipcurate", *self._places, *self.words, *more])
        with pytest.raises(SystemExit) as left:
            main()
        printed = self._capsys.readouterr()
        return int(left.value.code or 0), printed.out + printed.err

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads((self.run / "run.json").read_bytes())["config"]
        return found

    def seen(self) -> list[Any]:
        return [json.loads(line) for line in self.seen_file.read_text().splitlines()]


@pytest.fixture
def train(
    places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    monkeypatch.setenv("COLUMNS", "250")
    (tmp_path / "my_log.py").write_text(LOGGER)
    return Train(places, tmp_path, monkeypatch, capsys)


def test_a_small_set_gets_a_batch_that_it_fills_and_epochs_are_steps(train: Train) -> None:
    code, said = train("--epochs", "2", "--lr", "0.001", "--set", "train.num_threads=1")
    assert code == 0, said
    assert "48 samples to train on, fewer than one batch of 256: batches of 16" in said
    assert "2 epochs of 3 batches of 16: 6 steps" in said
    config = train.config()
    assert (config["batch_size"], config["steps"], config["lr"]) == (16, 6, 0.001)


@pytest.mark.parametrize("option", [["--batch-size", "64"], ["--set", "train.batch_size=64"]])
def test_a_batch_that_was_asked_for_is_not_changed(option: list[str], train: Train) -> None:
    code, said = train(*option, "--steps", "1")
    assert code == 2
    assert "fewer than one batch of 64" in said
    assert not train.run.exists()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--lr", "0.1", "--set", "train.lr=0.2"), "--lr 0.1 and --set train.lr=0.2"),
        (("--set", "train.batch_size=8", "--batch-size", "8"), "--batch-size 8 and --set train.batch_size=8"),
        (("--epochs", "2", "--steps", "3"), "--epochs 2 and --steps 3"),
        (("--epochs", "2", "--set", "train.steps=3"), "--epochs 2 and --set train.steps=3"),
        (("--steps", "2", "--set", "train.steps=2"), "--steps 2 and --set train.steps=2"),
        (("--tune", "full", "--set", "train.tune=lora"), "--tune full and --set train.tune=lora"),
        (("--seed", "0", "--set", "train.seed=1"), "--seed 0 and --set train.seed=1"),
        (("--lr", "nan"), "train.lr=nan"),
    ],
)
def test_one_number_is_said_once(given: tuple[str, ...], named: str, train: Train) -> None:
    code, said = train(*given)
    assert code == 2
    assert named in said
    assert not train.run.exists()


def test_help_lists_every_training_number(train: Train) -> None:
    code, said = train("--help")
    assert code == 0
    rows = {line.split("│")[1].strip(): line for line in said.splitlines() if "│ train." in line}
    assert list(rows) == [f"train.{item.name}" for item in dataclasses.fields(TrainConfig)]
    assert all(len(cell.strip()) > 10 for cell in (line.split("│")[4] for line in rows.values()))
    assert [cell.strip() for cell in rows["train.schedule"].split("│")[2:4]] == ["cosine | constant", "cosine"]


def test_a_function_in_a_file_is_told_of_every_step_through_a_resume(train: Train) -> None:
    steps = ("--steps", "6", "--set", "train.num_threads=1", "--set", "train.checkpoint_every=2")
    logger = str(train.seen_file.parent / "my_log.py")
    code, said = train(*steps, "--log-to", f"{logger}:stops")
    assert code == 130, said
    code, said = train(*steps, "--log-to", f"{logger}:note", "--resume")
    assert code == 0, said
    told = train.seen()
    first, second = told[: told[1:].index(next(item for item in told[1:] if item[0] == "begin")) + 1], told
    second = told[len(first) :]
    assert [item[:2] for item in first] == [["begin", 0], *(["step", n] for n in range(4)), ["end", 4]]
    assert first[-1][2]["status"] == "stopped"
    start = second[0][1]
    assert 2 <= start <= 4
    assert [item[:2] for item in second] == [["begin", start], *(["step", n] for n in range(start, 6)), ["end", 6]]
    assert second[-1][2]["status"] == "done"
    assert second[0][2]["recipe"] == "clip"
    assert (second[0][2]["batch_size"], second[0][2]["run"]) == (16, str(train.run))
    lines = [orjson.loads(line) for line in (train.run / "log.jsonl").read_bytes().splitlines()]
    losses = {step: figures["loss"] for event, step, figures, _ in told if event == "step"}
    assert losses == {line["step"]: line["loss"] for line in lines}
    assert "objective/info_nce" in second[1][2]


def test_what_a_function_raises_stops_before_the_first_step_or_is_said_once(train: Train, tmp_path: Path) -> None:
    short = ("--steps", "3", "--set", "train.num_threads=1")
    for text, named in (
        ("my_log.py", "allowed: MODULE:FUNCTION"),
        (f"{tmp_path}/none.py:note", "there is no such file"),
        ("no_such_module_:note", "ModuleNotFoundError"),
        (f"{tmp_path}/my_log.py:nota", "has no function 'nota'"),
        (f"{tmp_path}/my_log.py:refuses", "'begin' failed: PermissionError: not logged in"),
    ):
        code, said = train(*short, "--log-to", text)
        assert code == 2, said
        assert f"--log-to {text}" in said or repr(text) in said
        assert named in said
    more = ("--resume",) if train.run.exists() else ()
    code, said = train(*short, "--log-to", f"{tmp_path}/my_log.py:breaks", *more)
    assert code == 0, said
    assert said.count("'step' of step 1 failed: ConnectionError: gone") == 1
    assert [item[:2] for item in train.seen()] == [["begin", 0], ["step", 0], ["step", 1]]


def test_a_module_in_the_current_folder(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_of_mine.py").write_text(LOGGER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPCURATE_LOG_TO", "module_of_mine:note")
    code, said = train("--steps", "1", "--set", "train.num_threads=1")
    assert code == 0, said
    assert [item[0] for item in train.seen()] == ["begin", "step", "end"]


@pytest.mark.slow
def test_only_the_first_of_several_ranks_logs(train: Train, places: list[str], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", "-m", "flows.cli.main"]
    more = ["--steps", "2", "--set", "train.num_threads=1", "--log-to", f"{tmp_path}/my_log.py:note"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, *launch, *places, *train.words, *more],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert [(item[0], item[3]) for item in train.seen()] == [("begin", "0"), ("step", "0"), ("step", "0"), ("end", "0")]
    assert ran.stderr.count("fewer than one batch of") == 1
    assert train.config()["batch_size"] == 16
