"""Runs evaluations for commands: opens the benchmarks, evaluates the model, writes and prints the numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from rich.markup import escape

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.nested import leaves
from data_manifests.outputs import record_output
from flows.evaluation.blind import read_blind_texts
from flows.evaluation.interface import Benchmark, EvalOptions
from flows.evaluation.registry import open_benchmark
from flows.evaluation.results import Evaluation, write_clip_benchmark, write_items
from flows.terminal.console import bars_by_name, clean, err, out, print_table, progress_bars
from training.model.spec import ModelSpec

if TYPE_CHECKING:
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel


MAX_ROWS = 40
SWEEP_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """An evaluation as the command line describes it; JSON values only.

    Attributes:
        model: A run folder or a model spec.
        on: Benchmarks, ``KIND:SRC`` each.
        split: Only this split of a source.
        limit: At most this many samples of a source.
        json_file: JSON file for all numbers.
        items: Parquet file for the cases behind every number.
        clip_benchmark: Folder for the numbers in the format of CLIP_benchmark.
        blind: Only text-only judges: no image is opened.
        blind_texts: Texts that blind judges learn from: a text file or ``KIND:PATH[#SPLIT]``.
        workspace: Folder of store, shards and runs.
        manifests: Folder of manifests.
    """

    model: str
    on: tuple[str, ...]
    split: str | None = None
    limit: int | None = None
    json_file: str | None = None
    items: str | None = None
    clip_benchmark: str | None = None
    blind: bool = False
    blind_texts: str | None = None
    workspace: str = "workspace"
    manifests: str = "data_manifests"

    def run(self) -> list[Evaluation]:
        """Evaluate and write the files.

        Raises:
            InputError: unknown kind, source or model.
        """
        return run_evaluation(self.model, self.on, self._options(), self._files())

    def check_sweep(self, blend: str | None, shares: Sequence[float]) -> None:
        """Check a wish for interpolations between a base and the model.

        Raises:
            InputError: shares without a base, or a base with what a sweep does not have.
        """
        if blend is None and shares:
            raise InputError(
                "--share without --blend", allowed="--share with --blend BASE", fix="give the run's base as --blend"
            )
        if blend is not None and (self.clip_benchmark or self.blind or self.blind_texts is not None):
            raise InputError(
                "--clip-benchmark, --blind or --blind-texts with --blend",
                allowed="--json and --items with --blend",
                fix="leave the others out",
            )

    def sweep(self, blend: str, shares: Sequence[float]) -> list[Evaluation]:
        """Evaluate at shares of the way from a base and write the files; without shares at five of them.

        Raises:
            InputError: unknown kind, source or model, or models of two architectures.
        """
        wanted = tuple(dict.fromkeys(shares or SWEEP_SHARES))
        return run_sweep(self.model, blend, wanted, self.on, self._options(), self._files())

    def _options(self) -> EvalOptions:
        texts = () if self.blind_texts is None else read_blind_texts(self.blind_texts)
        catalog = Catalog(Path(self.manifests), Path(self.workspace))
        return EvalOptions(catalog, self.split, self.limit, self.blind, texts)

    def _files(self) -> ResultFiles:
        files = (self.json_file, self.items, self.clip_benchmark)
        return ResultFiles(*(Path(file) if file else None for file in files))


@dataclasses.dataclass(frozen=True)
class ResultFiles:
    """Files that results are written to; None writes none.

    Attributes:
        json: JSON file for all numbers.
        items: Parquet file for the cases behind every number.
        clip_benchmark: Folder for the numbers in the format of CLIP_benchmark.
    """

    json: Path | None = None
    items: Path | None = None
    clip_benchmark: Path | None = None


def run_evaluation(
    model: str, on: Sequence[str], options: EvalOptions, files: ResultFiles = ResultFiles()
) -> list[Evaluation]:
    """Evaluate a model on each of `on` and write the numbers.

    Raises:
        InputError: unknown kind, source or model.
    """
    from training.evaluate.encoding_cache import shared_encodings

    spec = ModelSpec.parse(model)
    opened = [(text, open_benchmark(text, options)) for text in on]
    loaded = spec.load()
    with progress_bars() as bars, shared_encodings(options.catalog.workspace):
        report = bars_by_name(bars)
        results = [_evaluated(text, benchmark, spec, loaded, report) for text, benchmark in opened]
    _write_files(files, spec, results, options)
    if files.clip_benchmark is not None:
        write_clip_benchmark(files.clip_benchmark, results, model)
    return results


def run_sweep(
    model: str,
    base: str,
    shares: Sequence[float],
    on: Sequence[str],
    options: EvalOptions,
    files: ResultFiles = ResultFiles(),
) -> list[Evaluation]:
    """Evaluate a model at shares of the way from its base, write the numbers, and return them share by share.

    Raises:
        InputError: unknown kind, source or model, or models of two architectures.
    """
    from training.evaluate.encoding_cache import shared_encodings

    opened = [(text, open_benchmark(text, options)) for text in on]
    with shared_encodings(options.catalog.workspace):
        results = list(evaluate_shares(model, base, dict.fromkeys(shares, opened)))
    _write_files(files, ModelSpec.parse(model), results, options, ModelSpec.parse(base))
    return results


def evaluate_shares(
    model: str, base: str, wanted: Mapping[float, Sequence[tuple[str, Benchmark]]]
) -> Generator[Evaluation, None, None]:
    """Yield a model's evaluations at shares of the way from its base, in order; `shared_encodings` spares most of the work.

    Args:
        model: Spec of the tuned model.
        base: Spec of what it was tuned from.
        wanted: By share, the benchmarks with their names.

    Raises:
        InputError: unknown model, or models of two architectures.
    """
    from training.model.wise_ft import blend

    spec, start = ModelSpec.parse(model), ModelSpec.parse(base).load()
    with progress_bars() as bars:
        report = bars_by_name(bars)
        for share, blended in zip(wanted, blend(start, spec.load(), wanted), strict=True):
            for text, benchmark in wanted[share]:
                yield dataclasses.replace(_evaluated(text, benchmark, spec, blended, report), share=share)


def _write_files(
    files: ResultFiles,
    spec: ModelSpec,
    results: Sequence[Evaluation],
    options: EvalOptions,
    base: ModelSpec | None = None,
) -> None:
    """Write the JSON file and the Parquet file, where they are wanted."""
    if files.json is not None:
        document: dict[str, Any] = {"model": spec.describe(), "hash": spec.content_hash()}
        if base is not None:
            document["base"] = {"model": base.describe(), "hash": base.content_hash()}
        document |= {"split": options.split, "limit": options.limit, "results": [item.to_json() for item in results]}
        write_atomically(files.json, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if files.items is not None:
        record_output(options.catalog.workspace, files.items, "evaluate --items")
        write_items(files.items, results)


def _evaluated(text: str, benchmark: Benchmark, spec: ModelSpec, model: ClipModel, report: EvalProgress) -> Evaluation:
    from training.evaluate.headline import mark_headline

    outcome = mark_headline(benchmark.run(model, report))
    for note in benchmark.new_notes():
        err.print(f"{text}: {clean(note)}", markup=False, highlight=False, soft_wrap=True)
    return Evaluation(text, spec.describe(), benchmark.num_samples, benchmark.num_refused, outcome)


def print_comparison(columns: Mapping[str, Evaluation]) -> None:
    """Print the numbers of several models on one benchmark side by side.

    Args:
        columns: Results by heading, all of the same benchmark.
    """
    first, metrics = next(iter(columns.values())), [dict(leaves(result.metrics)) for result in columns.values()]
    headings = ("metric", *(f">{heading}" for heading in columns))
    rows = (
        [name, *(f"{of[name]:.4f}" for of in metrics)] for name, value in metrics[0].items() if isinstance(value, float)
    )
    print_table(f"{escape(first.on)} ({first.num_samples} samples)", headings, rows)


def print_results(results: Sequence[Evaluation]) -> None:
    """Print each benchmark's numbers; numbers by category are in a table of their own."""
    for result in results:
        title = f"{result.model} on {escape(result.on)} ({result.num_samples} samples, {result.num_refused} refused)"
        shown = dict(result.metrics)
        if not shown.get("num_ties_image_to_text", 0) + shown.get("num_ties_text_to_image", 0):
            shown.pop("ties_in_order", None)  # equal to the recalls above
        grouped = {name: entries for name, entries in shown.items() if _is_table(entries)}
        single = leaves({name: value for name, value in shown.items() if name not in grouped})
        print_table(title, ("metric", ">value"), ((name, _cell(value)) for name, value in single))
        for name, entries in grouped.items():
            columns = list(dict.fromkeys(key for entry in entries.values() for key in entry))
            headings = (name.replace("_", " "), *(f">{key.replace('_', ' ')}" for key in columns))
            listed = islice(entries.items(), MAX_ROWS)
            rows = ((escape(kind), *(_cell(entry.get(key)) for key in columns)) for kind, entry in listed)
            print_table("", headings, rows)
            if len(entries) > MAX_ROWS:
                out.print(f"… and {len(entries) - MAX_ROWS} more; --json FILE writes all")


def _is_table(value: Any) -> bool:
    """Return whether a metric has numbers for each category."""
    return isinstance(value, dict) and bool(value) and all(isinstance(entry, dict) for entry in value.values())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
