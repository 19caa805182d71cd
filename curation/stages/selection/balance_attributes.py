"""Weigh samples so that sensitive attributes are as frequent as wished and tell nothing of other labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.selection.m4_weights import Constraints, Float64Array, M4Settings, keep_weights
from data_manifests.errors import InputError, nearest
from data_manifests.seeds import draw_seed, generator

CHOICES = ("weights", "drop", "random")
_DECIMALS = 6
_WORST = 8
"""Associations that the manifest names; it is told of every one only by the largest."""


@dataclass(frozen=True)
class BalanceAttributes(CorpusStage):
    """M4: keep-weights under representation and association constraints.

    Provides ``keep_weight``, in [0, `most_weight`] with mean `keep`, and ``balance``, what the manifest says of it:
    for each sensitive attribute its share of those of whom it is known, and for the worst associations with labels
    |E[q (s - pi) y]| and the gap P(y | s) - P(y | not s): ``before`` (all weigh the same), ``after``, and for the
    ``control``, a random subsample of the size that drawing by the weights gives.

    Attributes:
        sensitive: ``tag|other`` (who has one of the two; others count as unknown, as do those with both) or ``tag``
            (all others lack it).
        targets: Wished shares pi of the first tags; empty means one half each.
        labels: Tags that must not go with the sensitive ones; ``activity:*`` stands for all of them.
        min_label_count: Labels of fewer samples are left out.
        keep: Wished mean weight eta.
        choose: ``weights`` drops nobody; ``drop`` keeps each sample with probability weight / `most_weight`;
            ``random`` is the control: as many as ``drop`` keeps, drawn evenly.
        most_weight: Q.
        price: V, what a unit of violation costs.
        slack_representation: eps_R.
        slack_association: eps_D.
        step: tau_0.
        num_passes: Passes over all samples.
        seed: Of the order and of the draws.

    Raises:
        InputError: a setting is out of range; in `fit`, a sensitive attribute of which nothing is known.

    Source: Alabdulmohsin et al. 2024 (CLIP the Bias, M4), equation 3 and its algorithm, arXiv 2403.04547.
    Differs: the algorithm is reconstructed, several passes instead of one, weights from the duals' mean over the last;
        unknown attributes take no part; the random control, which the paper lacks, is measured beside it. Constraints
        are on covariance around the target, so conditional gaps shrink without being held to a bound.
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
    most_weight: float = 1.0
    price: float = 5.0
    slack_representation: float = 0.005
    slack_association: float = 0.005
    step: float = 0.5
    num_passes: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.choose not in CHOICES:
            fix = nearest(self.choose, CHOICES) or "leave it out"
            raise InputError(f"balance_attributes: choose is {self.choose!r}", allowed=", ".join(CHOICES), fix=fix)
        if not self.sensitive or (self.targets and len(self.targets) != len(self.sensitive)):
            raise InputError(
                f"balance_attributes: {len(self.sensitive)} sensitive attributes, {len(self.targets)} targets",
                allowed="one attribute or more, and a target for each or none at all",
                fix="leave targets out for one half each",
            )
        if any(not 0 < target < 1 for target in self.targets):
            raise InputError(f"balance_attributes: targets={self.targets}", allowed="shares between 0 and 1")
        slack = min(self.slack_representation, self.slack_association)
        numbers = (self.price, self.step, self.num_passes, self.min_label_count)
        if not 0 < self.keep < self.most_weight or min(numbers) <= 0 or slack < 0:
            raise InputError(
                f"balance_attributes: keep={self.keep!r}, most_weight={self.most_weight!r}, price={self.price!r}, "
                f"step={self.step!r}, num_passes={self.num_passes!r}, min_label_count={self.min_label_count!r}, "
                f"slack={slack!r}",
                allowed="keep above 0 and below most_weight, slack 0 or more, all others above 0",
                fix="leave them out",
            )

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return weight and findings for each sample."""
        if not corpus.uids:
            return []
        tags = [frozenset(text.split()) for text in corpus.column("attribute_tags")]
        names = self._labels(tags)
        centred = np.stack([self._centred(tags, place) for place in range(len(self.sensitive))], axis=1)
        labels = np.array([[name in own for name in names] for own in tags], np.float64).reshape(len(tags), len(names))
        constraints = Constraints.of(centred, labels, self.slack_representation, self.slack_association)
        settings = M4Settings(self.keep, self.most_weight, self.price, self.step, self.num_passes)
        draws = generator(self.seed, self.name, "order")
        weights = np.round(keep_weights(constraints, np.ones(len(tags)), settings, draws), _DECIMALS)
        stays, control = self._drawn(corpus.uids, weights)
        after = weights if self.choose == "weights" else stays * float(self.keep / max(stays.mean(), 1e-12))
        found = _Findings(constraints, centred, labels, self.sensitive, names)
        even = np.full(len(tags), self.keep)
        report = found.report(
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
        """Return the labels that are frequent enough, sorted."""
        counts = Counter(tag for own in tags for tag in own)
        wanted = [label.removesuffix("*") for label in self.labels if label.endswith("*")]
        return sorted(
            tag
            for tag, count in counts.items()
            if count >= self.min_label_count and (tag in self.labels or any(tag.startswith(part) for part in wanted))
        )

    def _centred(self, tags: Sequence[frozenset[str]], place: int) -> Float64Array:
        """Return s - pi of one sensitive attribute [n], 0 where it is unknown.

        Raises:
            InputError: nothing is known of it.
        """
        one, bar, other = self.sensitive[place].partition("|")
        target = self.targets[place] if self.targets else 0.5
        values = np.array(
            [0.0 if bar and (one in own) == (other in own) else (1.0 if one in own else 0.0) - target for own in tags]
        )
        if not any(one in own for own in tags) or not values.any():
            common = Counter(tag for own in tags for tag in own).most_common(12)
            raise InputError(
                f"balance_attributes: no sample has {one!r}" + (f" without {other!r}" if bar else ""),
                allowed="tags that there are: " + (", ".join(tag for tag, _ in common) or "none"),
                fix="name others: --set 'stages.balance_attributes.sensitive=[\"TAG|TAG\"]'",
            )
        return values

    def _drawn(self, uids: Sequence[str], weights: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return who stays when drawn by weight, and a random subset of that size, as 0 and 1 [n] each."""
        chance = [draw_seed(self.seed, self.name, uid, "keep") / 2**64 for uid in uids]
        stays = (np.array(chance) < weights / self.most_weight).astype(np.float64)
        again = np.array([draw_seed(self.seed, self.name, uid, "control") for uid in uids], np.uint64)
        control = np.zeros(len(weights))
        control[np.lexsort((np.arange(len(weights)), again))[: int(stays.sum())]] = 1.0
        return stays, control


@dataclass(frozen=True)
class _Findings:
    """Measures weights against the constraints."""

    constraints: Constraints
    centred: Float64Array
    labels: Float64Array
    sensitive: tuple[str, ...]
    names: list[str]

    def report(self, weights: dict[str, Float64Array]) -> dict[str, Any]:
        """Return shares, the largest violations and gaps, and the worst associations before, for each weighting."""
        many = len(self.sensitive)
        found = {name: self.constraints.violations(values) for name, values in weights.items()}
        gaps = {name: self._gaps(values) for name, values in weights.items()}
        worst = np.lexsort((np.arange(many * len(self.names)), -found["before"][many:]))[:_WORST].tolist()

        def each(numbers: dict[str, Any]) -> dict[str, float]:
            return {name: round(float(number), _DECIMALS) for name, number in numbers.items()}

        return {
            "max_violation": each({name: values.max() for name, values in found.items()}),
            "max_gap": each({name: np.abs(values).max(initial=0.0) for name, values in gaps.items()}),
            "share": {
                tag.partition("|")[0]: each({name: self._share(values, place) for name, values in weights.items()})
                for place, tag in enumerate(self.sensitive)
            },
            "worst_associations": {
                f"{self.sensitive[at // len(self.names)].partition('|')[0]} and {self.names[at % len(self.names)]}": {
                    "violation": each({name: values[many + at] for name, values in found.items()}),
                    "gap": each({name: values[at] for name, values in gaps.items()}),
                }
                for at in worst
            },
        }

    def _share(self, weights: Float64Array, place: int) -> float:
        known, positive = self.centred[:, place] != 0, self.centred[:, place] > 0
        return float(weights[positive].sum() / max(weights[known].sum(), 1e-12))

    def _gaps(self, weights: Float64Array) -> Float64Array:
        """Return P(y | s) - P(y | not s) for each pair [m * c]."""
        found = []
        for place in range(self.centred.shape[1]):
            sides = [weights * (self.centred[:, place] * sign > 0) for sign in (1, -1)]
            rates = [side @ self.labels / max(side.sum(), 1e-12) for side in sides]
            found.append(rates[0] - rates[1])
        gaps: Float64Array = np.concatenate(found)
        return gaps
