"""Several ranks: gradients of one process, the same order, one set of files, and any number of ranks after a kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import torch

from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from tests.training import two_ranks
from training.ranks import Ranks
from training.runlog import read_lines
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


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, DatasetVersion]:
    """One start of two ranks does everything that the tests below look at."""
    from tests.training import conftest

    folder = tmp_path_factory.mktemp("ranks")
    version = conftest.write_version(folder, 40)
    describe(version, folder)
    process = start(folder, "steps", 2)
    assert process.wait(timeout=300) == 0, process.communicate()[1]
    return folder, version


@pytest.mark.parametrize("name", ["plain", "local"])
def test_two_ranks_have_the_gradients_of_one(both: tuple[Path, DatasetVersion], name: str) -> None:
    folder, version = both
    parts = {"plain": two_ranks.PARTS, "local": two_ranks.LOCAL}[name]
    alone = two_ranks.three_steps(version, parts, folder, Ranks())
    for rank in (0, 1):
        shared = torch.load(folder / f"{name}-{rank}.pt", weights_only=True)
        assert shared.keys() == alone.keys() and len(alone) > 100
        for key, value in alone.items():
            assert torch.allclose(shared[key], value, rtol=1e-8, atol=1e-11), (key, shared[key] - value)


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
        Ranks(0, 2).share(7)
    assert [Ranks(rank, 4).share(8) for rank in range(4)] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
