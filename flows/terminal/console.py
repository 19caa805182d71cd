"""Terminal output: tables and JSON on standard output, progress bars and messages on standard error."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from data_manifests.text_diff import DiffPiece

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from curation.engine.engine import Events

# in a notebook plain text as in a file: rich would show each line as HTML, and ask for ipywidgets
out = Console(force_jupyter=False)
err = Console(stderr=True, force_jupyter=False)

_STYLES = {"same": "", "removed": "red strike", "added": "green underline"}
_MARKS = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return foreign text without characters that control the terminal or change the reading direction."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def edit_text(pieces: Iterable[DiffPiece], console: Console) -> Text:
    """Return a text with removed words red and struck out, added words green and underlined.

    Without colours they are marked as ``[-removed-]`` and ``{+added+}``.
    """
    line = Text()
    plain = console.color_system is None
    for piece in pieces:
        text = clean(piece.text.rstrip())
        before, after = _MARKS[piece.kind] if plain else ("", "")
        line.append(f"{before}{text}{after}", _STYLES[piece.kind])
        line.append(piece.text[len(piece.text.rstrip()) :] and " ")
    return line


def print_json(value: Any) -> None:
    """Print one JSON document and nothing else."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def table(title: str, *columns: str) -> Table:
    """Return an empty table; columns named with a leading ``>`` are numbers, aligned to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in columns:
        made.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return made


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], console: Console = out) -> None:
    """Print a table, or nothing if it has no rows; cells are rich texts, or values whose text may contain markup."""
    made = table(title, *columns)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    if made.row_count:
        console.print(made)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show progress with remaining time on standard error, if that is a terminal; drawing costs up to a tenth of a short run."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    shown = err.is_terminal
    with Progress(*columns, console=err, transient=True, refresh_per_second=5, disable=not shown) as bars:
        yield bars


def bars_by_name(bars: Progress) -> Callable[..., None]:
    """Return a callback, ``report(what, done, total=0)``, that shows a bar for each `what`; 0 is an unknown total."""
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int = 0) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(escape(what), total=total or None)
        bars.update(tasks[what], completed=done, total=total or None)

    return report


def counter(bars: Progress, what: str) -> Callable[[int], None]:
    """Return a callback that shows a count without a known total."""
    return partial(bars_by_name(bars), what)


def stage_bars(bars: Progress) -> Events:
    """Return engine events shown as one bar for each stage; one that fits and then applies its fit gets more units."""
    from curation.engine.engine import Events, UnitReport
    from curation.engine.stage import Stage

    ids: dict[str, Any] = {}

    totals: dict[str, int] = {}

    def started(stage: Stage, num_units: int) -> None:
        totals[stage.name] = totals.get(stage.name, 0) + num_units
        if stage.name not in ids:
            ids[stage.name] = bars.add_task(stage.name)
        bars.update(ids[stage.name], total=totals[stage.name])

    def done(stage: Stage, _: UnitReport) -> None:
        bars.advance(ids[stage.name])

    return Events(started, done)
