"""Compare recipes under one budget: curate, train, evaluate, test; every finished cell is kept and found again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from data_manifests.errors import InputError
from data_manifests.image_decoder import DECODER_VERSION
from flows.comparison.cells import (
    Cell,
    FinishedCell,
    find_cell_folder,
    hash_of,
    is_trained,
    missing_evaluations,
    run_cell,
)
from flows.comparison.job import CompareJob
from flows.comparison.output import COMPARISON_FILE, count_train_samples, table_title, write_comparison
from flows.comparison.shares import describe_rule
from flows.comparison.table import describe_dominance, terminal_table
from flows.comparison.variants import PRETRAINED, Variant
from flows.execution.jobs import CurateJob, CurationResult, TrainJob, run_job
from flows.recipe import load_recipe
from flows.recipe_finding import find_recipe
from flows.terminal.console import err, out, print_json
from flows.terminal.curation import job_progress
from training.model.spec import ModelSpec

if TYPE_CHECKING:
    from data_manifests.manifest import DatasetVersion


CellEvent = Callable[[int, int, str], None]
"""Told after each cell that had to be run: cells done, cells to run, and what came of it."""


def run_compare(
    job: CompareJob, *, as_json: bool = False, silent: bool = False, on_cell: CellEvent | None = None
) -> bool:
    """Run a comparison, or resume a killed one; return whether every cell could be run.

    Args:
        job: The comparison.
        as_json: Print comparison.json at the end instead of a table after each seed.
        silent: Print neither; the files are written all the same.
        on_cell: What is told of each cell.

    Raises:
        InputError: a recipe, setting, source, benchmark or model cannot be used.
    """
    from training.evaluate.encoding_cache import shared_encodings

    check_rows(job)
    with shared_encodings(job.catalog.workspace):
        return _run_cells(job, on_cell, as_json=as_json, silent=silent)


def _run_cells(job: CompareJob, on_cell: CellEvent | None, *, as_json: bool, silent: bool) -> bool:
    base = pretrained_cell(job)
    finished = [run_cell(base, job.benchmarks)]
    if finished[0].fault:
        raise InputError(finished[0].fault)
    versions = find_versions(job, curate)
    seeds = cells_by_seed(job, versions)
    every = [cell for cells in seeds for cell in cells]
    missing = {cell.folder: missing_evaluations(cell, job.benchmarks) for cell in every}
    due = {cell.folder for cell in every if not is_trained(cell) or missing[cell.folder]}
    err.print(
        f"{len(due)} of {len(every)} cells to run, {sum(map(len, missing.values()))} evaluations "
        f"({len(every[0].shares)} shares, {len(job.benchmarks.every)} benchmark(s))",
        soft_wrap=True,
    )
    remaining = RemainingTime(len(due), on_cell)
    for number, cells in enumerate(seeds, start=1):
        fresh = due.intersection(cell.folder for cell in cells)
        for cell in cells:
            began = time.perf_counter()
            finished.append(run_cell(cell, job.benchmarks))
            if cell.folder in due:
                due.discard(cell.folder)
                remaining.print_cell(finished[-1], time.perf_counter() - began)
        if not fresh and number < len(seeds):
            continue
        comparison = write_comparison(job, finished, versions)
        if not as_json and not silent:
            out.print(terminal_table(table_title(job), comparison, count_train_samples(versions)))
            for line in (describe_rule(job.points), *describe_dominance(comparison)):
                out.print(line, markup=False, highlight=False, soft_wrap=True)
    if as_json and not silent:
        print_json(orjson.loads((job.out / COMPARISON_FILE).read_bytes()))
    return not any(cell.fault for cell in finished)


class RemainingTime:
    """Prints after each cell how long it took, and an estimate for the others.

    Args:
        num_cells: Cells to run.
        on_cell: What else is told of each.
    """

    def __init__(self, num_cells: int, on_cell: CellEvent | None = None) -> None:
        self._num, self._done, self._seconds, self._on_cell = num_cells, 0, 0.0, on_cell

    def print_cell(self, cell: FinishedCell, seconds: float) -> None:
        """Print a line about one cell."""
        self._done += 1
        self._seconds += seconds
        left = self._seconds / self._done * (self._num - self._done) / 60
        what = cell.fault.splitlines()[0] if cell.fault else f"{seconds:.0f} s"
        err.print(
            f"[{self._done}/{self._num}] {cell.cell.label}: {what}; about {left:.0f} min left",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        if self._on_cell:
            self._on_cell(self._done, self._num, f"{cell.cell.label}: {what}")


def _check_that_rows_need_no_curation(job: CompareJob, name: str) -> None:
    for row in job.rows:
        asked = "sets a stage" if job.curate_job(row).settings else f"asks for data of {row.data}" if row.data else None
        if asked:
            raise InputError(
                f"row '{row.name}' {asked}, but --name {name} is curated already",
                fix="give --source, so that each recipe is curated",
            )


def check_rows(job: CompareJob) -> None:
    """Check every row before anything runs: recipes load, settings exist, options are used by some recipe.

    Raises:
        InputError: a row or an option cannot be used.
    """
    ends: list[float] = []
    for row in job.rows:
        curated = job.curate_job(row)
        try:
            load_recipe(row.curated_by, curated, curated.settings)
            recipe = load_recipe(row.recipe, settings=job.train_settings(row, job.seeds[0]))
            recipe.train_parts()
            ends.append(recipe.train.wise_ft)
        except InputError as error:
            raise InputError(f"row '{row.name}': {error.got}", allowed=error.allowed, fix=error.fix) from None
    for row, end in zip(job.rows, ends, strict=True):
        if end != ends[0]:
            raise InputError(
                f"row '{row.name}' ends at train.wise_ft={end:g}, row '{job.rows[0].name}' at {ends[0]:g}",
                allowed="one value for all rows: a row of its own share is not comparable",
                fix="leave train.wise_ft out; every row is evaluated at all shares, and reported by one rule",
            )
    if job.name is not None:
        _check_that_rows_need_no_curation(job, job.name)
        job.catalog.open(job.name)
    used = {
        name for row in job.rows for recipe in (row.recipe, row.curated_by) for name in find_recipe(recipe).arguments
    }
    options = {
        "feedback": "--feedback",
        "vocabulary": "--vocabulary",
        "against": "--against",
        "graph": "--graph",
        "masked_model": "--masked-model",
    }
    for name, option in options.items():
        if getattr(job.curation, name) and name.removesuffix("_model") not in used:
            raise InputError(f"{option}: none of these recipes uses it", fix="leave it out")


def find_versions(job: CompareJob, find: Callable[[CurateJob], CurationResult | None]) -> dict[str, DatasetVersion]:
    """Return the version that each row trains on; rows that `find` returns None for are left out.

    Args:
        job: The comparison.
        find: Makes a version or looks it up; called once for rows with equal versions.

    Raises:
        InputError: one cannot be made or opened.
    """
    if job.name is not None:
        return dict.fromkeys((row.name for row in job.rows), job.catalog.open(job.name))
    results: dict[str, CurationResult | None] = {}
    found: dict[str, DatasetVersion] = {}
    for row in job.rows:
        curated = job.curate_job(row)
        try:
            if curated.name not in results:
                results[curated.name] = find(curated)
            if (result := results[curated.name]) is not None:
                found[row.name] = job.catalog.open(result.ref)
        except InputError as error:
            raise InputError(f"curating '{row.name}': {error.got}", allowed=error.allowed, fix=error.fix) from None
    return found


def curate(job: CurateJob) -> CurationResult:
    """Bring one recipe's version up to date."""
    started = time.perf_counter()
    with job_progress() as events:
        result = run_job(job, events=events)
    counts = result.manifest.body["counts"]
    err.print(
        f"{result.ref}: {counts['samples']:,} samples, {counts['negatives']:,} negatives, {counts['views']:,} views "
        f"({'made' if result.created else 'unchanged'}, {time.perf_counter() - started:.0f} s)",
        soft_wrap=True,
    )
    return result


def cells_by_seed(job: CompareJob, versions: Mapping[str, DatasetVersion]) -> list[list[Cell]]:
    """Return the cells seed by seed, so that a table of all rows is complete early; equal cells share a folder."""
    folders: dict[str, Path] = {}
    rows = [(row, versions[row.name]) for row in job.rows if row.name in versions]
    return [[make_cell(job, row, version, seed, folders) for row, version in rows] for seed in job.seeds]


def pretrained_cell(job: CompareJob) -> Cell:
    """Return the pretrained model as a cell."""
    identity = {"model": ModelSpec.parse(job.model).content_hash()}
    folder = find_cell_folder(job.out / "cells", PRETRAINED, None, identity)
    return Cell(PRETRAINED, None, identity, folder, None, job.model, job.model)


def make_cell(job: CompareJob, row: Variant, version: DatasetVersion, seed: int, folders: dict[str, Path]) -> Cell:
    """Return one row with one seed; its identity leaves out what does not change its weights.

    Args:
        job: The comparison.
        row: The row.
        version: What it trains on.
        seed: Its seed.
        folders: Folders of earlier cells by the hash of their identity; this cell's is added.
    """
    from training.checkpoint import FREE
    from training.device import on_device

    settings = job.train_settings(row, seed)
    recipe = load_recipe(row.recipe, settings=settings)
    config = on_device(recipe.train).to_json()
    identity = {
        "manifest": version.manifest.fingerprint,
        "model": ModelSpec.parse(job.model).content_hash(),
        "recipe": recipe.train_parts().to_json(),
        "config": {name: value for name, value in config.items() if f"config.{name}" not in FREE},
        "image_decoder": DECODER_VERSION,
    }
    new_folder = find_cell_folder(job.out / "cells", row.name, seed, identity)
    folder = folders.setdefault(hash_of(identity), new_folder)
    run = str(folder / "run")
    train = TrainJob(version.ref, row.recipe, job.model, run, job.curation.workspace, job.curation.manifests, settings)
    return Cell(row.name, seed, identity, folder, train, run, job.model)
