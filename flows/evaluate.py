"""Evaluation as the command line runs it: open the data, run the benchmark, print and keep the numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from blake3 import blake3
from rich.markup import escape
from rich.progress import Progress, TaskID

from curation.forgotten import Forgotten
from curation.intake import take_in
from curation.models.parser import SpacyParser
from curation.sources import open_source
from curation.stages.check_images import CheckImages
from data_manifests.errors import InputError, nearest
from data_manifests.manifest import write_atomically
from data_manifests.sample import Sample
from flows.options import places
from flows.screen import out, progress_bars, table
from training.model import ModelSpec

if TYPE_CHECKING:
    from training.evaluate.items import Outcome
    from training.model import Towers

KINDS = ("retrieval", "order", "scenes")


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """One benchmark's numbers for one model."""

    on: str
    model: str
    num_samples: int
    num_refused: int
    outcome: Outcome

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers."""
        return self.outcome.metrics

    def to_json(self) -> dict[str, Any]:
        """Return everything but the cases behind the numbers."""
        fields = ("on", "model", "num_samples", "num_refused", "metrics")
        return {name: getattr(self, name) for name in fields}


def run_evaluation(
    model: str, on: Sequence[str], split: str | None, limit: int | None, json_file: Path | None, workspace: Path
) -> list[Evaluated]:
    """Evaluate a model on each of `on` and write the numbers.

    Raises:
        InputError: unknown kind, source or model.
    """
    spec = ModelSpec.parse(model)
    opened = [(text, *_open(text, split, limit, workspace)) for text in on]
    towers = spec.load()
    with progress_bars() as bars:
        results = [
            Evaluated(text, spec.describe(), len(samples), refused, _run(kind, towers, samples, workspace, bars))
            for text, kind, samples, refused in opened
        ]
    if json_file is not None:
        document = {
            "model": spec.describe(),
            "hash": spec.content_hash(),
            "results": [item.to_json() for item in results],
        }
        write_atomically(json_file, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return results


def run_sweep(
    model: str,
    base: str,
    shares: Sequence[float],
    on: Sequence[str],
    split: str | None,
    limit: int | None,
    workspace: Path,
) -> list[dict[str, Evaluated]]:
    """Evaluate models between a base and what was tuned from it; return, for each of `on`, the results by share.

    Raises:
        InputError: unknown kind, source or model, or models of two architectures.
    """
    from training.blend import blend

    spec, start = ModelSpec.parse(model), ModelSpec.parse(base).load()
    opened = [(text, *_open(text, split, limit, workspace)) for text in on]
    found: list[dict[str, Evaluated]] = [{} for _ in on]
    with progress_bars() as bars:
        for share in shares:
            towers = spec.load()
            blend(start, towers, share)
            for place, (text, kind, samples, refused) in enumerate(opened):
                outcome = _run(kind, towers, samples, workspace, bars)
                found[place][f"{share:g}"] = Evaluated(text, spec.describe(), len(samples), refused, outcome)
    return found


def _open(text: str, split: str | None, limit: int | None, workspace: Path) -> tuple[str, list[Sample], int]:
    """Return the kind of a ``KIND:SRC``, its usable samples and how many entries were refused."""
    kind, colon, source = text.partition(":")
    if kind not in KINDS or not colon:
        hint = nearest(kind, KINDS)
        raise InputError(
            f"--on {text!r}: unknown kind '{kind}'" + (f"; {hint}" if hint else ""),
            allowed="KIND:SRC, KIND one of " + ", ".join(KINDS),
            fix="for example --on retrieval:flickr:/data/flickr8k or --on scenes:500@7",
        )
    spec = text if kind == "scenes" else source
    snapshot = take_in(
        open_source(spec, split),
        workspace / "intake",
        location=f"{Path.cwd()}|{spec}",
        limit=limit,
        forgotten=Forgotten.load(places.manifests),
    )
    samples = snapshot.samples()
    verdicts = CheckImages().process(samples)
    usable = [sample for sample, verdict in zip(samples, verdicts, strict=True) if isinstance(verdict, dict)]
    return kind, usable, len(snapshot.rejected) + len(samples) - len(usable)


def _run(kind: str, towers: Towers, samples: list[Sample], workspace: Path, bars: Progress) -> Outcome:
    from training.evaluate.composition import order_accuracy, scenes_foils
    from training.evaluate.features import encode_samples
    from training.evaluate.items import join
    from training.evaluate.retrieval import retrieval

    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, _: int) -> None:
        if what not in tasks:
            total = len(samples) if what == "images" else None
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done)

    features = encode_samples(towers, samples, report=report)
    if kind == "retrieval":
        return retrieval(features)
    if kind == "scenes":
        return join(retrieval(features), scenes_foils(towers, samples, features))
    return order_accuracy(towers, features, _order_test(samples, workspace))


def _order_test(samples: list[Sample], workspace: Path) -> Any:
    """Return the seeded order test of these captions, made once and kept, so that every run sees the same texts."""
    from training.evaluate.composition import load_order_test, make_order_test, save_order_test

    identity = orjson.dumps([[sample.uid, sample.captions] for sample in samples])
    path = workspace / "benchmarks" / f"order-{blake3(identity).hexdigest(length=8)}.json"
    if not path.is_file():
        parser = SpacyParser()

        def tag(texts: Sequence[str]) -> list[list[tuple[str, str]]]:
            return [list(zip(parse["words"], parse["tags"], strict=True)) for parse in parser.parse(texts)]

        save_order_test(path, make_order_test(samples, tag))
    return load_order_test(path)


def print_comparison(columns: Mapping[str, Evaluated]) -> None:
    """Print several models' numbers on one benchmark side by side.

    Args:
        columns: Results by heading, all of the same benchmark.
    """
    first = next(iter(columns.values()))
    made = table(f"{escape(first.on)} ({first.num_samples} samples)", "metric", *(f">{heading}" for heading in columns))
    for name, value in _flat(first.metrics):
        if isinstance(value, float):
            values = [dict(_flat(result.metrics))[name] for result in columns.values()]
            made.add_row(name, *(f"{number:.4f}" for number in values))
    out.print(made)


def print_results(results: Sequence[Evaluated]) -> None:
    """Print one table for each benchmark."""
    for result in results:
        made = table(
            f"{result.model} on {escape(result.on)} ({result.num_samples} samples, {result.num_refused} refused)",
            "metric",
            ">value",
        )
        for name, value in _flat(result.metrics):
            made.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
        out.print(made)


def _flat(metrics: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in metrics.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return rows
