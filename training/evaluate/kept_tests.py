"""Tests that are drawn once and kept as JSON, so that every run is asked the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from training.evaluate.small_files import read_json

T = TypeVar("T")


def save_test(path: Path, test_format: str, values: Mapping[str, Any]) -> None:
    """Write a test as JSON, its format beside its values; equal tests give equal bytes."""
    write_atomically(
        path, orjson.dumps({"format": test_format, **values}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    )


def load_test(path: Path, test_format: str, what: str, build: Callable[[Any], T]) -> T:
    """Read a test that `save_test` wrote.

    Args:
        path: The file.
        test_format: The format that it must have.
        what: What it should be, for the error: ``an order test``.
        build: Makes the test of the file's values.

    Raises:
        InputError: missing, damaged or of another format.
    """
    fix = "delete it; it is drawn again"
    try:
        record = read_json(path)
        if record["format"] != test_format:
            raise InputError(f"{path}: format {record['format']!r}", allowed=test_format, fix=fix)
        return build(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not {what} ({error})", fix=fix) from error
