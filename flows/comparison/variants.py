"""The rows of a comparison: recipes, and recipes with changed settings (ablations)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_manifests.errors import InputError
from data_manifests.plugins import named_file
from flows.recipe_finding import find_recipe

CONTROL = "clip"
"""Plain fine-tuning on random batches: always a row."""
PRETRAINED = "pretrained"
"""The model that all others start from: always a row."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_EXAMPLE = (
    "NAME=RECIPE:path=value;path=value, for example 'ahnm-without-gate=ahnm:gate=null', or with another recipe's data "
    "NAME=RECIPE on DATA, for example 'mixed=ce_clip on fsc_clip'"
)


@dataclass(frozen=True)
class Variant:
    """One trained row.

    Attributes:
        name: Row's name.
        recipe: The recipe that it is trained by: name, or ``FILE.py[:NAME]``.
        settings: Changes to its recipe, ``path=value``.
        data: The recipe that curates its data; None for the same one.
    """

    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    data: str | None = None

    @property
    def curated_by(self) -> str:
        """The recipe that curates its data."""
        return self.data or self.recipe

    @property
    def data_settings(self) -> tuple[str, ...]:
        """Settings that change curation; with any, the row needs a version of its own."""
        return tuple(item for item in self.settings if changes_curation(item))

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read ``NAME=RECIPE`` or ``NAME=RECIPE:path=value;path=value``, with ``RECIPE on DATA`` for another recipe's data.

        Raises:
            InputError: malformed, or no such recipe.
        """
        name, equals, rest = text.partition("=")
        recipes, settings = _split_settings(rest)
        recipe, _, data = recipes.partition(" on ")
        parts = tuple(part.strip() for part in settings.split(";") if part.strip())
        if not equals or not NAME.fullmatch(name):
            raise InputError(f"--variant {text!r}", allowed=f"{_EXAMPLE}; NAME of 1-40 of a-z 0-9 . _ -")
        faulty = [part for part in parts if "=" not in part]
        if faulty:
            raise InputError(f"--variant {text!r}: {faulty[0]!r} has no '='", allowed=_EXAMPLE)
        for item in (recipe, data or recipe):
            find_recipe(item, f"--variant {text!r}: ")
        return cls(name, recipe, parts, data if data and data != recipe else None)


def _split_settings(text: str) -> tuple[str, str]:
    """Split ``RECIPE:settings``, where the recipe may be ``FILE.py:NAME``: what has no ``=`` before its colon is no setting."""
    recipe, colon, settings = text.partition(":")
    while colon and (named_file(recipe) or recipe.endswith(".py")) and "=" not in settings.partition(":")[0]:
        more, colon, settings = settings.partition(":")
        recipe = f"{recipe}:{more}"
    return recipe, settings


def changes_curation(setting: str) -> bool:
    """Return whether a ``path=value`` changes curation."""
    return setting.partition("=")[0].split(".")[0] == "stages"


def make_rows(recipes: Sequence[str], variants: Sequence[str]) -> list[Variant]:
    """Return the trained rows, the control first.

    Raises:
        InputError: nothing to compare, an unknown recipe, or two rows of one name.
    """
    if not recipes and not variants:
        raise InputError(
            "compare: no recipe", allowed="one or more recipes, or --variant", fix="clipcurate recipes lists them"
        )
    found = {text: find_recipe(text, "compare: ").name for text in (CONTROL, *recipes)}
    rows = [Variant(name, text) for text, name in found.items()]
    rows += [Variant.parse(text) for text in variants]
    names = [row.name for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1} | {name for name in names if name == PRETRAINED})
    if twice:
        raise InputError(
            f"--variant {twice[0]}: another row has this name", fix="call the variant something else, such as "
            f"{twice[0]}-2",
        )  # fmt: skip
    return rows


def read_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of ``0,1,2``.

    Raises:
        InputError: not whole numbers from 0, or one twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and len(part) < 19 for part in parts):
        raise InputError(f"--seeds {text!r}", allowed="whole numbers from 0, with commas between: 0,1,2")
    seeds = tuple(int(part) for part in parts)
    if len(set(seeds)) < len(seeds):
        raise InputError(
            f"--seeds {text!r}: a seed is given twice", allowed="each seed once: equal seeds train equal weights"
        )
    return seeds
