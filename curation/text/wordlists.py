"""Word lists: text files in ``wordlists/``, one entry a line, each list once; and which of them a module depends on.

Columns are separated by tabs. Empty lines and lines that start with ``#`` are comments.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from blake3 import blake3

from data_manifests.seeds import canonical

FOLDER = Path(__file__).with_name("wordlists")
_NAME = re.compile(r"\w+")
_ROOT = Path(__file__).parents[2]
_LOADED = re.compile(r'\bword_(?:rows|map|sets)\("(\w+)"')
_IMPORTED = re.compile(r"^\s*(?:from|import) (curation(?:\.\w+)*)(?: import (\([^)]*\)|.*))?", re.MULTILINE)


@cache
def word_rows(name: str) -> tuple[tuple[str, ...], ...]:
    """Return the rows of a list in the file's order.

    Raises:
        ValueError: a row stands twice, or a column is empty or has spaces around it.
    """
    path = FOLDER / f"{name}.txt"
    rows: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        row = tuple(line.split("\t"))
        if not all(column and column == column.strip() for column in row):
            raise ValueError(f"{path.name}, line {number}: a column is empty or has spaces around it")
        if row in rows:
            raise ValueError(f"{path.name}, line {number}: the same as line {rows[row]}")
        rows[row] = number
    return tuple(rows)


@cache
def word_map(name: str) -> Mapping[str, str]:
    """Return a list with two columns as a mapping from the first to the second, in the file's order."""
    rows = word_rows(name)
    found = dict((word, value) for word, value in rows)  # noqa: C402 - checks that there are two columns
    if len(found) != len(rows):
        raise ValueError(f"{name}.txt: a word has two values")
    return found


@cache
def word_sets(name: str, kind: str = "") -> Mapping[str, frozenset[str]]:
    """Return a list with two columns, the name of a set and a word, as sets by name.

    Args:
        name: The list.
        kind: Only the sets that are named ``kind:name``, by that last part.
    """
    found: dict[str, set[str]] = {}
    for label, word in word_rows(name):
        found.setdefault(label, set()).add(word)
    start = f"{kind}:" if kind else ""
    return {label.removeprefix(start): frozenset(found[label]) for label in found if label.startswith(start)}


@cache
def list_hashes(module: str) -> Mapping[str, str]:
    """Return the lists that a module and the modules of curation it imports load, and the hash of each one's rows.

    Read from the sources: every ``word_...("name")`` of every module that can be reached by imports, also by those
    inside functions. Comments in a list do not change its hash.
    """
    names: set[str] = set()
    visited: set[str] = set()
    waiting = {module}
    while waiting:
        visited |= waiting
        sources = [_source(one) for one in waiting]
        names.update(name for source in sources for name in _LOADED.findall(source))
        found = [match.groups("") for source in sources for match in _IMPORTED.finditer(source)]
        waiting = {name for name, _ in found} | {
            f"{name}.{item}" for name, items in found for item in _NAME.findall(items)
        }
        waiting -= visited
    return {name: blake3(canonical(word_rows(name))).hexdigest(length=8) for name in sorted(names)}


@cache
def _source(module: str) -> str:
    loaded = getattr(sys.modules.get(module), "__file__", None)
    path = Path(loaded) if loaded else _ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return path.read_text("utf-8") if path.is_file() else ""
