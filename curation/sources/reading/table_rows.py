"""Rows of caption tables in any format: JSON Lines, CSV, Parquet or one JSON file.

A malformed line becomes a row with a message instead of values. It never stops the reading.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

import orjson

from curation.sources.reading.files import SPLITS, shown
from data_manifests.errors import InputError

MAX_TEXT_BYTES = 16 << 20
"""Maximum length of a table's line, and maximum size of a tar's text or JSON member."""
MAX_JSON_BYTES = 4 << 30
"""Maximum size of a JSON file, which is read as a whole; the captions of COCO take 0.1 GB."""
ROWS_PER_BATCH = 64
"""Parquet rows in memory at once: about 10 MB with embedded photographs."""
MAX_DEPTH = 32
"""Maximum nesting of an attribute's JSON value."""

FILE_COLUMNS = ("file_name", "filename", "file", "image")
CAPTION_COLUMNS = ("captions", "caption", "text")

TableRow = tuple[int, dict[str, Any] | str]
"""Line or row number, and the row's values or, as text, why it cannot be read."""


def text_lines(path: Path, keep_blank: bool = False) -> Iterator[tuple[int, str | None]]:
    """Yield the number and text of each line; None for one that is not UTF-8.

    Raises:
        InputError: a line is longer than 16 MiB.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(MAX_TEXT_BYTES + 1), b""), 1):
            if len(raw) > MAX_TEXT_BYTES:
                raise InputError(
                    f"{path}:{number}: the line is longer than 16 MiB",
                    allowed="one entry per line, at most 16 MiB",
                    fix="check that the file is a text table with line breaks",
                )
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                yield number, None
                continue
            if keep_blank or text.strip():
                yield number, text


def json_object(data: bytes | str) -> dict[str, Any] | str:
    """Return a JSON object, or why the data are not one."""
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
    """Return a Parquet file's columns with the type of their values: ``bytes``, ``struct`` or ``other``.

    Raises:
        InputError: it is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: not a readable Parquet file ({type(error).__name__})",
            allowed="a Parquet file",
            fix="check that the file is complete, for example by downloading it again",
        ) from None
    kinds: dict[str, str] = {}
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    for item in schema:
        value = "struct" if pa.types.is_struct(item.type) else "other"
        kinds[item.name] = "bytes" if any(test(item.type) for test in binary) else value
    return kinds


def find_column(table: Path, columns: Collection[str], names: Sequence[str], content: str) -> str:
    """Return the first of `names` that is a column of a table.

    Args:
        table: The table's file, for the error message.
        columns: The columns that it has.
        names: The allowed names, most preferred first.
        content: What the column contains, for the error message.

    Raises:
        InputError: the table has no such column.
    """
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise InputError(
            f"{table}: no column for {content}; its columns: {', '.join(shown(name, 40) for name in columns)}",
            allowed="one of " + ", ".join(names),
            fix=f"rename the column with {content} to '{names[0]}'",
        )
    return found


def parquet_rows(path: Path, columns: list[str]) -> Iterator[TableRow]:
    """Yield the rows of a Parquet file, numbered from 0, one row group at a time.

    For a damaged row group, one message replaces its remaining rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            number, end = start, start + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=[group], columns=columns, use_threads=False):
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
        raise InputError(
            f"{path}: larger than 4 GiB", allowed="a JSON file of at most 4 GiB", fix="split it, one file per split"
        )
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}: not JSON: {error.msg}",
            allowed="a JSON file",
            fix="check that the file is complete",
        ) from None


def captions_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row's captions, from the first of ``captions``, ``caption`` and ``text`` that is not empty.

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
    """Return a row's split: ``train``, ``dev``, ``test``, or None when the row has none.

    Raises:
        ValueError: it is not the name of a split.
    """
    value = row.get("split")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value not in SPLITS:
        raise ValueError(f"split {shown(str(value), 40)!r} is none of {', '.join(SPLITS)}")
    return SPLITS[value]


def attributes_of(row: Mapping[str, Any], exclude: Collection[str]) -> dict[str, Any]:
    """Return a row's other values as JSON values, without empty ones; ``license`` is renamed ``licence``.

    Raises:
        ValueError: a value is nested too deeply.
    """
    values = {name: json_value(value) for name, value in row.items() if name not in exclude}
    if "licence" not in values and "license" in values:
        values["licence"] = values.pop("license")
    return {name: value for name, value in values.items() if value is not None and value != ""}


def json_value(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON: dates as ISO text, decimals as text; None for bytes, NaN and infinities.

    Raises:
        ValueError: it is nested more than 32 levels deep, which JSON writers reject or recurse into.
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
