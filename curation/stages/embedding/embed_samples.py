"""Embed every image and caption with a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.engine.stage import Drop, Field, MapStage
from curation.models.encoder import EncoderSpec, open_encoder
from data_manifests.sample import Sample

CUT = "captions_cut_to_context"


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
    version = 3
    requires = ("image", "captions")
    provides = (
        Field("image_embedding", "array", publish="sidecar"),
        # published too: planners that group by caption and exports read only the version, never the store
        Field("text_embeddings", "array", publish="sidecar"),
        Field("caption_usage", role="usage"),
    )
    source = "Radford 2021, section 2.3, arXiv 2103.00020"
    batch_size = 64
    starts_slowly = True

    model: EncoderSpec

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return ``image_embedding`` [d], ``text_embeddings`` [num_captions, d] and how many captions the model cuts for each sample."""
        return [
            {
                "image_embedding": image,
                "text_embeddings": texts,
                "caption_usage": {CUT: num_cut} if num_cut else {},
            }
            for image, texts, num_cut in open_encoder(self.model).embed(samples)
        ]
