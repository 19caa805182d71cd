"""Find the similarities above which two samples of a batch are too alike to be negatives of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.engine.stage import Columns, Drop, Field, FittedStage
from curation.selection.evidence import mean_and_error, with_squares
from curation.selection.scores import BoolArray, CaptionedImages, FloatArray, embedding_norms, random_subset
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed, generator

RULES = ("t2i", "t2i_weak", "i2i", "t2t")
_DECIMALS = 4
_FEWEST = 2
_PAIRS_AT_ONCE = 1 << 12
_MOST_IMAGES = 8_192
"""Images that random pairs are drawn from, with all their captions."""
_REFERENCES = 256
_MORE_PASS = 2.0
_SHIFT = 0.25
"""Largest change of a mean similarity, in standard deviations of a pair's."""


@dataclass(frozen=True)
class CalibratePositives(FittedStage):
    """FFF's false-negative gate: thresholds for text-image, image-image and text-text similarity.

    A pair (i, j) of a batch counts as a positive if text-image similarity is above p1, or image-image above p2 and
    text-image above the weaker p1', or text-text above p3. The values depend on the encoder, so they are quantiles of
    random pairs of different samples, each with a random caption: as nearly all of these are negatives, a quantile
    of 0.9999 is wrong for at most one true negative in ten thousand. A second set, which `doubt` times as many random
    pairs pass, marks pairs to ignore instead of treating them as positives.

    Provides ``positive_thresholds``, which the manifest has under ``statistics.quality``: ``sure``, ``doubtful``, and the
    share of random pairs that pass each. `find_positives` lists the pairs that pass.

    Fitted: the thresholds, on random pairs of at most 8,192 images chosen by uid, and 256 of these images with a caption
    each as references. Applied: every sample gets the thresholds. Checked, on the pairs of all samples with the references:
    at most twice as many pass the doubtful thresholds as did when fitted, and the mean similarities have changed by a
    quarter of a standard deviation at most; each with two standard errors more.

    Attributes:
        t2i: Quantile for p1.
        t2i_weak: Quantile for p1'.
        i2i: Quantile for p2.
        t2t: Quantile for p3.
        doubt: How many times as many random pairs pass the doubtful thresholds, 1 or more.
        num_pairs: Number of random pairs.
        seed: Seed of the random pairs.

    Raises:
        InputError: a setting is out of range; in `fit`, too few samples; in `fit` and `apply`, an embedding without
            direction.

    Source: Bulat et al. 2024 (FFF), assignment of positives, arXiv 2405.10286.
    Differs: quantiles instead of absolute values; a second, doubtful level; one caption per pair for calibration.
    """

    name: ClassVar[str] = "calibrate_positives"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("uid", "image_embedding", "text_embeddings")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("positive_thresholds", role="finding"),
        Field("calibration_evidence", role="evidence"),
    )
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

    def fit(self, columns: Columns) -> Fit:
        """Return the thresholds and the references."""
        if columns.num_samples < _FEWEST:
            raise InputError(
                f"calibrate_positives: {columns.num_samples} samples",
                allowed="two or more",
                fix="give a source with more images",
            )
        chosen = CaptionedImages.chosen(columns, _MOST_IMAGES, self.seed, self.name, "images")
        similarities = self._random_pairs(chosen)
        thresholds: dict[str, Any] = {}
        for level, factor in (("sure", 1.0), ("doubtful", self.doubt)):
            values = {}
            for name in RULES:
                quantile = max(0.0, 1.0 - factor * (1.0 - getattr(self, name)))
                values[name] = round(float(np.quantile(similarities[name.removesuffix("_weak")], quantile)), _DECIMALS)
            thresholds[level] = values
            passed = _passes(**similarities, thresholds=values)
            thresholds[f"{level}_share_of_random"] = round(float(passed.mean()), 6)
        rows = np.flatnonzero(random_subset(chosen.uids, _REFERENCES, self.seed, self.name, "references")).tolist()
        uids = [chosen.uids[row] for row in rows]
        texts = [self._caption_of(chosen.uids[row], chosen.texts_of(row)) for row in rows]
        arrays = {"images": chosen.images[rows], "texts": np.stack(texts)}
        fit = Fit({"uids": uids, "thresholds": thresholds}, arrays)
        size, found = 0, dict.fromkeys((*similarities, "doubtful"), 0.0)
        for samples in columns.batches():
            numbers = self._against_references(samples, fit)
            size += len(samples)
            found = {name: total + float(numbers[name].sum()) for name, total in found.items()}
        spread = {name: round(float(values.std()), _DECIMALS) for name, values in similarities.items()}
        means = {name: round(total / size, 6) for name, total in found.items()}
        return Fit({**fit.values, "means": means, "spread": spread}, arrays)

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return ``positive_thresholds`` for each sample."""
        if not samples:
            return []
        numbers = self._against_references(samples, fit)
        return [
            {
                "positive_thresholds": fit.values["thresholds"],
                "calibration_evidence": with_squares({name: float(values[row]) for name, values in numbers.items()}),
            }
            for row in range(len(samples))
        ]

    def check(self, fit: Fit, evidence: Evidence) -> list[FitCheck]:
        """Return how many pairs pass the doubtful thresholds, and how far mean similarities are from the fit's."""
        means, error = fit.values["means"], mean_and_error(evidence, "doubtful")
        bound = _MORE_PASS * means["doubtful"] + 2 * error[1]
        checks = [FitCheck("share of pairs that pass the doubtful thresholds", error[0], round(bound, 6))]
        for name, spread in fit.values["spread"].items():
            mean, error_of_mean = mean_and_error(evidence, name)
            bound = round(_SHIFT * spread + 2 * error_of_mean, 6)
            checks.append(FitCheck(f"change of the mean {name} similarity of pairs", abs(mean - means[name]), bound))
        return checks

    def _caption_of(self, uid: str, texts: FloatArray) -> FloatArray:
        """Return the one of its captions that stands for a sample in a pair with a reference [d]."""
        text: FloatArray = texts[draw_seed(self.seed, self.name, uid, "caption") % len(texts)]
        return text

    def _random_pairs(self, chosen: CaptionedImages) -> dict[str, FloatArray]:
        """Return the similarities of `num_pairs` random pairs of different samples, by kind."""
        draws, size, counts = generator(self.seed, self.name, "pairs"), len(chosen.uids), np.diff(chosen.starts)
        parts: list[dict[str, FloatArray]] = []
        for start in range(0, self.num_pairs, _PAIRS_AT_ONCE):
            number = min(_PAIRS_AT_ONCE, self.num_pairs - start)
            one = draws.integers(0, size, number)
            pair = one, (one + draws.integers(1, size, number)) % size
            uids = [[chosen.uids[row] for row in rows.tolist()] for rows in pair]
            texts = [
                self._directions(chosen.texts[chosen.starts[rows] + draws.integers(0, counts[rows])], own)
                for rows, own in zip(pair, uids, strict=True)
            ]
            shown = [self._directions(chosen.images[rows], own) for rows, own in zip(pair, uids, strict=True)]
            sides = {"t2i": (shown[0], texts[1]), "i2i": (shown[0], shown[1]), "t2t": (texts[0], texts[1])}
            parts.append({name: np.einsum("ij,ij->i", *both) for name, both in sides.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _directions(self, vectors: FloatArray, uids: Sequence[str]) -> FloatArray:
        wide = vectors.astype(np.float32)
        directions: FloatArray = wide / embedding_norms(wide, uids, self.name).astype(np.float32)[:, None]
        return directions

    def _against_references(self, samples: Sequence[Sample], fit: Fit) -> dict[str, FloatArray]:
        """Return each sample's mean similarities to the references, and the share that pass as doubtful, by name [n]."""
        from curation.vectors.rows import exact_products

        uids = [sample.uid for sample in samples]
        images = np.stack([sample["image_embedding"] for sample in samples])
        texts = np.stack([self._caption_of(sample.uid, sample["text_embeddings"]) for sample in samples])

        def cosines(own: FloatArray, side: str) -> FloatArray:
            other = fit.arrays[side]
            norms = embedding_norms(own, uids, self.name)[:, None] * embedding_norms(
                other, fit.values["uids"], self.name
            )
            return exact_products(own.astype(np.float64), other) / norms

        products = {"t2i": cosines(images, "texts"), "i2i": cosines(images, "images"), "t2t": cosines(texts, "texts")}
        others = np.array(uids)[:, None] != np.array(fit.values["uids"])
        passed = _passes(**products, thresholds=fit.values["thresholds"]["doubtful"])
        counts = np.maximum(others.sum(axis=1), 1)
        return {
            name: np.where(others, values, 0.0).sum(axis=1) / counts
            for name, values in {**products, "doubtful": passed}.items()
        }


def _passes(t2i: FloatArray, i2i: FloatArray, t2t: FloatArray, thresholds: Mapping[str, float]) -> BoolArray:
    """Return which pairs are positives by any of the rules."""
    by_image = (i2i > thresholds["i2i"]) & (t2i > thresholds["t2i_weak"])
    passed: BoolArray = (t2i > thresholds["t2i"]) | by_image | (t2t > thresholds["t2t"])
    return passed
