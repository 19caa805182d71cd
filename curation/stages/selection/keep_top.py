"""Keep the samples with the highest scores: the only stage that drops by a score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.engine.stage import Columns, Drop, Field, FittedStage
from curation.selection.evidence import error_of_share
from curation.selection.scores import BoolArray, Cut, FloatArray, count_of, draws_of, highest, last_draw, number_of
from data_manifests.errors import InputError
from data_manifests.sample import Sample

_RULE = re.compile(r"([a-z][a-z0-9_]*) +(?:(>=) *(-?\d+(?:\.\d+)?)|(\d+(?:\.\d+)?) *(%)|(\d+))")
_ALLOWED = (
    "FIELD and a share of the full pool, a number or a minimum: 's_clip_loss 30%', 'clip_score 5000', 'norm_sim >= 0.7'"
)
_SHARE_CHANGE = 0.1
"""Largest change of the share that is kept, relative to it."""


class Rule(NamedTuple):
    """What a rule keeps: a share of the full pool, a number of samples, or those with a minimum; exactly one is set."""

    field: str
    share: float | None = None
    number: int | None = None
    minimum: float | None = None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse a rule.

        Raises:
            InputError: it cannot be parsed.
        """
        found = _RULE.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is None:
            raise InputError(f"keep_top: rule {text!r}", allowed=_ALLOWED, fix="write it like one of these")
        name, _, minimum, percent, _, number = found.groups()
        if percent is not None:
            if not 0 < float(percent) <= 100:
                raise InputError(
                    f"keep_top: rule {text!r}", allowed="above 0 and at most 100 %", fix="change the share"
                )
            return cls(name, share=float(percent) / 100)
        if number is not None:
            return cls(name, number=int(number))
        return cls(name, minimum=float(minimum))


@dataclass(frozen=True)
class KeepTop(FittedStage):
    """Apply rules one after another; each keeps the highest scores of what the previous one kept.

    A share is a share of the full pool, as in the papers: ``s_clip_loss 30%`` then ``norm_sim 20%`` keeps a fifth of all
    samples, not of the thirty per cent. Of equal scores the smaller uid stays. The reason of a drop is ``low_<field>`` of
    the rule that dropped it; with `at_random`, the control, as many samples as the rules would keep are drawn at random
    and the others are dropped as ``not_drawn``.

    Fitted: the score and uid of the last sample that each rule keeps (none for a rule that drops none), and the last draw of
    the control. Applied: each sample is compared with these. Checked, where a rule is a share or a number: the share that is
    kept has changed by a tenth of itself at most, and two standard errors.

    Attributes:
        rules: ``FIELD 30%``, ``FIELD 5000`` or ``FIELD >= 0.2``, in order.
        at_random: Keep a random subset of the same size.
        seed: Seed of that subset; each sample's draw depends on its uid alone.

    Raises:
        InputError: no rule, or one that cannot be parsed; in `fit` and `apply`, a sample without a number in a rule's field;
            in `fit`, rules that keep nothing.

    Source: Wang et al. 2024, the filtering of DataComp, arXiv 2405.19547: 30 % by s-CLIPLoss, then 20 % of the total by NormSim;
        selections as sets of uids: DataComp, Gadre et al. 2023, arXiv 2304.14108.
    Differs: has a random control of the same size.
    """

    name: ClassVar[str] = "keep_top"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("uid",)
    provides: ClassVar[tuple[Field, ...]] = ()
    drops: ClassVar[tuple[str, ...]] = ("low_<field>", "not_drawn")
    source: ClassVar[str] = "Wang et al. 2024, the filtering of DataComp, arXiv 2405.19547"

    rules: tuple[str, ...] = ("clip_score 30%",)
    at_random: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(bool(self.rules), "rules", allowed=f"a list of {_ALLOWED}", fix="give at least one rule")
        fields = dict.fromkeys(rule.field for rule in self._parsed())
        object.__setattr__(self, "drops", (*(f"low_{name}" for name in fields), "not_drawn"))

    def _parsed(self) -> list[Rule]:
        return [Rule.parse(text) for text in self.rules]

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields of the rules."""
        return (*self.requires, *dict.fromkeys(rule.field for rule in self._parsed()))

    def fit(self, columns: Columns) -> Fit:
        """Return the cuts of the rules and of the control, and the share that is kept."""
        size, uids = columns.num_samples, columns.uids
        rules, scores = self._parsed(), self._numbers(columns)
        left, cuts = np.ones(size, np.bool_), []
        for rule in rules:
            kept = _keep(rule, scores[rule.field], left)
            cut = Cut.after(scores[rule.field], uids, left, kept) if rule.minimum is None else None
            cuts.append(list(cut) if cut else [])
            left = kept
        if size and not left.any():
            raise InputError(
                f"keep_top: rules {list(self.rules)} keep none of {size} samples",
                allowed="rules that keep at least one",
                fix="lower the minimum, or raise the share",
            )
        number = int(left.sum())
        last = last_draw(draws_of(uids, self.seed, self.name, "keep"), number) if self.at_random else -1
        return Fit({"cuts": cuts, "last_draw": last, "share": round(number / max(size, 1), 6)})

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return no fields for samples that stay, a `Drop` for the others."""
        if self.at_random:
            draws = draws_of([sample.uid for sample in samples], self.seed, self.name, "keep")
            last = fit.values["last_draw"]
            return [{} if draw <= last else Drop("not_drawn", "random subsample") for draw in draws.tolist()]
        rules = self._parsed()
        cuts = [Cut(*cut) if cut else None for cut in fit.values["cuts"]]
        results: list[dict[str, Any] | Drop] = []
        for sample in samples:
            scores = [number_of(sample, rule.field, self.name) for rule in rules]
            failed = (
                Drop(f"low_{rule.field}", f"{rule.field} {score:.5g}")
                for rule, cut, score in zip(rules, cuts, scores, strict=True)
                if (rule.minimum is not None and score < rule.minimum) or (cut and not cut.keeps(score, sample.uid))
            )
            results.append(next(failed, {}))
        return results

    def check(self, fit: Fit, evidence: Evidence) -> list[FitCheck]:
        """Return how far the share that is kept is from that of the fit."""
        if not self.at_random and all(rule.minimum is not None for rule in self._parsed()):
            return []
        before = float(fit.values["share"])
        share = (evidence.num_samples - evidence.num_dropped) / max(evidence.num_samples, 1)
        bound = _SHARE_CHANGE * before + 2 * error_of_share(before, evidence.num_samples)
        return [FitCheck("change of the share that is kept", abs(share - before), round(bound, 6))]

    def _numbers(self, columns: Columns) -> dict[str, FloatArray]:
        """Return the fields of the rules for all samples, by name [n]."""
        fields = list(dict.fromkeys(rule.field for rule in self._parsed()))
        rows = [
            [number_of(sample, field, self.name) for field in fields] for part in columns.batches() for sample in part
        ]
        table = np.array(rows, np.float64).reshape(len(rows), len(fields))
        return {field: table[:, place] for place, field in enumerate(fields)}


def _keep(rule: Rule, score: FloatArray, left: BoolArray) -> BoolArray:
    if rule.minimum is not None:
        reached: BoolArray = left & (score >= rule.minimum)
        return reached
    share = max(1, count_of(rule.share or 0.0, len(score)))
    return highest(score, left, share if rule.number is None else rule.number)
