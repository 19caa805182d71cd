"""The cells of a comparison: one row with one seed, trained and evaluated once, found again by a hash of its identity.

```
OUT/cells/<row>-<seed>-<hash>/cell.json        its identity
                              run/             the trainer's run folder; a killed run resumes from its checkpoint
                              <kind>-<hash>.json, .parquet    one benchmark's numbers, and the cases behind them
```
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from blake3 import blake3

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.image_decoder import DECODER_VERSION
from data_manifests.manifest import Catalog
from data_manifests.run_files import DONE_FILE, LOG_FILE
from training.evaluate.image_cache import ImageCache, shared_image_cache

if TYPE_CHECKING:
    from flows.execution.jobs import TrainJob
    from training.evaluate.benchmark_result import BenchmarkResult

CELL_FILE = "cell.json"
CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True)
class Benchmarks:
    """The benchmarks that every cell is evaluated on.

    Attributes:
        on: ``KIND:SRC`` each.
        split: Only this split; None for all.
        limit: At most so many samples each; None for all.
        catalog: Where snapshots and drawn tests are kept.
        image_cache: Features of the images encoded so far.
    """

    on: tuple[str, ...]
    split: str | None
    limit: int | None
    catalog: Catalog
    image_cache: ImageCache = field(default_factory=ImageCache, compare=False)

    def stem(self, on: str) -> str:
        """Return the file name, without its suffix, of one benchmark's results in a cell's folder."""
        return f"{on.partition(':')[0]}-{hash_of([on, self.split, self.limit, DECODER_VERSION])}"


@dataclass(frozen=True)
class Cell:
    """One row with one seed.

    Attributes:
        row: Name of the row.
        seed: Its seed; None for the pretrained model.
        identity: Everything that decides its weights, as JSON values: manifest, training parts of the recipe, base model, config.
        folder: Its folder.
        job: How it is trained; None for the pretrained model.
        model: Spec of the model that is evaluated: the run, or the base.
    """

    row: str
    seed: int | None
    identity: Mapping[str, Any]
    folder: Path
    job: TrainJob | None
    model: str

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.row if self.seed is None else f"{self.row} seed {self.seed}"


@dataclass(frozen=True)
class CellResult:
    """One cell's numbers on one benchmark.

    Attributes:
        record: Its JSON file: metrics, counts of samples, seconds.
        result: The same with the cases behind each number.
        file: The JSON file.
    """

    record: Mapping[str, Any]
    result: BenchmarkResult
    file: Path


@dataclass
class FinishedCell:
    """A cell with its results, or the error that stopped it.

    Attributes:
        cell: The cell.
        results: By ``KIND:SRC``.
        fault: Error that stopped it; empty if none did.
        trained: Whether this call trained it, at least in part.
        train_s: Seconds in training steps, of earlier calls too.
        evaluate_s: Seconds of its evaluations.
    """

    cell: Cell
    results: dict[str, CellResult] = field(default_factory=dict)
    fault: str = ""
    trained: bool = False
    train_s: float = 0.0
    evaluate_s: float = 0.0


def hash_of(value: Any) -> str:
    """Return 8 bytes, hex, of a JSON value."""
    return blake3(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest(length=8)


def find_cell_folder(root: Path, row: str, seed: int | None, identity: Mapping[str, Any]) -> Path:
    """Return a cell's folder: that of an equal cell, whatever its row is called, or a new one."""
    key = hash_of(identity)
    there = sorted(root.glob(f"*-{key}"))
    return there[0] if there else root / "-".join([row, *([] if seed is None else [str(seed)]), key])


def is_trained(cell: Cell) -> bool:
    """Return whether a cell needs no more training."""
    return cell.job is None or (cell.folder / "run" / DONE_FILE).is_file()


def missing_benchmarks(cell: Cell, benchmarks: Benchmarks) -> list[str]:
    """Return the benchmarks that a cell has no results for."""
    return [on for on in benchmarks.on if not (cell.folder / f"{benchmarks.stem(on)}.json").is_file()]


def run_cell(cell: Cell, benchmarks: Benchmarks) -> FinishedCell:
    """Train and evaluate what is missing of a cell, and return its results; an `InputError` becomes its fault."""
    done = FinishedCell(cell)
    try:
        done.trained = _train(cell)
        done.train_s = train_seconds(cell.folder)[0]
        _evaluate(cell, benchmarks)
        done.results = {on: read_result(cell.folder / f"{benchmarks.stem(on)}.json") for on in benchmarks.on}
        done.evaluate_s = sum(float(result.record["seconds"]) for result in done.results.values())
    except InputError as error:
        done.fault = str(error)
    return done


def read_result(path: Path) -> CellResult:
    """Read one benchmark's numbers and cases.

    Raises:
        InputError: a file is damaged.
    """
    from training.evaluate.benchmark_result import BenchmarkResult, load_cases

    try:
        record: dict[str, Any] = orjson.loads(path.read_bytes())
        means = {name: tuple(parts) for name, parts in record["means"].items()}
        metrics = dict(record["metrics"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not an evaluation ({error!r})", fix="delete this file; it is written again"
        ) from None
    return CellResult(record, BenchmarkResult(metrics, load_cases(path.with_suffix(".parquet")), means), path)


def _train(cell: Cell) -> bool:
    """Train a cell if needed; return whether it was."""
    from flows.execution.jobs import run_job

    if cell.job is None or is_trained(cell):
        return False
    if not (cell.folder / CELL_FILE).is_file():
        about = {"row": cell.row, "seed": cell.seed, **cell.identity}
        write_atomically(cell.folder / CELL_FILE, orjson.dumps(about, option=CANONICAL))
    run_job(replace(cell.job, resume=(cell.folder / "run").exists()))
    return True


def train_seconds(folder: Path) -> tuple[float, int]:
    """Return the seconds of all steps in a cell's log, of resumed runs too, and their number."""
    from training.log import read_lines

    lines = read_lines(folder / "run" / LOG_FILE)
    return round(sum(float(line["step_s"]) + float(line["wait_s"]) for line in lines), 3), len(lines)


def _evaluate(cell: Cell, benchmarks: Benchmarks) -> None:
    """Run the missing benchmarks. The JSON is written after the cases, so that it shows that both are complete."""
    from flows.evaluation.interface import EvalOptions
    from flows.evaluation.run import run_evaluation
    from training.evaluate.benchmark_result import save_cases

    wanted = missing_benchmarks(cell, benchmarks)
    if not wanted:
        return
    started = time.perf_counter()
    with shared_image_cache(benchmarks.image_cache):
        found = run_evaluation(cell.model, wanted, EvalOptions(benchmarks.catalog, benchmarks.split, benchmarks.limit))
    seconds = round((time.perf_counter() - started) / len(wanted), 3)
    for on, evaluated in zip(wanted, found, strict=True):
        path = cell.folder / f"{benchmarks.stem(on)}.json"
        save_cases(path.with_suffix(".parquet"), evaluated.result)
        means = {name: list(parts) for name, parts in evaluated.result.means.items()}
        about = {"split": benchmarks.split, "limit": benchmarks.limit, "means": means, "seconds": seconds}
        write_atomically(path, orjson.dumps({**evaluated.to_json(), **about}, option=CANONICAL))
