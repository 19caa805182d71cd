"""A perceptual hash in whole numbers: the signs of a picture's lowest cosine frequencies.

Cells are exact area means of a reduced grey picture and the transform is exact in 53 bits, so a picture has the same
hash on every machine. Mirroring a picture turns the sign of every odd horizontal frequency and of nothing else: the
hash of the mirrored picture is the hash XOR `MIRROR`, and needs no second look at the pixels. A cropped copy shows a
window of the original, so a picture carries the hashes of a grid of its windows beside its own.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

GRID = 32
"""Cells along each side of what is transformed, and of the thumbnail."""

NUM_BITS = 64
_MIN_EDGE_PX = 128
"""JPEGs are decoded at the smallest scale that leaves so many pixels in height and width."""

_SIDES = ((0, 40), (2, 40), (0, 38), (2, 38), (4, 40), (0, 36))
"""Intervals of a side that windows are made of, in fortieths: up to a tenth is cut off, in steps of a twentieth."""

NUM_WINDOWS = len(_SIDES) ** 2
_UNITS = 40
_COSINE_SCALE = 2**14
_CELL_SCALE = 16
_LEAST_CONTRAST = 2.0
"""Standard deviation of the thumbnail (of 255) below which a picture has nothing to be known by."""


def _frequencies() -> list[tuple[int, int]]:
    """Return (vertical, horizontal) frequencies in order of length, the mean left out."""
    pairs = [(down, across) for down in range(16) for across in range(16) if down + across]
    return sorted(pairs, key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))[:NUM_BITS]


_FREQUENCIES = _frequencies()
_HIGHEST = 1 + max(max(pair) for pair in _FREQUENCIES)
_COSINES = np.round(np.cos(np.pi * np.outer(np.arange(_HIGHEST), 2 * np.arange(GRID) + 1) / (2 * GRID)) * _COSINE_SCALE)
_BIT = np.array([1 << place for place in range(NUM_BITS)], dtype=np.uint64)
MIRROR = int(sum(1 << place for place, (_, across) in enumerate(_FREQUENCIES) if across % 2))
"""Bits that change when a picture is mirrored left to right."""


@dataclass(frozen=True)
class ImageHash:
    """What pictures are compared by.

    Attributes:
        windows: uint64 [NUM_WINDOWS]; the first is the whole picture's. Empty when the picture is flat.
        thumbnail: Grey, uint8 [GRID, GRID].
    """

    windows: Array
    thumbnail: Array


def hash_image(data: bytes) -> ImageHash:
    """Return the hash of an encoded picture (JPEG, PNG or WebP).

    Raises:
        ValueError: the bytes cannot be decoded.
        OSError: the same.
    """
    return hash_grey(_grey(data))


def hash_grey(grey: Array) -> ImageHash:
    """Return the hash of a grey picture, uint8 [height, width]."""
    sums = np.zeros((grey.shape[0] + 1, grey.shape[1] + 1), dtype=np.int64)
    np.cumsum(np.cumsum(grey, axis=0, dtype=np.int64), axis=1, out=sums[1:, 1:])
    down = [_cell_sums(sums, start, end) for start, end in _SIDES]
    cells = np.stack(
        [
            _means(_cell_sums(rows.T, *across).T, grey.shape, height, across)
            for rows, height in zip(down, _SIDES, strict=True)
            for across in _SIDES
        ]
    )
    thumbnail = np.minimum(cells[0] // _CELL_SCALE, 255).astype(np.uint8)
    if thumbnail.std() < _LEAST_CONTRAST:
        return ImageHash(np.zeros(0, dtype=np.uint64), thumbnail)
    # whole numbers below 2^53 throughout, so the order of the sums does not matter
    spectrum = _COSINES @ cells.astype(np.float64) @ _COSINES.T
    signs = np.stack([spectrum[:, down, across] > 0 for down, across in _FREQUENCIES], axis=1)
    return ImageHash((signs * _BIT).sum(axis=1, dtype=np.uint64), thumbnail)


def _cell_sums(sums: Array, start: int, end: int) -> Array:
    """Return sums over GRID equal parts of an interval of the first axis, times UNITS * GRID; fractions of pixels count.

    Args:
        sums: int64 [height + 1, ...], cumulative along the first axis.
        start: Where the interval starts, in units of the whole side / UNITS.
        end: Where it ends.
    """
    height = sums.shape[0] - 1
    scale = _UNITS * GRID
    edges = (start * GRID + np.arange(GRID + 1, dtype=np.int64) * (end - start)) * height
    whole, part = edges // scale, edges % scale
    after = np.minimum(whole + 1, height)
    at = sums[whole] * (scale - part)[:, None] + sums[after] * part[:, None]
    differences: Array = np.diff(at, axis=0)
    return differences


def _means(totals: Array, shape: tuple[int, ...], down: tuple[int, int], across: tuple[int, int]) -> Array:
    """Return cell means times `_CELL_SCALE`, rounded down."""
    area = shape[0] * shape[1] * (down[1] - down[0]) * (across[1] - across[0])
    means: Array = totals * _CELL_SCALE // area
    return means


def _grey(data: bytes) -> Array:
    """Return a grey picture, uint8 [height, width], at reduced size where the format can."""
    import simplejpeg

    if simplejpeg.is_jpeg(data):
        try:
            decoded: Array = simplejpeg.decode_jpeg(
                data, colorspace="GRAY", min_height=_MIN_EDGE_PX, min_width=_MIN_EDGE_PX, min_factor=1
            )
            return decoded[:, :, 0]
        except ValueError:  # four-channel JPEGs have no grey plane: Pillow converts them
            pass
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
        if image.has_transparency_data:
            flat = Image.new("RGB", image.size, "white")
            flat.paste(image.convert("RGB"), mask=image.convert("RGBA").getchannel("A"))
            return np.asarray(flat.convert("L"))
        return np.asarray(image.convert("L"))
