"""The files of a comparison: comparison.json with everything, table.md for a README."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from data_manifests.atomic_files import write_atomically
from flows.comparison.cells import CANONICAL
from flows.comparison.shares import BASE_SHARE, SHARES, TUNED_SHARE, describe_rule
from flows.comparison.statistics import compare_rows
from flows.comparison.table import describe_dominance, markdown_table
from flows.comparison.variants import PRETRAINED
from flows.recipe import load_recipe
from flows.recipe_finding import recipe_label
from training.config import TrainConfig
from training.model.spec import ModelSpec

if TYPE_CHECKING:
    from data_manifests.manifest import DatasetVersion
    from flows.comparison.cells import FinishedCell
    from flows.comparison.job import CompareJob
    from flows.comparison.rows import Comparison, ComparisonRow, Dominance
    from flows.comparison.variants import Variant

TABLE_FILE = "table.md"
COMPARISON_FILE = "comparison.json"
FORMAT = "clipcurate-comparison/2"


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
) -> Comparison:
    """Compare the finished cells, write comparison.json and table.md, and return the comparison."""
    names = [PRETRAINED, *(row.name for row in job.rows)]
    found = compare_rows(finished, names, job.benchmarks, job.gate, job.points)
    document = dict(_document(job, found, finished, versions))
    write_atomically(job.out / COMPARISON_FILE, orjson.dumps(document, option=CANONICAL))
    refs = sorted({f"{item.ref} `{item.manifest.fingerprint}`" for item in versions.values()})
    paragraphs = [
        markdown_table(found, count_train_samples(versions)),
        describe_rule(job.points),
        *describe_dominance(found),
        f"{table_title(job)}. Versions: {', '.join(refs)}.",
        f"`{job.command}`",
    ]
    write_atomically(job.out / TABLE_FILE, ("\n\n".join(paragraphs) + "\n").encode())
    return found


def _document(
    job: CompareJob,
    found: Comparison,
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
    yield "rule", _rule_json(job)
    yield "versions", package_versions()
    yield "metrics", [{**dataclasses.asdict(role), "headline": role.headline} for role in found.metrics]
    yield "rows", [_row_json(row, variants.get(row.name), versions, samples) for row in found.rows]
    yield "dominance", [_dominance_json(pair) for pair in found.dominance]
    blind = []
    for (on, metric), (judge, value) in found.blind.items():
        blind.append({"on": on, "metric": metric, "judge": judge, "value": round(value, 6)})
    yield "blind", blind
    shares = {row.name: TUNED_SHARE if row.share is None else row.share for row in found.rows}
    pretrained = finished[0]
    yield "cells", [_cell_json(job, cell, pretrained, shares[cell.cell.row]) for cell in finished]


def _rule_json(job: CompareJob) -> dict[str, Any]:
    return {
        "points": job.points,
        "shares": list(SHARES),
        "choose_on": [dataclasses.asdict(which) for which in job.benchmarks.choosing],
        "sentence": describe_rule(job.points),
    }


def _dominance_json(pair: Dominance) -> dict[str, Any]:
    higher = [{"on": on, "metric": metric} for on, metric in pair.higher]
    return {"row": pair.row, "over": pair.over, "higher": higher}


def _row_json(
    row: ComparisonRow, variant: Variant | None, versions: Mapping[str, DatasetVersion], samples: Mapping[str, int]
) -> dict[str, Any]:
    numbers = [{"on": on, "metric": metric, **number.to_json()} for (on, metric), number in row.numbers.items()]
    found: dict[str, Any] = {"name": row.name, "seeds": list(row.seeds), "numbers": numbers, "failed": row.failed}
    found |= {"share": row.share, "curve": [point.to_json() for point in row.curve]}
    found["lost"] = [{"on": on, "metric": metric, "points": points} for on, metric, points in row.lost]
    found["faults"] = dict(row.faults)
    if variant is not None:
        version = versions[row.name]
        found |= {
            "recipe": recipe_label(variant.recipe),
            "data": recipe_label(variant.curated_by),
            "settings": list(variant.settings),
            "num_samples": samples[row.name],
        }
        found["manifest"] = {"ref": version.ref, "fingerprint": version.manifest.fingerprint}
    return found


def _cell_json(job: CompareJob, done: FinishedCell, pretrained: FinishedCell, share: float) -> dict[str, Any]:
    """Return one cell with its results at the share at which its row is reported."""
    found = pretrained.results[TUNED_SHARE] if share == BASE_SHARE else done.results.get(share, {})
    results = {
        which.on: {"file": result.file.relative_to(job.out).as_posix(), **result.record}
        for which, result in found.items()
        if which in job.benchmarks.reported and not done.fault
    }
    about = {"row": done.cell.row, "seed": done.cell.seed, "folder": done.cell.folder.relative_to(job.out).as_posix()}
    return about | {
        "train_s": done.train_s,
        "evaluate_s": round(done.evaluate_s, 3),
        "fault": done.fault,
        "results": results,
    }
