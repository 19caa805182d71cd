"""The journal of answers: the first outcome stays, other files are rejected, sums are right."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from curation.llm.interface import Answer, CompletionRequest, Failure
from curation.llm.journal import Journal, JournalEntry, Usage, entry_of, prompt_chars, shortened
from data_manifests.errors import InputError
from flows.cli.llm import app
from tests.curation.llm_servers import MODEL, question


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "answers.sqlite"


def record(path: Path, *entries: JournalEntry) -> None:
    journal = Journal(path)
    journal.record(entries)
    journal.close()


def entry(number: int, outcome: Answer | Failure, attempts: int = 1) -> JournalEntry:
    return entry_of(question(number).key, question(number), outcome, attempts)


ODD = Answer("naïve \x00 \n 'quoted' 犬 \U0001f415", "length", 3, 4)


def test_journal_returns_what_was_recorded(path: Path) -> None:
    record(path, entry(1, ODD), entry(2, Failure("timeout", "60 s"), 6), entry(3, Answer("")))
    journal = Journal(path)
    assert [journal.find(question(n).key) for n in (1, 2, 3, 4)] == [ODD, Failure("timeout", "60 s"), Answer(""), None]
    journal.close()


def test_the_first_outcome_stays(path: Path) -> None:
    record(path, entry(1, Failure("timeout")))
    journal = Journal(path)
    key = question(1).key
    assert journal.record([entry(1, Answer("late"))]) == [(key, Failure("timeout"))]
    assert journal.find(key) == Failure("timeout")
    assert journal.forget_failures() == 1
    assert journal.record([entry(1, Answer("late"))]) == [(key, Answer("late"))]
    assert journal.forget_failures() == 0
    journal.close()


def test_usage_and_chars_per_token(path: Path) -> None:
    chat = CompletionRequest("chat/completions", {"model": MODEL, "messages": [{"content": "abc"}, {"content": "de"}]})
    entries = [
        entry(1, Answer("a", "stop", 10, 5)),
        entry(2, Answer("b")),
        entry(3, Failure("timeout")),
        entry_of(chat.key, chat, Answer("c", "stop", 30, 1)),
        JournalEntry("ff" * 16, "completions", "another", 7, Answer("x", "stop", 1, 1)),
    ]
    record(path, *entries)
    journal = Journal(path)
    assert journal.models() == ["another", MODEL]
    assert journal.usage(MODEL) == Usage(answers=3, failures=1, prompt_tokens=40, completion_tokens=6)
    # answers whose tokens nobody counted say nothing about tokens per character
    assert journal.chars_per_token(MODEL) == (len("caption 1: a dog runs") + 5) / 40
    assert journal.chars_per_token("never asked") is None
    assert prompt_chars(chat.body) == 5
    journal.close()


@pytest.mark.parametrize("damage", ["text", "middle", "other"])
def test_a_file_that_is_not_a_journal_is_rejected(damage: str, path: Path) -> None:
    record(path, *(entry(n, Answer("x" * 500)) for n in range(200)))
    if damage == "text":
        path.write_text("these are not answers\n" * 400)
    elif damage == "middle":
        data = bytearray(path.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        path.write_bytes(data)
    else:
        path.unlink()
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE somebody_elses (a)")
        other.commit()
        other.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="not a journal of answers, or damaged"):
        _read_all(path)
    assert path.read_bytes() == before


def _read_all(path: Path) -> None:
    journal = Journal(path)
    try:
        for n in range(200):
            journal.find(question(n).key)
    finally:
        journal.close()


def test_an_unwritable_journal_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        Journal(tmp_path)


def _write(path: str, first: int) -> None:
    for number in range(first, first + 100):
        record(Path(path), entry(number, Answer(f"{number}")))


def test_concurrent_creation_by_several_processes(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(str(path), first)) for first in (0, 50, 100)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    journal = Journal(path)
    assert journal.usage(MODEL).answers == 200
    journal.close()


def test_shortened() -> None:
    assert shortened("a\n  b") == "a b"
    assert len(shortened("x" * 5000)) == 300


def test_command_shows_answers_and_forgets_failures(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(path, entry(1, Answer("a", "stop", 1000, 5)), entry(2, Failure("timeout")), entry(3, Failure("timeout")))
    app(["journal", str(path)], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "1 answers, 2 failures, 1,000 prompt tokens, 5 completion tokens" in printed
    assert "failed: timeout 2" in printed
    app(["journal", str(path), "--forget-failures", "--json"], standalone_mode=False)
    assert '"forgotten": 2' in capsys.readouterr().out
    app(["journal", str(path)], standalone_mode=False)
    assert "1 answers, 0 failures" in capsys.readouterr().out
