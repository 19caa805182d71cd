"""Caches what frozen trunks compute, in memory, for the next model with the same trunk.

A comparison evaluates dozens of models on the same images and texts. Where only the other encoder and the projections were
tuned, the models share a trunk, and the cache saves most of the time of all evaluations but the first: images are not even
decoded again. Models tuned `top:N`, and all shares between such a model and its base, share the image tower's frozen
prefix. The bits are the same as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from training.model.clip_model import ClipModel

MAX_BYTES = 1 << 29


@dataclass(frozen=True)
class ImageInput:
    """An image that is read only if its activations are not cached.

    Attributes:
        key: Names the pixels: equal keys are equal images.
        read: Returns the preprocessed image [3, size, size], or None if it cannot be read.
    """

    key: str
    read: Callable[[], Tensor | None]


ImageTrunk = Callable[[Sequence[ImageInput], int], list["Tensor | None"]]
"""Activations [width] of images, computed in batches of a fixed number of rows; None for unreadable ones."""
TextTrunk = Callable[["Tensor", int], list["Tensor"]]
"""Activations [width] of token ids [n, length], computed in batches of a fixed number of rows."""


class ImageCache:
    """Activations by trunk and input; when it is full, the least recently used trunk is evicted.

    Args:
        max_bytes: Capacity.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._rows: dict[str, dict[str | bytes, Tensor | None]] = {}

    def image_trunk_of(self, model: ClipModel) -> ImageTrunk:
        """Return a model's image trunk, which reads and computes only what is not cached."""
        name = f"image {model.trunk_hash('image')}"
        if "image" not in model.cuts:
            return self._images(name, _uncached(model.image_trunk))
        prefix = self._images(f"image {model.prefix_hash('image')}", _uncached(model.image_prefix))
        rest = _uncached(model.image_trunk_from)

        def from_prefix(images: Sequence[ImageInput], rows: int) -> list[Tensor | None]:
            held = zip(images, prefix(images, rows), strict=True)
            return rest([ImageInput(image.key, partial(_given, value)) for image, value in held], rows)

        return self._images(name, from_prefix)

    def _images(self, name: str, plain: ImageTrunk) -> ImageTrunk:
        self._use(name)

        def trunk(images: Sequence[ImageInput], rows: int) -> list[Tensor | None]:
            keys = [image.key for image in images]
            new = self._missing(name, keys)
            return self._found(name, keys, new, plain([images[row] for row in new], rows) if new else [])

        return trunk

    def text_trunk_of(self, model: ClipModel) -> TextTrunk:
        """Return a model's text trunk, which computes only what is not cached."""
        name, plain = f"text {model.trunk_hash('text')}", _uncached_texts(model)
        self._use(name)

        def trunk(tokens: Tensor, rows: int) -> list[Tensor]:
            keys = [row.numpy().tobytes() for row in tokens]
            new = self._missing(name, keys)
            found = self._found(name, keys, new, plain(tokens[new], rows) if new else [])
            return [row for row in found if row is not None]

        return trunk

    def _use(self, name: str) -> None:
        """Make a trunk the most recently used one."""
        self._rows[name] = self._rows.pop(name, {})

    def _missing(self, name: str, keys: Sequence[str | bytes]) -> list[int]:
        cached = self._rows.get(name, {})
        return [row for row, key in enumerate(keys) if key not in cached]

    def _found(
        self, name: str, keys: Sequence[str | bytes], new: Sequence[int], computed: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """Return the activations of all keys; those computed now are cached."""
        added = dict(zip((keys[row] for row in new), computed, strict=True))
        cached = self._rows.get(name, {})
        activations = [added[key] if key in added else cached[key] for key in keys]
        self._add(name, added)
        return activations

    def _add(self, name: str, rows: dict[str | bytes, Tensor | None]) -> None:
        size = _size(rows)
        while self._bytes + size > self._max_bytes and len(self._rows) > 1:
            self._bytes -= _size(self._rows.pop(next(iter(self._rows))))
        if self._bytes + size <= self._max_bytes:
            self._rows.setdefault(name, {}).update(rows)
            self._bytes += size


def _size(rows: dict[str | bytes, Tensor | None]) -> int:
    return sum(row.nbytes for row in rows.values() if row is not None)


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
    return _uncached(model.image_trunk) if cache is None else cache.image_trunk_of(model)


def text_trunk_of(model: ClipModel) -> TextTrunk:
    """Return a model's text trunk, with the cache of the enclosing block if there is one."""
    cache = _CACHE.get()
    return _uncached_texts(model) if cache is None else cache.text_trunk_of(model)


def pad_rows(rows: Sequence[Tensor], number: int) -> Tensor:
    """Return rows as one tensor padded with zeros to a fixed number of rows: with the shape fixed, so are the bits."""
    import torch

    return torch.stack([*rows, *[torch.zeros_like(rows[0])] * (number - len(rows))])


def _given(value: Tensor | None) -> Tensor | None:
    return value


def _uncached(compute: Callable[[Tensor], Tensor]) -> ImageTrunk:
    def trunk(images: Sequence[ImageInput], rows: int) -> list[Tensor | None]:
        read = [image.read() for image in images]
        pixels = [image for image in read if image is not None]
        if not pixels:
            return [None] * len(images)
        # copied, since a view would keep the whole batch alive
        computed = iter([row.clone() for row in compute(pad_rows(pixels, rows))[: len(pixels)]])
        return [None if image is None else next(computed) for image in read]

    return trunk


def _uncached_texts(model: ClipModel) -> TextTrunk:
    def trunk(tokens: Tensor, rows: int) -> list[Tensor]:
        import torch

        padded = torch.cat([tokens, tokens[:1].expand(rows - len(tokens), -1)])
        return [row.clone() for row in model.text_trunk(padded)[: len(tokens)]]

    return trunk
