"""What a comparison would do: versions to curate, cells to run and to reuse, minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from data_manifests.errors import InputError
from flows.comparison.cells import CELL_FILE, Benchmarks, Cell, is_trained, missing_evaluations, train_seconds
from flows.comparison.job import CompareJob
from flows.comparison.run import cells_by_seed, check_rows, find_versions, pretrained_cell
from flows.comparison.shares import SHARES
from flows.execution.jobs import existing, prepare
from flows.terminal.console import out, print_json, print_table


@dataclass
class Pace:
    """Seconds that finished cells took.

    Attributes:
        step_s: Of a training step by row; the empty name is the mean over all rows.
        evaluate_s: Of a benchmark at one share by the file name of its results at the tuned weights.
    """

    step_s: dict[str, float]
    evaluate_s: dict[str, float]


@dataclass(frozen=True)
class PlannedRow:
    """One row of the plan.

    Attributes:
        name: Its name.
        version: The version it trains on, or ``to be curated``.
        num_run: Cells to train or evaluate.
        num_reused: Finished cells.
        num_evaluations: Evaluations to run, one for each benchmark, share and cell.
        seconds: Estimate for those to run; None when no such cell has run here.
    """

    name: str
    version: str
    num_run: int
    num_reused: int
    num_evaluations: int
    seconds: float | None


def show_comparison_plan(job: CompareJob, *, as_json: bool) -> None:
    """Print what a comparison would run and reuse; nothing is curated, trained or evaluated.

    Raises:
        InputError: a recipe, setting, source or model cannot be used.
    """
    check_rows(job)
    versions = find_versions(job, lambda curation: existing(prepare(curation)))
    every = [pretrained_cell(job), *(cell for cells in cells_by_seed(job, versions) for cell in cells)]
    pace = read_pace(job.out / "cells")
    steps = int(next(item for item in job.settings if item.startswith("train.steps=")).partition("=")[2])
    rows = [plan_row(every[0].row, "-", every[:1], 0, job.benchmarks, pace, steps)]
    for row in job.rows:
        cells = [cell for cell in every if cell.row == row.name]
        version = versions[row.name].ref if row.name in versions else "to be curated"
        rows.append(plan_row(row.name, version, cells, len(job.seeds) - len(cells), job.benchmarks, pace, steps))
    known = [part.seconds for part in rows if part.seconds is not None]
    total = sum(known) if len(known) == len(rows) else None
    if as_json:
        print_json({"rows": [vars(part) for part in rows], "seconds": total})
        return
    shown = [
        (part.name, part.version, part.num_run, part.num_reused, part.num_evaluations, _minutes(part.seconds))
        for part in rows
    ]
    headings = ("row", "version", ">to run", ">reused", ">evaluations", ">minutes")
    print_table("plan of the comparison", headings, shown)
    num_cells, num_evaluations = (sum(values) for values in zip(*(part[2:5:2] for part in shown), strict=True))
    out.print(
        f"{num_cells} cells to run, {num_evaluations} evaluations, {_minutes(total)} minutes without curation",
        soft_wrap=True,
    )


def read_pace(root: Path) -> Pace:
    """Return how long finished cells took."""
    step: dict[str, list[float]] = {}
    evaluate: dict[str, list[float]] = {}
    for folder in sorted(root.glob("*")) if root.is_dir() else []:
        for path in sorted(folder.glob("*-*.json")):
            stem = "-".join(path.stem.split("-")[:2])
            evaluate.setdefault(stem, []).append(float(_json(path)["seconds"]))
        seconds, steps = train_seconds(folder)
        if steps and (folder / CELL_FILE).is_file():
            for name in (str(_json(folder / CELL_FILE)["row"]), ""):
                step.setdefault(name, []).append(seconds / steps)
    return Pace(*({name: sum(values) / len(values) for name, values in found.items()} for found in (step, evaluate)))


def plan_row(
    name: str, version: str, cells: Sequence[Cell], unknown: int, benchmarks: Benchmarks, pace: Pace, steps: int
) -> PlannedRow:
    """Return one row of the plan; `unknown` cells have no version yet."""
    lacking = [(not is_trained(cell), missing_evaluations(cell, benchmarks)) for cell in cells]
    due = [(trains, missing) for trains, missing in lacking if trains or missing]
    due += [(True, [(share, which) for share in SHARES[1:] for which in benchmarks.every])] * unknown
    step = pace.step_s.get(name, pace.step_s.get(""))
    parts = [pace.evaluate_s.get(benchmarks.stem(which)) for _, missing in due for _, which in missing]
    num_evaluations = len(parts)
    parts += [None if step is None else step * steps for trains, _ in due if trains]
    known = [part for part in parts if part is not None]
    seconds = sum(known) if len(known) == len(parts) else None
    num_reused = len(cells) + unknown - len(due)
    return PlannedRow(name, version, len(due), num_reused, num_evaluations, seconds)


def _minutes(seconds: float | None) -> str:
    return "not known yet" if seconds is None else f"{seconds / 60:.0f}" if seconds > 600 else f"{seconds / 60:.1f}"


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})", fix="delete this file; it is written again") from None
    return found
