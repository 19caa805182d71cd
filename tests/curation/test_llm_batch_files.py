"""Batch files: requests written and answers imported, in the format of vllm run-batch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import orjson
import pytest

from curation.engine.stage import Resource
from curation.llm.batch_files import AwaitingAnswers, BatchModel, import_answers
from curation.llm.client import ServedModel
from curation.llm.interface import Answer, CompletionRequest, Failure, LanguageModel
from data_manifests.errors import InputError
from tests.curation.llm_servers import MODEL, ask, question, reply_to


@pytest.fixture
def model(tmp_path: Path) -> BatchModel:
    return BatchModel(MODEL, str(tmp_path / "out.jsonl"), str(tmp_path / "answers.sqlite"))


def requests(*numbers: int) -> list[CompletionRequest]:
    return [question(number, "chat/completions", temperature=0.9) for number in numbers]


def asked(model: BatchModel) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in Path(model.path).read_bytes().splitlines()]


def reply(request: dict[str, Any], **changes: Any) -> bytes:
    """Return a line as the engine's batch runner writes it."""
    response = {"status_code": 200, "request_id": "vllm-batch-1", "body": reply_to(request["body"])}
    line = {"id": "vllm-1", "custom_id": request["custom_id"], "response": response, "error": None}
    return orjson.dumps({**line, **changes}, option=orjson.OPT_APPEND_NEWLINE)


def test_requests_are_written_and_answers_imported(model: BatchModel, tmp_path: Path) -> None:
    with pytest.raises(AwaitingAnswers) as waiting:
        ask(model, requests(0, 1, 2, 1))
    assert waiting.value.num_requests == 3
    lines = asked(model)
    assert [line["custom_id"] for line in lines] == [request.key for request in requests(0, 1, 2)]
    assert lines[0] == {
        "custom_id": requests(0)[0].key, "method": "POST", "url": "/v1/chat/completions",
        "body": dict(requests(0)[0].body),
    }  # fmt: skip
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(reply(lines[2]) + reply(lines[0]))
    report = import_answers(answers, Path(model.path), model.journal)
    assert (report.num_answers, report.num_new) == (2, 2)
    with pytest.raises(AwaitingAnswers) as waiting:
        ask(model, requests(0, 1, 2))
    assert waiting.value.num_requests == 1
    assert [line["custom_id"] for line in asked(model)] == [requests(1)[0].key]
    answers.write_bytes(reply(lines[1]) + reply(lines[0]))
    assert import_answers(answers, Path(model.path), model.journal).num_new == 1
    got = ask(model, requests(0, 1, 2))
    text = "snur god a :2 noitpac"
    assert got[2] == Answer(text, "stop", 10, 5)
    assert len(got) == 3


def test_two_clients_share_a_file_without_duplicates(model: BatchModel) -> None:
    for numbers in ((0, 1), (1, 2), (2,)):
        with pytest.raises(AwaitingAnswers):
            ask(model, requests(*numbers))
    assert sorted(line["custom_id"] for line in asked(model)) == sorted(request.key for request in requests(0, 1, 2))


def test_a_truncated_or_edited_line_is_dropped(model: BatchModel) -> None:
    with pytest.raises(AwaitingAnswers):
        ask(model, requests(0, 1))
    lines = Path(model.path).read_bytes().splitlines()
    Path(model.path).write_bytes(lines[0].replace(b"0.9", b"0.1") + b"\n" + lines[1][:50])
    with pytest.raises(AwaitingAnswers) as waiting:
        ask(model, requests(2))
    assert waiting.value.num_requests == 1


def test_answers_of_every_kind(model: BatchModel, tmp_path: Path) -> None:
    with pytest.raises(AwaitingAnswers):
        ask(model, requests(*range(6)))
    lines = asked(model)
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(
        reply(lines[0])
        + b"{torn\n"
        + reply({**lines[1], "custom_id": "0" * 32})
        + reply(lines[1], response={"status_code": 400, "request_id": "r"}, error={"error": {"message": "too long"}})
        + reply(lines[2], response={"status_code": 500, "request_id": "r"}, error="it broke")
        + reply(lines[3], response={"status_code": 200, "body": {"choices": []}})
        + reply(lines[4], response=None, error="lost")
        + b'{"custom_id": "' + b"x" * (5 * 2**20) + b'"}\n'
        + b"[1, 2]\n"
        + reply(lines[0])
    )  # fmt: skip
    report = import_answers(answers, Path(model.path), model.journal)
    assert (report.num_answers, report.num_new, report.num_unknown, report.refused) == (2, 2, 1, 1)
    assert report.num_faulty == 3
    assert (report.num_malformed, report.malformed_lines) == (3, [2, 8, 9])
    with pytest.raises(AwaitingAnswers) as waiting:  # what had no usable answer is asked again, the refused is not
        ask(model, requests(*range(6)))
    assert waiting.value.num_requests == 4


def test_files_without_answers_are_rejected(model: BatchModel, tmp_path: Path) -> None:
    with pytest.raises(AwaitingAnswers):
        ask(model, requests(0, 1))
    answers = tmp_path / "answers.jsonl"
    with pytest.raises(InputError, match="No such file"):
        import_answers(answers, Path(model.path), model.journal)
    answers.write_text("a caption\nanother\n")
    with pytest.raises(InputError, match=r"lines 1, 2"):
        import_answers(answers, Path(model.path), model.journal)
    bad = {"status_code": 400, "request_id": "r"}
    answers.write_bytes(b"".join(reply(line, response=bad, error="no chat template") for line in asked(model)))
    with pytest.raises(InputError, match=r"rejected all 2 requests(?s:.)*no chat template"):
        import_answers(answers, Path(model.path), model.journal)
    with pytest.raises(AwaitingAnswers):
        ask(model, requests(0, 1))


def test_completions_have_no_batch_endpoint(model: BatchModel) -> None:
    with pytest.raises(InputError, match="vllm run-batch does not support the endpoint"):
        ask(model, [question(0)])
    assert not Path(model.path).exists()


def test_batch_and_server_models_have_the_same_identity(model: BatchModel) -> None:
    assert model.content_hash() == ServedModel(MODEL, "http://h/v1", "j").content_hash()
    assert isinstance(model, LanguageModel) and isinstance(model, Resource)
    error = pickle.loads(pickle.dumps(AwaitingAnswers(3, "out.jsonl")))
    assert (error.num_requests, error.path) == (3, "out.jsonl")


def test_a_model_that_declines_is_a_failure(model: BatchModel, tmp_path: Path) -> None:
    with pytest.raises(AwaitingAnswers):
        ask(model, requests(0, 1))
    lines = asked(model)
    declined = {"choices": [{"message": {"content": None, "refusal": "I will not"}}]}
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(reply(lines[0]) + reply(lines[1], response={"status_code": 200, "body": declined}))
    import_answers(answers, Path(model.path), model.journal)
    assert ask(model, requests(1)) == {1: Failure("refused", "the model declined")}
