"""The command that compares recipes."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from data_manifests.errors import InputError
from flows.cli.options import (
    AgainstOpt,
    FeedbackOpt,
    GraphOpt,
    JsonOpt,
    LlmOpt,
    MaskedOpt,
    SetOpt,
    SlotsOpt,
    SplitOpt,
    WorkersOpt,
    places,
)

app = typer.Typer()

SMOKE_RECIPES = (
    "negclip",
    "simclip",
    "ce_clip",
    "svlc",
    "laclip",
    "knowledge_clip",
    "m4",
    "fff",
    "s_clip_loss",
    "efficient_cl",
    "fsc_clip",
    "ahnm",
)
SMOKE_SCENES = (
    'm4=m4:stages.tag_attributes.columns=["scene.background.colour"];'
    'stages.balance_attributes.sensitive=["scene_background_colour:blue|scene_background_colour:green"]'
)
"""Nobody is in a scene, so that m4 balances what stands behind."""
OWN_OPTION = {"train.seed": "--seeds", "train.steps": "--steps"}
SMOKE_TRAIN = ("train.batch_size=16", "train.warmup_steps=2", "train.num_threads=1")


RowsArg = Annotated[list[str] | None, typer.Argument(metavar="RECIPE...", help="rows of the table")]
VersionOpt = Annotated[str | None, typer.Option("--name", help="NAME@VER that all train on")]
PoolOpt = Annotated[str | None, typer.Option("--source", help="KIND:PATH; each recipe is curated from it")]
StartOpt = Annotated[str | None, typer.Option("--model", help="model spec that all start from")]
StepsOpt = Annotated[int | None, typer.Option("--steps", min=1, help="optimiser steps of each cell")]
SeedsOpt = Annotated[str | None, typer.Option("--seeds", help="with commas between; default 0,1,2")]
OnOpt = Annotated[list[str] | None, typer.Option("--on", help="benchmark, KIND:SRC as evaluate has it; repeatable")]
VariantOpt = Annotated[
    list[str] | None,
    typer.Option("--variant", help="one more row, NAME=RECIPE:path=value;path=value; null takes a part out"),
]
PoolLimitOpt = Annotated[int | None, typer.Option("--limit", min=1, help="curate at most so many samples")]
OnSplitOpt = Annotated[str | None, typer.Option("--split-on", help="evaluate on this split, such as dev")]
OnLimitOpt = Annotated[int | None, typer.Option("--limit-on", min=1, help="evaluate on at most so many samples")]
FolderOpt = Annotated[Path, typer.Option("--out", help="folder of cells, comparison.json, table.md")]
ZeroShotOpt = Annotated[float, typer.Option("--gate-zero-shot", min=0, help="points that may be lost")]
RetrievalOpt = Annotated[float, typer.Option("--gate-retrieval", min=0, help="points of R@1 that may be lost")]
SmokeOpt = Annotated[bool, typer.Option("--smoke", help="few steps, samples, one seed where not said otherwise")]

PlanOpt = Annotated[bool, typer.Option("--plan", help="say what would run, be reused and take, and stop")]


@app.command()
def compare(
    recipes: RowsArg = None,
    name: VersionOpt = None,
    source: PoolOpt = None,
    model: StartOpt = None,
    steps: StepsOpt = None,
    seeds: SeedsOpt = None,
    on: OnOpt = None,
    variants: VariantOpt = None,
    settings: SetOpt = None,
    split: SplitOpt = None,
    limit: PoolLimitOpt = None,
    split_on: OnSplitOpt = None,
    limit_on: OnLimitOpt = None,
    folder: FolderOpt = Path("comparison"),
    gate_zero_shot: ZeroShotOpt = 2.0,
    gate_retrieval: RetrievalOpt = 3.0,
    graph: GraphOpt = None,
    llm: LlmOpt = None,
    llm_slots: SlotsOpt = 16,
    masked_model: MaskedOpt = None,
    against: AgainstOpt = None,
    feedback: FeedbackOpt = None,
    workers: WorkersOpt = 0,
    smoke: SmokeOpt = False,
    plan: PlanOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Train recipes under one budget beside controls, evaluate them, and print one table with intervals and a gate."""
    from flows.comparison.cells import Benchmarks
    from flows.comparison.estimate import show_comparison_plan
    from flows.comparison.job import CompareJob
    from flows.comparison.run import run_compare
    from flows.comparison.statistics import Gate
    from flows.comparison.variants import read_seeds, rows_of
    from flows.execution.jobs import CurateJob

    asked = Asked(
        recipes or [], variants or [], name, source, model, steps, seeds, on or [], settings or [], limit, limit_on
    )
    asked = asked.checked(smoke=smoke)
    curation = CurateJob("clip", asked.source or "", "", str(places.workspace), str(places.manifests), asked.model)
    curation = replace(curation, graph=graph, llm=llm, llm_slots=llm_slots, masked_model=masked_model, split=split)
    curation = replace(curation, limit=asked.limit, workers=workers, against=tuple(against or ()), feedback=feedback)
    job = CompareJob(
        tuple(rows_of(asked.recipes, asked.variants)),
        read_seeds(asked.seeds or "0,1,2"),
        str(asked.model),
        (*asked.settings, f"train.steps={asked.steps}"),
        Benchmarks(tuple(dict.fromkeys(asked.on)), split_on, asked.limit_on, places.catalog),
        folder,
        name,
        curation,
        Gate(gate_zero_shot, gate_retrieval),
        shlex.join(["clipcurate", *sys.argv[1:]]),
    )
    if plan:
        show_comparison_plan(job, as_json=as_json)
        return
    raise typer.Exit(0 if run_compare(job, as_json=as_json) else 1)


@dataclass(frozen=True)
class Asked:
    """What `--smoke` fills in and what must be there, as it was typed."""

    recipes: list[str]
    variants: list[str]
    name: str | None
    source: str | None
    model: str | None
    steps: int | None
    seeds: str | None
    on: list[str]
    settings: list[str]
    limit: int | None
    limit_on: int | None

    def checked(self, *, smoke: bool) -> Asked:
        """Return it with what `--smoke` adds.

        Raises:
            InputError: something is missing, or given twice.
        """
        asked = self._smoked() if smoke else self
        if not asked.on:
            raise InputError("compare: nothing to evaluate on", allowed="one or more --on KIND:SRC",
                             fix="for example --on scenes:500@1")  # fmt: skip
        if (asked.name is None) == (asked.source is None):
            raise InputError(
                "compare: --name and --source" if asked.name else "compare: neither --name nor --source",
                allowed="--name NAME@VER, or --source KIND:PATH",
            )
        if asked.model is None or asked.steps is None:
            raise InputError(
                f"compare: no {'--model' if asked.model is None else '--steps'}",
                allowed="one model and one number of steps for all rows",
                fix="for example --model lite0_minilm --steps 120",
            )
        for setting in asked.settings:
            option = OWN_OPTION.get(setting.partition("=")[0])
            if option:
                raise InputError(f"--set {setting}", allowed=f"{option}, one for all rows", fix=f"give {option}")
        return asked

    def _smoked(self) -> Asked:
        """Return what was asked, with a little of everything that was not."""
        recipes, variants = list(self.recipes), list(self.variants)
        if not recipes and not variants:
            recipes = list(SMOKE_RECIPES)
        if self.name is None and self.source is None and "m4" in recipes:  # scenes name no genders
            recipes.remove("m4")
            variants.append(SMOKE_SCENES)
        return replace(
            self,
            recipes=recipes,
            variants=variants,
            source=self.source or (None if self.name else "scenes:160@3"),
            model=self.model or "tiny",
            steps=self.steps or 5,
            seeds=self.seeds or "0",
            on=self.on or ["scenes:80@1"],
            settings=[*SMOKE_TRAIN, *self.settings],
            limit=self.limit or 160,
            limit_on=self.limit_on or 80,
        )
