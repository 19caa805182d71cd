"""Ctrl-C, as a terminal sends it: SIGINT to every process of a command's group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
STOPPED = "clipcurate: stopped; finished work is kept; the same command goes on"
LIMIT_S = 120.0


def folders(root: Path) -> list[str]:
    return ["--workspace", str(root / "w"), "--manifests", str(root / "m")]


def interrupted(command: list[str], when: Callable[[], bool]) -> str:
    """Start a command, send SIGINT to its group once `when` holds, and return what it wrote to standard error."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        end = time.monotonic() + LIMIT_S
        while not when():
            assert process.poll() is None and time.monotonic() < end, process.communicate()[1][-3000:]
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 130, errors[-3000:]
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert "Traceback" not in errors
    return errors


def num_lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_curate_ends_in_one_line_with_its_workers_and_goes_on(tmp_path: Path) -> None:
    source = ["--source", "scenes:3000@5", "--name", "toy"]
    command = [
        *CLI,
        *folders(tmp_path),
        "curate",
        "negclip",
        *source,
        "--no-prefect",
        "--workers",
        "2",
        "--model",
        "tiny",
    ]
    errors = interrupted(command, lambda: any((tmp_path / "w" / "store").rglob("*.parquet")))
    lines = errors.strip().splitlines()
    assert lines[-1] == STOPPED
    assert sum("stopped" in line for line in lines) == 1


@pytest.mark.slow
def test_train_writes_a_checkpoint_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    curate = ["curate", "clip", "--source", "scenes:60@5", "--name", "toy", "--no-prefect", "--workers", "1"]
    subprocess.run([*CLI, *folders(tmp_path), *curate], check=True, capture_output=True)
    settings = ["--steps", "40", "--set", "train.batch_size=8", "--set", "train.num_threads=1"]
    hashes = []
    for run in (tmp_path / "whole", tmp_path / "run"):
        command = [*CLI, *folders(tmp_path), "train", "toy@1", "--recipe", "clip", "--model", "tiny", "--out", str(run)]
        command += [*settings, "--set", "train.checkpoint_every=1000000", "--json"]
        if run.name == "run":
            errors = interrupted(command, lambda run=run: num_lines(run / "log.jsonl") > 2)  # type: ignore[misc]
            step = num_lines(run / "log.jsonl")
            assert 2 < step < 40
            assert f"checkpoint written after step {step} of 40" in errors
            assert errors.strip().splitlines()[-1] == f"{STOPPED} with --resume"
            command.append("--resume")
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        hashes.append(json.loads(ran.stdout)["weights_hash"])
    assert f"resumes after step {step} of 40" in ran.stderr
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("option", ["--workspace", "--manifests"])
def test_a_file_for_a_folder_is_named(tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    ran = subprocess.run([*CLI, option, str(tmp_path / "file"), "recipes"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert f"{option} {tmp_path / 'file'} is a file" in ran.stderr
