"""Weights between a base and a tuned model."""

from __future__ import annotations

import pytest
import torch

from data_manifests.errors import InputError
from tests.training.test_model import load
from training.blend import blend


def test_the_line_between_two_models() -> None:
    start, end = load("tiny").model.state_dict(), load("tiny@1").model.state_dict()
    for share in (0.0, 0.25, 1.0):
        tuned = load("tiny@1")
        blend(load("tiny"), tuned, share)
        for name, value in tuned.model.state_dict().items():
            if value.is_floating_point():
                assert torch.allclose(value, start[name] + share * (end[name] - start[name]), atol=1e-6), name
    assert torch.equal(tuned.model.state_dict()["logit_scale"], end["logit_scale"])


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(InputError, match="0 to 1"):
        blend(load("tiny"), load("tiny"), 1.5)
    other = load("tiny")
    other.model.extra = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(InputError, match="'extra'"):
        blend(load("tiny"), other, 0.5)
