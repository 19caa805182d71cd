"""The commands that make something to read: the page of a version, run or comparison, and the data card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data_manifests.atomic_files import write_atomically
from data_manifests.manifest import Catalog, Manifest
from data_manifests.outputs import record_output
from flows.cli.options import RefArg
from flows.terminal.console import err, out, print_json

app = typer.Typer()


@app.command()
def report(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="NAME@VER|RUN|COMPARISON", help="a version, or a folder")],
    html: Annotated[Path, typer.Option("--html", help="the page to write")],
    evaluation: Annotated[
        list[Path] | None, typer.Option("--evaluation", help="results of evaluate --json to show; repeatable")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="with NAME@VER: a run on it, whose curves to show")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="which samples are drawn")] = 0,
) -> None:
    """Write one page with pictures, charts and results that needs no network, of a version, a run or a comparison."""
    from flows.pages.run import read_results

    results = [column for path in evaluation or () for column in read_results(path)]
    write_page(ctx.obj, target, html, evaluations=results, run=run, seed=seed)


@app.command()
def card(ctx: typer.Context, ref: RefArg) -> None:
    """Print a version's data card: sources, licences, stages with papers, statistics, quality, limits (Markdown)."""
    from data_manifests.data_card import card_text

    sys.stdout.write(card_text(Manifest.load(ctx.obj.manifest_path(*ctx.obj.resolve(ref))).body))


def write_page(catalog: Catalog, target: str, html: Path, **options: Any) -> None:
    """Write the page of a version, run or comparison, and print its path."""
    from flows.pages.build import report_html

    page = report_html(catalog, target, **options).encode()
    record_output(catalog.workspace, html, "report")
    write_atomically(html, page)
    err.print(f"wrote {html} ({html.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)


def show_diff(catalog: Catalog, old: str, new: str, html: Path | None, *, as_json: bool = False) -> None:
    """Print how two versions differ, and write the page to `html` if given."""
    from data_manifests.diff import diff_versions
    from flows.terminal.diff import print_diff

    before, after = catalog.open(old), catalog.open(new)
    difference = diff_versions(before, after)
    if html is not None:
        from flows.pages.diff import diff_html

        record_output(catalog.workspace, html, "diff")
        write_atomically(html, diff_html(difference, before, after).encode())
        err.print(f"wrote {html}")
    if as_json:
        print_json(difference.to_json())
    else:
        print_diff(difference, out)
