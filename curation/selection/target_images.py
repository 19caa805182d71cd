"""Target images of a selection: embeddings by the same encoder in files, identified by their content."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from data_manifests.errors import InputError, nearest

KINDS = ("npy", "version")
_ALLOWED = "npy:FILE.npy, npy:FOLDER of them (img_emb of an export), or version:FOLDER of a version's shards"


@dataclass(frozen=True)
class TargetImages:
    """Embeddings in files; has only a path, so it can be sent to worker processes.

    Attributes:
        kind: ``npy`` (arrays of rows) or ``version`` (the parquet files beside a version's shards).
        path: File or folder.
    """

    kind: str
    path: str

    @classmethod
    def parse(cls, text: str) -> TargetImages:
        """Parse ``KIND:PATH``.

        Raises:
            InputError: an unknown kind, or there is no such file or folder.
        """
        kind, colon, path = text.partition(":")
        if kind not in KINDS or not colon or not path:
            raise InputError(f"target {text!r}", allowed=_ALLOWED, fix=nearest(kind, KINDS) or "give kind and path")
        target = cls(kind, str(Path(path).absolute()))
        target.files()
        return target

    def files(self) -> list[Path]:
        """Return the files, sorted by name.

        Raises:
            InputError: there is none.
        """
        path = Path(self.path)
        if path.is_file() and self.kind == "npy":
            return [path]
        pattern = "*.npy" if self.kind == "npy" else "[0-9]*.parquet"
        found = sorted(path.glob(pattern)) if path.is_dir() else []
        if not found:
            raise InputError(
                f"target {self.kind}:{path}: no {pattern} there", allowed=_ALLOWED, fix="check kind and path"
            )
        return found

    def content_hash(self) -> str:
        """Return BLAKE3 (128 bits, hex) of all files."""
        state = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files())
        return _hash_of(state)

    def describe(self) -> str:
        """Return kind and file name."""
        return f"{self.kind}:{Path(self.path).name}"

    def load(self, num_dims: int) -> np.ndarray[Any, Any]:
        """Return the embeddings [m, num_dims], as they are stored.

        Raises:
            InputError: a file cannot be read, or has anything but rows of this width.
        """
        read = _read_npy if self.kind == "npy" else _read_sidecar
        parts = [_checked(read(path), path, num_dims) for path in self.files()]
        rows = np.concatenate(parts)
        if not len(rows):
            raise InputError(f"target {self.describe()}: no rows", fix="give embeddings of at least one image")
        return rows


@functools.lru_cache(maxsize=16)
def _hash_of(state: tuple[tuple[str, int, int], ...]) -> str:
    """Return the hash of files with these names, sizes and times; cached until one of these changes."""
    digest = blake3()
    for name, size, _ in state:
        digest.update(size.to_bytes(8, "little"))
        digest.update_mmap(name)
    return digest.hexdigest(length=16)


def _read_npy(path: Path) -> np.ndarray[Any, Any]:
    try:
        # memory-mapped, so that a header with a larger shape than the file has is an error, not an allocation
        rows: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: cannot be read as an array ({type(error).__name__}: {error})",
            allowed="float16, float32 or float64 of two dimensions, written by numpy.save",
            fix="write the file again",
        ) from None
    return rows


def _read_sidecar(path: Path) -> np.ndarray[Any, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        column = pq.read_table(path, columns=["image_embedding"]).column("image_embedding").combine_chunks()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(
            f"{path}: no column image_embedding ({type(error).__name__})",
            allowed="the parquet files of a version that was curated with embed_samples",
            fix="curate it with a recipe that embeds, such as s_clip_loss",
        ) from None
    if not pa.types.is_fixed_size_list(column.type) or column.null_count:
        raise InputError(f"{path}: image_embedding is {column.type}", allowed="a list of fixed size in every row")
    rows: np.ndarray[Any, Any] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return rows


def _checked(rows: np.ndarray[Any, Any], path: Path, num_dims: int) -> np.ndarray[Any, Any]:
    if rows.ndim != 2 or rows.dtype.kind != "f" or rows.shape[1] != num_dims:
        raise InputError(
            f"{path}: array of {rows.dtype} with shape {list(rows.shape)}",
            allowed=f"rows of {num_dims} floats, as the recipe's model embeds",
            fix="embed the target with the same --model",
        )
    usable = np.isfinite(rows).all(axis=1) & (np.abs(rows).max(axis=1, initial=0) > 0)
    if not usable.all():
        raise InputError(f"{path}: row {int(np.flatnonzero(~usable)[0])} has no direction", fix="write the file again")
    return rows
