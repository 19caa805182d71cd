"""Compiles edges, in any order, into the store file that queries read.

A store is a SQLite file. Names (concepts, relations, sources, senses) are numbered in alphabetical order, so numbers
sort as names do; edges are stored by head in the order of query results, with a second index by tail. The same edges
give the same content hash, and with the same SQLite the same bytes: nothing in the file depends on the order of the
input, which goes to a separate scratch file that SQLite sorts on disk at bounded memory.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import sqlite3
import struct
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import orjson
from blake3 import blake3

from curation.knowledge.formats.rows import PROGRESS_EVERY, BuildProgress, EdgeRow
from data_manifests.atomic_files import publish_file
from data_manifests.errors import InputError

FORMAT = 1
APPLICATION_ID = 0x6B676331
"""In the header of every store; distinguishes it from other SQLite files."""
PAGE_BYTES = 4096

_CACHE_KIB = 65536
_SETTINGS = f"""
PRAGMA main.page_size={PAGE_BYTES}; PRAGMA main.application_id={APPLICATION_ID};
PRAGMA main.journal_mode=OFF; PRAGMA main.synchronous=OFF; PRAGMA main.cache_size=-{_CACHE_KIB};
PRAGMA scratch.journal_mode=OFF; PRAGMA scratch.synchronous=OFF; PRAGMA scratch.cache_size=-{_CACHE_KIB};
PRAGMA temp_store=FILE;
"""
_TABLES = """
CREATE TABLE scratch.arrived(
    head TEXT, relation TEXT, tail TEXT, weight REAL, dataset TEXT, license TEXT, head_sense TEXT, tail_sense TEXT);
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE concept(id INTEGER PRIMARY KEY, words TEXT NOT NULL);
CREATE TABLE relation(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE sense(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE source(id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, license TEXT NOT NULL, UNIQUE(dataset, license));
CREATE TABLE edge(
    head INTEGER, weight REAL, relation INTEGER, tail INTEGER, head_sense INTEGER, tail_sense INTEGER, source INTEGER,
    PRIMARY KEY(head, weight DESC, relation, tail, head_sense, tail_sense)) WITHOUT ROWID;
"""
_NAMES = """
INSERT INTO concept(words) SELECT head FROM scratch.arrived UNION SELECT tail FROM scratch.arrived ORDER BY 1;
CREATE UNIQUE INDEX concept_words ON concept(words);
INSERT INTO relation(name) SELECT DISTINCT relation FROM scratch.arrived ORDER BY 1;
INSERT INTO sense(name)
    SELECT DISTINCT head_sense FROM scratch.arrived UNION SELECT DISTINCT tail_sense FROM scratch.arrived ORDER BY 1;
INSERT INTO source(dataset, license) SELECT DISTINCT dataset, license FROM scratch.arrived ORDER BY 1, 2;
"""
_NUMBERED = """
SELECT h.id, r.id, t.id, hs.id, ts.id, a.weight, s.id
FROM scratch.arrived AS a
CROSS JOIN concept AS h ON h.words = a.head CROSS JOIN concept AS t ON t.words = a.tail
CROSS JOIN relation AS r ON r.name = a.relation
CROSS JOIN sense AS hs ON hs.name = a.head_sense CROSS JOIN sense AS ts ON ts.name = a.tail_sense
CROSS JOIN source AS s ON s.dataset = a.dataset AND s.license = a.license
ORDER BY 1, 2, 3, 4, 5, 6 DESC, 7
"""
_BY_TAIL = "CREATE INDEX edge_by_tail ON edge(tail, weight DESC, relation, head, head_sense, tail_sense, source)"

_Numbered = tuple[int, int, int, int, int, float, int]
_PACKED = struct.Struct("<5Id16s")


def publish_store(rows: Iterable[EdgeRow], out: Path, progress: BuildProgress) -> None:
    """Write a store so that it is there whole or not at all, also after a kill or a power cut.

    What a killed build leaves behind (a hidden folder beside `out`) is removed by the next one.

    Raises:
        InputError: `out` exists and is not a store, or its folder does not exist.
        OSError: the disk is full or broken.
    """
    from filelock import FileLock

    require_writable(out)
    _sweep(out)
    with tempfile.TemporaryDirectory(prefix=_prefix(out), dir=out.parent, ignore_cleanup_errors=True) as name:
        working = Path(name)
        with FileLock(working / "lock"):
            draft = working / "store"
            with _disk_errors(draft), contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
                compile_rows(rows, db, str(working / "scratch"), progress)
            publish_file(draft, out)


def require_writable(out: Path) -> None:
    """Check that a store may be written at `out`: nothing is there, or an older store.

    Raises:
        InputError: otherwise.
    """
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}", fix="make the folder first")
    if out.exists() and not (out.is_file() and is_store(out)):
        raise InputError(
            f"--out {out}: exists and is not a graph store",
            allowed="a new path, or an older store",
            fix="name another file",
        )


def is_store(path: Path) -> bool:
    """Return whether a file is a SQLite file with our application id (bytes 68 to 71 of the header)."""
    with path.open("rb") as file:
        header = file.read(100)
    return header.startswith(b"SQLite format 3\0") and header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def compile_rows(rows: Iterable[EdgeRow], db: sqlite3.Connection, scratch: str, progress: BuildProgress) -> None:
    """Fill an empty database (in autocommit mode) with a store of the given edges.

    Args:
        rows: Edges in any order; the same edge (ends, relation, senses) twice counts once, with the heaviest weight and
            that one's data set (the first by name among equals).
        db: The database.
        scratch: Path of a scratch database; ``:memory:`` for small graphs.
        progress: Called with the step and its count.
    """
    db.execute("ATTACH DATABASE ? AS scratch", (scratch,))
    db.executescript(_SETTINGS)
    db.executescript(f"BEGIN; {_TABLES}")
    db.executemany("INSERT INTO scratch.arrived VALUES (?,?,?,?,?,?,?,?)", rows)
    progress("numbering concepts", 0)
    for statement in _NAMES.split(";"):
        db.execute(statement)
    hasher = blake3(b"clipcurate graph 1\n")
    counts = {table: _hash_names(db, table, hasher) for table in ("concept", "relation", "sense")}
    sources = {
        number: blake3(orjson.dumps(names)).digest(length=16)
        for number, *names in db.execute("SELECT id, dataset, license FROM source")
    }
    progress("sorting edges", 0)
    by_relation: Counter[int] = Counter()
    by_source: Counter[int] = Counter()
    edges = _merged(db, hasher, sources, (by_relation, by_source), progress)
    db.executemany("INSERT INTO edge VALUES (?,?,?,?,?,?,?)", edges)
    progress("indexing by tail", 0)
    db.execute(_BY_TAIL)
    meta = {
        "format": FORMAT,
        "content_hash": hasher.hexdigest(length=16),
        "num_edges": by_relation.total(),
        **{f"num_{table}s": number for table, number in counts.items()},
        "edges_by_relation": [by_relation[number + 1] for number in range(counts["relation"])],
        "edges_by_source": [by_source[number + 1] for number in range(len(sources))],
    }
    db.executemany("INSERT INTO meta VALUES (?,?)", [(key, orjson.dumps(meta[key]).decode()) for key in sorted(meta)])
    db.execute("COMMIT")
    db.execute("DETACH DATABASE scratch")


def _hash_names(db: sqlite3.Connection, table: str, hasher: blake3) -> int:
    """Hash a table's names in order; return how many there are."""
    count = 0
    for row in db.execute(f"SELECT * FROM {table} ORDER BY id"):  # noqa: S608 - our own table names
        hasher.update(orjson.dumps(row[1:]) + b"\n")
        count += 1
    hasher.update(b"\n")
    return count


def _merged(
    db: sqlite3.Connection,
    hasher: blake3,
    sources: Mapping[int, bytes],
    counts: tuple[Counter[int], Counter[int]],
    progress: BuildProgress,
) -> Iterator[tuple[int, float, int, int, int, int, int]]:
    """Yield each edge once, by head and then in the order of query results; hash and count them.

    A source is hashed by name, not by number: one whose edges were all merged into heavier ones does not count.
    """
    by_relation, by_source = counts
    cursor = db.execute(_NUMBERED)
    cursor.arraysize = 4096
    done = 0
    for head, group in itertools.groupby(_fetched(cursor), key=lambda row: row[0]):
        of_head = []
        packed = bytearray()
        previous: tuple[int, ...] = ()
        for row in group:
            # The heaviest of equal edges comes first, and the first source by name among those.
            if row[:5] == previous:
                continue
            previous = row[:5]
            packed += _PACKED.pack(*row[:6], sources[row[6]])
            _, relation, tail, head_sense, tail_sense, weight, source = row
            by_relation[relation] += 1
            by_source[source] += 1
            of_head.append((-weight, relation, tail, head_sense, tail_sense, source))
        hasher.update(packed)
        of_head.sort()
        for negative, relation, tail, head_sense, tail_sense, source in of_head:
            yield head, -negative, relation, tail, head_sense, tail_sense, source
            done += 1
            if done % PROGRESS_EVERY == 0:
                progress("writing edges", done)


def _fetched(cursor: sqlite3.Cursor) -> Iterator[_Numbered]:
    while rows := cursor.fetchmany():
        yield from rows


def _prefix(out: Path) -> str:
    return f".{out.name}.building-"


def _sweep(out: Path) -> None:
    """Remove the leftovers of killed builds of this store; a running build holds its lock."""
    from filelock import FileLock, Timeout

    for folder in out.parent.glob(f"{_prefix(out)}*"):
        if not (folder / "lock").exists():
            continue
        with contextlib.suppress(Timeout), FileLock(folder / "lock", blocking=False):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's disk errors as the corresponding `OSError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorcode & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if code == sqlite3.SQLITE_IOERR:
            raise OSError(errno.EIO, f"SQLite: {error}", str(path)) from error
        raise
