"""A version and the one after an edit are the same bytes with one worker, with two, and after kills, fits and all."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_manifests.manifest import Catalog
from flows.cli.demo import edit_one_caption, write_photos

pytestmark = pytest.mark.slow

NUM_KILLS = 10


def start(recipe: str, root: Path, photos: Path, workers: int) -> subprocess.Popen[bytes]:
    places = ["--workspace", str(root / "w"), "--manifests", str(root / "m")]
    job = ["curate", recipe, "--source", f"folder:{photos}", "--name", "toy", "--model", "tiny"]
    command = [sys.executable, "-W", "ignore", "-c", "from flows.cli.main import main; main()", *places, *job]
    return subprocess.Popen([*command, "--no-prefect", "--workers", str(workers)], stdout=subprocess.DEVNULL)


def fingerprint(root: Path) -> str:
    return Catalog(root / "m", root / "w").open("toy").manifest.fingerprint


@pytest.mark.parametrize("recipe", ["ahnm", "contrasts"])
def test_workers_and_kills_do_not_change_a_byte(recipe: str, tmp_path: Path) -> None:
    photos, rng = tmp_path / "photos", random.Random(5)
    write_photos(photos, 60)
    roots = {workers: tmp_path / str(workers) for workers in (1, 2)}
    made: list[list[str]] = []
    killed_after: list[float] = []
    for _ in ("first", "edited"):
        started = time.perf_counter()
        for workers, root in roots.items():
            assert start(recipe, root, photos, workers).wait() == 0
        seconds = (time.perf_counter() - started) / len(roots)
        for _ in range(NUM_KILLS // 2):
            with start(recipe, tmp_path / "killed", photos, 2) as process:
                time.sleep(delay := rng.uniform(0.2, 0.9) * seconds)
                process.kill()
                killed_after.append(delay)
        assert start(recipe, tmp_path / "killed", photos, 2).wait() == 0
        made.append([fingerprint(root) for root in (*roots.values(), tmp_path / "killed")])
        edit_one_caption(photos / "captions.jsonl")
    assert [len(set(of_version)) for of_version in made] == [1, 1], killed_after
    assert made[0] != made[1]
    assert Catalog(tmp_path / "killed" / "m", tmp_path / "killed" / "w").open("toy").verify() == []
