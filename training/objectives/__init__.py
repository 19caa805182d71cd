"""Objectives: named, weighted loss terms over a batch's features, one file for each family; see `interface`."""

from __future__ import annotations

import importlib
import pkgutil

from training.objectives.interface import Objective


def all_objectives() -> dict[str, type[Objective]]:
    """Return every objective class of this package by its name: a new one is a new file, listed nowhere."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.walk_packages(__path__)]
    classes = {item for module in modules for item in vars(module).values() if isinstance(item, type)}
    found = [item for item in classes if issubclass(item, Objective) and item is not Objective]
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}
