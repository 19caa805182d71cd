"""The log of a run: a line of JSON per step, TensorBoard events, and a progress bar with the time left."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson

from data_manifests.atomic_files import write_atomically
from data_manifests.run_files import LOG_FILE
from training.log_hook import LogHook

T = TypeVar("T")
TIMES = frozenset({"step_s", "wait_s", "loader_stall"})
"""Fields of a line in which two otherwise equal runs may differ."""
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Writes `log.jsonl` and TensorBoard event files.

    Args:
        run: The run's folder.
        start_step: Lines of this step and later ones are removed: a resumed run writes them again.
        hook: A function that is told of each step as well.
    """

    def __init__(self, run: Path, start_step: int, hook: LogHook | None = None) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        path = run / LOG_FILE
        kept = [line for line in read_lines(path) if line["step"] < start_step]
        write_atomically(path, b"".join(orjson.dumps(line) + b"\n" for line in kept))
        self._file = open(path, "ab")  # noqa: SIM115 - closed by __exit__
        purge = start_step or None
        self._events = SummaryWriter(str(run / TENSORBOARD_FOLDER), purge_step=purge)
        self._hook, self._done, self._loss = hook, start_step, math.nan

    def write(self, step: int, record: Mapping[str, Any]) -> None:
        """Add one step's record; nested numbers become TensorBoard scalars named ``group/name``."""
        self._file.write(orjson.dumps({"step": step, **record}) + b"\n")
        self._file.flush()
        figures = dict(_scalars("", record))
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)
        self._done, self._loss = step + 1, record["loss"]
        if self._hook:
            self._hook.step(step, figures)

    def sync(self) -> None:
        """Flush everything to disk; called before a checkpoint, so that no checkpoint is ahead of the log."""
        os.fsync(self._file.fileno())
        self._events.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._events.close()
        if self._hook:
            stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
            self._hook.end(self._done, "stopped" if stopped else "failed" if kind else "done", self._loss)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log; a last line that a kill cut short is left out."""
    if not path.is_file():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _scalars(prefix: str, record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(f"{prefix}{name}/", value)
        else:
            yield f"{prefix}{name}", float(value)


class Clock:
    """How long a run's steps take, and how long they wait for data.

    Attributes:
        waited: Seconds spent waiting for batches so far, in this process.
        worked: Seconds spent in steps so far.
    """

    def __init__(self) -> None:
        self.waited = self.worked = 0.0
        self._now: tuple[float, float] = (0.0, 0.0)

    @property
    def stall(self) -> float:
        """Share of the time so far that was spent waiting, 0 to 1."""
        return self.waited / ((self.waited + self.worked) or 1.0)

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items; the time until each is there counts as waiting."""
        began = time.perf_counter()
        for item in items:
            now = time.perf_counter()
            self._now = (now - began, now)
            yield item
            began = time.perf_counter()

    def lap(self) -> dict[str, float]:
        """Return the times of the step that has just ended, for the log."""
        waited, began = self._now
        took = time.perf_counter() - began
        self.waited, self.worked = self.waited + waited, self.worked + took
        return {"step_s": round(took, 4), "wait_s": round(waited, 4), "loader_stall": round(self.stall, 4)}


class Display:
    """A progress bar on standard error for each piece of work, with the time left.

    Args:
        quiet: Show nothing, as ranks other than the first do.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
        )
        self._progress = progress.Progress(*columns, console=Console(stderr=True, quiet=quiet, force_jupyter=False))
        self._tasks: dict[str, Any] = {}

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, soft_wrap=True)

    def report(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done; fits `training.batches.activation_cache.ProgressReport`."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, note=note)
        self._progress.update(self._tasks[what], completed=done, note=note)

    @contextmanager
    def shown(self) -> Iterator[Display]:
        """Show the bars while the block runs."""
        with self._progress:
            yield self
