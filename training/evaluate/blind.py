"""What is reached without looking: judges that see only the texts of a test, to be read beside every number of a model.

A judge prefers the text that it finds more like true captions. It learns how these read from other images' captions:
the test's own, one half of the images judging the other, or texts that the user gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from training.evaluate.benchmark_result import BenchmarkResult, CaseValues

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.evaluate.features import EmbedTexts

DECIMALS = 4
MAX_MEAN_TEXTS = 2000


@dataclass(frozen=True)
class Case:
    """One question of a test of texts: which of them is true of the image?

    Attributes:
        id: Its own name; the same for every model.
        image: The image it is about.
        category: Under which name it is reported.
        right: The true texts, one or more; each must beat every wrong one.
        wrong: The false texts, one or more.
    """

    id: str
    image: str
    category: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class ReferenceTexts:
    """What judges learn from.

    Attributes:
        own: True texts of the test's own images, as (image, text): for a case, those of the other half of the images.
        given: Texts from elsewhere; when there are any, they alone are read, for every case.
    """

    own: tuple[tuple[str, str], ...] = ()
    given: tuple[str, ...] = ()

    def lessons(self, cases: Sequence[Case]) -> list[tuple[NDArray[np.int64], list[str]]]:
        """Return groups of cases by number, each with the texts that its judge may read."""
        if self.given:
            return [(np.arange(len(cases)), list(self.given))]
        sides = np.array([_half(case.image) for case in cases], dtype=np.int64)
        texts = [[text for image, text in self.own if _half(image) != side] for side in (0, 1)]
        return [(np.flatnonzero(sides == side), texts[side]) for side in (0, 1)]


def _half(image: str) -> int:
    return blake3(f"blind half of {image}".encode()).digest(length=1)[0] % 2


def true_texts(cases: Sequence[Case]) -> tuple[tuple[str, str], ...]:
    """Return the true texts of cases, as (image, text), each once."""
    return tuple(dict.fromkeys((case.image, text) for case in cases for text in case.right))


def min_gaps(cases: Sequence[Case], right: NDArray[np.float64], wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each case, the score of its lowest right text less that of its highest wrong one [n].

    Args:
        cases: The cases [n].
        right: Scores of all right texts, case by case.
        wrong: Scores of all wrong texts, case by case.
    """
    starts = [np.cumsum([0, *(len(texts) for texts in side)])[:-1] for side in _sides(cases)]
    if not cases:
        return np.zeros(0)
    lowest, highest = np.minimum.reduceat(right, starts[0]), np.maximum.reduceat(wrong, starts[1])
    gaps: NDArray[np.float64] = lowest - highest
    return gaps


def _sides(cases: Sequence[Case]) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    return [case.right for case in cases], [case.wrong for case in cases]


def flatten_texts(cases: Sequence[Case]) -> tuple[list[str], list[str]]:
    """Return all right and all wrong texts, case by case."""
    right, wrong = _sides(cases)
    return [text for texts in right for text in texts], [text for texts in wrong for text in texts]


def length_gaps(cases: Sequence[Case]) -> NDArray[np.float64]:
    """Return by how many words each case's right text is shorter than its wrong one: this judge likes short texts.

    An accuracy far below one half gives a test away just as one far above does: turn the judge round.
    """
    right, wrong = (-np.array([len(text.split()) for text in side], dtype=np.float64) for side in flatten_texts(cases))
    return min_gaps(cases, right, wrong)


def text_encoder_gaps(embed: EmbedTexts, cases: Sequence[Case], reading: ReferenceTexts) -> NDArray[np.float64]:
    """Return by how much the model's text tower alone finds each right text more like captions at large.

    A text's score is its similarity to the mean embedding of the captions that may be read, 2,000 of them at most
    (those with the smallest hash).
    """
    right, wrong = (embed(side).astype(np.float64) for side in flatten_texts(cases))
    gaps = np.zeros(len(cases))
    of_right = np.repeat(np.arange(len(cases)), [len(case.right) for case in cases])
    of_wrong = np.repeat(np.arange(len(cases)), [len(case.wrong) for case in cases])
    for asked, texts in reading.lessons(cases):
        chosen = sorted(set(texts), key=lambda text: blake3(text.encode()).digest())[:MAX_MEAN_TEXTS]
        if not chosen or not len(asked):
            continue
        mean = embed(chosen).astype(np.float64).mean(axis=0)
        part = [cases[place] for place in asked]
        sides = [
            (side[np.isin(owner, asked)] * mean).sum(axis=1) for side, owner in ((right, of_right), (wrong, of_wrong))
        ]
        gaps[asked] = min_gaps(part, sides[0], sides[1])
    return gaps


def gap_accuracy(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for a case that a judge gets right, 0 for one it gets wrong, one half where it cannot tell."""
    found: NDArray[np.float64] = (1 + np.sign(np.round(gaps, DECIMALS))) / 2
    return found


def add_blind_accuracy(
    outcome: BenchmarkResult, prefix: str, cases: Sequence[Case], gaps: Mapping[str, NDArray[np.float64]]
) -> BenchmarkResult:
    """Return an outcome with ``blind_JUDGE`` beside the numbers of each category, and their mean.

    The mean is over the same categories as the model's.

    Args:
        outcome: Its metrics hold, or will hold, an entry for each category under `prefix`.
        prefix: Such as ``categories``.
        cases: The cases; those of one category need not stand together.
        gaps: By judge, the gap of each case.
    """
    metrics: dict[str, Any] = {**outcome.metrics}
    entries = {name: dict(entry) for name, entry in metrics.get(prefix, {}).items()}
    items, means = dict(outcome.cases), dict(outcome.means)
    rows: dict[str, list[int]] = {}
    for place, case in enumerate(cases):
        rows.setdefault(case.category, []).append(place)
    averaged = {name.split(".")[1] for names in means.values() for name in names if name.startswith(f"{prefix}.")}
    for judge, of_cases in gaps.items():
        values = gap_accuracy(of_cases)
        names = []
        for category, mine in sorted(rows.items()):
            names.append(f"{prefix}.{category}.blind_{judge}")
            items[names[-1]] = CaseValues(
                tuple(cases[place].id for place in mine), tuple(cases[place].image for place in mine), values[mine]
            )
            entries.setdefault(category, {})[f"blind_{judge}"] = float(values[mine].mean())
        kept = [name for name in names if not averaged or name.split(".")[1] in averaged]
        metrics[f"blind_{judge}"] = float(np.mean([items[name].values.mean() for name in kept]))
        means[f"blind_{judge}"] = tuple(kept)
    return BenchmarkResult({**metrics, prefix: entries}, items, means)


def set_overall_blind_accuracy(
    outcome: BenchmarkResult, cases: Sequence[Case], gaps: Mapping[str, NDArray[np.float64]]
) -> BenchmarkResult:
    """Return an outcome whose overall ``blind_JUDGE`` is over these cases, not the mean over categories."""
    metrics, items, means = dict(outcome.metrics), dict(outcome.cases), dict(outcome.means)
    ids, images = tuple(case.id for case in cases), tuple(case.image for case in cases)
    for judge, of_cases in gaps.items():
        values = gap_accuracy(of_cases)
        metrics[f"blind_{judge}"], items[f"blind_{judge}"] = float(values.mean()), CaseValues(ids, images, values)
        means.pop(f"blind_{judge}", None)
    return BenchmarkResult(metrics, items, means)
