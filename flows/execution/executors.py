"""Executors: run units of work in this process or in a pool of worker processes that exit with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import ParamSpec, TypeVar

from curation.engine.engine import Executor, UnitReport, run_serially, run_unit
from curation.engine.replay import WorkUnit
from data_manifests.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_PARENT_CHECK_S = 1.0


@contextmanager
def local_executor(workers: int) -> Iterator[Executor]:
    """Yield an executor over `workers` processes (1: this process)."""
    if workers == 1:
        yield run_serially
        return
    with process_pool(workers) as pool:
        yield _PoolExecutor(pool)


@dataclass(frozen=True)
class _PoolExecutor:
    """Runs units in the processes of a pool."""

    pool: ProcessPoolExecutor

    def __call__(self, work: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
        """Run units; yield their reports as they come."""
        futures = [self.pool.submit(work, unit) for unit in units]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise worker_death_error() from None
        finally:
            for future in futures:
                future.cancel()

    def map(self, work: Callable[[T], R], values: Iterable[T]) -> Iterator[R]:
        """Call a function for each of many values, in the order of the values."""
        try:
            yield from self.pool.map(work, values)
        except BrokenProcessPool:
            raise worker_death_error() from None

    def start(self, unit: WorkUnit) -> Callable[[], UnitReport]:
        """Start a unit; return what waits for its report."""
        future = self.pool.submit(run_unit, unit)

        def wait() -> UnitReport:
            try:
                return future.result()
            except BrokenProcessPool:
                raise worker_death_error() from None

        return wait


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread, and for good in the processes and threads that it starts meanwhile."""
    _start_resource_tracker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Start the process that removes what killed processes leave in shared memory; it must not complain of them.

    multiprocessing would start it with the first worker, and unblock Ctrl-C afterwards.
    """
    name, quiet = "PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker"
    before = os.environ.get(name)
    os.environ[name] = f"{before},{quiet}" if before else quiet
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class _WorkerPool(ProcessPoolExecutor):
    """A process pool whose workers do not get Ctrl-C, which a terminal sends to all processes: the parent ends them."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a call; this may start a worker."""
        with interrupts_blocked():
            return super().submit(fn, *args, **kwargs)


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of new processes with one numerical thread each, which exit when this process does.

    After Ctrl-C they end at once: a unit that is not finished is computed again by the next run.
    """
    context = multiprocessing.get_context("spawn")
    with _WorkerPool(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


@contextmanager
def process_map(workers: int) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Yield what calls a function for each of many values, like `map`, in new processes that start with the first call.

    Args:
        workers: Processes; 1 means this one.
    """
    if workers == 1:
        yield map
        return
    with process_pool(workers) as pool:
        yield _PoolExecutor(pool).map


@contextmanager
def map_beside(runner: Executor, workers: int) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Yield what `process_map` does, in the processes of a local executor where there is one: they have started already."""
    if isinstance(runner, _PoolExecutor):
        yield runner.map
        return
    with process_map(workers) as processes:
        yield processes


def worker_death_error() -> InputError:
    """Return the error for a worker process that died without one of its own (most often: out of memory)."""
    return InputError(
        "a worker process was killed from outside, most often for lack of memory, or could not start",
        fix="run again with fewer --workers; finished batches are kept. A script of your own must be a file and make the "
        'call under `if __name__ == "__main__":`, since workers import it',
    )


def _start_worker(parent: int) -> None:
    """Set up one worker: one numerical thread, and an exit when the parent is gone."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_S)
        os._exit(1)  # the parent was killed, so its queues stay silent

    threading.Thread(target=watch, daemon=True).start()
