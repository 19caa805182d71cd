"""A curation job from its JSON description to a published version; the same with and without Prefect."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.engine.denylist import Denylist, check_no_interrupted_forget
from curation.engine.engine import Events, Executor, StageReport, run_stages
from curation.engine.intake import Snapshot, read_source
from curation.sources import open_source
from curation.versions.numbering import VersionRequest, dataset_lock, publish_version, up_to_date
from curation.versions.publish import DEFAULT_SHARD_BYTES
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, Manifest, check_name
from flows.execution.run_record import write_run_record
from flows.recipe import Recipe, RecipeInputs, load_recipe

if TYPE_CHECKING:
    from curation.llm.batch_files import ImportReport


@dataclass(frozen=True)
class CurateJob:
    """What a user asks for; JSON values only, so that a scheduler can hold it.

    Attributes:
        recipe: Recipe's name.
        source: ``KIND:PATH``.
        name: Data set's name.
        workspace: Folder of store, snapshots and shards.
        manifests: Folder of manifests.
        model: Model spec for embedding stages; None for the default.
        graph: Knowledge graph's file; None for the seed graph.
        llm: Who rewrites; None for rules.
        masked_model: Fills blanks: hub name or folder; None for no such model.
        llm_slots: Requests under way at once, in each worker.
        llm_batch: Write unanswered requests to this file instead of asking.
        llm_answers: Take answers from this file first.
        against: Evaluation sets whose pictures must not be in the data set, ``KIND:PATH`` each.
        split: Only this split of the source.
        limit: At most so many samples.
        workers: Processes (or Dask workers).
        settings: ``--set`` texts.
        shard_bytes: Wished size of a shard.
        bands: Bands of difficulty that order samples inside a cluster; 0 orders by difficulty itself.
        wait_s: How long to wait for another run on the same name.
    """

    recipe: str
    source: str
    name: str
    workspace: str
    manifests: str
    model: str | None = None
    graph: str | None = None
    llm: str | None = None
    llm_slots: int = 16
    llm_batch: str | None = None
    llm_answers: str | None = None
    against: tuple[str, ...] = ()
    masked_model: str | None = None
    feedback: str | None = None
    split: str | None = None
    limit: int | None = None
    workers: int = 0
    settings: tuple[str, ...] = ()
    shard_bytes: int = DEFAULT_SHARD_BYTES
    bands: int = 0
    wait_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `from_json` reads them back."""
        return dataclasses.asdict(self) | {"settings": list(self.settings), "against": list(self.against)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CurateJob:
        """Read what `to_json` wrote."""
        lists = {name: tuple(values.get(name, ())) for name in ("settings", "against")}
        return cls(**{**values, **lists})

    @property
    def catalog(self) -> Catalog:
        """Where versions lie."""
        return Catalog(Path(self.manifests), Path(self.workspace))

    @property
    def store(self) -> Path:
        """The memo store's folder."""
        return Path(self.workspace) / "store"

    @property
    def journal(self) -> Path:
        """Where a language model's answers are recorded: inputs, not results, so not under `store`."""
        return Path(self.workspace) / "answers.sqlite"

    @property
    def inputs(self) -> RecipeInputs:
        """What the recipe is filled in with."""
        journal = str(self.journal.absolute())
        llm = (self.llm, journal, self.llm_slots, self.llm_batch)
        return RecipeInputs(
            self.model, self.graph, *llm, self.masked_model, self.against, self.workspace, self.feedback
        )

    @property
    def num_workers(self) -> int:
        """Processes to use; 0 means one for each core."""
        return self.workers or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class TrainJob:
    """A training run as a user asks for it; JSON values only.

    Attributes:
        ref: ``NAME@VER``.
        recipe: Recipe's name.
        model: Model spec to start from.
        out: Run folder.
        workspace: Folder of shards and of cached activations.
        manifests: Folder of manifests.
        settings: ``--set`` texts.
        resume: Go on with the run in `out`.
        shards: URL of the folder that holds the version's shards; None for the workspace.
        replay: A plan.parquet whose order is followed; None for the recipe's planner.
    """

    ref: str
    recipe: str
    model: str
    out: str
    workspace: str
    manifests: str
    settings: tuple[str, ...] = ()
    resume: bool = False
    shards: str | None = None
    replay: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A job whose source has been read and whose recipe is known."""

    job: CurateJob
    recipe: Recipe
    snapshot: Snapshot
    request: VersionRequest
    intake_s: float
    answers: ImportReport | None = None


@dataclass
class Outcome:
    """What a job did."""

    manifest: Manifest
    created: bool
    why: str
    reports: list[StageReport] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """``name@X.Y.Z``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints and Prefect keeps."""
        return {
            "version": self.ref,
            "fingerprint": self.manifest.fingerprint,
            "created": self.created,
            "why": self.why,
            "counts": self.manifest.body["counts"],
            "seconds": dict(self.seconds),
            "stages": [_stage_json(report) for report in self.reports],
        }


def _stage_json(report: StageReport) -> dict[str, Any]:
    return {
        "stage": report.stage.name,
        "computed": report.num_computed,
        "reused": report.num_reused,
        "wall_s": round(report.wall_s, 3),
        "peak_memory_bytes": report.peak_memory_bytes,
    }


def prepare(job: CurateJob, progress: Callable[[int], None] | None = None) -> Prepared:
    """Read the source (or its snapshot) and the recipe; nothing is computed.

    Raises:
        InputError: any part of the job is unusable.
    """
    started = time.perf_counter()
    check_name(job.name)
    check_no_interrupted_forget(Path(job.workspace))
    answers = take_answers(job) if job.llm_answers else None
    recipe = load_recipe(job.recipe, job.inputs, job.settings)
    check_bands(job, recipe)
    source = open_source(job.source, job.split)
    snapshot = read_source(
        source,
        Path(job.workspace) / "intake",
        location=f"{Path.cwd()}|{job.source}",
        limit=job.limit,
        progress=progress,
        denylist=Denylist.load(Path(job.manifests)),
    )
    about = {"name": recipe.name, "paper": recipe.paper}
    request = VersionRequest(job.name, about, source.describe() | {"limit": job.limit}, job.shard_bytes, job.bands)
    return Prepared(job, recipe, snapshot, request, time.perf_counter() - started, answers)


def check_bands(job: CurateJob, recipe: Recipe) -> None:
    """Check that bands of difficulty are asked for only where something orders by difficulty.

    Raises:
        InputError: no stage of the recipe provides a difficulty.
    """
    provided = {spec.name for stage in recipe.all_stages() for spec in stage.provides}
    if job.bands and "difficulty" not in provided:
        raise InputError(
            f"--bands {job.bands}: recipe '{recipe.name}' gives samples no difficulty",
            allowed="--bands with a recipe that has the stage order_difficulty, such as negclip",
        )


def take_answers(job: CurateJob) -> ImportReport:
    """Take a file of answers into the workspace's journal.

    Raises:
        InputError: a file cannot be used, or it is not said which questions it answers.
    """
    from curation.llm.batch_files import import_answers

    if not job.llm_batch:
        raise InputError(
            f"--llm-answers {job.llm_answers}: which questions does it answer?",
            fix="give --llm-batch with the file of questions; what is still unanswered is written there",
        )
    job.journal.parent.mkdir(parents=True, exist_ok=True)
    return import_answers(Path(job.llm_answers or ""), Path(job.llm_batch), job.journal)


def existing(prepared: Prepared) -> Outcome | None:
    """Return the version there is, if the job would only build it again."""
    manifest = up_to_date(prepared.job.catalog, prepared.request, prepared.recipe.all_stages(), prepared.snapshot)
    return None if manifest is None else Outcome(manifest, created=False, why="nothing has changed since")


def execute(
    prepared: Prepared, runner: Executor, events: Events | None = None, progress: Callable[[int], None] | None = None
) -> Outcome:
    """Compute what is missing and publish; holds the data set's lock.

    Raises:
        InputError: another run holds the name, or stored results cannot be used.
        OSError: no space; what was finished stays in the store.
    """
    job, started = prepared.job, time.perf_counter()
    with dataset_lock(job.catalog, job.name, job.wait_s):
        if (there := existing(prepared)) is not None:
            return there
        done, reports = run_stages(prepared.recipe.all_stages(), prepared.snapshot, job.store, runner, events)
        staged = time.perf_counter()
        published = publish_version(job.catalog, prepared.request, done, prepared.snapshot, job.store, progress)
        seconds = {
            "intake": round(prepared.intake_s, 3),
            "stages": round(staged - started, 3),
            "publish": round(time.perf_counter() - staged, 3),
        }
        outcome = Outcome(published.manifest, published.created, published.why, reports, seconds)
        write_run_record(job.catalog, published.manifest, {"job": job.to_json(), **outcome.to_json()})
    return outcome


def require_free_space(path: Path, wanted_bytes: int) -> None:
    """Check that a folder's disk has room.

    Raises:
        InputError: it has not.
    """
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    if free < wanted_bytes:
        raise InputError(
            f"{path}: {free / 2**20:.0f} MiB free, about {wanted_bytes / 2**20:.0f} MiB needed",
            fix="free space, or give another --workspace",
        )
