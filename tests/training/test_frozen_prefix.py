"""Frozen prefixes: a cut tower computes what the whole one computes, for every kind of tower, and `top:N` trains what lies behind."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.model import CLIP

from data_manifests.errors import InputError
from data_manifests.seeds import canonical
from tests.training.conftest import MakeVersion
from tests.training.small_models import KINDS, load, write_config
from training import checkpoint
from training.batches.activation_cache import ActivationStore, forget_activations, make_room
from training.batches.basic import ShuffledPlan
from training.batches.batch import TextSampling
from training.batches.index import PlanIndex
from training.batches.loader import PlannedBatches
from training.batches.plan import make_plan
from training.config import TrainConfig
from training.distributed import Ranks
from training.evaluate.encoding_cache import ImageInput, shared_encodings
from training.evaluate.features import encode_images, encode_texts
from training.features import FeatureNeeds
from training.hard_negatives import UniformNegatives
from training.model import checkpoint_files, lora
from training.model.clip_model import ClipModel, StepEncoder, group_of
from training.model.run_folder import save_run_model
from training.model.spec import ModelSpec
from training.model.wise_ft import blend
from training.objectives.info_nce import InfoNCE
from training.precompute import FrozenPrefixes
from training.train import train
from training.train_parts import TrainParts

TEXTS = ["a red circle left of a blue square", "two dogs", "a small striped triangle above a large green star", "dogs"]


@pytest.fixture(params=KINDS)
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return write_config(tmp_path, request.param)


def pixels(model: ClipModel, num: int = 3) -> torch.Tensor:
    return torch.randn(num, 3, model.image_size_px, model.image_size_px, generator=torch.Generator().manual_seed(1))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest distance of two rows, relative to the expected one's length: single numbers differ by processor."""
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


def tuned(spec: str, tune: str) -> ClipModel:
    model = load(spec)
    lora.apply_tuning(model, tune)
    return model


def test_a_tower_cut_anywhere_computes_what_the_whole_one_computes(spec: str) -> None:
    model = load(spec)
    model.eval()
    images, tokens = pixels(model), model.tokenize(TEXTS)
    with torch.no_grad():
        image, text = model.image_trunk(images), model.text_trunk(tokens)
        for side in ("image", "text"):
            blocks = model.blocks(side)
            for cut in range(len(blocks) + 1):
                model.cuts = {side: cut}
                if side == "image":
                    prefix = torch.cat([model.image_prefix(one[None]) for one in images])
                    assert relative_error(model.image_trunk_from(prefix), image) < 3e-6, cut
                else:
                    prefix = model.text_prefix(tokens)
                    assert relative_error(model.text_trunk_from(prefix), text) < 3e-6, cut
                    assert prefix.shape[:2] == tokens.shape


def test_a_share_evaluated_from_cached_prefixes_has_the_embeddings_of_the_whole_towers(
    spec: str, tmp_path: Path
) -> None:
    base, end = load(spec), load(spec)
    last = tuple(base.blocks(side).names[-1] for side in ("image", "text"))
    with torch.no_grad():
        for name, value in end.module.named_parameters():
            value.add_(0.02 if name.startswith(last) else 0)
    between = next(blend(base, end, [0.5]))
    images = [ImageInput(f"{row}", functools.partial(_row, pixels(base, 9), row)) for row in range(9)]
    with shared_encodings(tmp_path):
        found = encode_images(between, images), encode_texts(between, TEXTS)
        assert encode_images(between, images).tobytes() == found[0].tobytes()
    assert between.cuts == {side: len(between.blocks(side)) - 1 for side in ("image", "text")}
    between.cuts = {}
    alone = encode_images(between, images), encode_texts(between, TEXTS)
    assert all(np.abs(one - other).max() < 1e-6 for one, other in zip(found, alone, strict=True))


def _row(values: torch.Tensor, row: int) -> torch.Tensor:
    return values[row]


def test_top_trains_the_last_blocks_and_the_heads(spec: str) -> None:
    model = tuned(spec, "top:1")
    trained = {name for name, _ in lora.trainable_parameters(model)}
    for side in ("image", "text"):
        blocks = model.blocks(side)
        names = [name for name, _ in model.module.named_parameters() if group_of(model.module, name) == f"{side}_trunk"]
        assert {name for name in names if name in trained} == {
            name for name in names if blocks.position(name) >= len(blocks) - 1
        }
        assert any(blocks.position(name) == len(blocks) - 1 for name in names)
        assert any(name.startswith(blocks.names[-1]) for name in trained)
        assert model.cuts[side] == len(blocks) - 1 and model.prefix_frozen(side)
    heads = {name for name, _ in model.module.named_parameters() if group_of(model.module, name).endswith("_head")}
    assert heads | {"logit_scale"} <= trained
    if isinstance(model.module, CLIP):
        assert {"text_projection", "ln_final.weight"} <= trained


def test_training_a_cut_tower_gives_the_weights_of_training_the_whole_one(spec: str) -> None:
    whole, cut = tuned(spec, "top:1"), tuned(spec, "top:1")
    images, tokens = pixels(whole, len(TEXTS)), whole.tokenize(TEXTS)
    with torch.no_grad():
        cut.eval()
        prefix = cut.image_prefix(images), cut.text_prefix(tokens)
    for model, (image, text), cached in ((whole, (images, tokens), False), (cut, prefix, True)):
        optimizer = torch.optim.AdamW([p for _, p in lora.trainable_parameters(model)], lr=1e-3, eps=1e-3)
        encoder = StepEncoder(model)
        for step in range(3):
            torch.manual_seed(step)
            model.train()
            features = encoder.encode_image(image, cached=cached), encoder.encode_text(text, cached=cached)
            loss = torch.nn.functional.cross_entropy(features[0] @ features[1].T * 10, torch.arange(len(TEXTS)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    expected, found = lora.trainable_state(whole), lora.trainable_state(cut)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.allclose(found[name], expected[name], atol=1e-6, rtol=1e-5)] == []
    start = lora.trainable_state(tuned(spec, "top:1"))
    still = {name for name in start if torch.equal(start[name], found[name])}
    # a mean over places knows no bias of a key
    assert not {name for name in still if "logit" not in name and "bias" not in name}, still


def test_a_run_keeps_only_what_was_trained_and_its_shares_are_cut_where_it_was_trained(
    spec: str, tmp_path: Path
) -> None:
    model, parsed = tuned(spec, "top:1"), ModelSpec.parse(spec)
    with torch.no_grad():
        for _, value in lora.trainable_parameters(model):
            value.add_(0.01)
    model.public = frozenset({"image_trunk"})  # as if the image tower's weights came from a package
    save_run_model(tmp_path / "run", model, "base", "0" * 32, "top:1")
    base = checkpoint_files.load_state(tmp_path / "run" / "base.safetensors")
    head = checkpoint_files.load_state(tmp_path / "run" / "head.safetensors")
    assert head.keys() == {name for name, _ in lora.trainable_parameters(model)} == lora.trainable_state(model).keys()
    assert not [name for name in base if name.startswith("visual.")]
    model.public = frozenset()
    save_run_model(tmp_path / "run", model, parsed.describe(), parsed.content_hash(), "top:1")
    loaded = ModelSpec.parse(str(tmp_path / "run")).load()
    assert loaded.cuts == {} and next(blend(load(spec), loaded, [1.0])).cuts == model.cuts
    model.eval()
    with torch.no_grad():
        assert torch.equal(loaded.encode_image(pixels(model)), model.encode_image(pixels(model)))


def test_frozen_batch_normalisation_and_dropout_before_the_cut_stay_as_they_are(tmp_path: Path) -> None:
    model = tuned(write_config(tmp_path, "hybrid"), "top:1")
    before = {name: value.clone() for name, value in model.module.named_buffers()}
    model.train()
    model.encode_image(pixels(model))
    assert [name for name, value in model.module.named_buffers() if not torch.equal(value, before[name])] == []
    assert model.module.visual.head.branch.training
    vit = tuned(write_config(tmp_path, "assembly"), "top:1")
    vit.module.visual.trunk.pos_drop.p = 0.5
    vit.train()
    assert not vit.module.visual.trunk.pos_drop.training
    assert vit.module.visual.trunk.blocks[11].training


def test_lora_on_the_last_layers_has_a_frozen_prefix_too() -> None:
    model = load("tiny")
    lora.apply_tuning(model, "lora", layers=[2, 3])
    assert model.cuts == {"image": 2, "text": 2}
    everywhere = tuned("tiny", "lora")
    assert everywhere.cuts == {} and not everywhere.prefix_frozen("image")
    heads = tuned("tiny", "projection")
    assert heads.cuts == {} and heads.prefix_frozen("image")


@pytest.mark.parametrize("tune", ["top:", "top:0", "top:-1", "top:x", "top:1.5", "top: 1", "top:01", "top:٣", "top"])
def test_a_number_of_blocks_that_is_none_is_refused(tune: str) -> None:
    with pytest.raises(InputError, match=r"top:N \(the last N blocks"):
        TrainConfig(tune=tune)
    with pytest.raises(InputError, match=r"top:N \(the last N blocks"):
        lora.apply_tuning(load("tiny"), tune)


def test_more_blocks_than_there_are_are_refused_with_how_many_there_are() -> None:
    with pytest.raises(InputError, match=r"image tower has 4 blocks, the text tower 3(.|\n)*top:1 to top:3"):
        tuned("tiny", "top:4")
    every = tuned("tiny", "top:3")
    assert every.cuts == {"image": 1}  # of the text tower only the embeddings are frozen: nothing worth a cache
    assert not every.prefix_frozen("text")
    report = lora.apply_tuning(load("tiny"), "top:2")
    assert report.lines()[-2:] == ["  image tower: the last 2 of 4 blocks", "  text tower: the last 2 of 3 blocks"]


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_a_run_that_cannot_begin_leaves_no_folder(make_version: MakeVersion, tmp_path: Path) -> None:
    version, spec, config = make_version(20), ModelSpec.parse("tiny"), config_for(tune="top:9", steps=1)
    with pytest.raises(InputError, match="image tower has 4 blocks"):
        train(version, parts_for(), spec, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(version, parts_for(), spec, replace(config, tune="top:3"), tmp_path / "run").steps == 1


def test_a_tower_without_known_blocks_is_refused(tmp_path: Path) -> None:
    path = Path(write_config(tmp_path, "hybrid"))
    config = checkpoint_files.read_json(path)
    config["image"]["timm"] = "mobilenetv3_small_050"
    path.write_bytes(canonical(config))
    with pytest.raises(InputError, match=r"blocks of this model's image tower \(MobileNetV3\)(.|\n)*--tune lora"):
        tuned(str(path), "top:1")


def test_an_attention_pool_starts_as_the_mean_and_learns(tmp_path: Path) -> None:
    for kind in ("pooled", "patches"):
        spec = write_config(tmp_path, kind)
        config = checkpoint_files.read_json(Path(spec))
        (tmp_path / f"mean_{kind}.json").write_bytes(canonical(config | {"image": config["image"] | {"pool": None}}))
        mean, model = load(str(tmp_path / f"mean_{kind}.json")), load(spec)
        mean.eval()
        model.eval()
        images = pixels(model)
        with torch.no_grad():
            assert torch.equal(model.encode_image(images), mean.encode_image(images))
        lora.apply_tuning(model, "projection")
        pool: Any = model.module.visual.pool
        assert not [name for name, value in pool.named_parameters() if not value.requires_grad]
        size = sum(value.numel() for value in pool.parameters())
        assert size < 600_000
        optimizer = torch.optim.SGD(pool.parameters(), lr=1.0)
        for _ in range(2):
            model.train()
            loss = (model.encode_image(images) * torch.arange(24.0)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert [
            name for name, value in pool.named_parameters() if value.grad is None or not bool(value.grad.any())
        ] == []
        model.eval()
        with torch.no_grad():
            assert not torch.allclose(model.encode_image(images), mean.encode_image(images), atol=1e-4)


@pytest.mark.parametrize("pool", ["mean", True, ["attention"]])
def test_an_unknown_pool_is_refused(tmp_path: Path, pool: object) -> None:
    config = checkpoint_files.read_json(Path(write_config(tmp_path, "hybrid")))
    with pytest.raises(InputError, match=r"image\.pool(.|\n)*'attention', or null"):
        checkpoint_files.check_config(config | {"image": config["image"] | {"pool": pool}}, "c")
    with pytest.raises(InputError, match=r"field 'pool'(.|\n)*image\.pool"):
        checkpoint_files.check_config(config | {"pool": "attention"}, "c")


def test_an_attention_pool_needs_a_map_it_can_read(tmp_path: Path) -> None:
    config = checkpoint_files.read_json(Path(write_config(tmp_path, "hybrid")))
    # its channels are last
    config["image"] |= {"timm": "swin_tiny_patch4_window7_224", "size_px": 224, "pool": "attention"}
    (tmp_path / "swin.json").write_bytes(canonical(config))
    with pytest.raises(InputError, match=r"image\.pool 'attention' over features of the shape"):
        load(str(tmp_path / "swin.json"))


def quiet(what: str, done: int, total: int) -> None:
    """Report to nobody."""


def config_for(**changes: Any) -> TrainConfig:
    # a large floor under AdamW's denominator: rounding of tiny gradients must not become steps of a full learning rate
    numbers = {
        "steps": 6,
        "batch_size": 6,
        "lr": 1e-3,
        "warmup_steps": 1,
        "eps": 1e-3,
        "num_threads": 1,
        "tune": "top:1",
    }
    return TrainConfig(**{**numbers, "checkpoint_every": 2, **changes})


def parts_for() -> TrainParts:
    return TrainParts("negclip", ShuffledPlan(), (InfoNCE(),), UniformNegatives(2))


@pytest.mark.parametrize("kind", ["tiny", "lite", "pooled", "assembly"])
@pytest.mark.filterwarnings("ignore:model '")
def test_a_cached_run_equals_one_that_computes_everything_at_each_step(
    make_version: MakeVersion, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    version, spec = make_version(20), ModelSpec.parse(write_config(tmp_path, kind))
    train(version, parts_for(), spec, config_for(), tmp_path / "cached", cache=tmp_path / "cache")
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"frozen prefix \(\d+ of \d+ blocks\) of the image tower is computed once", said)
    train(version, parts_for(), spec, config_for(cache_gb=0.0), tmp_path / "plain", cache=tmp_path / "none")
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"image tower is computed at each step: its activations take [\d.]+ GB, train\.cache_gb=0", said)
    assert not (tmp_path / "none").exists()
    found = [checkpoint_files.load_state(tmp_path / run / "head.safetensors") for run in ("cached", "plain")]
    start = spec.load().module.state_dict()
    for name, value in found[0].items():
        assert torch.allclose(value, found[1][name], atol=2e-6), name
    assert sum(not torch.equal(value, start[name]) for name, value in found[0].items()) > len(found[0]) / 2


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_a_cached_run_is_resumed_to_the_same_bytes_and_another_one_finds_the_cache(
    make_version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, spec, cache = make_version(20), ModelSpec.parse("tiny"), tmp_path / "cache"
    whole = train(version, parts_for(), spec, config_for(), tmp_path / "whole", cache=cache)
    stamps = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    assert {path.parent.parent.name for path in stamps} == {"image", "text"}
    save = checkpoint.save_checkpoint

    def killed(run: Path, state: dict[str, Any]) -> None:
        save(run, state)
        if state["step"] == 4:
            raise RuntimeError("killed")

    monkeypatch.setattr(checkpoint, "save_checkpoint", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(version, parts_for(), spec, config_for(), tmp_path / "killed", cache=cache)
    monkeypatch.undo()
    state = checkpoint.load_checkpoint(tmp_path / "killed")
    assert state is not None and not [name for name in state["towers"] if "resblocks.0" in name]
    resumed = train(version, parts_for(), spec, config_for(), tmp_path / "killed", resume=True, cache=cache)
    in_memory = train(version, parts_for(), spec, config_for(), tmp_path / "memory")
    assert whole.weights_hash == resumed.weights_hash == in_memory.weights_hash
    assert stamps == {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    loaded = ModelSpec.parse(str(tmp_path / "whole")).load()
    assert next(blend(spec.load(), loaded, [0.5])).cuts == {"image": 3, "text": 2}


def rows_of(*sizes: int) -> list[np.ndarray[Any, Any]]:
    return [np.full((size, 3), size, dtype=np.float32) for size in sizes]


def test_a_store_gives_back_maps_and_sequences_and_says_which_file_is_damaged(tmp_path: Path) -> None:
    names = [f"{number:032x}" for number in range(3)]
    for folder in (None, tmp_path / "store"):
        store = ActivationStore(folder, names)
        store.add(names[:2], rows_of(1, 4))
        store.add(names[2:], rows_of(2))
        for held in (store, ActivationStore(folder, names)) if folder else (store,):
            taken = held.take([names[2], names[0], names[1]])
            assert taken.shape == (3, 4, 3)
            assert taken[:, :, 0].tolist() == [[2, 2, 0, 0], [1, 0, 0, 0], [4, 4, 4, 4]]
    maps = ActivationStore(tmp_path / "maps", names)
    maps.add(names, [np.full((2, 3, 3), number, dtype=np.float32) for number in range(3)])
    assert maps.take(names[1:]).shape == (2, 2, 3, 3)
    assert forget_activations(tmp_path, {names[0]}) == 2
    assert ActivationStore(tmp_path / "store", names).missing() == names[:1]
    assert ActivationStore(tmp_path / "store", names).take(names[1:2]).tolist() == [[[4.0] * 3] * 4]
    whole = (path := next((tmp_path / "maps").glob("*.npz"))).read_bytes()
    at = whole.index(np.full(6, 2, dtype=np.float32).tobytes())
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    for damaged in (whole[:100], whole[: len(whole) // 2], flipped, b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{path.name}: damaged activation cache(.|\n)*delete this file"):
            ActivationStore(tmp_path / "maps", names)


def test_stores_that_were_not_used_for_the_longest_time_make_room(tmp_path: Path) -> None:
    names = [f"{number:032x}" for number in range(100)]
    folders = [tmp_path / "image" / "one", tmp_path / "text" / "two", tmp_path / "image" / "three"]
    for age, folder in enumerate(folders):
        ActivationStore(folder, names).add(names, [np.zeros((10, 10), dtype=np.float32)] * 100)
        os.utime(folder, ns=(age, age))
    size = sum(path.stat().st_size for path in folders[0].iterdir())
    make_room(folders[0], 1000, budget=3 * size + 1000)
    assert all(folder.is_dir() for folder in folders)
    make_room(folders[0], 1000, budget=3 * size)
    assert [folder.is_dir() for folder in folders] == [True, False, True]  # the oldest is the one that is filled
    make_room(folders[2], 2 * size, budget=2 * size)
    assert [folder.is_dir() for folder in folders] == [False, False, True] and not list(folders[2].iterdir())
    with pytest.raises(InputError, match=r"GB are free(.|\n)*train\.cache_gb=0"):
        make_room(folders[2], 1 << 60, budget=1 << 61)


def test_what_does_not_fit_the_budget_is_computed_at_each_step(make_version: MakeVersion, tmp_path: Path) -> None:
    model = tuned("tiny", "top:1")
    version, config = make_version(20), config_for()
    plan = make_plan(ShuffledPlan(), PlanIndex.from_table(version.index()), 0, 6, 6)
    batches = PlannedBatches(version, plan, model, config, TextSampling(UniformNegatives(2)))
    image, text = batches.cached_bytes("image"), batches.cached_bytes("text")
    assert image == len(set(plan.uids)) * 65 * 128 * 4
    tokens = model.tokenize(sorted(batches.distinct_texts(0)))
    assert text == int((tokens.argmax(dim=1) + 1).sum()) * (64 + 1) * 4
    late = PlannedBatches(version, plan, model, config, TextSampling(UniformNegatives(2)), start_step=4)
    assert (late.cached_bytes("image"), late.cached_bytes("text")) == (image, text)
    for cache_gb, expected in ((0.0, []), (text / 1e9, ["text"]), (image / 1e9, ["image"]), (1.0, ["image", "text"])):
        folder = tmp_path / str(cache_gb)
        said: list[str] = []
        limited = replace(config, cache_gb=cache_gb)
        FrozenPrefixes(model, FeatureNeeds(), limited, folder, Ranks(), quiet, said.append).precompute(batches)
        assert sorted(path.name for path in folder.glob("*")) == expected
        assert len(said) == 2 and sum("at each step" in line for line in said) == 2 - len(expected)
        held = sum(path.stat().st_size for path in folder.rglob("*.npz"))
        assert held < 1.1 * (image * ("image" in expected) + text * ("text" in expected)) + 1
    said = []
    prefixes = FrozenPrefixes(model, FeatureNeeds(frozenset({"tokens"})), config, None, Ranks(), quiet, said.append)
    prefixes.precompute(batches)
    assert len(said) == 2 and all("an objective needs more" in line for line in said)


@pytest.mark.filterwarnings("ignore:model 'bidirectional'")
def test_a_tower_that_cannot_be_cut_is_computed_at_each_step_and_the_run_says_why(
    make_version: MakeVersion, tmp_path: Path
) -> None:
    path = tmp_path / "bidirectional.json"
    config = checkpoint_files.read_json(checkpoint_files.SHIPPED / "tiny.json")
    config["text_cfg"] |= {"no_causal_mask": True, "pool_type": "last"}
    path.write_bytes(canonical(config | {"custom_text": True}))
    model = tuned(str(path), "top:1")
    assert set(model.cuts) == {"image"}
    version, said = make_version(8), list[str]()
    plan = make_plan(ShuffledPlan(), PlanIndex.from_table(version.index()), 0, 1, 6)
    batches = PlannedBatches(version, plan, model, config_for(), TextSampling(UniformNegatives(2)))
    FrozenPrefixes(model, FeatureNeeds(), config_for(), None, Ranks(), quiet, said.append).precompute(batches)
    assert len(said) == 2 and "once for each image" in said[0]
    assert "frozen blocks of the text tower are computed at each step: this text transformer is not causal" in said[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:model 'lite0_minilm'")
def test_the_prefix_of_the_pretrained_towers_is_exact(make_version: MakeVersion, tmp_path: Path) -> None:
    version = make_version(12)
    spec = ModelSpec.parse("lite0_minilm")
    try:
        train(version, parts_for(), spec, config_for(steps=2), tmp_path / "cached", cache=tmp_path / "cache")
    except InputError as error:
        pytest.skip(str(error))
    train(version, parts_for(), spec, config_for(steps=2, cache_gb=0.0), tmp_path / "plain")
    found = [checkpoint_files.load_state(tmp_path / run / "head.safetensors") for run in ("cached", "plain")]
    assert max(float((value - found[1][name]).abs().max()) for name, value in found[0].items()) < 1e-6
