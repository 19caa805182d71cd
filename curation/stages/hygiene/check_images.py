"""Decode every image once, and drop those that cannot be used in training."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.engine.stage import Drop, Field, MapStage
from data_manifests.sample import Sample

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""Pillow's name of a format -> the extension of the tar member."""


@dataclass(frozen=True)
class CheckImages(MapStage):
    """Decode each image fully and record its size and format.

    The header is read first, so an image that claims too many pixels is never decoded.

    Attributes:
        max_pixels: Maximum number of pixels of an image.

    Source: none; truncated files and decompression bombs are common in web-crawled data
        (img2dataset, webdataset issues).
    Differs: img2dataset re-encodes images; here the original bytes are kept.
    """

    name = "check_images"
    version = 1
    requires = ("image",)
    provides = (Field("image_info", publish="sample"),)
    drops = ("truncated_image", "unreadable_image", "too_many_pixels", "unsupported_format")
    source = "data hygiene; no paper"

    max_pixels: int = 64 * 2**20

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return ``image_info`` {width, height, extension} or a drop, for each sample."""
        return [self._check(sample) for sample in samples]

    def _check(self, sample: Sample) -> dict[str, Any] | Drop:
        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels is checked below
                with Image.open(io.BytesIO(sample.image.read()), formats=list(FORMATS)) as image:
                    width, height = image.size
                    if width * height > self.max_pixels:
                        return Drop("too_many_pixels", f"{width}x{height}, at most {self.max_pixels} pixels")
                    image.load()
                    return {"image_info": {"width": width, "height": height, "extension": FORMATS[str(image.format)]}}
        except Image.DecompressionBombError as error:
            return Drop("too_many_pixels", str(error))
        except UnidentifiedImageError:
            return Drop("unsupported_format", f"not {', '.join(FORMATS)}")
        except (OSError, SyntaxError, ValueError) as error:
            reason = "truncated_image" if "truncated" in str(error) else "unreadable_image"
            return Drop(reason, str(error))
