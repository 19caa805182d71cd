"""Small files of benchmarks and results, read whole up to a size limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from data_manifests.errors import InputError

MAX_BYTES = 1 << 28


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        InputError: missing or too large.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise InputError(f"{path.name}: {size} bytes", allowed=f"at most {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: missing, too large or not JSON.
    """
    try:
        return orjson.loads(read_bytes(path))
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a text file that are not blank, without spaces around them, and their numbers from 1.

    Raises:
        InputError: missing or too large.
    """
    numbered = enumerate(read_bytes(path).decode("utf-8-sig", errors="replace").splitlines(), start=1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]
