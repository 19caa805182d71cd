"""The command that opens a window on a version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import RefArg
from flows.terminal.console import err, out

app = typer.Typer()


@app.command("open")
def open_window(
    ctx: typer.Context,
    ref: RefArg,
    runs: Annotated[
        list[Path] | None, typer.Option("--runs", help="a run on it, whose losses and margins to show; repeatable")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="port on 127.0.0.1; 0 takes a free one")] = 0,
) -> None:
    """Open a window on a version: a page on this machine alone, in which samples are looked at, sorted and filtered."""
    from flows.window.opened import OpenedDataset
    from flows.window.server import serve

    dataset = OpenedDataset.open(ctx.obj, ref, runs or ())
    err.print("open this address; it has a key, so show it to nobody; Ctrl-C ends", markup=False)
    serve(dataset, port, lambda address: out.print(address, markup=False, soft_wrap=True, highlight=False))
