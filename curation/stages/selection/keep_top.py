"""Keep the samples with the highest scores: the only stage that drops by a score."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.selection.scores import BoolArray, FloatArray, count_of, highest, numeric_field, random_subset
from data_manifests.errors import InputError

_RULE = re.compile(r"([a-z][a-z0-9_]*) +(?:(>=) *(-?\d+(?:\.\d+)?)|(\d+(?:\.\d+)?) *(%)|(\d+))")
_ALLOWED = (
    "FIELD and a share of the full pool, a number or a minimum: 's_clip_loss 30%', 'clip_score 5000', 'norm_sim >= 0.7'"
)


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
class KeepTop(CorpusStage):
    """Apply rules one after another; each keeps the highest scores of what the previous one kept.

    A share is a share of the full pool, as in the papers: ``s_clip_loss 30%`` then ``norm_sim 20%`` keeps a fifth of all
    samples, not of the thirty per cent. Of equal scores the smaller uid stays. The reason of a drop is ``low_<field>`` of
    the rule that dropped it; with `at_random`, the control, as many samples as the rules would keep are drawn at random
    and the others are dropped as ``not_drawn``.

    Attributes:
        rules: ``FIELD 30%``, ``FIELD 5000`` or ``FIELD >= 0.2``, in order.
        at_random: Keep a random subset of the same size.
        seed: Seed of that subset; each sample's draw depends on its uid alone.

    Raises:
        InputError: no rule, or one that cannot be parsed; in `fit`, a sample without a number in a rule's field, or
            rules that keep nothing.

    Source: Wang et al. 2024, the filtering of DataComp, arXiv 2405.19547: 30 % by s-CLIPLoss, then 20 % of the total by NormSim;
        selections as sets of uids: DataComp, Gadre et al. 2023, arXiv 2304.14108.
    Differs: has a random control of the same size.
    """

    name: ClassVar[str] = "keep_top"
    version: ClassVar[int] = 1
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

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return no fields for samples that stay, a `Drop` for the others."""
        size = len(corpus.uids)
        left = np.ones(size, np.bool_)
        results: list[dict[str, Any] | Drop] = [{} for _ in range(size)]
        for rule in self._parsed():
            score = numeric_field(corpus, rule.field, self.name)
            kept = _keep(rule, score, left)
            for place in np.flatnonzero(left & ~kept).tolist():
                results[place] = Drop(f"low_{rule.field}", f"{rule.field} {score[place]:.5g}")
            left = kept
        if size and not left.any():
            raise InputError(
                f"keep_top: rules {list(self.rules)} keep none of {size} samples",
                allowed="rules that keep at least one",
                fix="lower the minimum, or raise the share",
            )
        if not self.at_random:
            return results
        chosen = random_subset(corpus.uids, int(left.sum()), self.seed, self.name, "keep")
        return [{} if kept else Drop("not_drawn", "random subsample") for kept in chosen.tolist()]


def _keep(rule: Rule, score: FloatArray, left: BoolArray) -> BoolArray:
    if rule.minimum is not None:
        reached: BoolArray = left & (score >= rule.minimum)
        return reached
    share = max(1, count_of(rule.share or 0.0, len(score)))
    return highest(score, left, share if rule.number is None else rule.number)
