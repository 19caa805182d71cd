"""The code of stages: whether it has changed since results were stored, although the stage's `version` has not.

What counts is the class and whatever it uses of its own file, as a syntax tree without docstrings: comments and formatting
are nobody's business. Beside a stage's results lies ``code.json`` with the hashes of the code that made them, or that was
reported once and used all the same.
"""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from blake3 import blake3

from curation.engine.stage import Stage
from curation.engine.store import Store
from data_manifests.atomic_files import write_atomically
from data_manifests.plugin_files import file_hash
from data_manifests.plugins import describe_origin, is_ours, origin_of
from data_manifests.seeds import canonical

CODE_FILE = "code.json"
"""In the folder of a stage's fingerprint."""


class StageCode(NamedTuple):
    """The code of a stage's class.

    Attributes:
        file: Hash of its file's bytes; empty if there is no source. Equal files have equal trees, which need not be read.
        tree: Returns the hash of its syntax tree.
        origin: Where it comes from, in words.
        reader: What hashes of trees can be compared with: the version of Python, whose trees differ, and for our own stages
            that of clipcurate, whose tests hold the output of each version of a stage.
    """

    file: str
    tree: Callable[[], str]
    origin: str
    reader: str

    def is_among(self, records: Sequence[Mapping[str, str]]) -> bool:
        """Return whether one of the records is of this code."""
        same = [record for record in records if record["reader"] == self.reader]
        if self.file in [record["file"] for record in same]:
            return True
        return bool(same) and self.tree() in [record["code"] for record in same]


def code_of(stage: Stage) -> StageCode:
    """Return the code of a stage's class."""
    return _code_of(type(stage))


def changed_code(store: Path, stages: Iterable[Stage]) -> list[str]:
    """Return a sentence for each stage whose stored results were made by other code of the same version.

    Args:
        store: Folder of the memo store.
        stages: The stages of a run.
    """
    found = []
    for stage in stages:
        now, known = code_of(stage), _read(store, stage)
        comparable = [record for record in known if record["reader"] == now.reader]
        if not now.file or not comparable or now.is_among(comparable):
            continue
        before = comparable[-1]["origin"]
        place = now.origin if before == now.origin else f"{before}, now {now.origin}"
        found.append(
            f"the code of stage '{stage.name}' ({place}) has changed and its version is still {stage.version}: stored results are "
            f"used. If it gives other results now, raise its version, or give --fresh {stage.name} once"
        )
    return found


def keep_code(store: Path, stages: Iterable[Stage]) -> None:
    """Write the code of stages beside their results, after that of earlier runs: a change is reported once."""
    for stage in stages:
        now, known = code_of(stage), _read(store, stage)
        if now.file and not now.is_among(known):
            record = {"code": now.tree(), "file": now.file, "origin": now.origin, "reader": now.reader}
            write_atomically(_path(store, stage), canonical([*known, record]))


def _path(store: Path, stage: Stage) -> Path:
    return Store(store).folder(stage) / CODE_FILE


def _read(store: Path, stage: Stage) -> list[dict[str, Any]]:
    path = _path(store, stage)
    known: list[dict[str, Any]] = orjson.loads(path.read_bytes()) if path.is_file() else []
    return known


@cache
def _code_of(kind: type[Stage]) -> StageCode:
    """Return the code of a class."""
    path = Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or "")
    reader = f"python {sys.version_info.major}.{sys.version_info.minor}"
    if is_ours(kind):
        origin = f"clipcurate {importlib.metadata.version('clipcurate')}"
        reader += f", {origin}"
    else:
        origin = describe_origin({**origin_of(kind.__module__), "hash": ""}).strip()

    @cache
    def tree() -> str:
        return tree_hash(path.read_text(encoding="utf-8"), kind.__qualname__)

    return StageCode(file_hash(path) if path.is_file() else "", tree, origin, reader)


def tree_hash(source: str, name: str) -> str:
    """Return the hash of a class and of what it uses of its file: 16 hex digits; empty if the file has no such class.

    Args:
        source: The file's text.
        name: The class's name.
    """
    tree = ast.parse(source)
    if (own := _named(tree, name)) is None:
        return ""
    defined: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for key, part in _bound(statement):
            defined.setdefault(key, []).append(part)
    used: dict[str, list[ast.stmt]] = {}
    waiting: list[ast.AST] = [own]
    while waiting:
        for node in ast.walk(waiting.pop()):
            if isinstance(node, ast.Name) and node.id in defined and node.id not in used and node.id != own.name:
                used[node.id] = defined[node.id]
                waiting += defined[node.id]
    nodes = {id(node): node for found in used.values() for node in found}
    parts = sorted(ast.dump(_without_docstrings(node)) for node in nodes.values())
    return blake3("\n".join([ast.dump(_without_docstrings(own)), *parts]).encode()).hexdigest(length=8)


def _named(tree: ast.Module, name: str) -> ast.ClassDef | None:
    """Return the class of this qualified name; that of a class in a function is found by its last part."""
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return next((node for node in classes if node.name == name.rpartition(".")[2]), None)


def _bound(node: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that a statement at the top of a file binds, with what binds them: of an import just that name."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name, node
    elif isinstance(node, ast.Import):
        yield from (((item.asname or item.name).partition(".")[0], ast.Import([item])) for item in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from ((item.asname or item.name, ast.ImportFrom(node.module, [item], node.level)) for item in node.names)
    else:
        names = (item for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store))
        yield from ((item.id, node) for item in names)


def _without_docstrings(node: ast.stmt) -> ast.stmt:
    """Return a definition without the texts that only people read."""
    for inner in ast.walk(node):
        body = getattr(inner, "body", None)
        if isinstance(body, list):
            kept = [item for item in body if not _is_text(item)]
            inner.body = kept  # type: ignore[attr-defined]
    return node


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
