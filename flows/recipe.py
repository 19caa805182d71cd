"""Recipes: a paper's method as one value, found by file name, changed by `--set path=value`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.dedup.evaluation_sets import EvaluationSets, read_set
from curation.engine.stage import Stage
from curation.knowledge.open_graph import open_graph
from curation.llm.interface import LanguageModel
from curation.llm.spec import open_language_model
from curation.models.feedback_file import FeedbackFile
from curation.models.masked_model import TransformersMaskedModel
from curation.rewriting.rules import RuleWriter
from curation.stages.hygiene.check_images import CheckImages
from data_manifests.errors import InputError, nearest
from flows.overrides import Setting, change
from training.batches.epoch import Planner
from training.batches.text_sampling import CaptionViews, FurtherTexts
from training.config import TrainConfig
from training.false_negative_gate import PositiveGate
from training.hard_negatives import Negatives
from training.model.spec import ModelSpec
from training.objectives import Objective
from training.train_parts import TrainParts

DEFAULT_MODEL = "lite0_minilm"
"""Embeds when no --model is given: real towers that need no hub (extra `towers`)."""


@dataclass(frozen=True)
class Recipe:
    """How to curate and how to train: everything a paper's method is made of.

    Attributes:
        name: Also the name of its file and function in `flows/recipes`.
        paper: Author, year, venue, arXiv id.
        differs: What is done otherwise than in the paper, and why.
        stages: Curation, in order. Checking images always comes first.
        planner: Which samples meet in a batch.
        objectives: Terms of the loss.
        negatives: How a sample's negatives are chosen at each step; None trains without.
        views: How a caption and its rewrites and knowledge captions take turns; None shows captions only.
        positives: Further texts of each image, for objectives that want them.
        gate: Finds false negatives among the pairs of a batch.
        train: Numbers of the training run.
        needs_llm: Whether curation cannot run without ``--llm``.
        scene_settings: `--set` texts with which it runs on generated scenes, whose captions name no people.
    """

    name: str
    paper: str
    differs: str
    planner: Planner
    objectives: tuple[Objective, ...]
    train: TrainConfig
    stages: tuple[Stage, ...] = ()
    negatives: Negatives | None = None
    views: CaptionViews | None = None
    positives: FurtherTexts | None = None
    gate: PositiveGate | None = None
    needs_llm: bool = False
    scene_settings: tuple[str, ...] = ()

    def all_stages(self) -> tuple[Stage, ...]:
        """Return the stages that run, the image check included."""
        return (
            self.stages
            if any(isinstance(stage, CheckImages) for stage in self.stages)
            else (CheckImages(), *self.stages)
        )

    def train_parts(self) -> TrainParts:
        """Return what the trainer needs."""
        return TrainParts(
            self.name, self.planner, self.objectives, self.negatives, self.views, self.positives, self.gate
        )


def open_writer(llm: str | None, journal: str, slots: int, batch: str | None) -> LanguageModel | RuleWriter:
    """Return who rewrites.

    Args:
        llm: ``rules`` or None, or the spec of a language model.
        journal: File that answers are recorded in.
        slots: Requests under way at once.
        batch: Write unanswered requests to this file instead of asking.

    Raises:
        InputError: no such model, or a file of requests without one.
    """
    from curation.llm.batch_files import BatchModel

    model = open_language_model(llm or "rules", journal, slots)
    if batch and model is None:
        raise InputError(
            "--llm-batch without a language model",
            allowed="the name of the model that will answer",
            fix="add --llm URL#MODEL",
        )
    if model is None:
        return RuleWriter()
    return BatchModel(model.model, batch, journal) if batch else model


def open_against(specs: Sequence[str], workspace: str) -> EvaluationSets:
    """Return the evaluation sets that ``--against`` names.

    Raises:
        InputError: one cannot be read.
    """
    root = Path(workspace).absolute()
    return EvaluationSets(tuple(read_set(spec, root / "intake") for spec in dict.fromkeys(specs)), str(root / "store"))


def recipe_names() -> list[str]:
    """Return the names of all recipes: the modules of `flows.recipes`."""
    package = importlib.import_module("flows.recipes")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


@dataclass(frozen=True)
class RecipeInputs:
    """What recipes may ask for by the names of their arguments: `model`, `graph`, `writer`, `masked`, `against`, `feedback`.

    Attributes:
        model: Model spec for stages that embed; `DEFAULT_MODEL` if None.
        graph: Knowledge graph's file; None for the seed graph.
        llm: Who rewrites: ``rules``, an address with a model's name, ``vllm:MODEL``; None for rules.
        journal: File that a language model's answers are recorded in.
        llm_slots: Requests under way at once.
        llm_batch: Write unanswered requests to this file instead of asking.
        masked_model: Masked language model that fills blanks, by hub name or folder; None for none.
        against: Evaluation sets, ``KIND:PATH`` each.
        workspace: Where evaluation sets are read into, and their hashes kept.
        feedback: Run folder whose feedback on negatives is applied; None for none.
    """

    model: str | None = None
    graph: str | None = None
    llm: str | None = None
    journal: str = "workspace/answers.sqlite"
    llm_slots: int = 16
    llm_batch: str | None = None
    masked_model: str | None = None
    against: tuple[str, ...] = ()
    workspace: str = "workspace"
    feedback: str | None = None

    def make(self, name: str) -> Any:
        """Return the argument of this name."""
        if name == "model":
            return ModelSpec.parse(self.model or DEFAULT_MODEL)
        if name == "graph":
            return open_graph(self.graph)
        if name == "writer":
            return open_writer(self.llm, self.journal, self.llm_slots, self.llm_batch)
        if name == "masked":
            return None if self.masked_model is None else TransformersMaskedModel(self.masked_model)
        if name == "against":
            return open_against(self.against, self.workspace)
        if name == "feedback":
            return None if self.feedback is None else FeedbackFile.open(self.feedback)
        raise ValueError(f"a recipe may take model, graph, writer, masked, against and feedback, not '{name}'")


def load_recipe(name: str, inputs: RecipeInputs = RecipeInputs(), settings: Sequence[str] = ()) -> Recipe:
    """Return a recipe, with what it asks for filled in and `--set` applied.

    Args:
        name: Recipe's name.
        inputs: Model, graph and language model.
        settings: ``path=value`` texts.

    Raises:
        InputError: unknown recipe, model or path, or a value of the wrong type.
    """
    names = recipe_names()
    if name not in names:
        raise InputError(
            f"unknown recipe '{name}'" + (f"; {hint}" if (hint := nearest(name, names)) else ""),
            allowed=", ".join(names),
            fix="clipcurate recipes lists them with their papers",
        )
    make, arguments = _maker(name)
    if inputs.against and "against" not in arguments:
        raise InputError(
            f"--against {inputs.against[0]}: recipe '{name}' does not look for leaks",
            allowed="--against with a recipe that has the stage remove_leaks, such as dedup",
        )
    recipe = make(**{argument: inputs.make(argument) for argument in arguments})
    changed: Recipe = change(recipe, [Setting.parse(text) for text in settings])
    return changed


def recipe_arguments(name: str) -> tuple[str, ...]:
    """Return what a recipe asks for; see `RecipeInputs`."""
    return _maker(name)[1]


def _maker(name: str) -> tuple[Callable[..., Recipe], tuple[str, ...]]:
    make: Callable[..., Recipe] = getattr(importlib.import_module(f"flows.recipes.{name}"), name)
    return make, tuple(inspect.signature(make).parameters)
