"""Let a CUDA build of torchvision be imported with a CPU build of torch.

The package index ships torchvision built for CUDA; its compiled library does not load with a CPU torch, and
`import torchvision` then fails on `operator torchvision::nms does not exist`. Declaring that operator first is
enough for everything open_clip, timm and transformers use (transforms, models). `torchvision.ops.nms` itself
stays unavailable and says so.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_kept: list[Any] = []


class _Finder(importlib.abc.MetaPathFinder):
    """Declares the operators when `torchvision` is first imported, then removes itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return torchvision's own spec; None for every other module."""
        if fullname != "torchvision":
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        _declare()
        return importlib.machinery.PathFinder.find_spec(fullname, path, target)


def _declare() -> None:
    import torch

    if torch.version.cuda is not None or _kept:
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    # the declarations live as long as this object does
    _kept.append(library)


def install() -> None:
    """Put the finder first in line, unless torchvision is imported already; costs nothing until it is."""
    if "torchvision" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
