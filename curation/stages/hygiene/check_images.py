"""Decode every image once, and drop those that cannot be used in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.engine.stage import Drop, Field, MapStage
from data_manifests.image_decoder import MAX_PIXELS, REASONS, UnusableImageError, examine_image
from data_manifests.sample import ImageFiles, Sample


@dataclass(frozen=True)
class CheckImages(MapStage):
    """Decode each image fully and record its size, upright, and its format.

    The header is read first, so an image that claims too many pixels is never decoded.

    Attributes:
        max_pixels: Maximum number of pixels of an image.

    Source: none; truncated files and decompression bombs are common in web-crawled data
        (img2dataset, webdataset issues).
    Differs: img2dataset re-encodes images; here the original bytes are kept, and images that other readers show
        differently from people's viewers are counted.
    """

    name = "check_images"
    version = 3
    requires = ("image",)
    provides = (Field("image_info", publish="sample"),)
    drops = REASONS
    source = "data hygiene; no paper"

    max_pixels: int = MAX_PIXELS

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return ``image_info`` {width, height, extension, shown_differently} or a drop, for each sample."""
        with ImageFiles() as files:
            return [self._check(sample, files) for sample in samples]

    def _check(self, sample: Sample, files: ImageFiles) -> dict[str, Any] | Drop:
        try:
            facts = examine_image(files.read(sample.image), sample.name, self.max_pixels)
        except UnusableImageError as error:
            return Drop(error.reason, error.detail)
        except OSError as error:
            return Drop("unreadable_image", str(error))
        return {"image_info": dict(vars(facts))}
