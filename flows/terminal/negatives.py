"""A version's negatives as printed: counts, blind accuracy, and some of them with their edits marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from data_manifests.manifest import DatasetVersion
from data_manifests.negatives import (
    NegativeDraw,
    NegativeFilter,
    ShownNegative,
    blind_gaps,
    draw_negatives,
    edit_pieces,
    read_negatives,
    shorten_pieces,
)
from flows.terminal.console import clean, edit_text, out, print_json, print_table, table
from flows.terminal.curation import print_blind_accuracy

_MAX_TEXT = 400
"""Most characters of a run of words that an edit left as it was."""


def print_negatives(version: DatasetVersion, wanted: NegativeFilter, limit: int, seed: int, *, as_json: bool) -> None:
    """Print how many negatives there are, their blind accuracy, and some drawn at random.

    Raises:
        InputError: the version has no negatives, or none of a wanted operation or type.
    """
    drawn = draw_negatives(version, wanted, limit, seed)
    shown = read_negatives(version, drawn)
    if as_json:
        print_json(_as_json(version, drawn, shown, seed))
        return
    _print_counts(version, drawn)
    print_blind_accuracy(version.manifest)
    _print_shown(shown, sum(drawn.matching.values()), seed, out)


def _as_json(version: DatasetVersion, drawn: NegativeDraw, shown: list[ShownNegative], seed: int) -> dict[str, object]:
    counts = [
        {"operation": kind[0], "type": kind[1], "number": number, "matching": drawn.matching[kind]}
        for kind, number in sorted(drawn.counts.items())
    ]
    return {
        "version": version.ref,
        "seed": seed,
        "counts": counts,
        "matching": sum(drawn.matching.values()),
        "blind_accuracy": version.manifest.body["statistics"].get("quality", {}).get("blind_accuracy", {}),
        "negatives": [item.to_json() for item in shown],
    }


def _print_counts(version: DatasetVersion, drawn: NegativeDraw) -> None:
    total = sum(drawn.counts.values())
    filtered = drawn.matching != drawn.counts
    rows = (
        [*(Text(clean(name)) for name in kind), f"{number:,}", *([f"{drawn.matching[kind]:,}"] if filtered else [])]
        for kind, number in sorted(drawn.counts.items(), key=lambda item: (-item[1], item[0]))
    )
    columns = ("operation", "type", ">number", *([">matching"] if filtered else []))
    print_table(f"{version.ref}: {total:,} negatives", columns, rows, out)


def _print_shown(shown: list[ShownNegative], matching: int, seed: int, console: Console) -> None:
    if not shown:
        console.print("no negative matches")
        return
    title = f"{len(shown):,} of {matching:,}, drawn with seed {seed}"
    made = table(title, "caption and negative", "what, and by which rule")
    made.columns[0].ratio, made.columns[1].ratio = 3, 2
    made.expand = made.show_lines = True
    for item in shown:
        pieces = shorten_pieces(edit_pieces(item.caption, item.record), _MAX_TEXT)
        before = edit_text([piece for piece in pieces if piece.kind != "added"], console)
        after = edit_text([piece for piece in pieces if piece.kind != "removed"], console)
        name = Text(f"{clean(item.name)} {item.uid[:8]}", "dim")
        made.add_row(Text("\n").join([before, after, name]), _facts(item.record))
    console.print(made)


def _facts(record: Mapping[str, Any]) -> Text:
    what = clean(f"{record['operation']} {record['span_class']}, {record['type']}")
    hard = "not graded" if record.get("difficulty") is None else f"difficulty {record['difficulty']:.3f}"
    gaps = clean(", ".join(f"{name} {gap:+.2f}" for name, gap in blind_gaps(record).items()))
    lines = [(what, "bold"), (hard, ""), (gaps and f"blind gaps {gaps}", ""), (clean(record["rule"]), "dim")]
    return Text("\n").join(Text(line, style) for line, style in lines if line)
