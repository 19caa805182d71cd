"""The items of a JSON array, or the members of an object, one at a time, however large the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from data_manifests.errors import InputError

MAX_ITEM_CHARS = 1 << 25
_CHUNK_CHARS = 1 << 20
_ENDS = frozenset(",]} \t\r\n")
_SPACE = re.compile(r"[ \t\r\n]*")


def read_items(path: Path) -> Iterator[Any]:
    """Yield the items of the array that a file holds.

    Raises:
        InputError: no JSON array, an item over `MAX_ITEM_CHARS`, or a file that is cut short or not UTF-8.
    """
    with _window(path, "one JSON array, as Visual Genome publishes it") as window:
        yield from window.items()


def read_members(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the members of the object that a file holds.

    Raises:
        InputError: no JSON object, a value over `MAX_ITEM_CHARS`, or a file that is cut short or not UTF-8.
    """
    with _window(path, "one JSON object, as it was published") as window:
        yield from window.members()


@contextmanager
def _window(path: Path, allowed: str) -> Iterator[_Window]:
    """Open a file to read through; what is not UTF-8 in it is an `InputError`."""
    with path.open(encoding="utf-8-sig") as file:
        window = _Window(path, file, allowed)
        try:
            yield window
        except UnicodeDecodeError as error:
            raise window.error("not UTF-8") from error


class _Window:
    """The part of a file in memory that is read and not yet used."""

    def __init__(self, path: Path, file: TextIO, allowed: str) -> None:
        self._path, self._file, self._allowed = path, file, allowed
        self._text, self._at, self._ended = "", 0, False
        self._number = 0

    def error(self, what: str) -> InputError:
        """Return the error for this place."""
        return InputError(
            f"{self._path}: {what}, at item {self._number + 1}",
            allowed=self._allowed,
            fix="fetch or unpack the file again; nothing was written",
        )

    def items(self) -> Iterator[Any]:
        """Yield the array's items."""
        if self._peek() != "[":
            raise self.error("no JSON array")
        self._at += 1
        if self._peek() == "]":
            return
        while True:
            self._peek()
            yield self._item()
            self._number += 1
            following = self._peek()
            if following not in {",", "]"}:
                raise self.error("neither a comma nor the array's end" if following else "the file is cut short")
            self._at += 1
            if following == "]":
                return

    def members(self) -> Iterator[tuple[str, Any]]:
        """Yield the object's members."""
        if self._peek() != "{":
            raise self.error("no JSON object")
        self._at += 1
        if self._peek() == "}":
            return
        while True:
            if self._peek() != '"':
                raise self.error("a name is not a text")
            name = self._item()
            if self._peek() != ":":
                raise self.error("no colon after a name")
            self._at += 1
            self._peek()
            yield name, self._item()
            self._number += 1
            following = self._peek()
            if following not in {",", "}"}:
                raise self.error("neither a comma nor the object's end" if following else "the file is cut short")
            self._at += 1
            if following == "}":
                return

    def _item(self) -> Any:
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except RecursionError as error:
                raise self.error("nested too deeply") from error
            except ValueError as error:
                # Broken and incomplete items look alike: read more, up to the largest item allowed.
                if self._ended:
                    raise self.error("not JSON, or the file is cut short") from error
            else:
                # A number may continue after the window's end: "1" of "12", but also "1." of "1.5".
                whole = self._text[end : end + 1] in _ENDS if isinstance(value, int | float) else end < len(self._text)
                if whole or self._ended:
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_ITEM_CHARS:
                raise self.error(f"not JSON, or an item of over {MAX_ITEM_CHARS} characters")
            self._more()

    def _peek(self) -> str:
        """Return the next character that is no space, or an empty string at the file's end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def _more(self) -> None:
        """Read on, each time as much as is in the window, so that a large item is not parsed too often."""
        waiting = self._text[self._at :]
        chunk = self._file.read(max(_CHUNK_CHARS, len(waiting)))
        self._ended = not chunk
        self._text, self._at = waiting + chunk, 0
