"""Python files of a user's own as modules that every process can import: recipes, stages and sources outside any package.

A file's module is called ``data_manifests.plugin_files.f_<hash>_<path>``: hash of its bytes and its absolute path, spelled
with letters and digits. A worker process that unpickles an object of such a module imports it by that name, and so gets the
same bytes from the same path or an error, wherever it runs and however it was started.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from base64 import b32decode, b32encode
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from blake3 import blake3

from data_manifests.errors import InputError

FOLDERS: list[str] = []
"""Folders whose modules can be imported because a file of the user's lies there."""

_PREFIX = f"{__name__}.f_"


def file_hash(path: Path) -> str:
    """Return the hash of a file's bytes: 16 hex digits.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return blake3(path.read_bytes()).hexdigest(length=8)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", allowed="a Python file that this process can read") from None


def import_file(path: Path) -> ModuleType:
    """Import a Python file; one that has not changed since is imported once.

    What lies beside it can be imported by it, as by a script.

    Raises:
        InputError: it cannot be read.
        Exception: whatever the file raises.
    """
    path = path.absolute()
    spelled = b32encode(str(path).encode()).decode().rstrip("=").lower()
    return importlib.import_module(f"{_PREFIX}{file_hash(path)}_{spelled}")


class _FileLoader(Loader):
    """Runs a file as a module, without leaving compiled files beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exec_module(self, module: ModuleType) -> None:
        code = compile(self._path.read_bytes(), str(self._path), "exec", dont_inherit=True)
        if (folder := str(self._path.parent)) not in sys.path:
            sys.path.append(folder)  # last: it hides no installed package
            FOLDERS.append(folder)
        exec(code, module.__dict__)  # noqa: S102 - the user named this file as code to run


class _FileFinder(MetaPathFinder):
    """Finds the files that module names of this package spell."""

    def find_spec(self, fullname: str, *_path_and_target: object) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        known, _, spelled = fullname.removeprefix(_PREFIX).partition("_")
        file = Path(b32decode(spelled.upper() + "=" * (-len(spelled) % 8)).decode())
        if file_hash(file) != known:
            raise InputError(f"{file} has changed since this run began", fix="run the command again")
        return importlib.util.spec_from_file_location(fullname, file, loader=_FileLoader(file))


if not any(isinstance(finder, _FileFinder) for finder in sys.meta_path):
    sys.meta_path.append(_FileFinder())
