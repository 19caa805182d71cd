"""Databases of the conceptnet-lite package: read row by row into a store, or queried in place, read-only."""

from __future__ import annotations

import functools
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from blake3 import blake3

from curation.knowledge.formats.rows import (
    PROGRESS_EVERY,
    BuildProgress,
    EdgeRow,
    Keep,
    MalformedError,
    ReadCounts,
    checked_name,
    checked_sense,
    provenance,
)
from curation.knowledge.interface import Edge
from data_manifests.errors import InputError

ALLOWED = "a database that conceptnet-lite built (tables relation, language, label, concept, edge)"
_TABLES = ("concept", "edge", "label", "language", "relation")
_EDGES = """
SELECT e.id, r.name, hl.text, h.sense_label, tl.text, t.sense_label, e.etc
FROM edge AS e CROSS JOIN relation AS r ON r.id = e.relation_id
CROSS JOIN concept AS h ON h.id = e.start_id CROSS JOIN label AS hl ON hl.id = h.label_id
CROSS JOIN concept AS t ON t.id = e.end_id CROSS JOIN label AS tl ON tl.id = t.label_id
WHERE hl.language_id = :language AND tl.language_id = :language ORDER BY e.id
"""
_AT = """
SELECT e.id, r.name, ml.text, m.sense_label, ol.text, o.sense_label, e.etc
FROM label AS ml CROSS JOIN concept AS m ON m.label_id = ml.id CROSS JOIN edge AS e ON e.{mine}_id = m.id
CROSS JOIN concept AS o ON o.id = e.{other}_id CROSS JOIN label AS ol ON ol.id = o.label_id
CROSS JOIN relation AS r ON r.id = e.relation_id
WHERE ml.text = ? AND ml.language_id = ? AND ol.language_id = ?
"""
_NUM_SAMPLES, _SAMPLE_BYTES = 256, 4096


def relation_name(snake: str) -> str:
    """Return ConceptNet's name of a relation that conceptnet-lite spells in snake case."""
    if snake == "external_url":
        return "ExternalURL"
    place, _, name = snake.rpartition("/")  # dbpedia/known_for was dbpedia/knownFor
    camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    return f"{place}/{camel[:1].lower()}{camel[1:]}" if place else camel


def is_conceptnet_lite(path: Path) -> bool:
    """Whether a file is a SQLite database with conceptnet-lite's tables."""
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            return False
    try:
        with closing(_connect(path)) as db:
            found = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            columns = {row[1] for row in db.execute("PRAGMA table_info(edge)")}
    except sqlite3.DatabaseError:
        return False  # a damaged file is not such a database; the caller reports it
    return set(_TABLES) <= found and {"relation_id", "start_id", "end_id", "etc"} <= columns


def _connect(path: Path) -> sqlite3.Connection:
    # Not "immutable": the user's other programs may write to it.
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, check_same_thread=False)


def _language(db: sqlite3.Connection, path: Path, language: str) -> int:
    row = db.execute("SELECT id FROM language WHERE name = ?", (language,)).fetchone()
    if row is None:
        languages = ", ".join(name for (name,) in db.execute("SELECT name FROM language ORDER BY name LIMIT 20"))
        raise InputError(f"{path}: no concept of language '{language}'", allowed=languages)
    return int(row[0])


def read_conceptnet_lite(path: Path, keep: Keep, tally: ReadCounts, progress: BuildProgress) -> Iterator[EdgeRow]:
    """Yield a database's edges whose two ends are of the language kept.

    Raises:
        InputError: not such a database, damaged, or without the language.
    """
    if not is_conceptnet_lite(path):
        raise InputError(f"--conceptnet-lite {path}: not conceptnet-lite's database", allowed=ALLOWED)
    with closing(_connect(path)) as db:
        try:
            for number, row in enumerate(db.execute(_EDGES, {"language": _language(db, path, keep.language)}), start=1):
                if number % PROGRESS_EVERY == 0:
                    progress(f"reading {tally.name}", number)
                tally.num_read = number
                try:
                    found = _row(row)
                except MalformedError as error:
                    tally.malformed(row[0], str(error))
                    continue
                if keep.wants(found[1], found[3]):
                    tally.num_kept += 1
                    yield found
                else:
                    tally.skipped(found[1])
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{path}: damaged database ({error})", fix="build it again with conceptnet-lite"
            ) from error


def _row(row: tuple[Any, ...]) -> EdgeRow:
    _, relation, head, head_sense, tail, tail_sense, details = row
    texts = (relation, head, head_sense, tail, tail_sense)
    if not all(isinstance(text, str) for text in texts) or not isinstance(details, str | bytes):
        raise MalformedError("a column is not a text")
    try:
        weight, dataset, license_name = provenance(orjson.loads(details))
    except orjson.JSONDecodeError as error:
        raise MalformedError("the column etc is not JSON") from error
    return (
        checked_name(head.replace("_", " ").strip(), "a concept"),
        relation_name(checked_name(relation.strip("/"), "the relation")),
        checked_name(tail.replace("_", " ").strip(), "a concept"),
        weight,
        dataset,
        license_name,
        checked_sense(head_sense.rstrip("/")),
        checked_sense(tail_sense.rstrip("/")),
    )


@dataclass(frozen=True)
class ConceptNetLiteGraph:
    """A conceptnet-lite database queried in place: nothing is compiled, nothing is written.

    Slower than a store, and malformed rows are skipped without being counted: `clipcurate kg build
    --conceptnet-lite` does both better.

    Attributes:
        path: The database file.
        language: Of the concepts.
    """

    path: str
    language: str = "en"

    def content_hash(self) -> str:
        """Return a hash of the file's size, its tables' largest row numbers, and 256 blocks spread over the file.

        Not of every edge: the official database is over 9 GB, and a hash has to be there in under a second. A change
        of a few bytes between the blocks that leaves size and row numbers alone is not noticed. Nor does it equal the
        hash of a store compiled from the same edges.
        """
        path = self._file()
        stat = path.stat()
        return _sampled_hash(str(path.absolute()), self.language, stat.st_size, stat.st_mtime_ns)

    def licences(self) -> tuple[str, ...]:
        """Return ConceptNet's licence, the strictest of its parts: what an edge states is in the edge."""
        return ("cc:by-sa/4.0",)

    def describe(self) -> str:
        """Return the file's name."""
        return f"{Path(self.path).name} (conceptnet-lite, {self.language})"

    def edges_from(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
        """Return edges by head (see `KnowledgeGraph`); a concept without any is left out."""
        return self._edges(_AT.format(mine="start", other="end"), concepts, relations, outward=True)

    def edges_to(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
        """Return edges by tail (see `KnowledgeGraph`); a concept without any is left out."""
        return self._edges(_AT.format(mine="end", other="start"), concepts, relations, outward=False)

    def known(self, concepts: Sequence[str]) -> set[str]:
        """Return which concepts have an edge to or from a concept of the same language."""
        return {*self.edges_from(concepts), *self.edges_to(concepts)}

    def _file(self) -> Path:
        path = Path(self.path)
        if not path.is_file():
            raise InputError(f"knowledge graph {path}: there is no such file", allowed=ALLOWED)
        return path

    def _edges(
        self, statement: str, concepts: Sequence[str], relations: Sequence[str], *, outward: bool
    ) -> dict[str, list[Edge]]:
        db, language, lock = _opened(str(self._file().absolute()), self.language)
        found = {}
        for words in dict.fromkeys(concepts):
            with lock:
                rows = db.execute(statement, (words.replace(" ", "_"), language, language)).fetchall()
            edges = _merged(rows, relations, outward=outward)
            if edges:
                found[words] = edges
        return found


def _merged(rows: list[tuple[Any, ...]], relations: Sequence[str], *, outward: bool) -> list[Edge]:
    """Return edges in the order of `KnowledgeGraph`, equal ones merged as a store merges them."""
    best: dict[tuple[str, ...], Edge] = {}
    for number, relation, *ends, details in rows:
        mine, other = ends[:2], ends[2:]
        try:
            edge = Edge(*_row((number, relation, *(mine + other if outward else other + mine), details)))
        except MalformedError:
            continue  # see the class's docstring
        if relations and edge.relation not in relations:
            continue
        key = (edge.head, edge.relation, edge.tail, edge.head_sense, edge.tail_sense)
        known = best.get(key)
        if known is None or _rank(edge) < _rank(known):
            best[key] = edge
    return sorted(
        best.values(),
        key=lambda edge: (-edge.weight, edge.relation, edge.head, edge.tail, edge.head_sense, edge.tail_sense),
    )


def _rank(edge: Edge) -> tuple[float, str, str]:
    return -edge.weight, edge.dataset, edge.license


@functools.cache
def _opened(path: str, language: str) -> tuple[sqlite3.Connection, int, threading.Lock]:
    """Return a connection for this process; a read-only one may be copied by a fork between two questions."""
    db = _connect(Path(path))
    return db, _language(db, Path(path), language), threading.Lock()


@functools.cache
def _sampled_hash(path: str, language: str, size: int, _changed_ns: int) -> str:
    hasher = blake3(orjson.dumps(["conceptnet-lite", language, size]))
    with closing(_connect(Path(path))) as db:
        for table in _TABLES:
            (last,) = db.execute(f"SELECT max(rowid) FROM {table}").fetchone()  # noqa: S608 - our own table names
            hasher.update(f"{table} {last}\n".encode())
    with Path(path).open("rb") as file:
        for index in range(_NUM_SAMPLES):
            file.seek(index * max(0, size - _SAMPLE_BYTES) // (_NUM_SAMPLES - 1))
            hasher.update(file.read(_SAMPLE_BYTES))
    return hasher.hexdigest(length=16)
