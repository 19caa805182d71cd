"""What a language model said, kept for good: one SQLite file that answers a question the second time.

An answer is an input of the data set from the moment it arrives. It is committed before anyone sees it, and a
question whose key is in the journal is never asked again, by whatever way it would have been asked.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
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
    """One outcome as the journal takes it; `entry_of` makes it from a request."""

    key: str
    endpoint: str
    model: str
    prompt_chars: int
    outcome: CompletionOutcome
    attempts: int = 1


class Usage(NamedTuple):
    """What a model has been asked so far; tokens as the server counted them."""

    answers: int
    failures: int
    prompt_tokens: int
    completion_tokens: int


class Calibration(NamedTuple):
    """Sums over the answers whose tokens the server counted: what an estimate for further requests rests on."""

    prompt_chars: int
    prompt_tokens: int
    completion_tokens: int
    answers: int


def prompt_chars(body: Mapping[str, Any]) -> int:
    """Return how many characters the model reads of a request: the prompt, or all messages."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return len(prompt)
    contents = [message.get("content") for message in body.get("messages", ())]
    return sum(len(content) for content in contents if isinstance(content, str))


def entry_of(key: str, request: CompletionRequest, outcome: CompletionOutcome, attempts: int = 1) -> JournalEntry:
    """Return the journal's entry for a request and its outcome."""
    body = request.body
    return JournalEntry(key, request.endpoint, str(body.get("model", "")), prompt_chars(body), outcome, attempts)


class Journal:
    """The journal at `path`, made if it is absent.

    Several processes of one machine may write at once; of two outcomes for one key the first stays. A committed
    outcome survives a killed process; the last ones may be lost when the whole machine loses power, and are then
    asked again.

    Args:
        path: The SQLite file; ``-wal`` and ``-shm`` files beside it belong to it while it is open.

    Raises:
        InputError: the file is damaged, something else, or cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        with self._readable():
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
        """Bring a new file to our format; leave a finished one alone, and refuse a stranger's."""
        run = self._connection.execute
        run("PRAGMA synchronous = NORMAL")  # write-ahead log: no fsync for each commit, still no damage
        run("PRAGMA wal_autocheckpoint = 4000")  # pages; each checkpoint waits for the disk
        if run("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID:
            return
        if run("SELECT count(*) FROM sqlite_master WHERE tbl_name != 'outcomes'").fetchone()[0]:
            raise sqlite3.DatabaseError("it holds other tables")
        deadline = time.monotonic() + _BUSY_S
        while True:  # changing the mode does not wait for its turn as other statements do
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
    def _readable(self) -> Iterator[None]:
        """Turn SQLite's complaints about the file into ours; a full disk stays an `OSError`."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise InputError(
                f"{self._path}: the journal of answers cannot be used: {error}",
                allowed="a file on a local disk that this user may write, with space left",
                fix="free space, check permissions, or give another journal; answers already in it are safe",
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self._path}: not a journal of answers, or damaged: {error}",
                allowed="a file that a clipcurate run made, or a name that is still free",
                fix="bring it back from a copy, or move it away: its requests are then asked again",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, key: str) -> CompletionOutcome | None:
        """Return what is known for a request's key, or None.

        Raises:
            InputError: the journal is damaged.
        """
        with self._readable():
            row = self._connection.execute(_FIND, (bytes.fromhex(key),)).fetchone()
        return None if row is None else _outcome(row)

    def record(self, entries: Sequence[JournalEntry]) -> list[tuple[str, CompletionOutcome]]:
        """Commit outcomes; return, by key, what stands in the journal: another process may have been first.

        Raises:
            InputError: the journal is damaged, or cannot be written.
        """
        run = self._connection.execute
        standing: list[tuple[str, CompletionOutcome]] = []
        with self._readable():
            run("BEGIN IMMEDIATE")
            try:
                for entry in entries:
                    fresh = run(_INSERT, _row(entry)).rowcount == 1
                    known = None if fresh else run(_FIND, (bytes.fromhex(entry.key),)).fetchone()
                    standing.append((entry.key, entry.outcome if known is None else _outcome(known)))
                run("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    run("ROLLBACK")
                raise
        return standing

    def models(self) -> list[str]:
        """Return the names of the models that were asked, sorted."""
        return [row[0] for row in self._all("SELECT DISTINCT model FROM outcomes ORDER BY model")]

    def usage(self, model: str) -> Usage:
        """Return counts and tokens of a model's answers; failures' tokens nobody counts."""
        sums = "count(text), count(*) - count(text), sum(prompt_tokens), sum(completion_tokens)"
        return Usage(*(value or 0 for value in self._all(f"SELECT {sums} FROM outcomes WHERE model = ?", model)[0]))  # noqa: S608 - constants

    def calibration(self, model: str) -> Calibration:
        """Return the sums that tokens per character and tokens per answer are computed from."""
        sums = "sum(prompt_chars), sum(prompt_tokens), sum(completion_tokens), count(*)"
        where = "model = ? AND text IS NOT NULL AND prompt_tokens > 0"
        return Calibration(*(value or 0 for value in self._all(f"SELECT {sums} FROM outcomes WHERE {where}", model)[0]))  # noqa: S608 - constants

    def failures(self, model: str) -> dict[str, int]:
        """Return how many requests have failed for good, by reason."""
        query = "SELECT reason, count(*) FROM outcomes WHERE model = ? AND text IS NULL GROUP BY reason ORDER BY reason"
        return dict(self._all(query, model))

    def forget_failures(self) -> int:
        """Delete the failures, so that they are asked again; return how many."""
        with self._readable():
            return self._connection.execute("DELETE FROM outcomes WHERE text IS NULL").rowcount

    def _all(self, query: str, *values: str) -> list[Any]:
        with self._readable():
            return self._connection.execute(query, values).fetchall()


def _outcome(row: tuple[Any, ...]) -> CompletionOutcome:
    text, finish_reason, prompt_tokens, completion_tokens, reason, detail = row
    return Failure(reason, detail) if text is None else Answer(text, finish_reason, prompt_tokens, completion_tokens)


def _row(entry: JournalEntry) -> tuple[Any, ...]:
    key, outcome = bytes.fromhex(entry.key), entry.outcome
    asked = (key, entry.endpoint, entry.model)
    if isinstance(outcome, Answer):
        tokens = (outcome.prompt_tokens, outcome.completion_tokens)
        return (*asked, outcome.text, outcome.finish_reason, entry.prompt_chars, *tokens, "", "", entry.attempts)
    return (*asked, None, "", entry.prompt_chars, 0, 0, outcome.reason, outcome.detail, entry.attempts)


def shortened(detail: str) -> str:
    """Return a detail on one line, of a length that a table bears."""
    plain = " ".join(detail.split())
    return plain if len(plain) <= _DETAIL_CHARS else plain[: _DETAIL_CHARS - 3] + "..."


class CompletionBackend(Protocol):
    """A way to ask what the journal does not know; it records outcomes before it hands them over."""

    def put(self, key: str, request: CompletionRequest) -> None:
        """Queue a question; returns at once."""

    def take(self) -> list[tuple[str, CompletionOutcome]]:
        """Wait for at least one recorded outcome and return what has arrived; empty: none will come on this line."""


class JournaledClient:
    """A `Line` that looks into the journal first, and asks equal questions once.

    Args:
        journal: Where outcomes are looked up.
        asker: Who asks the rest.
    """

    def __init__(self, journal: Journal, asker: CompletionBackend) -> None:
        self._journal, self._asker = journal, asker
        self._ready: deque[tuple[CompletionRequest, CompletionOutcome]] = deque()
        self._asked: dict[str, list[CompletionRequest]] = {}

    def submit(self, request: CompletionRequest) -> None:
        """Queue a question, unless the journal knows the answer or the same question is under way."""
        key = request.key
        if key in self._asked:
            self._asked[key].append(request)
        elif (known := self._journal.find(key)) is not None:
            self._ready.append((request, known))
        else:
            self._asked[key] = [request]
            self._asker.put(key, request)

    def outcomes(self) -> Iterator[tuple[CompletionRequest, CompletionOutcome]]:
        """Yield outcomes as they arrive, until nothing is under way."""
        while True:
            while self._ready:
                yield self._ready.popleft()
            if not self._asked:
                return
            arrived = self._asker.take()
            if not arrived:
                return
            for key, outcome in arrived:
                self._ready.extend((request, outcome) for request in self._asked.pop(key))
