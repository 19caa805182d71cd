"""Score how near images are to a target set, or to the centre of their own set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.selection.scores import (
    FloatArray,
    count_of,
    embedding_directions,
    highest,
    norm_sim_2,
    norm_sim_d,
    norm_sim_inf,
    numeric_field,
    second_moment,
    unit_rows,
    variance_alignment,
)
from curation.selection.target_images import TargetImages
from data_manifests.errors import InputError

NORMS = ("auto", "2", "inf", "vas", "d")
_DECIMALS = 5
_DECIMALS_OF_NORM = {"2": 4, "inf": 5, "vas": 6, "d": 9}


@dataclass(frozen=True)
class ScoreTarget(CorpusStage):
    """NormSim: the p-norm of an image's similarities to all images of a target set.

    Provides ``norm_sim``, higher is nearer:

    * ``2``: the 2-norm; ``vas``: its square over the number of target images, f^T M f; the same order.
    * ``inf``: the similarity to the nearest target image.
    * ``d``: no target. The images least aligned with the remaining ones are dropped, round by round, until a share
      `keep` of the full pool remains; the score is the rank of survival, 0 to 1. `keep_top` with the same share keeps
      exactly what the rounds kept.

    Attributes:
        norm: ``auto`` is ``inf`` with a target and ``d`` without.
        target: Embeddings by the same model, as ``npy:FILE`` or ``version:FOLDER``; needed by 2, inf and vas.
        start_field: ``d`` starts with the samples with the highest values of this field; empty: with all.
        start_share: Share of the full pool that ``d`` starts with, if `start_field` is given.
        keep: Share of the full pool that ``d`` ends with.
        num_rounds: Rounds of ``d``.

    Raises:
        InputError: a setting is out of range; in `fit`, target and norm do not fit together, the target was embedded by
            another model, an embedding has no direction, or a sample has no number in `start_field`.

    Source: Wang et al. 2024, definitions of NormSim and NormSim-D, arXiv 2405.19547; VAS: Wang et al. 2024,
        variance alignment score, arXiv 2402.02055.
    Differs: survival is ranked, and keep_top does the selecting; ties by uid.
    """

    name: ClassVar[str] = "score_target"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "image_embedding")
    provides: ClassVar[tuple[Field, ...]] = (Field("norm_sim", publish="index"),)
    source: ClassVar[str] = "Wang et al. 2024, NormSim and NormSim-D, arXiv 2405.19547"

    norm: str = "auto"
    target: TargetImages | None = None
    start_field: str = ""
    start_share: float = 0.3
    keep: float = 0.2
    num_rounds: int = 100

    def __post_init__(self) -> None:
        target: Any = self.target
        if isinstance(target, str):  # given by --set
            object.__setattr__(self, "target", TargetImages.parse(target))
        self.check_names("norm", NORMS)
        self.require(
            0 < self.start_share <= 1 and 0 < self.keep <= 1 and self.num_rounds >= 1,
            "start_share keep num_rounds",
            allowed="shares above 0 and at most 1, num_rounds 1 or more",
            fix="the paper has 0.3, 0.2 and 100",
        )

    def required_fields(self) -> tuple[str, ...]:
        """Return `requires` and the field that ``d`` starts from."""
        return (*self.requires, *((self.start_field,) if self.start_field else ()))

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``norm_sim`` for each sample."""
        norm = self.norm if self.norm != "auto" else "d" if self.target is None else "inf"
        if (norm == "d") != (self.target is None):
            raise InputError(
                f"score_target: norm {norm!r} " + ("without a target" if self.target is None else "with a target"),
                allowed="2, inf and vas with a target, d without",
                fix="--set stages.score_target.target=npy:FILE, or --set stages.score_target.norm=auto",
            )
        if not corpus.uids:
            return []
        images = embedding_directions(corpus.array("image_embedding"), corpus.uids, self.name)
        scores = self._survival(corpus, images) if self.target is None else _nearness(norm, self.target, images)
        return [{"norm_sim": score} for score in np.round(scores, _DECIMALS_OF_NORM[norm]).tolist()]

    def _survival(self, corpus: Corpus, images: FloatArray) -> FloatArray:
        """Return the survival of each image [n]; see `norm_sim_d`."""
        size = len(images)
        start = np.ones(size, np.bool_)
        if self.start_field:
            values = numeric_field(corpus, self.start_field, self.name)
            start = highest(values, start, max(1, count_of(self.start_share, size)))
        return norm_sim_d(images, np.flatnonzero(start), count_of(self.keep, size), self.num_rounds, _DECIMALS)


def _nearness(norm: str, target: TargetImages, images: FloatArray) -> FloatArray:
    """Return the nearness of each image to the target [n]."""
    rows = unit_rows(target.load(images.shape[1]))
    if norm == "inf":
        return norm_sim_inf(images, rows)
    return norm_sim_2(images, rows) if norm == "2" else variance_alignment(images, second_moment(rows))
