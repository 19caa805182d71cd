"""A perceptual hash in integer arithmetic: the signs of an image's lowest DCT frequencies.

Cells are exact area means of a reduced grey image and the transform is exact in 53 bits, so an image has the same hash
on every machine. Mirroring an image flips the signs of its odd horizontal frequencies and nothing else: the hash of the
mirrored image is the hash XOR `MIRROR`. A cropped copy shows a window of the original, so an image also has the hashes
of a grid of its windows.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def hash_image(data: bytes) -> ImageHash:
    """Return the hash of an encoded image (JPEG, PNG or WebP).

    Raises:
        ValueError: the bytes cannot be decoded.
        OSError: the same.
    """
    return hash_grey(_grey(data))


def hash_grey(grey: NDArray[Any]) -> ImageHash:
    """Return the hash of a grey image, uint8 [height, width]."""
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
    if thumbnail.std() < _MIN_CONTRAST:
        return ImageHash(np.zeros(0, dtype=np.uint64), thumbnail)
    # all numbers are integers below 2^53, so the order of summation does not matter
    spectrum = _COSINES @ cells.astype(np.float64) @ _COSINES.T
    signs = np.stack([spectrum[:, down, across] > 0 for down, across in _FREQUENCIES], axis=1)
    return ImageHash((signs * _BIT).sum(axis=1, dtype=np.uint64), thumbnail)


def _cell_sums(sums: NDArray[Any], start: int, end: int) -> NDArray[Any]:
    """Return sums over GRID equal parts of an interval of the first axis, times UNITS * GRID, with fractions of pixels.

    Args:
        sums: int64 [height + 1, ...], cumulative along the first axis.
        start: Start of the interval, in units of the side / UNITS.
        end: Its end.
    """
    height = sums.shape[0] - 1
    scale = _UNITS * GRID
    edges = (start * GRID + np.arange(GRID + 1, dtype=np.int64) * (end - start)) * height
    whole, part = edges // scale, edges % scale
    after = np.minimum(whole + 1, height)
    at = sums[whole] * (scale - part)[:, None] + sums[after] * part[:, None]
    differences: NDArray[Any] = np.diff(at, axis=0)
    return differences


def _means(
    totals: NDArray[Any], shape: tuple[int, ...], down: tuple[int, int], across: tuple[int, int]
) -> NDArray[Any]:
    """Return cell means times `_CELL_SCALE`, rounded down."""
    area = shape[0] * shape[1] * (down[1] - down[0]) * (across[1] - across[0])
    means: NDArray[Any] = totals * _CELL_SCALE // area
    return means


def _grey(data: bytes) -> NDArray[Any]:
    """Return the image in grey, uint8 [height, width], at reduced size if it is a JPEG."""
    import simplejpeg

    if simplejpeg.is_jpeg(data):
        try:
            decoded: NDArray[Any] = simplejpeg.decode_jpeg(
                data, colorspace="GRAY", min_height=_MIN_EDGE_PX, min_width=_MIN_EDGE_PX, min_factor=1
            )
            return decoded[:, :, 0]
        except ValueError:  # a four-channel JPEG has no grey plane; Pillow converts it
            pass
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
        if image.has_transparency_data:
            flat = Image.new("RGB", image.size, "white")
            flat.paste(image.convert("RGB"), mask=image.convert("RGBA").getchannel("A"))
            return np.asarray(flat.convert("L"))
        return np.asarray(image.convert("L"))
