"""Reads a compiled store: opened read-only in milliseconds, queried for many concepts at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from curation.knowledge.interface import Edge
from curation.knowledge.store_writer import FORMAT, PAGE_BYTES, is_store
from data_manifests.errors import InputError

BUILD = "compile one: clipcurate kg build --out FILE --assertions FILE.csv.gz"

_ENDS = {
    "head": "SELECT e.weight, e.relation, c.words, e.head_sense, e.tail_sense, e.source "
    "FROM edge AS e CROSS JOIN concept AS c ON c.id = e.tail WHERE e.head = ? {only}"
    "ORDER BY e.weight DESC, e.relation, e.tail, e.head_sense, e.tail_sense",
    "tail": "SELECT e.weight, e.relation, c.words, e.head_sense, e.tail_sense, e.source "
    "FROM edge AS e INDEXED BY edge_by_tail CROSS JOIN concept AS c ON c.id = e.head WHERE e.tail = ? {only}"
    "ORDER BY e.weight DESC, e.relation, e.head, e.head_sense, e.tail_sense",
}
"""Edges are stored in the order of the results, so neither query sorts."""


@dataclass(frozen=True)
class StoreInfo:
    """The numbers and sources of a store.

    Attributes:
        content_hash: Hash of its edges.
        num_edges: Number of edges.
        num_concepts: Number of distinct heads and tails.
        relations: Number of edges by relation.
        sources: (data set, licence, number of edges), by name.
    """

    content_hash: str
    num_edges: int
    num_concepts: int
    relations: dict[str, int] = field(default_factory=dict)
    sources: tuple[tuple[str, str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the info as JSON values."""
        sources = [{"dataset": name, "license": terms, "edges": count} for name, terms, count in self.sources]
        return {
            "content_hash": self.content_hash,
            "edges": self.num_edges,
            "concepts": self.num_concepts,
            "relations": self.relations,
            "sources": sources,
        }


class StoreReader:
    """An open store; threads may share it.

    Args:
        db: A connection that may be used from any thread.
        name: Its name in error messages.
    """

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        self._db, self._lock, self._name = db, threading.Lock(), name
        db.execute("PRAGMA cache_size=-16384")  # KiB; the default of 2 MiB reads the same pages again and again
        self.meta = {key: orjson.loads(value) for key, value in db.execute("SELECT key, value FROM meta")}
        self._relations = ["", *(name for (name,) in db.execute("SELECT name FROM relation ORDER BY id"))]
        self._senses = ["", *(name for (name,) in db.execute("SELECT name FROM sense ORDER BY id"))]
        self._sources = [("", ""), *db.execute("SELECT dataset, license FROM source ORDER BY id")]

    def info(self) -> StoreInfo:
        """Return the store's numbers and sources."""
        names = zip(self._relations[1:], self.meta["edges_by_relation"], strict=True)
        sources = zip(self._sources[1:], self.meta["edges_by_source"], strict=True)
        return StoreInfo(
            self.meta["content_hash"],
            self.meta["num_edges"],
            self.meta["num_concepts"],
            dict(names),
            tuple((dataset, terms, number) for (dataset, terms), number in sources if number),
        )

    def edges(self, end: str, concepts: Sequence[str], relations: Sequence[str]) -> dict[str, list[Edge]]:
        """Return the edges at one end ("head" or "tail"), by concept in the order of `concepts`."""
        only = ""
        if relations:
            wanted = sorted(set(relations))
            only = (
                f"AND e.relation IN ({','.join(str(n) for n, name in enumerate(self._relations) if name in wanted)}) "
            )
        statement = _ENDS[end].format(only=only)
        found: dict[str, list[Edge]] = {}
        with self._query():
            numbers = self._numbers(concepts)
            # By number: neighbours on disk are read together.
            for number, words in sorted((number, words) for words, number in numbers.items()):
                rows = self._db.execute(statement, (number,)).fetchall()
                if rows:
                    found[words] = self._edges(end, words, rows)
        return {words: found[words] for words in numbers if words in found}

    def known(self, concepts: Iterable[str]) -> set[str]:
        """Return which of the concepts the store holds."""
        with self._query():
            return set(self._numbers(concepts))

    def _numbers(self, concepts: Iterable[str]) -> dict[str, int]:
        found = {}
        for words in dict.fromkeys(concepts):
            row = self._db.execute("SELECT id FROM concept WHERE words = ?", (words,)).fetchone()
            if row is not None:
                found[words] = int(row[0])
        return found

    def _edges(self, end: str, words: str, rows: list[tuple[float, int, str, int, int, int]]) -> list[Edge]:
        relations, senses, sources = self._relations, self._senses, self._sources
        edges = []
        for weight, relation, other, head_sense, tail_sense, source in rows:
            head, tail = (words, other) if end == "head" else (other, words)
            labels = (*sources[source], senses[head_sense], senses[tail_sense])
            edges.append(Edge(head, relations[relation], tail, weight, *labels))
        return edges

    @contextmanager
    def _query(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.DatabaseError as error:
            raise InputError(f"knowledge graph {self._name}: damaged ({error})", fix="compile it again") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()


def open_store(path: Path) -> StoreReader:
    """Open a store file.

    Raises:
        InputError: it is no store, of another format or damaged.
    """
    if not path.is_file() or not is_store(path):
        raise InputError(f"knowledge graph {path}: not a compiled store", allowed="what kg build wrote", fix=BUILD)
    with path.open("rb") as file:
        header = file.read(100)
    if int.from_bytes(header[28:32], "big") * PAGE_BYTES != path.stat().st_size:
        raise InputError(f"knowledge graph {path}: cut short or damaged", fix="compile it again")
    address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    db = sqlite3.connect(address, uri=True, check_same_thread=False)
    try:
        reader = StoreReader(db, str(path))
    except (sqlite3.DatabaseError, orjson.JSONDecodeError) as error:
        db.close()
        raise InputError(f"knowledge graph {path}: damaged ({error})", fix="compile it again") from error
    if reader.meta.get("format") != FORMAT:
        db.close()
        raise InputError(
            f"knowledge graph {path}: format {reader.meta.get('format')}",
            allowed=f"format {FORMAT}",
            fix="compile it again",
        )
    return reader
