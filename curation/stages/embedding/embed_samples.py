"""Embed every image and caption with a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.engine.stage import Drop, Field, MapStage
from curation.models.encoder import EncoderSpec, open_encoder
from data_manifests.sample import Sample


@dataclass(frozen=True)
class EmbedSamples(MapStage):
    """Image and caption embeddings: float16, unit norm.

    Attributes:
        model: The model, identified by its content.

    Source: Radford 2021 (CLIP), section 2.3, arXiv 2103.00020; stored as clip-retrieval does (float16).
    Differs: images one by one, texts in batches of fixed shape by length, so that a full and an incremental run give
        the same bits.
    """

    name = "embed_samples"
    version = 2
    requires = ("image", "captions")
    provides = (
        Field("image_embedding", "array", publish="sidecar"),
        # published too: planners that group by caption and exports read only the version, never the store
        Field("text_embeddings", "array", publish="sidecar"),
    )
    source = "Radford 2021, section 2.3, arXiv 2103.00020"
    batch_size = 64

    model: EncoderSpec

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return ``image_embedding`` [d] and ``text_embeddings`` [num_captions, d] for each sample."""
        encoder = open_encoder(self.model)
        return [{"image_embedding": image, "text_embeddings": texts} for image, texts in encoder.embed(samples)]
