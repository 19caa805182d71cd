"""Recipes: a paper's method as one value, found by `flows.recipe_finding`, changed by `--set path=value`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.contrasts.vocabulary import VocabularyFile
from curation.dedup.evaluation_sets import EvaluationSets, read_set
from curation.engine.stage import Stage
from curation.knowledge.open_graph import open_graph
from curation.llm.interface import LanguageModel
from curation.llm.spec import open_language_model
from curation.models.feedback_file import FeedbackFile
from curation.models.masked_model import TransformersMaskedModel
from curation.rewriting.rules import RuleWriter
from curation.stages.hygiene.check_images import CheckImages
from curation.text.languages import ENGLISH, CaptionLanguage
from data_manifests.errors import InputError
from flows.overrides import Override, apply_overrides
from flows.recipe_check import check_parts, check_stages
from flows.recipe_finding import RECIPE_ARGUMENTS, find_recipe
from flows.recipe_language import stages_in_language
from flows.recipe_parts import named_parts
from training.batches.epoch import Planner
from training.batches.text_sampling import CaptionViews, FurtherTexts
from training.config import TrainConfig
from training.false_negative_gate import PositiveGate
from training.hard_negatives import Negatives
from training.model.spec import ModelSpec
from training.objectives.interface import Objective
from training.train_parts import TrainParts

DEFAULT_MODEL = "lite0_minilm"
"""Model spec without --model: pretrained towers that need no hub (extra `towers`)."""


@dataclass(frozen=True)
class Recipe:
    """How to curate and how to train: all parts of a paper's method.

    Attributes:
        name: Also the name of its file and function in `flows/recipes`.
        paper: Author, year, venue, arXiv id.
        differs: Differences from the paper, and why.
        stages: Curation, in order. Checking images always comes first.
        planner: Which samples form a batch.
        objectives: Terms of the loss.
        negatives: How a sample's hard negatives are chosen at each step; None for none.
        views: How the text of an image is drawn from captions, rewrites and knowledge captions; None for captions only.
        positives: More texts of each image, for objectives that need them.
        gate: Finds false negatives among the pairs of a batch.
        train: Numbers of the training run.
        in_turn: Whether the objectives take turns, one a step, instead of being added up.
        needs_llm: Whether curation cannot run without ``--llm``.
        scene_settings: `--set` texts with which it runs on generated scenes, whose captions name no people.
        language: The captions' language.
        left_out: Stages that are left out because they know English only.
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
    in_turn: bool = False
    needs_llm: bool = False
    scene_settings: tuple[str, ...] = ()
    language: CaptionLanguage = ENGLISH
    left_out: tuple[str, ...] = ()

    def all_stages(self) -> tuple[Stage, ...]:
        """Return the stages that run, the image check included."""
        has_check = any(isinstance(stage, CheckImages) for stage in self.stages)
        return self.stages if has_check else (CheckImages(), *self.stages)

    def train_parts(self) -> TrainParts:
        """Return what the trainer needs."""
        return TrainParts(
            self.name,
            self.planner,
            self.objectives,
            self.negatives,
            self.views,
            self.positives,
            self.gate,
            self.in_turn,
        )


def open_against(specs: Sequence[str], workspace: str) -> EvaluationSets:
    """Return the evaluation sets that ``--against`` names.

    Raises:
        InputError: one cannot be read.
    """
    root = Path(workspace).absolute()
    return EvaluationSets(tuple(read_set(spec, root / "intake") for spec in dict.fromkeys(specs)), str(root / "store"))


@dataclass(frozen=True, kw_only=True)
class RecipeInputs:
    """What recipes are built from, by the names of their arguments; see `argument`.

    Attributes:
        workspace: Folder of store, snapshots, answers and shards.
        model: Model spec for stages that embed; `DEFAULT_MODEL` if None.
        graph: Knowledge graph's file; None for the seed graph.
        llm: Language model that rewrites captions: ``rules``, an address with a model's name, ``vllm:MODEL``; None for rules.
        llm_slots: Concurrent requests of each worker.
        llm_batch: Write unanswered requests to this file instead of sending them.
        masked_model: Masked language model that fills blanks, by hub name or folder; None for none.
        against: Evaluation sets whose images must not be in the data set, ``KIND:PATH`` each.
        feedback: Run folder whose feedback on negatives is applied; None for none.
        vocabulary: File of what people have decided about words; None for none.
        language: Code of the captions' language.
    """

    workspace: str = "workspace"
    model: str | None = None
    graph: str | None = None
    llm: str | None = None
    llm_slots: int = 16
    llm_batch: str | None = None
    masked_model: str | None = None
    against: tuple[str, ...] = ()
    feedback: str | None = None
    vocabulary: str | None = None
    language: str = ENGLISH.code

    @property
    def journal(self) -> Path:
        """Where a language model's answers are recorded: inputs, not results, so not under ``store``."""
        return Path(self.workspace) / "answers.sqlite"

    def argument(self, name: str) -> Any:
        """Return the argument of this name: `model`, `graph`, `writer`, `masked`, `against`, `feedback` or `vocabulary`.

        Raises:
            InputError: a file or model cannot be used.
        """
        if name == "model":
            return ModelSpec.parse(self.model or DEFAULT_MODEL)
        if name == "graph":
            return open_graph(self.graph)
        if name == "writer":
            return self._writer()
        if name == "masked":
            return None if self.masked_model is None else TransformersMaskedModel.parse(self.masked_model)
        if name == "against":
            return open_against(self.against, self.workspace)
        opened = {"feedback": (self.feedback, FeedbackFile.open), "vocabulary": (self.vocabulary, VocabularyFile.open)}
        if name in opened:
            path, open_file = opened[name]
            return None if path is None else open_file(path)
        raise ValueError(f"a recipe may take {', '.join(RECIPE_ARGUMENTS)}, not '{name}'")

    def _writer(self) -> LanguageModel | RuleWriter:
        """Return what rewrites captions."""
        from curation.llm.batch_files import BatchModel

        journal = str(self.journal.absolute())
        model = open_language_model(self.llm or "rules", journal, self.llm_slots)
        if self.llm_batch and model is None:
            raise InputError(
                "--llm-batch without a language model",
                allowed="the name of the model that will answer",
                fix="add --llm URL#MODEL",
            )
        if model is None:
            return RuleWriter()
        return BatchModel(model.model, str(Path(self.llm_batch).absolute()), journal) if self.llm_batch else model


def load_recipe(text: str, inputs: RecipeInputs = RecipeInputs(), settings: Sequence[str] = ()) -> Recipe:
    """Return a recipe, built from `inputs` and changed by `--set`.

    Args:
        text: The recipe's name, or ``FILE.py[:NAME]``.
        inputs: Model, graph, language model and files.
        settings: ``path=value`` texts.

    Raises:
        InputError: unknown recipe, model, language or path, a value of the wrong type, a plug-in that is no recipe, stages
            that do not fit together, or a recipe whose negatives are made for English only.
    """
    found = find_recipe(text)
    if inputs.against and "against" not in found.arguments:
        raise InputError(
            f"--against {inputs.against[0]}: recipe '{found.name}' does not look for leaks",
            allowed="--against with a recipe that has the stage remove_leaks, such as dedup",
        )
    recipe = found.call({argument: inputs.argument(argument) for argument in found.arguments})
    if found.is_plugin:
        if not isinstance(recipe, Recipe):
            raise InputError(f"{found.describe()} returns {type(recipe).__name__}", allowed="a flows.recipe.Recipe")
        check_parts(recipe, found.name, found.describe())
    changed: Recipe = apply_overrides(recipe, [Override.parse(text) for text in settings], named_parts())
    check_stages(changed.all_stages(), found.describe())
    language = CaptionLanguage.parse(inputs.language)
    stages, left_out = stages_in_language(found.name, changed.stages, language, keep_graph=inputs.graph is not None)
    return replace(changed, stages=stages, language=language, left_out=left_out)
