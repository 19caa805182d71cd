"""Image and text encoders for curation: embeddings whose bits depend on the sample alone."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from data_manifests.sample import Sample

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


class Towers(Protocol):
    """A loaded model: what `training.model.Towers` offers and curation needs."""

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """PIL image to pixels [3, size, size]."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids [n, context_length]."""

    def trim(self, tokens: Tensor) -> Tensor:
        """Tokens without columns that are padding for all."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Unit-norm embeddings [n, d]."""

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings [n, d]."""


@runtime_checkable
class EncoderSpec(Hashable, Protocol):
    """A model by name and content: a `Resource` that can be loaded. Given from outside; curation builds no model."""

    def content_hash(self) -> str:
        """Hash of the weights and architecture."""

    def describe(self) -> str:
        """Name for people, no paths."""

    def load(self) -> Towers:
        """Build the model in evaluation mode."""


class Encoder:
    """Embeds one sample at a time.

    A sample is a batch of its own: one image, then its captions padded to a length that they alone
    decide, on one thread. Anything larger would be faster on a GPU, but sums whose order depends on
    the batch would make an incremental run differ from a rebuild in the last bit.
    """

    def __init__(self, towers: Towers) -> None:
        self._towers = towers

    def embed(self, sample: Sample) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return float16 unit vectors: the image's [d] and its captions' [num_captions, d]."""
        import torch
        from PIL import Image

        torch.set_num_threads(1)
        with torch.inference_mode(), Image.open(io.BytesIO(sample.image.read())) as image:
            pixels = self._towers.preprocess(image.convert("RGB"))[None]
            tokens = self._towers.trim(self._towers.tokenize(list(sample.captions)))
            image_embedding = self._towers.encode_image(pixels)[0]
            text_embeddings = self._towers.encode_text(tokens)
        return image_embedding.numpy().astype(np.float16), text_embeddings.numpy().astype(np.float16)


@functools.lru_cache(maxsize=1)
def open_encoder(spec: EncoderSpec) -> Encoder:
    """Return the encoder of a spec, loaded once per process."""
    return Encoder(spec.load())
