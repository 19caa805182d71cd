"""Real Prefect servers as processes of their own, what is asked of them, and waiting for both."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_S = 600


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, ready: Callable[[], bool], limit_s: float, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something is so; a busy server that does not answer in time is asked again until the limit."""
    end = time.monotonic() + limit_s
    while not answers_yes(ready):
        alive = process.poll() is None
        assert alive, f"{what}: process ended\n{log.read_text()[-3000:]}"
        assert time.monotonic() < end, f"{what}: not within {limit_s} s\n{log.read_text()[-3000:]}"
        time.sleep(0.5)


def answers_yes(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except TimeoutError:
        return False


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def real_server(environment: dict[str, str], log: Path) -> Iterator[str]:
    """Start Prefect's server; yield the address of its API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(server, environment, log) as process:
        wait_for("server", lambda: healthy(url), START_S, process, log)
        yield url


def ask(url: str, path: str, **body: Any) -> Any:
    """Ask the server as its own pages do: with a body, or none (GET)."""
    data = None if path.startswith("GET ") else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}{path.removeprefix('GET ')}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def runs_of(url: str, flow: str) -> list[dict[str, Any]]:
    """Return the runs of a flow, the newest first."""
    found = ask(url, "/flow_runs/filter", flows={"name": {"any_": [flow]}}, sort="START_TIME_DESC")
    return list(found)


def artifacts_of(url: str, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what a flow run left, by key."""
    found = ask(url, "/artifacts/filter", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    return {item["key"]: item for item in found}
