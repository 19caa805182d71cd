"""A disk that fills up at a random byte of a curation: exit code 2, nothing lost, and it goes on once there is space.

CLIPCURATE_FILLS=20 fills it that many times; CLIPCURATE_SEED draws other bytes.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_manifests.manifest import Catalog
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
FILLS = int(os.environ.get("CLIPCURATE_FILLS", "3"))
SEED = int(os.environ.get("CLIPCURATE_SEED", "0"))
DISK_BYTES = 64 * 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a small file system of its own, or skip."""
    (folder := tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def curate(folder: Path) -> tuple[int, str]:
    """Curate into a folder; return exit code and errors."""
    command = [*CLI, "--workspace", str(folder / "w"), "--manifests", str(folder / "m"), "curate", "negclip"]
    command += ["--source", "scenes:60@5", "--name", "toy", "--model", "tiny", "--workers", "1", "--no-prefect"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stderr


def test_a_full_disk(tmp_path: Path, disk: Path) -> None:
    draws = random.Random(SEED)
    assert curate(tmp_path / "whole")[0] == 0
    catalog = Catalog(tmp_path / "whole" / "m", tmp_path / "whole" / "w")
    fingerprint = catalog.open("toy").manifest.fingerprint
    needed = sum(path.stat().st_blocks * 512 for path in (tmp_path / "whole").rglob("*"))
    for number in range(FILLS):
        room = draws.randrange(int(0.9 * needed))
        print(f"fill {number}: {room} of {needed} bytes")
        folder = disk / str(number)
        folder.mkdir()
        with (disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(disk).free - room)
        code, errors = curate(folder)
        assert code == 2, errors[-3000:]
        assert "Traceback" not in errors
        here = Catalog(folder / "m", folder / "w")
        assert not here.versions("toy") or here.open("toy").verify() == []
        (disk / "filler").unlink()
        assert curate(folder)[0] == 0
        assert here.open("toy").manifest.fingerprint == fingerprint
        shutil.rmtree(folder)
