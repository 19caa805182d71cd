"""What `advise` prints: the source, its negatives by recipe, what was measured on data like it, and what to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.terminal.console import clean, out, print_json, print_table
from flows.terminal.curation import counts_in_words, job_progress

if TYPE_CHECKING:
    from flows.execution.advise import Advice, SourceFigures
    from flows.execution.jobs import CurateJob


def show_advice(job: CurateJob, *, as_json: bool = False) -> None:
    """Work out and print what to run first on a job's source."""
    from flows.execution.advise import advise

    with job_progress() as events:
        advice = advise(job, events)
    if as_json:
        print_json(advice.to_json())
        return
    _print_source(advice.figures)
    _print_measured(advice)
    out.print(f"[bold]run first: {advice.first}[/bold] ({advice.why})", highlight=False)
    for line in commands(advice, job):
        out.print(f"  {clean(line)}", markup=False, highlight=False, soft_wrap=True)
    for remark in advice.remarks:
        out.print(f"note: {remark}", markup=False, highlight=False)


def commands(advice: Advice, job: CurateJob) -> list[str]:
    """Return the commands to run, in order; what the user fills in is in capitals."""
    from flows.execution.advise import CONTROL

    recipe, _, data = advice.first.partition(" on ")
    source = f"--source {job.source}" + (f" --language {job.language}" if job.language != "en" else "")
    lines = [
        f"clipcurate curate {data or recipe} {source} --name NAME",
        f"clipcurate train NAME@1 --recipe {recipe} --model MODEL --out RUN",
    ]
    rows = list(dict.fromkeys([CONTROL, advice.first, *advice.next_to_try[:2]]))
    if len(rows) > 1:
        shown = [f'--variant "{name.replace(" on ", "-on-")}={name}"' if " on " in name else name for name in rows]
        lines.append(f"clipcurate compare {' '.join(shown)} {source} --model MODEL --on retrieval:HELD_OUT --out DIR")
    return lines


def _print_source(figures: SourceFigures) -> None:
    out.print(
        f"{figures.num_samples:,} images, {figures.num_captions:,} captions ({figures.captions_per_sample:.1f} an image, "
        f"{figures.words:g} words each); {figures.share_equal:.1%} of the captions stand at several images"
        + (f"; refused: {counts_in_words(figures.num_rejected)}" if figures.num_rejected else ""),
        highlight=False,
    )
    rows = (
        (name, f"{found.mean:.2f}", f"{found.share_with(1):.0%}", f"{found.share_with(3):.0%}")
        for name, found in figures.negatives.items()
    )
    title = f"hard negatives a caption, of {figures.num_tried:,} captions tried (more captions teach more)"
    print_table(title, ("recipe", ">mean", ">one or more", ">three or more"), rows, out)


def _print_measured(advice: Advice) -> None:
    nearest = advice.nearest
    tests = dict.fromkeys(one.test for row in nearest.rows for one in row.differences)
    lines = []
    for test in tests:
        found = [next((one for one in row.differences if one.test == test), None) for row in nearest.rows]
        lines.append([test, *("" if one is None else f"{one.value:+.1f}" + "*" * one.told_apart for one in found)])
    lines.append(["training takes", *("not measured" if row.times_longer is None else f"{row.times_longer:g}x" for row in nearest.rows)])
    lines.append(["gate", *("failed" if row.failed else "passed" for row in nearest.rows)])
    title = f"measured on {nearest.describe()} ({nearest.num_seeds} seed(s)): points over plain tuning; * found by a paired test"
    print_table(title, ("test", *(f">{row.recipe}" for row in nearest.rows)), lines, out)
    out.print(f"budget: {nearest.budget}", highlight=False)
