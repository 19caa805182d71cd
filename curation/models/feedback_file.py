"""What a training run learned about each negative, read from the file it left."""

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
    """What is known of one negative; losses are None when it was never trained on."""

    drawn: int
    gated: int
    last_margin: float | None
    last_loss: float | None
    mean_loss: float | None


@dataclass(frozen=True)
class FeedbackFile:
    """A run's feedback, known by its content.

    Attributes:
        path: The file, or the run's folder.
    """

    path: str

    @classmethod
    def open(cls, path: str) -> FeedbackFile:
        """Return the feedback at a path.

        Raises:
            InputError: there is none, or it is no feedback.
        """
        file = Path(path) / FEEDBACK_FILE if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise InputError(
                f"--feedback {path}: no {FEEDBACK_FILE} there",
                allowed="the folder of a finished run, or its feedback.parquet",
                fix="check that the run has ended (done.json)",
            )
        found = cls(str(file.resolve()))
        _read(found.path, found.content_hash())
        return found

    def content_hash(self) -> str:
        """Return BLAKE3-128 (hex) of the file."""
        return blake3(Path(self.path).read_bytes()).hexdigest(length=16)

    def describe(self) -> str:
        """Return which version it speaks of."""
        return f"feedback on {_read(self.path, self.content_hash())[1]}"

    def of(self, uid: str) -> Mapping[tuple[int, str], NegativeStats]:
        """Return what is known of a sample's negatives, by number of the caption and text."""
        return _read(self.path, _hash_once(self.path)).rows.get(uid, {})


class _Read(NamedTuple):
    rows: Mapping[str, Mapping[tuple[int, str], NegativeStats]]
    version: str


@functools.lru_cache(maxsize=4)
def _hash_once(path: str) -> str:
    return FeedbackFile(path).content_hash()


@functools.lru_cache(maxsize=2)
def _read(path: str, _content: str) -> _Read:
    """Read the file; `_content` keeps a changed file from being taken for the old one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {Path(path).stat().st_size} bytes", allowed=f"at most {MAX_BYTES}")
        table = pq.read_table(path, columns=list(COLUMNS))
        version = (table.schema.metadata or {}).get(b"version", b"an unknown version").decode()
        columns: list[list[Any]] = [table.column(name).to_pylist() for name in COLUMNS]
    except (pa.ArrowInvalid, KeyError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: no feedback of a run ({error})", allowed="columns " + ", ".join(COLUMNS), fix="train again"
        ) from None
    rows: dict[str, dict[tuple[int, str], NegativeStats]] = {}
    for uid, caption, text, *numbers in zip(*columns, strict=True):
        if caption >= 0:
            rows.setdefault(uid, {})[caption, text] = NegativeStats(*numbers)
    return _Read(rows, version)
