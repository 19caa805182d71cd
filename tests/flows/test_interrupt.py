"""Ctrl-C, as a terminal sends it: SIGINT to every process of a command's group."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
STOPPED = "clipcurate: stopped; finished work is kept; the same command goes on"
LIMIT_S = 120.0


def folders(root: Path) -> list[str]:
    return ["--workspace", str(root / "w"), "--manifests", str(root / "m")]


def interrupted(command: list[str], when: Callable[[], bool], *, times: int = 1) -> str:
    """Start a command, send SIGINT to its group once `when` holds, and return what it wrote to standard error.

    Args:
        command: The command.
        when: Asked again and again while it runs.
        times: Signals sent, one tenth of a second after the other.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        end = time.monotonic() + LIMIT_S
        while not when():
            assert process.poll() is None and time.monotonic() < end, process.communicate()[1][-3000:]
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        for number in range(times):
            time.sleep(0.1 * number)
            os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=LIMIT_S)[1]
    ended = (
        {130, -signal.SIGINT} if times > 1 else {130}
    )  # a shell says 130 for both; the second hits Python's own exit
    assert process.returncode in ended, errors[-3000:]
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.6, 1.0, 2.0])
def test_while_a_command_starts_it_ends_in_one_line_too(tmp_path: Path, after_s: float) -> None:
    program = "import flows.cli.main; print('up', flush=True); flows.cli.main.main()"
    command = [CLI[0], CLI[1], program, *folders(tmp_path), "evaluate", "tiny", "--on", "scenes:3000@1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 130, errors[-3000:]
    lines = [line for line in errors.splitlines() if line.startswith("clipcurate: stopped")]
    assert len(lines) == 1
    assert "Traceback" not in errors


def test_an_import_that_fails_because_it_was_interrupted_is_a_stop(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, flows.cli.app as app\n"
        "def broken(*_):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT); signal.pause()\n"
        "    except KeyboardInterrupt: pass\n"
        "    raise AttributeError('half imported')\n"
        "app.app = broken\n"
        "app.run()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.splitlines()) == (130, [STOPPED])


def num_lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def curate_until_stored(root: Path, *options: str, times: int = 1) -> list[str]:
    """Curate until a result is stored, interrupt it, and return the lines of standard error that are not blank."""
    source = ("--source", "scenes:3000@5", "--name", "toy", "--model", "tiny")
    command = [*CLI, *folders(root), "curate", "negclip", *source, *options]
    errors = interrupted(command, lambda: any((root / "w" / "store").rglob("*.parquet")), times=times)
    return [line for line in errors.splitlines() if line.strip()]


@pytest.mark.slow
def test_curate_ends_in_one_line_with_its_workers_and_goes_on(tmp_path: Path) -> None:
    lines = curate_until_stored(tmp_path, "--no-prefect", "--workers", "2")
    assert lines[-1] == STOPPED
    assert sum("stopped" in line for line in lines) == 1


@pytest.mark.slow
def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    lines = curate_until_stored(tmp_path, "--no-prefect", "--workers", "2", times=2)
    assert lines[-1] in (
        STOPPED,
        "clipcurate: stopped at once; finished work is kept",
    )  # the first may have been enough
    assert sum("stopped" in line for line in lines) == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--workers", "1"), ("--workers", "2"), ("--workers", "2", "--runner", "dask")])
def test_a_flow_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    if "dask" in options:
        pytest.importorskip("distributed", reason="extra 'cluster' is not installed")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    lines = curate_until_stored(tmp_path, "--prefect", *options)
    assert len(lines) == 2
    assert lines[0].startswith("starting Prefect")
    assert lines[1] == STOPPED


@pytest.mark.slow
def test_a_schedule_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    start = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with subprocess.Popen(
        start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as server:
        try:
            wait_until(lambda: answers(f"{api}/health") is not None)
            monkeypatch.setenv("PREFECT_API_URL", api)
            command = [*CLI, *folders(tmp_path), "schedule", "negclip", "--source", "scenes:60@5", "--name", "toy"]
            errors = interrupted(
                [*command, "--model", "tiny", "--cron", "0 3 * * *"],
                lambda: answers(f"{api}/deployments/count", b"{}") == b"1",
            )
        finally:
            os.killpg(server.pid, signal.SIGTERM)
    lines = [line for line in errors.splitlines() if line.startswith("clipcurate:")]
    assert lines == [
        "clipcurate: stopped; finished work is kept; nothing runs on schedule until the same command runs again"
    ]


def answers(url: str, body: bytes | None = None) -> bytes | None:
    """Return what a local server answers, or None while it does not."""
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=5) as reply:
            return bytes(reply.read())
    except OSError:
        return None


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("prefect", [(), ("--prefect",)])
def test_train_writes_a_checkpoint_and_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    curate = ["curate", "clip", "--source", "scenes:60@5", "--name", "toy", "--no-prefect", "--workers", "1"]
    subprocess.run([*CLI, *folders(tmp_path), *curate], check=True, capture_output=True)
    settings = ["--steps", "40", "--set", "train.batch_size=8", "--set", "train.num_threads=1"]
    hashes = []
    for run in (tmp_path / "whole", tmp_path / "run"):
        command = [*CLI, *folders(tmp_path), "train", "toy@1", "--recipe", "clip", "--model", "tiny", "--out", str(run)]
        command += [*settings, "--set", "train.checkpoint_every=1000000", "--json"]
        if run.name == "run":
            errors = interrupted([*command, *prefect], lambda run=run: num_lines(run / "log.jsonl") > 2)  # type: ignore[misc]
            step = num_lines(run / "log.jsonl")
            assert 2 < step < 40
            assert f"checkpoint written after step {step} of 40" in errors
            assert errors.strip().splitlines()[-1] == f"{STOPPED} with --resume"
            command.append("--resume")
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        hashes.append(json.loads(ran.stdout)["weights_hash"])
    assert f"resumes after step {step} of 40" in ran.stderr
    assert hashes[0] == hashes[1]
