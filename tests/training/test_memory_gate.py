"""Pairs of batch and memory that a gate takes out of the denominators, against a slow transcription."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.training.test_objectives import make_features
from training.false_negative_gate import PositiveThresholds, StartedGate
from training.features import Features
from training.objectives.info_nce import MemoryContrast


def unit(seed: int, *shape: int) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


def memory_by_loops(batch: Features, old: Features, out: set[tuple[int, int]]) -> float:
    """Transcribe the memory's loss; `out` are the pairs (image, text) of batch and memory that leave the denominators."""
    images, texts = [*batch.image, *old.image], [*batch.text, *old.text]
    scale, size, total = float(batch.logit_scale), len(batch.image), 0.0
    every = range(len(images))
    for i in every:
        own = scale * float(images[i] @ texts[i])
        by_image = [scale * float(images[i] @ texts[j]) for j in every if (i, j) not in out]
        by_text = [scale * float(images[j] @ texts[i]) for j in every if (j, i) not in out]
        total += sum(math.log(sum(math.exp(z) for z in row)) - own for row in (by_image, by_text))
    return total / (2 * size)


def test_a_gate_reaches_the_memory() -> None:
    gate = StartedGate(PositiveThresholds(2.0, 2.0, 2.0, 0.95), PositiveThresholds(2.0, 2.0, 2.0, 0.9), per_batch=False)
    first = make_features(3, negatives=None, negative_mask=None, identity=torch.arange(10).reshape(5, 2), gate=gate)
    second = make_features(
        4, negatives=None, negative_mask=None, identity=20 + torch.arange(10).reshape(5, 2), gate=gate
    )
    texts = second.text.clone()
    texts[0] = first.text[2]  # sure
    texts[1] = torch.nn.functional.normalize(first.text[3] + 0.4 * first.text[4], dim=0)
    second = replace(second, text=texts)
    alike = torch.cat([second.text, first.text])
    found = alike @ alike.T > 0.9
    out = {(i, j) for i, j in found.nonzero().tolist() if i != j and not (i < 5 and j < 5)}
    assert {(0, 7), (7, 0)} <= out
    term = MemoryContrast().start()
    term(first)
    gated = float(term(second))
    assert gated == pytest.approx(memory_by_loops(second, first, out), rel=1e-12)
    blind = MemoryContrast().start()
    blind(replace(first, gate=None))
    assert float(blind(replace(second, gate=None))) > gated, "without a gate doubles count as negatives"


def test_the_memory_is_judged_by_the_model_before_tuning() -> None:
    gate = StartedGate(PositiveThresholds(2.0, 2.0, 2.0, 0.95), None, per_batch=False)
    teacher = {"teacher_image": unit(7, 5, 3), "teacher_text": unit(8, 5, 3)}
    first = make_features(
        3, negatives=None, negative_mask=None, identity=torch.arange(10).reshape(5, 2), gate=gate, **teacher
    )
    second = replace(
        make_features(4, negatives=None, negative_mask=None),
        identity=20 + torch.arange(10).reshape(5, 2), gate=gate, **teacher,
    )  # fmt: skip
    term = MemoryContrast().start()
    term(first)
    got = float(term(second))
    out = {(i, j) for i in range(10) for j in range(10) if abs(i - j) == 5}
    assert got == pytest.approx(memory_by_loops(second, first, out), rel=1e-12)
    restored = MemoryContrast().start()
    fresh = MemoryContrast().start()
    fresh(first)
    restored.load_state_dict(fresh.state_dict())
    assert float(restored(second)) == got
