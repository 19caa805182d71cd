"""The engine: run a recipe's stages over a snapshot, computing only what the store does not hold.

The unit of work is a pure function of (stage, partition, store path), so anything can carry it: this
process, a process pool, a Prefect task, a Dask worker. Nothing here knows Prefect.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.engine.intake import Snapshot
from curation.engine.replay import ALL_SAMPLES, EncodedSample, FinishedStage, WorkUnit, corpus_input_hash, replay
from curation.engine.stage import CorpusStage, Drop, MapStage, Stage, WaitingError, check_order
from curation.engine.store import StageResult, Store, input_id, partitions
from data_manifests.sample import Sample


@dataclass(frozen=True, slots=True)
class UnitReport:
    """What a unit did."""

    stage: str
    partition: str
    num_computed: int
    num_reused: int
    seconds: float
    peak_memory_bytes: int
    inputs: str = ""
    waiting: WaitingError | None = None


_NEW_OBJECTS_PER_COLLECTION = 100_000
"""New objects between two looks for cycles while stages work; Python's default is 700 (2,000 from 3.13 on)."""

Executor = Callable[[Callable[[WorkUnit], UnitReport], Sequence[WorkUnit]], Iterable[UnitReport]]


def run_serially(work: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
    """Run units one after another in this process."""
    return map(work, units)


def run_unit(unit: WorkUnit) -> UnitReport:
    """Compute what is missing of one stage over one partition and publish it, batch by batch.

    Numerical libraries get one thread: parallel work is between units, and sums that depend on a
    thread count would make bytes depend on the machine.
    """
    from threadpoolctl import threadpool_limits

    started = time.perf_counter()
    with threadpool_limits(1), infrequent_garbage_collection():
        report = _run_map(unit, unit.stage) if isinstance(unit.stage, MapStage) else _run_corpus(unit, unit.stage)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return replace(report, seconds=time.perf_counter() - started, peak_memory_bytes=peak)


@contextmanager
def infrequent_garbage_collection() -> Iterator[None]:
    """Let Python look for cycles rarely: stages make millions of records and next to no cycles."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS_PER_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _report(
    unit: WorkUnit, computed: int, reused: int, inputs: str = "", waiting: WaitingError | None = None
) -> UnitReport:
    return UnitReport(unit.stage.name, unit.partition.label, computed, reused, 0.0, 0, inputs, waiting)


def _run_map(unit: WorkUnit, stage: MapStage) -> UnitReport:
    store = Store(unit.store)
    store.declare(stage)
    folder = store.folder(stage)
    have = store.ids(folder, unit.partition)
    missing: dict[bytes, EncodedSample] = {}
    held = replay(unit, stage.required_fields())
    for item in held:
        key = input_id(stage, item.encoded)
        if key not in have:
            missing.setdefault(key, item)
    keys = list(missing)
    waiting: WaitingError | None = None
    for start in range(0, len(keys), stage.batch_size):
        batch = keys[start : start + stage.batch_size]
        try:
            results = stage.process([missing[key].sample for key in batch])
        except WaitingError as wait:
            waiting = wait
            continue
        rows = {key: _row(stage, missing[key].sample, result) for key, result in zip(batch, results, strict=True)}
        store.publish(folder, unit.partition, rows, [item.name for item in stage.provides])
    return _report(unit, len(keys), len(held) - len(keys), waiting=waiting)


def _row(stage: Stage, sample: Sample, result: Mapping[str, Any] | Drop) -> StageResult:
    """Encode a stage's result, holding the stage to what it declared."""
    if isinstance(result, Drop):
        if result.reason not in stage.drops:
            raise ValueError(
                f"stage '{stage.name}' dropped {sample.uid} as '{result.reason}', not one of {stage.drops}"
            )
        return StageResult({}, result)
    names = [item.name for item in stage.provides]
    if sorted(result) != sorted(names):
        raise ValueError(f"stage '{stage.name}' gave {sorted(result)} for {sample.uid}, it declares {sorted(names)}")
    return StageResult({item.name: item.encode(result[item.name]) for item in stage.provides})


@dataclass(frozen=True)
class LoadedCorpus:
    """All samples of a data set in memory; see `Corpus`."""

    samples: Sequence[EncodedSample]

    @property
    def uids(self) -> list[str]:
        """Uids, sorted."""
        return [item.sample.uid for item in self.samples]

    def column(self, name: str) -> list[Any]:
        """Return a field's values, one per sample."""
        return [item.sample[name] for item in self.samples]

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """Return an array field, stacked."""
        return np.stack(self.column(name))


def _run_corpus(unit: WorkUnit, stage: Stage) -> UnitReport:
    if not isinstance(stage, CorpusStage):
        raise TypeError(f"stage '{stage.name}' is neither a MapStage nor a CorpusStage")
    held = replay(unit, stage.required_fields())
    inputs = corpus_input_hash(stage, held)
    store = Store(unit.store)
    folder = store.folder(stage, inputs)
    if store.files(folder):
        return _report(unit, 0, len(held), inputs)
    results = stage.fit(LoadedCorpus(held))
    rows = {
        bytes.fromhex(item.sample.uid): _row(stage, item.sample, result)
        for item, result in zip(held, results, strict=True)
    }
    store.publish(folder, ALL_SAMPLES, rows, [item.name for item in stage.provides])
    return _report(unit, len(held), 0, inputs)


@dataclass
class StageReport:
    """What one stage did over all partitions."""

    stage: Stage
    num_computed: int = 0
    num_reused: int = 0
    seconds: float = 0.0
    wall_s: float = 0.0
    peak_memory_bytes: int = 0

    def add(self, report: UnitReport) -> None:
        """Count one unit."""
        self.num_computed += report.num_computed
        self.num_reused += report.num_reused
        self.seconds += report.seconds
        self.peak_memory_bytes = max(self.peak_memory_bytes, report.peak_memory_bytes)


@dataclass(frozen=True)
class Events:
    """What a caller may listen to; each does nothing by default."""

    stage_started: Callable[[Stage, int], None] = lambda _stage, _num_units: None
    unit_done: Callable[[Stage, UnitReport], None] = lambda _stage, _report: None


def run_stages(
    stages: Sequence[Stage],
    snapshot: Snapshot,
    store: Path,
    runner: Executor = run_serially,
    events: Events | None = None,
) -> tuple[list[FinishedStage], list[StageReport]]:
    """Bring the store up to date for `stages` over `snapshot`; return where each stage's results lie.

    Raises:
        ValueError: the stages do not fit together, or one breaks its declaration.
        WaitingError: a stage waits for something from outside; told after all of its units have run.
    """
    check_order(stages)
    listen = events or Events()
    done: list[FinishedStage] = []
    reports: list[StageReport] = []
    parts = partitions(snapshot.num_samples)
    for stage in stages:
        where = parts if isinstance(stage, MapStage) else [ALL_SAMPLES]
        units = [WorkUnit(stage, tuple(done), snapshot.folder, store, part) for part in where]
        total, inputs, started = StageReport(stage), "", time.perf_counter()
        waiting: WaitingError | None = None
        listen.stage_started(stage, len(units))
        carry = run_serially if stage.runs_in_main_process() else runner
        for report in carry(run_unit, units):
            total.add(report)
            inputs, waiting = report.inputs, report.waiting or waiting
            listen.unit_done(stage, report)
        if waiting is not None:
            raise waiting
        total.wall_s = time.perf_counter() - started
        done.append(FinishedStage(stage, inputs))
        reports.append(total)
    return done, reports
