"""Which recipe to try first on a source: by what was measured on data of its size, and by what its own captions give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
from blake3 import blake3

from curation.engine.engine import run_stages
from curation.engine.intake import Snapshot
from curation.engine.replay import Replay
from curation.engine.store import ALL_SAMPLES, Store, partitions
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.selection.tag_attributes import TagAttributes
from curation.text.languages import CaptionLanguage
from data_manifests.caption_negatives import CaptionNegatives
from flows.execution.estimate_negatives import drawn_part, tried_negatives
from flows.execution.jobs import CurateJob, JobEvents, prepare
from flows.recipe import RecipeInputs, load_recipe

MEASURED = Path(__file__).with_name("measured.json")
"""What comparisons found, as `tests/benchmarks/keep_measured.py` keeps it."""

CONTROL = "clip"
MAX_CAPTIONS, MAX_CHARS = 1_000, 200_000
"""Most captions of the source, and characters of these, of which negatives are made to see how many there are."""

LEAST_NEGATIVES = 1.0
"""Negatives a caption, on average, under which a recipe that trains on them is not advised."""
_MANY_EQUAL, _UNEVEN = 0.05, 2.0
"""Share of captions that stand at several images, and ratio of the commoner gender, from which they are mentioned."""


@dataclass(frozen=True)
class Difference:
    """What a recipe had over plain tuning on one test, in points.

    Attributes:
        test: Kind of the test and its metric.
        value: The difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
        told_apart: Whether the paired test finds it.
    """

    test: str
    value: float
    low: float
    high: float
    told_apart: bool


@dataclass(frozen=True)
class MeasuredRow:
    """A recipe in a comparison.

    Attributes:
        recipe: Its name; ``A on B`` for the objectives of A on the data of B.
        differences: To plain tuning with the same budget, at the share of the tuned weights that the rule of `compare` gives.
        failed: Whether it lost more of zero-shot or retrieval than the gate allows.
        share: The share of its tuned weights.
        times_longer: Its training beside that of plain tuning, without curation; None where other work on the machine disturbed it.
    """

    recipe: str
    differences: tuple[Difference, ...]
    failed: bool
    share: float
    times_longer: float | None

    @property
    def data_recipe(self) -> str:
        """The recipe that curates its data."""
        return self.recipe.rpartition(" on ")[2]

    def gains(self, num_tests: int) -> tuple[Difference, ...]:
        """Return differences above zero that would still be found if one in twenty of all comparisons were to find any by chance.

        Args:
            num_tests: Differences of all rows of the comparison: with twenty, one is found by chance (Bonferroni).
        """
        bound = NormalDist().inv_cdf(1 - 0.025 / max(num_tests, 1)) / NormalDist().inv_cdf(0.975)
        return tuple(one for one in self.differences if one.told_apart and one.value - bound * (one.value - one.low) > 0)

    @property
    def losses(self) -> tuple[Difference, ...]:
        """Differences that the paired test finds, below zero."""
        return tuple(one for one in self.differences if one.told_apart and one.value < 0)


@dataclass(frozen=True)
class MeasuredData:
    """One comparison: a data set, a budget, and rows.

    Attributes:
        data: What the images are.
        num_samples: Image-text pairs in the training split.
        captions_per_sample: Of these.
        budget: Model, steps, batch and learning rate, in words.
        num_seeds: Runs of each row.
        rows: All rows but the control.
    """

    data: str
    num_samples: int
    captions_per_sample: float
    budget: str
    num_seeds: int
    rows: tuple[MeasuredRow, ...]

    @classmethod
    def load_all(cls) -> list[MeasuredData]:
        """Return all comparisons that were kept."""
        return [cls.from_json(item) for item in orjson.loads(MEASURED.read_bytes())]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MeasuredData:
        """Return a comparison from what `to_json` gave."""
        rows = tuple(
            MeasuredRow(**{**row, "differences": tuple(Difference(**one) for one in row["differences"])})
            for row in values["rows"]
        )
        return cls(**{**values, "rows": rows})

    @property
    def num_tests(self) -> int:
        """Differences of all rows."""
        return sum(len(row.differences) for row in self.rows)

    def describe(self) -> str:
        """Return data and size in words."""
        return f"{self.num_samples:,} {self.data}, {self.captions_per_sample:g} caption(s) each"


@dataclass(frozen=True)
class SourceFigures:
    """What a source's own captions say.

    Attributes:
        num_samples: Images that can be used.
        num_captions: Captions of these.
        num_rejected: Reason -> records and captions that were refused at intake.
        words: Words of a caption, between spaces: the median.
        share_equal: Share of captions whose text stands at another image, too.
        num_tried: Captions of which negatives were made.
        negatives: Recipe -> its negatives per caption, of those captions; those of models are left out.
        people: ``male`` and ``female`` -> images, among those tried, whose captions name such people; empty where captions
            are not English.
    """

    num_samples: int
    num_captions: int
    num_rejected: Mapping[str, int]
    words: float
    share_equal: float
    num_tried: int
    negatives: Mapping[str, CaptionNegatives] = field(default_factory=dict)
    people: Mapping[str, int] = field(default_factory=dict)

    @property
    def captions_per_sample(self) -> float:
        """Captions of an image, on average."""
        return self.num_captions / self.num_samples


@dataclass(frozen=True)
class Advice:
    """What to do first.

    Attributes:
        figures: The source.
        nearest: The comparison on data most like it.
        first: What to run: recipe, or ``A on B``.
        why: Why, in a sentence.
        next_to_try: Rows that lost nothing there and whose data these captions feed, best first: worth a comparison on the
            user's own held-out images.
        remarks: What else the captions say that matters, in sentences.
    """

    figures: SourceFigures
    nearest: MeasuredData
    first: str
    why: str
    next_to_try: tuple[str, ...]
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `advise --json` prints."""
        found = self.figures
        source = {
            "samples": found.num_samples,
            "captions": found.num_captions,
            "rejected": dict(found.num_rejected),
            "words_per_caption": found.words,
            "share_of_captions_at_several_images": round(found.share_equal, 4),
            "captions_tried": found.num_tried,
            "negatives_per_caption": {name: one.to_json() for name, one in found.negatives.items()},
            "people": dict(found.people),
        }
        return {
            "first": self.first,
            "why": self.why,
            "next_to_try": list(self.next_to_try),
            "remarks": list(self.remarks),
            "source": source,
            "measured": asdict(self.nearest),
        }


def advise(job: CurateJob, events: JobEvents) -> Advice:
    """Return advice for a source; nothing is published, and what is computed is thrown away.

    Args:
        job: Of the recipe `clip`, with the source.
        events: Callbacks for progress.

    Raises:
        InputError: the source or an option is unusable.
    """
    prepared = prepare(job, events)
    measured = MeasuredData.load_all()
    recipes = sorted({row.data_recipe for one in measured for row in one.rows} - {CONTROL})
    figures = read_figures(prepared.snapshot, recipes, job)
    return advice_for(figures, measured)


def read_figures(snapshot: Snapshot, recipes: Sequence[str], inputs: RecipeInputs) -> SourceFigures:
    """Return what a source's captions say; in memory are eight bytes of each caption.

    Args:
        snapshot: The source.
        recipes: Whose negatives are tried.
        inputs: Graph, vocabulary and language of the recipes.
    """
    hashes, words = [np.zeros(0, np.uint64)], Counter[int]()
    for batch in snapshot.batches(ALL_SAMPLES):
        rows = batch["captions"].to_pylist()
        words.update(len(text.split()) for row in rows for text in row)
        texts = chain.from_iterable({text.casefold() for text in row} for row in rows)
        data = b"".join(blake3(text.encode()).digest(length=8) for text in texts)
        hashes.append(np.frombuffer(data, np.uint64))
    _, counts = np.unique(np.concatenate(hashes), return_counts=True)
    figures = SourceFigures(
        num_samples=snapshot.num_samples,
        num_captions=words.total(),
        num_rejected=Counter(reason for _, reason, _ in snapshot.rejected),
        words=float(np.median(np.repeat(list(words), list(words.values())))),
        share_equal=float(counts[counts > 1].sum() / counts.sum()),
        num_tried=0,
    )
    with TemporaryDirectory(prefix="clipcurate-advise-") as folder:
        part = drawn_part(snapshot, Path(folder) / "snapshot", MAX_CAPTIONS, MAX_CHARS)
        return _with_trials(figures, part, Path(folder) / "store", recipes, inputs)


def _with_trials(
    figures: SourceFigures, part: Snapshot, store: Path, recipes: Sequence[str], inputs: RecipeInputs
) -> SourceFigures:
    """Return figures with what the recipes make of some images."""
    found: dict[str, CaptionNegatives] = {}
    for name in recipes:
        estimate = tried_negatives(load_recipe(name, inputs).all_stages(), part, store, are_all=True)
        if estimate.found is not None:
            found[name] = estimate.found
    num_tried = sum(len(row) for batch in part.batches(ALL_SAMPLES) for row in batch["captions"].to_pylist())
    people = _people(part, store) if CaptionLanguage.parse(inputs.language).is_english else {}
    return replace(figures, num_tried=num_tried, negatives=found, people=people)


def _people(part: Snapshot, store: Path) -> Mapping[str, int]:
    """Return how many images have captions that name men or boys, and women or girls."""
    finished, _ = run_stages([ParseCaptions(), TagAttributes()], part, store)
    numbers: Counter[str] = Counter()
    for one in partitions(part.num_samples):
        for item in Replay(part, Store(store), one, finished).encoded(["attribute_tags"]):
            tags = item.sample["attribute_tags"].split()
            numbers.update(value for value in ("male", "female") if f"gender:{value}" in tags)
    return numbers


def advice_for(figures: SourceFigures, measured: Sequence[MeasuredData]) -> Advice:
    """Return advice for a source with these figures.

    The comparison whose number of images and of captions per image are nearest (as ratios) decides. A row is advised if it
    passed the gate, gained something that the paired test finds even for the number of differences there are, and lost
    nothing that it finds; of several, the one with the largest gains together. A row that trains on negatives needs `LEAST_NEGATIVES` a caption of this source.
    """
    nearest = min(measured, key=lambda one: _distance(figures, one))
    rows = sorted(nearest.rows, key=lambda row: (-_total(row.gains(nearest.num_tests)), -_total(row.differences), row.recipe))
    usable = [row for row in rows if not _lacks_negatives(row, figures)]
    better = [row for row in usable if row.gains(nearest.num_tests) and not row.losses and not row.failed]
    first, why = CONTROL, (
        f"on {nearest.describe()}, no recipe that these captions feed was found better than plain tuning without "
        "a loss elsewhere, beyond what chance finds among so many differences: nothing speaks for the longer way"
    )  # fmt: skip
    if better:
        first = better[0].recipe
        why = f"on {nearest.describe()}, it beat plain tuning: {describe_differences(better[0].gains(nearest.num_tests))}"
    next_to_try = tuple(row.recipe for row in usable if row.recipe != first and not row.losses and not row.failed)
    return Advice(figures, nearest, first, why, next_to_try, tuple(_remarks(figures, nearest)))


def describe_differences(differences: Sequence[Difference]) -> str:
    """Return differences in words."""
    return ", ".join(f"{one.test} {one.value:+.1f} ({one.low:+.1f} to {one.high:+.1f})" for one in differences)


def _total(differences: Sequence[Difference]) -> float:
    return sum(one.value for one in differences)


def _distance(figures: SourceFigures, one: MeasuredData) -> float:
    return abs(math.log(figures.num_samples / one.num_samples)) + abs(
        math.log(figures.captions_per_sample / one.captions_per_sample)
    )


def _lacks_negatives(row: MeasuredRow, figures: SourceFigures) -> bool:
    """Return whether a row trains on negatives of which these captions give too few."""
    found = figures.negatives.get(row.data_recipe)
    return found is not None and found.mean < LEAST_NEGATIVES


def _remarks(figures: SourceFigures, nearest: MeasuredData) -> list[str]:
    """Return what else matters, in sentences."""
    remarks = []
    for name, found in figures.negatives.items():
        if found.mean < LEAST_NEGATIVES:
            remarks.append(
                f"{name} makes {found.mean:.2f} negatives a caption here, too few to train on; a vocabulary file "
                "(clipcurate vocabulary suggest) or a language model (--llm) gives more"
            )
    ratio = figures.num_samples / nearest.num_samples
    if not 1 / 3 <= ratio <= 3:
        remarks.append(
            f"the nearest comparison has {nearest.num_samples:,} images and this source {figures.num_samples:,}: "
            "take its figures as a hint, and compare on your own held-out images"
        )
    ratio = figures.captions_per_sample / nearest.captions_per_sample
    if not 1 / 2 <= ratio <= 2:
        remarks.append(
            f"the nearest comparison has {nearest.captions_per_sample:g} captions an image and this source "
            f"{figures.captions_per_sample:.1f}: none on such data is kept yet"
        )
    if figures.share_equal >= _MANY_EQUAL:
        remarks.append(
            f"{figures.share_equal:.0%} of the captions stand at several images, and in a batch these are each other's false "
            "negatives: recipes that find duplicates (dedup, ahnm) keep them out of each other's batches"
        )
    male, female = figures.people.get("male", 0), figures.people.get("female", 0)
    if max(male, female) > _UNEVEN * min(male, female) and max(male, female) >= 10:
        remarks.append(
            f"of the images tried, {male} have captions with men or boys and {female} with women or girls: "
            "recipe m4 balances them, fcl trains against the difference; neither is in this comparison"
        )
    return remarks
