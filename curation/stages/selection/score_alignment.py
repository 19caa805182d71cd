"""Score how well captions fit their images, as such and against all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.selection.scores import FloatArray, s_clip_loss, unit_rows
from data_manifests.errors import InputError, nearest
from data_manifests.seeds import generator

CAPTIONS = ("mean", "best")
_DECIMALS = 6
"""Float32 products err in the seventh."""


@dataclass(frozen=True)
class ScoreAlignment(CorpusStage):
    """CLIPScore and s-CLIPLoss by the model that embedded the samples.

    Provides ``clip_score``, the cosine similarity of image and caption, and ``s_clip_loss``, from which a measure of
    how well the image fits all captions of its batch, and the caption all images, is taken off: a caption that fits
    everything scores low. Higher is better for both; six decimals. Where a pool is small and
    the temperature low, many pairs beat all rivals and come out as 0: raise the temperature to tell them apart.

    An image with several captions is scored once for each: in round r every image shows its caption r (modulo their
    number), so each batch holds one caption an image.

    Attributes:
        temperature: The teacher's, above 0: 0.01 for OpenAI's models, 0.07 for DFN's. Not the softness of a choice:
            it decides how much the nearest rivals weigh.
        batch_size: Pairs contrasted with each other; all, if there are fewer.
        num_shuffles: Random partitions into batches that are averaged.
        captions: ``mean`` over an image's captions, or its ``best`` one's score.
        seed: Of the shuffles.

    Raises:
        InputError: a setting is out of range; in `fit`, an embedding has no direction.

    Source: Wang et al. 2024, CLIPLoss and norm-based data selection, definition of s-CLIPLoss, arXiv 2405.19547; CLIPScore,
        Hessel et al. 2021, arXiv 2104.08718.
    Differs: batches are of equal size, so that no pair is scored in a small remainder; several captions.
    """

    name: ClassVar[str] = "score_alignment"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "image_embedding", "text_embeddings")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("clip_score", publish="index"),
        Field("s_clip_loss", publish="index"),
    )
    source: ClassVar[str] = "Wang et al. 2024, s-CLIPLoss, arXiv 2405.19547"

    temperature: float = 0.01
    batch_size: int = 32768
    num_shuffles: int = 10
    captions: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.captions not in CAPTIONS:
            raise InputError(
                f"score_alignment: captions is {self.captions!r}",
                allowed=" or ".join(CAPTIONS),
                fix=nearest(self.captions, CAPTIONS) or "leave it out",
            )
        if not 0 < self.temperature < float("inf") or self.batch_size < 2 or self.num_shuffles < 1:
            raise InputError(
                f"score_alignment: temperature={self.temperature!r}, batch_size={self.batch_size!r}, "
                f"num_shuffles={self.num_shuffles!r}",
                allowed="temperature above 0, batch_size 2 or more, num_shuffles 1 or more",
                fix="use the model's own temperature; 32768 and 10 are the paper's",
            )

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return both scores for each sample."""
        if not corpus.uids:
            return []
        images = _directions(corpus.array("image_embedding"), corpus.uids)
        captions = corpus.column("text_embeddings")
        flat = _directions(
            np.concatenate(captions), [uid for uid, own in zip(corpus.uids, captions, strict=True) for _ in own]
        )
        counts = np.array([len(own) for own in captions])
        first = np.cumsum(counts) - counts
        rounds = int(counts.max())
        plain, contrasted = np.full((rounds, len(images)), np.nan), np.full((rounds, len(images)), np.nan)
        for number in range(rounds):
            texts = flat[first + number % counts]
            own = number < counts  # who has no such caption only fills a place in the others' batches
            draws = generator(self.seed, self.name, number, "shuffle")
            scores = s_clip_loss(images, texts, draws, self.temperature, self.batch_size, self.num_shuffles)
            plain[number, own] = np.einsum("ij,ij->i", images, texts, dtype=np.float64)[own]
            contrasted[number, own] = scores[own]
        over = np.nanmean if self.captions == "mean" else np.nanmax
        # adding 0 makes -0.0, which is another text, the 0.0 that it equals
        rounded = [(np.round(over(of_round, axis=0), _DECIMALS) + 0.0).tolist() for of_round in (plain, contrasted)]
        return [{"clip_score": one, "s_clip_loss": other} for one, other in zip(*rounded, strict=True)]


def _directions(vectors: FloatArray, uids: Any) -> FloatArray:
    try:
        return unit_rows(vectors)
    except ValueError as error:
        raise InputError(
            f"score_alignment: an embedding of sample {uids[error.args[0]]} has no direction",
            allowed="finite numbers, not all 0",
            fix="check the model: it embeds this sample as zeros or not-a-number",
        ) from None
