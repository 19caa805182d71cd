"""Exports are what open_clip, transformers and peft themselves load, with the features of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from data_manifests.errors import InputError
from data_manifests.seeds import canonical
from tests.training.small_models import write_config
from tests.training.test_lora import TEXTS, embeddings, pixels, tuned
from training.model import checkpoint_files
from training.model.clip_model import ClipModel
from training.model.export import write_export
from training.model.run_folder import save_run_model
from training.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")

MANY = [*TEXTS, "", "12 Dogs, and a CAT!", "caf\u00e9 \u2603", "word " * 80]


def _config(root: Path, **changes: Any) -> str:
    """Return the spec of `tiny` with other settings."""
    config = checkpoint_files.read_json(checkpoint_files.SHIPPED / "tiny.json") | changes
    path = root / "own.json"
    path.write_bytes(canonical(config))
    return str(path)


@torch.enable_grad()
def _run(root: Path, spec: str, tune: str = "lora") -> tuple[Path, ClipModel]:
    """Train a little, and return the run and its model as it is loaded."""
    parsed = ModelSpec.parse(spec)
    save_run_model(root / "run", tuned(spec, tune, steps=3), parsed.describe(), parsed.content_hash(), tune)
    return root / "run", ModelSpec.parse(str(root / "run")).load()


def _export(run: Path, layout: str) -> Path:
    folder = run.parent / layout
    folder.mkdir()
    write_export(run, layout, folder)
    return folder


def _cosines(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(first.double(), second.double())


@torch.no_grad()
@pytest.mark.parametrize(
    "changes", [{}, {"quick_gelu": True, "custom_text": True}, {"preprocess_cfg": {"resize_mode": "squash"}}]
)
def test_open_clip_loads_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    import open_clip

    run, model = _run(tmp_path, _config(tmp_path, **changes))
    folder = _export(run, "open_clip")
    other, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    other.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(MANY)
    assert torch.equal(tokens, model.tokenize(MANY))
    photo = Image.effect_mandelbrot((90, 70), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    assert torch.allclose(preprocess(photo), model.preprocess(photo), atol=2e-2)
    images = torch.cat([pixels(model), preprocess(photo)[None]])
    assert (_cosines(other.encode_image(images), model.encode_image(images)) >= 0.99999).all()
    assert (_cosines(other.encode_text(tokens), model.encode_text(tokens)) >= 0.99999).all()
    assert torch.equal(other.logit_scale, model.module.logit_scale)
    ours = ModelSpec.parse(str(folder))
    assert ours.kind == "open_clip_dir"
    assert torch.allclose(embeddings(ours.load()), embeddings(model), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"quick_gelu": True, "custom_text": True}])
def test_transformers_loads_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    run, model = _run(tmp_path, _config(tmp_path, **changes))
    folder = _export(run, "hf")
    other: Any = CLIPModel.from_pretrained(str(folder))
    other.eval()
    assert other.config.text_config.hidden_act == ("quick_gelu" if changes else "gelu")
    tokenizer: Any = CLIPTokenizer.from_pretrained(str(folder))
    given = tokenizer(MANY, padding="max_length", truncation=True, return_tensors="pt")
    own = model.tokenize(MANY)
    assert torch.equal(torch.where(own == 0, 49407, own), given["input_ids"])
    texts = other.get_text_features(**given).pooler_output
    images = other.get_image_features(pixel_values=pixels(model)).pooler_output
    assert (_cosines(texts, model.encode_text(own)) >= 0.99999).all()
    assert (_cosines(images, model.encode_image(pixels(model))) >= 0.99999).all()
    assert float(other.logit_scale) == pytest.approx(float(model.module.logit_scale))


def test_transformers_prepares_pictures_alike(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessorPil

    run, model = _run(tmp_path, "tiny", "full")
    processor = CLIPImageProcessorPil.from_pretrained(str(_export(run, "hf")))
    photo = Image.effect_mandelbrot((90, 70), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    made = processor(photo, return_tensors="pt")["pixel_values"][0]
    assert made.shape == (3, model.image_size_px, model.image_size_px)
    assert float((made - model.preprocess(photo)).abs().mean()) < 0.02


@torch.no_grad()
def test_plain_peft_loads_the_adapter(tmp_path: Path) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file

    run, model = _run(tmp_path, "tiny")
    folder = _export(run, "adapter")
    base: Any = ModelSpec.parse("tiny").load().module
    base.load_state_dict(load_file(str(folder / "head.safetensors")), strict=False)
    adapted: Any = PeftModel.from_pretrained(base, str(folder))
    adapted.eval()
    tokens = model.tokenize(TEXTS)
    assert (_cosines(adapted.encode_text(tokens), model.encode_text(tokens)) >= 0.99999).all()
    assert (_cosines(adapted.encode_image(pixels(model)), model.encode_image(pixels(model))) >= 0.99999).all()


@pytest.mark.parametrize(
    ("kind", "tune", "layout", "message"),
    [
        (
            "assembly",
            "lora",
            "open_clip",
            "open_clip has no architecture of two separate towers(.|\n)*--format adapter",
        ),
        (
            "assembly",
            "full",
            "hf",
            "two separate towers(.|\n)*VisionTextDualEncoder(.|\n)*'(mean|first)'(.|\n)*--model RUN",
        ),
        ("tiny", "full", "adapter", "tuned 'full' and has no adapter(.|\n)*--format open_clip or hf"),
        ("resnet", "full", "hf", "no ResNet as image tower(.|\n)*--format open_clip"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(kind: str, tune: str, layout: str, message: str, tmp_path: Path) -> None:
    run, _ = _run(tmp_path, write_config(tmp_path, kind), tune)
    with pytest.raises(InputError, match=message):
        _export(run, layout)
    assert list((tmp_path / layout).iterdir()) == []


@pytest.mark.parametrize(
    ("part", "setting"),
    [("vision_cfg", {"no_ln_pre": True}), ("text_cfg", {"embed_cls": True}), ("", {"init_logit_bias": -10.0})],
)
def test_settings_that_transformers_does_not_have_are_named(part: str, setting: dict[str, Any], tmp_path: Path) -> None:
    run, _ = _run(tmp_path, "tiny", "full")
    record = json.loads((run / "model.json").read_bytes())
    (record["config"][part] if part else record["config"]).update(setting)
    (run / "model.json").write_bytes(canonical(record))
    with pytest.raises(InputError, match=next(iter(setting))):
        _export(run, "hf")


@pytest.mark.parametrize("layout", ["open_clip", "hf"])
def test_context_tokens_have_no_place_in_other_libraries(layout: str, tmp_path: Path) -> None:
    run, _ = _run(tmp_path, "tiny", "prompt")
    with pytest.raises(InputError, match="its texts begin with 4 learned context tokens"):
        _export(run, layout)
    assert not list((tmp_path / layout).iterdir())
