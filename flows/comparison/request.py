"""A comparison as it is asked for: flat values, by the command line, from Python or as parameters of the flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.comparison.cells import Benchmarks
from flows.comparison.job import CompareJob
from flows.comparison.rows import ComparisonGate
from flows.comparison.shares import find_choosing
from flows.comparison.variants import Variant, make_rows, read_seeds
from flows.evaluation.registry import check_kind
from flows.execution.jobs import CurateJob
from flows.recipe import load_recipe
from flows.recipe_finding import own_recipe_names

OPTION_OF_SETTING = {"train.seed": "--seeds", "train.steps": "--steps"}


def check_data(name: str | None, source: str | None) -> None:
    """Check that there is one kind of data.

    Raises:
        InputError: there is none, or two.
    """
    if (name is None) == (source is None):
        raise InputError(
            "compare: --name and --source" if name else "compare: neither --name nor --source",
            allowed="--name NAME@VER, or --source KIND:PATH",
        )


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """What is compared, on what, and how it is evaluated.

    Attributes:
        recipes: Rows of the table: names, or ``FILE.py[:NAME]``; ``clip``, the control, is always one.
        variants: Further rows, ``NAME=RECIPE:path=value;path=value`` each.
        name: ``NAME@VER`` that all rows train on; this or `source`.
        source: ``KIND:PATH``; each recipe is curated from it.
        model: Model spec that all rows start from.
        steps: Optimiser steps of each cell.
        seeds: Each row is trained once with each.
        on: Benchmarks, ``KIND:SRC`` each.
        split_on: Evaluate on this split of them, such as dev.
        choose_on: Benchmarks that choose the share; retrieval and zero-shot of `on` if empty.
        choose_split: The share is chosen on this split; `split_on` if empty.
        keep_within: Points of R@1 and zero-shot that the reported share may lose where it is chosen.
        limit_on: Evaluate on at most so many samples.
        out: Folder of cells, comparison.json and table.md.
        gate_zero_shot: Points of zero-shot accuracy that may be lost against the pretrained model.
        gate_retrieval: Points of R@1 that may be lost against the pretrained model.
        graph: Knowledge graph; the seed graph if empty.
        llm: What rewrites captions; rules if empty.
        masked_model: Masked language model for fills; none if empty.
        llm_slots: Concurrent requests of each worker.
        against: Evaluation sets whose images must not be in the data.
        feedback: Run folder whose feedback on negatives the recipes apply.
        vocabulary: TOML file with words that exclude each other, synonyms, words to keep.
        language: Language of the captions.
        edits: JSON Lines file of corrections.
        split: Only this split of the source.
        limit: At most so many samples of the source.
        workers: Processes; 0 means one for each core.
        settings: ``--set`` texts for all rows.
        smoke: Whether all recipes are compared where none is named, and drawn scenes get what the recipes set for them.
        command: The command line or call, for the record.
        workspace: Folder of store, shards and runs.
        manifests: Folder of manifests.
    """

    recipes: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    name: str | None = None
    source: str | None = None
    model: str
    steps: int
    seeds: tuple[int, ...] = (0, 1, 2)
    on: tuple[str, ...]
    split_on: str | None = None
    choose_on: tuple[str, ...] = ()
    choose_split: str | None = None
    keep_within: float = 1.0
    limit_on: int | None = None
    out: str = "comparison"
    gate_zero_shot: float = 2.0
    gate_retrieval: float = 3.0
    graph: str | None = None
    llm: str | None = None
    masked_model: str | None = None
    llm_slots: int = 16
    against: tuple[str, ...] = ()
    feedback: str | None = None
    vocabulary: str | None = None
    language: str = "en"
    edits: str | None = None
    split: str | None = None
    limit: int | None = None
    workers: int = 0
    settings: tuple[str, ...] = ()
    smoke: bool = False
    command: str = "flow compare"
    workspace: str = "workspace"
    manifests: str = "data_manifests"

    def job(self) -> CompareJob:
        """Return the comparison that is asked for.

        Raises:
            InputError: something is missing, given twice, or no recipe, benchmark, seed or setting.
        """
        check_data(self.name, self.source)
        for setting in self.settings:
            if option := OPTION_OF_SETTING.get(setting.partition("=")[0]):
                raise InputError(f"--set {setting}", allowed=f"{option}, one for all rows", fix=f"give {option}")
        return CompareJob(
            tuple(self._rows()),
            read_seeds(",".join(map(str, self.seeds))),
            self.model,
            (*self.settings, f"train.steps={self.steps}"),
            self._benchmarks(),
            Path(self.out),
            self.name,
            self._curation(),
            ComparisonGate(self.gate_zero_shot, self.gate_retrieval),
            self.keep_within,
            self.command,
        )

    def _rows(self) -> Sequence[Variant]:
        """Return the rows of the table; a smoke test without any has every recipe that can run in it."""
        recipes = list(self.recipes)
        if not self.smoke:
            return make_rows(recipes, self.variants)
        if not recipes and not self.variants:
            recipes = [name for name in own_recipe_names() if self.llm or not load_recipe(name).needs_llm]
        rows = make_rows(recipes, self.variants)
        if not (self.source or "").startswith("scenes:"):
            return rows
        return [replace(row, settings=(*load_recipe(row.curated_by).scene_settings, *row.settings)) for row in rows]

    def _benchmarks(self) -> Benchmarks:
        """Return what is reported and what chooses the share.

        Raises:
            InputError: no benchmark, an unknown kind, or none that can choose the share.
        """
        if not self.on:
            raise InputError(
                "compare: nothing to evaluate on",
                allowed="one or more --on KIND:SRC",
                fix="for example --on scenes:500@1",
            )
        for option, texts in (("--on", self.on), ("--choose-on", self.choose_on)):
            for text in texts:
                check_kind(text, option)
        on, split = tuple(dict.fromkeys(self.on)), self.split_on
        choose_on, catalog = find_choosing(on, self.choose_on), Catalog(Path(self.manifests), Path(self.workspace))
        return Benchmarks(on, split, choose_on, self.choose_split or split, self.limit_on, catalog)

    def _curation(self) -> CurateJob:
        """Return source and options of curation; each row has its own recipe and name."""
        own = {item.name for item in fields(self)}
        shared = [item.name for item in fields(CurateJob) if item.name in own and item.name not in ("name", "source")]
        given = {name: value for name in shared if (value := getattr(self, name)) is not None}
        return CurateJob(recipe="clip", source=self.source or "", name="", **given)
