"""The command that compares recipes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.cli.options import CurationOptions, JsonOpt, PrefectOpt, expand_options
from flows.cli.settings import command_text

if TYPE_CHECKING:
    from flows.comparison.request import CompareRequest

app = typer.Typer()

SMOKE_TRAIN = ("train.batch_size=16", "train.warmup_steps=2", "train.num_threads=1")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(CurationOptions):
    """Options of compare: what is trained, on what, and how it is evaluated."""

    recipes: Annotated[
        list[str] | None, typer.Argument(metavar="RECIPE...", help="rows of the table: names, or FILE.py[:NAME]")
    ] = None
    name: Annotated[str | None, typer.Option("--name", help="NAME@VER that all train on")] = None
    source: Annotated[str | None, typer.Option("--source", help="KIND:PATH; each recipe is curated from it")] = None
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="optimiser steps of each cell")] = None
    seeds: Annotated[str | None, typer.Option("--seeds", help="separated by commas; default 0,1,2")] = None
    on: Annotated[list[str] | None, typer.Option("--on", help="benchmark KIND:SRC as in evaluate; repeatable")] = None
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            help="one more row, NAME=RECIPE:path=value;path=value; null removes a part; RECIPE on DATA trains on another recipe's data",
        ),
    ] = None
    split_on: Annotated[str | None, typer.Option("--split-on", help="evaluate on this split, such as dev")] = None
    choose_on: Annotated[
        list[str] | None,
        typer.Option(
            "--choose-on",
            help="benchmark KIND:SRC that chooses the share; repeatable; default: retrieval and zero-shot of --on",
        ),
    ] = None
    choose_split: Annotated[
        str | None, typer.Option("--choose-split", help="the share is chosen on this split; default that of --split-on")
    ] = None
    keep_within: Annotated[
        float, typer.Option("--keep-within", min=0, help="points of R@1 and zero-shot the reported share may lose")
    ] = 1.0
    limit_on: Annotated[int | None, typer.Option("--limit-on", min=1, help="evaluate on at most so many samples")] = (
        None
    )
    folder: Annotated[Path, typer.Option("--out", help="folder of cells, comparison.json, table.md")] = Path(
        "comparison"
    )
    gate_zero_shot: Annotated[float, typer.Option("--gate-zero-shot", min=0, help="points that may be lost")] = 2.0
    gate_retrieval: Annotated[float, typer.Option("--gate-retrieval", min=0, help="points of R@1 that may be lost")] = (
        3.0
    )

    def with_smoke_defaults(self) -> CompareOptions:
        """Return the options with few steps and samples wherever nothing was given."""
        return replace(
            self,
            source=self.source or (None if self.name else "scenes:160@3"),
            model=self.model or "tiny",
            steps=self.steps or 5,
            seeds=self.seeds or "0",
            on=self.on or ["scenes:80@1"],
            settings=[*SMOKE_TRAIN, *(self.settings or ())],
            limit=self.limit or 160,
            limit_on=self.limit_on or 80,
        )

    def request(self, catalog: Catalog, command: str, *, smoke: bool) -> CompareRequest:
        """Return what the options ask for.

        Args:
            catalog: Workspace and manifests.
            command: The command line or call, for the record.
            smoke: Whether it is a smoke test, which takes all recipes where none is named.

        Raises:
            InputError: no model, no number of steps, or seeds that are none.
        """
        from flows.comparison.request import CompareRequest, check_data
        from flows.comparison.variants import read_seeds

        check_data(self.name, self.source)
        if self.model is None or self.steps is None:
            raise InputError(
                f"compare: no {'--model' if self.model is None else '--steps'}",
                allowed="one model and one number of steps for all rows",
                fix="for example --model lite0_minilm --steps 120",
            )
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("folder", "seeds")}
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        given |= {name: given[name] or () for name in ("recipes", "variants", "on", "choose_on", "against", "settings")}
        places: dict[str, Any] = {"workspace": str(catalog.workspace), "manifests": str(catalog.manifests)}
        seeds = read_seeds(self.seeds or "0,1,2")
        return CompareRequest(**given, **places, seeds=seeds, out=str(self.folder), smoke=smoke, command=command)


@app.command()
@expand_options
def compare(
    ctx: typer.Context,
    options: CompareOptions,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="few steps, few samples, one seed wherever none is given")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="print what would run and be reused, with times, and stop")
    ] = False,
    prefect: PrefectOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Train recipes under one budget with controls, evaluate them, and print one table with intervals and a gate."""
    from flows.comparison.estimate import show_comparison_plan
    from flows.comparison.run import run_compare
    from flows.execution.prefect_server import start_prefect

    options = options.with_smoke_defaults() if smoke else options
    request = options.request(ctx.obj, command_text(ctx), smoke=smoke)
    job = request.job()
    if plan:
        show_comparison_plan(job, as_json=as_json)
        return
    if prefect:
        start_prefect("leave out --prefect")
        from flows.compare import compare_in_flow

        complete = compare_in_flow(request, as_json=as_json)
    else:
        complete = run_compare(job, as_json=as_json)
    raise typer.Exit(0 if complete else 1)
