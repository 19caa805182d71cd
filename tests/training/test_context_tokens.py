"""Prompt tuning: the towers read learned vectors where a literal computation puts them, and nothing else is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows

from data_manifests.errors import InputError
from tests.training.conftest import MakeVersion
from tests.training.small_models import load, write_config
from tests.training.test_lora import TEXTS, embeddings, train, tuned
from tests.training.test_train import CONFIG, HARD, TINY, Killed, files_of, kill_before_step
from training.model import lora
from training.model.clip_model import ClipModel
from training.model.context_tokens import CONTEXT, STARTING_TEXT, ContextEmbedding, context_of
from training.model.run_folder import save_run_model
from training.model.spec import ModelSpec
from training.model.token_features import cut_tokens, encode_tokens
from training.model.wise_ft import blend
from training.train import train as train_run

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")


@pytest.fixture(params=["tiny", "assembly", "hybrid"])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return write_config(tmp_path, request.param)


def literal(model: ClipModel, text: str) -> torch.Tensor:
    """Return the features of one text [d]: vectors written into the tower's input by hand, the text's own ones behind them."""
    context = context_of(model)
    assert context is not None
    ids = model.tokenize([text])
    ids = ids[:, ids[0] >= 0]
    table = next(module for module in model.module.modules() if isinstance(module, ContextEmbedding))
    words = F.embedding(ids, table.weight)
    hidden = torch.cat([words[:, :1], context[None], words[:, 1:]], dim=1)[:, : model.context_length]
    tower = model.text_tower
    if hasattr(tower, "token_embedding"):
        end = len(context) + int(ids.argmax(dim=1))
        hidden = hidden + tower.positional_embedding[: hidden.shape[1]]
        out = tower.ln_final(tower.transformer(hidden, attn_mask=tower.attn_mask[: hidden.shape[1], : hidden.shape[1]]))
        return F.normalize(out[0, end] @ tower.text_projection, dim=0)
    used = torch.cat([torch.ones(1, len(context), dtype=torch.bool), ids != model.pad_id], dim=1)
    states = tower.transformer(inputs_embeds=hidden, attention_mask=used.long()).last_hidden_state
    return F.normalize(tower.head(tower.pool(states, used))[0], dim=0)


def test_features_are_those_of_a_literal_computation(spec: str) -> None:
    model = tuned(spec, "prompt", steps=2)
    model.eval()
    tokens = model.tokenize(TEXTS)
    assert tokens.shape == (len(TEXTS), model.context_length)
    with torch.no_grad():
        expected = torch.stack([literal(model, text) for text in TEXTS])
        assert torch.allclose(model.encode_text(tokens), expected, atol=1e-5)
        assert torch.allclose(model.encode_text(model.trim(tokens), deduplicate=True), expected, atol=1e-5)
    assert not torch.allclose(expected, embeddings(load(spec))[-len(TEXTS) :], atol=1e-3)


@torch.no_grad()
def test_it_begins_as_words_do() -> None:
    model, plain = tuned("tiny", "prompt"), load("tiny")
    said = plain.encode_text(plain.tokenize([f"{STARTING_TEXT} {text}" for text in TEXTS[:2]]))
    assert torch.allclose(embeddings(model)[-len(TEXTS) :][:2], said, atol=1e-5)


def test_nothing_else_changes(spec: str) -> None:
    model = tuned(spec, "prompt", prompt_tokens=3)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    train(model, 3)
    after = model.module.state_dict()
    changed = {name.rpartition(".")[2] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {CONTEXT, "logit_scale"}
    context = context_of(model)
    assert context is not None and len(context) == 3
    assert bool((context.grad != 0).any(dim=1).all()), "every context token learns"  # type: ignore[union-attr]
    assert model.prefix_frozen("image") and not model.prefix_frozen("text")


def test_a_run_folder_gives_it_back(spec: str, tmp_path: Path) -> None:
    model = tuned(spec, "prompt", steps=3)
    expected = embeddings(model)
    save_run_model(tmp_path / "run", model, spec, "hash", "prompt")
    again = ModelSpec.parse(str(tmp_path / "run")).load()
    assert torch.equal(embeddings(again), expected)
    torch.manual_seed(0)
    lora.apply_tuning(again, "projection")  # a run on this run keeps the context
    save_run_model(tmp_path / "on", again, spec, "hash", "projection")
    assert torch.equal(embeddings(ModelSpec.parse(str(tmp_path / "on")).load()), expected)
    further = ModelSpec.parse(str(tmp_path / "run")).load()
    lora.apply_tuning(further, "prompt")
    assert torch.equal(embeddings(further), expected), "tuned on with the tokens there are"


def test_shares_lie_between_the_starting_context_and_the_learned_one() -> None:
    model, start = tuned("tiny", "prompt", steps=3), tuned("tiny", "prompt")
    end = embeddings(model)
    found = [embeddings(one) for one in blend(load("tiny"), model, (0.0, 0.5, 1.0))]
    assert torch.allclose(found[0], embeddings(start), atol=1e-6) and torch.equal(found[2], end)
    assert not torch.allclose(found[1], found[0], atol=1e-4)


@torch.no_grad()
def test_context_tokens_are_no_tokens_of_the_text(spec: str) -> None:
    model, plain = tuned(spec, "prompt"), load(spec)
    model.eval()
    inside = encode_tokens(model, model.tokenize(TEXTS))[2]
    assert inside.sum(dim=1).tolist() == encode_tokens(plain, plain.tokenize(TEXTS))[2].sum(dim=1).tolist()
    torch.manual_seed(0)
    for tokens in (cut_tokens(model, model.tokenize(TEXTS), 0.9) for _ in range(20)):
        assert bool(((tokens < 0).sum(dim=1) == 4).all())
        assert torch.equal(tokens[:, 1:5], model.tokenize(TEXTS)[:, 1:5])


def test_long_texts_are_cut_and_known_to_be(spec: str) -> None:
    model, plain = tuned(spec, "prompt"), load(spec)
    texts = [" ".join(["dog"] * count) for count in range(1, model.context_length + 3)]
    now, before = (one.is_cut(texts, one.tokenize(texts)).tolist() for one in (model, plain))
    assert now[: len(texts) - 4] == before[4:], "four words fewer fit"
    full = model.tokenize(texts[-1:])[0].tolist()
    assert full[-1] == plain.tokenize(texts[-1:])[0].tolist()[-1], "the end mark is never cut"


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(InputError, match=r"1 to \d+: texts need the rest"):
        tuned("tiny", "prompt", prompt_tokens=1000)
    model = tuned("tiny", "prompt", prompt_tokens=2)
    model.tune = ""
    with pytest.raises(InputError, match="the model has 2 already"):
        lora.apply_tuning(model, "prompt", prompt_tokens=3)
    model = load("tiny")
    inner = model.tokenizer
    model.tokenizer = lambda texts, **more: inner(texts, **more)[:, 1:]
    with pytest.raises(InputError, match="no start mark"):
        lora.apply_tuning(model, "prompt")


def test_a_killed_run_resumes_to_the_same_bytes(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, config = make_version(20), replace(CONFIG, tune="prompt", prompt_tokens=3, steps=7, lora_dropout=0.0)
    whole = train_run(version, HARD, TINY, config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_before_step(patch, 6)
        with pytest.raises(Killed):
            train_run(version, HARD, TINY, config, tmp_path / "killed")
    resumed = train_run(version, HARD, TINY, config, tmp_path / "killed", resume=True)
    assert files_of(resumed.run) == files_of(whole.run)
    context = context_of(ModelSpec.parse(str(whole.run)).load())
    assert context is not None and len(context) == 3
    with pytest.raises(InputError, match="prompt_tokens was 3, is None"):
        train_run(version, HARD, TINY, replace(config, prompt_tokens=4), tmp_path / "killed", resume=True)
    assert "prompt_tokens" not in replace(config, prompt_tokens=4).to_json(), "older runs resume"
