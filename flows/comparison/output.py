"""The files of a comparison: comparison.json with everything, table.md for a README."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from data_manifests.atomic_files import write_atomically
from flows.comparison.cells import CANONICAL
from flows.comparison.statistics import best_blind_scores, compare_rows
from flows.comparison.table import markdown_table
from flows.comparison.variants import PRETRAINED
from flows.recipe import load_recipe
from training.config import TrainConfig
from training.model.spec import ModelSpec

if TYPE_CHECKING:
    from data_manifests.manifest import DatasetVersion
    from flows.comparison.cells import FinishedCell
    from flows.comparison.job import CompareJob
    from flows.comparison.statistics import ComparisonRow
    from flows.comparison.variants import Variant

TABLE_FILE = "table.md"
COMPARISON_FILE = "comparison.json"
FORMAT = "clipcurate-comparison/1"


def count_train_samples(versions: Mapping[str, DatasetVersion]) -> dict[str, int]:
    """Return how many samples of the training split each row has."""
    found: dict[str, int] = {}
    for name, version in versions.items():
        index = version.index()
        splits = index.column("split").to_pylist() if "split" in index.column_names else [None] * index.num_rows
        found[name] = sum(split in (None, TrainConfig.split) for split in splits)
    return found


def table_title(job: CompareJob) -> str:
    """Return the table's heading: what all rows share."""
    config = load_recipe(job.rows[0].recipe, settings=job.train_settings(job.rows[0], job.seeds[0])).train
    seeds = ", ".join(str(seed) for seed in job.seeds)
    return (
        f"{ModelSpec.parse(job.model).describe()}: {config.steps} steps of {config.batch_size}, lr {config.lr:g}, "
        f"{config.tune}, seeds {seeds}"
    )


def write_comparison(
    job: CompareJob, finished: Sequence[FinishedCell], versions: Mapping[str, DatasetVersion]
) -> list[ComparisonRow]:
    """Compare the finished cells, write comparison.json and table.md, and return the rows."""
    names = [PRETRAINED, *(row.name for row in job.rows)]
    rows = compare_rows(finished, names, job.benchmarks.on, job.gate)
    document = dict(_document(job, rows, finished, versions))
    write_atomically(job.out / COMPARISON_FILE, orjson.dumps(document, option=CANONICAL))
    refs = sorted({f"{item.ref} `{item.manifest.fingerprint}`" for item in versions.values()})
    text = [
        markdown_table(rows, count_train_samples(versions), best_blind_scores(finished)),
        "",
        f"{table_title(job)}. Versions: {', '.join(refs)}.",
    ]
    write_atomically(job.out / TABLE_FILE, "\n".join([*text, "", f"`{job.command}`", ""]).encode())
    return rows


def _document(
    job: CompareJob,
    rows: Sequence[ComparisonRow],
    finished: Sequence[FinishedCell],
    versions: Mapping[str, DatasetVersion],
) -> Iterator[tuple[str, Any]]:
    from training.checkpoint import package_versions

    spec, samples = ModelSpec.parse(job.model), count_train_samples(versions)
    variants = {row.name: row for row in job.rows}
    yield "format", FORMAT
    yield "command", job.command
    yield "title", table_title(job)
    yield "model", {"spec": spec.describe(), "hash": spec.content_hash()}
    yield "seeds", list(job.seeds)
    yield "settings", list(job.settings)
    yield "benchmarks", {"on": list(job.benchmarks.on), "split": job.benchmarks.split, "limit": job.benchmarks.limit}
    yield "gate", {"zero_shot": job.gate.zero_shot, "retrieval": job.gate.retrieval, "against": PRETRAINED}
    yield "versions", package_versions()
    yield "rows", [_row_json(row, variants.get(row.name), versions, samples) for row in rows]
    blind = []
    for (on, metric), (judge, value) in best_blind_scores(finished).items():
        blind.append({"on": on, "metric": metric, "judge": judge, "value": round(value, 6)})
    yield "blind", blind
    yield "cells", [_cell_json(job, cell) for cell in finished]


def _row_json(
    row: ComparisonRow, variant: Variant | None, versions: Mapping[str, DatasetVersion], samples: Mapping[str, int]
) -> dict[str, Any]:
    numbers = [{"on": on, "metric": metric, **number.to_json()} for (on, metric), number in row.numbers.items()]
    found: dict[str, Any] = {"name": row.name, "seeds": list(row.seeds), "numbers": numbers, "failed": row.failed}
    found["lost"] = [{"on": on, "metric": metric, "points": points} for on, metric, points in row.lost]
    found["faults"] = dict(row.faults)
    if variant is not None:
        version = versions[row.name]
        found |= {"recipe": variant.recipe, "settings": list(variant.settings), "num_samples": samples[row.name]}
        found["manifest"] = {"ref": version.ref, "fingerprint": version.manifest.fingerprint}
    return found


def _cell_json(job: CompareJob, done: FinishedCell) -> dict[str, Any]:
    results = {
        on: {"file": result.file.relative_to(job.out).as_posix(), **result.record}
        for on, result in done.results.items()
    }
    about = {"row": done.cell.row, "seed": done.cell.seed, "folder": done.cell.folder.relative_to(job.out).as_posix()}
    return about | {
        "train_s": done.train_s,
        "evaluate_s": round(done.evaluate_s, 3),
        "fault": done.fault,
        "results": results,
    }
