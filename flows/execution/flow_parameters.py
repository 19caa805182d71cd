"""Typed parameters of flows: one for each field of the jobs that a flow takes, so that Prefect's pages show a form.

What a command has prepared already, and what is no JSON value, is handed to the flow beside its parameters.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, Field, asdict, fields
from typing import Annotated, Any, TypeVar, get_type_hints

import pydantic

R = TypeVar("R")

DEFAULTS: Mapping[str, Any] = {"workspace": "workspace", "manifests": "data_manifests", "wait_s": 3600.0}
"""Defaults that differ from the jobs': a run that nobody watches waits for another one."""
_LEAST: Mapping[str, int] = {
    "limit": 1, "workers": 0, "llm_slots": 1, "shard_bytes": 1, "bands": 0, "wait_s": 0, "seed": 0, "steps": 1,
    "keep_within": 0, "limit_on": 1, "gate_zero_shot": 0, "gate_retrieval": 0,
}  # fmt: skip

_HANDED: ContextVar[Any] = ContextVar("handed over", default=None)


def typed_parameters(run: Callable[..., R]) -> Callable[..., R]:
    """Give a flow's function one parameter for each field of the dataclasses that it takes.

    Prefect makes forms and checks values by a function's signature and by ``Args:`` in its docstring; both are made from
    the dataclasses' fields and their ``Attributes:``.
    """
    hints = get_type_hints(run)
    kinds: dict[str, type[Any]] = {name: hints[name] for name in inspect.signature(run).parameters}

    @functools.wraps(run)
    def call(**values: Any) -> R:
        return run(**{name: _built(kind, values) for name, kind in kinds.items()})

    parameters: dict[str, inspect.Parameter] = {}
    lines: list[str] = []
    for kind in kinds.values():
        types = get_type_hints(kind)
        parameters |= {item.name: _parameter(item, types[item.name]) for item in fields(kind)}
        lines += _described(kind)
    required_first = sorted(parameters.values(), key=lambda item: item.default is not inspect.Parameter.empty)
    call.__signature__ = inspect.Signature(required_first)  # type: ignore[attr-defined]
    first = inspect.cleandoc(run.__doc__ or "").partition("\n")[0]
    call.__doc__ = "\n".join((first, "", "Args:", *(f"    {line}" for line in lines)))
    return call


def parameters_of(*jobs: Any) -> dict[str, Any]:
    """Return the parameters of a flow that is called with these jobs: JSON values, lists where the jobs have tuples."""
    values = {name: value for job in jobs for name, value in asdict(job).items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@contextmanager
def handing_over(what: Any) -> Iterator[None]:
    """Let a flow that is called in this block find something that is no parameter."""
    token = _HANDED.set(what)
    try:
        yield
    finally:
        _HANDED.reset(token)


def handed_over() -> Any:
    """Return what the caller handed over, once; None for a run that a server started."""
    what = _HANDED.get()
    _HANDED.set(None)
    return what


def _built(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Return the job of this kind; lists become tuples."""
    own = {item.name: values[item.name] for item in fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in own.items()})


def _parameter(item: Field[Any], kind: Any) -> inspect.Parameter:
    """Return the parameter for a field: a list for a tuple, and with the least number that is allowed."""
    kind = {tuple[str, ...]: list[str], tuple[int, ...]: list[int]}.get(kind, kind)
    if item.name in _LEAST:
        kind = Annotated[kind, pydantic.Field(ge=_LEAST[item.name])]
    default = inspect.Parameter.empty if item.default is MISSING else item.default
    default = DEFAULTS.get(item.name, default)
    default = list(default) if isinstance(default, tuple) else default
    return inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _described(kind: type[Any]) -> Iterator[str]:
    """Yield the lines under ``Attributes:`` of a dataclass and of those that it is derived from."""
    for owner in reversed(kind.__mro__):
        if attributes := re.search(
            r"^Attributes:\n((?:[ ]{4}.*\n?)+)", inspect.cleandoc(owner.__doc__ or ""), re.MULTILINE
        ):
            yield from (line[4:] for line in attributes[1].splitlines())
