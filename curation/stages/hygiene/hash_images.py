"""Compute perceptual hashes, by which copies of an image are found however they were saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.dedup.perceptual_hash import hash_image
from curation.engine.stage import Drop, Field, MapStage
from data_manifests.sample import Sample


@dataclass(frozen=True)
class HashImages(MapStage):
    """The signs of an image's 64 lowest DCT frequencies, the same for 35 windows of it, and a grey thumbnail.

    An image without contrast has an empty hash, because it would match every other flat image.

    Source: Zauner 2010 (Implementation and benchmarking of perceptual image hash functions), section 3.2.
    Differs: signs instead of a median, so that the hash of the mirrored image is an XOR away; windows, so that a
        cropped copy is near its original; integer arithmetic, so that every machine computes the same hash.
    """

    name = "hash_images"
    version = 1
    requires = ("image",)
    provides = (
        Field("image_hash", publish="sidecar"),
        Field("hash_windows"),
        Field("thumbnail", "array"),
    )
    source = "Zauner 2010, section 3.2, perceptual hashes by DCT"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return ``image_hash`` (16 hex characters), ``hash_windows`` (16 for each window) and ``thumbnail``."""
        return [_fields(sample) for sample in samples]


def _fields(sample: Sample) -> dict[str, Any]:
    found = hash_image(sample.image.read(), f"sample {sample.uid} ({sample.name})")
    windows = found.windows.astype(">u8").tobytes().hex()
    return {"image_hash": windows[:16], "hash_windows": windows, "thumbnail": found.thumbnail}
