"""The engine: runs a recipe's stages over a snapshot and computes only what the store does not hold.

The unit of work is a pure function of (stage, partition, store path), so any executor can run it: this process, a
process pool, a Prefect task, a Dask worker. Nothing here imports Prefect.
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

_NEW_OBJECTS_PER_COLLECTION = 100_000
"""New objects between two runs of the garbage collector; Python's default is 700 (2,000 from 3.13 on)."""


@dataclass(frozen=True, slots=True)
class UnitReport:
    """What running a unit did.

    Attributes:
        num_computed: Samples whose result was missing.
        num_reused: Samples whose result was in the store.
        inputs: For a corpus stage, the hash of its inputs.
        waiting: Raised by a batch that needs something from outside first.
        peak_memory_bytes: Peak of the process that ran it.
    """

    num_computed: int
    num_reused: int
    inputs: str = ""
    waiting: WaitingError | None = None
    peak_memory_bytes: int = 0


Executor = Callable[[Callable[[WorkUnit], UnitReport], Sequence[WorkUnit]], Iterable[UnitReport]]


def run_serially(work: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
    """Run units one after another in this process."""
    return map(work, units)


def run_unit(unit: WorkUnit) -> UnitReport:
    """Compute the missing results of one stage over one partition and publish them batch by batch.

    Numerical libraries get one thread: units run in parallel, and sums that depend on a thread count would make the
    results depend on the machine.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), infrequent_garbage_collection():
        report = _run_map(unit, unit.stage) if isinstance(unit.stage, MapStage) else _run_corpus(unit, unit.stage)
    return replace(report, peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


@contextmanager
def infrequent_garbage_collection() -> Iterator[None]:
    """Collect garbage rarely: stages make millions of records and hardly any reference cycles."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS_PER_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _run_map(unit: WorkUnit, stage: MapStage) -> UnitReport:
    store = Store(unit.store)
    store.describe_stage(stage)
    folder = store.folder(stage)
    stored = store.ids(folder, unit.partition)
    samples = replay(unit, stage.required_fields())
    missing: dict[bytes, Sample] = {}
    for item in samples:
        key = input_id(stage, item.encoded)
        if key not in stored:
            missing.setdefault(key, item.sample)
    keys = list(missing)
    waiting: WaitingError | None = None
    for start in range(0, len(keys), stage.batch_size):
        batch = keys[start : start + stage.batch_size]
        try:
            results = stage.process([missing[key] for key in batch])
        except WaitingError as error:
            waiting = error
            continue
        rows = {key: _encode(stage, missing[key], result) for key, result in zip(batch, results, strict=True)}
        store.publish(folder, unit.partition, rows, [field.name for field in stage.provides])
    return UnitReport(len(keys), len(samples) - len(keys), waiting=waiting)


def _encode(stage: Stage, sample: Sample, result: Mapping[str, Any] | Drop) -> StageResult:
    """Encode a stage's result and check it against the stage's declaration."""
    if isinstance(result, Drop):
        if result.reason not in stage.drops:
            raise ValueError(
                f"stage '{stage.name}' dropped {sample.uid} as '{result.reason}', it declares {stage.drops}"
            )
        return StageResult({}, result)
    names = sorted(field.name for field in stage.provides)
    if sorted(result) != names:
        raise ValueError(f"stage '{stage.name}' gave {sorted(result)} for {sample.uid}, it declares {names}")
    return StageResult({field.name: field.encode(result[field.name]) for field in stage.provides})


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
    samples = replay(unit, stage.required_fields())
    inputs = corpus_input_hash(stage, samples)
    store = Store(unit.store)
    folder = store.folder(stage, inputs)
    if store.files(folder):
        return UnitReport(0, len(samples), inputs)
    results = stage.fit(LoadedCorpus(samples))
    rows = {
        bytes.fromhex(item.sample.uid): _encode(stage, item.sample, result)
        for item, result in zip(samples, results, strict=True)
    }
    store.publish(folder, ALL_SAMPLES, rows, [field.name for field in stage.provides])
    return UnitReport(len(samples), 0, inputs)


@dataclass
class StageReport:
    """What running a stage did, over all partitions."""

    stage: Stage
    num_computed: int = 0
    num_reused: int = 0
    wall_s: float = 0.0
    peak_memory_bytes: int = 0

    def add(self, report: UnitReport) -> None:
        """Add a unit's counts."""
        self.num_computed += report.num_computed
        self.num_reused += report.num_reused
        self.peak_memory_bytes = max(self.peak_memory_bytes, report.peak_memory_bytes)


@dataclass(frozen=True)
class Events:
    """Callbacks while stages run; each does nothing by default."""

    stage_started: Callable[[Stage, int], None] = lambda _stage, _num_units: None
    unit_done: Callable[[Stage, UnitReport], None] = lambda _stage, _report: None


def run_stages(
    stages: Sequence[Stage],
    snapshot: Snapshot,
    store: Path,
    executor: Executor = run_serially,
    events: Events | None = None,
) -> tuple[list[FinishedStage], list[StageReport]]:
    """Compute what the store lacks of `stages` over `snapshot`; return where each stage's results are.

    Raises:
        ValueError: the stages do not fit together, or one breaks its declaration.
        WaitingError: a stage needs something from outside; raised after all of its units have run.
    """
    check_order(stages)
    events = events or Events()
    finished: list[FinishedStage] = []
    reports: list[StageReport] = []
    for stage in stages:
        parts = partitions(snapshot.num_samples) if isinstance(stage, MapStage) else [ALL_SAMPLES]
        units = [WorkUnit(stage, tuple(finished), snapshot.folder, store, part) for part in parts]
        total, inputs, started = StageReport(stage), "", time.perf_counter()
        waiting: WaitingError | None = None
        events.stage_started(stage, len(units))
        run = run_serially if stage.runs_in_main_process() else executor
        for report in run(run_unit, units):
            total.add(report)
            inputs, waiting = report.inputs, report.waiting or waiting
            events.unit_done(stage, report)
        if waiting is not None:
            raise waiting
        total.wall_s = time.perf_counter() - started
        finished.append(FinishedStage(stage, inputs))
        reports.append(total)
    return finished, reports
