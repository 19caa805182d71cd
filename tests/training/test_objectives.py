"""Objectives against slow loop transcriptions in float64, their gradients, and their edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from data_manifests.errors import InputError
from training.features import Features
from training.objectives.info_nce import InfoNCE
from training.objectives.interface import Objective
from training.objectives.negative_contrast import NegativeContrast


def make_features(seed: int = 0, batch: int = 5, slots: int = 3, **changes: Any) -> Features:
    """Return random float64 features with about a third of the slots empty."""
    draws = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=draws, dtype=torch.float64)
        return torch.nn.functional.normalize(values, dim=-1)

    values: dict[str, Any] = {
        "image": unit(batch, 4),
        "text": unit(batch, 4),
        "logit_scale": torch.tensor(7.5, dtype=torch.float64),
        "negatives": unit(batch, slots, 4),
        "negative_mask": torch.rand(batch, slots, generator=draws) > 0.35,
    }
    return Features(**(values | changes))


def info_nce_by_loops(features: Features, negatives: bool = True) -> float:
    """Transcribe the equation: sums over pairs, no matrices."""
    size = len(features.image)
    scale = float(features.logit_scale)

    def label(i: int, column: int) -> int:
        if features.labels is None or column >= features.labels.shape[1]:
            return 1 if i == column else -1
        return int(features.labels[i, column])

    def logit(i: int, text: Tensor) -> float:
        return scale * sum(float(a) * float(b) for a, b in zip(features.image[i], text, strict=True))

    def loss(terms: list[tuple[int, float, float]]) -> float:
        bottom = sum(math.exp(z) for sign, z, _ in terms if sign != 0)
        ups = [-math.log(math.exp(z) / bottom) for sign, z, _ in terms if sign == 1]
        against = [(math.exp(z), weight) for sign, z, weight in terms if sign == -1]
        total = sum(part for part, _ in against)
        return sum(part * weight for part, weight in against) / total * sum(ups) / len(ups)

    by_image, by_text = [], []
    for i in range(size):
        terms = [(label(i, j), logit(i, features.text[j]), 1.0) for j in range(size)]
        if negatives and features.negatives is not None and features.negative_mask is not None:
            slots = features.negatives.shape[1]
            for j in range(size):
                for k in range(slots):
                    if features.negative_mask[j, k]:
                        weight = 1.0 if features.negative_weight is None else float(features.negative_weight[j, k])
                        sign = label(i, size + j * slots + k)
                        terms.append((sign, logit(i, features.negatives[j, k]), weight))
        by_image.append(loss(terms))
        by_text.append(loss([(label(j, i), logit(j, features.text[i]), 1.0) for j in range(size)]))
    return (sum(by_image) / size + sum(by_text) / size) / 2


def negative_contrast_by_loops(features: Features, gamma: float, smoothing: float) -> float:
    """Transcribe -sum_k y_k (1 - p_k)^gamma log p_k over each sample's caption and valid negatives."""
    assert features.negatives is not None and features.negative_mask is not None
    losses = []
    for i in range(len(features.image)):
        if not features.negative_mask[i].any():
            continue
        logits, weights = [float(features.logit_scale * features.image[i] @ features.text[i])], []
        for k in range(features.negatives.shape[1]):
            if features.negative_mask[i, k]:
                weights.append(1.0 if features.negative_weight is None else float(features.negative_weight[i, k]))
                logits.append(float(features.logit_scale * features.image[i] @ features.negatives[i, k]))
        parts = [math.exp(z) for z in logits[1:]]
        counts = sum(part * weight for part, weight in zip(parts, weights, strict=True)) / sum(parts)
        bottom = sum(math.exp(z) for z in logits)
        p = [math.exp(z) / bottom for z in logits]
        y = [smoothing / len(p) + (1 - smoothing if at == 0 else 0) for at in range(len(p))]
        loss = -sum(share * (1 - part) ** gamma * math.log(part) for share, part in zip(y, p, strict=True))
        losses.append(counts * loss)
    return sum(losses) / len(losses)


def some_labels(batch: int, columns: int) -> Tensor:
    labels = torch.full((batch, columns), -1)
    labels[torch.arange(batch), torch.arange(batch)] = 1
    labels[0, 1] = labels[1, 0] = labels[2, columns - 1] = 0
    labels[3, 4] = 1
    return labels


WEIGHTS = 0.25 + torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
CASES = [
    {},
    {"negatives": None, "negative_mask": None},
    {"negative_weight": WEIGHTS},
    {"labels": some_labels(5, 5)},
    {"labels": some_labels(5, 20), "negative_weight": WEIGHTS},
    {"negative_mask": torch.zeros(5, 3, dtype=torch.bool)},
]


@pytest.mark.parametrize("changes", CASES)
@pytest.mark.parametrize("negatives", [True, False])
def test_info_nce_is_its_equation(changes: dict[str, Any], negatives: bool) -> None:
    features = make_features(**changes)
    got = float(InfoNCE(negatives=negatives)(features))
    assert got == pytest.approx(info_nce_by_loops(features, negatives), rel=1e-12)


def test_info_nce_is_open_clip_without_negatives() -> None:
    from open_clip.loss import ClipLoss

    features = make_features(1)
    theirs = ClipLoss()(features.image, features.text, features.logit_scale)
    assert float(InfoNCE(negatives=False)(features)) == pytest.approx(float(theirs), rel=1e-12)


def test_negatives_touch_the_image_direction_only() -> None:
    plain, hard = make_features(negatives=None, negative_mask=None), make_features()
    difference = float(InfoNCE()(hard) - InfoNCE()(plain))
    logits = plain.logit_scale * plain.image @ plain.text.T
    assert hard.negatives is not None and hard.negative_mask is not None
    more = hard.logit_scale * plain.image @ hard.negatives[hard.negative_mask].T
    grown = torch.cat([logits, more], dim=1).logsumexp(1) - logits.logsumexp(1)
    assert difference == pytest.approx(float(grown.mean()) / 2, rel=1e-12) and difference > 0


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_negative_contrast_is_its_equation(gamma: float, smoothing: float, weight: Tensor | None) -> None:
    mask = make_features().negative_mask
    assert mask is not None
    mask[1] = False
    features = make_features(negative_weight=weight, negative_mask=mask)
    got = float(NegativeContrast(gamma=gamma, smoothing=smoothing)(features))
    assert got == pytest.approx(negative_contrast_by_loops(features, gamma, smoothing), rel=1e-12)


def test_negative_contrast_leaves_out_what_labels_leave_out() -> None:
    mask = torch.ones(5, 3, dtype=torch.bool)
    labels = -torch.ones(5, 20, dtype=torch.int8)
    labels[torch.arange(5), torch.arange(5)] = 1
    labels[2, 5 + 2 * 3 + 1] = 0  # sample 2's own slot 1
    labels[2, 5 + 3 * 3 + 1] = 0  # another sample's slot: no concern of this objective
    without = mask.clone()
    without[2, 1] = False
    got = NegativeContrast()(make_features(negative_mask=mask, labels=labels))
    assert float(got) == pytest.approx(float(NegativeContrast()(make_features(negative_mask=without))), rel=1e-12)
    assert float(got) != pytest.approx(float(NegativeContrast()(make_features(negative_mask=mask))), rel=1e-6)


@pytest.mark.parametrize("objective", [InfoNCE(), InfoNCE(negatives=False), NegativeContrast()])
@pytest.mark.parametrize("labels", [None, some_labels(5, 20)])
def test_gradients_are_right(objective: Objective, labels: Tensor | None) -> None:
    base = make_features(2, labels=labels)
    assert base.negatives is not None

    def loss(image: Tensor, text: Tensor, negatives: Tensor, scale: Tensor) -> Tensor:
        return objective(Features(image, text, scale, negatives, base.negative_mask, labels=labels))

    inputs = [value.clone().requires_grad_() for value in (base.image, base.text, base.negatives, base.logit_scale)]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("objective", [InfoNCE(), NegativeContrast()])
def test_empty_slots_cannot_be_felt(objective: Objective) -> None:
    features = make_features(3)
    assert features.negatives is not None and features.negative_mask is not None
    other = features.negatives.clone()
    other[~features.negative_mask] = 100.0
    other.requires_grad_()
    loss = objective(make_features(3, negatives=other))
    assert loss.item() == objective(features).item()
    loss.backward()
    assert other.grad is not None and float(other.grad[~features.negative_mask].abs().max()) == 0.0


def test_no_negative_at_all_gives_zero_and_a_zero_gradient() -> None:
    image = make_features().image.clone().requires_grad_()
    loss = NegativeContrast()(make_features(image=image, negative_mask=torch.zeros(5, 3, dtype=torch.bool)))
    (gradient,) = torch.autograd.grad(loss, image)
    assert loss.item() == 0.0 and float(gradient.abs().max()) == 0.0


def test_a_hopeless_sample_stays_finite_in_float32() -> None:
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    text = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    negatives = torch.tensor([[[1.0, 0.0]], [[0.0, -1.0]]])
    features = Features(image, text, torch.tensor(100.0), negatives, torch.ones(2, 1, dtype=torch.bool))
    for objective in (InfoNCE(), NegativeContrast()):
        (gradient,) = torch.autograd.grad(objective(features), image, retain_graph=True)
        assert bool(torch.isfinite(gradient).all())


def test_shapes_and_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="negative_mask has shape"):
        make_features(negative_mask=torch.ones(5, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="come together"):
        make_features(negative_mask=None)
    with pytest.raises(InputError, match="smoothing"):
        NegativeContrast(smoothing=1.0)
    with pytest.raises(InputError, match="weight"):
        InfoNCE(weight=0.0)
