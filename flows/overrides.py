"""`--set path=value`: a copy of a recipe with some of its fields changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from data_manifests.errors import InputError, nearest
from flows.recipe_parts import NamedParts, make_part
from training.model.spec import ModelSpec

NULL = "null"
"""Value of ``--set path=null``, which removes a part or sets None."""
DEFAULT = "default"
"""Value of ``--set objectives.NAME=default``, which adds a part with its default settings."""


class Override(NamedTuple):
    """One ``path=value``.

    Attributes:
        path: Names from the recipe down to a field.
        text: The value as typed.
        where: What error messages begin with.
    """

    path: tuple[str, ...]
    text: str
    where: str

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read ``path=value``.

        Raises:
            InputError: there is no ``=``.
        """
        path, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} has no '='", allowed="--set path=value, for example train.lr=1e-4")
        return cls(tuple(path.split(".")), value, f"--set {text}")


def apply_overrides(target: Any, overrides: Sequence[Override], parts: NamedParts = MappingProxyType({})) -> Any:
    """Return a copy of a dataclass (or of a tuple of named ones) with fields set from text.

    All fields of one part are set at once, so that values that must fit together (``choose`` and ``candidates``) may come
    in any order; of two values of one field the last counts. ``null`` removes a stage or an objective from its tuple, and
    sets an optional field to None. The name of one of `parts` puts that part in a field's place (``negatives=uniform``),
    and ``default`` adds it to a tuple (``objectives.distillation=default``); its own fields may be set beside.

    Args:
        target: What to change.
        overrides: The values.
        parts: What may be named, by field of `target`.

    Raises:
        InputError: no such field, a value of the wrong type, or values that do not fit together.
    """
    fields = {item.name for item in dataclasses.fields(target)} if dataclasses.is_dataclass(target) else set()
    found: dict[str, Any] = {}
    for head, group in _by_head(overrides).items():
        if head not in fields:
            raise _unknown(group[0].where, head, fields)
        named, old = parts.get(head, {}), getattr(target, head)
        whole, inner = _split(group, [] if isinstance(old, tuple) else named)
        if isinstance(old, tuple) and inner:
            found[head] = _changed_items(old, inner, named)
            continue
        if whole:
            chosen = None if isinstance(old, tuple) else named.get(whole.text)
            old = make_part(chosen, old) if chosen else _value(target, head, whole, named)
        found[head] = apply_overrides(old, inner) if inner else old
    return dataclasses.replace(target, **found) if found else target


def _by_head(overrides: Sequence[Override]) -> dict[str, list[Override]]:
    groups: dict[str, list[Override]] = {}
    for override in overrides:
        groups.setdefault(override.path[0], []).append(override)
    return groups


def _changed_items(
    target: tuple[Any, ...], overrides: Sequence[Override], named: Mapping[str, type[Any]]
) -> tuple[Any, ...]:
    """Return the items of a tuple, some of them changed, added or removed by name."""
    known = {item.name: item for item in target}
    for head, group in _by_head(overrides).items():
        whole, inner = _split(group, [DEFAULT])
        if whole and whole.text == DEFAULT and head in named:
            known[head] = make_part(named[head], None)
        elif head not in known or (whole and whole.text != NULL):
            raise _unknown(group[0].where, head, known, named)
        elif whole:
            known[head] = None
        known[head] = apply_overrides(known[head], inner) if inner else known[head]
    return tuple(item for item in known.values() if item is not None)


def _split(group: Sequence[Override], named: Collection[str]) -> tuple[Override | None, list[Override]]:
    """Return the last value of the field itself, and the overrides of its parts with the rest of their paths.

    Raises:
        InputError: there are both, and the value is not one of those that put a part there.
    """
    whole = [override for override in group if len(override.path) == 1]
    parts = [override._replace(path=override.path[1:]) for override in group if len(override.path) > 1]
    if whole and parts and whole[-1].text not in named:
        raise InputError(
            f"{whole[-1].where} and {parts[-1].where}: both set '{whole[-1].path[0]}'", allowed="one or the other"
        )
    return (whole[-1] if whole else None), parts


def _value(target: Any, name: str, override: Override, named: Mapping[str, type[Any]]) -> Any:
    """Return the value that a field gets; `named` are the parts that could have been named."""
    old = getattr(target, name)
    if override.text == NULL and _may_be_none(target, name):
        return None
    nested = isinstance(old, tuple) and bool(old) and dataclasses.is_dataclass(old[0])
    if nested or (dataclasses.is_dataclass(old) and not isinstance(old, ModelSpec)):
        inner = [item.name for item in old] if nested else [item.name for item in dataclasses.fields(old)]
        raise InputError(
            f"{override.where}: '{name}' is not a value",
            allowed=", ".join([f"{name}.{part}" for part in inner] + [f"{name}={one}" for one in named if not nested]),
            fix=nearest(override.text, named),
        )
    if named and old is None:
        raise InputError(f"{override.where}: no such part", allowed=", ".join(named), fix=nearest(override.text, named))
    return _parse(override.text, old, override.where)


def _may_be_none(target: Any, name: str) -> bool:
    """Return whether a dataclass's field is declared as optional."""
    declared = next(str(item.type) for item in dataclasses.fields(target) if item.name == name)
    return "None" in declared.replace("|", " ").split()


def _unknown(where: str, name: str, known: Collection[str], named: Collection[str] = ()) -> InputError:
    """Return the error of a field or part that is not there; `named` are parts that could be added."""
    if name in named:
        path = where.removeprefix("--set ").split(name)[0] + name
        return InputError(f"{where}: the recipe has no '{name}'", fix=f"add it: --set {path}={DEFAULT}")
    hint = nearest(name, [*known, *named])
    added = f"; with {DEFAULT}: {', '.join(sorted({*named} - {*known}))}" if named else ""
    return InputError(
        f"{where}: no field '{name}'" + (f"; {hint}" if hint else ""),
        allowed=(", ".join(sorted(known)) or "(none)") + added,
    )


def _items(text: str, value: Any, old: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    """Read a tuple, written as JSON or with commas: ``[0.5, 1]``, ``(0.5, 1)``, ``0.5,1``.

    As many numbers as before; of words there may be any number.
    """
    if not isinstance(value, list):
        inner = text.strip()
        value = [_json_or_text(one.strip()) for one in inner.strip("()").split(",")] if inner.strip("()") else []
    kinds = {type(one) for one in old}
    if kinds == {float}:
        value = [float(one) if type(one) is int else one for one in value]
    fits = not old or ({type(one) for one in value} <= kinds and (str in kinds or len(value) == len(old)))
    if not fits:
        usual = ",".join(map(str, old))
        many = "" if str in kinds else f"{len(old)} "
        raise InputError(
            f"{where}: {text!r} is not of the form of {usual!r}",
            allowed=f"{many}values of type {' or '.join(sorted(kind.__name__ for kind in kinds))} with commas between them",
            fix=f"for example {where.removeprefix('--set ').partition('=')[0]}={usual}",
        )
    return tuple(value)


def _json_or_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _parse(text: str, old: Any, where: str) -> Any:
    """Read a value of the same type as the one it replaces."""
    if isinstance(old, str):
        return text
    if isinstance(old, ModelSpec):
        return ModelSpec.parse(text)
    value = _json_or_text(text)
    if isinstance(old, tuple):
        return _items(text, value, old, where)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(old) and old is not None:
        raise InputError(f"{where}: {text!r} is not of type {type(old).__name__}", allowed=f"a value like {old!r}")
    return value
