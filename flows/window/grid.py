"""What the address asks of a grid: filters and an order, and the rows, counts and bounds that they give."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_manifests.errors import InputError, nearest
from flows.window.columns import IndexColumns, Kept, array_bytes

MAX_WINDOW = 200
"""Most pictures of one answer."""
_LISTED = 40
_BINS = 24
_ID = re.compile(r"[0-9a-f]{32}")
_MAX_RESULT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class GridQuery:
    """Filters and an order; equal ones give equal rows.

    Attributes:
        sort: Field of numbers; empty keeps the order of the shards.
        descending: The other way round.
        labels: (field, values): one of the values.
        ranges: (field, least, most): numbers of these bounds.
    """

    sort: str = ""
    descending: bool = False
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ranges: tuple[tuple[str, float, float], ...] = ()

    @classmethod
    def parse(cls, given: Sequence[tuple[str, str]], columns: IndexColumns) -> GridQuery:
        """Return what an address asks: ``sort``, ``desc``, ``is.FIELD``, ``min.FIELD``, ``max.FIELD``.

        Raises:
            InputError: a field that there is not, or a bound that is no number.
        """
        labels: dict[str, list[str]] = {}
        bounds: dict[str, list[float]] = {}
        for key, value in given:
            kind, _, name = key.partition(".")
            if kind == "is" and name:
                _check(name, [*columns.labels, *columns.several, *columns.numbers])
                labels.setdefault(name, []).append(value)
            elif kind in ("min", "max") and name:
                _check(name, columns.numbers)
                bounds.setdefault(name, [-math.inf, math.inf])[kind == "max"] = _number(key, value)
        words = dict(given)
        return cls(
            words.get("sort", ""),
            words.get("desc", "") == "1",
            tuple(sorted((name, tuple(sorted(set(values)))) for name, values in labels.items())),
            tuple(sorted((name, low, high) for name, (low, high) in bounds.items())),
        )

    def without(self, name: str) -> GridQuery:
        """Return the query without the filters of one field."""
        labels = tuple(item for item in self.labels if item[0] != name)
        ranges = tuple(item for item in self.ranges if item[0] != name)
        return GridQuery(self.sort, self.descending, labels, ranges)


def _check(name: str, allowed: Sequence[str]) -> None:
    if name not in allowed:
        raise InputError(f"field {name[:60]!r}", allowed=", ".join(allowed), fix=nearest(name, allowed))


def _number(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise InputError(f"{key}={value[:40]!r}", allowed="a number")
    return number


class Grid:
    """Answers queries over the columns of a version."""

    def __init__(self, columns: IndexColumns) -> None:
        self.columns = columns
        self._results, self._masks = Kept(_MAX_RESULT_BYTES), Kept(_MAX_RESULT_BYTES)

    def rows(self, query: GridQuery) -> NDArray[Any]:
        """Return the rows of a query in its order."""

        def find() -> NDArray[Any]:
            mask = self.mask(query)
            order: NDArray[Any]
            if query.sort:
                order = self.columns.order(query.sort, descending=query.descending)
            else:
                order = np.arange(self.columns.num_rows, dtype=np.int32)[:: -1 if query.descending else 1]
            return order if mask is None else order[mask[order]]

        found: NDArray[Any] = self._results.get(query, find, array_bytes)
        return found

    def mask(self, query: GridQuery) -> NDArray[np.bool_] | None:
        """Return which rows fit all filters; None if there are none."""
        parts = [self._mask(name, None, values) for name, values in query.labels]
        parts += [self._mask(name, (low, high), ()) for name, low, high in query.ranges]
        return np.logical_and.reduce(parts) if parts else None

    def _mask(self, name: str, bounds: tuple[float, float] | None, values: tuple[str, ...]) -> NDArray[np.bool_]:
        def find() -> NDArray[np.bool_]:
            if bounds is not None:
                numbers = self.columns.values(name)
                return np.asarray((numbers >= bounds[0]) & (numbers <= bounds[1]))
            if name in self.columns.several:
                bits, labels = self.columns.bits(name)
                wanted = sum(1 << labels.index(value) for value in values if value in labels)
                return np.asarray((bits & np.uint64(wanted)) != 0)
            if name in self.columns.numbers:
                return np.isin(self.columns.values(name), [_number(f"is.{name}", value) for value in values])
            codes, labels = self.columns.codes(name)
            return np.isin(codes, [labels.index(value) for value in values if value in labels])

        found: NDArray[np.bool_] = self._masks.get((name, bounds, values), find, array_bytes)
        return found

    def facets(self, query: GridQuery, *, several: bool = False) -> list[dict[str, Any]]:
        """Return counts of each field's values over the rows that fit; a field's own filter does not narrow its own counts.

        Args:
            query: The query.
            several: Only fields of several values a sample; the first time all sidecars are read for them. Else all others.
        """
        found: list[dict[str, Any]] = []
        for name in self.columns.several if several else self.columns.labels:
            mask = self.mask(query.without(name))
            codes, labels = self.columns.bits(name) if name in self.columns.several else self.columns.codes(name)
            counted = _count(codes if mask is None else codes[mask], len(labels), several=name in self.columns.several)
            ranked = np.argsort(-counted, kind="stable")[:_LISTED]
            values = [[labels[at], int(counted[at])] for at in ranked if counted[at]]
            picked = next((values_ for name_, values_ in query.labels if name_ == name), ())
            values += [[value, 0] for value in picked if value not in {item[0] for item in values}]
            if len(labels) > 1 or picked:
                found.append({"name": name, "values": values, "num": len(labels)})
        # what tells groups apart before what names each sample, and keys that only programs read last
        found.sort(key=lambda item: (all(_ID.fullmatch(value) for value, _ in item["values"] if value), item["num"]))
        numbers = () if several else self.columns.numbers
        return [*found, *(self._histogram(name, query) for name in numbers)]

    def _histogram(self, name: str, query: GridQuery) -> dict[str, Any]:
        """Return a field's bounds over the version, and how many rows that fit are in each part between them."""
        every = self.columns.values(name)
        low, high = self.columns.bounds(name)
        if math.isnan(low):
            return {"name": name, "low": None, "high": None, "bins": [], "missing": len(every)}
        mask = self.mask(query.without(name))
        values = every if mask is None else every[mask]
        bins = _bins(values, low, high)
        return {"name": name, "low": low, "high": high, "bins": bins, "missing": int(len(values) - sum(bins))}


def _bins(values: NDArray[Any], low: float, high: float) -> list[int]:
    counted, _ = np.histogram(values, bins=_BINS, range=(low, high if high > low else low + 1))
    return [int(number) for number in counted]


def _count(codes: NDArray[Any], num: int, *, several: bool) -> NDArray[np.int64]:
    if not several:
        return np.bincount(codes, minlength=num)
    return np.array([np.count_nonzero(codes & np.uint64(1 << at)) for at in range(num)], dtype=np.int64)


def window_of(given: Mapping[str, str]) -> tuple[int, int]:
    """Return first place and number of pictures that an address asks for.

    Raises:
        InputError: not whole numbers, or out of bounds.
    """
    found = []
    for name, default, most in (("from", 0, 1 << 40), ("count", 60, MAX_WINDOW)):
        text = given.get(name, str(default))
        if not text.isascii() or not text.isdigit() or int(text) > most:
            raise InputError(f"{name}={text[:40]!r}", allowed=f"0 to {most}")
        found.append(int(text))
    return found[0], found[1]
