"""The journal of answers: one SQLite file with every outcome of a language model, so that no request is sent twice.

An answer is an input of the data set from the moment it arrives. It is committed before it is used, and a request
whose key is in the journal is never sent again, whatever backend would have sent it.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from curation.llm.interface import Answer, CompletionRequest, Failure
from data_manifests.errors import InputError

CompletionOutcome = Answer | Failure

_APPLICATION_ID = 0x434C4A31
_BUSY_S = 60.0
_DETAIL_CHARS = 300
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcomes (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    text TEXT,
    finish_reason TEXT NOT NULL,
    prompt_chars INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    attempts INTEGER NOT NULL
)
"""
_FIND = "SELECT text, finish_reason, prompt_tokens, completion_tokens, reason, detail FROM outcomes WHERE key = ?"
_INSERT = (
    "INSERT INTO outcomes (key, endpoint, model, text, finish_reason, prompt_chars, prompt_tokens, completion_tokens,"
    " reason, detail, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
)


class JournalEntry(NamedTuple):
    """One outcome with the request's columns; `entry_of` creates it from a request.

    Attributes:
        note: How the request that was answered differed from the one on record; recorded as the answer's detail.
    """

    key: str
    endpoint: str
    model: str
    prompt_chars: int
    outcome: CompletionOutcome
    attempts: int = 1
    note: str = ""


class Usage(NamedTuple):
    """Number of outcomes of a model, and its tokens as counted by the server."""

    answers: int
    failures: int
    prompt_tokens: int
    completion_tokens: int


def prompt_chars(body: Mapping[str, Any]) -> int:
    """Return the number of characters of a request's prompt or messages."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return len(prompt)
    contents = [message.get("content") for message in body.get("messages", ())]
    return sum(len(content) for content in contents if isinstance(content, str))


def entry_of(
    key: str, request: CompletionRequest, outcome: CompletionOutcome, attempts: int = 1, note: str = ""
) -> JournalEntry:
    """Return the journal entry of a request and its outcome."""
    body = request.body
    return JournalEntry(key, request.endpoint, str(body.get("model", "")), prompt_chars(body), outcome, attempts, note)


class Journal:
    """The journal at `path`, created if it does not exist.

    Several processes of one machine may write concurrently; of two outcomes for one key the first stays. A committed
    outcome survives a killed process. The last ones may be lost when the machine loses power; their requests are then
    sent again.

    Args:
        path: The SQLite file; its ``-wal`` and ``-shm`` files belong to it while it is open.

    Raises:
        InputError: the file is damaged, is not a journal, or cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        with self._sqlite_errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_S, isolation_level=None, cached_statements=32, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        """Create the table in a new file, leave an existing journal alone, and reject any other database."""
        run = self._connection.execute
        run("PRAGMA synchronous = NORMAL")  # write-ahead log: no fsync for each commit, still no damage
        run("PRAGMA wal_autocheckpoint = 4000")  # pages; each checkpoint waits for the disk
        if run("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID:
            return
        if run("SELECT count(*) FROM sqlite_master WHERE tbl_name != 'outcomes'").fetchone()[0]:
            raise sqlite3.DatabaseError("it contains other tables")
        deadline = time.monotonic() + _BUSY_S
        while True:  # unlike other statements, changing the mode does not wait for a lock
            try:
                run("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        run("BEGIN IMMEDIATE")
        run(_SCHEMA)
        run(f"PRAGMA application_id = {_APPLICATION_ID}")
        run("COMMIT")

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        """Raise SQLite's errors about the file as `InputError`."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise InputError(
                f"{self._path}: the journal of answers cannot be used: {error}",
                allowed="a writable file on a local disk with free space",
                fix="free disk space, or check permissions; answers already in the journal are safe",
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self._path}: not a journal of answers, or damaged: {error}",
                allowed="a journal that a clipcurate run created",
                fix="restore it from a copy, or move it away: its requests are then sent again",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, key: str) -> CompletionOutcome | None:
        """Return the outcome for a request's key, or None.

        Raises:
            InputError: the journal is damaged.
        """
        with self._sqlite_errors():
            row = self._connection.execute(_FIND, (bytes.fromhex(key),)).fetchone()
        return None if row is None else _outcome(row)

    def record(self, entries: Sequence[JournalEntry]) -> list[tuple[str, CompletionOutcome]]:
        """Commit outcomes and return those in the journal by key: another process may have been first.

        Raises:
            InputError: the journal is damaged, or cannot be written.
        """
        run = self._connection.execute
        stored: list[tuple[str, CompletionOutcome]] = []
        with self._sqlite_errors():
            run("BEGIN IMMEDIATE")
            try:
                for entry in entries:
                    inserted = run(_INSERT, _row(entry)).rowcount == 1
                    earlier = None if inserted else run(_FIND, (bytes.fromhex(entry.key),)).fetchone()
                    stored.append((entry.key, entry.outcome if earlier is None else _outcome(earlier)))
                run("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    run("ROLLBACK")
                raise
        return stored

    def models(self) -> list[str]:
        """Return the names of all models, sorted."""
        return [row[0] for row in self._all("SELECT DISTINCT model FROM outcomes ORDER BY model")]

    def usage(self, model: str) -> Usage:
        """Return counts and tokens of a model's outcomes; failures have no tokens."""
        sums = "count(text), count(*) - count(text), sum(prompt_tokens), sum(completion_tokens)"
        return Usage(*(value or 0 for value in self._all(f"SELECT {sums} FROM outcomes WHERE model = ?", model)[0]))  # noqa: S608 - constants

    def chars_per_token(self, model: str) -> float | None:
        """Return prompt characters per token over a model's answers; None when the server counted no tokens."""
        where = "model = ? AND text IS NOT NULL AND prompt_tokens > 0"
        query = f"SELECT sum(prompt_chars), sum(prompt_tokens) FROM outcomes WHERE {where}"  # noqa: S608 - constants
        chars, tokens = self._all(query, model)[0]
        return chars / tokens if tokens else None

    def failures(self, model: str) -> dict[str, int]:
        """Return the number of failed requests by reason."""
        query = "SELECT reason, count(*) FROM outcomes WHERE model = ? AND text IS NULL GROUP BY reason ORDER BY reason"
        return dict(self._all(query, model))

    def forget_failures(self) -> int:
        """Delete the failures, so that their requests are sent again, and return their number."""
        with self._sqlite_errors():
            return self._connection.execute("DELETE FROM outcomes WHERE text IS NULL").rowcount

    def erase(self, keys: Iterable[str], contains: Callable[[str], bool]) -> int:
        """Delete outcomes so that no byte of them stays in the file, and return their number. Can be repeated after a kill.

        Args:
            keys: Keys of the requests.
            contains: Applied to the text of every outcome; those for which it is true are deleted too.

        Raises:
            InputError: another process is using the journal, or it cannot be written.
        """
        run = self._connection.execute
        try:
            run("PRAGMA secure_delete = ON")
            rows = run("SELECT key, text, detail FROM outcomes")
            matching = [key for key, text, detail in rows if contains(f"{text or ''}\n{detail}")]
            deleted = {*matching, *(bytes.fromhex(key) for key in keys)}
            run("BEGIN IMMEDIATE")
            num_erased = sum(run("DELETE FROM outcomes WHERE key = ?", (key,)).rowcount for key in sorted(deleted))
            run("COMMIT")
            run("VACUUM")
            busy = run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]  # the log still contained the deleted pages
        except sqlite3.Error as error:
            raise InputError(
                f"{self._path}: answers cannot be erased: {error}", fix="end other runs, then repeat the command"
            ) from error
        if busy:
            raise InputError(
                f"{self._path}: another process is using the journal", fix="end it, then repeat the command"
            )
        return num_erased

    def _all(self, query: str, *values: str) -> list[Any]:
        with self._sqlite_errors():
            return self._connection.execute(query, values).fetchall()


def _outcome(row: tuple[Any, ...]) -> CompletionOutcome:
    text, finish_reason, prompt_tokens, completion_tokens, reason, detail = row
    return Failure(reason, detail) if text is None else Answer(text, finish_reason, prompt_tokens, completion_tokens)


def _row(entry: JournalEntry) -> tuple[Any, ...]:
    key, outcome = bytes.fromhex(entry.key), entry.outcome
    request = (key, entry.endpoint, entry.model)
    if isinstance(outcome, Answer):
        tokens = (outcome.prompt_tokens, outcome.completion_tokens)
        return (
            *request,
            outcome.text,
            outcome.finish_reason,
            entry.prompt_chars,
            *tokens,
            "",
            entry.note,
            entry.attempts,
        )
    return (*request, None, "", entry.prompt_chars, 0, 0, outcome.reason, outcome.detail, entry.attempts)


def shortened(detail: str) -> str:
    """Return a detail on one line of at most 300 characters."""
    plain = " ".join(detail.split())
    return plain if len(plain) <= _DETAIL_CHARS else plain[: _DETAIL_CHARS - 3] + "..."


class CompletionBackend(Protocol):
    """What completes the requests that are not in the journal; outcomes are recorded before they are returned."""

    def put(self, key: str, request: CompletionRequest) -> None:
        """Queue a request and return at once."""

    def take(self) -> list[tuple[str, CompletionOutcome]]:
        """Wait for at least one recorded outcome and return all that have arrived; empty when none will arrive."""


class JournaledClient:
    """A `CompletionClient` that looks into the journal first, and sends equal requests once.

    Args:
        journal: Where outcomes are looked up.
        backend: Completes the other requests.
    """

    def __init__(self, journal: Journal, backend: CompletionBackend) -> None:
        self._journal, self._backend = journal, backend
        self._ready: deque[tuple[CompletionRequest, CompletionOutcome]] = deque()
        self._pending: dict[str, list[CompletionRequest]] = {}

    def submit(self, request: CompletionRequest) -> None:
        """Queue a request, unless the journal has its outcome or an equal request is pending."""
        key = request.key
        if key in self._pending:
            self._pending[key].append(request)
        elif (recorded := self._journal.find(key)) is not None:
            self._ready.append((request, recorded))
        else:
            self._pending[key] = [request]
            self._backend.put(key, request)

    def outcomes(self) -> Iterator[tuple[CompletionRequest, CompletionOutcome]]:
        """Yield outcomes as they arrive, until no request is pending."""
        while True:
            while self._ready:
                yield self._ready.popleft()
            if not self._pending or not (arrived := self._backend.take()):
                return
            for key, outcome in arrived:
                self._ready.extend((request, outcome) for request in self._pending.pop(key))
