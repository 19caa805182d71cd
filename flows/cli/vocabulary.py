"""``clipcurate vocabulary``: files of words that exclude each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.cli.options import LimitOpt, SplitOpt
from flows.cli.settings import setting

app = typer.Typer(name="vocabulary", no_args_is_help=True, help="Files of words that exclude each other.")


@app.callback()
def _group() -> None:
    """Keep `suggest` a command of its own: a group of one command would be called by the group's name."""


@app.command()
def suggest(
    ctx: typer.Context,
    ref: Annotated[str | None, typer.Argument(metavar="[NAME@VER]")] = None,
    out: Annotated[Path, typer.Option("--out", help="the file to write")] = Path("vocabulary.toml"),
    source: Annotated[
        str | None, typer.Option("--source", help="KIND:PATH whose captions teach, instead of a version")
    ] = None,
    language: Annotated[str, setting("language", "language of the source's captions")] = "en",
    split: SplitOpt = None,
    limit: LimitOpt = None,
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="a model that proposes further classes, as comments: http://HOST:PORT/v1#MODEL"),
    ] = None,
) -> None:
    """Write what a version or a source teaches about words, as a file to edit and to give by --vocabulary."""
    from curation.llm.spec import open_language_model
    from flows.execution.jobs import CurateJob
    from flows.execution.suggest_vocabulary import suggest_from_source, suggest_from_version
    from flows.terminal.contrasts import write_suggestion
    from flows.terminal.curation import job_progress

    catalog: Catalog = ctx.obj
    if (ref is None) == (source is None):
        raise InputError(
            "vocabulary suggest: "
            + ("neither a version nor a source" if ref is None else f"{ref} and --source {source}"),
            allowed="one of NAME@VER and --source KIND:PATH",
            fix="for example clipcurate vocabulary suggest --source folder:photos",
        )
    if out.exists():
        raise InputError(f"--out {out}: the file exists", fix="choose another name, or remove it")
    model = None if llm is None else open_language_model(llm, catalog.workspace / "answers.sqlite")
    if ref is not None:
        found = suggest_from_version(catalog, catalog.open(ref))
    else:
        job = CurateJob(
            recipe="contrasts",
            source=source or "",
            name="vocabulary",
            workspace=str(catalog.workspace),
            manifests=str(catalog.manifests),
            language=language,
            split=split,
            limit=limit,
        )
        with job_progress() as events:
            found = suggest_from_source(job, events)
    write_suggestion(found, out, model)
