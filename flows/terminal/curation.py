"""What curation prints: its plan and progress, then the version, its stages, what was dropped and refused."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape

from curation.engine.fits import FIRST_FIT
from data_manifests.blind_accuracy import blind_rows
from data_manifests.caption_negatives import CaptionNegatives
from data_manifests.manifest import Manifest
from flows.execution.curation_warnings import few_negatives
from flows.terminal.console import counter, err, out, print_json, print_table, progress_bars, stage_bars

if TYPE_CHECKING:
    from curation.llm.batch_files import ImportReport
    from flows.execution.estimate import CurationEstimate
    from flows.execution.estimate_negatives import NegativesEstimate
    from flows.execution.jobs import CurateJob, CurationResult, JobEvents, JobExecutor


def run_curation(job: CurateJob, executor: JobExecutor, *, as_json: bool = False) -> CurationResult:
    """Run a curation with progress bars and print its result."""
    from flows.execution.jobs import run_job

    started = time.perf_counter()
    with job_progress() as events:
        result = run_job(job, executor, events)
    if as_json:
        print_json(result.to_json())
    else:
        _print_result(result, time.perf_counter() - started)
    for warning in result.warnings:
        err.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    return result


@contextmanager
def job_progress() -> Iterator[JobEvents]:
    """Show a job's progress as bars on standard error."""
    from flows.execution.jobs import JobEvents

    with progress_bars() as bars:
        counters = counter(bars, "reading source"), counter(bars, "writing shards")
        yield JobEvents(*counters, _print_answers, _print_notes, stage_bars(bars))


def show_plan(job: CurateJob, *, why: bool, samples: int | None = None, as_json: bool = False) -> None:
    """Print what a run would do.

    Args:
        job: The run.
        why: Say why each stage runs.
        samples: As if the source had so many images; None for what it has.
        as_json: Print JSON alone.
    """
    from flows.execution.estimate import estimate_curation
    from flows.execution.jobs import prepare, selection_change

    with job_progress() as events:
        prepared = prepare(job, events)
        predicted = estimate_curation(prepared, samples)
    if (change := selection_change(prepared)) is not None and not job.yes:
        err.print(f"warning: curate will refuse: {change}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print_json(predicted.to_json())
        return
    _print_plan(job, predicted, why=why)


def _print_plan(job: CurateJob, predicted: CurationEstimate, *, why: bool) -> None:
    title = (
        f"plan: {job.recipe} → {job.name} ({predicted.num_samples} samples, {predicted.num_rejected} refused at intake)"
    )
    columns = ["stage", ">compute", ">reuse", ">time", *(["why"] if why else [])]
    cells = ((item.stage.name, item.num_compute, item.num_reuse, _duration(item.seconds)) for item in predicted.stages)
    reasons = ([escape(item.why)] if why else [] for item in predicted.stages)
    print_table(title, columns, ([*row, *reason] for row, reason in zip(cells, reasons, strict=True)))
    disk = f"{predicted.disk_bytes / 2**20:.0f} MiB of {predicted.free_bytes / 2**20:.0f} MiB free"
    memory = f" · memory {predicted.peak_bytes / 2**20:.0f} MiB a process" if predicted.peak_bytes else ""
    published = f" (publication {_duration(predicted.publish_s)})" if predicted.publish_s else ""
    out.print(
        f"time {_duration(predicted.seconds)}{published} · disk {disk}{memory} · LLM tokens {predicted.llm_tokens}"
    )
    if predicted.num_tried:
        out.print(f"times that no earlier run here tells come from a trial on {predicted.num_tried} images")
    if predicted.negatives is not None:
        _print_estimate(predicted.negatives)
    if predicted.up_to_date:
        out.print(f"nothing to do: {predicted.up_to_date.ref} is up to date")


def _print_estimate(estimate: NegativesEstimate) -> None:
    """Print how many negatives captions will get, and which stages that leaves out."""
    if (found := estimate.found) is not None:
        origin = (
            f"as in {estimate.known_from}" if estimate.known_from else f"estimated from {found.num_captions} captions"
        )
        out.print(f"negatives per caption, {origin}: {found.describe()}")
        if not estimate.left_out and (warning := few_negatives(found)) is not None:
            err.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if estimate.left_out:
        reason = "these stages need a model, or learn from all captions"
        out.print(f"negatives not known before the run ({reason}): {', '.join(estimate.left_out)}")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known yet (it asks a model, or needs what one answers)"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _print_notes(notes: Sequence[str]) -> None:
    """Print how the source was read where that is a guess."""
    for note in notes:
        err.print(f"[yellow]note[/yellow] {escape(note)}")


def _print_answers(report: ImportReport) -> None:
    """Print what an imported file of answers contained."""
    line = f"answers: {report.num_answers:,} usable, {report.num_new:,} new"
    for number, what in (
        (report.refused, "refused by the model"),
        (report.num_faulty, "unusable, to be sent again"),
        (report.num_unknown, "to other requests"),
        (report.num_malformed, f"malformed (lines {', '.join(map(str, report.malformed_lines))} ...)"),
    ):
        line += f", {number:,} {what}" if number else ""
    err.print(line)


def _print_result(result: CurationResult, seconds: float) -> None:
    """Print the version, what each stage did, and what was dropped."""
    body = result.manifest.body
    rows = []
    for report in result.reports:
        rate = f"{report.num_computed / report.wall_s:.0f}" if report.num_computed and report.wall_s else ""
        memory = f"{report.peak_memory_bytes / 2**20:.0f}"
        rows.append((report.stage.name, report.num_computed, report.num_reused, f"{report.wall_s:.1f}", rate, memory))
    print_table("stages", ("stage", ">computed", ">reused", ">seconds", ">samples/s", ">peak MiB"), rows)
    _print_fits(result)
    print_drops(result.manifest)
    counts = body["counts"]
    out.print(
        f"[bold]{result.ref}[/bold] {'made' if result.created else 'unchanged'} ({escape(result.why)}): "
        f"{counts['samples']} samples, {counts['captions']} captions, {counts['views']} views, {counts['negatives']} negatives, "
        f"{sum(shard['bytes'] for shard in body['shards']) / 2**20:.1f} MiB in {len(body['shards'])} shard(s)"
    )
    print_caption_negatives(result.manifest)
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
    out.print(f"fingerprint {result.manifest.fingerprint} · {seconds:.1f} s" + (f" ({parts})" if parts else ""))


def _print_fits(result: CurationResult) -> None:
    """Print which fits of earlier versions were kept, and which stages were fitted anew and why."""
    fits = [(report.stage.name, report.fit) for report in result.reports if report.fit is not None]
    if kept := [f"{name} ({fit.learned_on})" for name, fit in fits if fit.learned_on]:
        out.print(f"fits kept: {', '.join(kept)}")
    for name, fit in fits:
        if not fit.learned_on and fit.why != FIRST_FIT:
            out.print(f"fitted anew: {name}, {escape(fit.why)}")


def print_drops(manifest: Manifest) -> None:
    """Print how many samples and texts were dropped or refused, by stage and reason."""
    counts = manifest.body["counts"]
    _print_reasons("dropped (listed in dropped.parquet)", counts["dropped"])
    if not counts["dropped"]:
        out.print("dropped: none")
    _print_reasons("texts refused (listed in rejected.parquet)", counts.get("rejected", {}))
    for stage, usage in manifest.body["statistics"].get("usage", {}).items():
        if usage:
            out.print(
                f"{stage}: " + ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in usage.items())
            )


def print_caption_negatives(manifest: Manifest) -> None:
    """Print how many negatives captions have, what became of each stage's, and why captions have none."""
    if (found := CaptionNegatives.of(manifest.body["statistics"])) is None:
        return
    rows = [
        (one.name, f"{one.captions:,}", f"{one.made:,}", f"{one.kept:,}", counts_in_words(one.lost))
        for one in found.generators
    ]
    print_table("negatives by the stage that made them", ("stage", ">captions", ">made", ">kept", "lost"), rows)
    if found.without:
        out.print(f"captions without a negative, by the last reason: {counts_in_words(found.without)}")
    out.print(f"negatives per caption: {found.describe()}")


def counts_in_words(numbers: Mapping[str, int]) -> str:
    """Return names with their numbers, the largest first."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {number:,}" for name, number in ordered)


def print_blind_accuracy(manifest: Manifest) -> None:
    """Print how often judges that see only text pick the caption rather than the negative."""
    judges = manifest.body["statistics"].get("quality", {}).get("blind_accuracy", {})
    if judges:
        title = "blind accuracy in %: caption against negative from text alone (chance 50; 95 % intervals)"
        rows = ([name, *shares] for name, shares in blind_rows(judges))
        print_table(title, ("negatives", *(f">{name}" for name in judges)), rows)


def _print_reasons(title: str, by_stage: Mapping[str, Mapping[str, int]]) -> None:
    rows = (
        (stage, reason, number)
        for stage, reasons in by_stage.items()
        for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    )
    print_table(title, ("by", "reason", ">number"), rows)
