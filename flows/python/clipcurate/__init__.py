"""Curate small image-text data sets, fine-tune CLIP on them, and read both, from Python.

Names are imported when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_manifests.errors import CheckFailedError, InputError
    from flows.api.commands import ComparisonFiles, compare, curate, diff, evaluate, load_model, train
    from flows.api.pairs import ImageTextPairs
    from flows.api.samples import PublishedSample, PublishedSamples, SampleText, first_caption
    from flows.api.versions import OpenVersion, open_version

_HOMES = {
    "CheckFailedError": "data_manifests.errors",
    "InputError": "data_manifests.errors",
    "ComparisonFiles": "flows.api.commands",
    "ImageTextPairs": "flows.api.pairs",
    "OpenVersion": "flows.api.versions",
    "PublishedSample": "flows.api.samples",
    "PublishedSamples": "flows.api.samples",
    "SampleText": "flows.api.samples",
    "compare": "flows.api.commands",
    "curate": "flows.api.commands",
    "diff": "flows.api.commands",
    "evaluate": "flows.api.commands",
    "first_caption": "flows.api.samples",
    "load_model": "flows.api.commands",
    "open_version": "flows.api.versions",
    "train": "flows.api.commands",
}
"""Where each name lives."""

__all__ = [
    "CheckFailedError",
    "ComparisonFiles",
    "ImageTextPairs",
    "InputError",
    "OpenVersion",
    "PublishedSample",
    "PublishedSamples",
    "SampleText",
    "compare",
    "curate",
    "diff",
    "evaluate",
    "first_caption",
    "load_model",
    "open_version",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a name from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'clipcurate' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the names that can be imported."""
    return list(__all__)
