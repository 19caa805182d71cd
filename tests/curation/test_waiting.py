"""A stage that waits for answers from outside: all batches say what they need, finished ones are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.engine.engine import run_stages
from curation.engine.intake import read_source
from curation.llm.batch_files import AwaitingAnswers, BatchModel, import_answers
from curation.sources.scenes import ScenesSource
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.captions.rewrite_captions import RewriteCaptions

NUM_SCENES = 6


def answered(questions: Path, answers: Path) -> int:
    """Write what vllm run-batch would: each caption with ``There is`` in front."""
    lines = []
    for line in questions.read_text().splitlines():
        asked = json.loads(line)
        caption = json.loads(asked["body"]["messages"][-1]["content"])["caption"]
        text = caption if caption.startswith("There") else f"There is {caption[0].lower()}{caption[1:]}"
        choice = {"message": {"role": "assistant", "content": json.dumps({"caption": text})}, "finish_reason": "stop"}
        body = {"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 9}}
        lines.append(json.dumps({"custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}}))
    answers.write_text("\n".join(lines))
    return len(lines)


def test_questions_go_to_a_file_and_answers_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RewriteCaptions, "batch_size", 2)  # three batches, each of which must wait
    ask, answers, journal = tmp_path / "ask.jsonl", tmp_path / "answers.jsonl", str(tmp_path / "answers.sqlite")
    snapshot = read_source(ScenesSource(str(NUM_SCENES)), tmp_path / "intake", location="here")
    writer = BatchModel("m", str(ask), journal)
    stages = (ParseCaptions(), RewriteCaptions(writer, families=("laclip/coco",), prompting="schema", max_captions=1))

    def run() -> None:
        run_stages(stages, snapshot, tmp_path / "store")

    with pytest.raises(AwaitingAnswers) as waits:
        run()
    assert waits.value.num_requests == NUM_SCENES == len(ask.read_text().splitlines())
    for _ in range(3):  # a refused first draw is asked for again, at most three times
        assert answered(ask, answers) > 0
        report = import_answers(answers, ask, journal)
        assert report.num_new > 0
        try:
            run()
        except AwaitingAnswers:
            continue
        break
    else:
        pytest.fail("three draws were answered, and the stage still waits")
    run_stages(stages, snapshot, tmp_path / "store")
