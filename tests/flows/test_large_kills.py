"""kill -9 at random moments of a curation that reads, checks and publishes in worker processes: the same version in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from data_manifests.manifest import Catalog
from tests.benchmarks import bench_scale
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
KILLS = int(os.environ.get("CLIPCURATE_KILLS", "4"))
SEED = int(os.environ.get("CLIPCURATE_SEED", "0"))
NUM_TARS, SAMPLES_EACH = 7, 1700
"""More samples than one process publishes alone."""


def start(root: Path) -> subprocess.Popen[bytes]:
    root.mkdir(exist_ok=True)
    words = ["curate", "clip", "--source", "webdataset:../source", "--name", "toy", "--no-prefect", "--workers", "2"]
    return subprocess.Popen(
        [*CLI, "--workspace", "w", "--manifests", "m", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(root: Path) -> str:
    """Curate to the end; return the fingerprint of the version."""
    process = start(root)
    errors = process.communicate()[1].decode()
    assert process.returncode == 0, errors[-3000:]
    version = Catalog(root / "m", root / "w").open("toy")
    assert version.verify() == []
    assert version.manifest.num_samples == NUM_TARS * SAMPLES_EACH
    return version.manifest.fingerprint


def test_the_same_version_after_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scale, "SAMPLES_PER_TAR", SAMPLES_EACH)
    (tmp_path / "source").mkdir()
    for number in range(NUM_TARS):
        bench_scale.write_tar(tmp_path / "source", NUM_TARS * SAMPLES_EACH, number)
    started = time.monotonic()
    whole = finish(tmp_path / "whole")
    seconds, draws = time.monotonic() - started, random.Random(SEED)
    killed = tmp_path / "killed"
    # what a run has done the next one does not do again, so that each gets further
    for moment in [draws.uniform(0.1, 0.7) * seconds for _ in range(KILLS)]:
        with start(killed) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=moment)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            print(f"after {moment:.1f} s: {sorted(path.name for path in killed.glob('w/*'))}")
        catalog = Catalog(killed / "m", killed / "w")
        assert all(catalog.open(f"toy@{version}").verify() == [] for version in catalog.versions("toy"))
    assert finish(killed) == whole
    assert [path.name for path in (killed / "w" / "intake").iterdir() if path.name.startswith(".")] == []
    assert len(list((killed / "w" / "datasets" / "toy").glob("[0-9]*"))) == 1
