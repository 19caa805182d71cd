"""Refinement of negatives: what is learned from a sample of images, and what it decides about any pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curation.blind.adversarial_refinement import MirrorGrids
from curation.blind.scores import BlindScorers, FoldJudges, PairTexts, learn_scorers, stack_features
from curation.blind.tokens import Float64s, Int64s, Mask, UInt64s, Words

_MIN_GROUP = 64
_FIRST_STEPS, _LATER_STEPS = 25, 100
"""Training steps of the judge: the first round is easy, later ones need more."""

_PAIRS_PER_CHUNK = 10_000

Kind = tuple[str, str]


class ImagePairs(NamedTuple):
    """Captions and negatives of images, as arrays.

    Attributes:
        texts: The texts, and the places of each pair's caption and negative among them.
        kinds: Operation and span class of each negative.
        draws: One number per pair; see `MirrorGrids`.
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
    """Scorers of pairs and, round by round, a judge of each fold and the grids that its gaps are balanced on.

    Attributes:
        scorers: The scorers.
        groups: Names of the groups within which pairs are balanced: an operation and span class, or an operation with
            its rare span classes.
        rounds: The judges and grids of each round.
    """

    scorers: BlindScorers
    groups: Sequence[str]
    rounds: Sequence[tuple[FoldJudges, MirrorGrids]]

    @classmethod
    def of(
        cls, arrays: Mapping[str, np.ndarray[Any, Any]], groups: Sequence[str], num_folds: int, bins: tuple[int, ...]
    ) -> Refinement:
        """Return the refinement of the arrays and groups that `learn_refinement` returned."""
        rounds: list[tuple[FoldJudges, MirrorGrids]] = []
        while f"round{len(rounds)}_columns" in arrays:
            prefix = f"round{len(rounds)}_"
            judges = FoldJudges(arrays[f"{prefix}columns"], arrays[f"{prefix}weights"])
            rounds.append((judges, MirrorGrids.of(arrays, prefix, bins)))
        return cls(BlindScorers(arrays, num_folds), groups, rounds)

    def decide(self, pairs: ImagePairs) -> tuple[Float64s, Mask, Mask]:
        """Return the gaps of each pair [pairs, scorers], whether it is kept, and whether its kind is known.

        The scorers are the judge (of the last round that the pair was in), n-grams of words, of classes, and further ones.
        """
        groups = group_numbers(pairs.kinds, self.groups)
        fixed, features = self.scorers.score(pairs.texts, pairs.folds[:, 0])
        gaps = np.column_stack([np.zeros(len(groups)), fixed, pairs.further])
        chosen = np.arange(len(groups))
        for number, (judges, grids) in enumerate(self.rounds):
            gaps[chosen, 0] = judges.gaps(features[chosen], pairs.folds[chosen, number])
            chosen = chosen[grids.keeps(gaps[chosen], groups[chosen], pairs.draws[chosen])]
        kept: Mask = np.zeros(len(groups), np.bool_)
        kept[chosen] = True
        return gaps, kept, groups >= 0


def learn_refinement(
    texts: LearningTexts, num_rounds: int, num_folds: int, bins: tuple[int, ...]
) -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    """Learn a refinement.

    Args:
        texts: What to learn from.
        num_rounds: How often a judge is trained again on what is left.
        num_folds: Number of folds.
        bins: Number of quantiles of gap sizes in each grid, from fine to coarse.

    Returns:
        Arrays by name, and the names of groups; see `Refinement.of`.
    """
    pairs = texts.pairs
    arrays = learn_scorers(texts.captions, texts.folds, pairs.texts, texts.tags)
    scorers = BlindScorers(arrays, num_folds)
    scored = []
    for start in range(0, max(len(pairs.draws), 1), _PAIRS_PER_CHUNK):
        stop = start + _PAIRS_PER_CHUNK
        scored.append(scorers.score(pairs.texts.part(start, stop), pairs.folds[start:stop, 0]))
    fixed = np.column_stack([np.concatenate([gaps for gaps, _ in scored]), pairs.further])
    features = stack_features([part for _, part in scored])
    del scored
    names = _group_names(pairs.kinds)
    groups, draws, folds = group_numbers(pairs.kinds, names), pairs.draws, pairs.folds
    for number in range(num_rounds):
        # with the same folds the remaining gaps would look smaller than they are: they were balanced over them
        steps = _LATER_STEPS if number else _FIRST_STEPS
        judges = FoldJudges.learn(features, folds[:, number], num_folds, steps)
        gaps = np.column_stack([judges.gaps(features, folds[:, number]), fixed])
        grids = MirrorGrids.learn(gaps, groups, draws, bins)
        found: dict[str, np.ndarray[Any, Any]] = {
            "columns": judges.columns,
            "weights": judges.weights,
            **grids.arrays(),
        }
        arrays |= {f"round{number}_{name}": array for name, array in found.items()}
        kept = grids.keeps(gaps, groups, draws)
        features, fixed, groups = features[kept], fixed[kept], groups[kept]
        draws, folds = draws[kept], folds[kept]
    return arrays, names


def _group_names(kinds: Sequence[Kind]) -> list[str]:
    """Return the names of groups: operation and span class, or the operation alone for rare classes."""
    return sorted({" ".join(kind) if number >= _MIN_GROUP else kind[0] for kind, number in Counter(kinds).items()})


def group_numbers(kinds: Sequence[Kind], names: Sequence[str]) -> Int64s:
    """Return the number of each kind's group, -1 where neither the kind nor its operation has one."""
    number = {name: place for place, name in enumerate(names)}
    known = {kind: number.get(" ".join(kind), number.get(kind[0], -1)) for kind in set(kinds)}
    return np.array([known[kind] for kind in kinds], np.int64)
