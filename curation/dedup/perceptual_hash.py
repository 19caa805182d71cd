"""A perceptual hash in integer arithmetic: the signs of an image's lowest DCT frequencies.

Cells are exact area means of a reduced grey image and the transform is exact in 53 bits, so an image has the same hash
on every machine. Mirroring an image flips the signs of its odd horizontal frequencies and nothing else: the hash of the
mirrored image is the hash XOR `MIRROR`. A cropped copy shows a window of the original, so an image also has the hashes
of a grid of its windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_manifests.image_decoder import decode_grey

GRID = 32
"""Cells along each side of the transform's input, and of the thumbnail."""

NUM_BITS = 64
_MIN_EDGE_PX = 128
"""JPEGs are decoded at the smallest scale with at least this height and width."""

_SIDES = ((0, 40), (2, 40), (0, 38), (2, 38), (4, 40), (0, 36))
"""Intervals of a side, in fortieths, that windows consist of: up to a tenth is cut off, in steps of a twentieth."""

NUM_WINDOWS = len(_SIDES) ** 2
_UNITS = 40
_COSINE_SCALE = 2**14
_CELL_SCALE = 16
_MIN_CONTRAST = 2.0
"""Standard deviation of the thumbnail (of 255) below which an image is flat and has no hash."""


def _frequencies() -> list[tuple[int, int]]:
    """Return the 64 lowest (vertical, horizontal) frequencies in ascending order, without the mean."""
    pairs = [(down, across) for down in range(16) for across in range(16) if down + across]
    return sorted(pairs, key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))[:NUM_BITS]


_FREQUENCIES = _frequencies()
_HIGHEST = 1 + max(max(pair) for pair in _FREQUENCIES)
_COSINES = np.round(np.cos(np.pi * np.outer(np.arange(_HIGHEST), 2 * np.arange(GRID) + 1) / (2 * GRID)) * _COSINE_SCALE)
_BIT = np.array([1 << bit for bit in range(NUM_BITS)], dtype=np.uint64)
MIRROR = int(sum(1 << bit for bit, (_, across) in enumerate(_FREQUENCIES) if across % 2))
"""Bits that flip when an image is mirrored left to right."""


@dataclass(frozen=True)
class ImageHash:
    """The hashes of an image and its thumbnail.

    Attributes:
        windows: uint64 [NUM_WINDOWS]; the first is the whole image's. Empty when the image is flat.
        thumbnail: Grey, uint8 [GRID, GRID].
    """

    windows: NDArray[Any]
    thumbnail: NDArray[Any]


def hash_image(data: bytes, name: str) -> ImageHash:
    """Return the hash of an encoded image.

    Args:
        data: The file.
        name: What messages call it.

    Raises:
        UnusableImageError: the bytes cannot be decoded.
    """
    return hash_grey(decode_grey(data, name, _MIN_EDGE_PX))


def hash_grey(grey: NDArray[Any]) -> ImageHash:
    """Return the hash of a grey image, uint8 [height, width]."""
    # the long side first: what is left then has few numbers, however long a strip is; sums of integers may change order
    upright = grey.shape[0] >= grey.shape[1]
    of_long = _side_sums(grey if upright else grey.T)
    of_both = _side_sums(of_long.transpose(2, 0, 1))  # [sides of short, GRID, sides of long, GRID]
    totals = of_both.transpose(2, 0, 3, 1) if upright else of_both.transpose(0, 2, 1, 3)  # [down, across, GRID, GRID]
    lengths = np.diff(_SIDES)[:, 0]
    areas = grey.size * np.outer(lengths, lengths)[:, :, None, None]
    cells = (totals * _CELL_SCALE // areas).reshape(NUM_WINDOWS, GRID, GRID)
    thumbnail = np.minimum(cells[0] // _CELL_SCALE, 255).astype(np.uint8)
    if thumbnail.std() < _MIN_CONTRAST:
        return ImageHash(np.zeros(0, dtype=np.uint64), thumbnail)
    # all numbers are integers below 2^53, so the order of summation does not matter
    spectrum = _COSINES @ cells.astype(np.float64) @ _COSINES.T
    signs = np.stack([spectrum[:, down, across] > 0 for down, across in _FREQUENCIES], axis=1)
    return ImageHash((signs * _BIT).sum(axis=1, dtype=np.uint64), thumbnail)


def _side_sums(values: NDArray[Any]) -> NDArray[Any]:
    """Return int64 [sides, GRID, ...]: sums over GRID equal parts of each of `_SIDES` along the first axis.

    They are times `_UNITS` * GRID, so that fractions of a pixel are whole numbers.
    """
    sums = np.zeros((len(values) + 1, *values.shape[1:]), dtype=np.int64)
    np.cumsum(values, axis=0, out=sums[1:])
    scale = _UNITS * GRID
    found = []
    for start, end in _SIDES:
        edges = (start * GRID + np.arange(GRID + 1, dtype=np.int64) * (end - start)) * len(values)
        whole, part = edges // scale, (edges % scale).reshape(-1, *[1] * (values.ndim - 1))
        after = np.minimum(whole + 1, len(values))
        found.append(np.diff(sums[whole] * (scale - part) + sums[after] * part, axis=0))
    return np.stack(found)
