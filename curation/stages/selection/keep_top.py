"""Keep the samples that score highest: the only stage that drops by a score."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from curation.engine.stage import Corpus, CorpusStage, Drop, Field
from curation.selection.scores import BoolArray, FloatArray, count_of, highest
from data_manifests.errors import InputError
from data_manifests.seeds import draw_seed

_RULE = re.compile(r"([a-z][a-z0-9_]*) +(?:(>=) *(-?\d+(?:\.\d+)?)|(\d+(?:\.\d+)?) *(%)|(\d+))")
_ALLOWED = "FIELD and a share of the full pool, a number or a least value: 's_clip_loss 30%', 'clip_score 5000', 'norm_sim >= 0.7'"


class Rule(NamedTuple):
    """What one rule keeps: a share of the full pool, a number, or what reaches a value; exactly one is set."""

    field: str
    share: float | None = None
    number: int | None = None
    least: float | None = None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule.

        Raises:
            InputError: it is none.
        """
        found = _RULE.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is None:
            raise InputError(f"keep_top: rule {text!r}", allowed=_ALLOWED, fix="write it like one of these")
        name, _, least, percent, _, number = found.groups()
        if percent is not None:
            if not 0 < float(percent) <= 100:
                raise InputError(f"keep_top: rule {text!r}", allowed="a share above 0 to 100 %", fix="change the share")
            return cls(name, share=float(percent) / 100)
        if number is not None:
            return cls(name, number=int(number))
        return cls(name, least=float(least))


@dataclass(frozen=True)
class KeepTop(CorpusStage):
    """Apply rules one after another; each keeps the highest of what the one before it left.

    A share means a share of the full pool, as in the papers: ``s_clip_loss 30%`` then ``norm_sim 20%`` leaves a fifth
    of all samples, not of the thirty hundredths. Equal scores are decided by uid, the smaller stays. Drops are told as
    ``low_<field>`` of the rule that dropped; with `at_random`, the control, as many samples as the rules would keep
    are drawn instead and the others are told as ``not_drawn``.

    Attributes:
        rules: ``FIELD 30%``, ``FIELD 5000`` or ``FIELD >= 0.2``, in order.
        at_random: Keep a random subset of the same size.
        seed: Of that draw; each sample's depends on its uid alone.

    Raises:
        InputError: no rule, or one that cannot be read; in `fit`, a sample without a number in a rule's field, or
            rules that leave nothing.

    Source: Wang et al. 2024, the filtering of DataComp, arXiv 2405.19547: 30 % by s-CLIPLoss, then 20 % of the total by NormSim;
        selections as sets of uids: DataComp, Gadre et al. 2023, arXiv 2304.14108.
    Differs: a control of the same size belongs to it.
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
        if not self.rules:
            raise InputError(f"keep_top: rules are {self.rules!r}", allowed=f"a list of {_ALLOWED}", fix="give a list")
        fields = dict.fromkeys(rule.field for rule in self._parsed())
        object.__setattr__(self, "drops", (*(f"low_{name}" for name in fields), "not_drawn"))

    def _parsed(self) -> list[Rule]:
        return [Rule.parse(text) for text in self.rules]

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields of the rules."""
        return (*self.requires, *dict.fromkeys(rule.field for rule in self._parsed()))

    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return nothing for who stays and a `Drop` for who goes."""
        size = len(corpus.uids)
        left = np.ones(size, np.bool_)
        results: list[dict[str, Any] | Drop] = [{} for _ in range(size)]
        for rule in self._parsed():
            score = _numbers(corpus, rule.field)
            kept = _keep(rule, score, left)
            for place in np.flatnonzero(left & ~kept).tolist():
                results[place] = Drop(f"low_{rule.field}", f"{rule.field} {score[place]:.5g}")
            left = kept
        if size and not left.any():
            raise InputError(
                f"keep_top: rules {list(self.rules)} leave none of {size} samples",
                allowed="rules that leave at least one",
                fix="lower the least value, or raise the share",
            )
        return self._drawn(corpus, int(left.sum())) if self.at_random else results

    def _drawn(self, corpus: Corpus, number: int) -> list[dict[str, Any] | Drop]:
        draws = np.array([draw_seed(self.seed, self.name, uid, "keep") for uid in corpus.uids], np.uint64)
        kept = np.zeros(len(draws), np.bool_)
        kept[np.lexsort((np.arange(len(draws)), draws))[:number]] = True
        return [{} if stays else Drop("not_drawn", "random subsample") for stays in kept.tolist()]


def _keep(rule: Rule, score: FloatArray, left: BoolArray) -> BoolArray:
    if rule.least is not None:
        reached: BoolArray = left & (score >= rule.least)
        return reached
    share = max(1, count_of(rule.share or 0.0, len(score)))
    return highest(score, left, share if rule.number is None else rule.number)


def _numbers(corpus: Corpus, name: str) -> FloatArray:
    """Return a field as numbers.

    Raises:
        InputError: a sample has none there.
    """
    values = corpus.column(name)
    for uid, value in zip(corpus.uids, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(
                f"keep_top: sample {uid} has {name}={value!r}",
                allowed="a number in every sample",
                fix="name the field of a stage that scores, such as clip_score",
            )
    return np.array(values, np.float64)
