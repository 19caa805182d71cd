"""kill -9 at random moments over curate, train, reshard and forget: the same hashes in the end, no half version meanwhile.

CLIPCURATE_KILLS=200 kills that many times, over all recipes in turn; CLIPCURATE_SEED draws other moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from curation.engine.denylist import FORGET_PLAN_FILE
from data_manifests.manifest import Catalog
from data_manifests.run_files import DONE_FILE
from flows.recipe import load_recipe, recipe_names
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
KILLS = int(os.environ.get("CLIPCURATE_KILLS", "12"))
SEED = int(os.environ.get("CLIPCURATE_SEED", "0"))
KILLS_EACH = 3
NUM_COMMANDS = 4
TRAIN = ("--model", "tiny", "--steps", "12", "--set", "train.batch_size=8", "--set", "train.checkpoint_every=2")


@dataclass
class Place:
    """A folder in which the commands run one after another.

    Attributes:
        root: The folder.
        recipe: The recipe that curates.
        seconds: How long each command took.
    """

    root: Path
    recipe: str
    seconds: list[float] = field(default_factory=list)

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.root / "m", self.root / "w")

    def commands(self) -> Iterator[list[str]]:
        """Yield the commands; the uid to forget is known once there is a version."""
        settings = [word for text in load_recipe(self.recipe).scene_settings for word in ("--set", text)]
        source = ["--source", "scenes:60@5", "--name", "toy", "--model", "tiny", "--workers", "2", "--no-prefect"]
        yield ["curate", self.recipe, *source, *settings]
        yield ["train", "toy@1", "--recipe", "clip", *TRAIN, "--set", "train.num_threads=1", "--out", "run", "--resume"]
        yield ["reshard", "toy@1", "--order", "shuffle:3", "--out-name", "other"]
        yield ["forget", "toy", min(self.catalog.open("toy@1").index()["uid"].to_pylist())]

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        words = [*CLI, "--workspace", "w", "--manifests", "m", *command]
        return subprocess.Popen(
            words,
            env=environment,
            cwd=self.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self, command: list[str]) -> None:
        """Run a command to its end; a forget that has begun takes no uid, and one that was killed at its very end is done."""
        if command[0] == "forget":
            if (self.root / "w" / FORGET_PLAN_FILE).exists():
                command = command[:2]
            elif command[2] not in self.catalog.open("toy").index()["uid"].to_pylist():
                return
        process = self.start(command)
        errors = process.communicate()[1].decode()
        assert process.returncode == 0, errors[-3000:]

    def kill(self, command: list[str], after_s: float) -> bool:
        """Start a command and kill it with its workers; return whether it had ended before."""
        with self.start(command) as process:
            time.sleep(after_s)
            ended = process.poll() == 0
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return ended

    def result(self) -> dict[str, str]:
        """Return the hashes of all versions and of the weights."""
        names = [f"{name}@{version}" for name in ("toy", "other") for version in self.catalog.versions(name)]
        made = {name: self.catalog.open(name).manifest.fingerprint for name in names}
        return made | {"run": orjson.loads((self.root / "run" / DONE_FILE).read_bytes())["weights_hash"]}

    def check_versions(self) -> None:
        """Check that every version that can be seen is whole."""
        for name in ("toy", "other"):
            for version in self.catalog.versions(name):
                assert self.catalog.open(f"{name}@{version}").verify() == []


def recipes() -> list[str]:
    able = [name for name in recipe_names() if not load_recipe(name).needs_llm]
    able.sort(key=lambda name: name != "negclip")
    rounds = max(1, KILLS // (KILLS_EACH * NUM_COMMANDS))
    return [able[number % len(able)] for number in range(rounds)]


@pytest.mark.parametrize(("number", "recipe"), list(enumerate(recipes())))
def test_the_same_hashes_after_kills(tmp_path: Path, number: int, recipe: str) -> None:
    draws = random.Random(f"{SEED} {number}")
    whole, killed = Place(tmp_path / "whole", recipe), Place(tmp_path / "killed", recipe)
    for place in (whole, killed):
        place.root.mkdir()
    for command in whole.commands():
        started = time.monotonic()
        whole.finish(command)
        whole.seconds.append(time.monotonic() - started)
    for command, seconds in zip(killed.commands(), whole.seconds, strict=True):
        moments = [draws.uniform(0, seconds) for _ in range(KILLS_EACH)]
        print(command[0], "killed after", *(f"{moment:.2f}" for moment in moments))
        ended = False
        for moment in moments:
            ended = ended or killed.kill(command, moment)
            if not (killed.root / "w" / FORGET_PLAN_FILE).exists():
                killed.check_versions()
        if not ended:
            killed.finish(command)
        killed.check_versions()
    assert killed.result() == whole.result()
