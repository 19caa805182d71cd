"""What a curation run prints when it is done: the version, its stages, what was dropped and refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.markup import escape

from data_manifests.manifest import Manifest
from flows.terminal.console import err, out, table

if TYPE_CHECKING:
    from curation.llm.batch_files import ImportReport
    from flows.execution.jobs import Outcome


def print_answers(report: ImportReport) -> None:
    """Say what a file of answers held."""
    told = f"answers: {report.num_answers:,} usable, {report.num_new:,} new"
    for number, what in (
        (report.refused, "refused by the model"),
        (report.num_faulty, "unusable, to be asked again"),
        (report.num_unknown, "about other questions"),
        (report.num_malformed, f"malformed (lines {', '.join(map(str, report.malformed_lines))} ...)"),
    ):
        told += f", {number:,} {what}" if number else ""
    err.print(told)


def print_outcome(outcome: Outcome, seconds: float) -> None:
    """Print the version, what each stage did, and what was dropped."""
    body = outcome.manifest.body
    if outcome.reports:
        made = table("stages", "stage", ">computed", ">reused", ">seconds", ">samples/s", ">peak MiB")
        for report in outcome.reports:
            rate = f"{report.num_computed / report.wall_s:.0f}" if report.num_computed and report.wall_s else ""
            memory = f"{report.peak_memory_bytes / 2**20:.0f}"
            made.add_row(
                report.stage.name,
                str(report.num_computed),
                str(report.num_reused),
                f"{report.wall_s:.1f}",
                rate,
                memory,
            )
        out.print(made)
    print_drops(outcome.manifest)
    counts = body["counts"]
    out.print(
        f"[bold]{outcome.ref}[/bold] {'made' if outcome.created else 'unchanged'} ({escape(outcome.why)}): "
        f"{counts['samples']} samples, {counts['captions']} captions, {counts['views']} views, {counts['negatives']} negatives, "
        f"{sum(shard['bytes'] for shard in body['shards']) / 2**20:.1f} MiB in {len(body['shards'])} shard(s)"
    )
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in outcome.seconds.items())
    out.print(f"fingerprint {outcome.manifest.fingerprint} · {seconds:.1f} s" + (f" ({parts})" if parts else ""))


def print_drops(manifest: Manifest) -> None:
    """Print how many were refused or dropped, by whom and why."""
    counts = manifest.body["counts"]
    _print_reasons("dropped (listed in dropped.parquet)", counts["dropped"])
    if not counts["dropped"]:
        out.print("dropped: none")
    _print_reasons("texts refused (listed in rejected.parquet)", counts.get("rejected", {}))
    for stage, usage in manifest.body["statistics"].get("usage", {}).items():
        out.print(f"{stage}: " + ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in usage.items()))


def print_blind_accuracy(manifest: Manifest) -> None:
    """Print how well text alone tells captions from negatives."""
    judges = manifest.body["statistics"].get("quality", {}).get("blind_accuracy", {})
    kinds = sorted({kind for found in judges.values() for kind in found} - {"num", "overall"})
    made = table("told from its caption by text alone (chance 50 %)", "negatives", *(f">{name}" for name in judges))
    for kind in ("overall", *kinds):
        made.add_row(kind, *(f"{100 * found[kind]:.1f} %" if kind in found else "" for found in judges.values()))
    if judges:
        out.print(made)


def _print_reasons(title: str, by_stage: Mapping[str, Mapping[str, int]]) -> None:
    made = table(title, "by", "reason", ">number")
    for stage, reasons in by_stage.items():
        for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            made.add_row(stage, reason, str(number))
    if made.rows:
        out.print(made)
