"""What stands after ``?`` in ``--source KIND:PATH?NAME=VALUE&NAME=VALUE``: column names, and folders, of the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from data_manifests.errors import InputError, nearest

COLUMN_OPTIONS = ("image", "caption", "split")
"""Options of sources that read tables: the columns with the image, with captions (repeatable) and with the split."""
REPEATABLE = ("caption",)

Query = Mapping[str, tuple[str, ...]]
"""Option -> its values, in the order given."""

_QUERY = re.compile(r"\?([A-Za-z_]+=[^&?]*(?:&[A-Za-z_]+=[^&?]*)*)\Z")
"""A ``?`` of a file pattern is not followed by ``NAME=VALUE``."""


def take_query(kind: str, path: str, allowed: tuple[str, ...]) -> tuple[str, Query]:
    """Return a source's path without its options, and the options.

    ``%26`` in a value stands for ``&``, and so on, as in web addresses; ``+`` stands for itself.

    Args:
        kind: The source's kind, for error messages.
        path: The text after ``KIND:``. One that exists has no options.
        allowed: Options that the kind has.

    Raises:
        InputError: an option is unknown, empty, or given twice although it has one value.
    """
    found = _QUERY.search(path)
    if not found or Path(path).exists():
        return path, {}
    spec, options = path[: found.start()], dict[str, tuple[str, ...]]()
    for part in found[1].split("&"):
        name, _, value = part.partition("=")
        given = f"--source {kind}:{path}"
        if name not in allowed:
            raise InputError(
                f"{given}: unknown option {name!r}",
                allowed=", ".join(f"{item}=..." for item in allowed) or f"{kind} has no options",
                fix=nearest(name, allowed) or "leave it out",
            )
        if not value or (name in options and (name not in REPEATABLE or unquote(value) in options[name])):
            raise InputError(
                f"{given}: {name} {'is given twice' if value else 'has no value'}",
                allowed=f"{name}=VALUE" + (" once or several times, each with another value" * (name in REPEATABLE)),
                fix=f"for example --source {kind}:{spec}?{name}=VALUE",
            )
        options[name] = (*options.get(name, ()), unquote(value))
    return spec, options


def split_query(path: str) -> tuple[str, str]:
    """Return a path without its options, and the options with their ``?``."""
    found = _QUERY.search(path)
    return (path[: found.start()], found[0]) if found else (path, "")


def written_query(query: Query) -> str:
    """Return options as text that is equal only for equal options."""
    return "&".join(f"{name}={value!r}" for name in sorted(query) for value in query[name])
