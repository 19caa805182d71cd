"""Results as files: the cases behind every number as parquet, and the numbers as CLIP_benchmark writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from data_manifests.atomic_files import write_atomically

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult

CLASSIFICATION, RETRIEVAL, SELECTION = (
    "zeroshot_classification",
    "zeroshot_retrieval",
    "image_caption_selection",
)
LANGUAGE = "en"


@dataclass(frozen=True)
class Evaluation:
    """One benchmark's numbers for one model."""

    on: str
    model: str
    num_samples: int
    num_refused: int
    result: BenchmarkResult

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers."""
        return self.result.metrics

    def to_json(self) -> dict[str, Any]:
        """Return everything but the cases behind the numbers."""
        fields = ("on", "model", "num_samples", "num_refused", "metrics")
        return {name: getattr(self, name) for name in fields}


def write_items(path: Path, results: Sequence[Evaluation]) -> None:
    """Write a row for each case of each number: on, model, metric, id, image, value; equal results give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {name: [] for name in ("on", "model", "metric", "id", "image", "value")}
    for result in results:
        for metric, items in result.result.cases.items():
            num = len(items.ids)
            columns["on"] += [result.on] * num
            columns["model"] += [result.model] * num
            columns["metric"] += [metric] * num
            columns["id"] += items.ids
            columns["image"] += items.images
            columns["value"] += items.values.tolist()
    types = {name: pa.string() for name in columns} | {"value": pa.float64()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    pq.write_table(pa.table(columns, schema=pa.schema(list(types.items()))), draft, compression="zstd")
    os.replace(draft, path)


def write_clip_benchmark(folder: Path, results: Sequence[Evaluation], model: str) -> list[Path]:
    """Write a JSON file for each result that CLIP_benchmark has a task for; its ``build`` makes one CSV of many.

    Args:
        folder: Where to.
        results: The results.
        model: The spec as it was given; ``ARCH:PRETRAINED`` is taken apart.

    Returns:
        The files: one for each set, one for each category of a test of texts.
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
    """Return (dataset, task, metrics) under CLIP_benchmark's names; nothing for what it has no task for."""
    metrics, dataset = result.metrics, result.on
    if "mean_per_class" in metrics:
        found = {"acc1": metrics["top1"]}
        found |= {"acc5": metrics["top5"]} if "top5" in metrics else {}
        return [(dataset, CLASSIFICATION, {**found, "mean_per_class_recall": metrics["mean_per_class"]})]
    rows = []
    if "ties_in_order" in metrics:
        rows.append((dataset, RETRIEVAL, _recalls(metrics["ties_in_order"])))
    for name, entry in metrics.get("categories", {}).items():
        if "accuracy" in entry:
            rows.append((f"{dataset}/{name}", SELECTION, {"acc": entry["accuracy"]}))
    return rows


def _recalls(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return recalls by CLIP_benchmark's names: it says what is retrieved, we say what is asked for by what."""
    found = {}
    for name, value in metrics.items():
        way, _, k = name.partition("_R@")
        found[f"{'text' if way == 'image_to_text' else 'image'}_retrieval_recall@{k}"] = value
    return found
