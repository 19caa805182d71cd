"""The command that says which recipe to run first."""

from __future__ import annotations

from typing import Annotated

import typer

from curation.sources import KINDS
from data_manifests.manifest import Catalog
from flows.cli.options import JsonOpt, LimitOpt, SplitOpt
from flows.cli.settings import setting

app = typer.Typer()


@app.command()
def advise(
    ctx: typer.Context,
    source: Annotated[str, typer.Option("--source", help=f"KIND:PATH, KIND one of {' '.join(KINDS)}")],
    language: Annotated[str, setting("language", "language of the captions, as in curate")] = "en",
    graph: Annotated[str | None, setting("graph", "knowledge graph, as in curate")] = None,
    vocabulary: Annotated[str | None, setting("vocabulary", "file of words, as in curate")] = None,
    split: SplitOpt = None,
    limit: LimitOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Say which recipe to run first on a source: what it bought on data of its size, and what its captions give."""
    from flows.execution.jobs import CurateJob
    from flows.terminal.advice import show_advice

    catalog: Catalog = ctx.obj
    job = CurateJob(
        recipe="clip",
        source=source,
        name="advise",
        workspace=str(catalog.workspace),
        manifests=str(catalog.manifests),
        language=language,
        graph=graph,
        vocabulary=vocabulary,
        split=split,
        limit=limit,
    )
    show_advice(job, as_json=as_json)
