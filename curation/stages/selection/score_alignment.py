"""Score how well captions fit their images, alone and compared with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.engine.stage import Columns, Drop, Field, FittedStage
from curation.models.encoder import EncoderSpec, open_encoder
from curation.selection.evidence import mean_and_error, with_squares
from curation.selection.scores import CaptionedImages, FloatArray, embedding_norms, rival_sums, s_clip_loss
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

CAPTIONS = ("mean", "best")
_DECIMALS = 6
_BASELINE = 1024
"""References whose scores are the baseline of the check."""
_SHIFT = 0.1
"""Largest shift of the mean score, in standard deviations."""
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class ScoreAlignment(FittedStage):
    """CLIPScore and s-CLIPLoss by the model that embedded the samples.

    Provides ``clip_score``, the cosine similarity of image and caption, and ``s_clip_loss``, which subtracts how well the
    image fits the captions of other pairs and the caption their images: a caption that fits everything scores low. Higher
    is better for both; six decimals. In a small pool at a low temperature many pairs beat all others and score 0: raise the
    temperature to distinguish them. An image with several captions is scored once for each.

    Fitted: references, samples chosen by uid, each with one of its captions; they stand for the other pairs of a batch.
    Applied: a sample's scores against the references, without itself. Checked: the mean of ``s_clip_loss`` is within a
    tenth of a standard deviation, and two standard errors, of that of the references.

    Attributes:
        temperature: The model's, above 0: 0.01 for OpenAI's models, 0.07 for DFN's. It decides how much the most similar
            other pairs count. None takes one over the logit scale of `model`.
        model: The model that embedded the samples; None if `temperature` is given.
        num_pairs: Pairs that a pair is compared with, itself included; all, if there are fewer.
        num_references: Samples that stand for them, at most; if there are no more samples, scores are exact.
        captions: ``mean`` over an image's captions, or the ``best`` one's score.
        seed: Seed of the choice of references.

    Raises:
        InputError: a setting is out of range; in `fit` and `apply`, an embedding has no direction.

    Source: Wang et al. 2024, CLIPLoss and norm-based data selection, definition of s-CLIPLoss, arXiv 2405.19547; CLIPScore,
        Hessel et al. 2021, arXiv 2104.08718.
    Differs: one sample of pairs, its sums scaled to a batch, instead of the mean over ten random partitions into batches, so
        that a pair's score does not change with others; several captions.
    """

    name: ClassVar[str] = "score_alignment"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("uid", "image_embedding", "text_embeddings")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("clip_score", publish="index"),
        Field("s_clip_loss", publish="index"),
        Field("alignment_evidence", role="evidence"),
    )
    source: ClassVar[str] = "Wang et al. 2024, s-CLIPLoss, arXiv 2405.19547"

    temperature: float | None = None
    model: EncoderSpec | None = None
    num_pairs: int = 32768
    num_references: int = 4096
    captions: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_names("captions", CAPTIONS)
        self.require(
            self.temperature is not None or self.model is not None,
            "temperature model",
            allowed="a temperature, or the model to take it from",
            fix="--set stages.score_alignment.temperature=0.01 for OpenAI's models",
        )
        self.require(
            (self.temperature is None or 0 < self.temperature < float("inf"))
            and self.num_pairs >= 2
            and self.num_references >= 2,
            "temperature num_pairs num_references",
            allowed="temperature above 0, num_pairs and num_references 2 or more",
            fix="use the model's own temperature; the paper has batches of 32768",
        )

    def fit(self, columns: Columns) -> Fit:
        """Return the references, and mean and standard deviation of their scores."""
        if not columns.num_samples:
            return Fit()
        chosen = CaptionedImages.chosen(columns, self.num_references, self.seed, self.name, "references")
        texts = [
            chosen.texts_of(row)[draw_seed(self.seed, self.name, uid, "caption") % len(chosen.texts_of(row))]
            for row, uid in enumerate(chosen.uids)
        ]
        arrays = {"images": chosen.images, "texts": np.stack(texts)}
        values = {"uids": chosen.uids, "num_pairs": min(columns.num_samples, self.num_pairs)}
        values["temperature"] = self._temperature()
        scored = range(0, len(chosen.uids), -(-len(chosen.uids) // _BASELINE))
        own_texts, owners = [chosen.texts_of(row) for row in scored], [chosen.uids[row] for row in scored]
        _, scores = self._scores(chosen.images[list(scored)], own_texts, owners, Fit(values, arrays))
        values |= {"mean": round(float(scores.mean()), _DECIMALS), "sd": round(float(scores.std()), _DECIMALS)}
        return Fit({**values, "num_scored": len(scores)}, arrays)

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return both scores for each sample."""
        if not samples:
            return []
        images = np.stack([sample["image_embedding"] for sample in samples])
        texts = [sample["text_embeddings"] for sample in samples]
        plain, contrasted = self._scores(images, texts, [sample.uid for sample in samples], fit)
        return [
            {"clip_score": one, "s_clip_loss": other, "alignment_evidence": with_squares({"s_clip_loss": other})}
            for one, other in zip(plain.tolist(), contrasted.tolist(), strict=True)
        ]

    def check(self, fit: Fit, evidence: Evidence) -> list[FitCheck]:
        """Return how far the mean score is from that of the references."""
        mean, error = mean_and_error(evidence, "s_clip_loss")
        sd = float(fit.values["sd"])
        own_error = sd / float(fit.values["num_scored"]) ** 0.5
        bound = _SHIFT * sd + 2 * (error**2 + own_error**2) ** 0.5
        shift = abs(mean - float(fit.values["mean"]))
        return [FitCheck("change of the mean s_clip_loss", shift, round(bound, _DECIMALS))]

    def _temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        assert self.model is not None
        return round(open_encoder(self.model).temperature, _DECIMALS)

    def _scores(
        self, images: FloatArray, texts: Sequence[FloatArray], uids: Sequence[str], fit: Fit
    ) -> tuple[FloatArray, FloatArray]:
        """Return CLIPScore and s-CLIPLoss of each sample [n]."""
        counts = np.array([len(rows) for rows in texts])
        flat, owner = np.concatenate(texts), np.repeat(np.arange(len(images)), counts)
        image_norms = embedding_norms(images, uids, self.name)
        text_norms = embedding_norms(flat, [uids[row] for row in owner.tolist()], self.name)
        own = np.einsum("ij,ij->i", images[owner], flat, dtype=np.float64) / (image_norms[owner] * text_norms)
        places = {uid: place for place, uid in enumerate(fit.values["uids"])}
        itself = np.array([places.get(uid, -1) for uid in uids])
        by_image = self._sums(images, image_norms, itself, fit, "texts")
        by_text = self._sums(flat, text_norms, itself[owner], fit, "images")
        contrasted = s_clip_loss(own, by_image[owner], by_text, fit.values["temperature"])
        over = np.add if self.captions == "mean" else np.maximum
        first = np.cumsum(counts) - counts
        share = counts if self.captions == "mean" else 1
        # adding 0 turns -0.0, which would be published as another text, into 0.0
        plain, contrasted = (np.round(over.reduceat(one, first) / share, _DECIMALS) + 0.0 for one in (own, contrasted))
        return plain, contrasted

    def _sums(self, vectors: FloatArray, norms: FloatArray, itself: FloatArray, fit: Fit, side: str) -> FloatArray:
        """Return `rival_sums` of vectors over one side of the references, without the place `itself` of each [n]."""
        from curation.vectors.rows import blocks, exact_products

        references, uids = fit.arrays[side], fit.values["uids"]
        lengths = embedding_norms(references, uids, self.name)
        sums = np.empty(len(vectors))
        for rows in blocks(len(vectors), _ROWS_AT_ONCE):
            similarity = exact_products(vectors[rows].astype(np.float64), references) / (norms[rows, None] * lengths)
            known = np.flatnonzero(itself[rows] >= 0)
            similarity[known, itself[rows][known]] = -np.inf
            sums[rows] = rival_sums(similarity, fit.values["temperature"], fit.values["num_pairs"] - 1)
        return sums
