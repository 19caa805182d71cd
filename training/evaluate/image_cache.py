"""What an image trunk made of an image is kept in memory for the next model with the same trunk.

A comparison evaluates dozens of models on the same images. Where only the text tower and projections were tuned, their
image trunks are one, and this takes most of the time out of all evaluations but the first. Same bits as without.
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
    """Activations by trunk and pixels; the trunk not used for longest goes first when there is no more room.

    Args:
        max_bytes: Room.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._rows: dict[str, dict[bytes, Tensor]] = {}

    def image_trunk_of(self, model: ClipModel) -> ImageTrunk:
        """Return a model's trunk, which computes only what is not kept."""
        name = model.trunk_hash("image")
        self._rows[name] = self._rows.pop(name, {})

        def trunk(images: list[Tensor], rows: int) -> list[Tensor]:
            keys = [blake3(image.numpy().tobytes()).digest(length=16) for image in images]
            kept = self._rows[name]
            fresh = [place for place, key in enumerate(keys) if key not in kept]
            computed = _plain(model)([images[place] for place in fresh], rows) if fresh else []
            own = dict(zip((keys[place] for place in fresh), computed, strict=True))
            found = [own[key] if key in own else kept[key] for key in keys]
            self._keep(name, own)
            return found

        return trunk

    def _keep(self, name: str, rows: dict[bytes, Tensor]) -> None:
        size = sum(row.nbytes for row in rows.values())
        while self._bytes + size > self._max_bytes and len(self._rows) > 1:
            oldest = next(iter(self._rows))
            self._bytes -= sum(row.nbytes for row in self._rows.pop(oldest).values())
        if self._bytes + size <= self._max_bytes:
            self._rows[name] |= rows
            self._bytes += size


_SEEN: ContextVar[ImageCache | None] = ContextVar("seen images", default=None)


@contextmanager
def shared_image_cache(seen: ImageCache | None = None) -> Iterator[None]:
    """Let every evaluation inside the block share what image trunks have computed.

    Args:
        seen: The memory; None for that of the block around this one, or a new one where there is none.
    """
    token = _SEEN.set(seen or _SEEN.get() or ImageCache())
    try:
        yield
    finally:
        _SEEN.reset(token)


def image_trunk_of(model: ClipModel) -> ImageTrunk:
    """Return a model's image trunk, behind the memory if there is one."""
    seen = _SEEN.get()
    return _plain(model) if seen is None else seen.image_trunk_of(model)


def pad_rows(rows: list[Tensor], number: int) -> Tensor:
    """Return rows as one tensor of exactly so many, the missing ones zero: with the shape fixed, so are the bits."""
    import torch

    return torch.stack(rows + [torch.zeros_like(rows[0])] * (number - len(rows)))


def _plain(model: ClipModel) -> ImageTrunk:
    def trunk(images: list[Tensor], rows: int) -> list[Tensor]:
        # a row's own copy: a view would keep the whole batch alive
        return [row.clone() for row in model.image_trunk(pad_rows(images, rows))[: len(images)]]

    return trunk
