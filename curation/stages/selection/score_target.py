"""Score how near images are to a target set, or to the core of their own set."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.engine.stage import Columns, Drop, Field, FittedStage
from curation.selection.evidence import error_of_share, mean_and_error, with_squares
from curation.selection.scores import (
    Cut,
    FloatArray,
    alignment_to_others,
    count_of,
    embedding_norms,
    highest,
    norm_sim_inf,
    number_of,
    pool_core,
    random_subset,
    second_moment,
    unit_rows,
    variance_alignment,
)
from curation.selection.target_images import TargetImages
from data_manifests.errors import InputError
from data_manifests.sample import Sample

NORMS = ("auto", "2", "inf", "vas", "d")
_DECIMALS_OF_NORM = {"2": 4, "inf": 5, "vas": 6, "d": 6}
_MOST_IMAGES = 65_536
"""Images of the pool that NormSim-D is fitted to; 64 MiB at 512 dimensions."""
_SHIFT = 0.1
"""Largest shift of the mean score, in standard deviations."""
_SHARE_CHANGE = 0.05


@dataclass(frozen=True)
class ScoreTarget(FittedStage):
    """NormSim: the p-norm of an image's similarities to all images of a target set.

    Provides ``norm_sim``, higher is nearer:

    * ``2``: the 2-norm; ``vas``: its square over the number of target images, f^T M f; the same order.
    * ``inf``: the similarity to the nearest target image.
    * ``d``: no target. The images least aligned with the remaining ones are dropped, round by round, until a share
      `keep` of the full pool remains, the core; the score is f^T M f with the M of the core's other images, and 0 for
      images that `d` does not start with. `keep_top` with the same share keeps the core.

    Fitted: for ``2``, ``vas`` and ``d``, the second moment M of the target or core; for ``d``, which images are the core, of
    at most 65,536 chosen by uid, and the lowest value of `start_field` that it starts with. For ``inf``, nothing. Applied: the
    score of each image. Checked, for ``d``: the share of images that it would start with, within 0.05, and their mean score,
    within a tenth of a standard deviation, each with two standard errors more.

    Attributes:
        norm: ``auto`` is ``inf`` with a target and ``d`` without.
        target: Embeddings by the same model, as ``npy:FILE`` or ``version:FOLDER``; needed by 2, inf and vas.
        start_field: ``d`` starts with the samples with the highest values of this field; empty: with all.
        start_share: Share of the full pool that ``d`` starts with, if `start_field` is given.
        keep: Share of the full pool that ``d`` ends with.
        num_rounds: Rounds of ``d``.

    Raises:
        InputError: a setting is out of range; in `fit` and `apply`, target and norm do not fit together, the target was
            embedded by another model, an embedding has no direction, or a sample has no number in `start_field`.

    Source: Wang et al. 2024, definitions of NormSim and NormSim-D, arXiv 2405.19547; VAS: Wang et al. 2024,
        variance alignment score, arXiv 2402.02055.
    Differs: after its rounds, NormSim-D goes on with the images most aligned with the core, dropped ones too, until the core
        stays the same (or for as many rounds again): so each image has a score of its own. An image is not compared with
        itself, so that new images score like the core's. keep_top does the selecting; ties by uid.
    """

    name: ClassVar[str] = "score_target"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("uid", "image_embedding")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("norm_sim", publish="index"),
        Field("target_evidence", role="evidence"),
    )
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

    def fit(self, columns: Columns) -> Fit:
        """Return the second moment of the target or of the core, and where ``d`` starts."""
        norm = self._norm()
        if not columns.num_samples:
            return Fit()
        if self.target is None:
            return self._core(columns)
        width = columns.vectors("image_embedding").shape[1]
        rows = _directions(self.target, self.target.content_hash(), width)
        moment = {} if norm == "inf" else {"moment": second_moment(rows, np.ones(len(rows)))}
        return Fit({"num_target": len(rows)}, moment)

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return ``norm_sim`` for each sample."""
        norm = self._norm()
        if not samples:
            return []
        images = np.stack([sample["image_embedding"] for sample in samples])
        norms = embedding_norms(images, [sample.uid for sample in samples], self.name)
        if norm == "inf" and self.target is not None:
            rows = _directions(self.target, self.target.content_hash(), images.shape[1])
            scores: FloatArray = norm_sim_inf(images, rows) / norms
        elif norm == "d":
            core = {uid.tobytes() for uid in fit.arrays["core"]}
            member = np.array([bytes.fromhex(sample.uid) in core for sample in samples])
            scores = alignment_to_others(images, norms, fit.arrays["moment"], len(core), member)
        else:
            scores = variance_alignment(images, norms, fit.arrays["moment"])
        if norm == "2":
            scores = np.sqrt(np.maximum(scores * fit.values["num_target"], 0.0))
        scores = np.round(scores, _DECIMALS_OF_NORM[norm])
        if norm != "d":
            return [{"norm_sim": score, "target_evidence": {}} for score in scores.tolist()]
        start = Cut(*fit.values["start"]) if fit.values["start"] else None
        results: list[dict[str, Any] | Drop] = []
        for sample, score in zip(samples, scores.tolist(), strict=True):
            inside = start is None or start.keeps(number_of(sample, self.start_field, self.name), sample.uid)
            evidence = {"starts": 1, **with_squares({"norm_sim": score})} if inside else {}
            results.append({"norm_sim": score if inside else 0.0, "target_evidence": evidence})
        return results

    def check(self, fit: Fit, evidence: Evidence) -> list[FitCheck]:
        """Return, for ``d``, how far the share of samples that it starts with and their mean score are from the fit's."""
        if self._norm() != "d":
            return []
        share = evidence.sums.get("starts", 0.0) / max(evidence.num_samples, 1)
        before, sd = float(fit.values["share"]), float(fit.values["sd"])
        mean, error = mean_and_error(evidence, "norm_sim", among="starts")
        return [
            FitCheck(
                "change of the share of samples that NormSim-D starts with",
                abs(share - before),
                round(_SHARE_CHANGE + 2 * error_of_share(before, evidence.num_samples), 6),
            ),
            FitCheck(
                "change of the mean norm_sim", abs(mean - float(fit.values["mean"])), round(_SHIFT * sd + 2 * error, 6)
            ),
        ]

    def _norm(self) -> str:
        norm = self.norm if self.norm != "auto" else "d" if self.target is None else "inf"
        if (norm == "d") != (self.target is None):
            raise InputError(
                f"score_target: norm {norm!r} " + ("without a target" if self.target is None else "with a target"),
                allowed="2, inf and vas with a target, d without",
                fix="--set stages.score_target.target=npy:FILE, or --set stages.score_target.norm=auto",
            )
        return norm

    def _core(self, columns: Columns) -> Fit:
        """Return the fit of ``d``."""
        size = columns.num_samples
        start, cut = np.ones(size, np.bool_), None
        if self.start_field:
            values = np.array(
                [number_of(sample, self.start_field, self.name) for part in columns.batches() for sample in part]
            )
            start = highest(values, start, max(1, count_of(self.start_share, size)))
            cut = Cut.after(values, columns.uids, np.ones(size, np.bool_), start)
        chosen = np.flatnonzero(start)
        keep = count_of(self.keep, size)
        if len(chosen) > _MOST_IMAGES:
            keep = count_of(keep / len(chosen), _MOST_IMAGES)
            uids = [columns.uids[row] for row in chosen.tolist()]
            chosen = chosen[random_subset(uids, _MOST_IMAGES, 0, self.name, "core")]
        uids = [columns.uids[row] for row in chosen.tolist()]
        images = columns.vectors("image_embedding")[chosen]
        norms = embedding_norms(images, uids, self.name)
        core = pool_core(images, norms, keep, self.num_rounds, _DECIMALS_OF_NORM["d"])
        moment = second_moment(images[core], norms[core])
        scores = alignment_to_others(images, norms, moment, len(core), np.isin(np.arange(len(images)), core))
        core_uids = np.frombuffer(b"".join(bytes.fromhex(uids[row]) for row in core.tolist()), np.uint8).reshape(-1, 16)
        values_of_fit = {"start": list(cut) if cut else [], "share": float(start.mean())}
        return Fit(
            values_of_fit | {"mean": round(float(scores.mean()), 6), "sd": round(float(scores.std()), 6)},
            {"moment": moment, "core": core_uids},
        )


@functools.lru_cache(maxsize=1)
def _directions(target: TargetImages, content_hash: str, num_dims: int) -> FloatArray:  # noqa: ARG001 - part of the key
    """Return the target's unit rows [m, num_dims], read once for as long as its files have this content."""
    from curation.vectors.rows import on_grid

    return on_grid(unit_rows(target.load(num_dims)))
