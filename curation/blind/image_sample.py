"""A sample of images in bounded memory that does not depend on their order."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Generic, TypeVar

from data_manifests.seeds import draw_seed

T = TypeVar("T")


class ImageSample(Generic[T]):
    """The images with the smallest hashes, as many as fit some limits: at least one, and the same in any order.

    Args:
        purpose: Part of the hashes: other purposes draw other samples.
        limits: Most of each thing that images have, such as captions, in the whole sample.
    """

    def __init__(self, purpose: str, *limits: int) -> None:
        self._purpose, self._limits = purpose, limits
        self._totals = [0] * len(limits)
        self._bound = 1 << 64
        self._images: list[tuple[int, str, T, tuple[int, ...]]] = []

    def wants(self, uid: str) -> bool:
        """Return whether an image may be in the sample; an image that is not wanted need not be read."""
        return draw_seed(self._purpose, uid) < self._bound

    def add(self, uid: str, item: T, *sizes: int) -> None:
        """Add an image; if there is too much, the images with the largest hashes leave the sample.

        Args:
            uid: The image's uid.
            item: What is held of it.
            sizes: How much of each limited thing it has.
        """
        if not self.wants(uid):
            return
        heapq.heappush(self._images, (-draw_seed(self._purpose, uid), uid, item, sizes))
        self._count(sizes, 1)
        while len(self._images) > 1 and any(
            total > most for total, most in zip(self._totals, self._limits, strict=True)
        ):
            rank, _, _, largest = heapq.heappop(self._images)
            self._count(largest, -1)
            self._bound = -rank

    def _count(self, sizes: Sequence[int], sign: int) -> None:
        for number, size in enumerate(sizes):
            self._totals[number] += sign * size

    @property
    def totals(self) -> list[int]:
        """How much of each limited thing the images of the sample have together."""
        return list(self._totals)

    def items(self) -> list[T]:
        """Return what is held of the images, by uid."""
        return [item for _, _, item, _ in sorted(self._images, key=lambda image: image[1])]
