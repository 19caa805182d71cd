"""The rank of negatives against a slow transcription, and what a weight is worth in each kind of loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from data_manifests.errors import InputError
from tests.training.test_objectives import WEIGHTS, make_features, some_labels
from training.features import Features
from training.objectives.info_nce import InfoNCE
from training.objectives.interface import Objective
from training.objectives.negative_contrast import NegativeContrast
from training.objectives.negative_rank import NegativeRank


def rank_by_loops(features: Features, text_share: float, focus: float = 0.0) -> float:
    """Transcribe the equation: one pair after the other."""
    assert features.negatives is not None and features.negative_mask is not None
    size, slots = features.negative_mask.shape
    scale, top, bottom = float(features.logit_scale), 0.0, 0.0
    for i in range(size):
        own = float(features.image[i] @ features.text[i])
        for j in range(slots):
            label = -1 if features.labels is None else int(features.labels[i, size + i * slots + j])
            if not features.negative_mask[i, j] or label != -1:
                continue
            weight = 1.0 if features.negative_weight is None else float(features.negative_weight[i, j])
            gap = float(features.image[i] @ features.negatives[i, j]) - own
            weight *= (1 / (1 + math.exp(-scale * gap))) ** focus
            by_image = math.log(1 + math.exp(scale * gap))
            by_text = math.log(1 + math.exp(scale * (float(features.text[i] @ features.negatives[i, j]) - own)))
            top += weight * ((1 - text_share) * by_image + text_share * by_text)
            bottom += weight
    return top / bottom


@pytest.mark.parametrize("focus", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("text_share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "changes", [{}, {"negative_weight": WEIGHTS}, {"labels": some_labels(5, 20), "negative_weight": WEIGHTS}]
)
def test_it_is_its_equation(text_share: float, changes: dict[str, Any], focus: float) -> None:
    features = make_features(**changes)
    got = float(NegativeRank(text_share=text_share, focus=focus)(features))
    assert got == pytest.approx(rank_by_loops(features, text_share, focus), rel=1e-12)


def test_focus_leaves_the_gradient_to_what_is_not_told_apart_yet() -> None:
    shares = []
    for focus in (0.0, 1.0):
        objective = NegativeRank(text_share=0.0, focus=focus)
        image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        negatives = torch.tensor([[[0.9, math.sqrt(0.19)], [-1.0, 0.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
        slots = torch.tensor([[True, True], [False, False]])
        features = Features(image, image.clone(), torch.tensor(20.0), negatives.requires_grad_(), slots)
        (gradient,) = torch.autograd.grad(objective(features), negatives)
        shares.append(float(gradient[0, 0].norm()))
    assert shares[1] == pytest.approx(2 * shares[0], rel=1e-3), (
        "of two, the one that is told apart no longer halves the other"
    )


def test_focus_where_all_are_told_apart_is_still_a_number() -> None:
    image = torch.eye(2)
    away = torch.tensor([[[-1.0, 0.0]], [[0.0, -1.0]]], requires_grad=True)
    features = Features(image, image.clone(), torch.tensor(100.0), away, torch.ones(2, 1, dtype=torch.bool))
    loss = NegativeRank(focus=2.0)(features)
    (gradient,) = torch.autograd.grad(loss, away)
    assert math.isfinite(loss.item()) and bool(gradient.isfinite().all())


@pytest.mark.parametrize("gradient", ["both", "text", "image"])
def test_the_gradient_reaches_who_it_should_and_is_right(gradient: Any) -> None:
    base = make_features(2, negative_weight=WEIGHTS)
    assert base.negatives is not None
    inputs = [value.clone().requires_grad_() for value in (base.image, base.text, base.negatives, base.logit_scale)]

    def loss(image: Tensor, text: Tensor, negatives: Tensor, scale: Tensor) -> Tensor:
        features = Features(image, text, scale, negatives, base.negative_mask, base.negative_weight)
        return NegativeRank(gradient=gradient)(features)

    found = torch.autograd.grad(loss(*inputs), inputs, allow_unused=True)
    moved = [part is not None and float(part.abs().max()) > 0 for part in found[:3]]
    assert moved == {"both": [True] * 3, "text": [False, True, True], "image": [True, False, False]}[gradient]
    if gradient == "both":
        assert torch.autograd.gradcheck(loss, inputs)


def test_no_negative_gives_zero_and_bad_settings_are_refused() -> None:
    image = make_features().image.clone().requires_grad_()
    loss = NegativeRank()(make_features(image=image, negative_mask=torch.zeros(5, 3, dtype=torch.bool)))
    (gradient,) = torch.autograd.grad(loss, image)
    assert loss.item() == 0.0 and float(gradient.abs().max()) == 0.0
    for wrong in ({"text_share": 1.5}, {"gradient": "none"}, {"focus": -1.0}):
        with pytest.raises(InputError, match="negative_rank: "):
            NegativeRank(**wrong)  # type: ignore[arg-type]


def push(objective: Objective, scale: float, gap: float, weight: float) -> float:
    """Return the gradient on the cosine of a negative that beats its caption by `gap`, beside an easy one of weight 1."""
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    text = torch.nn.functional.normalize(torch.tensor([[0.3, 1.0], [1.0, 0.3]], dtype=torch.float64), dim=1)
    own = float(text[0, 0])
    hard = torch.tensor([own + gap, own - 0.1], dtype=torch.float64, requires_grad=True)
    rows = torch.stack([hard, (1 - hard**2).sqrt()], dim=1)
    features = Features(
        image,
        text,
        torch.tensor(scale, dtype=torch.float64),
        torch.stack([rows, rows.detach()]),
        torch.tensor([[True, True], [False, False]]),
        torch.tensor([[weight, 1.0], [1.0, 1.0]], dtype=torch.float64),
        labels=torch.tensor([[1, 0, -1, -1, 0, 0], [0, 1, 0, 0, 0, 0]], dtype=torch.int8),
    )
    (gradient,) = torch.autograd.grad(objective(features), hard)
    return float(gradient[0])


def push_inside(scale: float, gap: float, weight: float) -> float:
    """The same where log w is added to the logit, as it was once done."""
    logits = [0.0, scale * gap + math.log(weight), -0.1 * scale]
    return scale * math.exp(logits[1]) / sum(map(math.exp, logits))


@pytest.mark.parametrize("scale", [15.0, 50.0, 100.0])
@pytest.mark.parametrize("gap", [0.02, 0.05, 0.08, 0.1])
def test_a_quarter_of_the_weight_is_a_quarter_of_the_gradient(scale: float, gap: float) -> None:
    softmaxes: list[Objective] = [InfoNCE(), NegativeContrast(gamma=0.0, smoothing=0.0)]
    for objective in softmaxes:
        kept = push(objective, scale, gap, 0.25) / push(objective, scale, gap, 1.0)
        easy = 1 / (1 + math.exp(scale * (gap + 0.1)))  # the easy negative's share of the softmax, whose weight is 1
        assert kept == pytest.approx(0.25 * (1 - easy) + easy, abs=1e-9)
    # of two negatives in one mean, with weights w and 1, the first has w / (w + 1) of the term
    rank = NegativeRank(text_share=0.0)
    kept = push(rank, scale, gap, 0.25) / push(rank, scale, gap, 1.0)
    assert kept == pytest.approx((0.25 / 1.25) / (1 / 2), abs=1e-9)
    inside = push_inside(scale, gap, 0.25) / push_inside(scale, gap, 1.0)
    assert inside > (0.9 if scale * gap > 4 else 0.3), "log w inside the softmax leaves most of the gradient"
