"""Options that a project's file or ``CLIPCURATE_...`` variables may set; the command line goes before them.

The order is: command line, variable, `clipcurate.toml`, default.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from data_manifests.errors import InputError
from flows.project_file import OPTIONS, ProjectFile, find_project, variable

_PROJECT = "clipcurate.project"


def setting(key: str, text: str, names: str = "", **more: Any) -> Any:
    """Return the option ``--key`` (or `names`), which its variable and the project's file may set, too; `text` is its help."""
    if key not in OPTIONS:
        raise KeyError(key)
    return typer.Option(names or f"--{key.replace('_', '-')}", envvar=variable(key), help=text, **more)


def take_project(ctx: typer.Context, path: Path | None) -> Path | None:
    """Read the project's file, and let its options be the defaults of all commands that have them; see `project_of`.

    Args:
        ctx: The command line's own context.
        path: The file; None for the one in the current directory or above.

    Raises:
        InputError: the file cannot be used.
    """
    if ctx.resilient_parsing or "--help" in sys.argv[1:]:  # completing a word, or asking for help, needs no file
        return path
    if path is not None and not path.is_file():
        raise InputError(f"--config {path}: there is no such file", allowed="a file such as clipcurate.toml")
    project = ctx.meta[_PROJECT] = find_project() if path is None else ProjectFile.open(path)
    if project is not None:
        ctx.default_map = _defaults(ctx.command, project.options)
    return path


def project_of(ctx: typer.Context) -> ProjectFile | None:
    """Return the project's file that a command uses; None if there is none."""
    found: ProjectFile | None = ctx.meta.get(_PROJECT)
    return found


def _defaults(command: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of a command and of those below it, as click takes them."""
    keys = {variable(key): key for key in options}
    found = {item.name: options[keys[item.envvar]] for item in command.params if item.envvar in keys}
    below = {name: _defaults(item, options) for name, item in getattr(command, "commands", {}).items()}
    return {**found, **below}


def describe_settings(project: ProjectFile | None) -> list[str]:
    """Return lines that say which file is used, what it sets, and which variables are set."""
    lines = [f"{project.path}" if project else "no clipcurate.toml here or above"]
    for key, value in (project.options if project else {}).items():
        over = f"; {variable(key)} goes before it" if os.environ.get(variable(key)) else ""
        lines.append(f"{key} = {_shown(value)} (line {project.line((key,)) if project else 0}{over})")
    given = {variable(key): os.environ.get(variable(key)) for key in OPTIONS}
    return lines + [f"{name}={_shown(value)}" for name, value in given.items() if value]


def _shown(value: Any) -> str:
    """Return a value without a password that stands in an address."""
    return re.sub(r"//[^/@]*@", "//...@", str(value))


def set_where(error: InputError, project: ProjectFile | None) -> list[str]:
    """Return a line for each option that an error names, or whose value it names, and that the command line did not set."""
    words = {word.partition("=")[0] for word in sys.argv[1:]}
    lines = []
    for key in OPTIONS:
        option, given = f"--{key.replace('_', '-')}", os.environ.get(variable(key))
        value = given or (project.options.get(key) if project else None)
        named = re.search(rf"{option}(?![\w-])", error.got) or (isinstance(value, str) and f"'{value}'" in error.got)
        if value is not None and named and option not in words:
            place = variable(key) if given or not project else f"{project.path}, line {project.line((key,))}"
            lines.append(f"  set in:  {place} ({option})")
    return lines


def command_text(ctx: typer.Context) -> str:
    """Return the command that runs, with the options that variables and the project's file set, for records."""
    parts = [_set_elsewhere(one) for one in (ctx.find_root(), ctx)]
    return shlex.join(["clipcurate", *parts[0], *sys.argv[1:], *parts[1]])


def _set_elsewhere(ctx: Any) -> Iterator[str]:
    for item in ctx.command.params:
        source = ctx.get_parameter_source(item.name or "")
        if source is not None and source.name in ("ENVIRONMENT", "DEFAULT_MAP"):
            value = ctx.params[item.name or ""]
            if isinstance(value, bool):
                yield from (item.opts if value else item.secondary_opts)[:1]
                continue
            for one in value if isinstance(value, (list, tuple)) else [value]:
                yield from (item.opts[0], str(one))
