"""What people decide is brought into fits that are kept, and what later stages learned is kept with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from curation.engine.engine import StageReport
from curation.engine.fits import Fit, FitRecord
from curation.engine.stage import Columns, Drop, Field, FittedStage, Stage
from curation.engine.store import ALL_SAMPLES
from curation.sources import SourceRecord
from curation.stages.hygiene.check_images import CheckImages
from data_manifests.diff import diff_versions
from data_manifests.manifest import Manifest
from data_manifests.sample import Sample
from tests.curation.test_fits import World, edited, members, records

__all__ = ["records"]  # a fixture

ODD = ("", "\u0001", "naïve \U0001f600 ", "a" * 3000)


@dataclasses.dataclass(frozen=True)
class MarkWords(FittedStage):
    """Which of some words the first caption has, where it is longer than half of the mean."""

    name: ClassVar[str] = "mark_words"
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (Field("marked", publish="sample"),)
    source: ClassVar[str] = "the test"
    decisions: ClassVar[tuple[str, ...]] = ("words",)

    words: tuple[str, ...] = ()
    share: float = 0.5

    def fit(self, columns: Columns) -> Fit:
        lengths = [len(sample.captions[0]) for batch in columns.batches() for sample in batch]
        return Fit({"mean": sum(lengths) / len(lengths), "words": list(self.words)})

    def amend(self, fit: Fit, columns: Columns) -> Fit:
        assert columns.num_samples > 0
        return dataclasses.replace(fit, values={**fit.values, "words": list(self.words)})

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        least = self.share * fit.values["mean"]
        texts = [one.captions[0] if len(one.captions[0]) > least else "" for one in samples]
        return [{"marked": [word for word in fit.values["words"] if word in text.split()]} for text in texts]


@dataclasses.dataclass(frozen=True)
class CompareMarks(FittedStage):
    """Whether more words are marked than on average."""

    name: ClassVar[str] = "compare_marks"
    requires: ClassVar[tuple[str, ...]] = ("marked",)
    provides: ClassVar[tuple[Field, ...]] = (Field("many", publish="sample"),)
    source: ClassVar[str] = "the test"

    def fit(self, columns: Columns) -> Fit:
        numbers = [len(sample["marked"]) for batch in columns.batches() for sample in batch]
        return Fit({"mean": sum(numbers) / len(numbers)})

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        return [{"many": len(one["marked"]) > fit.values["mean"]} for one in samples]


def run(world: World, records: Sequence[SourceRecord], **settings: Any) -> tuple[Manifest, list[FitRecord]]:
    stages: tuple[Stage, ...] = (CheckImages(), MarkWords(**settings), CompareMarks())
    world.stages = stages
    manifest, reports, _ = world.run(records)
    return manifest, [fit for fit in map(_fit, reports) if fit is not None]


def _fit(report: StageReport) -> FitRecord | None:
    return report.fit


def test_decisions_keep_what_was_learned_and_all_that_was_learned_from_it(
    tmp_path: Path, records: list[SourceRecord]
) -> None:
    world = World(tmp_path)
    first, _ = run(world, records, words=("red",))
    before = members(world.catalog, first)
    second, fits = run(world, records, words=("red", "a"))  # "a" is in more than a tenth of the captions
    assert [fit.learned_on for fit in fits] == ["toy@1.0.0", "toy@1.0.0"]
    assert fits[0].why.endswith("with other words")
    assert fits[1].checks[0].bound == pytest.approx(fits[1].checks[0].figure + 0.1) and fits[1].checks[0].figure > 0.2
    assert second.version == "1.1.0"
    after = members(world.catalog, second)
    batches = world.snapshot.batches(ALL_SAMPLES)
    texts = {row["uid"]: row["captions"][0] for batch in batches for row in batch.to_pylist()}
    has_word = {uid for uid, text in texts.items() if "a" in text.split()}
    changed = {uid for uid in before if before[uid] != after[uid]}
    assert changed and changed <= has_word
    # the next edit changes one sample, although much is new to what was learned first
    third, fits = run(world, edited(records, 3), words=("red", "a"))
    assert [fit.learned_on for fit in fits] == ["toy@1.0.0", "toy@1.0.0"]
    assert diff_versions(world.catalog.open("toy@1.1.0"), world.catalog.open(f"toy@{third.version}")).num_edited == 1
    # and taken back, nothing is left of them
    run(world, records, words=("red",))
    assert members(world.catalog, world.catalog.latest("toy") or first) == before


def test_where_more_than_decisions_changed_all_is_learned_anew(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    run(world, records, words=("red",))
    _, fits = run(world, edited(records, *range(7)), words=("red", "a"))  # 11.7 % of the samples, too
    assert [fit.learned_on for fit in fits] == ["", ""]
    _, fits = run(world, edited(records, *range(7)), words=("red",), share=0.0)  # another setting
    assert fits[0].learned_on == "" and fits[0].why == "first fit"


@pytest.mark.parametrize("odd", ODD)
def test_odd_captions(tmp_path: Path, records: list[SourceRecord], odd: str) -> None:
    world = World(tmp_path)
    some = edited(records[:12], 0, text=odd)
    run(world, some, words=("red",))
    _, fits = run(world, some, words=("red", odd.strip() or "a"))
    assert fits[0].learned_on == "toy@1.0.0"


def test_a_stage_without_decisions_amends_nothing() -> None:
    stage = CompareMarks()
    assert stage.learning_fingerprint() == stage.fingerprint()
    assert MarkWords(("a",)).learning_fingerprint() == MarkWords(("b",)).learning_fingerprint()
    assert MarkWords(("a",)).fingerprint() != MarkWords(("b",)).fingerprint()
    assert MarkWords(("a",)).learning_fingerprint() != MarkWords(("a",), 0.1).learning_fingerprint()
    fit = Fit()
    assert stage.amend(fit, None) is fit  # type: ignore[arg-type]


def test_a_stage_with_decisions_says_how_a_fit_takes_them_up() -> None:
    with pytest.raises(TypeError, match="Silent has decisions, words, and no method amend"):
        type("Silent", (CompareMarks,), {"decisions": ("words",)})
