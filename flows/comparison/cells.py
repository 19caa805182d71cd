"""The cells of a comparison: one row with one seed, trained and evaluated once, found again by a hash of its identity.

```
OUT/cells/<row>-<seed>-<hash>/cell.json        its identity
                              run/             the trainer's run folder; a killed run resumes from its checkpoint
                              <kind>-<hash>.json, .parquet    one benchmark's numbers, and the cases behind them
                              <kind>-<hash>-30.json, .parquet    the same at 30 % of the tuned weights
```
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
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
from flows.comparison.metrics import choosing_metrics, headline_metrics
from flows.comparison.shares import SHARES, TUNED_SHARE

if TYPE_CHECKING:
    from flows.evaluation.interface import Benchmark
    from flows.evaluation.results import Evaluation
    from flows.execution.jobs import TrainJob
    from training.evaluate.benchmark_result import BenchmarkResult

CELL_FILE = "cell.json"
CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True)
class BenchmarkSplit:
    """A benchmark on one split.

    Attributes:
        on: ``KIND:SRC``.
        split: Only this split; None for all.
    """

    on: str
    split: str | None


@dataclass(frozen=True)
class Benchmarks:
    """The benchmarks that every cell is evaluated on.

    Attributes:
        on: ``KIND:SRC`` of those that are reported.
        split: Only this split of them; None for all.
        choose_on: ``KIND:SRC`` of those that choose the share.
        choose_split: Only this split of them; None for all.
        limit: At most so many samples each; None for all.
        catalog: Where snapshots and drawn tests are kept.
        opened: Benchmarks opened so far.
    """

    on: tuple[str, ...]
    split: str | None
    choose_on: tuple[str, ...]
    choose_split: str | None
    limit: int | None
    catalog: Catalog
    opened: dict[BenchmarkSplit, Benchmark] = field(default_factory=dict, compare=False)

    @property
    def reported(self) -> list[BenchmarkSplit]:
        """Those that figures come from."""
        return [BenchmarkSplit(on, self.split) for on in self.on]

    @property
    def choosing(self) -> list[BenchmarkSplit]:
        """Those that choose the share; they may be the same."""
        return [BenchmarkSplit(on, self.choose_split) for on in self.choose_on]

    @property
    def every(self) -> list[BenchmarkSplit]:
        """Both, each once."""
        return list(dict.fromkeys([*self.reported, *self.choosing]))

    def stem(self, which: BenchmarkSplit, share: float = TUNED_SHARE) -> str:
        """Return the file name, without its suffix, of one benchmark's results in a cell's folder."""
        name = f"{which.on.partition(':')[0]}-{hash_of([which.on, which.split, self.limit, DECODER_VERSION])}"
        return name if share == TUNED_SHARE else f"{name}-{round(100 * share)}"

    def open(self, which: BenchmarkSplit) -> Benchmark:
        """Open a benchmark, or return it if an earlier cell has.

        Raises:
            InputError: it cannot read its source.
        """
        from flows.evaluation.interface import EvalOptions
        from flows.evaluation.registry import open_benchmark

        if which not in self.opened:
            self.opened[which] = open_benchmark(which.on, EvalOptions(self.catalog, which.split, self.limit))
        return self.opened[which]


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
        base: Spec of the base.
    """

    row: str
    seed: int | None
    identity: Mapping[str, Any]
    folder: Path
    job: TrainJob | None
    model: str
    base: str

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of its weights that it is evaluated at; share 0 of all rows is the pretrained model's cell."""
        return (TUNED_SHARE,) if self.job is None else SHARES[1:]

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


Results = Mapping[BenchmarkSplit, CellResult]
"""A cell's results at one share."""


@dataclass
class FinishedCell:
    """A cell with its results, or the error that stopped it.

    Attributes:
        cell: The cell.
        results: By share.
        fault: Error that stopped it; empty if none did.
        trained: Whether this call trained it, at least in part.
        train_s: Seconds in training steps, of earlier calls too.
        evaluate_s: Seconds of its evaluations.
    """

    cell: Cell
    results: dict[float, Results] = field(default_factory=dict)
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


def missing_evaluations(cell: Cell, benchmarks: Benchmarks) -> list[tuple[float, BenchmarkSplit]]:
    """Return the shares and benchmarks that a cell has no results for, share by share."""
    return [
        (share, which)
        for share in cell.shares
        for which in benchmarks.every
        if not (cell.folder / f"{benchmarks.stem(which, share)}.json").is_file()
    ]


def run_cell(cell: Cell, benchmarks: Benchmarks) -> FinishedCell:
    """Train and evaluate what is missing of a cell, and return its results; an `InputError` becomes its fault."""
    done = FinishedCell(cell)
    try:
        done.trained = _train(cell)
        done.train_s = train_seconds(cell.folder)[0]
        _evaluate(cell, benchmarks, missing_evaluations(cell, benchmarks))
        for share in cell.shares:
            paths = {which: cell.folder / f"{benchmarks.stem(which, share)}.json" for which in benchmarks.every}
            done.results[share] = {which: read_result(path, whole=cell.job is None) for which, path in paths.items()}
        every = (result for results in done.results.values() for result in results.values())
        done.evaluate_s = sum(float(result.record["seconds"]) for result in every)
    except InputError as error:
        done.fault = str(error)
    return done


def read_result(path: Path, *, whole: bool) -> CellResult:
    """Read one benchmark's numbers and cases.

    Args:
        path: The JSON file.
        whole: Read the cases of all metrics, not only of those that a table shows.

    Raises:
        InputError: a file is damaged.
    """
    from training.evaluate.benchmark_result import BenchmarkResult, load_cases

    try:
        record: dict[str, Any] = orjson.loads(path.read_bytes())
        on, means = str(record["on"]), {name: tuple(parts) for name, parts in record["means"].items()}
        metrics = dict(record["metrics"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not an evaluation ({error!r})", fix="delete this file; it is written again"
        ) from None

    def shown(names: Sequence[str]) -> list[str]:
        wanted = (*headline_metrics(on, means, names), *choosing_metrics(on))
        return list(dict.fromkeys(part for name in wanted for part in means.get(name, (name,))))

    cases = load_cases(path.with_suffix(".parquet"), list if whole else shown)
    return CellResult(record, BenchmarkResult(metrics, cases, means), path)


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


def _evaluate(cell: Cell, benchmarks: Benchmarks, missing: Sequence[tuple[float, BenchmarkSplit]]) -> None:
    """Run the missing evaluations and write each as soon as it is there."""
    from flows.evaluation.run import evaluate_shares

    if not missing:
        return
    wanted: dict[float, list[tuple[str, Benchmark]]] = {}
    for share, which in missing:
        wanted.setdefault(share, []).append((which.on, benchmarks.open(which)))
    with closing(evaluate_shares(cell.model, cell.base, wanted)) as evaluations:
        started = time.perf_counter()
        for (share, which), evaluated in zip(missing, evaluations, strict=True):
            path = cell.folder / f"{benchmarks.stem(which, share)}.json"
            about = {"split": which.split, "limit": benchmarks.limit, "seconds": time.perf_counter() - started}
            _write_result(path, evaluated, about)
            started = time.perf_counter()


def _write_result(path: Path, evaluated: Evaluation, about: Mapping[str, Any]) -> None:
    """Write one benchmark's numbers and cases: the JSON after the cases, so that it shows that both are complete."""
    from training.evaluate.benchmark_result import save_cases

    save_cases(path.with_suffix(".parquet"), evaluated.result)
    means = {name: list(parts) for name, parts in evaluated.result.means.items()}
    write_atomically(path, orjson.dumps({**evaluated.to_json(), **about, "means": means}, option=CANONICAL))
