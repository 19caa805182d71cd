"""Erase answers from the journal so that no byte of them stays in its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from curation.llm.journal import Journal
from data_manifests.errors import InputError

_BUSY_S = 60.0


def erase_answers(path: Path, keys: Iterable[str], contains: Callable[[str], bool]) -> int:
    """Delete outcomes, overwrite the space they occupied, and return their number. Can be repeated after a kill.

    Args:
        path: The journal.
        keys: Keys of the requests.
        contains: Applied to the text of every outcome; those for which it is true are deleted too.

    Raises:
        InputError: the journal is damaged, or another process is using it.
    """
    Journal(path).close()  # raises an error when the file is not a journal
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        run = connection.execute
        run("PRAGMA secure_delete = ON")
        rows = run("SELECT key, text, detail FROM outcomes")
        matching = [key for key, text, detail in rows if contains(f"{text or ''}\n{detail}")]
        deleted = {*matching, *(bytes.fromhex(key) for key in keys)}
        run("BEGIN IMMEDIATE")
        erased = sum(run("DELETE FROM outcomes WHERE key = ?", (key,)).rowcount for key in sorted(deleted))
        run("COMMIT")
        run("VACUUM")
        busy = run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]  # the log still contained the deleted pages
    except sqlite3.Error as error:
        raise InputError(
            f"{path}: answers cannot be erased: {error}", fix="end other runs, then repeat the command"
        ) from error
    finally:
        connection.close()
    if busy:
        raise InputError(f"{path}: another process is using the journal", fix="end it, then repeat the command")
    return erased
