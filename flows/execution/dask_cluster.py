"""Dask: units of work on the workers of a local or an existing cluster.

Workers need clipcurate and the same folders under the same paths, and nothing else of the caller: no Prefect, no working
directory, no environment.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor as Pool
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data_manifests.errors import InputError
from data_manifests.plugin_files import FOLDERS
from flows.execution.executors import interrupts_blocked, worker_death_error

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_S = 8.0


@contextmanager
def dask_pool(runner: str, workers: int, folder: Path) -> Iterator[Pool]:
    """Yield the workers of ``dask`` (a cluster on this machine that ends with the block) or ``dask:ADDRESS``.

    Args:
        runner: What ``--runner`` says.
        workers: Processes of a cluster on this machine.
        folder: Absolute path of a folder that all workers must see.

    Raises:
        InputError: another word, Dask is not installed, or the cluster cannot be used.
    """
    kind, _, address = runner.partition(":")
    if kind != "dask":
        raise InputError(f"--runner {runner!r}", allowed="local, dask or dask:ADDRESS (tcp://host:8786)")
    try:
        from distributed import Client, KilledWorker, LocalCluster
    except ModuleNotFoundError:
        raise InputError("--runner dask: Dask is not installed", fix="pip install 'clipcurate[cluster]'") from None
    with ExitStack() as stack:
        if address:
            client = stack.enter_context(_connect(Client, address))
            _check_workers(client, address, folder)
        else:
            options = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
            with interrupts_blocked():  # the cluster's thread starts its workers, and they inherit this
                cluster = stack.enter_context(LocalCluster(**options))  # type: ignore[no-untyped-call]
            client = stack.enter_context(Client(cluster))  # type: ignore[no-untyped-call]
        if FOLDERS:
            client.run(see_folders, FOLDERS)
            client.run_on_scheduler(see_folders, FOLDERS)  # it reads units, too
        try:
            yield client.get_executor(pure=False)
        except KilledWorker:
            raise worker_death_error() from None


def _connect(client: type[Client], address: str) -> Client:
    try:
        return client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:  # a time-out is an OSError
        raise InputError(
            f"--runner dask:{address}: no Dask scheduler can be used there: {error}",
            allowed="the address of a running scheduler, such as tcp://host:8786",
            fix="start it (dask scheduler), or take --runner dask for a cluster on this machine",
        ) from None


def _check_workers(client: Client, address: str, folder: Path) -> None:
    """Check that there are workers, with this clipcurate, that see the folder."""
    try:
        client.wait_for_workers(1, timeout=_CONNECT_S)
    except TimeoutError:
        raise InputError(
            f"--runner dask:{address}: the scheduler has no workers", fix=f"start some (dask worker {address})"
        ) from None
    try:
        found = client.run(describe_worker, str(folder))
    except ImportError as error:
        raise InputError(
            f"--runner dask:{address}: a worker cannot import clipcurate: {error}",
            allowed="workers in environments with the same clipcurate",
            fix="install it there: pip install 'clipcurate[cluster]'",
        ) from None
    for worker, (version, seen) in found.items():
        if version != importlib.metadata.version("clipcurate") or not seen:
            raise InputError(
                f"--runner dask:{address}: worker {worker} "
                + (f"does not see {folder}" if not seen else f"has clipcurate {version}"),
                allowed=f"workers with clipcurate {importlib.metadata.version('clipcurate')} that see {folder}",
                fix="install the same version there, and share the folder under the same path",
            )


def see_folders(folders: Sequence[str]) -> None:
    """Let a process import what lies beside the files of the user's own; what it has itself counts first."""
    sys.path += [folder for folder in folders if folder not in sys.path]


def describe_worker(folder: str) -> tuple[str, bool]:
    """Return a worker's version of clipcurate, and whether it sees a folder."""
    return importlib.metadata.version("clipcurate"), Path(folder).is_dir()
