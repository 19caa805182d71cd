"""Evaluations as files: the cases behind every number as Parquet, and the numbers in the format of CLIP_benchmark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from data_manifests.atomic_files import write_atomically, write_table_atomically
from training.evaluate.benchmark_result import cases_table

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult

LANGUAGE = "en"


@dataclass(frozen=True)
class Evaluation:
    """One benchmark's numbers for one model.

    Attributes:
        on: ``KIND:SRC``.
        model: Spec of the model.
        num_samples: Images or cases that were evaluated.
        num_refused: Entries that could not be.
        result: The numbers, and the cases behind them.
        share: Of the model's weights, the rest being its base's; None for the model itself.
    """

    on: str
    model: str
    num_samples: int
    num_refused: int
    result: BenchmarkResult
    share: float | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers."""
        return self.result.metrics

    def to_json(self) -> dict[str, Any]:
        """Return everything except the cases behind the numbers."""
        fields = ("on", "model", *(() if self.share is None else ("share",)), "num_samples", "num_refused", "metrics")
        means = {name: list(parts) for name, parts in self.result.means.items()}
        return {name: getattr(self, name) for name in fields} | ({"means": means} if means else {})


def write_items(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write a row for each case of each number: on, model, metric, id, image, value; equal results give equal bytes.

    Evaluations between two models have a column `share` after `model`.
    """
    import pyarrow as pa

    about = {"on": pa.string(), "model": pa.string()}
    if any(evaluation.share is not None for evaluation in evaluations):
        about["share"] = pa.float64()
    tables = []
    for evaluation in evaluations:
        table = cases_table(evaluation.result)
        for number, (name, kind) in enumerate(about.items()):
            table = table.add_column(number, name, pa.array([getattr(evaluation, name)] * table.num_rows, kind))
        tables.append(table)
    write_table_atomically(path, pa.concat_tables(tables).combine_chunks())


def write_clip_benchmark(folder: Path, results: Sequence[Evaluation], model: str) -> list[Path]:
    """Write a JSON file for each result that CLIP_benchmark has a task for; its ``build`` merges them into a CSV.

    Args:
        folder: Folder for the files.
        results: The evaluations.
        model: The model spec; ``ARCH:PRETRAINED`` is split.

    Returns:
        The files: one for each data set, or one for each category of a test of texts.
    """
    arch, _, pretrained = model.partition(":")
    written = []
    for result in results:
        for dataset, task, metrics in clip_benchmark_rows(result):
            record = {
                "dataset": dataset,
                "model": arch,
                "pretrained": pretrained,
                "task": task,
                "metrics": metrics,
                "language": LANGUAGE,
            }
            parts = (dataset, pretrained, arch, LANGUAGE, task)
            name = "_".join(re.sub(r"[^\w.@-]+", "-", part) for part in parts)
            written.append(folder / f"{name}.json")
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(written[-1], orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    return written


def clip_benchmark_rows(result: Evaluation) -> list[tuple[str, str, dict[str, float]]]:
    """Return (dataset, task, metrics) with the names of CLIP_benchmark; nothing if it has no such task."""
    metrics, dataset = result.metrics, result.on
    if "mean_per_class" in metrics:
        accuracy = {"acc1": metrics["top1"]}
        accuracy |= {"acc5": metrics["top5"]} if "top5" in metrics else {}
        return [(dataset, "zeroshot_classification", {**accuracy, "mean_per_class_recall": metrics["mean_per_class"]})]
    rows = []
    if "ties_in_order" in metrics:
        rows.append((dataset, "zeroshot_retrieval", _recalls(metrics["ties_in_order"])))
    for name, entry in metrics.get("categories", {}).items():
        if "accuracy" in entry:
            rows.append((f"{dataset}/{name}", "image_caption_selection", {"acc": entry["accuracy"]}))
    return rows


def _recalls(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return recalls with the names of CLIP_benchmark, which say what is retrieved; ours have query and target."""
    recalls = {}
    for name, value in metrics.items():
        direction, _, k = name.partition("_R@")
        recalls[f"{'text' if direction == 'image_to_text' else 'image'}_retrieval_recall@{k}"] = value
    return recalls
