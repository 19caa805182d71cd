"""What ``train --help`` says of the training numbers, read from `TrainConfig`: names, types, defaults, one line each."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from typer.core import TyperCommand


class TrainSetting(NamedTuple):
    """One field of `TrainConfig`, as ``--set train.NAME=VALUE`` takes it.

    Attributes:
        name: ``train.NAME``.
        kind: What a value is.
        default: The value without a recipe's own.
        text: The first sentence of its description.
    """

    name: str
    kind: str
    default: str
    text: str


class TrainCommand(TyperCommand):
    """A command whose help ends with all training numbers."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, and the table of settings below it."""
        from rich.console import Console
        from rich.text import Text

        from flows.terminal.console import table

        super().format_help(ctx, formatter)
        shown = table(
            "--set train.NAME=VALUE (a recipe may have another default)", "setting", "type", "default", "what"
        )
        for row in training_numbers():
            shown.add_row(*map(Text, row))
        Console().print(shown)


def training_numbers() -> list[TrainSetting]:
    """Return every field of `TrainConfig`, in order."""
    from training.config import TrainConfig

    kinds, texts = get_type_hints(TrainConfig), _descriptions(inspect.getdoc(TrainConfig) or "")
    return [
        TrainSetting(f"train.{item.name}", _kind(kinds[item.name]), _value(item.default), texts[item.name])
        for item in dataclasses.fields(TrainConfig)
    ]


def _descriptions(doc: str) -> dict[str, str]:
    """Return the first sentence of each entry under ``Attributes:``."""
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", doc.partition("Attributes:\n")[2], re.MULTILINE)
    sentences = {name: re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0] for name, text in entries}
    return {name: sentence.replace("``", "").rstrip(".") for name, sentence in sentences.items()}


def _kind(hint: Any) -> str:
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return " | ".join(parts)
    if get_origin(hint) is tuple:
        return ",".join("..." if part is Ellipsis else part.__name__ for part in parts)
    return str(hint.__name__)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
