"""Graphs in a compiled store: a user's file, or the small seed graph that ships with the package."""

from __future__ import annotations

import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.knowledge.interface import Edge, KnowledgeGraph
from curation.knowledge.store_reader import BUILD, StoreInfo, StoreReader, open_store
from curation.knowledge.store_writer import compile_rows, is_store
from data_manifests.errors import InputError

SEED = "seed"


class _StoredGraph(ABC):
    """Implements `KnowledgeGraph` with a `StoreReader`."""

    @abstractmethod
    def reader(self) -> StoreReader:
        """Return the open store; opened once in each process."""

    def content_hash(self) -> str:
        """Return the hash of all edges."""
        return self.info().content_hash

    def info(self) -> StoreInfo:
        """Return the store's numbers and sources."""
        return self.reader().info()

    def licences(self) -> tuple[str, ...]:
        """Return the licences of its edges."""
        return tuple(sorted({terms for _, terms, count in self.info().sources if count}))

    def edges_from(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
        """Return edges by head (see `KnowledgeGraph`); a concept without any is left out."""
        return self.reader().edges("head", concepts, relations)

    def edges_to(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
        """Return edges by tail (see `KnowledgeGraph`); a concept without any is left out."""
        return self.reader().edges("tail", concepts, relations)

    def known(self, concepts: Sequence[str]) -> set[str]:
        """Return which of the concepts the graph holds."""
        return self.reader().known(concepts)


@dataclass(frozen=True)
class GraphFile(_StoredGraph):
    """A store that `clipcurate kg build` compiled.

    Contains only the path, so it can be sent to worker processes; each opens the file read-only at its first query. A
    file that is replaced by a newer store is opened again.

    Attributes:
        path: The store file, absolute where workers run in other folders.
    """

    path: str

    def describe(self) -> str:
        """Return the file's name."""
        return Path(self.path).name

    def reader(self) -> StoreReader:
        """Return the open store.

        Raises:
            InputError: the file is missing, is no store, is of another format or is damaged.
        """
        path = Path(self.path)
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"knowledge graph {path}: there is no such file", fix=BUILD) from error
        return _opened(str(path.absolute()), (os.getpid(), stat.st_ino, stat.st_mtime_ns, stat.st_size))


@dataclass(frozen=True)
class SeedGraph(_StoredGraph):
    """The few hundred facts that ship with the package, compiled in memory at the first query."""

    def describe(self) -> str:
        """Return its name."""
        return "seed graph"

    def reader(self) -> StoreReader:
        """Return the compiled facts."""
        return _opened("", (os.getpid(),))


_readers: dict[str, tuple[tuple[int, ...], StoreReader]] = {}
_opening = threading.Lock()


def _opened(path: str, state: tuple[int, ...]) -> StoreReader:
    """Return the reader of a file in this state, opened at most once per process; an empty path is the seed graph."""
    with _opening:
        opened = _readers.get(path)
        if opened is None or opened[0] != state:
            # The old reader is dropped, not closed: another thread may be reading from it.
            opened = _readers[path] = state, open_store(Path(path)) if path else _compile_seed()
        return opened[1]


def _compile_seed() -> StoreReader:
    import importlib.resources

    from curation.knowledge.formats.assertions import read_assertions
    from curation.knowledge.formats.rows import Keep, ReadCounts

    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with importlib.resources.as_file(importlib.resources.files("curation.knowledge") / "seed.csv") as path:
        rows = read_assertions(path, Keep(), ReadCounts(path.name), lambda _what, _count: None)
        compile_rows(rows, db, ":memory:", lambda _what, _count: None)
    return StoreReader(db, "seed")


def open_graph(spec: str | None) -> KnowledgeGraph:
    """Return the graph that the user chose.

    Args:
        spec: None or ``seed`` for the one that ships, or the path of a compiled store or a conceptnet-lite database.

    Raises:
        InputError: there is no such file, or it must be compiled first.
    """
    from curation.knowledge.formats.conceptnet_lite import ConceptNetLiteGraph, is_conceptnet_lite

    if spec is None or spec == SEED:
        return SeedGraph()
    path = Path(spec)
    allowed = f"'{SEED}', a store that kg build wrote, or a conceptnet-lite database"
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise InputError(f"knowledge graph {spec}: {what}", allowed=allowed, fix=BUILD)
    if is_conceptnet_lite(path):
        graph: KnowledgeGraph = ConceptNetLiteGraph(str(path.absolute()))
    else:
        if path.suffix in {".csv", ".gz", ".json"} and not is_store(path):
            raise InputError(f"knowledge graph {spec}: a file to compile, not a store", allowed=allowed, fix=BUILD)
        graph = GraphFile(str(path.absolute()))
    graph.content_hash()  # so that a damaged file fails now, not in the middle of a run
    return graph
