"""Searches for thousands of byte strings, or runs of words, in one pass over the data.

A table of 2^20 bits, indexed by a hash of four bytes, leaves about one position in a hundred; there, the first eight
bytes are looked up, and matches are compared in full. So the time hardly depends on the number of strings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

MIN_BYTES = 8
"""Shorter strings occur by chance; they are not searched for."""

_CHUNK_BYTES = 2 * 2**20
_BITS = 20
_FACTOR = np.uint32(2654435761)
MOST_BETWEEN_WORDS = 4096
"""Bytes that the words of one run may span where two chunks meet."""
_SIMPLIFIED = bytes(
    ord(chr(byte).lower()) if byte < 128 and chr(byte).isalnum() else byte if byte >= 128 else 32 for byte in range(256)
)
"""Byte -> what is compared: letters in lower case; what is no letter, digit or part of a UTF-8 letter is a space."""


class BytePatterns:
    """Byte strings, each with a label.

    Args:
        labels: Label of each string; strings under eight bytes are left out.
    """

    def __init__(self, labels: Mapping[bytes, str]) -> None:
        self.labels = {data: label for data, label in labels.items() if len(data) >= MIN_BYTES}
        self._by_start: dict[int, list[bytes]] = {}
        for data in sorted(self.labels):
            self._by_start.setdefault(int.from_bytes(data[:8], "little"), []).append(data)
        self._starts = np.array(sorted(self._by_start), dtype=np.uint64)
        self._table = np.zeros(1 << _BITS, dtype=bool)
        self._table[_hash(self._starts.astype(np.uint32))] = True
        self._overlap = max((len(data) for data in self.labels), default=1) - 1

    def __len__(self) -> int:
        return len(self.labels)

    def find(self, data: Any) -> Iterator[tuple[int, bytes]]:
        """Yield (position, string) of every occurrence in a buffer, in order of position."""
        view = memoryview(data).cast("B")
        if not self.labels:
            return
        for first in range(0, max(len(view) - MIN_BYTES + 1, 0), _CHUNK_BYTES):
            for at in self._candidates(view[first : first + _CHUNK_BYTES + MIN_BYTES - 1]):
                start = int.from_bytes(view[first + at : first + at + 8], "little")
                for pattern in self._by_start[start]:
                    if view[first + at : first + at + len(pattern)] == pattern:
                        yield first + at, pattern

    def _candidates(self, view: memoryview) -> list[int]:
        """Return positions whose first eight bytes begin a string."""
        count = len(view) - MIN_BYTES + 1
        if count <= 0:
            return []
        fours = np.ndarray((count,), "<u4", buffer=view, strides=(1,))
        found = np.flatnonzero(self._table[_hash(fours)])
        eights = np.ndarray((count,), "<u8", buffer=view, strides=(1,))[found]
        nearest = np.minimum(np.searchsorted(self._starts, eights), len(self._starts) - 1)
        positions: list[int] = found[self._starts[nearest] == eights].tolist()
        return positions

    @property
    def overlap_bytes(self) -> int:
        """Return how many bytes of a file's last block must be searched again with the next one."""
        return self._overlap


def words_only(text: str) -> str:
    """Return a text's words in lower case with one space between them, as `WordRuns` compares them."""
    return " ".join(text.encode().translate(_SIMPLIFIED).decode("utf-8", "replace").split())


def runs_of(texts: Iterable[str], length: int) -> set[str]:
    """Return every run of so many words of the texts, as `WordRuns` compares them."""
    split = [words_only(text).split() for text in texts]
    return {" ".join(words[at : at + length]) for words in split for at in range(len(words) - length + 1)}


class WordRuns:
    """Runs of words, found whatever the case and whatever stands between the words.

    The first and last word may be part of a longer one, because some formats store texts without anything between them.

    Args:
        runs: As `runs_of` returns them.
    """

    def __init__(self, runs: Iterable[str]) -> None:
        self._run_of = {form: run for run in runs for form in _forms(run)}
        self._patterns = BytePatterns(dict.fromkeys(self._run_of, ""))

    def find(self, data: Any) -> Iterator[tuple[int, str]]:
        """Yield (position, run) of every occurrence in a buffer."""
        view = memoryview(data).cast("B")
        for first in range(0, len(view) if self._run_of else 0, _CHUNK_BYTES):
            chunk = view[first : first + _CHUNK_BYTES + MOST_BETWEEN_WORDS].tobytes().translate(_SIMPLIFIED)
            letters = np.frombuffer(chunk, np.uint8)
            kept = np.flatnonzero((letters != 32) | np.append(letters[1:] != 32, True))
            for at, form in self._patterns.find(letters[kept]):
                if kept[at] < _CHUNK_BYTES:
                    yield first + int(kept[at]), self._run_of[form]


def _forms(run: str) -> set[bytes]:
    """Return a run in UTF-8, and as JSON that escapes other letters than ASCII's."""
    return {form.translate(_SIMPLIFIED) for form in (run.encode(), json.dumps(run).encode()[1:-1])}


def _hash(fours: Any) -> Any:
    return (fours * _FACTOR) >> np.uint32(32 - _BITS)
