"""What a recipe from outside must be: checked where it is loaded, so that an error names its file and not our code."""

from __future__ import annotations

import pickle
import pkgutil
import re
from collections.abc import Sequence
from typing import Any

import curation.stages
from curation.engine.stage import Field, FittedStage, IndexedStage, MapStage, Stage, check_order
from data_manifests.errors import InputError
from data_manifests.plugins import is_ours, place_of
from training.config import TrainConfig
from training.objectives.interface import Objective

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_DECLARED: dict[str, tuple[type, str]] = {
    "name": (str, "a text"),
    "version": (int, "a whole number"),
    "requires": (tuple, "a tuple of names of fields"),
    "provides": (tuple, "a tuple of Field"),
    "drops": (tuple, "a tuple of reasons"),
    "source": (str, "a text: the paper, with section or equation"),
}
"""Class attribute of a stage -> its type, and that in words."""


def check_parts(recipe: Any, name: str, where: str) -> None:
    """Check that what a plug-in's function returned is a recipe made of stages and objectives.

    Args:
        recipe: What was returned.
        name: The name that it should have.
        where: What error messages begin with.

    Raises:
        InputError: it is something else.
    """
    if recipe.name != name:
        raise InputError(
            f"{where} returns a recipe named '{recipe.name}'", allowed=f"name={name!r}, as its function is called"
        )
    for field, kind in (("stages", Stage), ("objectives", Objective)):
        found = getattr(recipe, field)
        one = field[:-1]
        if not isinstance(found, tuple):
            raise InputError(
                f"{where}: {field} is {_shown(found)}", allowed=f"a tuple of {field}", fix=f"({one}, {one})"
            )
        for number, item in enumerate(found):
            if not isinstance(item, kind):
                fix = f"write {item.__name__}()" if isinstance(item, type) and issubclass(item, kind) else ""
                raise InputError(f"{where}: {field}[{number}] is {_shown(item)}", allowed=f"{field} only", fix=fix)
    if not isinstance(recipe.train, TrainConfig):
        raise InputError(f"{where}: train is {_shown(recipe.train)}", allowed="a TrainConfig")
    is_planner = callable(recipe.planner) and isinstance(getattr(recipe.planner, "name", None), str)
    if not is_planner or isinstance(recipe.planner, type):
        raise InputError(f"{where}: planner is {_shown(recipe.planner)}", allowed="a planner, such as ShuffledPlan()")


def check_stages(stages: Sequence[Stage], where: str) -> None:
    """Check the stages of a recipe that are not ours, and that all fit together.

    Raises:
        InputError: a stage declares itself wrongly, has the name of another, or lacks what it requires.
    """
    names = [stage.name for stage in stages]
    for stage in stages:
        if not is_ours(type(stage)):
            check_stage(stage)
            if names.count(stage.name) > 1:
                raise InputError(f"{where}: two stages are called '{stage.name}'", allowed="each name once")
    check_order(stages, f"{where}: ")


def check_stage(stage: Stage) -> None:
    """Check a stage that is not ours.

    Raises:
        InputError: it cannot run; the message has its file.
    """
    kind = type(stage)
    where = f"stage {kind.__name__} ({place_of(kind)})"
    for name, (wanted, words) in _DECLARED.items():
        value = getattr(kind, name, None)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise InputError(f"{where}: {name} is {_shown(value)}", allowed=f"{name}: {words}")
    if not _NAME.fullmatch(stage.name):
        raise InputError(f"{where}: name is '{stage.name}'", allowed="small letters, digits and _, a letter first")
    if stage.name in own_stage_names():
        raise InputError(
            f"{where}: clipcurate has a stage '{stage.name}'",
            allowed="a name of its own, as results are stored under it",
            fix=f"call it my_{stage.name}",
        )
    if not isinstance(stage, (MapStage, FittedStage, IndexedStage)):
        raise InputError(f"{where} is no kind of stage", allowed="a subclass of MapStage, FittedStage or IndexedStage")
    _check_fields(stage, where)
    if "__dataclass_fields__" not in vars(kind):
        raise InputError(f"{where} is no dataclass", allowed="@dataclass(frozen=True) above its class")
    _check_settings(stage, where)


def _check_fields(stage: Stage, where: str) -> None:
    """Check the fields and reasons that a stage declares."""
    for field in stage.provides:
        if not isinstance(field, Field):
            raise InputError(
                f"{where}: provides has {_shown(field)}", allowed='Field("name"), with publish="sidecar" ...'
            )
        if not _NAME.fullmatch(field.name):
            raise InputError(f"{where}: provides a field '{field.name}'", allowed="small letters, digits and _")
    if not all(isinstance(name, str) for name in (*stage.requires, *stage.drops)):
        raise InputError(f"{where}: requires or drops has something else than texts", allowed="names")


def _check_settings(stage: Stage, where: str) -> None:
    """Check that a stage can be sent to another process, and that its settings have a fingerprint."""
    try:
        pickle.dumps(stage)
    except Exception as error:  # noqa: BLE001 - objects say in many ways that they cannot be pickled
        raise InputError(
            f"{where} cannot be sent to a worker process: {error}",
            allowed="a class at the top of its file, with settings that can be pickled",
        ) from None
    try:
        stage.fingerprint()
    except TypeError as error:
        raise InputError(
            f"{where}: its settings have no fingerprint: {error}",
            allowed="JSON values as settings, and resources with content_hash and describe",
        ) from None


def own_stage_names() -> set[str]:
    """Return the names of clipcurate's own stages, which are those of their files."""
    return {
        info.name.rpartition(".")[2] for info in pkgutil.walk_packages(curation.stages.__path__, "curation.stages.")
    }


def _shown(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{value!r:.60} ({type(value).__name__})"
