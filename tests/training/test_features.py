"""From a batch to features: every text lands in its slot, with its weight, and equals of a caption are no negatives."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.training.conftest import MakeVersion
from training import hard_negatives
from training.batches.basic import ShuffledPlan
from training.batches.batch import Batch, StepTexts, TextSampling
from training.batches.index import PlanIndex
from training.batches.loader import PlannedBatches
from training.batches.plan import make_plan
from training.config import TrainConfig
from training.features import Features, TextSlots, make_features, negative_stats, with_labels
from training.hard_negatives import AdaptiveNegatives, CandidateCosines, Negatives, UniformNegatives, take_all
from training.model.clip_model import ClipModel, StepEncoder
from training.model.spec import ModelSpec


def make_batch(make_version: MakeVersion, negatives: Negatives | None) -> tuple[ClipModel, Batch]:
    with pytest.warns(UserWarning, match="random"):
        model = ModelSpec.parse("tiny").load()
    model.eval()
    version = make_version(24)
    config = TrainConfig(steps=1, batch_size=20)
    plan = make_plan(ShuffledPlan(), PlanIndex.from_table(version.index()), 0, 1, 20)
    return model, PlannedBatches(version, plan, model, config, TextSampling(negatives)).batch(0)


@pytest.mark.parametrize(
    "negatives",
    [
        UniformNegatives(3),
        AdaptiveNegatives(candidates=5, choose=3),
        AdaptiveNegatives(candidates=5, choose=3, order="gradient"),
    ],
)
def test_slots_weights_and_labels(make_version: MakeVersion, negatives: Negatives) -> None:
    model, batch = make_batch(make_version, negatives)
    chooser = negatives.start()
    with torch.no_grad():
        features, choice = make_features(StepEncoder(model), batch, chooser, 0.5)
        features = with_labels(features, batch, choice, None, ignore_equal_captions=True)
        assert batch.negatives is not None and batch.negative_mask is not None
        image, text = model.encode_image(batch.image), model.encode_text(batch.text)
        candidates = torch.zeros(*batch.negative_mask.shape, model.embed_dim)
        candidates[batch.negative_mask] = model.encode_text(batch.negatives[batch.negative_mask])
    assert choice is not None
    stats = negative_stats(batch, choice)
    similarity = torch.einsum("bd,bcd->bc", image, candidates)
    mask = batch.negative_mask
    by_text = torch.einsum("bd,bcd->bc", text, candidates)
    fresh, own = negatives.start(), (image * text).sum(dim=1)
    cosines = CandidateCosines(own, similarity, by_text, mask, model.logit_scale.detach())
    expected = take_all(mask) if fresh is None else fresh.select(cosines, 0.5)
    assert (
        features.negatives is not None and features.negative_mask is not None and features.negative_weight is not None
    )
    assert torch.equal(features.negative_mask, expected.mask) and torch.equal(features.negative_weight, expected.weight)
    slots = candidates[torch.arange(20)[:, None], expected.index]
    assert torch.allclose(features.negatives[expected.mask], slots[expected.mask], atol=1e-5)
    assert stats["count"] == int(expected.mask.sum()) == sum(stats["operation"].values()) > 20
    assert features.labels is not None and features.labels.shape == (20, 80)
    ignored = 0
    for row, caption in enumerate(batch.texts.captions):
        for column in range(80):
            label = int(features.labels[row, column])
            if column < 20:
                same = batch.texts.captions[column] == caption
            else:
                at, slot = divmod(column - 20, 3)
                filled = bool(expected.mask[at, slot])
                same = filled and batch.texts.records[at][int(expected.index[at, slot])]["text"] == caption
            assert label == (1 if row == column else 0 if same else -1)
            ignored += label == 0
    assert ignored > 0, "the batch has no negative that is another image's caption: nothing was tested"


def test_adaptive_weights_are_not_all_one(make_version: MakeVersion) -> None:
    negatives = AdaptiveNegatives(candidates=5, choose=3, hopeless_weight=0.25, moderate_weight=1.5)
    model, batch = make_batch(make_version, negatives)
    features, _ = make_features(StepEncoder(model), batch, negatives.start(), 0.0)
    assert features.negative_weight is not None and len(features.negative_weight.unique()) > 1


def test_without_negatives_and_without_labels(make_version: MakeVersion) -> None:
    model, batch = make_batch(make_version, None)
    features, choice = make_features(StepEncoder(model), batch, None, 0.0)
    features = with_labels(features, batch, choice, None, ignore_equal_captions=False)
    assert features.negatives is None and features.labels is None and choice is None


def test_a_choice_among_features_is_the_choice_of_the_look_ahead(
    make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    negatives = AdaptiveNegatives(candidates=4, choose=3)
    model, batch = make_batch(make_version, negatives)
    made = []
    for largest in (0.0, 1.5):
        monkeypatch.setattr(hard_negatives, "ONE_PASS", largest)
        features, choice = make_features(StepEncoder(model), batch, negatives.start(), 0.5)
        assert choice is not None and features.negatives is not None
        model.module.zero_grad()
        (features.negatives * choice.mask[..., None]).pow(3).sum().backward()  # type: ignore[no-untyped-call]
        gradient = model.module.get_parameter("token_embedding.weight").grad
        assert gradient is not None
        made.append((choice.index[choice.mask], choice.weight, features.negatives[choice.mask].detach(), gradient))
    assert torch.equal(made[0][0], made[1][0]) and torch.equal(made[0][1], made[1][1])
    assert torch.allclose(made[0][2], made[1][2], atol=1e-6)
    assert torch.allclose(made[0][3], made[1][3], atol=1e-4) and float(made[0][3].abs().max()) > 1e-2


def test_dropout_in_the_head_does_not_blur_the_look(make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    negatives = AdaptiveNegatives(candidates=4, choose=3)
    model, batch = make_batch(make_version, negatives)
    plain = ClipModel.text_head

    def dropping(self: ClipModel, activations: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(plain(self, activations), 0.5, self.module.training)

    monkeypatch.setattr(ClipModel, "text_head", dropping)
    monkeypatch.setattr(ClipModel, "has_dropout", lambda self, *groups: groups == ("text_head",))
    model.train()
    chosen = []
    for largest in (0.0, 1.5):
        monkeypatch.setattr(hard_negatives, "ONE_PASS", largest)
        features, choice = make_features(StepEncoder(model), batch, negatives.start(), 0.5)
        assert choice is not None and features.negatives is not None
        assert float((features.negatives[choice.mask] == 0).float().mean()) > 0.3, "the loss sees dropout"
        chosen.append((choice.index[choice.mask].tolist(), choice.weight.tolist()))
    assert chosen[0][0] == chosen[1][0]
    assert torch.allclose(torch.tensor(chosen[0][1]), torch.tensor(chosen[1][1]))


def test_a_text_that_two_images_have_is_a_negative_of_neither() -> None:
    """Its caption is another image's further text, or both have it as a further one; without equal texts nothing changes."""
    further = [["b", "x"], ["y"], ["x"], []]
    ids = ("a", "b", "c", "d")
    zeros = (0,) * 4
    texts = StepTexts(ids, ids, [[]] * 4, further, ids, [[]] * 4, further, zeros, zeros)
    mask = torch.tensor([[True, True], [True, False], [True, False], [False, False]])
    batch: Any = SimpleNamespace(texts=texts)
    features = Features(torch.eye(4), torch.eye(4), torch.tensor(1.0), positives=TextSlots(torch.zeros(4, 2, 4), mask))
    with_equal = with_labels(features, batch, None, None, ignore_equal_captions=True)
    own = [
        [1, 1, 0, 0, 0, 0, 0, 0],
        [0, -1, 1, 0, -1, 0, 0, 0],
        [-1, 0, -1, 0, 1, 0, 0, 0],
        [-1, -1, -1, 0, -1, 0, 0, 0],
    ]
    assert with_equal.further_labels().tolist() == own
    captions = with_equal.pair_labels()
    assert captions[0].tolist() == [1, 0, -1, -1] and (captions[1:] == 2 * torch.eye(4)[1:] - 1).all()
    plain = with_labels(features, batch, None, None, ignore_equal_captions=False)
    assert plain.further_labels()[0].tolist() == [1, 1, -1, 0, -1, 0, 0, 0]
    found = replace(plain, labels=torch.tensor([[1, 1, -1, 0], [-1, 1, -1, -1], [-1, -1, 1, -1], [-1, -1, -1, 1]]))
    assert found.further_labels()[0].tolist() == [1, 1, 1, 0, -1, 0, 0, 0], "true by its caption, true by its rewrite"
