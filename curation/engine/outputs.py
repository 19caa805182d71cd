"""What a stage gives for a sample, encoded and checked against what it declares: an error names the stage, not a later reader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from curation.engine.stage import Drop, Field, Stage
from curation.engine.store import StageResult
from data_manifests.errors import InputError, nearest
from data_manifests.plugins import is_ours, place_of
from data_manifests.sample import Sample

_TEXTS_OF: Mapping[str, tuple[str, ...]] = {
    "negatives": ("text", "operation", "span_class"),
    "views": ("text", "family"),
    "rejects": ("reason",),
}
"""Role of a field of records -> what each record has as text; each has the number of its caption, too."""


class ResultEncoder:
    """Encodes the results of one stage, one after another, and checks them.

    Args:
        stage: The stage.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._fields = {field.name: field for field in stage.provides}
        self._dims: dict[str, int] = {}
        self._kinds: dict[str, str] = {}

    def encode_all(self, samples: Sequence[Sample], results: Any) -> list[StageResult]:
        """Encode what the stage gave for some samples.

        Args:
            samples: The samples that it was given.
            results: Its result for each of them, in their order.

        Raises:
            InputError: there are more or fewer results than samples, or one is not what the stage declares; the message has
                the stage, the sample's uid, what was got and what is allowed.
        """
        if not isinstance(results, (list, tuple)) or len(results) != len(samples):
            got = f"{len(results)} results" if isinstance(results, (list, tuple)) else _shown(results)
            raise self._error(
                f"gave {got} for {len(samples)} samples",
                "a list with one result for each sample, in their order: the fields, or a Drop",
            )
        return [
            self.encode(sample.uid, result, len(sample.captions))
            for sample, result in zip(samples, results, strict=True)
        ]

    def encode_each(self, uids: Iterable[str], results: Iterable[Any]) -> Iterator[tuple[str, StageResult]]:
        """Encode results that come one by one, with the uids of their samples.

        Raises:
            InputError: as `encode_all` does, at the first that is wrong.
        """
        missing = object()
        for uid, result in zip_longest(uids, results, fillvalue=missing):
            if missing in (uid, result):
                got = "more results than" if uid is missing else f"no result for {uid}, and so fewer than"
                raise self._error(f"gave {got} there are samples", "one result for each sample, in the order of uids")
            yield str(uid), self.encode(str(uid), result)

    def encode(self, uid: str, result: Any, num_captions: int | None = None) -> StageResult:
        """Encode a result.

        Args:
            uid: The sample's.
            result: Its result.
            num_captions: How many captions it has; None if that is not known here.

        Raises:
            InputError: it is not what the stage declares.
        """
        stage = self._stage
        if isinstance(result, Drop):
            if result.reason not in stage.drops or not isinstance(result.detail, str):
                raise self._error(
                    f"dropped {uid} as {result.reason!r} ({result.detail!r:.60})",
                    f"a reason that it declares in drops ({', '.join(stage.drops) or 'none'}), and a text",
                    nearest(str(result.reason), stage.drops),
                )
            return StageResult({}, result)
        if not isinstance(result, Mapping):
            raise self._error(f"gave {_shown(result)} for {uid}", "a dictionary of its fields, or a Drop")
        if result.keys() != self._fields.keys():
            raise self._error(
                f"gave the fields {', '.join(map(str, sorted(result, key=str))) or '(none)'} for {uid}",
                f"exactly those that it declares in provides: {', '.join(sorted(self._fields)) or '(none)'}",
            )
        return StageResult(
            {name: self._field(field, uid, num_captions, result[name]) for name, field in self._fields.items()}
        )

    def _field(self, field: Field, uid: str, num_captions: int | None, value: Any) -> bytes:
        try:
            with np.errstate(over="ignore"):  # what is too large is said below
                data = field.encode(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._wrong(field, uid, f"{_shown(value)}: {error}", _ALLOWED[field.kind]) from None
        if field.kind == "array":
            self._check_array(field, uid, data)
        elif b"null" in data and _has_infinite(value) and (place := next(_not_finite(value, field.name), "")):
            raise self._wrong(field, uid, f"{place} is not a finite number", "finite numbers, or None")
        if (check := _CHECKS.get(field.role)) is not None:
            for problem, allowed in check(value, num_captions, field.role):
                raise self._wrong(field, uid, problem, allowed)
        if field.role == "value" and field.kind == "json" and field.publish != "store":
            self._check_column(field, uid, value)
        if field.publish == "index" and not (value is None or isinstance(value, (str, int, float, np.generic))):
            raise self._wrong(field, uid, _shown(value), "a number or a short text, as it is a column of index.parquet")
        return data

    def _check_array(self, field: Field, uid: str, data: bytes) -> None:
        numbers = np.frombuffer(data, "<f2", offset=4)
        if not np.isfinite(numbers).all():
            at = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise self._wrong(
                field, uid, f"number {at} is {numbers[at]}", "finite numbers of at most 65504, as it is float16"
            )
        rows = int.from_bytes(data[:4], "little")
        dims = len(numbers) // rows if rows else len(numbers)
        if dims and dims != self._dims.setdefault(field.name, dims):
            raise self._wrong(
                field, uid, f"{dims} numbers each, {self._dims[field.name]} before", "vectors of one length"
            )

    def _check_column(self, field: Field, uid: str, value: Any) -> None:
        """Check that a published value can stand in one column with those before."""
        kind = _kind_in_column(value)
        if kind is None:
            raise self._wrong(field, uid, _shown(value), "lists whose items are all numbers, all texts, all lists ...")
        before = self._kinds.setdefault(field.name, kind) if kind else ""
        if before and kind != before and _OBJECTS not in (kind, before):
            raise self._wrong(field, uid, f"{kind}, {before} before", "values of one kind, or None: they are a column")

    def _wrong(self, field: Field, uid: str, problem: str, allowed: str) -> InputError:
        return self._error(f"field '{field.name}' of {uid}: {problem}", allowed)

    def _error(self, problem: str, allowed: str, fix: str = "") -> InputError:
        stage = self._stage
        where = "" if is_ours(type(stage)) else f" ({place_of(type(stage))})"
        return InputError(f"stage '{stage.name}'{where} {problem}", allowed=allowed, fix=fix or "correct the stage")


_ALLOWED = {
    "json": "JSON values: texts, numbers, booleans, None, lists, and dictionaries with texts as keys",
    "array": "an array of numbers of one or two dimensions",
}
_OPTIONAL_TEXTS: Mapping[str, tuple[str, ...]] = {
    "negatives": ("type", "scores", "rule", "source", "against"),
    "views": ("rule", "source"),
    "rejects": ("text", "rule", "detail", "source"),
}
"""Role of a field of records -> what a record may have as text."""
_OBJECTS = "dictionaries"
"""Kind of values that a column holds as JSON text, and all others of it with them."""
_FINITE = frozenset((str, int, bool, type(None)))
_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bool, np.bool_), "true or false"),
    ((int, float, np.number), "numbers"),
    ((str,), "texts"),
    ((Mapping,), _OBJECTS),
)
_Problems = Iterator[tuple[str, str]]


def _check_records(value: Any, num_captions: int | None, role: str) -> _Problems:
    """Yield what is wrong with records of negatives, views or rejects: texts, and the number of the caption."""
    if not isinstance(value, (list, tuple)):
        yield _shown(value), f"a list of records ({role})"
        return
    for number, record in enumerate(value):
        if not isinstance(record, Mapping):
            yield f"record {number} is {_shown(record)}", "a dictionary"
            return
        for name in _TEXTS_OF[role]:
            if not isinstance(found := record.get(name), str) or (name == "text" and not found):
                yield (
                    f"'{name}' of record {number} is {_shown(found)}",
                    "a text" + (" with something in it" if name == "text" else ""),
                )
        for name in _OPTIONAL_TEXTS[role]:
            if name in record and not isinstance(record[name], str):
                yield f"'{name}' of record {number} is {_shown(record[name])}", "a text, or left out"
        difficulty = record.get("difficulty")
        if difficulty is not None and (
            isinstance(difficulty, bool) or not isinstance(difficulty, (int, float, np.number))
        ):
            yield f"'difficulty' of record {number} is {_shown(difficulty)}", "a number from 0 to 1, or None"
        caption: Any = record.get("caption")
        is_number = isinstance(caption, (int, np.integer)) and not isinstance(caption, bool)
        if not is_number or caption < 0 or (num_captions is not None and caption >= num_captions):
            last = "" if num_captions is None else f" to {num_captions - 1}"
            yield (
                f"'caption' of record {number} is {_shown(caption)}",
                f"the number of a caption of the sample, from 0{last}",
            )


def _check_numbers(value: Any, _: int | None, role: str) -> _Problems:
    """Yield what is wrong with numbers by name."""
    named = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    if not named or not all(isinstance(one, (int, float, np.number)) and math.isfinite(one) for one in value.values()):
        yield _shown(value), f"finite numbers by name ({role})"


_CHECKS: Mapping[str, Callable[[Any, int | None, str], _Problems]] = {
    "negatives": _check_records,
    "views": _check_records,
    "rejects": _check_records,
    "usage": _check_numbers,
    "evidence": _check_numbers,
}


def _kind_in_column(value: Any) -> str | None:
    """Return the kind of a value in a column in words, empty for what fits any; None for a list of several kinds."""
    if value is None:
        return ""
    for kinds, words in _KINDS:
        if isinstance(value, kinds):
            return words
    if isinstance(value, np.ndarray):
        return "lists of numbers"
    inner = (
        {kind for item in value if (kind := _kind_in_column(item)) != ""} if isinstance(value, (list, tuple)) else set()
    )
    if len(inner) > 1 or None in inner:
        return None
    return f"lists of {inner.pop()}" if inner else ""


def _has_infinite(value: Any) -> bool:
    """Return whether a value may have a number that JSON turns into null; quicker than the search for its place."""
    kind = type(value)
    if kind is float:
        return not math.isfinite(value)
    if kind is not dict and kind is not list and kind is not tuple:
        return kind not in _FINITE
    for item in value.values() if kind is dict else value:
        if type(item) not in _FINITE and _has_infinite(item):
            return True
    return False


def _not_finite(value: Any, path: str) -> Iterator[str]:
    """Yield the places of numbers in a JSON value that are NaN or infinite, which JSON would turn into null."""
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            yield path
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            yield path
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{number}]")


def _shown(value: Any) -> str:
    return f"{value!r:.80} ({type(value).__name__})"
