"""Rank samples from easy to hard for the model that embedded them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field

_DECIMALS = 4


@dataclass(frozen=True)
class OrderDifficulty(CorpusStage):
    """Difficulty: the rank of (similarity of the best other caption - similarity of the own captions), from 0 to 1.

    The others are the samples of the same cluster, each with the mean of its caption embeddings: those that a
    cluster-aware batch would have as negatives of the image.

    Source: the InfoNCE margin of Radford 2021, section 2.3, arXiv 2103.00020, computed offline; a curriculum over
        it as in Bengio 2009.
    Differs: a rank, not the margin itself, so that difficulty means the same for every model.
    """

    name = "order_difficulty"
    version = 1
    requires = ("image_embedding", "text_embeddings", "cluster_id")
    provides = (Field("difficulty", publish="index"),)
    source = "InfoNCE margin, Radford 2021, section 2.3, arXiv 2103.00020"

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``difficulty`` (0 easiest .. 1 hardest, four decimals) for each sample."""
        images = corpus.array("image_embedding").astype(np.float32)
        texts = [matrix.astype(np.float32) for matrix in corpus.column("text_embeddings")]
        clusters = np.array(corpus.column("cluster_id"))
        captions = np.stack([matrix.mean(axis=0) for matrix in texts])
        margin = np.empty(len(images))
        for cluster in np.unique(clusters):
            members = np.flatnonzero(clusters == cluster)
            similarity = images[members] @ captions[members].T
            own = similarity.diagonal().copy()
            np.fill_diagonal(similarity, -1.0)
            margin[members] = similarity.max(axis=1) - own
        # rounded before ranking: the last bits of a matrix product differ between machines, ranks must not
        order = np.lexsort((np.arange(len(images)), np.round(margin, 5)))
        difficulty = np.empty(len(images))
        difficulty[order] = np.linspace(0.0, 1.0, len(images)) if len(images) > 1 else 0.0
        return [{"difficulty": value} for value in np.round(difficulty, _DECIMALS).tolist()]
