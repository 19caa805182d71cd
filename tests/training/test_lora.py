"""Tuning: nothing changes at first, every adapter learns, and a run folder gives back what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data_manifests.errors import InputError
from tests.training.small_models import load, write_config
from training.model import checkpoint_files, lora
from training.model.clip_model import ClipModel
from training.model.run_folder import save_run_model
from training.model.spec import ModelSpec

TEXTS = ["a red circle left of a blue square", "two dogs", "a small striped triangle above a large green star"]


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small DistilBERT and a small ViT, random: what vit_small_distilbert is, at a size for tests."""
    return write_config(tmp_path_factory.mktemp("config"), "assembly")


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A convolutional tower with batch normalisation and a small BERT, random: the shape of lite0_minilm."""
    return write_config(tmp_path_factory.mktemp("config"), "hybrid")


def pixels(model: ClipModel, num: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, 3, model.image_size_px, model.image_size_px, generator=generator)


@torch.no_grad()
def embeddings(model: ClipModel) -> torch.Tensor:
    model.eval()
    return torch.cat([model.encode_image(pixels(model)), model.encode_text(model.tokenize(TEXTS))])


def train(model: ClipModel, steps: int) -> None:
    model.train()
    torch.manual_seed(3)
    tokens = model.tokenize(TEXTS)
    optimizer = torch.optim.AdamW([parameter for _, parameter in lora.trainable_parameters(model)], lr=0.01)
    for _ in range(steps):
        scores = model.encode_image(pixels(model)) @ model.encode_text(tokens).T * model.module.logit_scale.exp()
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(TEXTS)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def tuned(spec: str, tune: str, steps: int = 0, **options: object) -> ClipModel:
    model = load(spec)
    torch.manual_seed(7)
    lora.apply_tuning(model, tune, **options)  # type: ignore[arg-type]
    train(model, steps)
    return model


@pytest.fixture(params=["tiny", "assembly", "hybrid"])
def spec(request: pytest.FixtureRequest, assembly: str, hybrid: str) -> str:
    return {"tiny": "tiny", "assembly": assembly, "hybrid": hybrid}[request.param]


@pytest.mark.parametrize("tune", ["lora", "full", "projection", "top:1"])
def test_tuning_changes_nothing_at_first(spec: str, tune: str) -> None:
    before = embeddings(load(spec))
    model = tuned(spec, tune)
    assert torch.allclose(embeddings(model), before, atol=1e-6)


def test_every_adapter_learns(spec: str) -> None:
    model = tuned(spec, "lora")
    adapters = [name for name, _ in lora.trainable_parameters(model) if ".lora_" in name]
    assert adapters
    train(model, 2)  # B starts at zero, so A has a gradient from the second step on
    dead = [name for name, value in lora.trainable_parameters(model) if value.grad is None or not value.grad.any()]
    assert dead == []


def test_adapters_sit_where_they_should(assembly: str, hybrid: str) -> None:
    def adapted(spec: str) -> set[str]:
        names = [name for name, _ in tuned(spec, "lora").module.named_parameters() if "lora_A" in name]
        return {name.split(".lora_A")[0].replace(".base_layer", "") for name in names}

    native = adapted("tiny")
    assert {"visual.transformer.resblocks.0.attn", "transformer.resblocks.2.mlp.c_proj"} <= native
    assert len(native) == 4 * (4 + 3)  # in_proj and (zero) out_proj, c_fc and c_proj of four and three blocks
    mixed = adapted(assembly)
    assert {"visual.trunk.blocks.11.attn.proj", "text.transformer.transformer.layer.1.ffn.lin2"} <= mixed
    assert len(mixed) == 12 * 4 + 2 * 6
    text_only = adapted(hybrid)
    assert len(text_only) == 2 * 6
    assert all(name.startswith("text.transformer.encoder") for name in text_only)


def test_frozen_weights_are_not_touched(spec: str) -> None:
    model = tuned(spec, "lora")
    frozen = {name: value.clone() for name, value in model.module.named_parameters() if not value.requires_grad}
    train(model, 3)
    now = dict(model.module.named_parameters())
    assert [name for name, value in frozen.items() if not torch.equal(value, now[name])] == []


def test_targets_and_layers() -> None:
    model = tuned("tiny", "lora", targets="text", layers=[1])
    names = {name.split(".lora")[0] for name, _ in lora.trainable_parameters(model) if ".lora_" in name}
    assert all(name.startswith("transformer.resblocks.1.") for name in names)
    assert names
    assert model.prefix_frozen("image")
    assert model.cuts == {"text": 1}
    assert not tuned("tiny", "lora", targets="text", layers=[0]).prefix_frozen("text")
    for options in ({"targets": "no.such"}, {"targets": "(("}, {"layers": [99]}):
        with pytest.raises(InputError):
            tuned("tiny", "lora", **options)
    with pytest.raises(InputError, match="tuned already"):
        lora.apply_tuning(model, "full")
    with pytest.raises(InputError, match="allowed: lora, full, projection, prompt"):
        lora.apply_tuning(load("tiny"), "ia3")


def test_report_counts(hybrid: str) -> None:
    model = load(hybrid)
    report = lora.apply_tuning(model, "projection")
    assert report.groups["image_trunk"][0] == 0
    assert report.groups["text_trunk"][0] == 0
    assert report.groups["image_head"][0] == report.groups["image_head"][1] > 0
    assert report.trainable == sum(value.numel() for _, value in lora.trainable_parameters(model))
    assert report.total == sum(value.numel() for value in model.module.parameters())
    assert model.prefix_frozen("image")
    assert model.prefix_frozen("text")
    assert "projection" in report.lines()[0]


def test_frozen_parts_stay_in_eval_mode(hybrid: str) -> None:
    model = tuned(hybrid, "lora")
    before = {name: value.clone() for name, value in model.module.visual.trunk.state_dict().items()}
    with torch.no_grad():
        model.eval()
        expected = model.image_trunk(pixels(model))
    model.train()
    assert torch.equal(model.image_trunk(pixels(model)), expected)
    train(model, 2)
    assert all(torch.equal(value, before[name]) for name, value in model.module.visual.trunk.state_dict().items())
    assert model.module.visual.head.branch.training
    assert not model.module.visual.trunk.training
    heads = tuned(hybrid, "projection")
    tokens = heads.tokenize(TEXTS)
    heads.train()
    assert torch.equal(heads.text_trunk(tokens), heads.text_trunk(tokens))  # BERT's dropout is off
    assert not torch.equal(heads.encode_text(tokens), heads.encode_text(tokens))  # the head's is on
    full = tuned(hybrid, "full", steps=1)
    after = full.module.visual.trunk.state_dict()
    assert not torch.equal(after["bn1.running_mean"], before["bn1.running_mean"])


@pytest.mark.parametrize("tune", ["lora", "full", "projection", "top:1"])
def test_checkpoint_state_restores_everything(spec: str, tune: str) -> None:
    model = tuned(spec, tune, steps=2)
    fresh = tuned(spec, tune)
    assert not torch.allclose(embeddings(fresh), embeddings(model), atol=1e-4)
    lora.load_trainable_state(fresh, lora.trainable_state(model))
    assert torch.equal(embeddings(fresh), embeddings(model))
    with pytest.raises(InputError, match="does not fit"):
        lora.load_trainable_state(fresh, {"other": torch.zeros(1)})


@pytest.mark.parametrize("tune", ["lora", "full", "projection", "top:1"])
def test_run_folder_gives_back_what_was_trained(spec: str, tune: str, tmp_path: Path) -> None:
    model = tuned(spec, tune, steps=2)
    parsed = ModelSpec.parse(spec)
    save_run_model(tmp_path / "run", model, parsed.describe(), parsed.content_hash(), tune)
    run = ModelSpec.parse(str(tmp_path / "run"))
    assert run.kind == "run"
    loaded = run.load()
    assert torch.allclose(embeddings(loaded), embeddings(model), atol=2e-6)
    assert str(tmp_path) not in (tmp_path / "run" / "model.json").read_text()
    again = tmp_path / "elsewhere" / "again"
    save_run_model(again, model, parsed.describe(), parsed.content_hash(), tune)
    assert ModelSpec.parse(str(again)).content_hash() == run.content_hash() != parsed.content_hash()
    # a run on a run needs nothing of the first
    lora.apply_tuning(loaded, "lora")
    train(loaded, 2)
    save_run_model(tmp_path / "second", loaded, run.describe(), run.content_hash(), "lora")
    expected = embeddings(loaded)
    (tmp_path / "run").rename(tmp_path / "gone")
    assert torch.allclose(embeddings(ModelSpec.parse(str(tmp_path / "second")).load()), expected, atol=2e-6)


def test_peft_loads_the_adapter(spec: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = tuned(spec, "lora", steps=2)
    save_run_model(tmp_path, model, ModelSpec.parse(spec).describe(), ModelSpec.parse(spec).content_hash(), "lora")
    fresh = load(spec)
    adapted = PeftModel.from_pretrained(fresh.module, str(tmp_path / "adapter"))
    state = fresh.module.state_dict() | checkpoint_files.load_state(tmp_path / "head.safetensors")
    assert adapted.base_model.model.load_state_dict(state)
    assert torch.allclose(embeddings(fresh), embeddings(model), atol=2e-6)


@pytest.mark.slow
def test_weights_of_packages_are_not_copied_but_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        model = tuned("lite0_minilm", "lora", steps=1)
    except InputError as error:
        pytest.skip(str(error))
    spec = ModelSpec.parse("lite0_minilm")
    save_run_model(tmp_path / "first", model, spec.describe(), spec.content_hash(), "lora")
    assert not (tmp_path / "first" / "base.safetensors").exists()
    run = ModelSpec.parse(str(tmp_path / "first"))
    loaded = run.load()
    assert torch.allclose(embeddings(loaded), embeddings(model), atol=2e-6)
    # the text tower is no longer the package's, so a run on the run must hold it; the image tower still is
    lora.apply_tuning(loaded, "projection")
    train(loaded, 1)
    save_run_model(tmp_path / "second", loaded, run.describe(), run.content_hash(), "projection")
    names = checkpoint_files.load_state(tmp_path / "second" / "base.safetensors")
    assert {name.split(".")[0] for name in names} == {"text"}
    second = ModelSpec.parse(str(tmp_path / "second")).load()
    assert torch.allclose(embeddings(second), embeddings(loaded), atol=2e-6)
    # another release of the package with other weights
    monkeypatch.setattr(checkpoint_files, "state_hash", lambda _: "0" * 32)
    with pytest.raises(InputError, match="other weights"):
        run.load()


def test_damaged_runs_are_refused(tmp_path: Path) -> None:
    model = tuned("tiny", "lora", steps=1)
    save_run_model(tmp_path, model, ModelSpec.parse("tiny").describe(), ModelSpec.parse("tiny").content_hash(), "lora")
    adapter = tmp_path / "adapter" / "adapter_model.safetensors"
    whole = adapter.read_bytes()
    hash_before = ModelSpec.parse(str(tmp_path)).content_hash()
    adapter.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ModelSpec.parse(str(tmp_path)).load()
    assert ModelSpec.parse(str(tmp_path)).content_hash() != hash_before
    adapter.write_bytes(whole[:100])
    with pytest.raises(InputError):
        ModelSpec.parse(str(tmp_path)).load()
    adapter.unlink()
    with pytest.raises(InputError, match="adapter_model"):
        ModelSpec.parse(str(tmp_path)).load()
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InputError, match="format"):
        ModelSpec.parse(str(tmp_path)).load()
