"""DataComp's subset files: the 128-bit uids of a selection, each as two little-endian 64-bit halves, sorted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion

UID_TYPE = np.dtype([("f0", "<u8"), ("f1", "<u8")])
"""What ``numpy.dtype("u8,u8")`` is on the machines that DataComp runs on."""


def uid_array(uids: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return uids as sorted pairs of their upper and lower 64 bits.

    Raises:
        ValueError: one is not 32 hexadecimal characters.
    """
    halves = b"".join(bytes.fromhex(uid) for uid in uids)
    if len(halves) != 16 * len(uids):
        raise ValueError("uids have 32 hexadecimal characters")
    pairs: np.ndarray[Any, Any] = np.frombuffer(halves, ">u8").reshape(-1, 2)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    found = np.empty(len(uids), UID_TYPE)
    found["f0"], found["f1"] = pairs[order, 0], pairs[order, 1]
    return found


def write_uids(version: DatasetVersion, path: Path) -> int:
    """Write the uids of a version as ``.npy`` and return their number.

    Raises:
        InputError: the file's name does not end in .npy.
    """
    if path.suffix != ".npy":
        raise InputError(f"--out {path}", allowed="a name that ends in .npy", fix=f"--out {path}.npy")
    uids = uid_array(version.index(["uid"]).column("uid").to_pylist())
    buffer = io.BytesIO()
    np.save(buffer, uids, allow_pickle=False)
    write_atomically(path, buffer.getvalue())
    return len(uids)
