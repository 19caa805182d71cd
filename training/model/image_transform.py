"""From a picture to the square that an image tower sees: open_clip's validation transform, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Resampling
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_RESIZED_PIXELS = 2**24
"""Most pixels of a resized picture before the square is cut from it; a strip that would have more is cut first."""


@dataclass(frozen=True)
class ImageTransform:
    """Open_clip's validation transform, with strips made shorter first.

    Enlarged until its short side fills the square, a strip of 1 x 200,000 pixels has ten billion, of which the square in the
    middle is cut out; here the middle is cut out first. The pixels are those of open_clip's transform, up to rounding.

    Attributes:
        whole: The transform.
        size_px: Side of the square.
        resample: How it interpolates.
        resize_mode: Its ``shortest`` (fill the square, cut the rest), ``longest`` (fit into it) or ``squash``.
    """

    whole: Callable[[Image], Tensor]
    size_px: int
    resample: Resampling
    resize_mode: str

    @classmethod
    def of(cls, settings: PreprocessCfg, size_px: int) -> ImageTransform:
        """Return the transform for a model's settings and side."""
        resample = Resampling.BILINEAR if settings.interpolation == "bilinear" else Resampling.BICUBIC
        return cls(image_transform_v2(settings, is_train=False), size_px, resample, settings.resize_mode)

    def __call__(self, image: Image) -> Tensor:
        """Return a picture's pixels [3, size_px, size_px]."""
        short, long = sorted(image.size)
        if self.size_px**2 * long > MAX_RESIZED_PIXELS * short:
            image = self._middle(image) if self.resize_mode == "shortest" else self._shortened(image)
        return self.whole(image)

    def _shortened(self, image: Image) -> Image:
        """Return a strip with its long side reduced; the short side first would be enlarged at the full length."""
        short, long = sorted(image.size)
        left = short if self.resize_mode == "squash" else max(1, round(short * self.size_px / long))
        size = (left, self.size_px) if image.height > image.width else (self.size_px, left)
        return image.resize(
            size, self.resample, reducing_gap=64.0
        )  # 1 to 300,000 in one step takes gigabytes of weights

    def _middle(self, image: Image) -> Image:
        """Return the square that open_clip would cut from the middle of the enlarged or reduced strip."""
        short, long = sorted(image.size)
        enlarged = int(self.size_px * long / short)
        scale = long / enlarged
        first = round((enlarged - self.size_px) / 2) * scale
        end = first + self.size_px * scale
        # interpolation reads so many pixels beyond the square; whole pixels are cut, as Pillow keeps a box in single precision
        margin = math.ceil(2 * max(scale, 1)) + 1
        low, high = max(0, math.floor(first) - margin), min(long, math.ceil(end) + margin)
        upright = image.height > image.width
        cut = image.crop((0, low, short, high) if upright else (low, 0, high, short))
        box = (0, first - low, short, end - low) if upright else (first - low, 0, end - low, short)
        return cut.resize((self.size_px, self.size_px), self.resample, box=box)
