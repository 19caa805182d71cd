"""The commands that make something to read: the page of a version, run or comparison, and the data card."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flows.options import places

app = typer.Typer()


@app.command()
def card(ref: Annotated[str, typer.Argument(metavar="NAME@VER")]) -> None:
    """Print a version's data card: sources, licences, stages with papers, statistics, quality, limits (Markdown)."""
    from data_manifests.data_card import card_text
    from data_manifests.manifest import Manifest

    catalog = places.catalog
    sys.stdout.write(card_text(Manifest.load(catalog.manifest_path(*catalog.resolve(ref))).body))
