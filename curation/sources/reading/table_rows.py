"""Rows of caption tables: JSON Lines, Parquet or one JSON file (`csv_rows.py` has delimited text).

A malformed line becomes a row with a message instead of values. It never stops the reading.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from curation.sources.reading.encodings import decoded, encoding_of, utf16_of
from curation.sources.reading.files import SPLITS, has_image_ending, shown
from data_manifests.errors import InputError

MAX_TEXT_BYTES = 16 << 20
"""Maximum length of a table's line, and maximum size of a tar's text or JSON member."""
MAX_JSON_BYTES = 4 << 30
"""Maximum size of a JSON file, which is read as a whole; the captions of COCO take 0.1 GB."""
ROWS_PER_BATCH = 64
"""Parquet rows in memory at once: about 10 MB with embedded photographs."""
MAX_DEPTH = 32
"""Maximum nesting of an attribute's JSON value."""

FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_name", "filepath", "file_path", "image_path", "path")
CAPTION_COLUMNS = ("captions", "caption", "text")
CAPTION_SYNONYMS = ("title", "comment", "sentence", "sentences", "description", "raw", "txt")
"""Columns that have the captions when a table has none of `CAPTION_COLUMNS`."""

_TEXT_KEYS = ("raw", "caption", "text")
"""Keys of an object that describes a caption, such as COCO's ``sentences``."""

_NUMBERED_COLUMN = re.compile(
    r"(?:captions?|sentences?)[_.\- ]?(\d{1,6})|(?:text|title|comment)\.(\d{1,6})", re.IGNORECASE
)
"""``caption_0``, ``caption1``; ``text.1`` is how pandas and `csv_rows` name the second column ``text``."""
_WRITTEN_LIST = re.compile(
    r"""\[\s*((?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|None|null|nan)(?:\s*,\s*|\s+|(?=\])))+\]""", re.DOTALL
)
_WRITTEN_TUPLE = re.compile(r"""\(\s*(["'].*["'],.*)\)""", re.DOTALL)
_WRITTEN_ARRAY = re.compile(r"""(?:np\.|numpy\.)?array\(\s*\[(.*)\]\s*(?:,\s*dtype=[^()]*)?\)""", re.DOTALL)
_WRITTEN_ITEM = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|None|null|nan""", re.DOTALL)
_NAMELESS = re.compile(r"(\.\d+)?|Unnamed: \d+")
_URL_COLUMNS = ("url", "urls", "image_url", "img_url", "url_link", "image_link")


NOT_UTF8 = "not UTF-8 (convert the file: iconv -f ENCODING -t UTF-8)"


class BadRow(NamedTuple):
    """A row that cannot be read.

    Attributes:
        problem: Why.
        text: Its first line, or nothing.
    """

    problem: str
    text: str = ""


TableRow = tuple[int, dict[str, Any] | BadRow]
"""Line or row number, and the row's values or why it cannot be read."""


def text_lines(path: Path, keep_blank: bool = False) -> Iterator[tuple[int, str | BadRow]]:
    """Yield the number and text of each line, or that it is not in the file's encoding (see `encoding_of`).

    Raises:
        InputError: a line is longer than 16 MiB.
    """
    encoding = encoding_of(path)
    with path.open("rb") as file:
        start = file.read(1 << 16)
        file.seek(0)
        line_end = (
            None if b"\r" in start and b"\n" not in start else "\n"
        )  # old spreadsheets of the Mac end lines by \r
        is_plain = "16" not in encoding and line_end
        wide = None if is_plain else io.TextIOWrapper(file, encoding, errors="replace", newline=line_end)
        read: Any = wide.readline if wide else file.readline
        for number, raw in enumerate(iter(lambda: read(MAX_TEXT_BYTES + 1), "" if wide else b""), 1):
            if len(raw) > MAX_TEXT_BYTES:
                raise InputError(
                    f"{path}:{number}: the line is longer than 16 MiB",
                    allowed="one entry per line, at most 16 MiB",
                    fix="check that the file is a text table with line breaks",
                )
            text = raw if wide else raw.decode(encoding, "replace")
            text = (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")
            if "\ufffd" in text and (wide or b"\xef\xbf\xbd" not in raw):
                yield number, BadRow(NOT_UTF8, text)
            elif keep_blank or text.strip():
                yield number, text


def parse_json(data: bytes | str) -> Any:
    """Return a JSON value; a byte order mark is skipped, and ``NaN`` and ``Infinity``, which Python writes, are null.

    Half a surrogate pair, which is left of an emoji where a text was cut, is left out.

    Raises:
        orjson.JSONDecodeError: it is not JSON.
    """
    if isinstance(data, bytes):
        try:
            data = decoded(data) if utf16_of(data[:4]) else data.removeprefix(b"\xef\xbb\xbf")
        except UnicodeDecodeError:
            raise orjson.JSONDecodeError("begins like UTF-16 and is not", "", 0) from None
    if isinstance(data, str):
        data = data.removeprefix("\ufeff")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        constants = ("NaN", "Infinity") if isinstance(data, str) else (b"NaN", b"Infinity")
        if "surrogate" not in error.msg and not any(constant in data for constant in constants):  # type: ignore[operator]
            raise
        try:
            value = json.loads(data, parse_constant=lambda _: None)
            return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "ignore"))
        except (ValueError, TypeError, RecursionError):
            pass
        raise


def json_object(data: bytes | str) -> dict[str, Any] | str:
    """Return a JSON object, or why the data are not one."""
    try:
        value = parse_json(data)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error.msg}"
    return value if isinstance(value, dict) else "not a JSON object"


def jsonl_rows(path: Path) -> Iterator[TableRow]:
    """Yield the objects of a JSON Lines file, numbered by line."""
    for number, text in text_lines(path):
        row = text if isinstance(text, BadRow) else json_object(text)
        yield number, BadRow(row, str(text)) if isinstance(row, str) else row


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
    """Return the first of `names` that is a column of a table; without one, the first in other capitals.

    Args:
        table: The table's file, for the error message.
        columns: The columns that it has.
        names: The allowed names, most preferred first.
        content: What the column contains, for the error message.

    Raises:
        InputError: the table has no such column.
    """
    by_lower = {name.lower(): name for name in reversed(list(columns))}
    found = next((name for name in names if name in columns), None)
    found = found or next((by_lower[name] for name in names if name in by_lower), None)
    if found is not None:
        return found
    links = next((by_lower[name] for name in _URL_COLUMNS if name in by_lower), None)
    fix = f"rename the column with {content} to '{names[0]}'"
    if links and "image" in content:
        fix = (
            f"'{links}' has only links: download the images with img2dataset first, then give its tars: "
            "--source webdataset:FOLDER"
        )
    if any(map(has_image_ending, columns)):
        fix = "the first line has an image's name: put a line above it that names the columns: file_name,caption"
    raise InputError(
        f"{table}: no column for {content}; its columns: {', '.join(shown(name, 40) for name in columns)}",
        allowed="one of " + ", ".join(names),
        fix=fix,
    )


def find_caption_columns(table: Path, columns: Collection[str]) -> tuple[str, ...]:
    """Return the columns that `captions_of` looks for captions in, besides numbered ones.

    Raises:
        InputError: the table has no column with captions.
    """
    if any(name in columns for name in CAPTION_COLUMNS) or any(map(_NUMBERED_COLUMN.fullmatch, columns)):
        return CAPTION_COLUMNS
    return (*CAPTION_COLUMNS, find_column(table, columns, (*CAPTION_COLUMNS, *CAPTION_SYNONYMS), "captions"))


def numbered_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns ``caption_0``, ``caption_1`` ... of a table, by number."""
    return list(_numbered_among(tuple(columns)))


@lru_cache(maxsize=8)
def _numbered_among(columns: tuple[str, ...]) -> list[str]:
    """Return what `numbered_columns` does; most rows of a table have the same columns."""
    matches = [match for name in columns if (match := _NUMBERED_COLUMN.fullmatch(name))]
    return [match[0] for match in sorted(matches, key=lambda match: (int(match[1] or match[2]), match[0]))]


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
                yield number, BadRow(f"rows {number} to {end - 1} cannot be read ({type(error).__name__})")
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
        return parse_json(data.decode("cp1252") if encoding_of(path) == "cp1252" else data)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}: not JSON: {error.msg}",
            allowed="a JSON file",
            fix="check that the file is complete",
        ) from None


def captions_of(
    row: Mapping[str, Any], columns: Sequence[str] = CAPTION_COLUMNS, numbered: Sequence[str] = ()
) -> tuple[tuple[object, ...], set[str]]:
    """Return a row's captions, and its columns that are no attributes because captions are taken from them.

    Captions are those of ``captions`` and ``caption``, without repeating a text; of the next of `columns` that is not
    empty where a row has neither; then those of the numbered columns that are not blank. Values that are not text are
    returned as found among texts; the intake rejects them by name.

    Raises:
        ValueError: there are values, and none of them is text.
    """
    values = {name: _values(row, name) for name in (*columns, *numbered)}
    filled = [name for name in columns if values[name]]
    used = [name for name in filled if name in ("captions", "caption")] or filled[:1]
    captions: tuple[object, ...] = ()
    for name in used:
        captions += tuple(value for value in values[name] if name == used[0] or value not in captions)
    for name in numbered:
        captions += tuple(value for value in values[name] if value is not None and str(value).strip())
    if captions and not any(value is None or isinstance(value, str) for value in captions):
        raise ValueError(f"'{(*used, *numbered)[0]}' is neither text nor a list of texts")
    return captions, {*used, *numbered, *(name for name in columns if not values[name])}


def _values(row: Mapping[str, Any], column: str) -> tuple[object, ...]:
    """Return the values of one column of a row: a single one, or those of a list, also of one written as text.

    Of an object such as ``{"raw": "a dog", "tokens": [...]}`` the text is taken.

    Raises:
        ValueError: a text begins like a list of texts and is none.
    """
    value = row.get(column)
    if isinstance(value, str):
        value = _written_list(value, column)
    if value is None or (isinstance(value, float) and not isfinite(value)):  # NaN: how pandas writes an empty cell
        return ()
    found: list[object] = []
    for item in value if isinstance(value, list) else [value]:
        text = item
        if not isinstance(item, str) and isinstance(item, Mapping):
            text = next((item[key] for key in _TEXT_KEYS if key in item), item)
        found += text if isinstance(text, list) and text is not item else [text]
    return tuple(found)


def _written_list(text: str, column: str) -> str | list[Any]:
    """Return the list that a cell such as ``["a dog", "a cat"]`` or ``['a dog' 'a cat']`` has, or the text itself.

    Tuples, and arrays as numpy writes them, ``array(['a dog', 'a cat'], dtype=object)``, count as lists.

    Raises:
        ValueError: it begins like a list of texts and is none.
    """
    stripped = text.strip()
    if (wrapped := _WRITTEN_TUPLE.fullmatch(stripped)) or (wrapped := _WRITTEN_ARRAY.fullmatch(stripped)):
        stripped = f"[{wrapped[1]}]"
    if not stripped.startswith("["):
        return text
    try:
        value = orjson.loads(stripped)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, list) and (not value or any(item is None or isinstance(item, str) for item in value)):
        return value
    if _WRITTEN_LIST.fullmatch(stripped):
        items = _WRITTEN_ITEM.findall(stripped)
        try:
            return [None if item in ("None", "null", "nan") else str(ast.literal_eval(item)) for item in items]
        except (ValueError, SyntaxError):
            pass
    if column == "captions" or re.match(r"""\[\s*["']""", stripped):
        raise ValueError(f"'{column}' begins like a list of texts and is none")
    return text


def split_of(row: Mapping[str, Any], column: str = "split") -> str | None:
    """Return a row's split, as a column says: ``train``, ``dev``, ``test``, or None when the row has none.

    Raises:
        ValueError: it is not the name of a split.
    """
    value = row.get(column)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value not in SPLITS:
        raise ValueError(f"{column} {shown(str(value), 40)!r} is none of {', '.join(SPLITS)}")
    return SPLITS[value]


def attributes_of(row: Mapping[str, Any], exclude: Collection[str]) -> dict[str, Any]:
    """Return a row's other values as JSON values, without empty ones and columns without a name, which are row numbers.

    ``license`` is renamed ``licence``.

    Raises:
        ValueError: a value is nested too deeply.
    """
    others = ((name, value) for name, value in row.items() if name not in exclude and not _NAMELESS.fullmatch(name))
    values = {name: json_value(value) for name, value in others}
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
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item, depth + 1) for item in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return value if isinstance(value, float) and isfinite(value) else None
