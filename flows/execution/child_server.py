"""A server in a child process: it prints its port once it listens, and ends when its input is closed or the parent is gone."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Mapping
from typing import IO


def start_child(
    module: str, *arguments: str, log: IO[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a module of ours as a child in a session of its own: Ctrl-C reaches the parent, which then stops the child.

    Args:
        module: What ``python -m`` runs.
        arguments: Its arguments.
        log: Receives what it writes to standard error.
        environment: Variables besides this process's.
    """
    path = os.pathsep.join(folder for folder in sys.path if folder)
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
    )


def read_port(process: subprocess.Popen[str], seconds: float) -> int | None:
    """Return the port that a child prints; None if it prints none in time."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    line = process.stdout.readline().strip() if ready else ""
    return int(line) if line.isdigit() else None


def stop_child(process: subprocess.Popen[str], seconds: float) -> None:
    """Stop a child by closing its input, or by force if it has not ended after some seconds."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
