"""The feedback of a training run: statistics of each negative, read from the run's file."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from data_manifests.errors import InputError
from data_manifests.run_files import FEEDBACK_FILE

COLUMNS = ("uid", "caption", "text", "drawn", "gated", "last_margin")
_CANDIDATE = "candidate"
"""Column that files of earlier runs lack: they know of a candidate only what was trained on or left out."""
MAX_BYTES = 1 << 31


class NegativeStats(NamedTuple):
    """Statistics of one negative.

    Attributes:
        candidate: Steps in which it could be chosen.
        drawn: Steps in which it was trained on.
        gated: Steps in which it was left out as likely true of the image.
        last_margin: Cosine of image and caption less that of image and negative when it was last trained on; None if never.
    """

    candidate: int
    drawn: int
    gated: int
    last_margin: float | None


class Margins(NamedTuple):
    """The last margins of a run, ascending.

    Attributes:
        negatives: Of captions to each of their negatives that was trained on.
        rivals: Of captions to the most similar caption of another sample of the batch, one for each sample.
    """

    negatives: Sequence[float]
    rivals: Sequence[float]

    def hardness(self, margin: float) -> float:
        """Return the share of the negatives whose margin is larger, equal ones by half: 0 for the easiest, 1 for the hardest."""
        below, through = bisect_left(self.negatives, margin), bisect_right(self.negatives, margin)
        return 1.0 - (below + through) / (2 * max(1, len(self.negatives)))


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return a quantile, linear between the two numbers around its place; infinite of none."""
    if not ascending:
        return math.inf
    place = share * (len(ascending) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])


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
        return f"feedback on {_read(self.path, self.content_hash()).version}"

    def of(self, uid: str) -> Mapping[tuple[int, str], NegativeStats]:
        """Return the statistics of a sample's negatives by (number of the caption, text)."""
        return _read(self.path, _hash_once(self.path)).rows.get(uid, {})

    def margins(self) -> Margins:
        """Return the last margins of the whole run."""
        return _read(self.path, _hash_once(self.path)).margins


class _Read(NamedTuple):
    rows: Mapping[str, Mapping[tuple[int, str], NegativeStats]]
    margins: Margins
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
        known = pq.read_schema(path).names
        table = pq.read_table(path, columns=[*COLUMNS, *([_CANDIDATE] if _CANDIDATE in known else [])])
        version = (table.schema.metadata or {}).get(b"version", b"an unknown version").decode()
        columns: list[list[Any]] = [table.column(name).to_pylist() for name in COLUMNS]
    except (pa.ArrowInvalid, KeyError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not the feedback of a run ({error})",
            allowed="a Parquet file with the columns " + ", ".join(COLUMNS),
            fix="use the feedback.parquet of a finished run",
        ) from None
    if _CANDIDATE not in table.column_names:
        columns.append([drawn + gated for drawn, gated in zip(columns[3], columns[4], strict=True)])
    else:
        columns.append(table.column(_CANDIDATE).to_pylist())
    rows: dict[str, dict[tuple[int, str], NegativeStats]] = {}
    negatives, rivals = list[float](), list[float]()
    for uid, caption, text, drawn, gated, margin, candidate in zip(*columns, strict=True):
        if caption >= 0:
            rows.setdefault(uid, {})[caption, text] = NegativeStats(candidate, drawn, gated, margin)
        if margin is not None:
            (negatives if caption >= 0 else rivals).append(margin)
    return _Read(rows, Margins(sorted(negatives), sorted(rivals)), version)
