"""Score how well captions fit their images, alone and compared with all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.selection.scores import CaptionedImages, s_clip_loss
from data_manifests.seeds import generator

CAPTIONS = ("mean", "best")
_DECIMALS = 6
"""Float32 products have errors in the seventh."""


@dataclass(frozen=True)
class ScoreAlignment(CorpusStage):
    """CLIPScore and s-CLIPLoss by the model that embedded the samples.

    Provides ``clip_score``, the cosine similarity of image and caption, and ``s_clip_loss``, which subtracts how well the
    image fits all captions of its batch and the caption all images: a caption that fits everything scores low. Higher is
    better for both; six decimals. In a small pool at a low temperature many pairs beat all others and score 0: raise the
    temperature to distinguish them.

    An image with several captions is scored once for each: in round r every image has its caption r (modulo their
    number), so a batch has one caption per image.

    Attributes:
        temperature: The model's, above 0: 0.01 for OpenAI's models, 0.07 for DFN's. It decides how much the most similar
            other pairs count.
        batch_size: Pairs compared with each other; all, if there are fewer.
        num_shuffles: Random partitions into batches to average over.
        captions: ``mean`` over an image's captions, or the ``best`` one's score.
        seed: Seed of the shuffles.

    Raises:
        InputError: a setting is out of range; in `fit`, an embedding has no direction.

    Source: Wang et al. 2024, CLIPLoss and norm-based data selection, definition of s-CLIPLoss, arXiv 2405.19547; CLIPScore,
        Hessel et al. 2021, arXiv 2104.08718.
    Differs: batches have equal sizes, so that no pair is scored in a small remainder; several captions.
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
        self.check_names("captions", CAPTIONS)
        self.require(
            0 < self.temperature < float("inf") and self.batch_size >= 2 and self.num_shuffles >= 1,
            "temperature batch_size num_shuffles",
            allowed="temperature above 0, batch_size 2 or more, num_shuffles 1 or more",
            fix="use the model's own temperature; the paper has 32768 and 10",
        )

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return both scores for each sample."""
        if not corpus.uids:
            return []
        images, flat, first, counts = CaptionedImages.of(corpus, self.name)
        rounds = int(counts.max())
        plain, contrasted = np.full((2, rounds, len(images)), np.nan)
        for number in range(rounds):
            texts = flat[first + number % counts]
            scored = number < counts  # other samples repeat a caption, only to fill their place in the batches
            draws = generator(self.seed, self.name, number, "shuffle")
            scores = s_clip_loss(images, texts, draws, self.temperature, self.batch_size, self.num_shuffles)
            plain[number, scored] = np.einsum("ij,ij->i", images, texts, dtype=np.float64)[scored]
            contrasted[number, scored] = scores[scored]
        over = np.nanmean if self.captions == "mean" else np.nanmax
        # adding 0 turns -0.0, which would be published as another text, into 0.0
        rounded = [(np.round(over(of_round, axis=0), _DECIMALS) + 0.0).tolist() for of_round in (plain, contrasted)]
        return [{"clip_score": one, "s_clip_loss": other} for one, other in zip(*rounded, strict=True)]
