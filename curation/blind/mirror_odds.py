"""Choose pairs of caption and negative so that scorers without the image are right about half of the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curation.blind.pair_features import fit_logistic
from curation.blind.tokens import Float64s, Int64s, Mask, UInt64s

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_PENALTY = 1.0
_NUM_STEPS = 200
_EVEN = 0.1
"""Log odds that count as even: 52.5 to 47.5."""

_NEAR, _NEAREST, _ERRORS, _BELOW, _OPTIMISM = 0.03, 0.015, 0.5, 0.045, 0.4
"""By how much a scorer's accuracy may exceed one half where all pairs are learned from, and where few of them are: the
others come out a little worse; by how many standard errors more; by how much it may fall short."""

_STRENGTHS = tuple(number / 20 for number in range(41))
_STRENGTHS_OF_WORDS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""By how much the odds of gaps, and of words, may be weakened or (those of gaps, which are few) strengthened."""

_FEW = 100
"""So many pairs are no few, whatever their share."""

_BEYOND = 0.03
"""By how much expected accuracies may leave their limits in a group that is kept, beside half a standard error."""

_LEAST_PAIRS_OF_WORD, _WORD_PENALTY = 6, 2.0
"""Pairs of a group that a word must tell apart to have a weight, and how much more that weight is held back than others."""

_MOST_WORDS = 1 << 21
_ARRAYS = ("scales", "odds", "trials", "given_up", "words", "word_odds")
_NUM_TRIALS, _DECIMALS = 64, 6
_LEAST_SCALE = 1e-3

Mixed = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class MirrorOdds:
    """With which chance to keep a pair, so that pairs of which scorers prefer the caption are as many as their mirrors.

    The mirror of a pair has all gaps with opposite signs. In each group a logistic regression without a constant tells
    from a pair's gaps (their signs, and their sizes up to a limit) by which odds scorers prefer captions to negatives
    there: pairs of odds 3 are three times as many as their mirrors. Such a pair is kept with a chance of one third, its
    mirror always. No rule keeps more: of a group in which the best scorer is right in a share `a` of the cases, a share
    of 2 (1 - a) can stay.

    Words have odds of their own, so that exchanges are mirrored: where "two" becomes "three" five times as often as
    "three" becomes "two", gaps alone leave it to the context which of them stay, and a judge that knows no context
    still learns that captions say "two". The weight of a word that captions lose as often as they gain it is 0.

    What words tell is a scorer, too, learned from one half of the images and judging the other: odds of words count where
    it tells, and by no more.

    Odds of gaps, and of words, are weakened as far as no scorer's expected accuracy exceeds one half by more than 3
    points and half a standard error (1.5 points, if half of the pairs or fewer are learned from: the rest comes out worse),
    or falls short of it by more than 4.5 points, and that of all gaps together by no more than what a fit finds in
    meaningless numbers: of the strengths that do, those are taken that keep most. A group that shows too little to be
    told from chance is left as it is, however few its pairs.
    Others, scorers that learned from other captions, must agree: what looks better than its caption by an error of the
    first is told by them. A group in which odds of twice the fitted strength do not bring all of them near one half is
    given up, and so is one of which fewer than 100 pairs and less than the least share would stay: scorers' errors
    would choose them.

    A pair is kept if a hash of its draw is below its chance, so that it depends on no other pair. Of 64 such hashes a
    group has the one with which the scorers are nearest to one half on what was learned from.

    Attributes:
        scales: Usual size of a gap [groups, scorers].
        odds: Weights of signs and sizes [groups, 2 * scorers].
        trials: The number of each group's hash.
        given_up: Which groups are given up.
        words: Which words have weights: sorted keys, 2 to the power of 21 times the group plus the word's number.
        word_odds: Their weights.

    Source: Hsieh et al. 2023 (SugarCrepe), section 4, arXiv 2306.14610, for the balance; Sugiyama et al. 2012, Density
        ratio estimation in machine learning, section 4, for odds as a ratio of densities; Morgan and Rubin 2012,
        Rerandomization to improve covariate balance in experiments, for the hashes.
    Differs: SugarCrepe cuts gaps into 50 by 50 cells and keeps as many pairs in each as in its mirror; of few pairs most
        cells have none, and nearly all pairs are lost, whether wording gives them away or not.
    """

    scales: Float64s
    odds: Float64s
    trials: Int64s
    given_up: Mask
    words: Int64s
    word_odds: Float64s

    @classmethod
    def learn(
        cls,
        gaps: Float64s,
        groups: Int64s,
        draws: UInt64s,
        others: Float64s,
        words: csr_array,
        halves: Int64s,
        least_share: float,
        share: float,
    ) -> MirrorOdds:
        """Learn the odds of each group.

        Args:
            gaps: Score of the caption minus score of the negative [pairs, scorers], rounded.
            groups: The group of each pair, 0 .. number of groups - 1.
            draws: One number per pair.
            others: Gaps of scorers that have learned from other captions [pairs, others]: what the gaps make of a pair by
                error, these do not.
            words: How much oftener the caption has each word than the negative [pairs, words].
            halves: 0 or 1, the same for all pairs of an image.
            least_share: Groups of which a smaller share would stay are given up.
            share: Share of the pairs to choose from that are among these.
        """
        num, num_scorers = int(groups.max(initial=-1)) + 1, gaps.shape[1]
        scales, odds = np.ones((num, num_scorers)), np.zeros((num, 2 * num_scorers))
        trials, given_up = np.zeros(num, np.int64), np.zeros(num, np.bool_)
        keys, weights = list[Int64s](), list[Float64s]()
        order = np.argsort(groups, kind="stable")
        bounds = np.searchsorted(groups[order], np.arange(num + 1))
        for group in range(num):
            chosen = order[bounds[group] : bounds[group + 1]]
            if len(chosen):
                pairs = _Pairs(gaps[chosen], draws[chosen], others[chosen], words[chosen], halves[chosen])
                one = _learn_group(pairs, least_share, share)
                scales[group], odds[group], trials[group], given_up[group] = one[:4]
                keys.append(group * _MOST_WORDS + one.words)
                weights.append(one.word_odds)
        empty = np.zeros(0)
        return cls(
            scales,
            odds,
            trials,
            given_up,
            np.concatenate([empty.astype(np.int64), *keys]),
            np.concatenate([empty, *weights]),
        )

    def keeps(self, gaps: Float64s, groups: Int64s, draws: UInt64s, words: csr_array) -> Mask:
        """Return which pairs are kept.

        Args:
            gaps: As in `learn`.
            groups: As in `learn`; pairs of group -1 are not kept.
            draws: As in `learn`.
            words: As in `learn`.
        """
        kept = np.zeros(len(groups), np.bool_)
        known = np.flatnonzero((groups >= 0) & (groups < len(self.trials)))
        own = groups[known]
        features = _signs_and_sizes(gaps[known], self.scales[own])
        # summed feature by feature: the last bits do not depend on the other pairs
        log_odds = np.zeros(len(known))
        for column, weights in zip(features.T, self.odds[own].T, strict=True):
            log_odds += column * weights
        log_odds += self._of_words(words[known], own)
        kept[known] = (_drawn(draws[known], self.trials[own]) < _chances(log_odds)) & ~self.given_up[own]
        return kept

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return its arrays by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str) -> MirrorOdds:
        """Return the odds of arrays whose names have a prefix."""
        return cls(*(arrays[f"{prefix}{name}"] for name in _ARRAYS))

    def _of_words(self, words: csr_array, groups: Int64s) -> Float64s:
        """Return what the words of pairs add to their log odds [pairs]."""
        if not len(self.words):
            return np.zeros(len(groups))
        rows = np.repeat(np.arange(len(groups)), np.diff(words.indptr))
        keys = groups[rows] * _MOST_WORDS + words.indices
        place = np.minimum(np.searchsorted(self.words, keys), len(self.words) - 1)
        known = self.words[place] == keys
        return np.asarray(np.bincount(rows[known], words.data[known] * self.word_odds[place[known]], len(groups)))


class _Pairs(NamedTuple):
    """The pairs of one group; see `MirrorOdds.learn`."""

    gaps: Float64s
    draws: UInt64s
    others: Float64s
    words: csr_array
    halves: Int64s


class _GroupOdds(NamedTuple):
    """What was learned of one group; see `MirrorOdds`."""

    scales: list[float]
    odds: Float64s
    trial: int
    given_up: bool
    words: Int64s
    word_odds: Float64s


def _learn_group(pairs: _Pairs, least_share: float, share: float) -> _GroupOdds:
    """Learn the odds of one group; its arguments are as in `MirrorOdds.learn`."""
    from scipy.sparse import csr_array, hstack

    num, num_scorers = pairs.gaps.shape
    scales = [
        max(float(np.median(sizes)), _LEAST_SCALE) if len(sizes := np.abs(column[column != 0])) else 1.0
        for column in pairs.gaps.T
    ]
    times = np.bincount(pairs.words.indices, minlength=pairs.words.shape[1])
    known = np.flatnonzero(times >= _LEAST_PAIRS_OF_WORD)
    of_gaps, of_words = _signs_and_sizes(pairs.gaps, np.array(scales)), pairs.words[:, known] * _WORD_PENALTY**-0.5
    weights = fit_logistic(hstack([csr_array(of_gaps), of_words], "csr"), penalty=_PENALTY, num_steps=_NUM_STEPS)
    odds, word_odds = np.split(weights, [2 * num_scorers])
    log_odds = np.column_stack([of_gaps @ odds, of_words @ word_odds])
    signs = np.sign(np.column_stack([pairs.gaps, pairs.others]))
    told = np.sign(_crossed(of_words, pairs.halves))
    beyond, strengths = _strengths(log_odds, np.column_stack([signs, told]), len(odds), max(_NEAREST, share * _NEAR))
    chances = _chances(log_odds @ strengths)
    few = chances.sum() < _FEW and chances.mean() < least_share
    given_up = bool(few or beyond > _BEYOND + _ERRORS * 0.5 / num**0.5)
    trial = _nearest_trial(chances, signs, pairs.draws)
    scaled = strengths[1] * word_odds * _WORD_PENALTY**-0.5
    used = np.flatnonzero(scaled)
    return _GroupOdds(scales, strengths[0] * odds, trial, given_up, known[used], scaled[used])


def _crossed(words: csr_array, halves: Int64s) -> Float64s:
    """Return the log odds of the words of pairs, learned from the other half of the images [pairs]."""
    found = np.zeros(len(halves))
    for half in (0, 1):
        own = np.flatnonzero(halves == half)
        weights = fit_logistic(words[halves != half], penalty=_PENALTY, num_steps=_NUM_STEPS)
        found[own] = words[own] @ weights
    return found.round(_DECIMALS)


def _signs_and_sizes(gaps: Float64s, scales: Float64s) -> Float64s:
    """Return what odds are told from [pairs, 2 * scorers]; with all gaps reversed, all of it is."""
    return np.concatenate([np.sign(gaps), np.tanh(gaps / scales)], axis=1)


def _strengths(log_odds: Float64s, signs: Float64s, num_weights: int, near: float) -> tuple[float, Float64s]:
    """Return by how much expected accuracies leave their limits at the best, and by how much to weaken log odds.

    Of strengths within the limits, those that keep most.

    Args:
        log_odds: Log odds of gaps, and of words, as fitted [pairs, 2].
        signs: Signs of the gaps [pairs, scorers].
        num_weights: Number of weights of gaps.
        near: By how much accuracies may exceed one half, beside errors.
    """
    num = len(log_odds)
    above = near + _ERRORS * 0.5 / num**0.5
    # all scorers together look better than they are where they were fitted, by this much if they tell nothing
    limits = np.array([above] * signs.shape[1] + [above + _OPTIMISM * (num_weights / num) ** 0.5])
    judged = np.column_stack([signs, np.sign(log_odds[:, 0])])
    found = []
    for of_words in _STRENGTHS_OF_WORDS:
        for of_gaps in _STRENGTHS:
            strengths = np.array([of_gaps, of_words])
            chances = _chances(log_odds @ strengths)
            total = chances.sum()
            excess = chances @ judged / (2 * total)
            beyond = float(max((excess - limits).max(), (-_BELOW - excess).max(), 0.0))
            found.append(((beyond, -float(total)), strengths))
            if not beyond:
                break
    (beyond, _), strengths = min(found, key=lambda one: one[0])
    return beyond, strengths


def _chances(log_odds: Float64s) -> Float64s:
    """Return the chance of each pair to be kept."""
    chances: Float64s = np.exp(np.minimum(_EVEN - log_odds, 0.0))
    return chances


def _nearest_trial(chances: Float64s, signs: Float64s, draws: UInt64s) -> int:
    """Return the number of the hash with which the scorers are nearest to one half, the first of equal ones."""
    distances = []
    for trial in range(_NUM_TRIALS):
        kept = _drawn(draws, np.full(len(draws), trial)) < chances
        distances.append(float(np.abs(signs[kept].sum(axis=0)).max(initial=0.0)) / max(int(kept.sum()), 1))
    return int(np.argmin(distances))


def _drawn(draws: UInt64s, trials: Int64s) -> Float64s:
    """Return a number from 0 to 1 for each draw and trial (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed: Mixed = draws ^ (trials.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))).astype(np.float64) / 2.0**64)
