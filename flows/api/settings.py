"""Arguments that a call leaves out come from ``CLIPCURATE_...`` variables and the project's file, as on the command line."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from data_manifests.errors import InputError
from flows.project_file import (
    FILE_VARIABLE,
    OPTIONS,
    ProjectFile,
    find_project,
    from_variable,
    misspelt_variables,
    variable,
)

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("clipcurate")
"""What a command would print as a note or warning is logged here as a warning."""


def with_settings(function: Callable[P, R]) -> Callable[P, R]:
    """Let variables and `clipcurate.toml` set the keyword arguments that a call leaves out; what the call says goes before them.

    An error that names such a value has a note that says where it was set.
    """
    signature = inspect.signature(function)
    keys = [name for name, item in signature.parameters.items() if item.kind is item.KEYWORD_ONLY and name in OPTIONS]

    @functools.wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        for name, close in misspelt_variables():
            log.warning("%s is no variable that is known; did you mean %s?", name, close)
        project = _project()
        found = {key: found for key in keys if key not in given and (found := _find(key, project)) is not None}
        try:
            return function(*args, **given, **{key: value for key, (value, _) in found.items()})
        except InputError as error:
            for note in _places(error, found):
                error.add_note(note)
            raise

    return call


def _project() -> ProjectFile | None:
    """Return the project's file: the one that the variable names, or the nearest one here or above.

    Raises:
        InputError: it cannot be used, or the one that is named is not there.
    """
    named = os.environ.get(FILE_VARIABLE)
    if not named:
        return find_project()
    if not Path(named).is_file():
        raise InputError(f"{FILE_VARIABLE}={named}: there is no such file", allowed="a file such as clipcurate.toml")
    return ProjectFile.open(Path(named))


def _find(key: str, project: ProjectFile | None) -> tuple[Any, str] | None:
    """Return an option's value and where it was set; None where it was not."""
    if (value := from_variable(key)) is not None:
        return value, variable(key)
    if project is not None and key in project.options:
        return project.options[key], f"{project.path}, line {project.line((key,))}"
    return None


def _places(error: InputError, found: Mapping[str, tuple[Any, str]]) -> list[str]:
    """Return a line for each value from elsewhere that an error names."""
    return [
        f"set in: {place} ({key})"
        for key, (value, place) in found.items()
        if any(f"{one}" in error.got for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))
    ]
