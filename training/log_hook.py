"""``--log-to MODULE:FUNCTION``: a function of the user's that gets every step's figures, for a tracker of experiments.

It is called on rank 0 alone as ``function(event, step, figures)``:

| event | step | figures |
| --- | --- | --- |
| ``begin`` | the first step that is made: 0, or where a resumed run goes on | ``run`` (the folder), ``recipe``, all training numbers |
| ``step`` | the step that was made, from 0 | loss, lr and the other numbers of `log.jsonl`, nested ones as ``group/name`` |
| ``end`` | steps that are done | ``status``: ``done``, ``stopped`` (Ctrl-C) or ``failed``; ``loss`` |

A resumed run gives again the steps after its last checkpoint, as it writes them again to `log.jsonl`. What ``begin`` raises ends the run
before its first step. What it raises later is said once, and it is not called any more: the run goes on, and `log.jsonl` has everything.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_manifests.errors import InputError

_ALLOWED = "MODULE:FUNCTION or FILE.py:FUNCTION, with function(event, step, figures)"


class LogHook:
    """A function that is told of a run's steps.

    Args:
        text: ``MODULE:FUNCTION``, the module found from the current folder, too; or ``FILE.py:FUNCTION``.

    Raises:
        InputError: there is no such function, or its file cannot be imported.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._function: Callable[[str, int, Mapping[str, Any]], Any] | None = _load(text)
        self._say: Callable[[str], None] = lambda _line: None

    def begin(self, step: int, figures: Mapping[str, Any], say: Callable[[str], None]) -> None:
        """Tell the function that steps begin.

        Raises:
            InputError: it raised an error.
        """
        self._say = say
        try:
            self._call("begin", step, figures)
        except Exception as error:
            raise InputError(
                f"--log-to {self.text}: 'begin' failed: {_named(error)}",
                allowed="a function that returns",
                fix="correct the function, or leave --log-to out; no step was made",
            ) from error

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell the function of a step."""
        self._try("step", step, figures)

    def end(self, step: int, status: str, loss: float) -> None:
        """Tell the function that no more steps follow."""
        self._try("end", step, {"status": status, "loss": loss})

    def _call(self, event: str, step: int, figures: Mapping[str, Any]) -> None:
        if self._function is not None:
            self._function(event, step, dict(figures))

    def _try(self, event: str, step: int, figures: Mapping[str, Any]) -> None:
        try:
            self._call(event, step, figures)
        except Exception as error:  # noqa: BLE001 - what a tracker raises is not for us to know
            self._function = None
            self._say(
                f"warning: --log-to {self.text}: '{event}' of step {step} failed: {_named(error)}; "
                "it is not called any more, log.jsonl has every step"
            )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _load(text: str) -> Callable[..., Any]:
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise InputError(f"--log-to {text!r}", allowed=_ALLOWED)
    try:
        module = _file_module(Path(place).expanduser()) if place.endswith(".py") else _module(place)
    except Exception as error:
        raise InputError(
            f"--log-to {text}: {place} cannot be imported: {_named(error)}",
            allowed=_ALLOWED,
            fix="correct the name or the file",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        there = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise InputError(f"--log-to {text}: {place} has no function '{name}'", allowed=there or _ALLOWED)
    return function  # type: ignore[no-any-return]


def _module(name: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def _file_module(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
