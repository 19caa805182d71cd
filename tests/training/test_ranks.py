"""Several ranks: gradients of one process, the same order, one set of files, and any number of ranks after a kill."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from curation.knowledge.interface import Edge
from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from tests.training import two_ranks
from tests.training.conftest import COLOURS
from training.batches.plan import BatchPlan
from training.distributed import Ranks
from training.log import read_lines
from training.train import train

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")

ROOT = Path(__file__).parents[2]
TOLERANCE = 2e-5
"""Weights of float32 runs on another number of ranks: sums are taken in another order."""


def command(folder: Path, what: str, ranks: int) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", f"--master-port={port}"]
    return [sys.executable, *(launch if ranks > 1 else []), "-m", "tests.training.two_ranks", str(folder), what]


def describe(version: DatasetVersion, folder: Path) -> None:
    version.manifest.save(folder / "manifest.json")
    (folder / "folder.txt").write_text(str(version.folder))


def start(folder: Path, what: str, ranks: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, what, ranks), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {
        f"{path.relative_to(run)}:{name}": value
        for path in sorted(run.rglob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def tags_and_facts(number: int) -> dict[str, Any]:
    """Return the tags and the facts of a sample."""
    colour, relation = COLOURS[number % 8], ("IsA", "UsedFor")[number % 3 % 2]
    rule = Edge(colour, relation, ("colour", "paint", "light")[number % 3]).uri
    views = [{"text": "a colour", "caption": at, "kind": "knowledge", "rule": rule} for at in (0, 1)]
    parts = [{"caption": at, "scale": "word", "text": colour, "foil": f"no {colour}"} for at in (0, 1) if number % 3]
    words = [{"caption": at, "class": "ADJ", "word": colour} for at in (0, 1)]
    return {
        "words": words,
        "phrase_foils": parts,
        "attribute_tags": f"hue:{('warm', 'cold')[number % 2]}",
        "views": views,
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, DatasetVersion]:
    """One start of two ranks does everything that the tests below look at."""
    from tests.training import conftest

    folder = tmp_path_factory.mktemp("ranks")
    version = conftest.write_version(folder, 40, more=tags_and_facts)
    describe(version, folder)
    with start(folder, "steps", 2) as process:
        told = process.communicate(timeout=300)[1]
    assert process.returncode == 0, told
    return folder, version


@pytest.mark.slow
def test_two_ranks_have_the_gradients_of_one(both: tuple[Path, DatasetVersion]) -> None:
    folder, version = both
    alone = two_ranks.three_steps(version, two_ranks.LOCAL, folder, Ranks())
    for rank in (0, 1):
        shared = torch.load(folder / f"steps-{rank}.pt", weights_only=True)
        assert shared.keys() == alone.keys() and len(alone) > 100
        for key, value in alone.items():
            assert torch.allclose(shared[key], value, rtol=1e-8, atol=1e-11), (key, shared[key] - value)


@pytest.mark.slow
def test_two_ranks_leave_one_run_and_the_order_of_one(both: tuple[Path, DatasetVersion], tmp_path: Path) -> None:
    folder, version = both
    alone = train(version, two_ranks.PARTS, two_ranks.TINY, two_ranks.CONFIG, tmp_path / "run")
    shared = folder / "run"
    assert (shared / "plan.parquet").read_bytes() == (alone.run / "plan.parquet").read_bytes()
    logs = [read_lines(run / "log.jsonl") for run in (alone.run, shared)]
    assert [line["step"] for line in logs[1]] == list(range(12))
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["negatives"]["count"] == one["negatives"]["count"]
        assert two["negatives"]["operation"] == one["negatives"]["operation"]
    import pyarrow.parquet as pq

    tables = [pq.read_table(run / "feedback.parquet").to_pydict() for run in (alone.run, shared)]
    assert all(tables[0][name] == tables[1][name] for name in ("uid", "text", "drawn"))
    assert furthest(weights_of(alone.run), weights_of(shared)) < TOLERANCE
    assert orjson.loads((shared / "done.json").read_bytes())["steps"] == 12


def test_batches_that_do_not_divide_are_refused() -> None:
    with pytest.raises(InputError, match=r"batches of 7 samples for 2 ranks(.|\n)*batch_size=6 or .*batch_size=8"):
        Ranks(0, 2).batch_slice(7)
    assert [Ranks(rank, 4).batch_slice(8) for rank in range(4)] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]


@pytest.mark.slow
def test_a_plan_that_looks_at_the_model_is_that_of_one_rank(both: tuple[Path, DatasetVersion], tmp_path: Path) -> None:
    folder, version = both
    alone = train(version, two_ranks.ONLINE, two_ranks.TINY, two_ranks.CONFIG, tmp_path / "online")
    plans = [BatchPlan.load(run / "plan.parquet") for run in (folder / "online", alone.run)]
    # 40 samples are 5 batches: the third epoch is cut at the twelfth step
    assert plans[0].epoch.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    # the first epoch looks at the model before any step, which is the same to the last bit
    assert plans[0].rows[:5].tolist() == plans[1].rows[:5].tolist()
    frozen = replace(two_ranks.CONFIG, tune="projection")
    cached = train(version, two_ranks.PARTS, two_ranks.TINY, frozen, tmp_path / "frozen", cache=folder / "cache")
    assert furthest(weights_of(folder / "frozen"), weights_of(cached.run)) < TOLERANCE


def killed_after(folder: Path, what: str, ranks: int, step: int) -> None:
    log = folder / what / "log.jsonl"
    with start(folder, what, ranks) as process:
        try:
            deadline = time.monotonic() + 120
            while not log.exists() or log.read_bytes().count(b"\n") <= step:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            # torchrun's workers have sessions of their own
            listed = subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
            )
            for pid in [process.pid, *map(int, listed.stdout.split())]:
                os.kill(pid, signal.SIGKILL)
            process.communicate()


def go_through(folder: Path, rounds: list[tuple[int, int]], last: int) -> None:
    """Train with kills: (ranks, steps of the log after which they are killed), then to the end with `last` ranks."""
    from tests.training import conftest

    version = conftest.write_version(folder, 40)
    describe(version, folder)
    whole = train(version, two_ranks.PARTS, two_ranks.TINY, two_ranks.LONGER, folder / "whole")
    run = folder / "killed"
    for ranks, step in rounds:
        killed_after(folder, "killed", ranks, step)
        assert not (run / "done.json").exists(), f"it ended before the kill after step {step}"
    with start(folder, "killed", last) as process:
        told = process.communicate(timeout=200)[1]
    assert process.returncode == 0, told
    logs = [read_lines(path / "log.jsonl") for path in (run, whole.run)]
    orders = [[(line["step"], line["epoch"], line["negatives"]["count"]) for line in log] for log in logs]
    assert orders[0] == orders[1]
    assert (run / "plan.parquet").read_bytes() == (whole.run / "plan.parquet").read_bytes()
    apart = furthest(weights_of(run), weights_of(whole.run))
    print(f"kills {rounds}, then {last}: weights apart by at most {apart:.2e}")
    assert apart < TOLERANCE, rounds


@pytest.mark.slow
def test_kill_9_and_go_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    at = int.from_bytes(os.urandom(1), "big") % 34
    go_through(tmp_path, [(2, at)], last=1)


@pytest.mark.slow
def test_many_kills_and_1_2_or_4_ranks(tmp_path: Path) -> None:
    """CLIPCURATE_KILLS=20 takes some minutes."""
    draws, kills = random.Random(6), int(os.environ.get("CLIPCURATE_KILLS", "2"))
    apart = 40 // kills
    rounds = [(draws.choice((1, 2, 4)), min(36, apart * kill + draws.randrange(3))) for kill in range(kills)]
    go_through(tmp_path, rounds, last=2)
