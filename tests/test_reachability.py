"""Nothing that no one can reach: a recipe, a command or a documented extension point leads to every part.

Parts that no recipe uses and no setting names yet stand in `WAITING`, each with what it waits for; nothing else is exempt. A part that gets
its recipe must leave the list.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from curation.stages import stage_classes
from flows.overrides import Override, apply_overrides
from flows.recipe import RecipeInputs, load_recipe
from flows.recipe_finding import own_recipe_names
from flows.recipe_parts import named_parts
from training.model.spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("curation", "data_manifests", "flows", "training")
WAITING: Mapping[str, str] = {"tables": "deployments, which will stand in a project's file"}
"""Name -> what it waits for."""

FOUND_BY_FILE = ("curation/sources", "flows/evaluation/benchmarks")
"""Folders whose files are what a user names on the command line; each holds a class."""

DOCUMENTED = {
    "stage_classes": "the stages there are; docs and tests walk them",
    "all_objectives": "the objectives there are; docs and tests walk them",
}
"""Functions that are there for who extends clipcurate."""

FOR_CALLERS_OUTSIDE = "flows/api/"
"""Here are the functions and classes of `import clipcurate`: docs/python.md has each of them with what it offers."""

LOADED_BY_OTHERS = {
    "redirect_request": "urllib calls it",
    "find_spec": "Python's import system calls it",
    "find_class": "an unpickler calls it",
    "__getattr__": "Python calls it for a name that a module does not have",
    "__dir__": "`dir` calls it",
    "watch": "torch calls it, as an entry point of the package",
}
"""Methods that a library calls."""


def modules() -> list[str]:
    """Return the dotted names of all modules of the four packages."""
    found = []
    for name in PACKAGES:
        package = importlib.import_module(name)
        found += [name, *(info.name for info in pkgutil.walk_packages(package.__path__, f"{name}."))]
    return found


@functools.cache
def trees() -> Mapping[Path, ast.Module]:
    """Return every file of the four packages, parsed."""
    paths = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def recipes() -> Iterator[Any]:
    """Yield every recipe as it is by default, and with everything that may be asked of it."""
    for name in own_recipe_names():
        yield load_recipe(name)
        yield load_recipe(name, RecipeInputs(masked_model="some/model"))


def parts_of(value: Any) -> Iterator[Any]:
    """Yield a dataclass and all dataclasses in its fields."""
    if isinstance(value, tuple):
        for item in value:
            yield from parts_of(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from parts_of(getattr(value, field.name))


def training_parts() -> set[type]:
    """Return the planners, objectives, choices of negatives and gates that there are: named dataclasses of `training`."""
    found = set()
    for name in modules():
        if name.startswith("training."):
            for _, item in inspect.getmembers(importlib.import_module(name), inspect.isclass):
                if (
                    item.__module__ == name
                    and dataclasses.is_dataclass(item)
                    and isinstance(getattr(item, "name", None), str)
                ):
                    found.add(item)
    return found


def test_every_part_is_in_some_recipe() -> None:
    named = {kind for kinds in named_parts().values() for kind in kinds.values()}
    reached = {type(part) for recipe in recipes() for part in parts_of(recipe)} | named
    there = {*stage_classes(), *training_parts()}
    unreached = {item.__name__ for item in there - reached}
    assert unreached - WAITING.keys() == set(), (
        "no recipe uses them and no setting names them: give them one, or take them out"
    )
    assert {name for name in WAITING if name[0].isupper()} - unreached == set(), "reached now: take it off WAITING"


@pytest.mark.parametrize("name", own_recipe_names())
def test_every_setting_can_be_set(name: str) -> None:
    """Each field of each part can be given on the command line, as ``--set path=value``, and says what it said."""
    recipe = load_recipe(name)
    for path, value in settings_of(recipe):
        text = (
            value
            if isinstance(value, str)
            else value.text
            if isinstance(value, ModelSpec)
            else orjson.dumps(value).decode()
        )
        assert apply_overrides(recipe, [Override.parse(f"{path}={text}")]) == recipe, path


def settings_of(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every field that is a plain value."""
    for field in dataclasses.fields(part):
        value, where = getattr(part, field.name), f"{path}{field.name}"
        if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            for item in value:
                yield from settings_of(item, f"{where}.{item.name}.")
        elif dataclasses.is_dataclass(value) and not isinstance(value, ModelSpec):
            yield from settings_of(value, f"{where}.")
        elif isinstance(value, (str, int, float, bool, tuple, ModelSpec)) or value is None:
            yield where, value


def used_names() -> collections.Counter[str]:
    """Return how often each name is used in the four packages: read, called, imported or looked up as an attribute."""
    found: collections.Counter[str] = collections.Counter()
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                found[node.id] += 1
            elif isinstance(node, ast.Attribute):
                found[node.attr] += 1
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node.value.rpartition(":")[2].isidentifier()
            ):
                found[node.value.rpartition(":")[2]] += 1  # "module:Class", getattr(value, "name")
    return found


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield the functions, classes and methods of a file; those that a decorator or Python itself calls aside."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("__"):
                    yield inner.name, inner


def is_registered(node: ast.AST) -> bool:
    """Say whether a decorator makes it a command, a flow or a callback."""
    texts = [ast.unparse(item) for item in getattr(node, "decorator_list", [])]
    return any(word in text for text in texts for word in (".command", ".callback", "flow", "task"))


def test_every_function_and_class_is_used() -> None:
    used = used_names()
    by_file = {path for path in trees() if path.parent.relative_to(ROOT).as_posix() in FOUND_BY_FILE}
    by_recipe = {item.__name__ for item in (*stage_classes(), *training_parts())} | {*own_recipe_names()}
    unused = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, tree in trees().items()
        for name, node in definitions(tree)
        if not used[name] and name not in by_recipe and not is_registered(node)
        and name not in {*WAITING, *LOADED_BY_OTHERS, *DOCUMENTED}
        and not (path in by_file and isinstance(node, ast.ClassDef))
        and not path.relative_to(ROOT).as_posix().startswith(FOR_CALLERS_OUTSIDE)
    ]  # fmt: skip
    assert unused == []


def calls() -> tuple[Mapping[str, int], Mapping[str, set[str]], set[str]]:
    """Return, by name of what is called: most positional arguments, keywords, and whether it is called with * or **."""
    most: collections.Counter[str] = collections.Counter()
    keywords: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    starred = set()
    for tree in trees().values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            named = [node.func, *(node.args[:1] if ast.unparse(node.func).endswith("partial") else [])]
            for function in named:
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                most[name] = max(most[name], len(node.args))
                keywords[name] |= {item.arg for item in node.keywords if item.arg}
                if any(isinstance(item, ast.Starred) for item in node.args) or any(
                    not item.arg for item in node.keywords
                ):
                    starred.add(name)
    return most, keywords, starred


def optional_arguments(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef, str, int]]:
    """Yield (called name, function, argument, its position) of arguments with a default; keyword-only ones at a large position."""
    owners: list[ast.Module | ast.ClassDef] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for owner in owners:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            names = [item.arg for item in (*node.args.posonlyargs, *node.args.args)]
            bound = int(names[:1] in (["self"], ["cls"]))
            called = owner.name if isinstance(owner, ast.ClassDef) and node.name == "__init__" else node.name
            first = len(names) - len(node.args.defaults)
            for place, name in enumerate(names[first:], start=first):
                yield called, node, name, place - bound
            for item, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                if default is not None:
                    yield called, node, item.arg, 1000


PASSED_BY_OTHERS: Mapping[str, str] = {
    "split": "`open_source` builds every source as ``class(path, split)``",
    "context_length": "a tokenizer is called under the name of `ClipModel.tokenizer`",
    "without_dropout": "under the name of a partial function",
}
"""Arguments that a caller passes whose name the code does not show."""

ONLY_TESTS_PASS: Mapping[str, str] = {
    "PairSample(max_pairs)": "a limit that tests make small",
    "EncodingCache(max_bytes)": "a limit that tests make small",
    "local_server(start_s)": "a time limit that tests make short",
    "RemoteShards(pause)": "tests do not sleep",
    "make_order_test(seed)": "tests draw twice",
    "group_lengths(cost)": "tests try the extremes",
}
"""Arguments that only tests pass, each with the reason."""


def test_every_optional_argument_is_passed_by_someone() -> None:
    most, keywords, starred = calls()
    never = [
        f"{called}({name})"
        for path, tree in trees().items()
        for called, node, name, place in optional_arguments(tree)
        if not path.relative_to(ROOT).as_posix().startswith(FOR_CALLERS_OUTSIDE) and called not in starred and most[called] <= place and name not in keywords[called]
        and not is_registered(node) and name not in PASSED_BY_OTHERS and called not in own_recipe_names()
    ]  # fmt: skip
    assert set(never) - ONLY_TESTS_PASS.keys() == set(), "nobody passes them: let the default be a constant"
    assert ONLY_TESTS_PASS.keys() - set(never) == set(), "somebody passes them now"


def test_each_class_name_stands_once() -> None:
    found = collections.defaultdict(list)
    for path, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}
