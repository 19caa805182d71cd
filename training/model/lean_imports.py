"""Import torch, torchvision, timm, open_clip and pyarrow without what they load but never use here.

`import open_clip` costs four seconds of a processor, in each worker and for each edited caption. Half are torch's
compiler, which torchvision and timm import for decorators, timm, and transformers, which reads the source of every model it
has; each comes when it is called for instead. pyarrow imports pandas at the first array, a third of a second and 50 MiB, and now
only where someone else imports it. Nothing looks for garbage while they are imported: see `paused_collector`. torchvision
also needs its operators declared: see `data_manifests/torchvision_cpu.py`.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import ModuleType
from typing import Any

from data_manifests import torchvision_cpu
from data_manifests.paused_collector import paused_collector

_COMPILER, _COMPILER_UTILS = "torch._dynamo", "torch._dynamo.utils"
_TOWERS = {"timm": ("open_clip.timm_model", "TimmModel"), "transformers": ("open_clip.hf_model", "HFTextEncoder")}
"""Libraries from which open_clip takes some towers -> its module that imports the library, and the class of the towers."""

_absent: set[str] = set()
"""Packages that cannot be imported at the moment."""
_missed: set[str] = set()
"""Packages that another has looked for and not found, since they were absent."""


@contextmanager
def _compiler_later() -> Iterator[None]:
    """Import modules that decorate functions for torch's compiler without importing it; the first call of such a function does."""
    import torch
    from torch._compile import _disable_dynamo

    if _COMPILER in sys.modules:
        yield
        return

    def disable(function: Any = None, recursive: bool = True, **_reason: object) -> Any:
        """Decorate as `torch.compiler.disable`, in the way in which torch does it in its own modules."""
        return _disable_dynamo(function, recursive)

    def is_compile_supported(device_type: str) -> bool:
        """Ask the compiler's own function."""
        found: bool = importlib.import_module(_COMPILER_UTILS).is_compile_supported(device_type)
        return found

    utils: Any = ModuleType(_COMPILER_UTILS)
    utils.is_compile_supported = is_compile_supported
    sys.modules[_COMPILER_UTILS] = utils
    compiler: Any = torch.compiler
    whole, compiler.disable = compiler.disable, disable
    try:
        yield
    finally:
        compiler.disable = whole
        if sys.modules.get(_COMPILER_UTILS) is utils:
            del sys.modules[_COMPILER_UTILS]


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Import modules that do without a package if it is not installed as if it were not."""
    if name in sys.modules:
        yield
        return
    _absent.add(name)
    try:
        yield
    finally:
        _absent.discard(name)


@contextmanager
def _without_towers() -> Iterator[None]:
    """Import open_clip without the libraries from which it takes some towers; the first tower of one imports it."""
    with ExitStack() as stack:
        for name in _TOWERS:
            stack.enter_context(_without(name))
        yield
    for library in _TOWERS:
        _import_at_first_tower(library)


def _import_at_first_tower(library: str) -> None:
    """Let a tower of ``timm`` or ``transformers`` import its library when it is built, by us or by any other program."""
    name, tower = _TOWERS[library]
    module: Any = importlib.import_module(name)
    if getattr(module, library) is not None:
        return
    kind = getattr(module, tower)
    build = kind.__init__

    @functools.wraps(build)
    def build_with_library(*given: Any, **named: Any) -> None:
        _need_towers_of(library)
        build(*given, **named)

    kind.__init__ = build_with_library


@contextmanager
def _pandas_later() -> Iterator[None]:
    """Import pyarrow; its first array would import pandas, to recognise its types."""
    yield
    if "pandas" not in sys.modules:  # pandas itself imports pyarrow
        with _without("pandas"):
            sys.modules["pyarrow"].array([])
        _missed.add("pandas")


@contextmanager
def _known_to_arrow() -> Iterator[None]:
    """Import pandas, and let pyarrow recognise its types from then on.

    A pyarrow that was imported before `install` imports pandas at its own first array, and would wait here for itself.
    """
    yield
    if "pandas" in _missed:
        sys.modules["pyarrow"].table({"": []}).to_pandas()


def _need_towers_of(library: str) -> None:
    """Let open_clip find ``timm`` or ``transformers``.

    The module that did without it is executed again; its class that others have imported by now stays the same.
    """
    name, tower = _TOWERS[library]
    module: Any = importlib.import_module(name)
    if getattr(module, library) is None:
        kept = getattr(module, tower)
        importlib.reload(module)
        setattr(module, tower, kept)


class _LeanLoader(importlib.machinery.SourceFileLoader):
    """Executes a package's `__init__.py` in a context."""

    around: Callable[[], AbstractContextManager[None]]

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module."""
        with paused_collector(), self.around():
            super().exec_module(module)


_AROUND: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "torch": nullcontext,
    "pyarrow": _pandas_later,
    "pandas": _known_to_arrow,
    "torchvision": _compiler_later,
    "timm": _compiler_later,
    "open_clip": _without_towers,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the packages of `_AROUND`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a package's own spec with a loader that is lean; None for every other module.

        Raises:
            ModuleNotFoundError: the package is to be left out now.
        """
        if fullname in _absent:
            raise ModuleNotFoundError(f"{fullname} is not imported yet", name=fullname)
        if fullname not in _AROUND:
            return None
        if fullname == "torchvision":
            torchvision_cpu.declare_operators()
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            loader = _LeanLoader(spec.loader.name, spec.loader.path)
            loader.around = _AROUND[fullname]
            spec.loader = loader
        return spec


def install() -> None:
    """Put the finder first in line; costs nothing until one of the packages is imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
