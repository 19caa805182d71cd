"""The commands that make something to read: the page of a version, run or comparison, and the data card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import places

app = typer.Typer()


@app.command()
def report(
    target: Annotated[str, typer.Argument(metavar="NAME@VER|RUN|COMPARISON", help="a version, or a folder")],
    html: Annotated[Path, typer.Option("--html", help="the page that is written")],
    evaluation: Annotated[
        list[Path] | None, typer.Option("--evaluation", help="results of evaluate --json to show; repeatable")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="with NAME@VER: a run on it, whose curves to show")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="which samples are drawn")] = 0,
) -> None:
    """Write one page with pictures, charts and results that needs no network, of a version, a run or a comparison."""
    from flows.cli.commands import write_page
    from flows.pages.run import read_results

    found = [column for path in evaluation or () for column in read_results(path)]
    write_page(places.catalog, target, html, evaluations=found, run=run, seed=seed)


@app.command()
def card(ref: Annotated[str, typer.Argument(metavar="NAME@VER")]) -> None:
    """Print a version's data card: sources, licences, stages with papers, statistics, quality, limits (Markdown)."""
    from data_manifests.data_card import card_text
    from data_manifests.manifest import Manifest

    catalog = places.catalog
    sys.stdout.write(card_text(Manifest.load(catalog.manifest_path(*catalog.resolve(ref))).body))
