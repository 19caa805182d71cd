"""The command that compares recipes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.cli.options import CurationOptions, JsonOpt, PrefectOpt, expand_options
from flows.cli.settings import command_text

if TYPE_CHECKING:
    from flows.comparison.cells import Benchmarks
    from flows.comparison.job import CompareJob
    from flows.comparison.variants import Variant

app = typer.Typer()

SMOKE_TRAIN = ("train.batch_size=16", "train.warmup_steps=2", "train.num_threads=1")
OPTION_OF_SETTING = {"train.seed": "--seeds", "train.steps": "--steps"}


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

    def rows(self, *, smoke: bool) -> list[Variant]:
        """Return the rows of the table; a smoke test without any has every recipe that can run in it."""
        from flows.comparison.variants import make_rows
        from flows.recipe import load_recipe
        from flows.recipe_finding import own_recipe_names

        recipes = list(self.recipes or ())
        if not smoke:
            return make_rows(recipes, self.variants or ())
        if not recipes and not self.variants:
            recipes = [name for name in own_recipe_names() if self.llm or not load_recipe(name).needs_llm]
        rows = make_rows(recipes, self.variants or ())
        if not (self.source or "").startswith("scenes:"):
            return rows
        return [replace(row, settings=(*load_recipe(row.curated_by).scene_settings, *row.settings)) for row in rows]

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

    def compare_job(self, catalog: Catalog, command: str, *, smoke: bool) -> CompareJob:
        """Return the job that the options describe.

        Args:
            catalog: Workspace and manifests.
            command: The command line or call, for the record.
            smoke: Whether it is a smoke test, which takes all recipes where none is named.

        Raises:
            InputError: something is missing, or given twice.
        """
        from flows.comparison.job import CompareJob
        from flows.comparison.rows import ComparisonGate
        from flows.comparison.variants import read_seeds

        if (self.name is None) == (self.source is None):
            raise InputError(
                "compare: --name and --source" if self.name else "compare: neither --name nor --source",
                allowed="--name NAME@VER, or --source KIND:PATH",
            )
        if self.model is None or self.steps is None:
            raise InputError(
                f"compare: no {'--model' if self.model is None else '--steps'}",
                allowed="one model and one number of steps for all rows",
                fix="for example --model lite0_minilm --steps 120",
            )
        settings = self.settings or []
        for setting in settings:
            if option := OPTION_OF_SETTING.get(setting.partition("=")[0]):
                raise InputError(f"--set {setting}", allowed=f"{option}, one for all rows", fix=f"give {option}")
        return CompareJob(
            tuple(self.rows(smoke=smoke)),
            read_seeds(self.seeds or "0,1,2"),
            self.model,
            (*settings, f"train.steps={self.steps}"),
            self._benchmarks(catalog),
            self.folder,
            self.name,
            self.curate_job(catalog, recipe="clip", source=self.source or "", name=""),
            ComparisonGate(self.gate_zero_shot, self.gate_retrieval),
            self.keep_within,
            command,
        )

    def _benchmarks(self, catalog: Catalog) -> Benchmarks:
        """Return what is reported and what chooses the share.

        Raises:
            InputError: no benchmark, an unknown kind, or none that can choose the share.
        """
        from flows.comparison.cells import Benchmarks
        from flows.comparison.shares import find_choosing
        from flows.evaluation.registry import check_kind

        if not self.on:
            raise InputError(
                "compare: nothing to evaluate on",
                allowed="one or more --on KIND:SRC",
                fix="for example --on scenes:500@1",
            )
        for option, texts in (("--on", self.on), ("--choose-on", self.choose_on or ())):
            for text in texts:
                check_kind(text, option)
        on, split = tuple(dict.fromkeys(self.on)), self.split_on
        choose_on = find_choosing(on, self.choose_on or ())
        return Benchmarks(on, split, choose_on, self.choose_split or split, self.limit_on, catalog)


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

    job = (options.with_smoke_defaults() if smoke else options).compare_job(ctx.obj, command_text(ctx), smoke=smoke)
    if plan:
        show_comparison_plan(job, as_json=as_json)
        return
    if prefect:
        start_prefect("leave out --prefect")
        from flows.compare import compare_flow
    run = compare_flow if prefect else run_compare
    raise typer.Exit(0 if run(job, as_json=as_json) else 1)
