"""Recipes: a paper's method as one value, found by file name, changed by `--set path=value`."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from curation.stage import Stage
from curation.stages.check_images import CheckImages
from data_manifests.errors import InputError, nearest
from training.config import TrainConfig, TrainParts
from training.mining import Negatives
from training.model import ModelSpec
from training.objectives import Objective
from training.plan import Planner

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
        train: Numbers of the training run.
    """

    name: str
    paper: str
    differs: str
    planner: Planner
    objectives: tuple[Objective, ...]
    train: TrainConfig
    stages: tuple[Stage, ...] = ()
    negatives: Negatives | None = None

    def all_stages(self) -> tuple[Stage, ...]:
        """Return the stages that run, the image check included."""
        return (
            self.stages
            if any(isinstance(stage, CheckImages) for stage in self.stages)
            else (CheckImages(), *self.stages)
        )

    def train_parts(self) -> TrainParts:
        """Return what the trainer needs."""
        return TrainParts(self.name, self.planner, self.objectives, self.negatives)


def recipe_names() -> list[str]:
    """Return the names of all recipes: the modules of `flows.recipes`."""
    package = importlib.import_module("flows.recipes")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load_recipe(name: str, model: str | None = None, settings: Sequence[str] = ()) -> Recipe:
    """Return a recipe, with its embedding model filled in and `--set` applied.

    Args:
        name: Recipe's name.
        model: Model spec for stages that embed; `DEFAULT_MODEL` if None.
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
    make: Callable[[ModelSpec], Recipe] = getattr(importlib.import_module(f"flows.recipes.{name}"), name)
    recipe = make(ModelSpec.parse(model or DEFAULT_MODEL))
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting!r} has no '='", allowed="--set path=value, for example train.lr=1e-4")
        recipe = change(recipe, path.split("."), value, f"--set {setting}")
    return recipe


def change(target: Any, path: Sequence[str], text: str, where: str) -> Any:
    """Return a copy of a dataclass (or of a tuple of named ones) with the field at `path` set from text.

    Raises:
        InputError: no such field, or the text is no value of its type.
    """
    head, rest = path[0], path[1:]
    if isinstance(target, tuple):
        known = {item.name: place for place, item in enumerate(target)}
        if head not in known or not rest:
            raise _unknown(where, head, known)
        place = known[head]
        return (*target[:place], change(target[place], rest, text, where), *target[place + 1 :])
    fields = {item.name for item in dataclasses.fields(target)} if dataclasses.is_dataclass(target) else set()
    if head not in fields:
        raise _unknown(where, head, fields)
    old = getattr(target, head)
    nested = isinstance(old, tuple) and bool(old) and dataclasses.is_dataclass(old[0])
    if not rest and (nested or (dataclasses.is_dataclass(old) and not isinstance(old, ModelSpec))):
        inner = [item.name for item in old] if nested else [item.name for item in dataclasses.fields(old)]
        raise InputError(f"{where}: '{head}' is not a value", allowed=", ".join(f"{head}.{name}" for name in inner))
    new = change(old, rest, text, where) if rest else _parse(text, old, where)
    return dataclasses.replace(target, **{head: new})


def _unknown(where: str, name: str, known: Any) -> InputError:
    hint = nearest(name, known)
    return InputError(
        f"{where}: no field '{name}'" + (f"; {hint}" if hint else ""), allowed=", ".join(sorted(known)) or "(none)"
    )


def _parse(text: str, old: Any, where: str) -> Any:
    """Read a value of the same type as the one it replaces."""
    if isinstance(old, str):
        return text
    if isinstance(old, ModelSpec):
        return ModelSpec.parse(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(old) and old is not None:
        raise InputError(f"{where}: {text!r} is no {type(old).__name__}", allowed=f"a value like {old!r}")
    return value
