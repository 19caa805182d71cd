"""Batch files: requests and answers as files, for a machine without network access such as an offline GPU box.

The format is OpenAI's batch format, which ``vllm run-batch -i REQUESTS.jsonl -o ANSWERS.jsonl --model MODEL`` reads
and writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from curation.engine.stage import WaitingError
from curation.llm.interface import Answer, CompletionClient, CompletionRequest, Failure, NamedModel
from curation.llm.journal import CompletionOutcome, Journal, JournaledClient, JournalEntry, entry_of, shortened
from curation.llm.responses import read_answer
from data_manifests.atomic_files import open_atomically
from data_manifests.errors import InputError

_MAX_LINE_BYTES = 4 * 2**20
_ENTRIES_PER_COMMIT = 1000
_MAX_LINES_NAMED = 10


class AwaitingAnswers(WaitingError):  # noqa: N818 - nothing is wrong yet
    """Requests were written to a file, and the run cannot continue before they are answered.

    Attributes:
        num_requests: How many requests the file contains.
        path: The file.
    """

    def __init__(self, num_requests: int, path: str) -> None:
        self.num_requests, self.path = num_requests, path
        super().__init__(
            f"{num_requests:,} requests for a language model are in {path}, waiting for answers",
            fix=f"vllm run-batch -i {path} -o answers.jsonl --model MODEL, then run again with "
            "--llm-answers answers.jsonl",
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (AwaitingAnswers, (self.num_requests, self.path))


@dataclass(frozen=True)
class BatchModel(NamedModel):
    """A model whose requests are written to a file and whose answers come from the journal.

    Attributes:
        model: The model's name in requests.
        path: File for the requests; not part of the identity.
        journal: Path of the journal of answers.
    """

    path: str
    journal: str

    def describe(self) -> str:
        """Return a name for people."""
        return f"language model {self.model} (by files)"

    @contextmanager
    def open(self) -> Iterator[CompletionClient]:
        """Open a client; requests without an answer in the journal get no outcome from it.

        Raises:
            AwaitingAnswers: on exit, when a request has no answer yet.
            InputError: the journal is damaged, or ``vllm run-batch`` does not support an endpoint.
        """
        with closing(Journal(self.journal)) as journal:
            batch = BatchFile(Path(self.path))
            yield JournaledClient(journal, batch)
            num_requests = batch.write(journal)
        if num_requests:
            raise AwaitingAnswers(num_requests, self.path)


class BatchFile:
    """Collects requests and writes them to one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._requests: dict[str, CompletionRequest] = {}

    def put(self, key: str, request: CompletionRequest) -> None:
        """Add a request."""
        if request.endpoint != "chat/completions":
            raise InputError(
                f"--llm-batch: vllm run-batch does not support the endpoint '{request.endpoint}'",
                allowed="chat/completions",
                fix="--set stages.STAGE.prompting=schema for the stage that asks (rewrite_captions or ask_negatives), or a server: --llm http://HOST:PORT/v1#MODEL",
            )
        self._requests[key] = request

    def take(self) -> list[tuple[str, CompletionOutcome]]:
        """Return nothing: no outcome arrives while the run lasts."""
        return []

    def write(self, journal: Journal) -> int:
        """Write the requests to the file atomically, each once, and return how many the file contains.

        Requests of other processes of the run stay in the file, except those answered meanwhile.
        """
        from filelock import FileLock

        if not self._requests:
            return 0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"), open_atomically(self._path) as out:
            num_kept = 0
            for _, data in _lines(self._path) if self._path.exists() else ():
                parsed = _parse_request(data)
                if parsed and parsed[0] not in self._requests and journal.find(parsed[0]) is None:
                    out.write(data.rstrip(b"\n") + b"\n")
                    num_kept += 1
            for key, request in self._requests.items():
                url = f"/v1/{request.endpoint}"
                line = {"custom_id": key, "method": "POST", "url": url, "body": dict(request.body)}
                out.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        return num_kept + len(self._requests)


def _parse_request(data: bytes) -> tuple[str, CompletionRequest] | None:
    """Return key and request of a line of a batch file, or None when its id is not the hash of its body."""
    try:
        value = orjson.loads(data)
        request = CompletionRequest("chat/completions", value["body"])
        return (value["custom_id"], request) if request.key == value["custom_id"] else None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of every line that is not blank; no bytes for a line longer than 4 MiB."""
    try:
        with path.open("rb") as file:
            for number, data in enumerate(iter(lambda: file.readline(_MAX_LINE_BYTES), b""), 1):
                rest = data
                while len(rest) == _MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = file.readline(_MAX_LINE_BYTES)
                if data.strip():
                    yield number, data if rest is data else b""
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}", allowed="a readable JSON Lines file", fix="check the path"
        ) from error


@dataclass
class ImportReport:
    """The contents of a file of answers.

    Attributes:
        num_answers: Usable answers to our requests.
        num_new: Outcomes that were not in the journal before.
        num_unknown: Lines about requests that are not ours.
        refused: Requests that the engine rejected for good; recorded as failures.
        num_faulty: Lines about our requests without a usable answer; these requests will be sent again.
        num_malformed: Lines that do not have the format.
        malformed_lines: The numbers of the first of them.
    """

    num_answers: int = 0
    num_new: int = 0
    num_unknown: int = 0
    refused: int = 0
    num_faulty: int = 0
    num_malformed: int = 0
    malformed_lines: list[int] = field(default_factory=list)


def import_answers(answers: Path, requests: Path, journal: str | Path) -> ImportReport:
    """Import answers into the journal.

    Args:
        answers: What ``vllm run-batch`` wrote.
        requests: The batch file that it read; maps ids to requests.
        journal: Path of the journal.

    Raises:
        InputError: a file cannot be read, none of its lines is usable, the engine rejected every request, or the
            journal is damaged.
    """
    unanswered: dict[str, JournalEntry] = {}
    for _, data in _lines(requests):
        if parsed := _parse_request(data):
            unanswered[parsed[0]] = entry_of(*parsed, Failure(""))
    report = ImportReport()
    refusals: list[JournalEntry] = []
    with closing(Journal(journal)) as store:
        pending: list[JournalEntry] = []
        for number, data in _lines(answers):
            entry = _parse_answer(number, data, unanswered, report)
            if entry is not None and isinstance(entry.outcome, Failure):
                refusals.append(entry)
            elif entry is not None:
                pending.append(entry)
                report.num_answers += 1
            if len(pending) >= _ENTRIES_PER_COMMIT:
                _record(store, pending, report)
        _record(store, pending, report)
        _check_usable(answers, report, refusals)
        report.refused = len(refusals)
        _record(store, refusals, report)
    return report


def _record(journal: Journal, entries: list[JournalEntry], report: ImportReport) -> None:
    """Record the entries that the journal does not have, and empty the list."""
    new = [entry for entry in {entry.key: entry for entry in entries}.values() if journal.find(entry.key) is None]
    journal.record(new)
    report.num_new += len(new)
    entries.clear()


def _parse_answer(
    number: int, data: bytes, unanswered: dict[str, JournalEntry], report: ImportReport
) -> JournalEntry | None:
    """Return the journal entry of a line of answers; None, counted in the report, when it has no outcome."""
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    key = value.get("custom_id") if isinstance(value, dict) else None
    response = value.get("response") if isinstance(value, dict) else None
    if not isinstance(key, str) or not isinstance(response, dict | None):
        report.num_malformed += 1
        if len(report.malformed_lines) < _MAX_LINES_NAMED:
            report.malformed_lines.append(number)
        return None
    if key not in unanswered:
        report.num_unknown += 1
        return None
    status = (response or {}).get("status_code", 0)
    if status in (400, 413, 422):
        detail = shortened(orjson.dumps(value.get("error")).decode("utf-8", "replace"))
        return unanswered[key]._replace(outcome=Failure("refused", f"HTTP {status}: {detail}"))
    attempt = read_answer("chat/completions", (response or {}).get("body")) if status == 200 else None
    if isinstance(attempt, Answer | Failure):
        return unanswered[key]._replace(outcome=attempt)
    report.num_faulty += 1
    return None


def _check_usable(answers: Path, report: ImportReport, refusals: list[JournalEntry]) -> None:
    if refusals and not report.num_answers and len(refusals) > 1:
        first = refusals[0].outcome
        raise InputError(
            f"{answers}: the engine rejected all {len(refusals)} requests: {getattr(first, 'detail', '')}",
            fix="run the batch with a model that supports chat/completions (one with a chat template)",
        )
    if report.num_malformed and not (report.num_answers or refusals or report.num_faulty):
        lines = ", ".join(map(str, report.malformed_lines))
        raise InputError(
            f"{answers}: no line answers one of our requests; {report.num_malformed} are malformed "
            f"(lines {lines}), {report.num_unknown} are about other requests",
            allowed='JSON Lines with "custom_id" and "response", as vllm run-batch writes them',
            fix="give the file after -o of vllm run-batch",
        )
