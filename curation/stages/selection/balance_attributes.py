"""Weight samples so that sensitive attributes have the target frequencies and do not predict other labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.engine.stage import Columns, Drop, Field, FittedStage
from curation.selection.evidence import error_of_share, mean_and_error, with_squares
from curation.selection.m4_weights import (
    Constraints,
    Duals,
    Float64Array,
    IntArray,
    M4Settings,
    constraint_values,
    keep_weight,
    solve,
)
from curation.selection.scores import draws_of, last_draw
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import generator

Tags = frozenset[str]

CHOICES = ("weights", "drop", "random")
_DECIMALS = 6
_WORST = 8
"""Associations that the manifest lists: those with the largest violations before."""
_WEIGHT_CHANGE = 0.1
"""Largest change of the mean weight, relative to it."""


@dataclass(frozen=True)
class BalanceAttributes(M4Settings, FittedStage):
    """M4: keep-weights under representation and association constraints.

    Provides ``keep_weight``, in [0, `most_weight`] with mean `keep`, and ``balance``, which the manifest has: for each
    sensitive attribute its share of the samples for which it is known, and for the worst associations with labels
    |E[q (s - pi) y]| and the gap P(y | s) - P(y | not s); ``before`` (equal weights), ``after``, and for the
    ``control``, a random subset of the size that drawing by the weights gives. It is about the samples learned from.

    Fitted: the labels, the dual variables, and the last draw of the random control. Applied: a sample's weight follows from
    its own tags and the duals; it is drawn by its own uid. Checked: each attribute's violation |E[q (s - pi)]|, and the worst
    association's, are at most the slack, or what the fit left, and two standard errors (but for the control); the mean
    weight has changed by a tenth of itself at most, and two standard errors.

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
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("uid", "attribute_tags")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("keep_weight", publish="index"),
        Field("balance", role="finding"),
        Field("balance_evidence", role="evidence"),
    )
    drops: ClassVar[tuple[str, ...]] = ("out_of_balance", "not_drawn")
    source: ClassVar[str] = "Alabdulmohsin et al. 2024 (M4), equation 3, arXiv 2403.04547"
    knows_only_english: ClassVar[bool] = True

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

    def fit(self, columns: Columns) -> Fit:
        """Return labels, duals and the report."""
        if not columns.num_samples:
            return Fit()
        kinds, rows = _kinds_of(columns)
        counts: Counter[str] = Counter()
        for own, count in zip(kinds, np.bincount(rows).tolist(), strict=True):
            counts.update(dict.fromkeys(own, count))
        self._check_known(kinds, counts)
        labels = self._labels(counts)
        kinds, rows = _merged(kinds, rows, {*labels, *(tag for pair in self.sensitive for tag in pair.split("|"))})
        centred, tagged = self._deviations(kinds), _one_hot(kinds, labels)
        constraints = Constraints.of(centred, tagged, rows, self.slack_representation, self.slack_association)
        duals = solve(constraints, self, generator(self.seed, self.name, "order"))
        by_kind = np.array([keep_weight(row, duals, self) for row in constraints.values])
        weights = np.round(by_kind, _DECIMALS)[rows]
        stays = (draws_of(columns.uids, self.seed, self.name, "keep") / 2**64 < weights / self.most_weight).astype(
            float
        )
        draws = draws_of(columns.uids, self.seed, self.name, "control")
        last = last_draw(draws, int(stays.sum()))
        control = np.array([draw <= last for draw in draws.tolist()], np.float64)
        used = {"weights": weights, "drop": stays, "random": control}[self.choose]
        measures = _BalanceReport(constraints, centred, tagged, self.sensitive, labels)
        report = measures.report(
            {
                "before": np.full(len(rows), self.keep),
                "after": weights if self.choose == "weights" else self._scaled(stays),
                "control": self._scaled(control),
            }
        )
        report |= {"mean_weight": round(float(weights.mean()), _DECIMALS), "num_labels": len(labels)}
        return Fit(
            {
                "labels": labels,
                "balance": report,
                "last_draw": last,
                "mean_weight": round(float(used.mean()), _DECIMALS),
                "violations": np.round(constraints.violations(self._scaled(used)), _DECIMALS).tolist(),
                "constant": duals.constant,
            },
            {"duals": duals.constraints},
        )

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return ``keep_weight`` and ``balance``, or a `Drop`, for each sample."""
        if not samples:
            return []
        labels, uids = fit.values["labels"], [sample.uid for sample in samples]
        tags = [frozenset(sample["attribute_tags"].split()) for sample in samples]
        values = constraint_values(self._deviations(tags), _one_hot(tags, labels))
        duals = Duals(fit.arrays["duals"], float(fit.values["constant"]))
        weights = [round(keep_weight(row, duals, self), _DECIMALS) for row in values]
        draws = draws_of(uids, self.seed, self.name, "control" if self.choose == "random" else "keep").tolist()
        results: list[dict[str, Any] | Drop] = []
        for row, weight, draw in zip(values, weights, draws, strict=True):
            if self.choose == "drop" and draw / 2**64 >= weight / self.most_weight:
                results.append(Drop("out_of_balance", f"weight {weight:.4f}"))
                continue
            if self.choose == "random" and draw > fit.values["last_draw"]:
                results.append(Drop("not_drawn", f"weight {weight:.4f}"))
                continue
            kept = weight if self.choose == "weights" else 1.0
            numbers = {f"z{place}": kept * float(row[place]) for place in np.flatnonzero(row).tolist()}
            evidence = with_squares(numbers) | {"weight": kept}
            results.append({"keep_weight": kept, "balance": fit.values["balance"], "balance_evidence": evidence})
        return results

    def check(self, fit: Fit, evidence: Evidence) -> list[FitCheck]:
        """Return how far the mean weight is from the fit's, and but for the control the violations on the samples of now."""
        mean_weight, before = evidence.sums.get("weight", 0.0) / max(evidence.num_samples, 1), fit.values["mean_weight"]
        bound = _WEIGHT_CHANGE * before + 2 * error_of_share(before / self.most_weight, evidence.num_samples)
        checks = [FitCheck("change of the mean weight", abs(mean_weight - before), round(bound, _DECIMALS))]
        if self.choose == "random":
            return checks
        # weights are scaled to the mean `keep`, as in the report: what was dropped has no evidence
        stayed = max(evidence.num_samples - evidence.num_dropped, 1)
        scale = self.keep / max(evidence.sums.get("weight", 0.0) / stayed, 1e-12)
        names = [tag.partition("|")[0] for tag in self.sensitive]
        pairs = [f"{name} and {label}" for name in names for label in fit.values["labels"]]
        found = []
        for place, (name, left) in enumerate(zip([*names, *pairs], fit.values["violations"], strict=True)):
            mean, error = mean_and_error(evidence, f"z{place}")
            slack = self.slack_representation if place < len(names) else self.slack_association
            limit = round(max(slack, left) + 2 * scale * error, _DECIMALS)
            found.append(FitCheck(f"violation of the balance of {name}", scale * abs(mean), limit))
        worst = sorted(found[len(names) :], key=lambda check: check.bound - check.figure)[:1]
        return [*checks, *found[: len(names)], *worst]

    def _scaled(self, weights: Float64Array) -> Float64Array:
        """Return weights scaled to the mean `keep`."""
        scaled: Float64Array = weights * float(self.keep / max(weights.mean(), 1e-12))
        return scaled

    def _labels(self, counts: Mapping[str, int]) -> list[str]:
        """Return the labels with enough samples, sorted."""
        prefixes = [label.removesuffix("*") for label in self.labels if label.endswith("*")]
        return sorted(
            tag
            for tag, count in counts.items()
            if count >= self.min_label_count and (tag in self.labels or tag.startswith(tuple(prefixes)))
        )

    def _check_known(self, kinds: Sequence[Tags], counts: Counter[str]) -> None:
        """Check that each sensitive attribute is known for a sample.

        Raises:
            InputError: one is not.
        """
        known = (self._deviations(kinds) != 0).any(axis=0).tolist()
        for pair, is_known in zip(self.sensitive, known, strict=True):
            tag, bar, other = pair.partition("|")
            if not is_known or tag not in counts:
                common = ", ".join(name for name, _ in counts.most_common(12))
                raise InputError(
                    f"balance_attributes: no sample has {tag!r}" + (f" without {other!r}" if bar else ""),
                    allowed="the tags of this data set: " + (common or "none"),
                    fix="choose from these: --set 'stages.balance_attributes.sensitive=[\"TAG|TAG\"]'",
                )

    def _deviations(self, tags: Sequence[Tags]) -> Float64Array:
        """Return s - pi of the sensitive attributes, 0 where one is unknown [n, m]."""
        deviations = np.zeros((len(tags), len(self.sensitive)))
        for index, pair in enumerate(self.sensitive):
            tag, bar, other = pair.partition("|")
            target = self.targets[index] if self.targets else 0.5
            for row, own in enumerate(tags):
                if not bar or (tag in own) != (other in own):
                    deviations[row, index] = float(tag in own) - target
        return deviations


def _kinds_of(columns: Columns) -> tuple[list[Tags], IntArray]:
    """Return the different sets of tags, and each sample's place among them [n]."""
    places: dict[str, int] = {}
    rows = [places.setdefault(sample["attribute_tags"], len(places)) for part in columns.batches() for sample in part]
    return [frozenset(text.split()) for text in places], np.array(rows, np.int32)


def _merged(kinds: Sequence[Tags], rows: IntArray, relevant: AbstractSet[str]) -> tuple[list[Tags], IntArray]:
    """Return the same with the relevant tags only, so that memory grows with these."""
    places: dict[Tags, int] = {}
    to = np.array([places.setdefault(own & relevant, len(places)) for own in kinds], np.int32)
    return list(places), to[rows]


def _one_hot(tags: Sequence[Tags], labels: Sequence[str]) -> Float64Array:
    """Return 1 where a sample has a label, else 0 [n, c]."""
    return np.array([[label in own for label in labels] for own in tags], np.float64).reshape(len(tags), len(labels))


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
        weights = {name: self.constraints.row_sums(values) for name, values in weights.items()}
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
