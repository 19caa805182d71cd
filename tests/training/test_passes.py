"""Chunks through the towers: the loss and gradients of the whole batch, whatever the objectives look at."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from data_manifests.errors import InputError
from data_manifests.image_decoder import decode_image
from tests.training.conftest import MakeVersion
from tests.training.test_train import HARD, PLAIN
from training.batches.batch import Batch
from training.batches.index import PlanIndex
from training.batches.loader import PlannedBatches
from training.batches.plan import make_plan
from training.config import TrainConfig
from training.device import check_batch_norm, choose_device
from training.log import Clock
from training.model import lora
from training.model.clip_model import ClipModel, StepEncoder
from training.model.spec import ModelSpec
from training.objectives.local_contrast import LocalContrast
from training.train import Trainer, train
from training.train_parts import TrainParts

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")
TINY = ModelSpec.parse("tiny")
LOCAL = replace(HARD, objectives=(*HARD.objectives, LocalContrast()))


def gradients(
    make_version: MakeVersion, tmp_path: Path, parts: TrainParts, micro: int, dropout: float = 0.0
) -> tuple[float, dict[str, Tensor]]:
    version = make_version(20, name=f"shapes{micro}{dropout}{len(parts.objectives)}")
    config = TrainConfig(
        steps=1, batch_size=10, micro_batch_size=micro, lora_dropout=dropout, grad_clip=0.0, device="cpu",
        precision="float32", schedule="constant", warmup_steps=0,
    )  # fmt: skip
    trainer = Trainer.start(parts, TINY, config, tmp_path, lambda _: None)
    for model in (trainer.model, trainer.needs.teacher):
        if model is not None:
            model.module.double()
    plan = make_plan(parts.planner, PlanIndex.from_table(version.index()), 0, 1, 10)
    batch = PlannedBatches(version, plan, trainer.model, config, parts.text_sampling).batch(0)
    record = trainer.make_step(replace(batch, image=batch.image.double()))
    trained = lora.trainable_parameters(trainer.model)
    return record["loss"], {name: p.grad for name, p in trained if p.grad is not None}


@pytest.mark.parametrize("parts", [PLAIN, HARD, LOCAL], ids=["plain", "hard", "local"])
def test_chunks_give_the_gradients_of_the_batch(make_version: MakeVersion, tmp_path: Path, parts: TrainParts) -> None:
    loss, expected = gradients(make_version, tmp_path, parts, 0)
    for micro in (3, 64):
        chunked, made = gradients(make_version, tmp_path, parts, micro)
        assert chunked == pytest.approx(loss, rel=1e-12) and made.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.allclose(made[name], value, rtol=1e-8, atol=1e-11), name
    assert any(float(value.abs().max()) > 1e-4 for name, value in expected.items() if "lora" in name)


def test_both_passes_of_a_chunk_draw_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    clip = ClipModel(model, lambda image: torch.zeros(3), lambda texts: torch.zeros(0), 8, 8, 8, 0, {})
    inputs, passes = torch.randn(7, 4, dtype=torch.float64), StepEncoder(clip, 3)
    (leaf,) = passes.run(lambda chunk: (model(chunk),), inputs)
    drawn: list[Tensor] = []
    model[2].register_forward_hook(lambda *given: drawn.append(given[2].detach()))
    leaf.sum().backward()  # type: ignore[no-untyped-call]
    after = torch.get_rng_state()
    passes.backward()
    assert torch.equal(torch.cat(drawn), leaf.detach()) and torch.equal(torch.get_rng_state(), after)
    assert torch.allclose(model[2].bias.grad, torch.full((2,), 7.0, dtype=torch.float64))


def test_what_looks_at_the_whole_batch_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model = ClipModel(module, lambda image: torch.zeros(3), lambda texts: torch.zeros(0), 8, 8, 8, 0, {})
    with pytest.raises(InputError, match=r"micro_batch_size=4: 1 normalises(.|\n)*train\.tune"):
        check_batch_norm(model, TrainConfig(micro_batch_size=4), 1)
    with pytest.raises(InputError, match="2 ranks: 1 normalises"):
        check_batch_norm(model, TrainConfig(), 2)
    check_batch_norm(model, TrainConfig(), 1)
    model.eval()
    check_batch_norm(model, TrainConfig(micro_batch_size=4), 2)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", "auto") == ("cpu", "float32")
    for given in (("cuda", "auto"), ("auto", "bf16"), ("cpu", "bf16")):
        with pytest.raises(InputError, match="--set train"):
            choose_device(*given)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", "auto") == ("cuda", "bf16") and choose_device("cuda", "float32")[1] == "float32"
    assert choose_device("cpu", "auto") == ("cpu", "float32")


def test_fast_decode_is_never_smaller_than_the_towers_see() -> None:
    buffer = io.BytesIO()
    Image.effect_noise((900, 700), 60).convert("RGB").save(buffer, "JPEG")
    sizes = [decode_image(buffer.getvalue(), "a", 10**6, side).size for side in (0, 64, 224, 400)]
    assert sizes == [(900, 700), (113, 88), (450, 350), (900, 700)]
    with pytest.raises(InputError, match="pixels"):
        decode_image(buffer.getvalue(), "a", 10**5, 64)


def test_the_number_of_readers_changes_nothing(make_version: MakeVersion) -> None:
    version, model = make_version(20), TINY.load()
    plan = make_plan(PLAIN.planner, PlanIndex.from_table(version.index()), 0, 2, 8)

    def batch(readers: int) -> Batch:
        return PlannedBatches(version, plan, model, TrainConfig(steps=2, batch_size=8, readers=readers)).batch(1)

    assert torch.equal(batch(1).image, batch(4).image)


def test_a_run_goes_on_with_other_readers(make_version: MakeVersion, tmp_path: Path) -> None:
    version, config = make_version(20), TrainConfig(steps=2, batch_size=6)
    first = train(version, PLAIN, TINY, config, tmp_path / "run")
    assert train(version, PLAIN, TINY, replace(config, readers=5), tmp_path / "run", resume=True) == first


def test_the_clock_tells_waiting_from_working(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 4.0, 4.0, 5.0, 8.0, 8.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = Clock()
    laps = [clock.lap() for _ in clock.timed([1, 2])]
    assert laps == [{"step_s": 3.0, "wait_s": 1.0, "loader_stall": 0.25}] * 2 and clock.stall == 0.25
