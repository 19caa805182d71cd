"""Rows of caption tables, whatever they are written in: JSON Lines, CSV, Parquet or one JSON file.

A broken line is a row with a message in place of values; it never stops the reading.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

import orjson

from curation.sources.reading.files import SPLITS, shown
from data_manifests.errors import InputError

MAX_TEXT_BYTES = 16 << 20
"""Longest line of a table, and largest text or JSON member of a tar."""
MAX_JSON_BYTES = 4 << 30
"""Largest JSON file that is read as a whole; the captions of COCO take 0.1 GB."""
ROWS_AT_ONCE = 64
"""Parquet rows held at once: with embedded photographs some 10 MB."""

MAX_DEPTH = 32
"""Deepest nesting of an attribute's JSON value."""

FILE_COLUMNS = ("file_name", "filename", "file", "image")
CAPTION_COLUMNS = ("captions", "caption", "text")

TableRow = tuple[int, dict[str, Any] | str]
"""Line or row number, and the row's values or, as text, what is wrong with it."""


def text_lines(path: Path, keep_blank: bool = False) -> Iterator[tuple[int, str | None]]:
    """Yield the number and text of each line; None for one that is not UTF-8.

    Raises:
        InputError: a line is longer than 16 MiB.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(MAX_TEXT_BYTES + 1), b""), 1):
            if len(raw) > MAX_TEXT_BYTES:
                raise InputError(f"{path}:{number}: the line is longer than 16 MiB", fix="write one entry a line")
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                yield number, None
                continue
            if keep_blank or text.strip():
                yield number, text


def json_object(data: bytes | str) -> dict[str, Any] | str:
    """Return a JSON object, or what is wrong with it."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error.msg}"
    return value if isinstance(value, dict) else "not a JSON object"


def jsonl_rows(path: Path) -> Iterator[TableRow]:
    """Yield the objects of a JSON Lines file, numbered by line."""
    for number, text in text_lines(path):
        yield number, "not UTF-8" if text is None else json_object(text)


def csv_rows(path: Path) -> Iterator[TableRow]:
    """Yield the rows below the header of a CSV file, numbered by the line on which each begins."""
    last, undecodable = 0, False

    def lines() -> Iterator[str]:
        nonlocal last, undecodable
        for number, text in text_lines(path, keep_blank=True):
            last, undecodable = number, undecodable or text is None
            yield (text or "") + "\n"

    reader, header = csv.reader(lines(), strict=True), None
    while True:
        first, undecodable = last + 1, False
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield first, f"not CSV, from here to line {last}: {error}"
            continue
        if undecodable:
            yield first, "not UTF-8"
        elif not cells:
            continue
        elif header is None:
            header = [cell.strip() for cell in cells]
        elif len(cells) != len(header):
            yield first, f"{len(cells)} fields where the header has {len(header)}"
        else:
            yield first, dict(zip(header, cells, strict=True))


def parquet_columns(path: Path) -> dict[str, str]:
    """Return a Parquet file's columns, and for each whether it holds ``bytes``, a ``struct`` or ``other`` values.

    Raises:
        InputError: it is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as Parquet ({type(error).__name__})", fix="check that the file is complete"
        ) from None
    kinds: dict[str, str] = {}
    for item in schema:
        binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
        value = "struct" if pa.types.is_struct(item.type) else "other"
        kinds[item.name] = "bytes" if any(test(item.type) for test in binary) else value
    return kinds


def parquet_rows(path: Path, columns: list[str]) -> Iterator[TableRow]:
    """Yield the rows of a Parquet file from number 0 on, one row group at a time.

    When a row group is damaged, one message stands for the rest of it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            number, end = start, start + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns, use_threads=False):
                    for values in batch.to_pylist():
                        yield number, values
                        number += 1
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                yield number, f"rows {number} to {end - 1} cannot be read ({type(error).__name__})"
            start = end


def load_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: it is not JSON, or larger than 4 GiB.
    """
    with path.open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"{path}: larger than 4 GiB", fix="split it")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise InputError(f"{where}: not JSON: {error.msg}", fix="check that the file is complete") from None


def captions_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row's captions, from the first of ``captions``, ``caption`` and ``text`` that holds any.

    Raises:
        ValueError: they are not text.
    """
    for column in CAPTION_COLUMNS:
        value = row.get(column)
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            if value:
                return tuple(value)
        elif value is not None:
            raise ValueError(f"'{column}' is neither text nor a list of texts")
    return ()


def split_of(row: Mapping[str, Any]) -> str | None:
    """Return a row's split in our words.

    Raises:
        ValueError: it is no name of a split.
    """
    value = row.get("split")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value not in SPLITS:
        raise ValueError(f"split {shown(str(value), 40)!r} is none of {', '.join(SPLITS)}")
    return SPLITS[value]


def attributes_of(row: Mapping[str, Any], leave_out: Collection[str]) -> dict[str, Any]:
    """Return a row's other values as JSON values, empty ones left out; ``license`` is spelt ``licence``.

    Raises:
        ValueError: a value is nested too deeply.
    """
    values = {name: json_value(value) for name, value in row.items() if name not in leave_out}
    if "licence" not in values and "license" in values:
        values["licence"] = values.pop("license")
    return {name: value for name, value in values.items() if value is not None and value != ""}


def json_value(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON has it: dates as ISO text, decimals as text; None for bytes, NaN and infinities.

    Raises:
        ValueError: it is nested more than 32 deep, which JSON writers refuse or recurse over.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"a value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {str(key): json_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item, depth + 1) for item in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if isinstance(value, (str, int)) else None
