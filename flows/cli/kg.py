"""``clipcurate kg``: compile a knowledge graph and look into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import JsonOpt

app = typer.Typer(name="kg", no_args_is_help=True, help="Compile a knowledge graph and look into it.")

FilesOpt = list[Path] | None


@app.command()
def build(
    out: Annotated[Path, typer.Option("--out", help="the store file to write")],
    assertions: Annotated[
        FilesOpt, typer.Option("--assertions", help="ConceptNet 5.7 assertions, .csv or .csv.gz; may be repeated")
    ] = None,
    conceptnet_lite: Annotated[
        FilesOpt, typer.Option("--conceptnet-lite", help="a database that conceptnet-lite built; may be repeated")
    ] = None,
    visual_genome: Annotated[
        FilesOpt, typer.Option("--visual-genome", help="folder of relationships.json, attributes.json; may be repeated")
    ] = None,
    visualsem: Annotated[
        FilesOpt, typer.Option("--visualsem", help="folder of nodes.v2.json, tuples.v2.json; may be repeated")
    ] = None,
    triples: Annotated[FilesOpt, typer.Option("--triples", help="CSV of head,relation,tail; may be repeated")] = None,
    languages: Annotated[list[str] | None, typer.Option("--languages", help="both ends are of this language")] = None,
    relations: Annotated[
        list[str] | None, typer.Option("--relations", help="only these, such as IsA,UsedFor; may be repeated")
    ] = None,
    min_weight: Annotated[float | None, typer.Option("--min-weight", help="only edges at least this heavy")] = None,
    license_name: Annotated[str, typer.Option("--license", help="of triples that state none")] = "unknown",
    as_json: JsonOpt = False,
) -> None:
    """Compile ConceptNet, conceptnet-lite, Visual Genome, VisualSem or triples into one store."""
    from curation.knowledge.build import GraphSource
    from flows.terminal.kg import build as run
    from flows.terminal.kg import keep_of

    keep = keep_of(languages or ["en"], relations, min_weight, license_name)
    sources = [GraphSource("assertions", path) for path in assertions or ()]
    sources += [GraphSource("conceptnet-lite", path) for path in conceptnet_lite or ()]
    sources += [GraphSource("visual-genome", path) for path in visual_genome or ()]
    sources += [GraphSource("visualsem", path) for path in visualsem or ()]
    sources += [GraphSource("triples", path) for path in triples or ()]
    run(sources, out, keep, as_json=as_json)


@app.command()
def info(
    graph: Annotated[str, typer.Argument(metavar="FILE", help="a store, a conceptnet-lite database, or 'seed'")],
    concepts: Annotated[list[str] | None, typer.Argument(metavar="CONCEPT...", help="show the edges of these")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="edges shown for each concept and direction")] = 20,
    as_json: JsonOpt = False,
) -> None:
    """Show a graph's relations, licences and hash, and the edges of some concepts."""
    from flows.terminal.kg import info as run

    run(graph, concepts or [], limit, as_json=as_json)
