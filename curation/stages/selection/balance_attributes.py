"""Weight samples so that sensitive attributes have the target frequencies and do not predict other labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.selection.m4_weights import Constraints, Float64Array, M4Settings, keep_weights
from curation.selection.scores import random_subset
from data_manifests.errors import InputError
from data_manifests.seeds import draw_seed, generator

CHOICES = ("weights", "drop", "random")
_DECIMALS = 6
_WORST = 8
"""Associations that the manifest lists: those with the largest violations before."""


@dataclass(frozen=True)
class BalanceAttributes(M4Settings, CorpusStage):
    """M4: keep-weights under representation and association constraints.

    Provides ``keep_weight``, in [0, `most_weight`] with mean `keep`, and ``balance``, which the manifest has: for each
    sensitive attribute its share of the samples for which it is known, and for the worst associations with labels
    |E[q (s - pi) y]| and the gap P(y | s) - P(y | not s); ``before`` (equal weights), ``after``, and for the
    ``control``, a random subset of the size that drawing by the weights gives.

    Attributes:
        sensitive: ``tag|other`` (samples with both or neither count as unknown) or ``tag`` (all others lack it).
        targets: Target shares pi of the first tags; empty means one half each.
        labels: Tags that must not be associated with the sensitive ones; ``activity:*`` means all that start so.
        min_label_count: Labels of fewer samples are ignored.
        keep: Target mean weight eta.
        choose: ``weights`` drops no sample; ``drop`` keeps each sample with probability weight / `most_weight`;
            ``random`` is the control: as many as ``drop`` keeps, drawn uniformly.
        most_weight: Q, the largest weight.
        price: V, the cost of a unit of violation.
        slack_representation: eps_R.
        slack_association: eps_D.
        step: tau_0.
        num_passes: Passes over all samples.
        seed: Seed of the order and of the draws.

    Raises:
        InputError: a setting is out of range; in `fit`, a sensitive attribute is unknown for every sample.

    Source: Alabdulmohsin et al. 2024 (CLIP the Bias, M4), equation 3 and its algorithm, arXiv 2403.04547.
    Differs: the algorithm is reconstructed, with several passes instead of one and weights from the mean duals of the
        last; unknown attributes have no constraint; the random control, which the paper lacks, is measured too. The
        constraints bound the covariance around the target, so conditional gaps shrink but have no bound.
    """

    name: ClassVar[str] = "balance_attributes"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "attribute_tags")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("keep_weight", publish="index"),
        Field("balance", role="finding"),
    )
    drops: ClassVar[tuple[str, ...]] = ("out_of_balance", "not_drawn")
    source: ClassVar[str] = "Alabdulmohsin et al. 2024 (M4), equation 3, arXiv 2403.04547"

    sensitive: tuple[str, ...] = ("gender:female|gender:male",)
    targets: tuple[float, ...] = ()
    labels: tuple[str, ...] = ("occupation:*", "activity:*", "age:*")
    min_label_count: int = 30
    keep: float = 0.6
    choose: str = "weights"
    slack_representation: float = 0.005
    slack_association: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_names("choose", CHOICES)
        self.require(
            bool(self.sensitive) and len(self.targets) in (0, len(self.sensitive)),
            "sensitive targets",
            allowed="one sensitive attribute or more, and a target for each or none at all",
            fix="leave targets out for one half each",
        )
        self.require(all(0 < share < 1 for share in self.targets), "targets", allowed="shares between 0 and 1")
        positive = min(self.price, self.step, self.num_passes, self.min_label_count) > 0 and self.keep > 0
        self.require(
            positive and self.keep < self.most_weight and min(self.slack_representation, self.slack_association) >= 0,
            "keep most_weight price step num_passes min_label_count slack_representation slack_association",
            allowed="keep above 0 and below most_weight, slacks 0 or more, all others above 0",
        )

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return ``keep_weight`` and ``balance``, or a `Drop`, for each sample."""
        if not corpus.uids:
            return []
        tags = [frozenset(text.split()) for text in corpus.column("attribute_tags")]
        names = self._labels(tags)
        centred = np.stack([self._centred(tags, index) for index in range(len(self.sensitive))], axis=1)
        labels = np.array([[name in own for name in names] for own in tags], np.float64).reshape(len(tags), len(names))
        constraints = Constraints.of(centred, labels, self.slack_representation, self.slack_association)
        draws = generator(self.seed, self.name, "order")
        weights = np.round(keep_weights(constraints, np.ones(len(tags)), self, draws), _DECIMALS)
        stays, control = self._drawn(corpus.uids, weights)
        after = weights if self.choose == "weights" else stays * float(self.keep / max(stays.mean(), 1e-12))
        measures = _BalanceReport(constraints, centred, labels, self.sensitive, names)
        even = np.full(len(tags), self.keep)
        report = measures.report(
            {"before": even, "after": after, "control": control * float(self.keep / max(control.mean(), 1e-12))}
        )
        report |= {"mean_weight": round(float(weights.mean()), _DECIMALS), "num_labels": len(names)}
        if self.choose == "weights":
            return [{"keep_weight": weight, "balance": report} for weight in weights.tolist()]
        kept, reason = (stays, "out_of_balance") if self.choose == "drop" else (control, "not_drawn")
        return [
            {"keep_weight": 1.0, "balance": report} if stay else Drop(reason, f"weight {weight:.4f}")
            for stay, weight in zip(kept.tolist(), weights.tolist(), strict=True)
        ]

    def _labels(self, tags: Sequence[frozenset[str]]) -> list[str]:
        """Return the labels with enough samples, sorted."""
        counts = Counter(tag for own in tags for tag in own)
        prefixes = [label.removesuffix("*") for label in self.labels if label.endswith("*")]
        return sorted(
            tag
            for tag, count in counts.items()
            if count >= self.min_label_count and (tag in self.labels or tag.startswith(tuple(prefixes)))
        )

    def _centred(self, tags: Sequence[frozenset[str]], index: int) -> Float64Array:
        """Return s - pi of a sensitive attribute [n], 0 where it is unknown.

        Raises:
            InputError: it is unknown for every sample.
        """
        tag, bar, other = self.sensitive[index].partition("|")
        target = self.targets[index] if self.targets else 0.5
        values = np.array(
            [0.0 if bar and (tag in own) == (other in own) else float(tag in own) - target for own in tags]
        )
        if not any(tag in own for own in tags) or not values.any():
            common = Counter(name for own in tags for name in own).most_common(12)
            raise InputError(
                f"balance_attributes: no sample has {tag!r}" + (f" without {other!r}" if bar else ""),
                allowed="the tags of this data set: " + (", ".join(name for name, _ in common) or "none"),
                fix="choose from these: --set 'stages.balance_attributes.sensitive=[\"TAG|TAG\"]'",
            )
        return values

    def _drawn(self, uids: Sequence[str], weights: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return which samples stay when drawn by weight, and a random subset of that size, as 0 and 1 [n] each."""
        draws = [draw_seed(self.seed, self.name, uid, "keep") / 2**64 for uid in uids]
        stays = (np.array(draws) < weights / self.most_weight).astype(np.float64)
        control = random_subset(uids, int(stays.sum()), self.seed, self.name, "control")
        return stays, control.astype(np.float64)


@dataclass(frozen=True)
class _BalanceReport:
    """Measures how well weights meet the constraints."""

    constraints: Constraints
    centred: Float64Array
    labels: Float64Array
    sensitive: tuple[str, ...]
    names: list[str]

    def report(self, weights: dict[str, Float64Array]) -> dict[str, Any]:
        """Return shares, the largest violations and gaps, and the worst associations, for each of the weightings."""
        num_sensitive = len(self.sensitive)
        found = {name: self.constraints.violations(values) for name, values in weights.items()}
        gaps = {name: self._gaps(values) for name, values in weights.items()}
        worst = np.lexsort((np.arange(num_sensitive * len(self.names)), -found["before"][num_sensitive:]))[
            :_WORST
        ].tolist()

        def each(numbers: dict[str, Any]) -> dict[str, float]:
            return {name: round(float(number), _DECIMALS) for name, number in numbers.items()}

        return {
            "max_violation": each({name: values.max() for name, values in found.items()}),
            "max_gap": each({name: np.abs(values).max(initial=0.0) for name, values in gaps.items()}),
            "share": {
                tag.partition("|")[0]: each({name: self._share(values, index) for name, values in weights.items()})
                for index, tag in enumerate(self.sensitive)
            },
            "worst_associations": {
                f"{self.sensitive[pair // len(self.names)].partition('|')[0]} and {self.names[pair % len(self.names)]}": {
                    "violation": each({name: values[num_sensitive + pair] for name, values in found.items()}),
                    "gap": each({name: values[pair] for name, values in gaps.items()}),
                }
                for pair in worst
            },
        }

    def _share(self, weights: Float64Array, index: int) -> float:
        known, positive = self.centred[:, index] != 0, self.centred[:, index] > 0
        return float(weights[positive].sum() / max(weights[known].sum(), 1e-12))

    def _gaps(self, weights: Float64Array) -> Float64Array:
        """Return P(y | s) - P(y | not s) for each pair [m * c]."""
        gaps = []
        for centred in self.centred.T:
            sides = [weights * (centred * sign > 0) for sign in (1, -1)]
            rates = [side @ self.labels / max(side.sum(), 1e-12) for side in sides]
            gaps.append(rates[0] - rates[1])
        return np.concatenate(gaps)
