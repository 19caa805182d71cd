"""Embedding of images and texts for curation: the bits of an embedding depend only on its sample."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from data_manifests.image_decoder import decode_image
from data_manifests.sample import Sample

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


TEXT_ROWS = 8
"""Texts per batch: few, so that a single sample wastes little, and as fast as larger batches on one thread."""


class DualEncoder(Protocol):
    """A loaded image-text model: the part of `training.model.clip_model.ClipModel` that curation uses."""

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """The transform from a PIL image to pixels [3, size, size]."""

    @property
    def logit_scale(self) -> Tensor:
        """The factor from similarities to logits, a scalar."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return token ids [n, context_length]."""

    def is_cut(self, texts: Sequence[str], tokens: Tensor) -> Tensor:
        """Return which texts have more tokens than the model reads, bool [n]."""

    def padded_lengths(self, tokens: Tensor) -> Tensor:
        """Return the number of tokens that each text is padded to [n]; it depends only on that text."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Unit-norm embeddings [n, d]."""

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings [n, d]."""


@runtime_checkable
class EncoderSpec(Hashable, Protocol):
    """A model by name and content: a `Resource` that can be loaded. It is passed in; curation builds no model."""

    def content_hash(self) -> str:
        """Return a hash of the weights and architecture."""

    def describe(self) -> str:
        """Return a name for people, without paths."""

    def load(self) -> DualEncoder:
        """Return the model in evaluation mode."""


class EmbeddedSample(NamedTuple):
    """A sample's embeddings.

    Attributes:
        image: float16 unit vector [d].
        texts: float16 unit vectors of its captions [num_captions, d].
        num_cut: How many of the captions have more tokens than the model reads.
    """

    image: np.ndarray[Any, Any]
    texts: np.ndarray[Any, Any]
    num_cut: int


class Encoder:
    """Embeds samples such that the bits of an embedding depend only on its sample.

    Each image is a batch of its own. Texts are batched by padded length, in batches of a fixed number of rows, on one
    thread. Larger or ragged batches would be faster on a GPU, but sums whose order depends on the batch would make an
    incremental run differ from a rebuild in the last bit.
    """

    def __init__(self, model: DualEncoder) -> None:
        self._model = model

    @property
    def temperature(self) -> float:
        """What the model divides similarities by: one over its logit scale."""
        return 1.0 / float(self._model.logit_scale.detach())

    def embed(self, samples: Sequence[Sample]) -> list[EmbeddedSample]:
        """Return the embeddings of each sample."""
        import torch

        torch.set_num_threads(1)
        with torch.inference_mode():
            images = [self._image(sample) for sample in samples]
            texts, cut = self._texts(
                [text for sample in samples for text in sample.captions], images[0].shape[0] if images else 0
            )
        ends = np.cumsum([0, *(len(sample.captions) for sample in samples)])
        return [
            EmbeddedSample(image, texts[first:end], int(cut[first:end].sum()))
            for image, first, end in zip(images, ends[:-1], ends[1:], strict=True)
        ]

    def embed_one(self, sample: Sample) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the embeddings of one sample's image [d] and captions [num_captions, d]."""
        embedded = self.embed([sample])[0]
        return embedded.image, embedded.texts

    def _image(self, sample: Sample) -> np.ndarray[Any, Any]:
        image = decode_image(sample.image.read(), f"sample {sample.uid} ({sample.name})")
        pixels = self._model.preprocess(image)[None]
        return self._model.encode_image(pixels)[0].numpy().astype(np.float16)

    def _texts(self, texts: Sequence[str], dim: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return embeddings [n, d], and which texts have more tokens than the model reads [n]."""
        import torch

        distinct = list(dict.fromkeys(texts))
        table, cut = np.zeros((len(distinct), dim), dtype=np.float16), np.zeros(len(distinct), dtype=bool)
        if distinct:
            tokens = self._model.tokenize(distinct)
            cut = self._model.is_cut(distinct, tokens).numpy()
            lengths = self._model.padded_lengths(tokens)
            for length in sorted(set(lengths.tolist())):
                for rows in torch.split(torch.nonzero(lengths == length)[:, 0], TEXT_ROWS):
                    filled = torch.cat([rows, rows[:1].expand(TEXT_ROWS - len(rows))])
                    features = self._model.encode_text(tokens[filled, :length])[: len(rows)]
                    table[rows.numpy()] = features.numpy().astype(np.float16)
        row_of = {text: row for row, text in enumerate(distinct)}
        row_of_each = np.array([row_of[text] for text in texts], dtype=np.int64)
        return table[row_of_each], cut[row_of_each]


@functools.lru_cache(maxsize=1)
def open_encoder(spec: EncoderSpec) -> Encoder:
    """Return the encoder of a spec; the last one stays loaded."""
    return Encoder(spec.load())


def embed_with_texts(
    spec: EncoderSpec, sample: Sample, texts: Iterable[str]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Embed a sample's image, its captions and further texts.

    Returns:
        The embeddings of captions and texts [captions + texts, width] and their cosine similarity to the image, float64.
    """
    image, embedded = open_encoder(spec).embed_one(dataclasses.replace(sample, captions=(*sample.captions, *texts)))
    vectors = embedded.astype("float64")
    return vectors, vectors @ image.astype("float64")
