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
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from curation.engine.columns import StoredColumns
from curation.engine.early import EarlyUnits, StartsUnits
from curation.engine.fits import (
    FIRST_FIT,
    FIT_OF,
    FITS_FOLDER,
    SHARE_NEW,
    Evidence,
    Fit,
    FitCheck,
    FitPolicy,
    FitRecord,
    KeptFit,
    Overlap,
    fit_hash,
    fit_path,
    load_fit,
    save_fit,
    sketch_of,
)
from curation.engine.followed import Followed
from curation.engine.intake import Snapshot
from curation.engine.outputs import ResultEncoder
from curation.engine.receipts import Receipt, add_up, publish_receipts
from curation.engine.replay import FinishedStage, Positions, Replay, WorkUnit, inputs_hash, release_samples
from curation.engine.stage import (
    Drop,
    FittedStage,
    IndexedStage,
    MapStage,
    PreviousIndex,
    Stage,
    WaitingError,
    check_order,
)
from curation.engine.store import ALL_SAMPLES, Partition, Store, input_id_of, partitions, span_of
from data_manifests.atomic_files import write_atomically, write_table_atomically
from data_manifests.errors import InputError
from data_manifests.sample import Sample

STATE_FILE = "state.safetensors"
MEMBERS_FILE = "members"
"""Of an indexed stage's folder: its state, and the samples (parquet) that it was made from."""

_FEW_SAMPLES = 10_000
_FEW_LACKING = 128
"""A quarter of a partition: with fewer samples that lack a result, it is one unit with the next one."""

_RESULTS_PER_FILE = 512

_NEW_OBJECTS_PER_COLLECTION = 100_000
"""New objects between two runs of the garbage collector; Python's default is 700 (2,000 from 3.13 on)."""


@dataclass(frozen=True, slots=True)
class UnitReport:
    """What running a unit did.

    Attributes:
        num_computed: Samples whose result was missing.
        num_reused: Samples whose result was in the store.
        key: Of a unit that fits, the hash of the fit; of one that indexes, the hash of its inputs.
        num_learned_from: Of a unit that fits, the number of samples.
        waiting: Raised by a batch that needs something from outside first.
        peak_memory_bytes: Peak of the process that ran it.
    """

    num_computed: int
    num_reused: int
    key: str = ""
    num_learned_from: int = 0
    waiting: WaitingError | None = None
    peak_memory_bytes: int = 0


Process = Callable[[Sequence[Sample]], list[dict[str, Any] | Drop]]
Executor = Callable[[Callable[[WorkUnit], UnitReport], Sequence[WorkUnit]], Iterable[UnitReport]]


def run_serially(work: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
    """Run units one after another in this process."""
    return map(work, units)


def run_unit(unit: WorkUnit) -> UnitReport:
    """Compute the missing results of one stage over one partition and publish them batch by batch."""
    return run_over(unit, Replay.of(unit))


def run_over(unit: WorkUnit, samples: Replay) -> UnitReport:
    """Run a unit over the samples before its stage.

    Numerical libraries get one thread: units run in parallel, and sums that depend on a thread count would make the
    results depend on the machine.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), infrequent_garbage_collection():
        report = _run(unit, samples)
    return replace(report, peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _run(unit: WorkUnit, samples: Replay) -> UnitReport:
    stage = unit.stage
    if isinstance(stage, MapStage):
        return _process(unit, samples, stage, stage.process)
    if isinstance(stage, FittedStage):
        if not unit.fit:
            return _amend(unit, samples, stage) if unit.amends else _learn(unit, samples, stage)
        fit = load_fit(fit_path(Store(unit.store).folder(stage), unit.fit))
        return _process(unit, samples, stage, partial(stage.apply, fit=fit))
    if isinstance(stage, IndexedStage):
        return _index(unit, samples, stage)
    raise TypeError(f"stage '{stage.name}' is none of MapStage, FittedStage and IndexedStage")


@contextmanager
def infrequent_garbage_collection() -> Iterator[None]:
    """Collect garbage rarely: stages make millions of records and hardly any reference cycles."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS_PER_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _process(unit: WorkUnit, samples: Replay, stage: MapStage | FittedStage, process: Process) -> UnitReport:
    """Compute what the store lacks of a partition, batch by batch."""
    store = Store(unit.store)
    folder = store.folder(stage, unit.fit)
    store.describe_stage(stage, unit.fit)
    positions, sample_keys = samples.lacking(stage, folder)
    names = stage.required_fields()
    items = samples.encoded(names, positions)
    ids = [input_id_of(names, item.encoded) for item in items]
    receipts = samples.find(FinishedStage(stage, unit.fit), ids, [item.uid for item in items])
    missing = {key: item for key, item in zip(ids, items, strict=True) if key not in receipts}
    keys = list(missing)
    encoder = ResultEncoder(stage)
    waiting: WaitingError | None = None
    for start in range(0, len(keys), stage.batch_size):
        batch = [missing[key].sample for key in keys[start : start + stage.batch_size]]
        try:
            with naming_stage(stage, batch):
                results = process(batch)
        except WaitingError as error:
            waiting = error
            continue
        rows = dict(zip(keys[start : start + stage.batch_size], encoder.encode_all(batch, results), strict=True))
        # the uids of all: several samples may have the same input
        path = store.publish(
            folder, span_of(item.uid for item in items), rows, [field.name for field in stage.provides]
        )
        receipts |= {key: Receipt.of(stage, key, path.name, result) for key, result in rows.items()}
    made = [
        receipts[key]._replace(key=known)
        for known, key in zip(sample_keys.to_pylist(), ids, strict=True)
        if key in receipts
    ]
    publish_receipts(folder, [item.uid for item in items], made)
    return UnitReport(len(keys), len(items) - len(keys), waiting=waiting)


def _learn(unit: WorkUnit, samples: Replay, stage: FittedStage) -> UnitReport:
    """Learn a fit, unless one was learned from the same samples before."""
    columns = StoredColumns(unit, samples)
    ids = columns.input_ids
    folder = Store(unit.store).folder(stage)
    Store(unit.store).describe_stage(stage)
    known = folder / FITS_FOLDER / f"{FIT_OF}{inputs_hash(ids)}"
    if known.is_file() and fit_path(folder, name := known.read_text()).is_file():
        return UnitReport(0, 0, name, len(ids))
    with naming_stage(stage):
        fit = _checked_fit(stage, stage.fit(columns), "fit")
    learned = replace(fit, num_samples=len(ids), sketch=sketch_of(key for key, _ in ids))
    name = save_fit(folder, learned.to_bytes())
    write_atomically(known, name.encode())
    return UnitReport(0, 0, name, len(ids))


def _checked_fit(stage: Stage, fit: Any, method: str) -> Fit:
    """Return what a stage learned.

    Raises:
        InputError: it is no `Fit`.
    """
    if not isinstance(fit, Fit):
        allowed = f"{method} returns a Fit of values and arrays"
        raise InputError(f"stage '{stage.name}' learned {fit!r:.80}", allowed=allowed, fix="correct the stage")
    return fit


def _amend(unit: WorkUnit, samples: Replay, stage: FittedStage) -> UnitReport:
    """Bring what people have decided into a fit that was learned before.

    Its sketch has the samples of now, too: what they say of decided words is in it.
    """
    folder, columns = Store(unit.store).folder(stage), StoredColumns(unit, samples)
    fit = load_fit(fit_path(folder, unit.amends))
    sketch = sketch_of((key for key, _ in columns.input_ids), fit.sketch)
    amended = replace(stage.amend(fit, columns), num_samples=fit.num_samples, sketch=sketch)
    return UnitReport(0, 0, save_fit(folder, amended.to_bytes()), fit.num_samples)


@contextmanager
def naming_stage(stage: Stage, samples: Sequence[Sample] = ()) -> Iterator[None]:
    """Say in the traceback of whatever a stage raises which stage it was, and for which samples."""
    try:
        yield
    except Exception as error:
        of = f" for {len(samples)} samples from {samples[0].uid} ({samples[0].name}) on" if samples else ""
        error.add_note(f"raised by stage '{stage.name}'{of}")
        raise


def _index(unit: WorkUnit, samples: Replay, stage: IndexedStage) -> UnitReport:
    """Bring an indexed stage's state up to date and write its results, unless they are there for these samples."""
    import pyarrow as pa

    columns, store = StoredColumns(unit, samples), Store(unit.store)
    ids = {uid: value for value, uid in columns.input_ids}
    key = inputs_hash(columns.input_ids)
    folder = store.folder(stage, key)
    finished, report = FinishedStage(stage, key), UnitReport(0, len(ids), key)
    if not ((folder / STATE_FILE).is_file() and samples.has_results(finished)):
        store.describe_stage(stage)
        before = previous_index(store.folder(stage), ids)
        with naming_stage(stage):
            state = _checked_fit(stage, stage.update(columns, before), "update")
            results = ResultEncoder(stage).encode_each(ids, stage.results(columns, state))
            while items := list(islice(results, _RESULTS_PER_FILE)):
                rows = {bytes.fromhex(uid): result for uid, result in items}
                store.publish(folder, span_of(uid for uid, _ in items), rows, [spec.name for spec in stage.provides])
        members = pa.table({"uid": list(ids), "input_id": pa.array(list(ids.values()), pa.binary(16))})
        write_table_atomically(folder / MEMBERS_FILE, members)
        # last: with it, everything is there
        write_atomically(folder / STATE_FILE, state.to_bytes())
        num_kept = 0 if before is None else int((before.row_now >= 0).sum())
        report = UnitReport(len(ids) - num_kept, num_kept, key)
    publish_receipts(folder, list(ids), samples.receipts(finished))
    return report


def previous_index(folder: Path, ids: Mapping[str, bytes]) -> PreviousIndex | None:
    """Return the newest state of an indexed stage in the store, or None.

    Args:
        folder: The folder of the stage's results.
        ids: Input id of each sample by uid, in uid order.
    """
    states = sorted(folder.glob(f"*/{STATE_FILE}"), key=lambda path: (path.stat().st_mtime_ns, path))
    if not states:
        return None
    import pyarrow.parquet as pq

    members = pq.read_table(states[-1].with_name(MEMBERS_FILE))
    row_of = {uid: row for row, uid in enumerate(ids)}
    uids = members["uid"].to_pylist()
    row_now = [
        row_of[uid] if ids.get(uid) == key else -1
        for uid, key in zip(uids, members["input_id"].to_pylist(), strict=True)
    ]
    return PreviousIndex(Fit.load(states[-1]), uids, np.array(row_now, np.int64), states[-1].parent.name)


@dataclass
class StageReport:
    """What running a stage did, over all partitions."""

    stage: Stage
    num_computed: int = 0
    num_reused: int = 0
    wall_s: float = 0.0
    peak_memory_bytes: int = 0
    key: str = ""
    num_learned_from: int = 0
    evidence: Evidence = field(default_factory=Evidence)
    fit: FitRecord | None = None

    def add(self, report: UnitReport) -> None:
        """Add a unit's counts."""
        self.num_computed += report.num_computed
        self.num_reused += report.num_reused
        self.peak_memory_bytes = max(self.peak_memory_bytes, report.peak_memory_bytes)
        self.key, self.num_learned_from = report.key, report.num_learned_from


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
    """Compute what the store lacks of `stages` over `snapshot`; return where each stage's results are, and what was done.

    Raises:
        InputError: requested fits cannot be used.
        ValueError: the stages do not fit together, or one breaks its declaration.
        WaitingError: a stage needs something from outside; raised after all of its units have run.
    """
    samples, reports = samples_after(stages, snapshot, store, executor, events)
    return samples.finished, reports


def samples_after(
    stages: Sequence[Stage],
    snapshot: Snapshot,
    store: Path,
    executor: Executor = run_serially,
    events: Events | None = None,
    fits: FitPolicy | None = None,
) -> tuple[Replay, list[StageReport]]:
    """Do what `run_stages` does; return the samples after the stages, and what was done."""
    check_order(stages)
    here = replace(snapshot, folder=snapshot.folder.absolute())  # a worker may run in another folder
    samples = Replay(here, Store(store.absolute()), ALL_SAMPLES)
    starter = executor if isinstance(executor, StartsUnits) else None
    early = EarlyUnits[UnitReport](stages, starter, here.folder, samples.store.root)
    run = _StageRun(here, store.absolute(), executor, events or Events(), fits or FitPolicy(), samples, early)
    for stage in stages:
        started = time.perf_counter()
        if isinstance(stage, FittedStage):
            report = run.fitted(stage)
        else:
            report = run.units(stage)
            run.followed.passed(stage)
        report.wall_s = time.perf_counter() - started
        run.finish(FinishedStage(stage, report.fit.hash if report.fit else report.key, report.fit))
        run.reports.append(report)
    release_samples()
    return run.samples, run.reports


@dataclass
class _StageRun:
    """Stages that run one after another over a snapshot; `samples` are those before the next stage."""

    snapshot: Snapshot
    store: Path
    executor: Executor
    events: Events
    fits: FitPolicy
    samples: Replay
    early: EarlyUnits[UnitReport]
    finished: list[FinishedStage] = field(default_factory=list)
    reports: list[StageReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.followed = Followed(self.fits)

    def units(self, stage: Stage, fit: str = "", amends: str = "") -> StageReport:
        """Run a stage over all partitions (one that fits or indexes: as one unit) and return the sum of the reports.

        Raises:
            WaitingError: the stage needs something from outside.
        """
        known, parts, num_samples = list[UnitReport](), [ALL_SAMPLES], self.samples.num_samples
        if isinstance(stage, MapStage) or fit:
            report, lacking = self._known(stage, fit)
            known, parts, num_samples = [report], self._partitions(lacking), len(lacking)
        given = (stage, tuple(self.finished), self.snapshot.folder, self.store)
        units = [WorkUnit(*given, part, fit, amends) for part in parts]
        total, waiting = StageReport(stage), None
        self.events.stage_started(stage, len(units) + len(known))
        # of few samples, one unit takes less time here than in a process that may have to start first
        alone = len(units) == 1 and num_samples <= _FEW_SAMPLES
        if alone:
            self.early.start(stage, self.samples)
        done = (
            (run_over(unit, self.samples) for unit in units)
            if alone
            else (run_serially if stage.runs_in_main_process() else self.executor)(run_unit, units)
        )
        for report in chain(known, done):
            total.add(report)
            waiting = report.waiting or waiting
            self.events.unit_done(stage, report)
        if waiting is not None:
            raise waiting
        return total

    def _known(self, stage: Stage, fit: str) -> tuple[UnitReport, Positions]:
        """Return how many samples have a result of a stage, with those that were started early, and which lack one."""
        early = self.early.finish(stage, self.samples)
        lacking, _ = self.samples.lacking(stage, Store(self.store).folder(stage, fit))
        num_stored = self.samples.num_samples - len(lacking)
        if early is None:
            return UnitReport(0, num_stored), lacking
        report, num_there = early
        num_computed = min(report.num_computed, num_there)
        return replace(report, num_computed=num_computed, num_reused=num_stored - num_computed), lacking

    def _partitions(self, lacking: Positions) -> list[Partition]:
        """Return partitions that have all of some samples; neighbours with few of them are one."""
        parts = partitions(self.snapshot.num_samples)
        edges = [part.first for part in parts]
        numbers = np.searchsorted(edges, self.samples.prefixes[lacking], side="right") - 1
        found: list[Partition] = []
        count = _FEW_LACKING
        for number, here in zip(*(item.tolist() for item in np.unique(numbers, return_counts=True)), strict=True):
            if count < _FEW_LACKING:
                found[-1], count = Partition(found[-1].first, parts[number].last), count + here
            else:
                found, count = [*found, parts[number]], here
        return found

    def finish(self, stage: FinishedStage) -> None:
        """Go on to the next stage."""
        self.finished.append(stage)
        self.samples = self.samples.after(stage)

    def fitted(self, stage: FittedStage) -> StageReport:
        """Apply the fit of an earlier version if there is one and it holds; otherwise fit, then apply."""
        why = "requested" if {stage.name, "*"} & self.fits.refit else FIRST_FIT
        kept = self.fits.of(stage.name, stage.learning_fingerprint())
        if kept is not None and (fit := self._take_over(stage, kept)) is not None:
            is_amended = kept.stage_fingerprint != stage.fingerprint()
            key = self.units(stage, amends=kept.hash).key if is_amended else kept.hash
            report = self.units(stage, key)
            report.evidence, overlap = evidence_of(self.samples.after(FinishedStage(stage, key)), fit)
            most_new = self.followed.most_new(stage, kept, overlap)
            checks = check_fit(stage, fit, report.evidence, overlap, most_new)
            failed = [check for check in checks if not check.holds]
            if not failed or self.fits.given:
                reason = "requested" if self.fits.given else "every check holds"
                reason += f"; with other {', '.join(stage.decisions)}" if is_amended else ""
                report.fit = FitRecord(key, fit.num_samples, kept.learned_on, checks, reason)
                self.followed.passed(stage, kept)
                return report
            why = "; ".join(f"{item.measure} is {item.figure:.4g}, above {item.bound:.4g}" for item in failed)
        elif kept is not None:
            why = f"the fit of {kept.learned_on} is not in this workspace"
        learned = self.units(stage)
        report = self.units(stage, learned.key)
        report.peak_memory_bytes = max(report.peak_memory_bytes, learned.peak_memory_bytes)
        report.fit = FitRecord(learned.key, learned.num_learned_from, why=why)
        self.followed.passed(stage)
        return report

    def _take_over(self, stage: FittedStage, kept: KeptFit) -> Fit | None:
        """Copy an earlier fit into the store unless it is there, and return it; None if it is nowhere.

        Raises:
            InputError: the fit was requested, and is missing or damaged.
        """
        folder = Store(self.store).folder(stage)
        if not fit_path(folder, kept.hash).is_file():
            data = kept.path.read_bytes() if kept.path.is_file() else b""
            if fit_hash(data) != kept.hash:
                if self.fits.given:
                    raise InputError(
                        f"{kept.path}: the fit is {'damaged' if data else 'missing'}",
                        fix="copy that version's folder here again, or leave out --fits",
                    )
                return None
            save_fit(folder, data)
        return load_fit(fit_path(folder, kept.hash))


def evidence_of(samples: Replay, fit: Fit) -> tuple[Evidence, Overlap]:
    """Return the evidence of the samples that a fit was applied to, and which of them it was learned from."""
    results = samples.results()
    evidence = Evidence(results.num_rows, results["dropped"].to_pylist().count(True), add_up(results["evidence"]))
    return evidence, Overlap.of(fit, results["input_id"].to_pylist())


def check_fit(
    stage: FittedStage, fit: Fit, evidence: Evidence, overlap: Overlap, most_new: float
) -> tuple[FitCheck, ...]:
    """Return the checks of a kept fit: the share of samples that are new to it, at most `most_new`, and the stage's own."""
    return (
        FitCheck(SHARE_NEW, overlap.share_new, round(most_new, 6)),
        *stage.check(fit, evidence),
    )
