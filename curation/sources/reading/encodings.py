"""Encodings of text tables: UTF-8, UTF-16, and the Western European one that Windows writes; nothing else is guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from curation.sources import Note
from curation.sources.reading.files import base_name, shown

_PIECE_BYTES = 1 << 16
_CONTINUATIONS = bytes(range(0x80, 0xC0))
"""Bytes that go on a UTF-8 character."""
_LAST_CHARACTER = re.compile(rb"[\xc0-\xff][\x80-\xbf]*\Z")
"""In a piece of a long line, the last character may be cut in two."""

# Characters of cp1252 that captions in Western European languages have. Letters of Icelandic, Czech, Polish or Turkish
# are left out: text in their encodings would read as these.
_LETTERS = bytes([*range(0xC0, 0xD0), *range(0xD1, 0xD7), *range(0xD8, 0xDD), 0xDF, 0x8C, 0x9C])
_LETTERS += bytes([*range(0xE0, 0xF0), *range(0xF1, 0xF7), *range(0xF8, 0xFD)])
_QUOTES_AND_DASHES = b"\x85\x91\x92\x96\x97\xa0\xb4\xb7"
_SIGNS = b"\x80\x82\x84\x8b\x93\x94\x95\x99\x9b\xa1\xa3\xa7\xa9\xab\xae\xb0\xb1\xb2\xb3\xba\xbb\xbc\xbd\xbe\xbf\xd7"
_WESTERN = frozenset([*range(128), *_LETTERS, *_QUOTES_AND_DASHES, *_SIGNS])
_SIGN_IN_WORD = re.compile(rf"[^\W\d_][{_SIGNS.decode('cp1252')}][^\W\d_]")


def encoding_of(path: Path) -> str:
    """Return a text file's encoding: ``utf-8``, a kind of ``utf-16``, or ``cp1252``.

    UTF-16 is what the first bytes show. cp1252, of which Latin-1 is a part, is a file in which no line is UTF-8 with
    other letters than ASCII and all such lines read like a Western European language. Other encodings are not guessed:
    captions are too short to tell them from each other.
    """
    return _examine(path)[0]


def notes_on(paths: Iterable[Path]) -> Iterator[Note]:
    """Yield a note for each text file whose encoding was guessed, with an example to check the guess by."""
    for path in paths:
        encoding, example = _examine(path)
        if encoding == "cp1252":
            yield Note(
                f"{base_name(path)} is not UTF-8; it was read as Western European text (Windows-1252), for example: "
                f"{shown(example)}. If that is wrong, convert it: iconv -f ENCODING -t UTF-8"
            )


def decoded(data: bytes) -> str:
    """Return text in UTF-8, or in UTF-16 where its first bytes show that, without a byte order mark.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return data.decode(utf16_of(data[:4]) or "utf-8-sig").removeprefix("\ufeff")


def utf16_of(start: bytes) -> str | None:
    """Return the UTF-16 encoding that a file's first bytes show, or None."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(start) == 4 and (start[0] == 0) != (start[1] == 0) and start[0::2].count(0) + start[1::2].count(0) == 2:
        return "utf-16-be" if start[0] == 0 else "utf-16-le"
    return None


def _examine(path: Path) -> tuple[str, str]:
    """Return a file's encoding, and the first line with other letters than ASCII when it is ``cp1252``."""
    found = path.stat()
    return _read_through(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=32)
def _read_through(path: Path, _size: int, _mtime: int) -> tuple[str, str]:
    """Return what `_examine` does; a file is read again when it changes."""
    with path.open("rb") as file:
        if encoding := utf16_of(file.read(4)):
            return encoding, ""
        file.seek(0)
        example, is_cut = "", False
        for piece in iter(lambda: file.readline(_PIECE_BYTES), b""):
            line = piece.lstrip(_CONTINUATIONS) if is_cut else piece
            is_cut = len(piece) == _PIECE_BYTES and not piece.endswith(b"\n")
            line = _LAST_CHARACTER.sub(b"", line) if is_cut else line
            if line.isascii():
                continue
            if _is_utf8(line) or not _is_western(line):
                return "utf-8", ""
            example = example or line.decode("cp1252").strip()
    return ("cp1252", example) if example else ("utf-8", "")


def _is_utf8(line: bytes) -> bool:
    """Return whether a line is UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_western(line: bytes) -> bool:
    """Return whether a line reads in cp1252 like a Western European language.

    At most two in three letters of its words are not ASCII, and no sign such as a pound sign is in a word.
    """
    if not _WESTERN.issuperset(line):
        return False
    text = line.decode("cp1252")
    words = re.findall(r"[^\W\d_]{3,}", text)
    return not _SIGN_IN_WORD.search(text) and all(3 * sum(c > "\x7f" for c in word) <= 2 * len(word) for word in words)
