"""Caches the activations of an image trunk in memory for the next model with the same trunk.

A comparison evaluates dozens of models on the same images. Where only the text encoder and the projections were tuned,
the models share their image trunk, and the cache saves most of the time of all evaluations but the first. The bits are
the same as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from torch import Tensor

    from training.model.clip_model import ClipModel

MAX_BYTES = 1 << 29

ImageTrunk = Callable[[list["Tensor"], int], list["Tensor"]]
"""Activations [width] of images [3, size, size], computed in batches of a fixed number of rows."""


class ImageCache:
    """Activations by trunk and pixels; when it is full, the least recently used trunk is evicted.

    Args:
        max_bytes: Capacity.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._rows: dict[str, dict[bytes, Tensor]] = {}

    def image_trunk_of(self, model: ClipModel) -> ImageTrunk:
        """Return a model's trunk, which computes only activations that are not cached."""
        name = model.trunk_hash("image")
        self._rows[name] = self._rows.pop(name, {})

        def trunk(images: list[Tensor], rows: int) -> list[Tensor]:
            keys = [blake3(image.numpy().tobytes()).digest(length=16) for image in images]
            cached = self._rows[name]
            new = [row for row, key in enumerate(keys) if key not in cached]
            computed = _uncached(model)([images[row] for row in new], rows) if new else []
            added = dict(zip((keys[row] for row in new), computed, strict=True))
            activations = [added[key] if key in added else cached[key] for key in keys]
            self._add(name, added)
            return activations

        return trunk

    def _add(self, name: str, rows: dict[bytes, Tensor]) -> None:
        size = sum(row.nbytes for row in rows.values())
        while self._bytes + size > self._max_bytes and len(self._rows) > 1:
            oldest = next(iter(self._rows))
            self._bytes -= sum(row.nbytes for row in self._rows.pop(oldest).values())
        if self._bytes + size <= self._max_bytes:
            self._rows[name] |= rows
            self._bytes += size


_CACHE: ContextVar[ImageCache | None] = ContextVar("image cache", default=None)


@contextmanager
def shared_image_cache(cache: ImageCache | None = None) -> Iterator[None]:
    """Let all evaluations inside the block share one cache.

    Args:
        cache: The cache; by default that of an enclosing block, else a new one.
    """
    token = _CACHE.set(cache or _CACHE.get() or ImageCache())
    try:
        yield
    finally:
        _CACHE.reset(token)


def image_trunk_of(model: ClipModel) -> ImageTrunk:
    """Return a model's image trunk, with the cache of the enclosing block if there is one."""
    cache = _CACHE.get()
    return _uncached(model) if cache is None else cache.image_trunk_of(model)


def pad_rows(rows: list[Tensor], number: int) -> Tensor:
    """Return rows as one tensor padded with zeros to a fixed number of rows: with the shape fixed, so are the bits."""
    import torch

    return torch.stack(rows + [torch.zeros_like(rows[0])] * (number - len(rows)))


def _uncached(model: ClipModel) -> ImageTrunk:
    def trunk(images: list[Tensor], rows: int) -> list[Tensor]:
        # copied, since a view would keep the whole batch alive
        return [row.clone() for row in model.image_trunk(pad_rows(images, rows))[: len(images)]]

    return trunk
