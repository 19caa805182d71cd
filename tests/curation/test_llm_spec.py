"""The values of --llm, and vLLM in this process."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curation.llm import vllm_engine
from curation.llm.batch_files import BatchModel
from curation.llm.client import ServedModel
from curation.llm.interface import Answer, CompletionRequest, Failure
from curation.llm.spec import open_language_model
from curation.llm.vllm_engine import VllmModel
from data_manifests.errors import InputError
from tests.curation.llm_servers import MODEL, Server, ask, question


def test_specs() -> None:
    assert open_language_model("rules", "j") is None
    assert open_language_model("http://h:8/v1#org/a#b", "j", 5) == ServedModel("org/a#b", "http://h:8/v1", "j", 5)
    assert open_language_model("https://h/v1/#m", Path("j")) == ServedModel("m", "https://h/v1", "j")
    assert open_language_model("vllm:org/model", "j") == VllmModel("org/model", "j")
    assert open_language_model("batch:a/out.jsonl#m", "j") == BatchModel("m", str(Path("a/out.jsonl").absolute()), "j")


@pytest.mark.parametrize(
    "spec", ["", "gpt", "vllm:", "batch:", "batch:#m", "batch:out.jsonl", "ftp://me:pw@h/v1#m", "http:#m"]
)
def test_malformed_specs_are_rejected(spec: str) -> None:
    with pytest.raises(InputError, match=r"allowed: .*http://HOST:PORT/v1") as caught:
        open_language_model(spec, "j")
    assert "pw" not in str(caught.value)


def test_a_missing_name_lists_the_models_of_the_server() -> None:
    with Server() as server, pytest.raises(InputError) as caught:
        open_language_model(server.url, "j")
    assert caught.value.allowed == f"{MODEL}, other-model"
    assert caught.value.fix == f"--llm '{server.url}#{MODEL}'"


def test_a_missing_name_and_a_missing_server() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with pytest.raises(InputError, match="does not list its models"):
        open_language_model(address, "j")


def test_without_vllm_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    vllm_engine._load.cache_clear()
    with pytest.raises(InputError, match=r"clipcurate\[vllm\]"):
        ask(VllmModel(MODEL, str(tmp_path / "j")), [question(0)])


class Engine:
    """Answers with the prompt's length; refuses a call that holds a prompt of more than 100 characters."""

    calls: list[list[Any]] = []

    def generate(self, prompts: list[str], sampling: list[Any], **_: Any) -> list[Any]:
        self.calls.append(sampling)
        if any(len(prompt) > 100 for prompt in prompts):
            raise ValueError("the prompt is longer than the model's context")
        return [SimpleNamespace(outputs=[SimpleNamespace(text=str(len(prompt)), finish_reason="stop", token_ids=[1])],
                                prompt_token_ids=[1, 2]) for prompt in prompts]  # fmt: skip

    def chat(self, messages: list[Any], sampling: list[Any], **options: Any) -> list[Any]:
        return self.generate([turns[-1]["content"] for turns in messages], sampling, **options)


def test_prompts_share_a_call_and_a_rejected_one_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = SimpleNamespace(SamplingParams=dict, StructuredOutputsParams=dict)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(sampling_params=params))
    monkeypatch.setattr(vllm_engine, "_load", lambda model: Engine())
    monkeypatch.setattr(Engine, "calls", [])
    schema = {"type": "json_schema", "json_schema": {"name": "r", "schema": {"type": "object"}}}
    model = VllmModel(MODEL, str(tmp_path / "j"))
    chats = [question(n, "chat/completions", seed=n, response_format=schema) for n in range(5)]
    assert ask(model, chats)[3] == Answer("21", "stop", 2, 1)
    assert Engine.calls == [
        [{"seed": n, "max_tokens": 256, "structured_outputs": {"json": {"type": "object"}}} for n in range(5)]
    ]
    long = CompletionRequest("completions", {"model": MODEL, "prompt": "x" * 101}, tag=99)
    got = ask(model, [*[question(n) for n in range(7)], long])
    assert got.pop(99) == Failure("refused", "the prompt is longer than the model's context")
    assert got == {n: Answer("21", "stop", 2, 1) for n in range(7)}
    num_calls = len(Engine.calls)
    assert ask(model, chats)[0] == Answer("21", "stop", 2, 1)
    assert len(Engine.calls) == num_calls
    with pytest.raises(InputError, match="logit_bias"):
        ask(model, [question(50, logit_bias={})])
