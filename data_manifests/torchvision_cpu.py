"""Let a CUDA build of torchvision be imported with a CPU build of torch, in any program of an environment with clipcurate.

The package index ships torchvision built for CUDA; its compiled library does not load with a CPU torch, and
`import torchvision` then fails on `operator torchvision::nms does not exist`. Declaring that operator first is
enough for everything open_clip, timm and transformers use (transforms, models). `torchvision.ops.nms` itself
stays unavailable and says so.

`watch` is an entry point of the group ``torch.backends``: torch calls it at the end of its own import, so that a program
which never imports clipcurate is mended too, and one that never imports torch pays nothing. It stands here, since the
import of this package changes nothing else.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

SWITCH = "CLIPCURATE_MEND_TORCHVISION"
"""Environment variable: with 0, `watch` does nothing."""

_kept: list[Any] = []


class _Watcher(MetaPathFinder):
    """Declares the operators when torchvision is imported, and finds nothing."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:  # noqa: ARG002 - Python's import system calls it so
        """Do so."""
        if fullname == "torchvision":
            declare_operators()


def watch() -> None:
    """Wait for torchvision beside a torch without CUDA; torch calls this."""
    import torch

    if torch.version.cuda is not None or os.environ.get(SWITCH) == "0":
        return
    if "torchvision" in sys.modules:  # it is being imported, and imports torch before anything else
        declare_operators()
    else:
        sys.meta_path.insert(0, _Watcher())


def declare_operators() -> None:
    """Declare the operators, unless torch is built for CUDA or torchvision's own library defines them."""
    import torch

    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms") or _library_loads():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    # the declarations live as long as this object does
    _kept.append(library)


def _library_loads() -> bool:
    """Return whether torchvision's compiled library loads; it then defines its operators, and doing so twice would abort."""
    import torch

    package = importlib.machinery.PathFinder.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        return False
    endings = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    found = importlib.machinery.FileFinder(package.submodule_search_locations[0], endings).find_spec("_C")
    if found is None or found.origin is None:
        return False
    try:
        torch.ops.load_library(found.origin)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True
