"""Compare recipes under one budget: curate, train, evaluate, weigh; every finished cell is kept and found again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from data_manifests.errors import InputError
from flows.comparison.cells import Cell, Finished, finish, has_weights, hash_of, missing, moved, place_cell
from flows.comparison.job import CompareJob
from flows.comparison.output import COMPARISON_FILE, conclude, samples_of, title_of
from flows.comparison.statistics import blind_numbers
from flows.comparison.table import screen_table
from flows.comparison.variants import PRETRAINED, Variant
from flows.execution.jobs import CurateJob, TrainJob, run_job
from flows.recipe import load_recipe, recipe_arguments
from flows.terminal.console import err, out, print_json
from flows.terminal.curation import job_progress
from training.model.spec import ModelSpec

if TYPE_CHECKING:
    from data_manifests.manifest import DatasetVersion


def run_compare(job: CompareJob, *, as_json: bool) -> bool:
    """Run a comparison to its end, or from where it was killed; return whether every cell could be run.

    Raises:
        InputError: a recipe, setting, source, benchmark or model cannot be used.
    """
    check_rows(job)
    base = base_cell(job)
    finished = [finish(base, job.benchmarks)]
    if finished[0].fault:
        raise InputError(finished[0].fault)
    versions = versions_of(job)
    rounds = rounds_of(job, versions)
    every = [cell for cells in rounds for cell in cells]
    due = {cell.folder for cell in every if not has_weights(cell) or missing(cell, job.benchmarks)}
    err.print(f"{len(due)} of {len(every)} cells to run, on {len(job.benchmarks.on)} benchmark(s)")
    progress = Progress(len(due))
    for number, cells in enumerate(rounds, start=1):
        fresh = due.intersection(cell.folder for cell in cells)
        for cell in cells:
            began = time.perf_counter()
            finished.append(finish(cell, job.benchmarks))
            if cell.folder in due:
                due.discard(cell.folder)
                progress.tell(finished[-1], time.perf_counter() - began)
        if not fresh and number < len(rounds):
            continue
        rows = conclude(job, finished, versions)
        if not as_json:
            out.print(screen_table(title_of(job), rows, samples_of(versions), blind_numbers(finished)))
    if as_json:
        print_json(orjson.loads((job.out / COMPARISON_FILE).read_bytes()))
    return not any(cell.fault for cell in finished)


class Progress:
    """Says after each cell what it took, and about how long the others will.

    Args:
        num_cells: To be run in all.
    """

    def __init__(self, num_cells: int) -> None:
        self._num, self._done, self._seconds = num_cells, 0, 0.0

    def tell(self, cell: Finished, seconds: float) -> None:
        """Print a line on one cell."""
        self._done += 1
        self._seconds += seconds
        left = self._seconds / self._done * (self._num - self._done) / 60
        what = cell.fault.splitlines()[0] if cell.fault else f"{seconds:.0f} s"
        err.print(
            f"[{self._done}/{self._num}] {cell.cell.label}: {what}; about {left:.0f} min left",
            markup=False, soft_wrap=True,
        )  # fmt: skip


def check_rows(job: CompareJob) -> None:
    """Check every row before anything runs: recipes load, settings exist, options reach somebody.

    Raises:
        InputError: one does not.
    """
    for row in job.rows:
        curated = job.curated(row)
        try:
            load_recipe(row.recipe, curated, curated.settings)
            load_recipe(row.recipe, settings=job.trained(row, job.seeds[0])).train_parts()
        except InputError as error:
            raise InputError(f"row '{row.name}': {error.got}", allowed=error.allowed, fix=error.fix) from None
    if job.name is not None and (needless := [row.name for row in job.rows if job.curated(row).settings]):
        raise InputError(
            f"row '{needless[0]}' sets a stage, but --name {job.name} is curated already",
            fix="give --source, so that each recipe is curated",
        )
    if job.name is not None:
        job.catalog.open(job.name)
    asked = {name for row in job.rows for name in recipe_arguments(row.recipe)}
    options = {"feedback": "--feedback", "against": "--against", "graph": "--graph", "masked": "--masked-model"}
    given = {"feedback": job.curation.feedback, "against": job.curation.against, "graph": job.curation.graph}
    given |= {"masked": job.curation.masked_model}
    for name, value in given.items():
        if value and name not in asked:
            raise InputError(f"{options[name]}: none of these recipes asks for it", fix="leave it out")


def versions_of(job: CompareJob) -> dict[str, DatasetVersion]:
    """Return the version that each row trains on, curated if need be; equal ones are curated once.

    Raises:
        InputError: one cannot be made or opened.
    """
    if job.name is not None:
        version = job.catalog.open(job.name)
        return {row.name: version for row in job.rows}
    made: dict[str, DatasetVersion] = {}
    found: dict[str, DatasetVersion] = {}
    for row in job.rows:
        curated = job.curated(row)
        try:
            if curated.name not in made:
                made[curated.name] = job.catalog.open(curate(curated))
        except InputError as error:
            raise InputError(f"curating '{row.name}': {error.got}", allowed=error.allowed, fix=error.fix) from None
        found[row.name] = made[curated.name]
    return found


def curate(job: CurateJob) -> str:
    """Bring one recipe's version up to date and return its reference."""
    started = time.perf_counter()
    with job_progress() as events:
        result = run_job(job, events=events)
    counts = result.manifest.body["counts"]
    err.print(
        f"{result.ref}: {counts['samples']:,} samples, {counts['negatives']:,} negatives, {counts['views']:,} views "
        f"({'made' if result.created else 'unchanged'}, {time.perf_counter() - started:.0f} s)",
        soft_wrap=True,
    )
    return result.ref


def rounds_of(job: CompareJob, versions: Mapping[str, DatasetVersion]) -> list[list[Cell]]:
    """Return the cells of each seed, so that a table of all rows is there early; equal cells share a folder."""
    placed: dict[str, Path] = {}
    rounds = []
    for seed in job.seeds:
        cells = []
        for row in job.rows:
            if row.name in versions:
                cell = cell_of(job, row, versions[row.name], seed)
                cells.append(moved(cell, placed.setdefault(hash_of(cell.identity), cell.folder)))
        rounds.append(cells)
    return rounds


def base_cell(job: CompareJob) -> Cell:
    """Return the pretrained model as a cell."""
    identity = {"model": ModelSpec.parse(job.model).content_hash()}
    return Cell(PRETRAINED, None, identity, place_cell(job.out / "cells", PRETRAINED, None, identity), None, job.model)


def cell_of(job: CompareJob, row: Variant, version: DatasetVersion, seed: int) -> Cell:
    """Return one row with one seed; what does not change its weights is no part of its identity."""
    from training.checkpoint import FREE
    from training.gradient_cache import on_device

    settings = job.trained(row, seed)
    recipe = load_recipe(row.recipe, settings=settings)
    config = on_device(recipe.train).to_json()
    identity = {
        "manifest": version.manifest.fingerprint,
        "model": ModelSpec.parse(job.model).content_hash(),
        "recipe": recipe.train_parts().to_json(),
        "config": {name: value for name, value in config.items() if f"config.{name}" not in FREE},
    }
    folder = place_cell(job.out / "cells", row.name, seed, identity)
    run = str(folder / "run")
    train = TrainJob(version.ref, row.recipe, job.model, run, job.curation.workspace, job.curation.manifests, settings)
    return Cell(row.name, seed, identity, folder, train, run)
