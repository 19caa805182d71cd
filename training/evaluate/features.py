"""Embeddings of samples for evaluation; the bits of an embedding do not depend on what else is in the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from data_manifests.image_decoder import decode_image
from training.evaluate import encoding_cache

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from data_manifests.sample import Sample
    from training.model.clip_model import ClipModel

MAX_IMAGE_PX = 100_000_000
IMAGE_ROWS = 8
TEXT_ROWS = 64
"""Batches always have this many rows, the last one padded: with the shape fixed, so are the bits."""

EvalProgress = Callable[[str, int, int], None]
EmbedTexts = Callable[[Sequence[str]], "NDArray[np.float32]"]
"""Texts to unit-norm embeddings; see `TextEmbeddingCache`."""


@dataclass(frozen=True)
class EvalFeatures:
    """A model's embeddings of an evaluation set: n images, m captions.

    Attributes:
        image: Unit-norm embeddings, float32 [n, embed_dim].
        text: Unit-norm embeddings, float32 [m, embed_dim]; captions with equal tokens have equal bits.
        text_owner: The image each caption belongs to, int64 [m], ascending.
        uids: Identity of each image [n].
        captions: The captions [m]; those of an image in its sample's order.
    """

    image: NDArray[np.float32]
    text: NDArray[np.float32]
    text_owner: NDArray[np.int64]
    uids: tuple[str, ...]
    captions: tuple[str, ...]


def encode_samples(model: ClipModel, samples: Iterable[Sample], report: EvalProgress | None = None) -> EvalFeatures:
    """Embed every image and every caption; the model is left in eval mode.

    Args:
        model: The model.
        samples: Read once; one batch of images is in memory at a time.
        report: Called with (what, done, total) after each batch; total is 0 while it is unknown.

    Raises:
        InputError: no samples, or an image that cannot be decoded or has over 100 million pixels.
    """
    uids: list[str] = []
    captions: list[str] = []
    owners: list[int] = []

    def read_samples() -> Iterator[Sample]:
        for sample in samples:
            owners.extend([len(uids)] * len(sample.captions))
            captions.extend(sample.captions)
            uids.append(sample.uid)
            yield sample

    image = encode_sample_images(model, read_samples(), report)
    if not uids:
        raise InputError("evaluation: no samples", fix="check --on, --split and --limit")
    text = encode_texts(model, captions, report)
    return EvalFeatures(image, text, np.array(owners, dtype=np.int64), tuple(uids), tuple(captions))


def encode_sample_images(
    model: ClipModel, samples: Iterable[Sample], report: EvalProgress | None = None
) -> NDArray[np.float32]:
    """Return unit-norm embeddings of the samples' images, float32 [n, embed_dim]; their captions are not read.

    Raises:
        InputError: an image that cannot be decoded or has over 100 million pixels.
    """

    def read(sample: Sample) -> Tensor:
        name = f"sample {sample.uid} ({sample.name})"
        return model.preprocess(decode_image(sample.image.read(), name, MAX_IMAGE_PX))

    images = (encoding_cache.ImageInput(sample.uid, partial(read, sample)) for sample in samples)
    return encode_images(model, images, report)


def encode_images(
    model: ClipModel, images: Iterable[encoding_cache.ImageInput], report: EvalProgress | None = None
) -> NDArray[np.float32]:
    """Return unit-norm embeddings of images, float32 [n, embed_dim]; zeros for those that cannot be read."""
    import torch

    model.module.eval()
    encode = encoding_cache.image_encoder(model, IMAGE_ROWS)
    nothing = torch.zeros(model.embed_dim)
    found: list[NDArray[np.float32]] = []
    done = 0
    with torch.inference_mode():
        for part in _parts(images, IMAGE_ROWS):
            found.append(torch.stack([nothing if row is None else row for row in encode(part)]).numpy())
            done += len(part)
            if report:
                report("embedding images", done, 0)
    return np.concatenate(found) if found else np.zeros((0, model.embed_dim), dtype=np.float32)


def encode_texts(model: ClipModel, texts: Sequence[str], report: EvalProgress | None = None) -> NDArray[np.float32]:
    """Return unit-norm embeddings, float32 [n, embed_dim]; what has equal tokens once cut to the context is computed once.

    A text is in a batch of 64 rows, padded to a length that it alone decides, so its bits do not depend on the others.
    """
    import torch

    model.module.eval()
    encode = encoding_cache.text_encoder(model, TEXT_ROWS)
    distinct, done = list(dict.fromkeys(texts)), 0
    with torch.inference_mode():
        tokens, row_of_text = torch.unique(encoding_cache.tokens_of(model, distinct), dim=0, return_inverse=True)
        table = np.zeros((len(tokens), model.embed_dim), dtype=np.float32)
        lengths = model.padded_lengths(tokens)
        for length in sorted(set(lengths.tolist())):
            rows = torch.nonzero(lengths == length)[:, 0]
            for part in torch.split(rows, TEXT_ROWS):
                table[part.numpy()] = [row.numpy() for row in encode(tokens[part, :length]) if row is not None]
                done += len(part)
                if report:
                    report("embedding texts", done, len(tokens))
    row_of = dict(zip(distinct, row_of_text.tolist(), strict=True))
    return table[[row_of[text] for text in texts]]


class TextEmbeddingCache:
    """Embeds texts with a model and caches them, so that each distinct text is computed once.

    Args:
        model: The model.
        report: Called with the progress.
    """

    def __init__(self, model: ClipModel, report: EvalProgress | None = None) -> None:
        self._model, self._report = model, report
        self._rows: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-norm embeddings, float32 [n, embed_dim]."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if fresh:
            self._rows.update(zip(fresh, encode_texts(self._model, fresh, self._report), strict=True))
        if not texts:
            return np.zeros((0, self._model.embed_dim), dtype=np.float32)
        return np.stack([self._rows[text] for text in texts])


def _parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    return iter(lambda: list(islice(remaining, size)), [])
