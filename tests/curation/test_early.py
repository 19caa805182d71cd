"""Early starts: a later stage that loads a model runs in another process meanwhile, and nothing else changes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from curation.engine import early
from curation.engine.engine import UnitReport, run_serially, run_stages, run_unit
from curation.engine.intake import Snapshot, read_source
from curation.engine.replay import Replay, WorkUnit
from curation.engine.stage import Drop, Field, MapStage, Stage
from curation.engine.store import ALL_SAMPLES, Store
from curation.sources import RecordSplit, SourceRecord
from curation.sources.scenes import ScenesSource
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from flows.execution.executors import local_executor

NUM_SCENES = 12
SHORT = "too few"


@dataclasses.dataclass(frozen=True)
class _Counts(MapStage):
    """Counts letters and says which process did it; loads no model, but says so."""

    source = "test"
    starts_slowly = True
    of: ClassVar[str] = "captions"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        (field,) = self.provides
        return [{field.name: [len(str(sample[self.of])), os.getpid()]} for sample in samples]


class CountFirst(_Counts):
    name = "count_first"
    requires = ("captions",)
    provides = (Field("first"),)


class CountAgain(_Counts):
    name = "count_again"
    requires = ("captions", "split")
    provides = (Field("again"),)


class CountFirsts(_Counts):
    name = "count_firsts"
    requires = ("first",)
    provides = (Field("firsts"),)
    of = "first"


class FailLater(_Counts):
    name = "fail_later"
    requires = ("captions",)
    provides = (Field("never"),)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        raise InputError(f"no model for {len(samples)} samples")


@dataclasses.dataclass(frozen=True)
class DropShort(MapStage):
    name = "drop_short"
    requires = ("captions",)
    provides = ()
    drops = ("short",)
    source = "test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [Drop("short") if SHORT in sample.captions else {} for sample in samples]


class StartsHere:
    """An executor that starts units at once, in this process, and notes which."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def __call__(self, work: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
        return run_serially(work, units)

    def start(self, unit: WorkUnit) -> Callable[[], UnitReport]:
        self.started.append(unit.stage.name)
        report = run_unit(unit)
        return lambda: report


@dataclasses.dataclass(frozen=True)
class _Scenes:
    """Scenes, some of which have a caption that `DropShort` drops."""

    num_short: int = 0

    kind: ClassVar[str] = "scenes"

    def splits(self) -> list[RecordSplit]:
        records = [item for item in ScenesSource(str(NUM_SCENES)).records() if isinstance(item, SourceRecord)]
        short = [dataclasses.replace(record, captions=(SHORT,)) for record in records[: self.num_short]]
        return [RecordSplit(lambda: [*short, *records[self.num_short :]])]

    def signature(self) -> str:
        return str(self.num_short)


def read(folder: Path, num_short: int = 0) -> Snapshot:
    return read_source(_Scenes(num_short), folder / "intake", location="here")


def counts(folder: Path, snapshot: Snapshot, stages: Sequence[Stage], executor: Any) -> list[tuple[str, int, int]]:
    _, reports = run_stages(stages, snapshot, folder / "store", executor)
    return [(report.stage.name, report.num_computed, report.num_reused) for report in reports]


@pytest.mark.parametrize("num_short", [0, 3])
def test_a_later_stage_starts_early_and_counts_are_the_same(tmp_path: Path, num_short: int) -> None:
    stages, snapshot = (CountFirst(), DropShort(), CountAgain()), read(tmp_path, num_short)
    here = StartsHere()
    found = counts(tmp_path / "early", snapshot, stages, here)
    assert here.started == ["count_again"]
    assert found == counts(tmp_path / "in_turn", snapshot, stages, run_serially)
    assert found[-1] == ("count_again", NUM_SCENES - num_short, 0)
    # all of them are in the store, and nothing is started again
    again = [(name, 0, computed + reused) for name, computed, reused in found]
    assert counts(tmp_path / "early", snapshot, stages, here) == again
    assert here.started == ["count_again"]


def test_what_reads_a_field_that_is_not_there_waits_its_turn(tmp_path: Path) -> None:
    here = StartsHere()
    counts(tmp_path, read(tmp_path), (CountFirst(), CountFirsts()), here)
    assert not here.started


def test_the_first_of_them_and_stages_without_a_model_start_nothing(tmp_path: Path) -> None:
    here, snapshot = StartsHere(), read(tmp_path)
    counts(tmp_path, snapshot, (DropShort(), CountFirst()), here)
    counts(tmp_path, snapshot, (DropShort(), CountFirst(), CountFirsts()), here)
    assert not here.started


def test_many_samples_are_for_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = StartsHere()
    monkeypatch.setattr(early, "MOST_SAMPLES", NUM_SCENES - 1)
    counts(tmp_path, read(tmp_path), (CountFirst(), CountAgain()), here)
    assert not here.started


def test_another_process_computes_them_and_its_errors_come_back(tmp_path: Path) -> None:
    snapshot = read(tmp_path)
    with local_executor(2) as runner:
        done, reports = run_stages((CountFirst(), CountAgain()), snapshot, tmp_path / "store", runner)
        assert [report.num_computed for report in reports] == [NUM_SCENES, NUM_SCENES]
        with pytest.raises(InputError, match=f"no model for {NUM_SCENES} samples"):
            run_stages((CountFirst(), CountAgain(), FailLater()), snapshot, tmp_path / "other", runner)
    items = Replay(snapshot, Store(tmp_path / "store"), ALL_SAMPLES, done).encoded(["first", "again"])
    processes = [{item.sample[name][1] for item in items} for name in ("first", "again")]
    assert processes[0] == {os.getpid()}
    assert len(processes[1]) == 1
    assert processes[1] != processes[0]
