"""Give every picture a perceptual hash, so that copies of it can be found however they were saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.dedup.perceptual_hash import hash_image
from curation.engine.stage import Drop, Field, MapStage
from data_manifests.sample import Sample


@dataclass(frozen=True)
class HashImages(MapStage):
    """The signs of a picture's 64 lowest cosine frequencies, the same of 35 windows of it, and a grey thumbnail.

    A picture without contrast has an empty hash: everything flat would look like it.

    Source: Zauner 2010 (Implementation and benchmarking of perceptual image hash functions), section 3.2.
    Differs: signs instead of a median, so that the hash of the mirrored picture is an XOR away; windows, so that a
        cropped copy is near its original; whole-number arithmetic, so that every machine agrees.
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
        """Return ``image_hash`` (16 hex characters), ``hash_windows`` (as many for each window) and ``thumbnail``."""
        return [_fields(sample.image.read()) for sample in samples]


def _fields(data: bytes) -> dict[str, Any]:
    found = hash_image(data)
    windows = found.windows.astype(">u8").tobytes().hex()
    return {"image_hash": windows[:16], "hash_windows": windows, "thumbnail": found.thumbnail}
