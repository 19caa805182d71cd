"""Texts once, by length and as tries: the features and gradients are those of the plain pass, in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from training.model import lora
from training.model.clip_model import ClipModel, Tries, group_lengths
from training.model.spec import ModelSpec

CAPTIONS = [
    "a red cube",
    "a red cube on a table",
    "a red ball",
    "a red cube",
    "the small green cone stands to the left of a large yellow ring",
    "the small green cone stands to the right of a large yellow ring",
    "the small blue cone stands to the left of a large yellow ring",
    "one",
]


def load(name: str, dropout: float = 0.0) -> ClipModel:
    with pytest.warns(UserWarning, match="random"):
        model = ModelSpec.parse(name).load()
    torch.manual_seed(0)
    lora.apply_tuning(model, "lora", dropout=dropout)
    model.module.double()
    model.train()
    for parameter in (parameter for _, parameter in lora.trainable_parameters(model)):
        with torch.no_grad():  # adapters start at zero, where half of the gradients vanish
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float64) * 0.02)
    return model


def gradients(model: ClipModel, features: Tensor) -> dict[str, Tensor]:
    model.module.zero_grad()
    wanted = torch.randn(features.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (features * wanted).sum().backward()  # type: ignore[no-untyped-call]
    trained = lora.trainable_parameters(model)
    return {name: parameter.grad for name, parameter in trained if parameter.grad is not None}


@pytest.mark.parametrize("name", ["tiny", pytest.param("vit_small_distilbert", marks=pytest.mark.slow)])
def test_features_and_gradients_equal_the_plain_pass(name: str) -> None:
    model = load(name)
    for module in model.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert not model.has_dropout("text_trunk")
    tokens = model.tokenize(CAPTIONS)
    plain = model.encode_text(tokens)
    expected = gradients(model, plain)
    seen: list[int] = []
    counted = model.module.get_submodule("token_embedding" if name == "tiny" else "text.transformer.embeddings")
    handle = counted.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[0] * out.shape[1]))
    found = model.encode_text(tokens, deduplicate=True)
    handle.remove()
    assert sum(seen) < tokens.numel() / 2, "no work was saved"
    assert torch.allclose(found, plain, atol=1e-12, rtol=0)
    made = gradients(model, found)
    assert made.keys() == expected.keys() and len(made) > 4
    for key, value in expected.items():
        assert torch.allclose(made[key], value, atol=1e-10, rtol=1e-10), key
    with torch.no_grad():
        model.eval()
        assert torch.allclose(model.encode_text(tokens, deduplicate=True), plain, atol=1e-12, rtol=0)


def test_equal_texts_do_not_share_the_draws_of_dropout() -> None:
    model = load("tiny", dropout=0.5)
    assert model.has_dropout("text_trunk")
    features = model.encode_text(model.tokenize(["a red cube"] * 2), deduplicate=True)
    assert not torch.allclose(features[0], features[1])
    model.eval()
    assert not model.has_dropout("text_trunk")


def test_tries_hold_each_text_once_and_see_ancestors_only() -> None:
    words = [(1, 5, 6, 2), (1, 5, 7, 2), (1, 5, 6, 2), (1, 8, 2), (9, 9, 9, 9, 9, 9)]
    tries = Tries.of(words, positions=8)
    assert tries.tokens.shape == (2, 8), "a row takes what fits; one that is longer has a row of its own"
    for text, row, end in zip(words, tries.row.tolist(), tries.end.tolist(), strict=True):
        ancestors = tries.visible[row, end].nonzero()[:, 0]
        order = ancestors[tries.position[row, ancestors].argsort()]
        assert tuple(tries.tokens[row, order].tolist()) == text
        assert tries.position[row, order].tolist() == list(range(len(text)))
    assert (tries.row[0], tries.end[0]) == (tries.row[2], tries.end[2])
    assert bool(tries.visible.diagonal(dim1=1, dim2=2).all()), (
        "an unused place must see something, or it is not a number"
    )


def test_lengths_are_grouped_at_the_least_cost() -> None:
    lengths = [3, 3, 4, 5, 9, 9, 20, 21, 21, 40]

    def cost(groups: tuple[int, ...]) -> int:
        return sum(min(size for size in groups if size >= length) for length in lengths) + 15 * len(groups)

    sizes = sorted(set(lengths))[:-1]
    all_ = [(*some, 40) for count in range(len(sizes) + 1) for some in itertools.combinations(sizes, count)]
    assert cost(tuple(group_lengths(lengths, 15))) == min(cost(groups) for groups in all_)
    assert group_lengths(lengths, 0) == [*sizes, 40] and group_lengths(lengths, 10**6) == [40]
