"""The feedback of a training run: statistics of each negative, read from the run's file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from data_manifests.errors import InputError
from data_manifests.run_files import FEEDBACK_FILE

COLUMNS = ("uid", "caption", "text", "drawn", "gated", "last_margin", "last_loss", "mean_loss")
MAX_BYTES = 1 << 31


class NegativeStats(NamedTuple):
    """Statistics of one negative; margin and losses are None when it was never trained on."""

    drawn: int
    gated: int
    last_margin: float | None
    last_loss: float | None
    mean_loss: float | None


@dataclass(frozen=True)
class FeedbackFile:
    """A run's feedback, identified by its content.

    Attributes:
        path: The file.
    """

    path: str

    @classmethod
    def open(cls, path: str) -> FeedbackFile:
        """Return the feedback of a run's folder, or of a file.

        Raises:
            InputError: there is no such file, or it is not the feedback of a run.
        """
        file = Path(path) / FEEDBACK_FILE if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise InputError(
                f"--feedback {path}: there is no {FEEDBACK_FILE}",
                allowed="the folder of a finished run, or its feedback.parquet",
                fix="check that the run has finished (its folder then contains done.json)",
            )
        found = cls(str(file.resolve()))
        _read(found.path, found.content_hash())
        return found

    def content_hash(self) -> str:
        """Return BLAKE3-128 (hex) of the file."""
        return blake3(Path(self.path).read_bytes()).hexdigest(length=16)

    def describe(self) -> str:
        """Return a name for people: the dataset version that the run was trained on."""
        return f"feedback on {_read(self.path, self.content_hash())[1]}"

    def of(self, uid: str) -> Mapping[tuple[int, str], NegativeStats]:
        """Return the statistics of a sample's negatives by (number of the caption, text)."""
        return _read(self.path, _hash_once(self.path)).rows.get(uid, {})


class _Read(NamedTuple):
    rows: Mapping[str, Mapping[tuple[int, str], NegativeStats]]
    version: str


@functools.lru_cache(maxsize=4)
def _hash_once(path: str) -> str:
    return FeedbackFile(path).content_hash()


@functools.lru_cache(maxsize=2)
def _read(path: str, _content: str) -> _Read:
    """Read the file; `_content`, its hash, makes the cache miss when the file has changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise InputError(
                f"{path}: {Path(path).stat().st_size:,} bytes are too many", allowed=f"at most {MAX_BYTES:,} bytes"
            )
        table = pq.read_table(path, columns=list(COLUMNS))
        version = (table.schema.metadata or {}).get(b"version", b"an unknown version").decode()
        columns: list[list[Any]] = [table.column(name).to_pylist() for name in COLUMNS]
    except (pa.ArrowInvalid, KeyError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not the feedback of a run ({error})",
            allowed="a Parquet file with the columns " + ", ".join(COLUMNS),
            fix="use the feedback.parquet of a finished run",
        ) from None
    rows: dict[str, dict[tuple[int, str], NegativeStats]] = {}
    for uid, caption, text, *numbers in zip(*columns, strict=True):
        if caption >= 0:
            rows.setdefault(uid, {})[caption, text] = NegativeStats(*numbers)
    return _Read(rows, version)
