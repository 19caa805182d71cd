"""kill -9 at random moments over curate, train, reshard and forget: the same hashes in the end, no half version meanwhile.

Nothing is asked twice: recipes that ask a language model have a server that counts what reaches it.
CLIPCURATE_KILLS=200 kills that many times, over all recipes in turn; CLIPCURATE_SEED draws other moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from curation.engine.denylist import FORGET_PLAN_FILE
from data_manifests.manifest import Catalog
from data_manifests.run_files import DONE_FILE
from flows.recipe import load_recipe
from flows.recipe_finding import own_recipe_names
from tests.conftest import ROOT
from tests.curation.llm_servers import MODEL, Server
from tests.flows.test_forget_answers import nearly_the_same

pytestmark = pytest.mark.slow
CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
KILLS = int(os.environ.get("CLIPCURATE_KILLS", "24"))
SEED = int(os.environ.get("CLIPCURATE_SEED", "0"))
KILLS_EACH = 3
NUM_COMMANDS = 4
NUM_WORKERS = 2
LLM_SLOTS = 2
TRAIN = ("--model", "tiny", "--steps", "12", "--set", "train.batch_size=8", "--set", "train.checkpoint_every=2")


@dataclass
class Place:
    """A folder in which the commands run one after another.

    Attributes:
        root: The folder.
        recipe: The recipe that curates.
        seconds: How long each command took.
        asked: How often each question reached the language model.
        server: Answers them.
    """

    root: Path
    recipe: str
    seconds: list[float] = field(default_factory=list)
    asked: Counter[bytes] = field(default_factory=Counter)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.root.mkdir()
        self.server = Server(self.answer)

    async def answer(self, request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
        """Count a question and answer it after a moment, so that kills come between question and answer, too."""
        self.asked[orjson.dumps(body, option=orjson.OPT_SORT_KEYS)] += 1
        await asyncio.sleep(0.02)
        return await nearly_the_same(request, body, nth)

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.root / "m", self.root / "w")

    def commands(self) -> Iterator[list[str]]:
        """Yield the commands; the uid to forget is known once there is a version."""
        settings = [word for text in load_recipe(self.recipe).scene_settings for word in ("--set", text)]
        source = ["--source", "scenes:60@5", "--name", "toy", "--model", "tiny", "--workers", str(NUM_WORKERS)]
        if load_recipe(self.recipe).needs_llm:
            source += ["--llm", f"{self.server.url}#{MODEL}", "--llm-slots", str(LLM_SLOTS)]
        yield ["curate", self.recipe, *source, "--no-prefect", *settings]
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
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=after_s)
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
    first = ("negclip", "triplet_clip")
    able = [*first, *(name for name in own_recipe_names() if name not in first)]
    rounds = max(1, KILLS // (KILLS_EACH * NUM_COMMANDS))
    return [able[number % len(able)] for number in range(rounds)]


@pytest.mark.parametrize(("number", "recipe"), list(enumerate(recipes())))
def test_the_same_hashes_after_kills(tmp_path: Path, number: int, recipe: str) -> None:
    draws = random.Random(f"{SEED} {number}")
    whole, killed = Place(tmp_path / "whole", recipe), Place(tmp_path / "killed", recipe)
    with whole.server, killed.server:
        run_both(whole, killed, draws)
    assert killed.result() == whole.result()
    assert bool(whole.asked) == load_recipe(recipe).needs_llm
    assert set(killed.asked) == set(whole.asked)
    assert set(whole.asked.values()) <= {1}
    num_twice = killed.asked.total() - len(killed.asked)
    print(f"asked {len(killed.asked)} questions, {num_twice} of them again")
    assert num_twice <= KILLS_EACH * 2 * LLM_SLOTS * NUM_WORKERS  # for each slot: one under way, one being committed


def run_both(whole: Place, killed: Place, draws: random.Random) -> None:
    """Run all commands in one place in peace, and in the other with kills."""
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
