"""Batches: a pure function of (version, plan, step), read by byte range; and caches that change no bit."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_manifests import shards
from data_manifests.errors import InputError
from data_manifests.image_decoder import decode_image
from data_manifests.manifest import DatasetVersion
from data_manifests.sample import image_uid
from data_manifests.shards import shard_name
from tests.training.conftest import MakeVersion, describe, draw
from training.batches import loader
from training.batches.activation_cache import ActivationStore, fill_texts, text_name
from training.batches.basic import ShuffledPlan
from training.batches.batch import Batch, TextSampling
from training.batches.index import PlanIndex
from training.batches.loader import PlannedBatches
from training.batches.plan import BatchPlan, make_plan
from training.batches.text_sampling import CaptionViews
from training.config import TrainConfig
from training.features import label_texts
from training.hard_negatives import UniformNegatives
from training.model.clip_model import ClipModel
from training.model.lora import apply_tuning
from training.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")

CONFIG = TrainConfig(steps=7, batch_size=6, seed=3)


def quiet(what: str, done: int, total: int) -> None:
    """Report to nobody."""


@pytest.fixture(scope="module")
def model() -> Iterator[ClipModel]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.warns(UserWarning, match="random"):
        model = ModelSpec.parse("tiny").load()
    model.eval()
    yield model
    torch.set_num_threads(before)


def plan_for(version: DatasetVersion, config: TrainConfig = CONFIG) -> BatchPlan:
    return make_plan(
        ShuffledPlan(), PlanIndex.from_table(version.index()), config.seed, config.steps, config.batch_size
    )


def equal(a: Batch, b: Batch) -> bool:
    pairs = [(a.image, b.image), (a.text, b.text), (a.negatives, b.negatives), (a.negative_mask, b.negative_mask)]
    same = all((x is None and y is None) or torch.equal(x, y) for x, y in pairs)  # type: ignore[arg-type]
    return same and (a.step, a.texts) == (b.step, b.texts)


def test_batches_are_what_the_plan_says(make_version: MakeVersion, model: ClipModel) -> None:
    version = make_version(24)
    plan = plan_for(version)
    numbers = {image_uid(describe(number)[0]): number for number in range(24)}
    batches = PlannedBatches(version, plan, model, CONFIG, TextSampling(UniformNegatives(3)))
    shown = []
    for batch in batches:
        for at, uid in enumerate(batch.texts.uids):
            data, captions, negatives = describe(numbers[uid])
            caption = int(plan.caption[batch.step, at])
            assert batch.texts.captions[at] == captions[caption]
            assert torch.equal(batch.image[at], model.preprocess(Image.open(io.BytesIO(data)).convert("RGB")))
            own = [record for record in negatives if record["caption"] == caption]
            records = batch.texts.records[at]
            assert len(records) == min(3, len(own)) and all(record in own for record in records)
            assert batch.negative_mask is not None and batch.negatives is not None
            assert batch.negative_mask[at].tolist() == [True] * len(records) + [False] * (3 - len(records))
            texts = [batch.texts.captions[at], *(record["text"] for record in records)]
            tokens = torch.cat([batch.text[at : at + 1], batch.negatives[at, : len(records)]])
            assert torch.equal(tokens, model.tokenize(texts)[:, : tokens.shape[1]])
        shown.append(batch.step)
    assert shown == list(range(7)) and model.tokenize(["x"]).shape[1] == 32 > batch.text.shape[1]
    batches.close()


def test_reading_ahead_changes_nothing_and_any_step_can_come_first(make_version: MakeVersion, model: ClipModel) -> None:
    version = make_version(24)
    plan = plan_for(version)
    ahead = list(PlannedBatches(version, plan, model, CONFIG, TextSampling(UniformNegatives(2))))
    alone = PlannedBatches(version, plan, model, CONFIG, TextSampling(UniformNegatives(2)))
    assert all(equal(ahead[step], alone.batch(step)) for step in (6, 0, 3))
    late = list(PlannedBatches(version, plan, model, CONFIG, TextSampling(UniformNegatives(2)), start_step=4))
    assert [batch.step for batch in late] == [4, 5, 6] and all(
        equal(a, b) for a, b in zip(ahead[4:], late, strict=True)
    )


def test_small_images_are_decoded_once_and_large_sets_as_often_as_they_come(
    make_version: MakeVersion, model: ClipModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_version(24)
    plan, decoded = plan_for(version), list[str]()

    def counted(data: bytes, name: str, *limits: int) -> Image.Image:
        decoded.append(name)
        return decode_image(data, name, *limits)

    monkeypatch.setattr(loader, "decode_image", counted)
    once = list(PlannedBatches(version, plan, model, CONFIG))
    assert len(decoded) == len(set(decoded)) == 24
    decoded.clear()
    monkeypatch.setattr(loader, "REMEMBERED_IMAGE_BYTES", 23 * once[0].image[0].nbytes)
    again = list(PlannedBatches(version, plan, model, CONFIG))
    assert len(decoded) == 7 * 6
    assert all(equal(a, b) for a, b in zip(once, again, strict=True))


def test_an_iteration_can_be_left_early(make_version: MakeVersion, model: ClipModel) -> None:
    import threading

    version = make_version(24)
    batches = PlannedBatches(version, plan_for(version), model, CONFIG)
    first = list(itertools.islice(batches, 2))
    assert [batch.step for batch in first] == [0, 1] and first[0].negatives is None
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_negatives_vary_by_step_and_seed_and_are_drawn_evenly(make_version: MakeVersion, model: ClipModel) -> None:
    version = make_version(16)
    config = TrainConfig(steps=300, batch_size=8)
    batches = PlannedBatches(version, plan_for(version, config), model, config, TextSampling(UniformNegatives(1)))
    other = PlannedBatches(
        version, plan_for(version, config), model, TrainConfig(seed=1), TextSampling(UniformNegatives(1))
    )
    target = image_uid(describe(7)[0])  # seven negatives for each of its captions
    counts: dict[str, int] = {}
    differ = 0
    for step in range(300):
        texts = batches.texts(step)
        differ += texts.records != other.texts(step).records
        if target in texts.uids:
            text = texts.records[texts.uids.index(target)][0]["text"]
            counts[text] = counts.get(text, 0) + 1
    assert len(counts) == 14 and min(counts.values()) >= 3 and max(counts.values()) <= 25
    assert differ > 290


def test_operations_take_turns_however_many_negatives_each_has(make_version: MakeVersion, model: ClipModel) -> None:
    version, config = make_version(16), TrainConfig(steps=200, batch_size=8)
    sampling = TextSampling(UniformNegatives(4, operations_in_turn=True))
    batches = PlannedBatches(version, plan_for(version, config), model, config, sampling)
    operations = ["contrast"] * 12 + ["replace"] * 3 + ["space"]

    def sample(row: int, uid: str) -> dict[str, object]:
        made = [
            {"text": f"it is {at} {caption}", "caption": caption, "operation": operation}
            for caption in range(2)
            for at, operation in enumerate(operations)
        ]
        return {"uid": uid, "captions": ["it is here", "it is there"], "negatives": made}

    batches._sample = sample  # type: ignore[method-assign,assignment]
    first, fourth, texts = Counter[str](), Counter[str](), set()
    for step in range(config.steps):
        for records in batches.texts(step).records:
            drawn = [record["operation"] for record in records]
            assert sorted(drawn[:3]) == ["contrast", "replace", "space"] and drawn[3] in ("contrast", "replace")
            first[drawn[0]] += 1
            fourth[drawn[3]] += 1
            texts.add(records[0]["text"])
    assert min(first.values()) > 450 and min(fourth.values()) > 650  # of 1,600
    assert len(texts) == 2 * len(operations)


def test_cached_activations_are_those_of_the_image_alone_and_survive_a_kill(
    make_version: MakeVersion, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="random"):
        model = ModelSpec.parse("tiny").load()
    apply_tuning(model, "projection")
    model.eval()
    assert model.prefix_frozen("image") and model.prefix_frozen("text")
    version = make_version(24)
    plan = plan_for(version)
    cache = tmp_path / "cache"
    batches = PlannedBatches(version, plan, model, CONFIG, TextSampling(UniformNegatives(2)))
    pixels = batches.batch(0)
    batches.cache_images(cache / "image", quiet)
    batches.cache_texts(cache / "text", quiet)
    cached = batches.batch(0)
    assert cached.image_cached and cached.text_cached and not pixels.image_cached
    with torch.no_grad():
        alone = torch.cat([model.image_trunk(image[None]) for image in pixels.image])
        assert torch.equal(cached.image, alone)
        assert torch.allclose(cached.text, model.text_trunk(pixels.text), atol=1e-5)
        assert pixels.negatives is not None and cached.negatives is not None and cached.negative_mask is not None
        mask = cached.negative_mask
        assert torch.allclose(cached.negatives[mask], model.text_trunk(pixels.negatives[mask]), atol=1e-5)
    parts = sorted((cache / "image").glob("*.npz"))
    before = {path: path.stat().st_mtime_ns for path in parts}
    calls: list[tuple[str, int, int]] = []
    again = PlannedBatches(version, plan, model, CONFIG, TextSampling(UniformNegatives(2)))
    again.cache_images(cache / "image", lambda *call: calls.append(call))
    again.cache_texts(cache / "text", lambda *call: calls.append(call))
    assert calls == [] and equal(again.batch(0), cached)
    assert before == {path: path.stat().st_mtime_ns for path in sorted((cache / "image").glob("*.npz"))}
    parts[0].write_bytes(parts[0].read_bytes()[:100])
    with pytest.raises(InputError, match="damaged activation cache"):
        again.cache_images(cache / "image", quiet)


def test_a_text_activation_depends_on_the_text_alone(model: ClipModel) -> None:
    texts = [f"a {'very ' * (number % 9)}large {number} dog on the grass" for number in range(70)]
    named = {text_name(text): text for text in texts}
    together, alone = ActivationStore(None, list(named)), ActivationStore(None, list(named))
    fill_texts(together, model, named, quiet)
    for name in reversed(named):
        fill_texts(alone, model, {name: named[name]}, quiet)
    assert torch.equal(together.take(list(named)), alone.take(list(named)))
    assert len({tuple(row) for row in together.take(list(named)).tolist()}) == 70


def test_a_store_keeps_what_was_added_before_a_kill(tmp_path: Path) -> None:
    names = [f"{number:032x}" for number in range(5)]
    values = np.arange(10, dtype=np.float32).reshape(5, 2)
    ActivationStore(tmp_path, names).add(names[:3], values[:3])
    (tmp_path / ".tmp-half").write_bytes(b"PK")
    store = ActivationStore(tmp_path, names)
    assert store.missing() == names[3:]
    store.add(names[3:], values[3:])
    assert store.take([names[4], names[0]]).tolist() == [[8, 9], [0, 1]]
    assert ActivationStore(tmp_path, names[1:2]).missing() == []


def test_bad_images_are_refused_by_name() -> None:
    png = draw("red", "circle", "left", 0)
    assert decode_image(png, "x", 64 * 64).size == (64, 64)
    gif = io.BytesIO()
    Image.new("RGB", (2, 2)).save(gif, format="GIF")
    huge = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(huge, format="PNG")
    for data, limit, message in (
        (png, 64 * 64 - 1, "64x64, at most 4095 pixels"),
        (png[:200], 10**9, "cannot decode"),
        (gif.getvalue(), 10**9, "cannot decode"),
        (huge.getvalue(), 10**8, "20000x20000"),
        (b"", 10**9, "cannot decode"),
    ):
        with pytest.raises(InputError, match=f"sample 7: .*{message}"):
            decode_image(data, "sample 7", limit)


def test_damage_reaches_the_iterating_thread(make_version: MakeVersion, model: ClipModel) -> None:
    version = make_version(24)
    plan = plan_for(version)
    shard = version.folder / shard_name(1)
    whole = shard.read_bytes()
    list(PlannedBatches(version, plan, model, CONFIG))
    shard.write_bytes(whole[:5000])
    with pytest.raises(InputError, match=f"{shard} is damaged: 5000 bytes, the manifest says {len(whole)}"):
        list(PlannedBatches(version, plan, model, CONFIG))
    # one letter of a caption: it would be trained on without a word
    shard.write_bytes(whole.replace(b"square", b"squire", 1))
    with pytest.raises(InputError, match=f"{shard} is damaged: its sha256 is .*") as caught:
        list(PlannedBatches(version, plan, model, CONFIG))
    assert f"delete {version.folder} and run" in str(caught.value)
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard}: file is missing"):
        list(PlannedBatches(version, plan, model, CONFIG))


def test_a_shard_is_hashed_once(make_version: MakeVersion, model: ClipModel, monkeypatch: pytest.MonkeyPatch) -> None:
    version, hashed = make_version(24), []
    real = shards.sha256_file

    def sha256_file(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(shards, "sha256_file", sha256_file)
    for _ in range(2):
        list(PlannedBatches(version, plan_for(version), model, CONFIG))
    assert sorted(hashed) == ["00000.tar", "00001.tar"]


def test_negatives_and_captions_are_equal_where_the_model_reads_the_same_tokens(
    make_version: MakeVersion, model: ClipModel
) -> None:
    """Caption 0 has 40 words before what tells it apart, caption 1 is short; some negatives differ early, some late."""
    version, long = make_version(12), "one " * 40
    batches = PlannedBatches(version, plan_for(version), model, CONFIG, TextSampling(UniformNegatives(3)))
    real = batches._sample

    def sample(row: int, uid: str) -> dict[str, object]:
        found = real(row, uid)
        captions = [f"{long} {uid}", f"{uid} is here"]
        texts = [f"{long} not {uid}", f"TWO {long}", f"{long} {uid}!", f"three {long}", f"{uid} IS  here", f"no {uid}"]
        negatives = [{"text": text, "caption": at // 4} for at, text in enumerate(texts)]
        return {"uid": uid, "captions": captions, "negatives": negatives if found["negatives"] else []}

    batches._sample = sample  # type: ignore[method-assign,assignment]
    seen: set[tuple[str, ...]] = set()
    for step in range(CONFIG.steps):
        batch = batches.batch(step)
        texts = batch.texts
        assert batch.negatives is not None and batch.negative_mask is not None
        for at, (uid, shown, records) in enumerate(zip(texts.uids, texts.captions, texts.records, strict=True)):
            left = {f"{long} not {uid}", f"{long} {uid}!"} if shown.startswith(long) else {f"{uid} IS  here"}
            assert not left & {record["text"] for record in records}
            assert texts.equal_negatives[at] <= (len(left) if records else 0)
            seen.add(tuple(record["text"].replace(uid, "it")[:6] for record in records))
            own = batch.negatives[at][batch.negative_mask[at]]
            assert len(own) == len(records) and not (own == batch.text[at]).all(dim=1).any()
        tokens = model.tokenize(texts.captions)
        for one, other in itertools.combinations(range(len(texts.captions)), 2):
            equal = texts.caption_ids[one] == texts.caption_ids[other]
            assert equal == torch.equal(tokens[one], tokens[other])
        labels = label_texts(batch, None)
        same = (tokens[:, None] == tokens[None]).all(dim=2)
        assert torch.equal(labels == 0, same & ~torch.eye(len(tokens), dtype=torch.bool))
    assert seen == {(), ("TWO on", "three "), ("three ", "TWO on"), ("no it",)}


def test_a_plan_of_other_data_is_refused(make_version: MakeVersion, model: ClipModel) -> None:
    version, other = make_version(24), make_version(30, name="other")
    with pytest.raises(InputError, match="the index does not"):
        PlannedBatches(version, plan_for(other), model, CONFIG)


def test_beside_a_view_stand_only_the_negatives_that_were_made_from_it(
    make_version: MakeVersion, model: ClipModel
) -> None:
    version = make_version(24)
    told = {"kind": "knowledge", "caption": 0, "text": "a shape of paint"}
    denial = {"kind": "denial", "caption": 1, "text": "a shape without paint"}
    drawn = TextSampling(negatives=UniformNegatives(9), views=CaptionViews(knowledge=1e9, denial=1e9))
    batches = PlannedBatches(version, plan_for(version), model, CONFIG, drawn)
    real = batches._sample

    def sample(row: int, uid: str) -> dict[str, object]:
        found = dict(real(row, uid), views=[told, denial])
        found["negatives"] = [
            record | ({"against": denial["text"]} if record["caption"] == 1 and at % 2 else {})
            for at, record in enumerate(found["negatives"])
        ]
        return found

    batches._sample = sample  # type: ignore[method-assign,assignment]
    seen = set()
    for step in range(CONFIG.steps):
        texts = batches.texts(step)
        for shown, records in zip(texts.captions, texts.records, strict=True):
            seen.add((shown, bool(records)))
            assert {record.get("against") for record in records} <= {shown}
    assert seen == {(told["text"], False), (denial["text"], False), (denial["text"], True)}
