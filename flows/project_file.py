"""``clipcurate.toml``: what a project sets once for all commands, and the tables that parts of clipcurate read from it.

The file is found upwards from the current directory. At its top stand options by their names on the command line, with ``_`` for
``-``; below, tables by name, each read by the part that it is for::

    workspace = "ws"              # relative paths are relative to the file
    workers = 4

    [deployments.nightly]
    cron = "0 3 * * *"

A part reads its tables so::

    project = find_project()
    for name, table in project.tables("deployments").items() if project else ():
        values = table.read({"cron": TEXT, "limit": COUNT}, required=("cron",))

Imports nothing heavy.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_manifests import torchvision_cpu
from data_manifests.errors import InputError, nearest

FILE_NAME = "clipcurate.toml"
TABLES = ("deployments",)
"""Tables that the file may have; each holds tables by name, as in ``[deployments.nightly]``."""

PREFIX = "CLIPCURATE_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
OTHER_VARIABLES = (FILE_VARIABLE, f"{PREFIX}LLM_KEY", torchvision_cpu.SWITCH)
"""Variables that are no options of commands."""

_MAX_BYTES = 1 << 18


@dataclass(frozen=True)
class ValueKind:
    """What a key's value may be.

    Attributes:
        words: The same for people.
        fits: Whether a value read from TOML may stand there.
        resolve: The value as it is used; gets the file's folder.
        read_text: The value that a variable's text stands for; raises `ValueError` if it is none.
    """

    words: str
    fits: Callable[[Any], bool]
    resolve: Callable[[Path, Any], Any] = lambda _, value: value
    read_text: Callable[[str], Any] = str


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any, least: float = 0) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= least


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(one) for one in value)


def _absolute(folder: Path, text: str) -> str:
    return str(folder / Path(text).expanduser())


def _model(folder: Path, text: str) -> str:
    """Return a model or graph as it is meant in a file of this folder: a bare word is a name, ``./word`` a path."""
    before, colon, last = text.rpartition(":")
    return f"{before}{colon}{_path_if_there(folder, last, last.strip('/').count('/') + last.count('.') > 0)}"


def _source(folder: Path, text: str) -> str:
    """Return ``KIND:PATH`` as it is meant in a file of this folder; a path that is not there stays as it is written."""
    if text.startswith(("http:", "https:", "s3:")):
        return text
    spec, mark, more = re.fullmatch(r"(.*?)(?:([?#])(.*))?", text, re.DOTALL).groups("")  # type: ignore[union-attr]
    more = re.sub(r"(?<![^&])images=([^&#]+)", lambda found: f"images={_path_if_there(folder, found[1])}", more)
    first, *linked = spec.split("::")
    kinds, path = re.fullmatch(r"((?:[a-z_]+:)*)(.*)", first, re.DOTALL).groups()  # type: ignore[union-attr]
    paths = [kinds + _path_if_there(folder, path), *(_path_if_there(folder, target) for target in linked)]
    return f"{'::'.join(paths)}{mark}{more}"


def _function(folder: Path, text: str) -> str:
    """Return ``FILE.py:FUNCTION`` as it is meant in a file of this folder; a module's name stays."""
    place, colon, name = text.rpartition(":")
    return f"{_absolute(folder, place)}{colon}{name}" if place.endswith(".py") else text


def _path_if_there(folder: Path, text: str, may_be: bool = True) -> str:
    explicit = text.startswith(("./", "../", "~/"))
    return _absolute(folder, text) if explicit or (may_be and text and (folder / text).exists()) else text


TEXT = ValueKind("a text in quotes", _is_text)
WHOLE = ValueKind(
    "a whole number, 0 or more", lambda value: isinstance(value, int) and _is_number(value), read_text=int
)
COUNT = ValueKind(
    "a whole number, 1 or more", lambda value: isinstance(value, int) and _is_number(value, 1), read_text=int
)
NUMBER = ValueKind("a number, 0 or more", _is_number, read_text=float)
SWITCH = ValueKind("true or false", lambda value: isinstance(value, bool))
PATH = ValueKind("a path in quotes", _is_text, _absolute)
MODEL = ValueKind("a text in quotes", _is_text, _model)
SOURCE = ValueKind("a text KIND:PATH in quotes", _is_text, _source)
TEXTS = ValueKind('texts in brackets, such as ["a", "b"]', _are_texts)
SOURCES = ValueKind(
    'texts in brackets, such as ["KIND:PATH"]',
    _are_texts,
    lambda folder, value: [_source(folder, one) for one in value],
    str.split,
)
FUNCTION = ValueKind("a text FILE.py:FUNCTION or MODULE:FUNCTION in quotes", _is_text, _function)
TABLE = ValueKind("a table", lambda value: isinstance(value, dict))

OPTIONS: Mapping[str, ValueKind] = {
    "workspace": PATH,
    "manifests": PATH,
    "model": MODEL,
    "graph": MODEL,
    "llm": MODEL,
    "llm_slots": COUNT,
    "masked_model": MODEL,
    "vocabulary": PATH,
    "language": TEXT,
    "against": SOURCES,
    "workers": WHOLE,
    "runner": TEXT,
    "prefect": SWITCH,
    "wait": NUMBER,
    "shard_mb": COUNT,
    "bands": WHOLE,
    "log_to": FUNCTION,
    "verbose": SWITCH,
}
"""Options that a file (and ``CLIPCURATE_...`` variables) may set for all commands that have them."""


@dataclass(frozen=True)
class ProjectTable:
    """A table of the file.

    Attributes:
        file: The file.
        names: The table's name, from the top down; none for the file itself.
        content: Its keys and values.
    """

    file: ProjectFile
    names: tuple[str, ...]
    content: Mapping[str, Any]

    def read(self, kinds: Mapping[str, ValueKind], required: Collection[str] = ()) -> dict[str, Any]:
        """Return the table's values by key, with paths relative to the file made absolute.

        Args:
            kinds: Keys that the table may have, and what each may be. A `TABLE` is returned as it is; see `table`.
            required: Keys that it must have.

        Raises:
            InputError: another key, a value of another type, or one that is missing; the message has file, line and key.
        """
        for key, value in self.content.items():
            if key not in kinds:
                hint = nearest(key.replace("-", "_"), kinds) or "remove it"
                raise self.error(key, "there is no such key", allowed=", ".join(kinds), fix=hint)
            if not kinds[key].fits(value):
                raise self.error(key, f"got {_written(value)}", allowed=kinds[key].words, fix=f"{key} = ...")
        for key in required:
            if key not in self.content:
                raise self.error("", f"'{key}' is missing", allowed=f"{key}: {kinds[key].words}", fix="add it")
        return {key: kinds[key].resolve(self.file.path.parent, value) for key, value in self.content.items()}

    def table(self, key: str) -> ProjectTable:
        """Return a table in this one; empty if it is not there.

        Raises:
            InputError: something else stands there.
        """
        value = self.content.get(key, {})
        if not isinstance(value, dict):
            name = ".".join((*self.names, key))
            raise self.error(
                key, f"got {_written(value)}", allowed=f"[{name}] and keys below it", fix="make it a table"
            )
        return ProjectTable(self.file, (*self.names, key), value)

    def error(self, key: str, got: str, *, allowed: str = "", fix: str = "") -> InputError:
        """Return the error of a key of this table, or of the table itself (empty); its message has file, line and key."""
        path = (*self.names, key) if key else self.names
        return InputError(
            f"{self.file.path}, line {self.file.line(path)}, {'.'.join(path)}: {got}", allowed=allowed, fix=fix
        )


@dataclass(frozen=True)
class ProjectFile:
    """A project's file, read as TOML.

    Attributes:
        path: The file, absolute.
        text: Its text.
        content: Its keys and values, unchecked.
    """

    path: Path
    text: str
    content: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> ProjectFile:
        """Read a file, and check the keys at its top.

        Raises:
            InputError: it cannot be read, is no TOML, or has an unknown key or a value of the wrong type at its top.
        """
        try:
            data = path.read_bytes()
            if len(data) > _MAX_BYTES:
                raise InputError(f"{path}: {len(data):,} bytes", allowed=f"at most {_MAX_BYTES:,} bytes")
            text = data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {error}", allowed="a text file in UTF-8") from None
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            where = str(error).replace("at end of document", f"at line {text.rstrip().count(chr(10)) + 1}, the end")
            raise InputError(
                f"{path}: not TOML: {where}", allowed="TOML", fix="quote every text, close every bracket"
            ) from None
        found = cls(path.absolute(), text, content)
        found._top.read({**OPTIONS, **dict.fromkeys(TABLES, TABLE)})
        return found

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """The options that the file sets, by name."""
        given = self._top.read({**OPTIONS, **dict.fromkeys(TABLES, TABLE)})
        return {key: value for key, value in given.items() if key in OPTIONS}

    def tables(self, kind: str) -> dict[str, ProjectTable]:
        """Return the tables ``[KIND.NAME]`` by name; `kind` is one of `TABLES`.

        Raises:
            InputError: something else stands there.
        """
        table = self._top.table(kind)
        return {name: table.table(name) for name in table.content}

    def line(self, names: tuple[str, ...]) -> int:
        """Return the number of the line in which a key or table is first mentioned; 1 for the file itself."""
        if not names:
            return 1
        lines = self.text.split("\n")
        before = 0
        for number in range(1, len(lines) + 1):
            try:
                content: Any = tomllib.loads("\n".join(lines[:number]) + "\n")
            except tomllib.TOMLDecodeError:
                continue  # in the middle of a value
            if _has(content, names):
                return before + 1 + _comments(lines[before:number])
            before = number
        return 1

    @property
    def _top(self) -> ProjectTable:
        return ProjectTable(self, (), self.content)


def find_project() -> ProjectFile | None:
    """Return the project's file in the current folder or the nearest above it; None if there is none.

    Raises:
        InputError: the file cannot be used.
    """
    folder = Path.cwd()
    for above in (folder, *folder.parents):
        if (above / FILE_NAME).is_file():
            return ProjectFile.open(above / FILE_NAME)
    return None


def variable(key: str) -> str:
    """Return the name of the variable that sets an option."""
    return PREFIX + key.upper()


def from_variable(key: str) -> Any:
    """Return what an option's variable says, as the file would; None without one, or an empty one.

    Raises:
        InputError: it says something else than the option may be.
    """
    name, kind = variable(key), OPTIONS[key]
    if not (text := os.environ.get(name)):
        return None
    try:
        value = kind.read_text(text)
    except ValueError:
        value = None
    if value is None or not kind.fits(value):
        raise InputError(f"{name}={text!r}", allowed=kind.words, fix=f"correct or unset {name}")
    return value


def misspelt_variables() -> Iterator[tuple[str, str]]:
    """Yield variables that no option has, each with the one that it resembles."""
    known = [*map(variable, OPTIONS), *OTHER_VARIABLES]
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            for close in difflib.get_close_matches(name, known, n=1, cutoff=0.85):
                yield name, close


def _written(value: Any) -> str:
    """Return a value about as it stands in the file."""
    text = str(value).lower() if isinstance(value, bool) else "a table" if isinstance(value, dict) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _has(content: Any, names: tuple[str, ...]) -> bool:
    for name in names:
        if not isinstance(content, dict) or name not in content:
            return False
        content = content[name]
    return True


def _comments(lines: list[str]) -> int:
    """Return how many empty lines and comments stand before the first other one."""
    return next((n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
