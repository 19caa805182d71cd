"""Checks of the settings of planners, objectives and other parts of a recipe's training half."""

from __future__ import annotations

from typing import Any

from data_manifests.errors import InputError


def check_settings(part: Any, condition: bool, names: str, allowed: str) -> None:
    """Check a condition on settings of a part (names, separated by spaces).

    Raises:
        InputError: it does not hold; the message has the settings and their values.
    """
    if not condition:
        values = ", ".join(f"{name}={getattr(part, name)!r}" for name in names.split())
        raise InputError(f"{part.name}: {values}", allowed=allowed)
