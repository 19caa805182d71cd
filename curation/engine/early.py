"""Early starts: of two stages that load a model for few samples, the later one runs in a worker while the first runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

from curation.engine.replay import Replay, WorkUnit
from curation.engine.stage import MapStage, Stage
from curation.engine.store import Store, span_of

MOST_SAMPLES = 512
"""Samples of a stage that is started early: a partition; with more, all workers have something to do anyway."""

Report = TypeVar("Report")
Report_co = TypeVar("Report_co", covariant=True)


@runtime_checkable
class StartsUnits(Protocol[Report_co]):
    """An executor that can also start a unit in another process and go on."""

    def start(self, unit: WorkUnit) -> Callable[[], Report_co]:
        """Start a unit; return what waits for its report, and raises what it raised."""


@dataclass(frozen=True)
class _Started(Generic[Report]):
    """A unit that runs, and the samples it computes."""

    wait: Callable[[], Report]
    uids: frozenset[str]


class EarlyUnits(Generic[Report]):
    """The units of later stages that were started before their turn.

    Results lie in the store by their input, so it makes no difference when they were computed. A sample that a stage in
    between drops was computed for nothing.

    Args:
        stages: All stages of the run.
        executor: None, or what starts a unit in another process.
        snapshot: Folder of the snapshot.
        store: Folder of the memo store.
    """

    def __init__(
        self, stages: Sequence[Stage], executor: StartsUnits[Report] | None, snapshot: Path, store: Path
    ) -> None:
        self._stages, self._executor, self._snapshot, self._store = tuple(stages), executor, snapshot, store
        self._started: dict[str, _Started[Report]] = {}

    def start(self, current: Stage, samples: Replay) -> None:
        """Start the later stages that load a model, if the current one does and what they read is there.

        Args:
            current: The stage that is about to run here.
            samples: The samples before it.
        """
        if self._executor is None or not current.starts_slowly:
            return
        for stage in self._ready(current):
            lacking, _ = samples.lacking(stage, Store(self._store).folder(stage))
            if 0 < len(lacking) <= MOST_SAMPLES:
                uids = samples.uids_at(lacking)
                unit = WorkUnit(stage, tuple(samples.finished), self._snapshot, self._store, span_of(uids))
                self._started[stage.name] = _Started(self._executor.start(unit), frozenset(uids))

    def _ready(self, current: Stage) -> Iterator[MapStage]:
        """Yield later stages that start slowly and read no field of a stage that has not run."""
        later = self._stages[self._stages.index(current) :]
        missing = {field.name for stage in later for field in stage.provides}
        for stage in later[1:]:
            if isinstance(stage, MapStage) and stage.starts_slowly and not missing & {*stage.required_fields()}:
                yield stage

    def finish(self, stage: Stage, samples: Replay) -> tuple[Report, int] | None:
        """Wait for a stage whose turn it is; return its report and how many of its samples are still there, or None.

        Args:
            stage: The stage.
            samples: The samples before it.
        """
        started = self._started.pop(stage.name, None)
        if started is None:
            return None
        return started.wait(), len(started.uids.intersection(samples.uids))
