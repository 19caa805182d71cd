"""Questions and answers as files: for a machine that cannot be reached, such as a GPU box without a network.

The files are the OpenAI batch format, as ``vllm run-batch -i OUT.jsonl -o ANSWERS.jsonl --model MODEL`` reads and
writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from filelock import FileLock

from curation.engine.stage import WaitingError
from curation.llm.client import model_hash
from curation.llm.interface import Answer, CompletionClient, CompletionRequest, Failure
from curation.llm.journal import CompletionOutcome, Journal, JournaledClient, JournalEntry, entry_of, shortened
from curation.llm.responses import read_answer
from data_manifests.atomic_files import open_atomically
from data_manifests.errors import InputError

_MAX_LINE_BYTES = 4 * 2**20
_ROWS_AT_ONCE = 1000
_LINES_NAMED = 10


class AwaitingAnswers(WaitingError):  # noqa: N818 - nothing is wrong yet
    """Questions were written to a file, and the run cannot go on before they are answered.

    Attributes:
        num_requests: How many questions the file holds now.
        path: The file.
    """

    def __init__(self, num_requests: int, path: str) -> None:
        self.num_requests, self.path = num_requests, path
        super().__init__(
            f"{num_requests:,} questions for a language model wait in {path}",
            fix=f"vllm run-batch -i {path} -o answers.jsonl --model MODEL, then run again with "
            "--llm-answers answers.jsonl",
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (AwaitingAnswers, (self.num_requests, self.path))


@dataclass(frozen=True)
class BatchModel:
    """A model whose questions go to a file and whose answers come from the journal.

    Attributes:
        model: The name requests carry.
        path: File for the questions; no part of the identity.
        journal: Path of the journal of answers.
    """

    model: str
    path: str
    journal: str

    def content_hash(self) -> str:
        """Hash the model's name: the same as of a server, so that either way gives the same data set."""
        return model_hash(self.model)

    def describe(self) -> str:
        """Name it for people."""
        return f"language model {self.model} (by files)"

    @contextmanager
    def open(self) -> Iterator[CompletionClient]:
        """Open a line; what the journal cannot answer has no outcome on it.

        Raises:
            AwaitingAnswers: at the end, when anything was asked that has no answer yet.
            InputError: the journal is damaged, or a request is of a kind that ``vllm run-batch`` does not know.
        """
        journal = Journal(self.journal)
        try:
            sheet = _Sheet(Path(self.path))
            yield JournaledClient(journal, sheet)
            num_requests = sheet.publish(journal)
        finally:
            journal.close()
        if num_requests:
            raise AwaitingAnswers(num_requests, self.path)


class _Sheet:
    """Collects questions and writes them together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._requests: dict[str, CompletionRequest] = {}

    def put(self, key: str, request: CompletionRequest) -> None:
        """Note a question."""
        if request.endpoint != "chat/completions":
            raise InputError(
                f"batch files cannot ask for '{request.endpoint}': vllm run-batch has no such endpoint",
                allowed="chat/completions",
                fix="--set stages.rewrite_captions.prompting=schema, or a server: --llm http://HOST:PORT/v1#MODEL",
            )
        self._requests[key] = request

    def take(self) -> list[tuple[str, CompletionOutcome]]:
        """Say that nothing will come on this line."""
        return []

    def publish(self, journal: Journal) -> int:
        """Add the questions to the file, each once, and put it in place whole; return how many of ours there are.

        Questions of other processes of the same run stay in it; those answered meanwhile leave it.
        """
        if not self._requests:
            return 0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"), open_atomically(self._path) as out:
            kept = 0
            for _, data, _ in _lines(self._path) if self._path.exists() else ():
                key = _asked(data)
                if key is not None and key not in self._requests and journal.find(key) is None:
                    out.write(data.rstrip(b"\n") + b"\n")
                    kept += 1
            for key, request in self._requests.items():
                out.write(_line(key, request))
        return kept + len(self._requests)


def _line(key: str, request: CompletionRequest) -> bytes:
    value = {"custom_id": key, "method": "POST", "url": f"/v1/{request.endpoint}", "body": dict(request.body)}
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _request(data: bytes) -> tuple[str, CompletionRequest] | None:
    """Read a line of a questions' file, or None when its id is not the hash of what it asks."""
    try:
        value = orjson.loads(data)
        request = CompletionRequest("chat/completions", value["body"])
        return (value["custom_id"], request) if request.key == value["custom_id"] else None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _asked(data: bytes) -> str | None:
    found = _request(data)
    return found[0] if found else None


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (line number, bytes, whole): a line that is too long is cut, and its rest is skipped."""
    try:
        with path.open("rb") as file:
            number = 0
            while data := file.readline(_MAX_LINE_BYTES):
                number += 1
                whole = data.endswith(b"\n") or len(data) < _MAX_LINE_BYTES
                if not whole:
                    _skip_line(file)
                if data.strip():
                    yield number, data, whole
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", allowed="a file in JSON lines that can be read") from error


def _skip_line(file: BinaryIO) -> None:
    while (rest := file.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass


@dataclass
class ImportReport:
    """What a file of answers held.

    Attributes:
        num_answers: Usable answers to our questions.
        num_new: Outcomes that the journal did not have before.
        num_unknown: Lines about questions that we did not ask.
        refused: Requests that the engine refused for good; recorded as failures.
        num_faulty: Lines about our questions without a usable answer; these are asked again.
        faults: Their number by reason.
        num_malformed: Lines that are not of the format.
        malformed_lines: The numbers of the first of them.
    """

    num_answers: int = 0
    num_new: int = 0
    num_unknown: int = 0
    refused: int = 0
    num_faulty: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    num_malformed: int = 0
    malformed_lines: list[int] = field(default_factory=list)

    def malformed(self, number: int) -> None:
        """Count a line that cannot be used."""
        self.num_malformed += 1
        if len(self.malformed_lines) < _LINES_NAMED:
            self.malformed_lines.append(number)


def import_answers(answers: Path, asked: Path, journal: str | Path) -> ImportReport:
    """Take answers into the journal.

    Args:
        answers: What ``vllm run-batch`` wrote.
        asked: The file of questions that it read: says what each id stands for.
        journal: Path of the journal.

    Raises:
        InputError: a file cannot be read, none of its lines is usable, the engine refused every question, or the
            journal is damaged.
    """
    questions: dict[str, tuple[str, int]] = {}
    for _, data, whole in _lines(asked):
        found = _request(data) if whole else None
        if found:
            blank = entry_of(*found, Failure(""))
            questions[found[0]] = (blank.model, blank.prompt_chars)
    report = ImportReport()
    refusals: list[JournalEntry] = []
    held = Journal(journal)
    try:
        pending: list[JournalEntry] = []
        for number, data, whole in _lines(answers):
            entry = _entry(number, data if whole else b"", questions, report)
            if entry is not None and isinstance(entry.outcome, Failure):
                refusals.append(entry)
            elif entry is not None:
                pending.append(entry)
                report.num_answers += 1
            if len(pending) >= _ROWS_AT_ONCE:
                _store(held, pending, report)
        _store(held, pending, report)
        _check_use(answers, report, refusals)
        report.refused = len(refusals)
        _store(held, refusals, report)
    finally:
        held.close()
    return report


def _store(journal: Journal, entries: list[JournalEntry], report: ImportReport) -> None:
    """Record entries that the journal does not have, and empty the list."""
    fresh = [entry for entry in {entry.key: entry for entry in entries}.values() if journal.find(entry.key) is None]
    journal.record(fresh)
    report.num_new += len(fresh)
    entries.clear()


def _entry(
    number: int, data: bytes, questions: dict[str, tuple[str, int]], report: ImportReport
) -> JournalEntry | None:
    """Read a line of answers; count it and return None when it holds no outcome."""
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    key = value.get("custom_id") if isinstance(value, dict) else None
    response = value.get("response") if isinstance(value, dict) else None
    if not isinstance(key, str) or not isinstance(response, dict | None):
        report.malformed(number)
        return None
    if key not in questions:
        report.num_unknown += 1
        return None
    status = (response or {}).get("status_code", 0)
    if status in (400, 413, 422):
        detail = shortened(orjson.dumps(value.get("error")).decode("utf-8", "replace"))
        return JournalEntry(key, "chat/completions", *questions[key], Failure("refused", f"HTTP {status}: {detail}"))
    fault = read_answer("chat/completions", (response or {}).get("body")) if status == 200 else None
    if isinstance(fault, Answer | Failure):
        return JournalEntry(key, "chat/completions", *questions[key], fault)
    report.num_faulty += 1
    report.faults[fault.reason if fault else "server_error"] += 1
    return None


def _check_use(answers: Path, report: ImportReport, refusals: list[JournalEntry]) -> None:
    if refusals and not report.num_answers and len(refusals) > 1:
        first = refusals[0].outcome
        raise InputError(
            f"{answers}: the engine refused all {len(refusals)} questions: {getattr(first, 'detail', '')}",
            fix="ask a model that knows chat/completions (one with a chat template), then give its answers",
        )
    if report.num_malformed and not (report.num_answers or refusals or report.num_faulty):
        lines = ", ".join(map(str, report.malformed_lines))
        raise InputError(
            f"{answers}: no line answers one of our questions; {report.num_malformed} are not of the format "
            f"(lines {lines}), {report.num_unknown} are about others",
            allowed='JSON lines with "custom_id" and "response", as vllm run-batch writes them',
            fix="give the file after -o of vllm run-batch",
        )
