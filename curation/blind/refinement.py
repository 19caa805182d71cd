"""Refinement of negatives: what is learned from a sample of images, and what it decides about any pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curation.blind.mirror_odds import MirrorOdds
from curation.blind.scores import BlindScorers, FoldJudges, PairTexts, learn_scorers, stack_features
from curation.blind.tokens import Float64s, Int64s, Mask, UInt64s, Words

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_MIN_GROUP = 128
_FIRST_STEPS, _LATER_STEPS = 25, 100
"""Training steps of the judge: the first round is easy, later ones need more."""

_PAIRS_PER_CHUNK = 4_000
_LEAST_CAPTIONS = 300
"""So many captions tell which words a corpus does not have."""

UNBALANCED, GIVEN_AWAY, UNKNOWN_KIND, FOREIGN_WORD = "unbalanced", "given_away", "unknown_kind", "foreign_word"
"""Why a pair is not kept: its kind has more of its sort than mirrors; wording gives nearly all of its kind away; none of
its operation was learned from; it has a word that no caption has, so that no exchange goes the other way."""

Kind = tuple[str, str]


class ImagePairs(NamedTuple):
    """Captions and negatives of images, as arrays.

    Attributes:
        texts: The texts, and the places of each pair's caption and negative among them.
        kinds: Operation and span class of each negative.
        draws: One number per pair; see `MirrorOdds`.
        folds: The fold of each pair's image in each round [pairs, rounds].
        further: Gaps of further scorers [pairs, scorers].
    """

    texts: PairTexts
    kinds: Sequence[Kind]
    draws: UInt64s
    folds: Int64s
    further: Float64s

    @classmethod
    def joined(cls, parts: Sequence[ImagePairs]) -> ImagePairs:
        """Return the pairs of all parts (at least one), one after another."""
        words = Words.joined([part.texts.words for part in parts])
        starts = np.cumsum([0, *(len(part.texts.words.lengths) for part in parts)])
        captions, negatives = (
            np.concatenate([part.texts[side] + start for part, start in zip(parts, starts, strict=False)])
            for side in (1, 2)
        )
        kinds = [kind for part in parts for kind in part.kinds]
        draws, folds, further = (np.concatenate([part[place] for part in parts]) for place in (2, 3, 4))
        return cls(PairTexts(words, captions, negatives), kinds, draws, folds, further)

    def with_smallest_draws(self, most: int) -> ImagePairs:
        """Return at most so many pairs, in their order: of every kind the one with the smallest draw, then the second of each.

        So little is left out of rare kinds, of which there is little to learn from.
        """
        if len(self.draws) <= most:
            return self
        seen: Counter[Kind] = Counter()
        ranks = np.zeros(len(self.draws), np.int64)
        for place in np.argsort(self.draws, kind="stable").tolist():
            ranks[place] = seen[self.kinds[place]]
            seen[self.kinds[place]] += 1
        return self.take(np.sort(np.lexsort((self.draws, ranks))[:most]))

    def take(self, chosen: Int64s) -> ImagePairs:
        """Return some pairs and their texts."""
        kinds = [self.kinds[place] for place in chosen.tolist()]
        draws, folds, further = self.draws[chosen], self.folds[chosen], self.further[chosen]
        return ImagePairs(self.texts.take(chosen), kinds, draws, folds, further)


class LearningTexts(NamedTuple):
    """What refinement learns from.

    Attributes:
        pairs: Pairs of captions and negatives, image by image.
        captions: All captions of the images.
        folds: The fold of each caption's image in the first round.
        tags: Tags of words in parsed captions; see `WordClasses.learn`.
    """

    pairs: ImagePairs
    captions: Words
    folds: Int64s
    tags: Mapping[str, UInt64s]


@dataclass(frozen=True)
class Refinement:
    """Scorers of pairs and, round by round, a judge of each fold and the odds by which pairs are kept.

    Attributes:
        scorers: The scorers.
        groups: Names of the groups within which pairs are balanced: an operation and span class, or an operation with
            its rare span classes.
        rounds: The judges and odds of each round.
        heard: Sorted hashes of the words of captions; empty if these are too few to tell.
    """

    scorers: BlindScorers
    groups: Sequence[str]
    rounds: Sequence[tuple[FoldJudges, MirrorOdds]]
    heard: UInt64s

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray[Any, Any]], groups: Sequence[str], num_folds: int) -> Refinement:
        """Return the refinement of the arrays and groups that `learn_refinement` returned."""
        rounds: list[tuple[FoldJudges, MirrorOdds]] = []
        while f"round{len(rounds)}_columns" in arrays:
            prefix = f"round{len(rounds)}_"
            judges = FoldJudges(arrays[f"{prefix}columns"], arrays[f"{prefix}weights"])
            rounds.append((judges, MirrorOdds.of(arrays, prefix)))
        return cls(BlindScorers(arrays, num_folds), groups, rounds, arrays["heard"])

    def decide(self, pairs: ImagePairs) -> tuple[Float64s, Mask, list[str]]:
        """Return the gaps of each pair [pairs, scorers], whether it is kept, and why not: `UNBALANCED` and others.

        The scorers are the judge (of the last round that the pair was in), n-grams of words, of classes, and further ones.
        """
        groups = group_numbers(pairs.kinds, self.groups)
        scored = self.scorers.score(pairs.texts, pairs.folds[:, 0])
        gaps = np.column_stack([np.zeros(len(groups)), scored.gaps, pairs.further])
        foreign = _has_foreign_words(pairs.texts, self.heard)
        chosen = np.flatnonzero(~foreign)
        for number, (judges, odds) in enumerate(self.rounds):
            gaps[chosen, 0] = judges.gaps(scored.features[chosen], pairs.folds[chosen, number])
            chosen = chosen[odds.keeps(gaps[chosen], groups[chosen], pairs.draws[chosen], scored.words[chosen])]
        kept: Mask = np.zeros(len(groups), np.bool_)
        kept[chosen] = True
        reasons = zip(groups.tolist(), foreign.tolist(), strict=True)
        return gaps, kept, [FOREIGN_WORD if strange else self._reasons[group] for group, strange in reasons]

    @cached_property
    def _reasons(self) -> list[str]:
        """Why a pair of each group is not kept; the last one is of pairs without a group."""
        given_up = np.zeros(len(self.groups), np.bool_)
        for _, odds in self.rounds:
            given_up[: len(odds.given_up)] |= odds.given_up
        return [*np.where(given_up, GIVEN_AWAY, UNBALANCED).tolist(), UNKNOWN_KIND]


def learn_refinement(
    texts: LearningTexts, num_rounds: int, num_folds: int, least_share: float, share: float
) -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    """Learn a refinement.

    Args:
        texts: What to learn from.
        num_rounds: How often a judge is trained again on what is left.
        num_folds: Number of folds.
        least_share: See `MirrorOdds.learn`.
        share: Share of the images' pairs that are among those to learn from.

    Returns:
        Arrays by name, and the names of groups; see `Refinement.of`.
    """
    heard = np.unique(
        texts.captions.hashes if len(texts.captions.lengths) >= _LEAST_CAPTIONS else np.zeros(0, np.uint64)
    )
    foreign = _has_foreign_words(texts.pairs.texts, heard)
    if foreign.any():
        texts = texts._replace(pairs=texts.pairs.take(np.flatnonzero(~foreign)))
    pairs = texts.pairs
    arrays = learn_scorers(texts.captions, texts.folds, pairs.texts, texts.tags)
    fixed, features, words, others = _scored(pairs, BlindScorers(arrays, num_folds))
    names = _group_names(pairs.kinds)
    groups, draws, folds = group_numbers(pairs.kinds, names), pairs.draws, pairs.folds
    del texts, pairs  # much memory
    for number in range(num_rounds):
        # with the same folds the remaining gaps would look smaller than they are: they were balanced over them
        steps = _LATER_STEPS if number else _FIRST_STEPS
        judges = FoldJudges.learn(features, folds[:, number], num_folds, steps)
        gaps = np.column_stack([judges.gaps(features, folds[:, number]), fixed])
        odds = MirrorOdds.learn(gaps, groups, draws, others, words, folds[:, number] % 2, least_share, share)
        found: dict[str, np.ndarray[Any, Any]] = {
            "columns": judges.columns,
            "weights": judges.weights,
            **odds.arrays(),
        }
        arrays |= {f"round{number}_{name}": array for name, array in found.items()}
        kept = odds.keeps(gaps, groups, draws, words)
        words, features, fixed, others, groups = words[kept], features[kept], fixed[kept], others[kept], groups[kept]
        draws, folds = draws[kept], folds[kept]
    return {**arrays, "heard": heard}, names


def _has_foreign_words(pairs: PairTexts, heard: UInt64s) -> Mask:
    """Return which negatives have more words that no caption has than their own caption does [pairs].

    Args:
        pairs: The pairs.
        heard: Sorted hashes of the words of captions; nothing is foreign if it is empty.
    """
    if not len(heard):
        return np.zeros(len(pairs.captions), np.bool_)
    words = pairs.words
    place = np.minimum(np.searchsorted(heard, words.hashes), len(heard) - 1)
    owners = np.repeat(np.arange(len(words.lengths)), words.lengths)
    numbers = np.bincount(owners, heard[place] != words.hashes, minlength=len(words.lengths))
    return np.asarray(numbers[pairs.negatives] > numbers[pairs.captions])


def _scored(pairs: ImagePairs, scorers: BlindScorers) -> tuple[Float64s, csr_array, csr_array, Float64s]:
    """Return the gaps of fixed scorers [pairs, scorers], features for a judge, words, and gaps of another scorer [pairs, 1]."""
    from scipy.sparse import csr_array, vstack

    fixed, words, others = list[Float64s](), list[csr_array](), list[Float64s]()

    def features() -> Iterator[csr_array]:
        for start in range(0, max(len(pairs.draws), 1), _PAIRS_PER_CHUNK):
            stop = start + _PAIRS_PER_CHUNK
            part, other = scorers.score_to_learn(pairs.texts.take(slice(start, stop)), pairs.folds[start:stop, 0])
            fixed.append(part.gaps)
            words.append(part.words)
            others.append(other)
            yield part.features

    found = stack_features(features())
    gaps = np.column_stack([np.concatenate(fixed), pairs.further])
    return gaps, found, vstack(words, format="csr"), np.concatenate(others)[:, None]


def _group_names(kinds: Sequence[Kind]) -> list[str]:
    """Return the names of groups: operation and span class, or the operation alone for rare classes."""
    return sorted({" ".join(kind) if number >= _MIN_GROUP else kind[0] for kind, number in Counter(kinds).items()})


def group_numbers(kinds: Sequence[Kind], names: Sequence[str]) -> Int64s:
    """Return the number of each kind's group, -1 where neither the kind nor its operation has one."""
    number = {name: place for place, name in enumerate(names)}
    known = {kind: number.get(" ".join(kind), number.get(kind[0], -1)) for kind in set(kinds)}
    return np.array([known[kind] for kind in kinds], np.int64)
