"""The choice of negatives: bands, gate, weights, memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data_manifests.errors import InputError
from training.batches.batch import StepTexts
from training.features import negative_stats
from training.hard_negatives import AdaptiveNegatives, NegativeChoice, UniformNegatives, take_all


def no_gate(**changes: object) -> AdaptiveNegatives:
    return AdaptiveNegatives(**({"candidates": 5, "choose": 2, "gate_quantile": 1.0} | changes))  # type: ignore[arg-type]


def select(
    config: AdaptiveNegatives, similarity: torch.Tensor, mask: torch.Tensor, progress: float = 0.0
) -> NegativeChoice:
    return config.start().select(torch.full((len(mask),), 0.9), similarity, mask, 10.0, progress)


def chosen(choice: NegativeChoice, row: int = 0) -> set[int]:
    return set(choice.index[row][choice.mask[row]].tolist())


def test_uniform_takes_all_that_were_drawn() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    choice = take_all(mask)
    assert UniformNegatives(2).candidates == 2
    assert choice.index.tolist() == [[0, 1], [0, 1]] and torch.equal(choice.mask, mask) and choice.stats == {}
    assert choice.weight.tolist() == [[1, 1], [1, 1]] and UniformNegatives(3).candidates == 3


def test_the_band_moves_from_easy_to_hard() -> None:
    similarity = torch.tensor([[0.1, 0.5, 0.3, 0.4, 0.2]])
    mask = torch.ones(1, 5, dtype=torch.bool)
    config = no_gate(band_start=(0.0, 0.25), band_end=(0.75, 1.0))
    assert chosen(select(config, similarity, mask, 0.0)) == {0, 4}
    assert chosen(select(config, similarity, mask, 0.5)) <= {2, 3, 4} and 2 in chosen(
        select(config, similarity, mask, 0.5)
    )
    assert chosen(select(config, similarity, mask, 1.0)) == {1, 3}
    swapped = no_gate(band_start=(0.75, 1.0), band_end=(0.0, 0.25))
    assert chosen(select(swapped, similarity, mask, 0.0)) == {1, 3}


def test_too_few_in_the_band_are_filled_from_beside_it_and_missing_ones_leave_slots_empty() -> None:
    similarity = torch.tensor([[0.1, 0.5, 0.3, 0.4, 0.2]] * 3)
    mask = torch.tensor([[True] * 5, [False, False, True, False, False], [False] * 5])
    choice = select(no_gate(band_start=(1.0, 1.0), band_end=(1.0, 1.0), choose=3), similarity, mask)
    assert choice.index[0].tolist() == [1, 3, 2]
    assert chosen(choice, 1) == {2} and chosen(choice, 2) == set() and choice.mask.shape == (3, 3)
    assert bool((choice.weight > 0).all())


def test_the_gate_closes_on_what_beats_the_caption_unusually() -> None:
    draws = torch.Generator().manual_seed(0)
    similarity = 0.2 + 0.1 * torch.rand(50, 4, generator=draws)
    positive = torch.full((50,), 0.5)
    similarity[7, 2] = 0.95  # far above its caption: likely true of the image
    mask = torch.ones(50, 4, dtype=torch.bool)
    config = AdaptiveNegatives(candidates=4, choose=4, gate_quantile=0.98)
    choice = config.start().select(positive, similarity, mask, 10.0, 0.5)
    assert chosen(choice, 7) == {0, 1, 3} and choice.stats["gated"] == 1
    assert all(chosen(choice, row) == {0, 1, 2, 3} for row in range(50) if row != 7)
    assert choice.stats["gate"] == 0.0, "nothing below its caption is ever gated, whatever the quantile says"


def test_weights_follow_the_loss() -> None:
    similarity = torch.linspace(-0.5, 0.8, 100)[:, None]
    mask = torch.ones(100, 1, dtype=torch.bool)
    config = AdaptiveNegatives(
        candidates=1, choose=1, moderate_quantile=0.5, moderate_weight=2.0, hopeless_quantile=0.9, hopeless_weight=0.5
    )
    choice = config.start().select(torch.full((100,), 0.9), similarity, mask, 10.0, 0.0)
    weights = choice.weight[:, 0].tolist()
    assert weights == [1.0] * 50 + [2.0] * 40 + [0.5] * 10
    assert choice.stats["hopeless"] == 10 and choice.stats["mean_weight"] == pytest.approx(1.35)
    assert choice.stats["mean_similarity"] == pytest.approx(0.15)


def test_memory_is_a_moving_average_and_survives_a_checkpoint() -> None:
    draws = torch.Generator().manual_seed(1)
    steps = [(torch.rand(20, generator=draws), torch.rand(20, 5, generator=draws)) for _ in range(4)]
    mask = torch.rand(20, 5, generator=draws) > 0.2
    config = AdaptiveNegatives(candidates=5, choose=2, decay=0.5)
    whole, first = config.start(), config.start()
    for positive, similarity in steps[:2]:
        whole.select(positive, similarity, mask, 5.0, 0.1)
        first.select(positive, similarity, mask, 5.0, 0.1)
    second, forgetful = config.start(), config.start()
    second.load_state_dict(first.state_dict())
    expected, got, lost = (c.select(*steps[2], mask, 5.0, 0.2) for c in (whole, second, forgetful))
    assert torch.equal(expected.index, got.index) and torch.equal(expected.weight, got.weight)
    assert whole.state_dict() == second.state_dict() != forgetful.state_dict() and lost.stats != got.stats
    excess = [(similarity - positive[:, None])[mask].double().quantile(0.98) for positive, similarity in steps[:2]]
    assert first.state_dict()["gate"] == pytest.approx(float(0.5 * excess[0] + 0.5 * excess[1]))


def test_no_candidate_at_all_is_no_error() -> None:
    choice = select(no_gate(), torch.zeros(3, 5), torch.zeros(3, 5, dtype=torch.bool))
    assert not choice.mask.any() and choice.stats["mean_similarity"] == 0.0


def test_operations_are_counted() -> None:
    records = [[{"operation": "swap", "span_class": "noun"}, {"operation": "replace"}], [{"operation": "replace"}]]
    texts = StepTexts(("u", "v"), ("a", "b"), records, [[], []], ("1", "2"), [["3", "4"], ["3"]], (0, 2), (0, 0))
    batch: Any = SimpleNamespace(texts=texts)
    index, mask = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[True, True], [True, False]])
    stats = negative_stats(batch, NegativeChoice(index, mask, torch.ones(2, 2), {"gate": 0.5}))
    assert stats == {"count": 3, "equal_to_caption": 2, "gate": 0.5, "operation": {"replace": 2, "swap/noun": 1}}


@pytest.mark.parametrize(
    "values",
    [
        {"choose": 16},
        {"band_end": (0.5, 0.4)},
        {"gate_quantile": 1.1},
        {"moderate_quantile": 0.99},
        {"hopeless_weight": 0.0},
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match="adaptive: "):
        AdaptiveNegatives(**values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="choose"):
        UniformNegatives(0)
