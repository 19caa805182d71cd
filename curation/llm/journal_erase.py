"""Answers leave the journal so that no byte of them is left in its file: the one place where answers are deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from curation.llm.journal import Journal
from data_manifests.errors import InputError

_BUSY_S = 60.0


def erase_answers(path: Path, keys: Iterable[str], holding: Callable[[str], bool]) -> int:
    """Delete outcomes and overwrite what they occupied; return how many. May be repeated after a kill.

    Args:
        path: The journal.
        keys: Of the questions.
        holding: Answers for which it is true go too, whatever they were asked for.

    Raises:
        InputError: the journal is damaged, or another process is using it.
    """
    Journal(path).close()  # refuses what is no journal
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        run = connection.execute
        run("PRAGMA secure_delete = ON")
        told = run("SELECT key, text, detail FROM outcomes")
        named = [key for key, text, detail in told if holding(f"{text or ''}\n{detail}")]
        doomed = {*named, *(bytes.fromhex(key) for key in keys)}
        run("BEGIN IMMEDIATE")
        erased = sum(run("DELETE FROM outcomes WHERE key = ?", (key,)).rowcount for key in sorted(doomed))
        run("COMMIT")
        run("VACUUM")
        busy = run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]  # the log still held the deleted pages
    except sqlite3.Error as error:
        raise InputError(
            f"{path}: answers cannot be erased: {error}", fix="end other runs, then the same command"
        ) from error
    finally:
        connection.close()
    if busy:
        raise InputError(f"{path}: another process is using the answers", fix="end it, then the same command")
    return erased
