"""The choice of negatives: bands, gate, weights, memory."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data_manifests.errors import InputError
from training.batches.batch import StepTexts
from training.features import negative_stats
from training.hard_negatives import (
    AdaptiveNegatives,
    CandidateCosines,
    NegativeChoice,
    UniformNegatives,
    gradient_length,
    in_turn,
    place_in,
    similarities,
    take_all,
)


def no_gate(**changes: object) -> AdaptiveNegatives:
    return AdaptiveNegatives(**({"candidates": 5, "choose": 2, "gate_quantile": 1.0} | changes))  # type: ignore[arg-type]


def given(
    positive: torch.Tensor, similarity: torch.Tensor, mask: torch.Tensor, by_text: torch.Tensor | None = None
) -> CandidateCosines:
    return CandidateCosines(positive, similarity, similarity if by_text is None else by_text, mask, torch.tensor(20.0))


def select(
    config: AdaptiveNegatives, similarity: torch.Tensor, mask: torch.Tensor, progress: float = 0.0
) -> NegativeChoice:
    return config.start().select(given(torch.full((len(mask),), 0.9), similarity, mask), progress)


def chosen(choice: NegativeChoice, row: int = 0) -> set[int]:
    return set(choice.index[row][choice.mask[row]].tolist())


def test_uniform_takes_all_that_were_drawn() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    choice = take_all(mask)
    assert UniformNegatives(2).candidates == 2
    assert choice.index.tolist() == [[0, 1], [0, 1]] and torch.equal(choice.mask, mask) and choice.stats == {}
    assert choice.weight.tolist() == [[1, 1], [1, 1]] and UniformNegatives(3).candidates == 3


def test_the_default_is_the_hardest_without_gate_and_weights() -> None:
    cosines = torch.tensor([[0.1, 0.95, 0.3, 0.4, 0.2]])
    choice = select(AdaptiveNegatives(candidates=5, choose=2), cosines, torch.ones(1, 5, dtype=torch.bool))
    assert choice.index.tolist() == [[1, 3]] and choice.weight.tolist() == [[1, 1]]  # one beats the caption (0.9)
    assert choice.stats["gated"] == 0


def test_each_kind_comes_once_before_any_comes_twice() -> None:
    kinds = ["swap", "replace", "swap", "swap", "number", "replace"]
    order = in_turn(kinds, np.random.default_rng(0))
    assert sorted(order) == list(range(6))
    assert [sorted(kinds[at] for at in part) for part in (order[:3], order[3:5], order[5:])] == [
        ["number", "replace", "swap"], ["replace", "swap"], ["swap"],
    ]  # fmt: skip
    assert [at for at in order if kinds[at] == "swap"] == [0, 2, 3]  # the draw's order stays within a kind
    assert len({tuple(in_turn(kinds, np.random.default_rng(seed))[:3]) for seed in range(40)}) == 6
    assert in_turn([], np.random.default_rng(0)) == []


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
    choice = config.start().select(given(positive, similarity, mask), 0.5)
    assert chosen(choice, 7) == {0, 1, 3} and choice.stats["gated"] == 1
    assert all(chosen(choice, row) == {0, 1, 2, 3} for row in range(50) if row != 7)
    assert choice.stats["gate"] == 0.0, "nothing below its caption is ever gated, whatever the quantile says"


def test_weights_follow_the_loss() -> None:
    similarity = torch.linspace(-0.5, 0.8, 100)[:, None]
    mask = torch.ones(100, 1, dtype=torch.bool)
    config = AdaptiveNegatives(
        candidates=1, choose=1, moderate_quantile=0.5, moderate_weight=2.0, hopeless_quantile=0.9, hopeless_weight=0.5
    )
    choice = config.start().select(given(torch.full((100,), 0.9), similarity, mask), 0.0)
    weights = choice.weight[:, 0].tolist()
    assert weights == [1.0] * 50 + [2.0] * 40 + [0.5] * 10
    assert choice.stats["hopeless"] == 10 and choice.stats["mean_weight"] == pytest.approx(1.35)
    assert choice.stats["mean_similarity"] == pytest.approx(0.15)


def test_weights_keep_up_with_gaps_that_grow() -> None:
    """The band moves, and so do the gaps of what is chosen: a twentieth stays a twentieth, and no average lags behind."""
    chooser = AdaptiveNegatives(candidates=4, choose=4, hopeless_weight=0.25, moderate_weight=1.5).start()
    draws = torch.Generator().manual_seed(5)
    mask, hopeless, light = torch.ones(60, 4, dtype=torch.bool), 0.0, 0
    for step in range(40):
        similarity = 0.01 * step + 0.1 * torch.rand(60, 4, generator=draws)
        choice = chooser.select(given(torch.full((60,), 0.9), similarity, mask), step / 40)
        hopeless, light = hopeless + choice.stats["hopeless"], light + int((choice.weight == 0.25).sum())
    assert 0.03 < hopeless / (40 * 240) < 0.07 and light == hopeless


def test_memory_is_a_moving_average_and_survives_a_checkpoint() -> None:
    draws = torch.Generator().manual_seed(1)
    steps = [(torch.rand(20, generator=draws), torch.rand(20, 5, generator=draws)) for _ in range(4)]
    mask = torch.rand(20, 5, generator=draws) > 0.2
    config = AdaptiveNegatives(candidates=5, choose=2, decay=0.5, gate_quantile=0.98)
    whole, first = config.start(), config.start()
    for positive, similarity in steps[:2]:
        whole.select(given(positive, similarity, mask), 0.1)
        first.select(given(positive, similarity, mask), 0.1)
    second, forgetful = config.start(), config.start()
    second.load_state_dict(first.state_dict())
    expected, got, lost = (c.select(given(*steps[2], mask), 0.2) for c in (whole, second, forgetful))
    assert torch.equal(expected.index, got.index) and torch.equal(expected.weight, got.weight)
    assert whole.state_dict() == second.state_dict() != forgetful.state_dict() and lost.stats != got.stats
    excess = [(similarity - positive[:, None])[mask].double().quantile(0.98) for positive, similarity in steps[:2]]
    assert first.state_dict()["gate"] == pytest.approx(float(0.5 * excess[0] + 0.5 * excess[1]))


def quantile(values: list[float], share: float) -> float:
    """Linear interpolation between the two values around a place, as the textbook has it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


class AdaptiveByLoops:
    """What `AdaptiveNegatives` says it does, one number after the other."""

    def __init__(self, config: AdaptiveNegatives) -> None:
        self.config, self.kept = config, {}  # type: ignore[var-annotated]

    def move(self, name: str, values: list[float], share: float) -> float:
        now = quantile(values, share)
        self.kept[name] = self.config.decay * self.kept.get(name, now) + (1 - self.config.decay) * now
        return float(self.kept[name])

    def step(
        self,
        positive: list[float],
        similarity: list[list[float]],
        mask: list[list[bool]],
        done: float,
        by_text: list[list[float]],
    ) -> tuple[list[list[int]], list[list[float]], set[tuple[int, int]]]:
        config = self.config
        gaps = {
            (i, j): similarity[i][j] - positive[i]
            for i in range(len(positive)) for j in range(len(mask[i])) if mask[i][j]
        }  # fmt: skip
        gate = max(0.0, self.move("gate", list(gaps.values()), config.gate_quantile))
        grid = [self.move(f"grid{at}", list(gaps.values()), at / 32) for at in range(33)]

        def hardness(gap: float) -> float:
            if gap <= grid[0]:
                return 0.0
            for at in range(32):
                if grid[at] < gap <= grid[at + 1]:
                    return (at + (gap - grid[at]) / (grid[at + 1] - grid[at])) / 32
            return 1.0

        low, high = (
            start + (end - start) * done for start, end in zip(config.band_start, config.band_end, strict=True)
        )
        chosen: list[list[int]] = []
        for i in range(len(positive)):
            allowed = [j for j in range(len(mask[i])) if mask[i][j] and gaps[i, j] <= gate]

            def cost(j: int, i: int = i) -> tuple[bool, float]:
                if config.order == "uniform":
                    return False, j
                if config.order == "gradient":
                    push = 1 / (1 + math.exp(-20 * gaps[i, j]))
                    return False, -push * math.sqrt(2 - 2 * by_text[i][j] - gaps[i, j] ** 2)
                if config.order == "margin":
                    beyond = max(-config.margin - gaps[i, j], 0.0, gaps[i, j])
                    return beyond > 0, beyond + 0.5 * abs(gaps[i, j] + config.margin / 2)
                hard = hardness(gaps[i, j])
                outside = max(low - hard, 0.0, hard - high)
                return outside > 0, outside + 0.5 * abs(hard - (low + high) / 2)

            most = max(1, math.floor(sum(mask[i]) * config.most_share + 1e-6))
            chosen.append(sorted(allowed, key=cost)[: min(config.choose, most)])
        picked = [gaps[i, j] for i, row in enumerate(chosen) for j in row]
        middle = sorted(picked)[(len(picked) - 1) // 2]
        over = [gap - middle for gap in picked]
        hopeless = middle + self.move("hopeless", over, config.hopeless_quantile)
        moderate = middle + self.move("moderate", over, config.moderate_quantile)
        weights = [
            [
                config.hopeless_weight if gaps[i, j] > hopeless else config.moderate_weight if gaps[i, j] >= moderate else 1.0
                for j in row
            ]
            for i, row in enumerate(chosen)
        ]  # fmt: skip
        return chosen, weights, {key for key, gap in gaps.items() if gap > gate}


@pytest.mark.parametrize("share", [1.0, 1 / 3])
@pytest.mark.parametrize(
    ("order", "band"),
    [
        ("band", ((0.0, 0.4), (0.6, 1.0))),
        ("band", ((0.5, 1.0), (0.0, 0.5))),
        ("band", ((0.3, 0.3), (0.3, 0.3))),
        ("band", ((0.2, 0.7), (0.2, 0.7))),
        ("uniform", ((0.0, 0.5), (0.5, 1.0))),
        ("margin", ((0.0, 0.5), (0.5, 1.0))),
        ("gradient", ((0.0, 0.5), (0.5, 1.0))),
    ],
)
def test_choice_order_weight_and_gate_are_what_they_say(order: Any, band: Any, share: float) -> None:
    config = AdaptiveNegatives(
        candidates=9,
        choose=3,
        order=order,
        most_share=share,
        margin=0.25,
        band_start=band[0],
        band_end=band[1],
        gate_quantile=0.9,
        hopeless_quantile=0.8,
        hopeless_weight=0.25,
        moderate_weight=1.5,
        decay=0.7,
    )
    draws = torch.Generator().manual_seed(4)
    chooser, slow, seen = config.start(), AdaptiveByLoops(config), set[float]()
    for step in range(5):
        positive = 0.3 + 0.2 * torch.rand(30, generator=draws, dtype=torch.float64)
        similarity = 0.6 * torch.rand(30, 9, generator=draws, dtype=torch.float64)
        mask = torch.rand(30, 9, generator=draws) > 0.3
        by_text = 0.2 + 0.6 * torch.rand(30, 9, generator=draws, dtype=torch.float64)
        choice = chooser.select(given(positive, similarity, mask, by_text), step / 5)
        lists = positive.tolist(), similarity.tolist(), mask.tolist()
        expected, weights, gated = slow.step(*lists, step / 5, by_text.tolist())
        rows = [choice.index[i][choice.mask[i]].tolist() for i in range(30)]
        assert rows == expected
        assert [choice.weight[i][choice.mask[i]].tolist() for i in range(30)] == weights
        assert choice.gated is not None and {(i, j) for i, j in choice.gated.nonzero().tolist()} == gated and gated
        seen |= {weight for row in weights for weight in row}
    assert seen == {0.25, 1.0, 1.5}


@pytest.mark.parametrize(
    ("share", "chosen_of"), [(1.0, [1, 2, 3, 4, 4]), (1 / 3, [1, 1, 1, 1, 3]), (0.5, [1, 1, 1, 2, 4])]
)
def test_of_few_candidates_a_share_is_chosen(share: float, chosen_of: list[int]) -> None:
    similarity = torch.rand(5, 9, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(9) < torch.tensor([1, 2, 3, 4, 9])[:, None]
    choice = select(no_gate(candidates=9, choose=4, most_share=share), similarity, mask)
    assert choice.mask.sum(dim=1).tolist() == chosen_of
    whole = select(no_gate(candidates=9, choose=4), similarity, mask)
    for row, number in enumerate(chosen_of):
        assert choice.index[row, :number].tolist() == whole.index[row, :number].tolist(), "the first of the same order"


def test_the_gradient_of_a_candidate_is_the_one_that_autograd_finds() -> None:
    """Of its term of the loss, on the weights of a head: up to a factor of the image, the same for all its candidates."""
    draws = torch.Generator().manual_seed(7)
    hidden = torch.randn(4, 10, generator=draws, dtype=torch.float64)
    head = torch.randn(6, 10, generator=draws, dtype=torch.float64, requires_grad=True)
    texts = torch.nn.functional.normalize(torch.randn(4, 1 + 5, 6, generator=draws, dtype=torch.float64), dim=2)
    caption, negatives = texts[:, 0], texts[:, 1:]
    scale = torch.tensor(7.0, dtype=torch.float64)
    found = torch.zeros(4, 5, dtype=torch.float64)
    for i in range(4):
        for j in range(5):
            made = head @ hidden[i]
            image = made / made.norm()
            loss = torch.nn.functional.softplus(scale * (image @ negatives[i, j] - image @ caption[i]))
            (gradient,) = torch.autograd.grad(loss, head)
            found[i, j] = gradient.norm() * made.norm().detach() / hidden[i].norm() / scale
    image = torch.nn.functional.normalize(hidden @ head.detach().T, dim=1)
    cosines = similarities(image, caption, negatives, torch.ones(4, 5, dtype=torch.bool), scale)
    assert torch.allclose(gradient_length(cosines), found, rtol=1e-12, atol=0)
    choice = AdaptiveNegatives(candidates=5, choose=2, order="gradient", gate_quantile=1.0).start().select(cosines, 0.0)
    assert torch.equal(choice.index, found.argsort(dim=1, descending=True)[:, :2])


def test_an_even_choice_takes_every_candidate_as_often() -> None:
    """The candidates come in an even order, so that the first ones are an even choice; no hardness plays a part."""
    similarity = torch.linspace(0.0, 0.5, 40).reshape(8, 5)
    choice = select(no_gate(order="uniform"), similarity, torch.ones(8, 5, dtype=torch.bool))
    assert choice.index.tolist() == [[0, 1]] * 8
    turned = select(no_gate(order="uniform"), similarity.flip(1), torch.ones(8, 5, dtype=torch.bool))
    assert turned.index.tolist() == [[0, 1]] * 8


def test_a_flat_distribution_has_a_middle() -> None:
    grid = torch.tensor([0.0, 1.0, 1.0, 1.0, 2.0], dtype=torch.float64)
    values = torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0], dtype=torch.float64)
    assert place_in(grid, values).tolist() == [0.0, 0.0, 0.125, 0.5, 0.875, 1.0, 1.0]


def test_no_candidate_at_all_is_no_error() -> None:
    choice = select(no_gate(), torch.zeros(3, 5), torch.zeros(3, 5, dtype=torch.bool))
    assert not choice.mask.any() and choice.stats["mean_similarity"] == 0.0


def test_operations_are_counted() -> None:
    records = [[{"operation": "swap", "span_class": "noun"}, {"operation": "replace"}], [{"operation": "replace"}]]
    texts = StepTexts(
        ("u", "v"), ("a", "b"), records, [[], []], ("1", "2"), [["3", "4"], ["3"]], [[], []], (0, 2), (0, 0)
    )
    batch: Any = SimpleNamespace(texts=texts)
    index, mask = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[True, True], [True, False]])
    stats = negative_stats(batch, NegativeChoice(index, mask, torch.ones(2, 2), {"gate": 0.5}))
    operations = {"replace": 2, "swap/noun": 1}
    counts = {"count": 3, "candidates": 3, "equal_to_caption": 2}
    assert stats == counts | {"gate": 0.5, "operation": operations, "operation_drawn": operations}


@pytest.mark.parametrize(
    "values",
    [
        {"choose": 16},
        {"band_end": (0.5, 0.4)},
        {"gate_quantile": 1.1},
        {"moderate_quantile": 0.99},
        {"hopeless_weight": 0.0},
        {"order": "hardest"},
        {"margin": 0.0},
        {"most_share": 0.0},
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match="adaptive: "):
        AdaptiveNegatives(**values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="choose"):
        UniformNegatives(0)
