"""Pictures of phones, scanners and editors, end to end: one look in curation, training, evaluation and on pages."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from curation.stages.hygiene.check_images import CheckImages
from curation.stages.negatives.swap_roles import SwapRoles
from curation.versions.layout import Layout
from curation.versions.numbering import stage_record
from curation.versions.reshard import reshard
from data_manifests.manifest import DatasetVersion
from flows.execution.estimate import _changes
from tests.flows.test_bad_input import Shell, folder
from tests.flows.test_bad_input import shell as shell  # noqa: PLC0414 - a fixture
from training.batches.basic import ShuffledPlan
from training.batches.index import PlanIndex
from training.batches.loader import PlannedBatches
from training.batches.plan import make_plan
from training.config import TrainConfig
from training.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def photo(seed: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze()).resize((96, 72), Image.Resampling.BICUBIC)


def pairs() -> dict[str, tuple[bytes, bytes]]:
    """Return pairs of files that people see alike: an unusual one and an ordinary one."""
    turned, grey, clear, phone = photo(1), photo(2, 1), photo(3), photo(4)
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = Image.new("L", clear.size, 255)
    alpha.paste(0, (20, 20, 60, 50))
    hidden = clear.copy()
    hidden.putalpha(alpha)
    white = Image.composite(clear, Image.new("RGB", clear.size, "white"), alpha)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256 + 7)
    stored = turned.transpose(Image.Transpose.ROTATE_90)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(saved(stored, "PNG", exif=exif)))).size == turned.size
    return {
        "turned": (saved(stored, "PNG", exif=exif), saved(turned, "PNG")),
        "sixteen": (saved(sixteen, "PNG"), saved(grey, "PNG")),
        "hidden": (saved(hidden, "PNG"), saved(white, "PNG")),
        "phone": (saved(phone, "MPO", save_all=True, append_images=[turned]), saved(phone, "JPEG")),
    }


@pytest.fixture
def source(tmp_path: Path) -> str:
    images = {
        "strip.png": saved(Image.new("RGB", (1, 200_000), "red"), "PNG"),
        "cut.jpg": saved(photo(5), "JPEG")[:700],
    }
    for name, (unusual, ordinary) in pairs().items():
        images |= {f"{name}_unusual.jpg": unusual, f"{name}_ordinary.jpg": ordinary}
    return folder(tmp_path / "data", images, {name: [f"a picture of {name[:4]}"] for name in images})


def rows(version: DatasetVersion) -> dict[str, dict[str, Any]]:
    sidecar = [
        row for shard in range(len(version.manifest.body["shards"])) for row in version.sidecar(shard).to_pylist()
    ]
    index = {row["uid"]: row for row in version.index().to_pylist()}
    return {row["name"].partition(".")[0]: row | index[row["uid"]] for row in sidecar}


def test_pictures_that_people_see_alike_are_alike_to_models(shell: Shell, source: str, tmp_path: Path) -> None:
    code, _, err = shell(
        "curate", "simclip", "--source", source, "--name", "toy", "--model", "tiny", "--no-prefect", "--workers", "1"
    )
    assert code == 0, err
    assert shell.dropped() == {("cut.jpg", "truncated_image")}
    version = shell.catalog.open("toy")
    held = rows(version)
    for name in pairs():
        unusual, ordinary = held[f"{name}_unusual"], held[f"{name}_ordinary"]
        assert unusual["image_embedding"] == ordinary["image_embedding"], name
        assert (unusual["width"], unusual["height"]) == (ordinary["width"], ordinary["height"]) == (96, 72)
        assert not ordinary["shown_differently"]
        assert unusual["shown_differently"] == (name != "phone")
    assert (held["strip"]["width"], held["strip"]["height"]) == (1, 200_000)
    assert version.manifest.body["statistics"]["images_shown_differently"] == 3

    keep = frozenset(held[f"{name}_unusual"]["uid"] for name in ("turned", "phone"))
    part = reshard(shell.catalog, version.ref, Layout(2**20, keep=keep), "part").manifest
    assert part.body["statistics"]["images_shown_differently"] == 1

    model, config = ModelSpec.parse("tiny").load(), TrainConfig(steps=1, batch_size=len(held))
    plan = make_plan(ShuffledPlan(), PlanIndex.from_table(version.index()), 0, 1, len(held))
    batches = PlannedBatches(version, plan, model, config)
    batch = batches.batch(0)
    batches.close()
    pixels = dict(zip(batch.texts.uids, batch.image, strict=True))
    for name in pairs():
        assert torch.equal(pixels[held[f"{name}_unusual"]["uid"]], pixels[held[f"{name}_ordinary"]["uid"]]), name

    page = tmp_path / "page.html"
    assert shell("report", "toy", "--html", str(page))[0] == 0
    assert "shown differently by other readers" in page.read_text(encoding="utf-8")
    run = str(tmp_path / "run")
    train = ("train", "toy", "--recipe", "clip", "--model", "tiny", "--out", run, "--steps", "2")
    assert shell(*train, "--set", "train.batch_size=4")[0] == 0
    code, out, _ = shell("evaluate", run, "--on", f"retrieval:{source}")
    assert code == 0 and "(9 samples, 1 refused)" in " ".join(out.split())


def test_a_plan_names_the_decoder_that_changed() -> None:
    record = stage_record(CheckImages())
    assert _changes({**record, "image_decoder": 0}, record) == ["image decoder 0 -> 1"]
    assert _changes({name: value for name, value in record.items() if name != "image_decoder"}, record) == [
        "image decoder of an earlier version -> 1"
    ]
    assert _changes(record, record) == []
    assert stage_record(SwapRoles())["image_decoder"] is None, "a stage of texts alone"


def test_the_decoder_is_part_of_the_fingerprint_of_what_reads_images(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [stage.fingerprint() for stage in (CheckImages(), SwapRoles())]
    monkeypatch.setattr("curation.engine.stage.DECODER_VERSION", 99)
    after = [stage.fingerprint() for stage in (CheckImages(), SwapRoles())]
    assert after[0] != before[0] and after[1] == before[1]
