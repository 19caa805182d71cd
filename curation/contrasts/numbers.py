"""Numbers with a unit: which others stand before that unit, or look alike before any unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from curation.blind.tokens import Float64s, UInt64s, hash_words
from curation.contrasts.caption_words import Word, WordTable, is_number
from curation.text.wordlists import word_rows

_MAX_NUMBERS, _MAX_UNITS = 64, 200
_LEAST_NUMBERS, _LEAST_MEASURED, _LEAST_SHARE_MEASURED = 5, 10, 0.3
_ENOUGH = 6
_MAX_CACHED = 1 << 14
_MOST_TIMES, _MOST_STEPS = 1.5, 3.0
"""How far a number that only looks alike may be off."""
_HYPHENS = frozenset("-\u2010\u2011\u2013")
_UNITS = {unit: row[0] for row in word_rows("units") for unit in row}
"""Unit -> how it is spelled here."""


def numbers_of_units(table: WordTable) -> dict[str, list[list[Any]]]:
    """Return the numbers that come before each unit, the most frequent first, with counts: "mm" -> [["5", 12], ...].

    A unit is one of our list, or a word that often follows numbers, many different ones, but not "shows" of "figure 2 shows".
    """
    numeric = np.array([is_number(word) for word in table.words])
    hyphen = np.array([word in _HYPHENS for word in table.words])
    spelled = np.array([word.isalpha() or word in _UNITS for word in table.words])
    counts, size = np.bincount(table.ids, minlength=len(table.words)), len(table.words)
    one, other, third = table.ids[:-2], table.ids[1:-1], table.ids[2:]
    other = np.where(hyphen[other], third, other)
    measured = numeric[one] & spelled[other]
    pairs, times = np.unique(other[measured] * size + one[measured], return_counts=True)
    by_unit: dict[str, Counter[str]] = {}
    for unit in np.unique(pairs // size).tolist():
        inside, name = pairs // size == unit, table.words[unit]
        total = int(times[inside].sum())
        is_unit = inside.sum() >= _LEAST_NUMBERS and total >= max(_LEAST_MEASURED, _LEAST_SHARE_MEASURED * counts[unit])
        if is_unit or name in _UNITS:
            found = by_unit.setdefault(_UNITS.get(name, name), Counter())
            found.update({
                table.words[pair % size]: count for pair, count in zip(pairs[inside], times[inside].tolist(), strict=True)
            })  # fmt: skip
    most = sorted(by_unit, key=lambda unit: (-by_unit[unit].total(), unit))[:_MAX_UNITS]
    return {
        unit: [
            list(item) for item in sorted(by_unit[unit].items(), key=lambda item: (-item[1], item[0]))[:_MAX_NUMBERS]
        ]
        for unit in sorted(most)
    }


class Options(NamedTuple):
    """Words that may stand in a place instead.

    Attributes:
        words: The words.
        shares: The share of draws of each [words].
        hashes: Their hashes [words].
        kind: Name of their class.
        type: Type of negative.
        reason: Why they exclude the old word, where no pair has evidence of its own.
    """

    words: Sequence[str]
    shares: Float64s
    hashes: UInt64s
    kind: str
    type: str
    reason: str


class Numbers:
    """The numbers of units of a fit.

    Args:
        numbers: What `numbers_of_units` returned.
    """

    def __init__(self, numbers: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        self._of_unit: dict[str, dict[str, int]] = {
            unit: {str(number): int(count) for number, count in found} for unit, found in numbers.items()
        }
        self._options: dict[tuple[str, str], list[Options]] = {}
        self._alike: dict[tuple[int, int], Counter[str]] = {}
        for found in self._of_unit.values():
            for number, count in found.items():
                self._alike.setdefault(_shape(number), Counter())[number] += count

    def of(self, words: Sequence[Word], at: int) -> list[Options]:
        """Return the numbers that may stand in place of one before a unit."""
        after = [word.text for word in words[at + 1 : at + 3]]
        if len(after) == 2 and after[0] in _HYPHENS:
            after = after[1:]
        if not after or (at and words[at - 1].end == words[at].start and words[at - 1].text not in "(<>=~"):
            return []
        unit = _UNITS.get(after[0], after[0])
        key = unit, words[at].text
        if unit not in self._of_unit:
            return []
        if key not in self._options:
            if len(self._options) >= _MAX_CACHED:
                self._options.clear()
            self._options[key] = self._others(*key)
        return self._options[key]

    def _others(self, unit: str, number: str) -> list[Options]:
        known = self._of_unit[unit]
        alike = {other: count for other, count in known.items() if _shape(other) == _shape(number)}
        if len(alike) < _ENOUGH:
            near = (other for other in sorted(self._alike.get(_shape(number), ())) if _is_near(number, other))
            alike |= {other: 1 for other in near if other not in alike}
        own = alike.get(number, 1)
        found = [other for other in alike if _value(other) != _value(number)]
        if not found:
            return []
        shares = np.array([min(alike[other] / own, 1.0) for other in found])
        return [Options(found, shares, hash_words(found), f"number of {unit}", "number", f"both are numbers of {unit}")]


def _shape(number: str) -> tuple[int, int]:
    """Return how many digits a number has before and behind the point."""
    whole, _, rest = number.replace(",", ".").partition(".")
    return len(whole), len(rest)


def _is_near(number: str, other: str) -> bool:
    """Return whether a number that was never seen with a unit may be one of it: 33 weeks may be 36, but not 59."""
    low, high = sorted((_value(number), _value(other)))
    return high <= _MOST_TIMES * low or high - low <= _MOST_STEPS


def _value(number: str) -> float:
    whole, _, rest = number.replace(",", ".").partition(".")
    return float(f"{whole}.{rest.replace('.', '') or 0}")
