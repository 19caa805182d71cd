"""Jobs as JSON values, and the one way to run them: `run_job`, for commands, comparisons, the demo and Prefect flows."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from curation.engine.caption_edits import edited, read_edits
from curation.engine.denylist import Denylist, check_no_interrupted_forget
from curation.engine.engine import Events, Executor, StageReport, UnitReport, samples_after
from curation.engine.fits import FitPolicy, FitRecord
from curation.engine.intake import Snapshot, read_source
from curation.engine.stage import FittedStage, Stage
from curation.engine.stage_code import changed_code, keep_code
from curation.engine.store import ALL_SAMPLES, Store
from curation.sources import open_source, source_origin
from curation.sources.reading.files import base_name
from curation.versions.numbering import VersionRequest, dataset_lock, fit_policy, publish_version, up_to_date
from curation.versions.publish import DEFAULT_SHARD_BYTES
from data_manifests.caption_negatives import CaptionNegatives
from data_manifests.disk_space import free_bytes
from data_manifests.errors import InputError, nearest
from data_manifests.manifest import Catalog, Manifest, check_name
from data_manifests.outputs import record_output
from flows.execution.curation_warnings import curation_warnings
from flows.execution.disk import require_writable
from flows.execution.executors import local_executor, map_beside, process_map
from flows.execution.run_record import write_run_record
from flows.recipe import Recipe, RecipeInputs, load_recipe
from flows.recipe_finding import find_recipe
from flows.recipe_language import language_notes
from training.model.spec import ModelSpec

if TYPE_CHECKING:
    from curation.llm.batch_files import ImportReport
    from training.checkpoint import RunResult

T = TypeVar("T")

_MAX_CAPTIONS_READ = 1_000
"""Captions that tell the language."""


@dataclass(frozen=True, kw_only=True)
class CurateJob(RecipeInputs):
    """A curation as the command line describes it; JSON values only, so that a scheduler can store it.

    Attributes:
        recipe: Recipe's name, or ``FILE.py[:NAME]``.
        source: ``KIND:PATH``.
        name: Data set's name.
        manifests: Folder of manifests.
        llm_answers: File of answers to import first.
        split: Only this split of the source.
        limit: At most so many samples.
        workers: Processes (or Dask workers); 0 means one for each core.
        settings: ``--set`` texts.
        shard_bytes: Target size of a shard.
        bands: Difficulty bands that order samples inside a cluster; 0 orders them by uid alone.
        fits: ``NAME@VER`` whose fits are used without checks; None keeps those of the newest version while they hold.
        refit: Stages that fit anew; ``all`` means all of them.
        wait_s: How long to wait for another run on the same name.
        edits: File of corrections that are laid over the source.
        yes: Publish although the newest version was made with another limit or split.
        fresh: Stages whose stored results are removed first, and computed again; ``all`` means all of them.
    """

    recipe: str
    source: str
    name: str
    manifests: str
    llm_answers: str | None = None
    split: str | None = None
    limit: int | None = None
    workers: int = 0
    settings: tuple[str, ...] = ()
    shard_bytes: int = DEFAULT_SHARD_BYTES
    bands: int = 0
    fits: str | None = None
    refit: tuple[str, ...] = ()
    wait_s: float = 0.0
    edits: str | None = None
    yes: bool = False
    fresh: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for the record of the run."""
        return dataclasses.asdict(self)

    @property
    def catalog(self) -> Catalog:
        """Its workspace and manifests."""
        return Catalog(Path(self.manifests), Path(self.workspace))

    @property
    def store(self) -> Path:
        """The memo store's folder."""
        return Path(self.workspace) / "store"

    @property
    def num_workers(self) -> int:
        """Processes to use; 0 means one for each core."""
        return self.workers or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class TrainJob:
    """A training run as the command line describes it; JSON values only.

    Attributes:
        ref: ``NAME@VER``.
        recipe: Recipe's name, or ``FILE.py[:NAME]``.
        model: Model spec to start from.
        out: Run folder.
        workspace: Folder of shards and of cached activations.
        manifests: Folder of manifests.
        settings: ``--set`` texts.
        resume: Continue the run in `out`.
        shards: URL of the folder that holds the version's shards; None for the workspace.
        replay: A plan.parquet whose batch order is used; None for the recipe's planner.
        epochs: Times that all samples are trained on, instead of the recipe's steps; None keeps these.
        fit_batch: Take a smaller batch where the data set has less than one, and none was asked for.
        log_to: Function that is told of each step, ``MODULE:FUNCTION``.
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
    epochs: int | None = None
    fit_batch: bool = False
    log_to: str | None = None


def train_settings(settings: Sequence[str], epochs: int | None = None, **numbers: object) -> tuple[str, ...]:
    """Return ``--set`` texts with those of options that have a name of their own, such as ``--steps``; None leaves one out.

    Raises:
        InputError: one number is given twice; ``--epochs`` and ``--steps`` are one.
    """
    given = {name: value for name, value in numbers.items() if value is not None}
    said = {f"train.{name}": f"--{name.replace('_', '-')} {value}" for name, value in given.items()}
    if epochs is not None:
        if "steps" in given:
            raise InputError(f"--epochs {epochs} and --steps {given['steps']}", allowed="one of the two")
        said["train.steps"] = f"--epochs {epochs}"
    for text in settings:
        if (option := said.get(text.partition("=")[0])) is not None:
            raise InputError(f"{option} and --set {text}: both set one number", allowed="one of the two")
    return (*settings, *(f"train.{name}={value}" for name, value in given.items()))


@dataclass(frozen=True)
class JobEvents:
    """What a caller can show of a running job; nothing by default.

    Attributes:
        on_read: Called with the number of records read from the source so far.
        on_written: Called with the number of samples written to shards so far.
        on_notes: Called with sentences about how the source was read, and about space.
        on_answers: Called once with what the file of ``llm_answers`` contained.
        stages: Called for each stage and unit.
    """

    on_read: Callable[[int], None] = lambda _number: None
    on_written: Callable[[int], None] = lambda _number: None
    on_answers: Callable[[ImportReport], None] = lambda _report: None
    on_notes: Callable[[Sequence[str]], None] = lambda _notes: None
    stages: Events = field(default_factory=Events)


JobExecutor = Callable[[Any, Callable[..., Any]], Any]
"""``executor(job, work)`` calls `work` once with a runner of the engine's units and returns its result.

`work` takes `Events` as well, where the executor shows progress besides the caller. The executor decides where that happens: in this process and its worker processes, or in a Prefect flow run. Training has no units.
"""


def execute_locally(job: CurateJob | TrainJob, work: Callable[[Executor], T]) -> T:
    """Run a job in this process, the units of a curation in a pool of worker processes where it wants several."""
    with local_executor(job.num_workers if isinstance(job, CurateJob) else 1) as runner:
        return work(runner)


@dataclass(frozen=True)
class PreparedCuration:
    """A job whose source has been read and whose recipe is loaded."""

    job: CurateJob
    recipe: Recipe
    snapshot: Snapshot
    request: VersionRequest
    fits: FitPolicy
    intake_s: float


@dataclass
class CurationResult:
    """The version that a curation made or found up to date."""

    manifest: Manifest
    created: bool
    why: str
    reports: list[StageReport] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """``name@X.Y.Z``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @property
    def warnings(self) -> list[str]:
        """What to know before the version is trained on; often empty."""
        return curation_warnings(self.manifest)

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        found = CaptionNegatives.of(self.manifest.body["statistics"])
        return {
            "version": self.ref,
            "fingerprint": self.manifest.fingerprint,
            "created": self.created,
            "why": self.why,
            "counts": self.manifest.body["counts"],
            **({} if found is None else {"negatives_per_caption": found.to_json()}),
            "warnings": self.warnings,
            "seconds": dict(self.seconds),
            "stages": [
                {
                    "stage": report.stage.name,
                    "computed": report.num_computed,
                    "reused": report.num_reused,
                    "wall_s": round(report.wall_s, 3),
                    "peak_memory_bytes": report.peak_memory_bytes,
                }
                | ({"fit": _fit_json(report.fit)} if report.fit else {})
                for report in self.reports
            ],
        }


def _fit_json(fit: FitRecord) -> dict[str, Any]:
    """Return what `--json` prints of a fit; ``kept_from`` is empty for one that this run learned."""
    checks = [check.to_json() for check in fit.checks]
    return {"hash": fit.hash, "samples": fit.num_samples, "kept_from": fit.learned_on, "checks": checks, "why": fit.why}


@overload
def run_job(job: CurateJob, executor: JobExecutor = ..., events: JobEvents = ...) -> CurationResult: ...
@overload
def run_job(job: TrainJob, executor: JobExecutor = ..., events: JobEvents = ...) -> RunResult: ...
def run_job(
    job: CurateJob | TrainJob, executor: JobExecutor = execute_locally, events: JobEvents = JobEvents()
) -> CurationResult | RunResult:
    """Train, or bring a data set up to date: read its source, compute what the store lacks, publish the version.

    Args:
        job: The job.
        executor: Where the work runs; not called for a data set that is up to date.
        events: Callbacks for progress.

    Raises:
        InputError: the job is unusable, another run holds the name, or stored results cannot be used.
        OSError: no space; finished batches stay in the store.
    """
    if isinstance(job, TrainJob):
        trained: RunResult = executor(job, lambda _runner: _train(job, events))
        return trained
    prepared = prepare(job, events)
    with dataset_lock(job.catalog, job.name, job.wait_s):
        keep_code(job.store.absolute(), prepared.recipe.all_stages())
        if not job.fresh and (unchanged := existing(prepared)) is not None:
            return unchanged
        if (change := selection_change(prepared)) is not None and not job.yes:
            raise change
        require_writable("--manifests", job.catalog.manifests)
        events.on_notes(_space_notes(job, prepared.snapshot.num_image_bytes()))

        def work(runner: Executor, also: Events | None = None) -> CurationResult:
            watched = events if also is None else dataclasses.replace(events, stages=both(events.stages, also))
            return _compute_and_publish(prepared, runner, watched)

        made: CurationResult = executor(job, work)
        return made


def both(one: Events, other: Events) -> Events:
    """Return events that call two."""

    def started(stage: Stage, num_units: int) -> None:
        one.stage_started(stage, num_units)
        other.stage_started(stage, num_units)

    def done(stage: Stage, report: UnitReport) -> None:
        one.unit_done(stage, report)
        other.unit_done(stage, report)

    return Events(started, done)


def _space_notes(job: CurateJob, image_bytes: int) -> list[str]:
    """Return a sentence if a version with all images would not fit; what it needs is known when its shards are written."""
    if (free := free_bytes(job.catalog.workspace)) >= image_bytes:
        return []
    note = (
        f"{job.catalog.workspace} has {free / 2**20:.0f} MiB free and the images {image_bytes / 2**20:.0f} MiB: the version fits "
        "only if most of its shards are those of the version before, or the recipe drops many images"
    )
    return [note]


def prepare(job: CurateJob, events: JobEvents = JobEvents()) -> PreparedCuration:
    """Import answers, load the recipe and read the source (or its snapshot); nothing is computed.

    Raises:
        InputError: any part of the job is unusable.
    """
    started = time.perf_counter()
    check_name(job.name)
    check_no_interrupted_forget(job.catalog.workspace)
    if job.llm_answers:
        events.on_answers(_import_answers(job, job.llm_answers))
    recipe = load_recipe(job.recipe, job, job.settings)
    _check_bands(job, recipe)
    _check_writer(job, recipe)
    fetched: list[str] = []
    source = open_source(job.source, job.split, job.catalog.workspace, fetched.append)
    origin = source_origin(source)
    edits = read_edits(Path(job.edits)) if job.edits else []
    if not job.catalog.workspace.is_dir():
        require_writable("--workspace", job.catalog.workspace)
    denylist = Denylist.load(job.catalog.manifests)
    with process_map(job.num_workers) as processes:
        snapshot = read_source(
            source,
            job.catalog.workspace / "intake",
            location="|".join([str(Path.cwd()), job.source, *origin.values()]),  # other code may read something else
            limit=job.limit,
            progress=events.on_read,
            denylist=denylist,
            processes=processes,
        )
    about = source.describe() | {"limit": job.limit}
    if job.edits:
        snapshot = edited(snapshot, edits, job.catalog.workspace / "intake", denylist)
        about["edits"] = f"{base_name(job.edits)} ({len(edits)} lines)"
    for path in filter(None, (job.llm_batch, job.llm_answers)):
        record_output(job.catalog.workspace, Path(path), "curate --llm-batch")
    changed = changed_code(job.store.absolute(), _kept_stages(job, recipe))
    events.on_notes([*fetched, *snapshot.notes, *_language_notes(recipe, snapshot), *changed])
    fits, fits_from = _choose_fits(job, recipe)
    request = VersionRequest(
        job.name,
        {"name": recipe.name, "paper": recipe.paper, **_language_record(recipe)},
        about,
        job.shard_bytes,
        job.bands,
        fits_from,
        fits.refit,
        {"recipe": find_recipe(job.recipe).origin, "source": origin},
        bool(job.fresh),
    )
    return PreparedCuration(job, recipe, snapshot, request, fits, time.perf_counter() - started)


def _language_record(recipe: Recipe) -> dict[str, Any]:
    """Return what the manifest says of a recipe's language; nothing for English."""
    if recipe.language.is_english:
        return {}
    return {"language": recipe.language.describe(), "left_out": list(recipe.left_out)}


def _language_notes(recipe: Recipe, snapshot: Snapshot) -> list[str]:
    """Return what a run says about the language of its captions."""
    batch = next(snapshot.batches(ALL_SAMPLES), None)
    captions = [] if batch is None else [text for row in batch["captions"].to_pylist() for text in row]
    return language_notes(recipe.stages, recipe.language, recipe.left_out, captions[:_MAX_CAPTIONS_READ])


def _choose_fits(job: CurateJob, recipe: Recipe) -> tuple[FitPolicy, str]:
    """Return which earlier fits the job keeps, and the requested version with the fingerprint of its manifest, or "".

    Raises:
        InputError: the requested version is unknown, or a stage to refit is not in the recipe.
    """
    fitted = [stage.name for stage in recipe.all_stages() if isinstance(stage, FittedStage)]
    for name in job.refit:
        if name not in (*fitted, "all"):
            raise InputError(
                f"--refit {name}: recipe '{recipe.name}' has no fitted stage of this name",
                allowed=", ".join((*fitted, "all")) if fitted else "nothing: the recipe has no fitted stages",
                fix=nearest(name, (*fitted, "all")),
            )
    refit = frozenset("*" if name == "all" else name for name in (*job.refit, *job.fresh))
    if job.fits:
        manifest = job.catalog.open(job.fits).manifest
        ref = f"{manifest.name}@{manifest.version}"
        return fit_policy(job.catalog, manifest, refit, given=True), f"{ref} {manifest.fingerprint}"
    latest = job.catalog.latest(job.name)
    return fit_policy(job.catalog, latest, refit) if latest else FitPolicy(refit=refit), ""


def _kept_stages(job: CurateJob, recipe: Recipe) -> list[Stage]:
    """Return the stages whose stored results are used: all that ``--fresh`` does not name.

    Raises:
        InputError: it names a stage that is not in the recipe.
    """
    stages = recipe.all_stages()
    names = [*(stage.name for stage in stages), "all"]
    if unknown := [name for name in job.fresh if name not in names]:
        raise InputError(
            f"--fresh {unknown[0]}: recipe '{recipe.name}' has no stage of this name",
            allowed=", ".join(names),
            fix=nearest(unknown[0], names),
        )
    return [] if "all" in job.fresh else [stage for stage in stages if stage.name not in job.fresh]


def _check_writer(job: CurateJob, recipe: Recipe) -> None:
    """Check that a recipe that cannot do without a language model has one.

    Raises:
        InputError: it has none.
    """
    if recipe.needs_llm and (job.llm or "rules") == "rules":
        raise InputError(
            f"recipe {recipe.name} needs a language model, and there is none",
            allowed="--llm http://HOST:PORT/v1#MODEL or vllm:MODEL",
            fix="start one (clipcurate llm serve) and name it, or take a recipe whose texts are made by rules, such as laclip",
        )


def _check_bands(job: CurateJob, recipe: Recipe) -> None:
    """Check that ``--bands`` comes with a recipe that orders samples by difficulty."""
    provided = {spec.name for stage in recipe.all_stages() for spec in stage.provides}
    if job.bands and "difficulty" not in provided:
        raise InputError(
            f"--bands {job.bands}: recipe '{recipe.name}' computes no difficulty",
            allowed="--bands with a recipe that has the stage order_difficulty, such as negclip",
        )


def _import_answers(job: CurateJob, answers: str) -> ImportReport:
    """Import a file of answers into the workspace's journal."""
    from curation.llm.batch_files import import_answers

    if not job.llm_batch:
        raise InputError(
            f"--llm-answers {answers}: which requests does it answer?",
            fix="give --llm-batch with the file of requests; those still unanswered are written there",
        )
    job.journal.parent.mkdir(parents=True, exist_ok=True)
    return import_answers(Path(answers), Path(job.llm_batch), job.journal)


def selection_change(prepared: PreparedCuration) -> InputError | None:
    """Return what to say where the newest version of this name was made with another limit or split."""
    job, about = prepared.job, prepared.request.source
    if (latest := job.catalog.latest(job.name)) is None:
        return None
    before = latest.body["source"]
    changed = [name for name in ("limit", "split") if before.get(name) != about.get(name)]
    if not changed:
        return None

    def said(source: Mapping[str, Any]) -> str:
        given = (f"no --{name}" if source.get(name) is None else f"--{name} {source[name]}" for name in changed)
        return " and ".join(given)

    return InputError(
        f"data set '{job.name}': {latest.name}@{latest.version} was made with {said(before)}, now it is {said(about)}",
        allowed="one --limit and one --split for all versions of a name: another would add or drop samples unnoticed",
        fix=f"{said(before)} as before, another --name, or --yes to publish it",
    )


def existing(prepared: PreparedCuration) -> CurationResult | None:
    """Return the newest version if the job would only build it again."""
    manifest = up_to_date(prepared.job.catalog, prepared.request, prepared.recipe.all_stages(), prepared.snapshot)
    return None if manifest is None else CurationResult(manifest, created=False, why="nothing has changed since")


def _compute_and_publish(prepared: PreparedCuration, runner: Executor, events: JobEvents) -> CurationResult:
    """Compute what the store lacks and publish a version; the caller holds the data set's lock."""
    job, started = prepared.job, time.perf_counter()
    stages, snapshot = prepared.recipe.all_stages(), prepared.snapshot
    kept = _kept_stages(job, prepared.recipe)
    if fresh := [stage for stage in stages if stage not in kept]:
        for stage in fresh:
            Store(job.store).remove(stage)
        keep_code(job.store.absolute(), fresh)
    samples, reports = samples_after(stages, snapshot, job.store, runner, events.stages, prepared.fits)
    staged = time.perf_counter()
    with map_beside(runner, job.num_workers) as processes:
        published = publish_version(
            job.catalog, prepared.request, samples.finished, snapshot, job.store, events.on_written, samples, processes
        )
    seconds = {
        "intake": round(prepared.intake_s, 3),
        "stages": round(staged - started, 3),
        "publish": round(time.perf_counter() - staged, 3),
    }
    result = CurationResult(published.manifest, published.created, published.why, reports, seconds)
    write_run_record(job.catalog, published.manifest, {"job": job.to_json(), **result.to_json()})
    return result


def _train(job: TrainJob, events: JobEvents) -> RunResult:
    """Train in this process."""
    from flows.execution.train_sizes import fit_sizes
    from training.batches.remote_shards import open_remote
    from training.log_hook import LogHook
    from training.train import train

    catalog = Catalog(Path(job.manifests), Path(job.workspace))
    dataset = open_remote(catalog, job.ref, job.shards) if job.shards else catalog.open(job.ref)
    recipe = load_recipe(job.recipe, settings=job.settings)
    log_to = LogHook(job.log_to) if job.log_to and not int(os.environ.get("RANK", "0")) else None
    asked = job.replay is not None or any(text.startswith("train.batch_size=") for text in job.settings)
    config, notes = fit_sizes(dataset, recipe.train, fit_batch=job.fit_batch and not asked, epochs=job.epochs)
    events.on_notes(notes)
    record_output(catalog.workspace, Path(job.out), "train")
    return train(
        dataset,
        recipe.train_parts(),
        ModelSpec.parse(job.model),
        config,
        Path(job.out),
        resume=job.resume,
        cache=catalog.workspace / "activations",
        replay=Path(job.replay) if job.replay else None,
        log_to=log_to,
    )
