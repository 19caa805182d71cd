"""Finding a recipe by what the user wrote: a name of ours, a name that another package offers, or ``FILE.py[:NAME]``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from data_manifests.errors import InputError, nearest
from data_manifests.plugins import (
    is_ours,
    load_offered,
    named_file,
    offered,
    offerer,
    open_file,
    origin_of,
    place_of,
    plugin_error,
)

RECIPE_ARGUMENTS = ("model", "graph", "writer", "masked", "against", "feedback", "vocabulary")
"""Arguments that a recipe's function may have; see `flows.recipe.RecipeInputs`."""


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe's function.

    Attributes:
        name: The recipe's name: that of the function.
        make: The function.
        arguments: Those of its arguments that are filled in.
    """

    name: str
    make: Callable[..., Any]
    arguments: tuple[str, ...]

    @property
    def is_plugin(self) -> bool:
        """Whether it comes from outside clipcurate."""
        return not is_ours(self.make)

    @property
    def origin(self) -> dict[str, str]:
        """Where it comes from, as the manifest has it; empty for ours."""
        return origin_of(self.make.__module__) if self.is_plugin else {}

    def describe(self) -> str:
        """Return name and place, for messages."""
        return f"recipe '{self.name}'" + (f" ({place_of(self.make)})" if self.is_plugin else "")

    def call(self, values: Mapping[str, Any]) -> Any:
        """Call the function.

        Raises:
            InputError: a plug-in's function raises something.
        """
        if not self.is_plugin:
            return self.make(**values)
        try:
            return self.make(**values)
        except InputError:
            raise
        except Exception as error:
            raise plugin_error(f"{self.describe()} cannot be made", error, fix="correct its function") from error


def own_recipe_names() -> list[str]:
    """Return the names of clipcurate's own recipes: the modules of `flows.recipes`."""
    package = importlib.import_module("flows.recipes")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def recipe_names() -> list[str]:
    """Return the names of all recipes: our own, and those that installed packages offer."""
    return sorted({*own_recipe_names(), *offered("recipes")})


def shadowed_recipes() -> list[str]:
    """Return a sentence for each recipe of a package that has the name of one of ours, which counts."""
    return [
        f"recipe '{name}' of {offerer('recipes', name)} is not used: clipcurate has one of this name"
        for name in sorted({*own_recipe_names()} & {*offered("recipes")})
    ]


def find_recipe(text: str, where: str = "") -> FoundRecipe:
    """Return the recipe that a name or ``FILE.py[:NAME]`` stands for.

    Args:
        text: What the user wrote.
        where: What an error message begins with.

    Raises:
        InputError: there is none, or its file or package cannot be imported.
    """
    if (file := named_file(text)) is not None:
        module = open_file(file.path, where)
        return _found(_chosen(module, file.path.stem, file.rest, f"{where}{text}"))
    if text in own_recipe_names():
        return _found(getattr(importlib.import_module(f"flows.recipes.{text}"), text))
    names = recipe_names()
    if text not in names:
        raise InputError(
            f"{where}unknown recipe '{text}'" + (f"; {hint}" if (hint := nearest(text, names)) else ""),
            allowed=", ".join(names) + ", or a file of your own: FILE.py[:NAME]",
            fix="clipcurate recipes lists them with their papers",
        )
    made = load_offered("recipes", text)
    if not inspect.isfunction(made) or made.__name__ != text:
        raise InputError(
            f"{where}recipe '{text}' of {offerer('recipes', text)} is {_kind(made)}",
            allowed=f"an entry point that names a function {text}(...) -> Recipe",
            fix="correct that package's entry points",
        )
    return _found(made)


def recipe_label(text: str) -> str:
    """Return a recipe's name without the file it is in: a name for folders and tables.

    Raises:
        InputError: there is no such recipe.
    """
    return find_recipe(text).name if named_file(text) else text


def _found(make: Callable[..., Any]) -> FoundRecipe:
    parameters = inspect.signature(make).parameters.values()
    filled = [item for item in parameters if item.name in RECIPE_ARGUMENTS or item.default is inspect.Parameter.empty]
    found = FoundRecipe(make.__name__, make, tuple(item.name for item in filled))
    if unknown := [name for name in found.arguments if name not in RECIPE_ARGUMENTS]:
        raise InputError(
            f"{found.describe()}: its argument '{unknown[0]}' has no default",
            allowed=f"{', '.join(RECIPE_ARGUMENTS)}, which options fill in, and arguments with a default",
            fix=nearest(unknown[0], RECIPE_ARGUMENTS) or "give it a default",
        )
    return found


def _chosen(module: ModuleType, stem: str, name: str, where: str) -> Callable[..., Any]:
    """Return the function of a file: the one named; else the one called like the file; else the only one that gives a recipe."""
    own = {
        key: value
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    }
    recipes = [key for key, value in own.items() if re.search(r"\bRecipe\b", _returns(value))]
    chosen = name or (stem if stem in own else recipes[0] if len(recipes) == 1 else "")
    if chosen in own:
        return own[chosen]
    listed = ", ".join(recipes or own)
    raise InputError(
        f"{where}: " + (f"has no function '{name}'" if name else _several(recipes)),
        allowed=f"FILE.py:NAME, NAME one of {listed}" if listed else f"a file with a function {stem}(...) -> Recipe",
        fix=nearest(name, own) if name else "name one" if recipes else "clipcurate new recipe NAME writes one",
    )


def _several(recipes: Sequence[str]) -> str:
    return f"has {len(recipes)} recipes" if recipes else "has no function that returns a Recipe"


def _returns(function: Callable[..., Any]) -> str:
    found = function.__annotations__.get("return", "")
    return found if isinstance(found, str) else getattr(found, "__name__", str(found))


def _kind(value: Any) -> str:
    if inspect.isfunction(value):
        return f"a function '{value.__name__}'"
    return f"the class '{value.__name__}'" if inspect.isclass(value) else f"of type {type(value).__name__}"
