"""Find the similarities above which two samples of a batch are too alike to be negatives of each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.selection.scores import BoolArray, CaptionedImages, FloatArray
from data_manifests.errors import InputError
from data_manifests.seeds import generator

RULES = ("t2i", "t2i_weak", "i2i", "t2t")
_DECIMALS = 4
_FEWEST = 2
_PAIRS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class CalibratePositives(CorpusStage):
    """FFF's false-negative gate: thresholds for text-image, image-image and text-text similarity.

    A pair (i, j) of a batch counts as a positive if text-image similarity is above p1, or image-image above p2 and
    text-image above the weaker p1', or text-text above p3. The values depend on the encoder, so they are quantiles of
    random pairs of different samples, each with a random caption: as nearly all of these are negatives, a quantile
    of 0.9999 is wrong for at most one true negative in ten thousand. A second set, which `doubt` times as many random
    pairs pass, marks pairs to ignore instead of treating them as positives.

    Provides ``positive_thresholds``, which the manifest has under ``statistics.quality``: ``sure``, ``doubtful``, and the
    share of random pairs that pass each. `find_positives` lists the pairs that pass.

    Attributes:
        t2i: Quantile for p1.
        t2i_weak: Quantile for p1'.
        i2i: Quantile for p2.
        t2t: Quantile for p3.
        doubt: How many times as many random pairs pass the doubtful thresholds, 1 or more.
        num_pairs: Number of random pairs.
        seed: Seed of the random pairs.

    Raises:
        InputError: a setting is out of range; in `fit`, too few samples, or an embedding without direction.

    Source: Bulat et al. 2024 (FFF), assignment of positives, arXiv 2405.10286.
    Differs: quantiles instead of absolute values; a second, doubtful level; one caption per pair for calibration.
    """

    name: ClassVar[str] = "calibrate_positives"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("uid", "image_embedding", "text_embeddings")
    provides: ClassVar[tuple[Field, ...]] = (Field("positive_thresholds", role="finding"),)
    source: ClassVar[str] = "Bulat et al. 2024 (FFF), arXiv 2405.10286"

    t2i: float = 0.9999
    t2i_weak: float = 0.999
    i2i: float = 0.9995
    t2t: float = 0.9999
    doubt: float = 4.0
    num_pairs: int = 500_000
    seed: int = 0

    def __post_init__(self) -> None:
        valid = all(0 < getattr(self, name) < 1 for name in RULES) and self.t2i_weak <= self.t2i
        self.require(valid, " ".join(RULES), allowed="between 0 and 1, t2i_weak not above t2i")
        self.require(
            1 <= self.doubt < float("inf") and self.num_pairs >= 1,
            "doubt num_pairs",
            allowed="1 or more",
        )

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``positive_thresholds`` for each sample."""
        if len(corpus.uids) < _FEWEST:
            raise InputError(
                f"calibrate_positives: {len(corpus.uids)} samples",
                allowed="two or more",
                fix="give a source with more images",
            )
        thresholds = self._thresholds(CaptionedImages.of(corpus, self.name))
        return [{"positive_thresholds": thresholds} for _ in corpus.uids]

    def _thresholds(self, embedded: CaptionedImages) -> dict[str, Any]:
        """Return both sets of thresholds, and the share of random pairs that pass each."""
        draws = generator(self.seed, self.name, "pairs")
        similarities = {name: np.empty(self.num_pairs, np.float32) for name in ("t2i", "i2i", "t2t")}
        size = len(embedded.images)
        for start in range(0, self.num_pairs, _PAIRS_AT_ONCE):
            stop = min(start + _PAIRS_AT_ONCE, self.num_pairs)
            one = draws.integers(0, size, stop - start)
            other = (one + draws.integers(1, size, stop - start)) % size
            captions = [
                embedded.texts[embedded.first[rows] + draws.integers(0, embedded.counts[rows])] for rows in (one, other)
            ]
            images = embedded.images[one]
            similarities["t2i"][start:stop] = np.einsum("ij,ij->i", images, captions[1])
            similarities["i2i"][start:stop] = np.einsum("ij,ij->i", images, embedded.images[other])
            similarities["t2t"][start:stop] = np.einsum("ij,ij->i", captions[0], captions[1])
        found: dict[str, Any] = {}
        for level, factor in (("sure", 1.0), ("doubtful", self.doubt)):
            values = {}
            for name in RULES:
                quantile = max(0.0, 1.0 - factor * (1.0 - getattr(self, name)))
                values[name] = round(float(np.quantile(similarities[name.removesuffix("_weak")], quantile)), _DECIMALS)
            found[level] = values
            passed = _passes(**similarities, thresholds=values)
            found[f"{level}_share_of_random"] = round(float(passed.mean()), 6)
        return found


def _passes(t2i: FloatArray, i2i: FloatArray, t2t: FloatArray, thresholds: Mapping[str, float]) -> BoolArray:
    """Return which pairs are positives by any of the rules."""
    by_image = (i2i > thresholds["i2i"]) & (t2i > thresholds["t2i_weak"])
    passed: BoolArray = (t2i > thresholds["t2i"]) | by_image | (t2t > thresholds["t2t"])
    return passed
