"""One file, one class, one idea; each named by what it does. `stage_classes` finds them by walking the package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curation.engine.stage import Stage


def stage_classes() -> list[type[Stage]]:
    """Return every stage class below this package, by name; imports all of them."""
    from curation.engine.stage import Stage

    found = set()
    for info in pkgutil.walk_packages(__path__, f"{__name__}."):
        module = importlib.import_module(info.name)
        found |= {
            item
            for _, item in inspect.getmembers(module, inspect.isclass)
            if issubclass(item, Stage) and item.__module__ == module.__name__ and not inspect.isabstract(item)
        }
    return sorted(found, key=lambda item: item.name)
