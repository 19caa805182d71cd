"""Finds captions of different photographs that are nearly the same: one span of words differs, or two spans changed places.

Captions are compared by their words in lower case, without punctuation, articles and forms of "be". Two captions differ
in one span if they have the same words before and after it, so each caption is entered under the hashes of (words
before, words after) of each of its spans; captions that share an entry are compared word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

MAX_SPAN = 4
"""Most words of a span."""
MIN_KEPT = 3
"""Fewest words that two captions share; never fewer than a span has."""
MAX_WORDS = 40
"""Captions with more words are left out."""
MAX_GROUP = 64
"""Captions with equal words around a span that are compared with one another."""
ENTRIES_AT_ONCE = 1 << 22
"""Entries that are sorted at once, 32 bytes each: memory stays bounded however many captions there are."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_LEFT_OUT = frozenset({"a", "an", "the", "is", "are", "was", "were"})

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]
Span = tuple[int, int]
"""Words of a caption: the first one, and one past the last."""


class CaptionWords(NamedTuple):
    """The words of a caption that are compared, and where each begins and ends in the caption."""

    words: tuple[str, ...]
    places: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two captions that are nearly the same.

    Attributes:
        one: Number of the first caption.
        other: Number of the second one; larger.
        span: The words of the first one that differ.
        other_span: The words of the second one that differ.
        exchanged: Whether two spans changed places; `span` then covers both and what lies between them.
    """

    one: int
    other: int
    span: Span
    other_span: Span
    exchanged: bool = False


def read_words(caption: str) -> CaptionWords:
    """Return the words of a caption that are compared."""
    found = [(match[0].lower(), match.span()) for match in _WORD.finditer(caption)]
    kept = [(word, place) for word, place in found if word not in _LEFT_OUT]
    return CaptionWords(tuple(word for word, _ in kept), tuple(place for _, place in kept))


def near_pairs(
    captions: Sequence[Sequence[str]], photographs: Sequence[int], rank: Sequence[int]
) -> Iterator[NearPair]:
    """Yield all pairs of captions of different photographs that differ in one span or by one exchange, each once.

    A caption that another one continues or cuts short differs in no pair of spans and is left out: it would be true
    of both photographs.

    Args:
        captions: The words of each caption.
        photographs: The photograph of each caption.
        rank: Of more than `MAX_GROUP` captions with equal words around a span, those with the lowest rank are compared.
    """
    numbers = [number for number, words in enumerate(captions) if MIN_KEPT < len(words) <= MAX_WORDS]
    if not numbers:
        return
    for before, after, group in _WordTable([captions[number] for number in numbers]).groups():
        members = sorted((numbers[row] for row in group), key=lambda number: (rank[number], number))[:MAX_GROUP]
        for one, other in combinations(sorted(members), 2):
            if photographs[one] == photographs[other]:
                continue
            pair = _difference(one, other, captions[one], captions[other])
            if pair is None or pair.exchanged != (before < 0):
                continue
            # a pair is in the groups of all spans around its own, and counts in the group of its own
            if pair.exchanged or (before, after) == (pair.span[0], len(captions[one]) - pair.span[1]):
                yield pair


class _WordTable:
    """The words of captions as numbers, with hashes of the words before and after each place."""

    def __init__(self, captions: Sequence[Sequence[str]]) -> None:
        number: dict[str, int] = {}
        self.lengths: Numbers = np.array([len(words) for words in captions], dtype=np.int64)
        width = int(self.lengths.max())
        words: Hashes = np.zeros((len(captions), width), dtype=np.uint64)
        for row, of_caption in enumerate(captions):
            words[row, : len(of_caption)] = [number.setdefault(word, len(number) + 1) for word in of_caption]
        self.before: Hashes = np.zeros((len(captions), width + 1), dtype=np.uint64)
        self.after: Hashes = np.zeros((len(captions), width + 1), dtype=np.uint64)
        for at in range(width):
            self.before[:, at + 1] = _mix(self.before[:, at] + words[:, at])
            place = self.lengths - 1 - at
            rows = np.flatnonzero(place >= 0)
            self.after[rows, place[rows]] = _mix(self.after[rows, place[rows] + 1] + words[rows, place[rows]])
        self.unordered: Hashes = np.where(words > 0, _mix(words), 0).sum(axis=1, dtype=np.uint64)

    def groups(self) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (words before, words after, rows) of captions with equal words around a span.

        After these come captions with the same words in any order, with -1 for both numbers.
        """
        parts = 1 + int(self.lengths.sum()) * MAX_SPAN // ENTRIES_AT_ONCE
        for part in range(parts):
            keys, rows, starts, sizes = self._entries(part, parts)
            for entries in _equal(keys):
                first = entries[0]
                after = int(self.lengths[rows[first]] - starts[first] - sizes[first])
                yield int(starts[first]), after, list(dict.fromkeys(rows[entries].tolist()))
        for entries in _equal(self.unordered):
            yield -1, -1, entries.tolist()

    def _entries(self, part: int, parts: int) -> tuple[Hashes, Numbers, Numbers, Numbers]:
        """Return the entries of a part: hash of the words around a span, the caption's row, and the span's start and size."""
        found: list[tuple[Hashes, Numbers, Numbers, Numbers]] = []
        for size in range(1, MAX_SPAN + 1):
            least = size + max(MIN_KEPT, size)
            for start in range(self.before.shape[1] - size):
                there = np.flatnonzero((self.lengths >= least) & (self.lengths >= start + size))
                # the words after are mixed once more, so that "x y _ z" and "x _ y z" differ
                key = _mix(self.before[there, start]) ^ _mix(_mix(self.after[there, start + size]))
                mine = key % np.uint64(parts) == part
                rows = there[mine]
                found.append((key[mine], rows, np.full(len(rows), start), np.full(len(rows), size)))
        keys, rows, starts, sizes = (np.concatenate(column) for column in zip(*found, strict=True))
        return keys, rows, starts, sizes


def _mix(values: Hashes) -> Hashes:
    """Return well mixed hashes of numbers (the finaliser of SplitMix64)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _equal(keys: Hashes) -> Iterator[Numbers]:
    """Yield the places of each key that stands at several."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(keys)]
    several = ends - starts > 1
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        yield order[start:end]


def _difference(one: int, other: int, words: Sequence[str], other_words: Sequence[str]) -> NearPair | None:
    """Return where two captions differ, None if not in one span and by no exchange (equal hashes promise nothing)."""
    start, most = 0, min(len(words), len(other_words))
    while start < most and words[start] == other_words[start]:
        start += 1
    same = 0
    while same < most - start and words[-1 - same] == other_words[-1 - same]:
        same += 1
    span, other_span = (start, len(words) - same), (start, len(other_words) - same)
    size, other_size = span[1] - start, other_span[1] - start
    if not size or not other_size:
        return None
    if sorted(words) == sorted(other_words):
        middle, other_middle = words[start : span[1]], other_words[start : other_span[1]]
        return NearPair(one, other, span, other_span, True) if _is_exchange(middle, other_middle) else None
    if max(size, other_size) > MAX_SPAN or start + same < max(MIN_KEPT, size, other_size):
        return None
    return NearPair(one, other, span, other_span)


def _is_exchange(words: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether the first words X, what is between, and the last words Y of a text are Y, the same and X in another."""
    size, words, other = len(words), tuple(words), tuple(other)
    return any(
        words[:first] == other[size - first :]
        and words[size - last :] == other[:last]
        and words[first : size - last] == other[last : size - first]
        for first in range(1, size)
        for last in range(1, size - first + 1)
    )
