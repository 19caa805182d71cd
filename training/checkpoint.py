"""Files of a run besides its log: what it is (`run.json`, `plan.parquet`), its checkpoint, and how it ended."""

from __future__ import annotations

import importlib.metadata
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import orjson
from blake3 import blake3

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.image_decoder import DECODER_VERSION
from data_manifests.interrupt import end_at_once
from data_manifests.run_files import CHECKPOINT_FILE, DONE_FILE, LOG_FILE, PLAN_FILE, RUN_FILE

if TYPE_CHECKING:
    from training.batches.plan import BatchPlan

LOCK_FILE = ".lock"
PACKAGES = ("numpy", "open_clip_torch", "peft", "pillow", "timm", "torch", "transformers")
FREE = frozenset({"config.readers"})
"""Options that change no result: a resumed run may have others."""
COMPARED = ("manifest", "model", "recipe", "config", "plan")
"""Parts of run.json that a resumed run must share; package versions are recorded, not compared."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run: Its folder.
        steps: Optimiser steps made in all.
        loss: Loss of the last step.
        weights_hash: BLAKE3-128 over the trained weight files: equal for equal runs.
    """

    run: Path
    steps: int
    loss: float
    weights_hash: str


def package_versions() -> dict[str, str]:
    """Return the versions of Python, of the packages that compute, and of the image decoder."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": python, "image decoder": str(DECODER_VERSION)} | packages


@contextmanager
def run_folder(run: Path, resume: bool) -> Iterator[None]:
    """Lock a run's folder for this process; a new run that cannot begin (input that cannot be used) leaves none.

    Raises:
        InputError: the folder is not empty and `resume` is off, or another process trains in it.
    """
    from filelock import FileLock, Timeout

    if run.exists() and (not run.is_dir() or (not resume and any(run.iterdir()))):
        raise InputError(
            f"{run} exists already",
            allowed="an empty or new folder for a new run",
            fix="--resume to go on with it, or another --out",
        )
    made = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(run / LOCK_FILE).acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{run}: another process trains in this folder", fix="wait for it, or use another --out"
        ) from None
    with lock:
        try:
            yield
        except InputError:
            if not resume and not (run / LOG_FILE).exists():
                for name in (RUN_FILE, PLAN_FILE, LOCK_FILE):
                    (run / name).unlink(missing_ok=True)
                if made:
                    run.rmdir()
            raise


def begin_run(run: Path, identity: Mapping[str, Any], plan: BatchPlan | None) -> None:
    """Record what a run is, or check that a resumed one is still the same; a plan that is made as it goes is None.

    Raises:
        InputError: the folder holds a run of something else; the message names what differs.
    """
    path = run / RUN_FILE
    if not path.is_file():
        if plan is not None:
            plan.save(run / PLAN_FILE)
        write_atomically(path, orjson.dumps(identity, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        return
    before = _read_json(path)
    now = orjson.loads(orjson.dumps(identity))
    differing = [line for part in COMPARED for line in _differences(part, before.get(part), now[part])]
    if differing:
        raise InputError(
            f"{run} cannot be resumed, it is another run: " + "; ".join(differing),
            allowed="the same data set version, model, recipe and options as when it was started",
            fix="give them, or start a new run with another --out",
        )
    if plan is not None and type(plan).load(run / PLAN_FILE).fingerprint != plan.fingerprint:
        raise InputError(f"{run / PLAN_FILE}: not the plan that run.json names", fix="start a new run")


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Let the block end before Ctrl-C is handled, so that a checkpoint holds whole steps; a second Ctrl-C does not wait."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C is ignored, or not for this thread
        return
    pressed = False

    def remember(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, end_at_once)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        before(signal.SIGINT, None)


def save_checkpoint(run: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint: tensors, numbers, strings, lists and dicts only; the old or the new one is there, whole."""
    import torch

    buffer = BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(run / CHECKPOINT_FILE, buffer.getvalue())


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """Return the last checkpoint's state, or None when there is none yet.

    Raises:
        InputError: the file is damaged, or holds anything but plain data.
    """
    import pickle

    import torch

    path = run / CHECKPOINT_FILE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: damaged checkpoint: {error}", fix="delete the run folder and start again") from None
    return state


def finish_run(run: Path, steps: int, loss: float) -> None:
    """Record that a run is done; its model files are there already."""
    record = {"steps": steps, "loss": loss, "weights_hash": weights_hash(run)}
    write_atomically(run / DONE_FILE, orjson.dumps(record, option=orjson.OPT_INDENT_2))


def finished_run(run: Path) -> RunResult | None:
    """Return the result of a run that is done, None for any other.

    Raises:
        InputError: its weights are not those it ended with.
    """
    path = run / DONE_FILE
    if not path.is_file():
        return None
    record = _read_json(path)
    result = RunResult(run, record["steps"], record["loss"], record["weights_hash"])
    if weights_hash(run) != result.weights_hash:
        raise InputError(f"{run}: its weight files changed after it ended", fix="train again into another --out")
    return result


def result_of(run: Path) -> RunResult:
    """Return the result of a run that is done.

    Raises:
        InputError: this process does not see the file that says so.
    """
    result = finished_run(run)
    if result is None:
        raise InputError(f"{run / DONE_FILE} is not there", fix="give all ranks a run folder that they share")
    return result


def weights_hash(run: Path) -> str:
    """Return BLAKE3-128 (hex) over names and bytes of a run's trained weights."""
    digest = blake3()
    for path in sorted(run.rglob("*.safetensors")):
        digest.update(path.relative_to(run).as_posix().encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest(length=16)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}", fix="start a new run") from None
    return record


def _differences(name: str, before: Any, now: Any) -> list[str]:
    """Return one line per differing leaf: ``config.lr was 5e-05, is 0.0001``."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [line for key in keys for line in _differences(f"{name}.{key}", before.get(key), now.get(key))]
    return [] if before == now or name in FREE else [f"{name} was {before!r}, is {now!r}"]
