"""What the commands do and print."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import Progress

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, Manifest
from flows.terminal.console import counter, err, out, print_json, progress_bars, stage_bars, table
from flows.terminal.curation import print_answers, print_outcome

if TYPE_CHECKING:
    from flows.execution.estimate import Forecast
    from flows.execution.jobs import CurateJob, Outcome, TrainJob


def list_recipes(*, as_json: bool) -> None:
    """Print the recipes."""
    from flows.recipe import load_recipe, recipe_names

    loaded = [load_recipe(name) for name in recipe_names()]
    if as_json:
        print_json(
            [
                {
                    "name": recipe.name,
                    "paper": recipe.paper,
                    "differs": recipe.differs,
                    "stages": [stage.name for stage in recipe.all_stages()],
                    "train": recipe.train_parts().to_json(),
                }
                for recipe in loaded
            ]
        )
        return
    made = table("recipes", "recipe", "paper", "stages", "differs")
    for recipe in loaded:
        made.add_row(recipe.name, recipe.paper, " → ".join(stage.name for stage in recipe.all_stages()), recipe.differs)
    out.print(made)


def show_plan(job: CurateJob, *, why: bool, as_json: bool) -> Forecast:
    """Print what a run would do."""
    from flows.execution.estimate import forecast
    from flows.execution.jobs import prepare

    with progress_bars() as bars:
        predicted = forecast(prepare(job, counter(bars, "reading source")))
    if as_json:
        print_json(predicted.to_json())
        return predicted
    made = table(
        f"plan: {job.recipe} → {job.name} ({predicted.num_samples} samples, {predicted.num_rejected} refused at intake)",
        "stage",
        ">compute",
        ">reuse",
        ">time",
        *(["why"] if why else []),
    )
    for item in predicted.stages:
        cells = [item.stage.name, str(item.num_compute), str(item.num_reuse), _seconds(item.seconds)]
        made.add_row(*cells, *([escape(item.why)] if why else []))
    out.print(made)
    disk = f"{predicted.disk_bytes / 2**20:.0f} MiB of {predicted.free_bytes / 2**20:.0f} MiB free"
    out.print(f"time {_seconds(predicted.seconds)} · disk {disk} · LLM tokens {predicted.llm_tokens}")
    if predicted.there:
        out.print(f"nothing to do: {predicted.there.ref} is up to date")
    return predicted


def _seconds(value: float | None) -> str:
    if value is None:
        return "not known yet (first run here)"
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def run_curation(job: CurateJob, runner: str, *, no_prefect: bool, as_json: bool) -> Outcome:
    """Curate, with or without Prefect, and print what happened."""
    from flows.execution.jobs import existing, prepare, require_free_space

    started = time.perf_counter()
    if no_prefect and runner != "local":
        raise InputError(
            f"--runner {runner} with --no-prefect", allowed="Dask units are carried by Prefect's task runner"
        )
    with progress_bars() as bars:
        prepared = prepare(job, counter(bars, "reading source"))
        if prepared.answers is not None:
            print_answers(prepared.answers)
        outcome = existing(prepared)
        if outcome is None:
            size = sum(sample.image.size_bytes for sample in prepared.snapshot.samples())
            require_free_space(Path(job.workspace), size)
            outcome = _carry(prepared, runner, bars, no_prefect=no_prefect)
    if as_json:
        print_json(outcome.to_json())
    else:
        print_outcome(outcome, time.perf_counter() - started)
    return outcome


def _carry(prepared: Any, runner: str, bars: Progress, *, no_prefect: bool) -> Outcome:
    from flows.execution.executors import local_runner
    from flows.execution.jobs import execute

    listen, written = stage_bars(bars), counter(bars, "writing shards")
    if no_prefect:
        with local_runner(prepared.job.num_workers) as carry:
            return execute(prepared, carry, listen, written)
    bars.console.print("starting Prefect (a first flow without a server takes up to half a minute) …")
    from flows.curate import run_with_prefect

    return run_with_prefect(prepared.job, runner, listen, written)


def list_versions(catalog: Catalog, name: str, *, as_json: bool) -> None:
    """Print a data set's versions."""
    catalog.resolve(name)
    manifests = [Manifest.load(catalog.manifest_path(name, version)) for version in catalog.versions(name)]
    if as_json:
        print_json(
            [
                {
                    "version": item.version,
                    "fingerprint": item.fingerprint,
                    "parent": item.body["parent"],
                    "recipe": item.body["recipe"]["name"],
                    "counts": item.body["counts"],
                    "shards_here": catalog.folder(name, item.version).is_dir(),
                }
                for item in manifests
            ]
        )
        return
    made = table(name, "version", "recipe", ">samples", ">negatives", ">dropped", "shards", "fingerprint")
    for item in manifests:
        counts = item.body["counts"]
        dropped = sum(number for reasons in counts["dropped"].values() for number in reasons.values())
        here = "here" if catalog.folder(name, item.version).is_dir() else "elsewhere"
        made.add_row(
            item.version,
            item.body["recipe"]["name"],
            str(counts["samples"]),
            str(counts["negatives"]),
            str(dropped),
            here,
            item.fingerprint[:12],
        )
    out.print(made)


def verify_version(catalog: Catalog, ref: str, *, as_json: bool) -> bool:
    """Hash a version's files again; return whether all are as the manifest says."""
    version = catalog.open(ref)
    started = time.perf_counter()
    wrong = version.verify()
    if as_json:
        print_json({"version": version.ref, "holds": not wrong, "wrong": wrong})
    elif wrong:
        out.print(f"[red]{version.ref} does not hold:[/red]")
        for line in wrong:
            out.print(f"  {escape(line)}")
    else:
        files = version.manifest.body["files"]
        size = sum(record["bytes"] for record in files)
        out.print(
            f"{version.ref} holds: {len(files)} files, {size / 2**20:.1f} MiB, {time.perf_counter() - started:.1f} s"
        )
    return not wrong


def show_version(catalog: Catalog, ref: str, uid: str | None, html: Path | None, *, as_json: bool) -> None:
    """Print a version's manifest or one sample's lineage, or write its page."""
    from flows.terminal.versions import print_sample, print_version

    version = catalog.open(ref)
    if html is not None:
        write_page(catalog, ref, html)
    if uid is not None:
        print_sample(version, uid, as_json=as_json)
    elif html is None or as_json:
        print_version(version, as_json=as_json)


Filters = tuple[list[str] | None, list[str] | None, float | None, float | None, int | None, int | None]
"""Types, operations, least and largest difficulty, limit, seed, as they were given."""


def show_negatives(
    catalog: Catalog, ref: str, uid: str | None, html: Path | None, filters: Filters, *, as_json: bool
) -> None:
    """Print a version's negatives, and write its page if wished."""
    from data_manifests.negatives import NegativeFilter
    from flows.terminal.negatives import print_negatives

    types, operations, low, high, limit, seed = filters
    wanted = NegativeFilter(tuple(types or ()), tuple(operations or ()), low, high)
    if uid is not None:
        told = "one sample with all its negatives is shown without --negatives"
        raise InputError(f"--negatives with the sample {uid!r}", allowed=told, fix=f"clipcurate show {ref} {uid}")
    version = catalog.open(ref)
    if html is not None:
        write_page(catalog, ref, html, seed=seed or 0)
    print_negatives(version, wanted, 20 if limit is None else limit, seed or 0, as_json=as_json)


def write_page(catalog: Catalog, target: str, html: Path, **more: Any) -> None:
    """Write the page of a version, run or comparison, and say so."""
    from flows.pages.build import write_report

    write_report(catalog, target, html, **more)
    err.print(f"wrote {html} ({html.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)


def show_diff(catalog: Catalog, old: str, new: str, html: Path | None, *, as_json: bool) -> None:
    """Print how two versions differ, and write the page if wished."""
    from data_manifests.diff import diff_versions

    before, after = catalog.open(old), catalog.open(new)
    found = diff_versions(before, after)
    if html is not None:
        from flows.pages.diff import diff_html

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(diff_html(found, before, after), encoding="utf-8")
        err.print(f"wrote {html}")
    if as_json:
        print_json(found.to_json())
    else:
        from flows.terminal.diff import print_diff

        print_diff(found, out)


def run_training(job: TrainJob, *, prefect: bool, as_json: bool) -> Any:
    """Train and print how it ended."""
    from flows.execution.run_training import train_here

    if prefect:
        from flows.train import train_with_prefect

        result = train_with_prefect(job)
    else:
        result = train_here(job)
    if int(os.environ.get("RANK", "0")):
        return result  # the first rank speaks for all
    if as_json:
        print_json(
            {"run": str(result.run), "steps": result.steps, "loss": result.loss, "weights_hash": result.weights_hash}
        )
    else:
        out.print(f"{result.run}: {result.steps} steps, loss {result.loss:.4f}, weights {result.weights_hash}")
    return result
