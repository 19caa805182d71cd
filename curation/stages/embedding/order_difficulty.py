"""Rank samples from easy to hard for the model that embedded them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.engine.stage import Columns, Drop, Field, FittedStage
from curation.selection.evidence import error_of_share
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

_REFERENCES = 8
"""Others of its cluster that a sample is compared with."""
_MOST_REFERENCES = 32_768
"""In all; 32 MiB of float16 at 512 dimensions."""
_QUANTILES = 1024
_BINS = 8
_LARGEST_DEVIATION = 0.05
_DECIMALS = 4
_DECIMALS_OF_MARGIN = 5


@dataclass(frozen=True)
class OrderDifficulty(FittedStage):
    """Difficulty: the place of (similarity of the best other caption - similarity of the own captions), from 0 to 1.

    The others are up to eight samples of the same cluster, each with the mean of its caption embeddings: such as a
    cluster-aware batch would have as negatives of the image.

    Fitted: for each cluster, eight samples and one in reserve (at most 32,768 in all), chosen by uid; and 1,024 quantiles of
    the margins of all samples. Applied: a sample's margin against the references of its cluster, without itself, and that
    margin's place among the quantiles. Checked: the shares of samples in eight equal ranges of difficulty are those of the
    samples learned from, within 0.05 and two standard errors.

    Source: the InfoNCE margin of Radford 2021, section 2.3, arXiv 2103.00020, computed offline; a curriculum over
        it as in Bengio 2009.
    Differs: a place among all margins, not the margin itself, so that difficulty means the same for every model; references
        instead of all samples of the cluster, so that one edited caption changes the difficulty of one sample.
    """

    name = "order_difficulty"
    version = 2
    requires = ("uid", "image_embedding", "text_embeddings", "cluster_id")
    provides = (Field("difficulty", publish="index"), Field("difficulty_evidence", role="evidence"))
    source = "InfoNCE margin, Radford 2021, section 2.3, arXiv 2103.00020"

    def fit(self, columns: Columns) -> Fit:
        """Return references and quantiles of margins."""
        if not columns.num_samples:
            return Fit()
        arrays = self._references(columns)
        margins = np.concatenate([_margins(samples, arrays) for samples in columns.batches()])
        quantiles = np.round(np.quantile(margins, np.linspace(0.0, 1.0, _QUANTILES)), _DECIMALS_OF_MARGIN)
        values, which = np.unique(quantiles, return_inverse=True)
        places = np.bincount(which, np.linspace(0.0, 1.0, _QUANTILES)) / np.bincount(which)
        arrays |= {"quantiles": values, "places": places}
        found = np.bincount(_bins(_difficulty(margins, arrays)), minlength=_BINS) / len(margins)
        return Fit({"shares": np.round(found, 6).tolist()}, arrays)

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return ``difficulty`` (0 easiest .. 1 hardest, four decimals) for each sample."""
        if not samples:
            return []
        difficulty = _difficulty(_margins(samples, fit.arrays), fit.arrays)
        return [
            {"difficulty": value, "difficulty_evidence": {f"bin {number}": 1}}
            for value, number in zip(difficulty.tolist(), _bins(difficulty).tolist(), strict=True)
        ]

    def check(self, fit: Fit, evidence: Evidence) -> list[FitCheck]:
        """Return how far the share of samples in a range of difficulty is from that of the fit."""
        size = evidence.num_samples
        shares = [evidence.sums.get(f"bin {number}", 0.0) / max(size, 1) for number in range(_BINS)]
        worst = max(abs(now - before) for now, before in zip(shares, fit.values["shares"], strict=True))
        bound = _LARGEST_DEVIATION + 2 * error_of_share(1 / _BINS, size)
        return [FitCheck("largest change of the share of samples in an eighth of difficulty", worst, round(bound, 6))]

    def _references(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """Return the references of all clusters: captions [r, d], halves of uids [r, 2], clusters [r], sorted by cluster."""
        chosen: dict[int, list[tuple[int, str, NDArray[np.float16]]]] = {}
        for samples in columns.batches():
            for sample, caption in zip(samples, _mean_captions(samples), strict=True):
                inside = chosen.setdefault(int(sample["cluster_id"]), [])
                # a copy: a row of the batch would keep the whole batch in memory
                inside.append((draw_seed(self.name, sample.uid, "reference"), sample.uid, caption.copy()))
                inside.sort(key=lambda one: one[:2])
                del inside[_REFERENCES + 1 :]
        each = max(1, min(_REFERENCES + 1, _MOST_REFERENCES // len(chosen)))
        kept = [(cluster, uid, caption) for cluster in sorted(chosen) for _, uid, caption in chosen[cluster][:each]]
        kept = kept[:_MOST_REFERENCES]
        clusters, uids, captions = zip(*kept, strict=True)
        return {"captions": np.stack(captions), "uids": _halves(uids), "clusters": np.array(clusters, np.int64)}


def _mean_captions(samples: Sequence[Sample]) -> NDArray[np.float16]:
    """Return the mean of each sample's caption embeddings [n, d]; the sum is exact, whatever its order."""
    means = [sample["text_embeddings"].astype(np.float64).mean(axis=0) for sample in samples]
    return np.stack(means).astype(np.float16)


def _halves(uids: Sequence[str]) -> NDArray[np.uint64]:
    """Return uids as two numbers each [n, 2]."""
    return np.frombuffer(b"".join(bytes.fromhex(uid) for uid in uids), "<u8").reshape(-1, 2)


def _margins(samples: Sequence[Sample], references: dict[str, NDArray[Any]] | Any) -> NDArray[np.float64]:
    """Return each sample's similarity to the best reference of its cluster, minus that to its own captions [n]."""
    from curation.vectors.rows import exact_dots

    images = np.stack([sample["image_embedding"] for sample in samples])
    own = np.einsum("ij,ij->i", images, _mean_captions(samples), dtype=np.float64)
    clusters = np.array([sample["cluster_id"] for sample in samples], np.int64)
    first, last = (np.searchsorted(references["clusters"], clusters, side) for side in ("left", "right"))
    places = first[:, None] + np.arange(_REFERENCES + 1)
    there = places < last[:, None]
    places[~there] = 0
    there &= (references["uids"][places] != _halves([sample.uid for sample in samples])[:, None]).any(axis=2)
    there &= there.cumsum(axis=1) <= _REFERENCES
    similarity = np.where(there, exact_dots(images, references["captions"], places), -1.0)
    margins: NDArray[np.float64] = np.round(similarity.max(axis=1) - own, _DECIMALS_OF_MARGIN)
    return margins


def _difficulty(margins: NDArray[np.float64], arrays: Any) -> NDArray[np.float64]:
    places: NDArray[np.float64] = np.round(np.interp(margins, arrays["quantiles"], arrays["places"]), _DECIMALS)
    return places


def _bins(difficulty: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((difficulty * _BINS).astype(np.int64), _BINS - 1)
