"""Plug-ins: recipes, stages, sources and parts of training from a file of the user's or from another installed package.

A package offers them as entry points, ``clipcurate.recipes`` and the other `GROUPS`; a file is named on the command line
wherever a name may be given: ``my_recipe.py`` or ``my_recipe.py:name``. Nothing of a plug-in is imported before it is used,
so that a broken one stops only the commands that use it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from data_manifests.errors import InputError
from data_manifests.plugin_files import file_hash, import_file

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

GROUPS = ("recipes", "stages", "sources", "objectives", "planners")
"""What packages may offer, each under ``clipcurate.GROUP``."""

_OUR_PACKAGES = ("clipcurate", "curation", "data_manifests", "flows", "training")
_OUR_FOLDERS = tuple(str(Path(__file__).parent.parent / name) for name in _OUR_PACKAGES)


class FileName(NamedTuple):
    """What the user wrote as ``FILE.py`` or ``FILE.py:REST``."""

    path: Path
    rest: str


def named_file(text: str) -> FileName | None:
    """Return the file that a text names before its first colon, and what follows; None if that is no Python file."""
    head, _, rest = text.partition(":")
    return FileName(Path(head), rest) if head.endswith(".py") else None


def open_file(path: Path, where: str) -> ModuleType:
    """Import a plug-in file.

    Args:
        path: The file.
        where: What an error begins with: the option, or the command.

    Raises:
        InputError: there is no such file, or it cannot be imported; the message has the line.
    """
    if not path.is_file():
        raise InputError(f"{where}{path}: no such file", allowed="an existing Python file", fix="check the path")
    try:
        return import_file(path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise plugin_error(
            f"{where}{path} cannot be imported",
            error,
            fix=f"correct it; python {path} shows every line of the way there",
        ) from error


def plugin_error(problem: str, error: BaseException, *, fix: str) -> InputError:
    """Return the error for an exception of a plug-in's code, with the last line of it that is not ours or Python's own."""
    place = ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}, line {error.lineno}: "
    elif own := [frame for frame in traceback.extract_tb(error.__traceback__) if _is_foreign(frame.filename)]:
        place = f"{own[-1].filename}, line {own[-1].lineno}: "
    said = str(error.msg if isinstance(error, SyntaxError) else error)
    return InputError(f"{problem}: {place}{type(error).__name__}" + (f": {said}" if said else ""), fix=fix)


def _is_foreign(filename: str) -> bool:
    return not filename.startswith(("<frozen", *_OUR_FOLDERS, str(Path(traceback.__file__).parent / "importlib")))


@cache
def offered(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Return what installed packages offer in a group, by name; imports nothing of them."""
    from importlib.metadata import entry_points

    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=f"clipcurate.{group}"):
        found.setdefault(point.name, {}).setdefault(f"{_offerer(point)} {point.value}", point)
    return {name: tuple(points.values()) for name, points in sorted(found.items())}


def load_offered(group: str, name: str) -> Any:
    """Return what a package offers under a name.

    Raises:
        InputError: several packages offer it, or it cannot be imported.
    """
    points = offered(group)[name]
    if len(points) > 1:
        raise InputError(
            f"{group[:-1]} '{name}' is offered by {' and by '.join(sorted(map(_offerer, points)))}",
            allowed="one package that offers this name",
            fix="uninstall the other, or name a file: FILE.py:NAME",
        )
    (point,) = points
    try:
        return point.load()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise plugin_error(
            f"{group[:-1]} '{name}' of {_offerer(point)} cannot be imported ({point.value})",
            error,
            fix="correct or update that package, or uninstall it",
        ) from error


def offerer(group: str, name: str) -> str:
    """Return who offers a name, for messages: distributions with their versions."""
    return ", ".join(map(_offerer, offered(group)[name]))


def _offerer(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def is_ours(value: Any) -> bool:
    """Return whether a class or function is part of clipcurate."""
    return str(value.__module__).partition(".")[0] in _OUR_PACKAGES and origin_file(value.__module__) is None


def origin_file(module: str) -> Path | None:
    """Return the file of a module that was imported from a user's file; None for any other module."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and module.startswith("data_manifests.plugin_files.") else None


@cache
def origin_of(module: str) -> dict[str, str]:
    """Return where a module comes from, without paths of this machine: distribution and version, or file and its hash."""
    top = module.partition(".")[0]
    if origin_file(module) is None and (found := _distribution_of(top)) is not None:
        return {"distribution": found.name, "version": found.version}
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():
        return {"file": "typed in, without a file"}
    return {"file": Path(file).name, "hash": file_hash(Path(file))}


def describe_origin(origin: Mapping[str, str]) -> str:
    """Return an origin in words."""
    if "distribution" in origin:
        return f"{origin['distribution']} {origin['version']}"
    return " ".join(origin.values()) or "clipcurate"


def place_of(value: Any) -> str:
    """Return where a class or function is written, for messages: file and line."""
    code = getattr(value, "__code__", None)
    file = getattr(sys.modules.get(value.__module__), "__file__", None) or value.__module__
    return f"{Path(file).name}, line {code.co_firstlineno}" if code else Path(file).name


def _distribution_of(top: str) -> Distribution | None:
    """Return the distribution that has a top-level module; one that offers plug-ins says so by its entry points."""
    points = (point for group in GROUPS for points in offered(group).values() for point in points)
    named = (point.dist for point in points if point.dist and point.module.partition(".")[0] == top)
    return next(named, None) or next(_listing(top), None)


def _listing(top: str) -> Iterator[Distribution]:
    """Yield distributions that say that a top-level module is theirs."""
    from importlib.metadata import distributions

    for found in distributions():
        if top in (found.read_text("top_level.txt") or "").split():
            yield found
