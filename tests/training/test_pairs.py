"""Samples joined two by two: whose words change places, which texts are true, and what the pictures look like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_manifests.errors import InputError
from training.model.clip_model import StepEncoder
from training.model.spec import ModelSpec
from training.pairs import (
    JoinedTexts,
    PairSide,
    check_even,
    draw_pair,
    encode_pairs,
    exchange_words,
    join_images,
    join_texts,
)

DOG = PairSide(
    "A dog runs on a dog bed .",
    ("A dog runs on a dog bed .", "One dog ."),
    [("NOUN", "dog"), ("NOUN", "bed"), ("VERB", "runs")],
)
CAT = PairSide("Black cat on grass", ("Black cat on grass",), [("ADJ", "black"), ("NOUN", "cat"), ("NOUN", "grass")])


def test_words_of_one_class_change_places_wherever_they_stand() -> None:
    found = {exchange_words(DOG, CAT, np.random.default_rng(seed)) for seed in range(40)}
    assert found == {
        ("A cat runs on a cat bed .", "Black dog on grass"),
        ("A grass runs on a grass bed .", "Black cat on dog"),
        ("A dog runs on a dog cat .", "Black bed on grass"),
        ("A dog runs on a dog grass .", "Black cat on bed"),
    }
    upper = PairSide("Dogs run", (), [("NOUN", "dogs")]), PairSide("two Cats, cats", (), [("NOUN", "cats")])
    assert exchange_words(*upper, np.random.default_rng(0)) == ("Cats run", "two Dogs, dogs")


def test_words_that_both_captions_have_stay_and_without_a_common_class_nothing_is_exchanged() -> None:
    other = PairSide("A bed and a dog", (), [("NOUN", "bed"), ("NOUN", "dog")])
    assert exchange_words(DOG, other, np.random.default_rng(0)) is None
    assert exchange_words(DOG, PairSide("red", (), [("ADJ", "red")]), np.random.default_rng(0)) is None
    part = PairSide("A dogbed c++ .", (), [("NOUN", "dogbed")])
    assert exchange_words(part, CAT, np.random.default_rng(0)) is not None


def test_true_texts_are_both_orders_and_further_captions() -> None:
    pairs = [draw_pair(DOG, CAT, np.random.default_rng(seed)) for seed in range(30)]
    for pair in pairs:
        assert pair.positives[:2] == (
            "A dog runs on a dog bed . Black cat on grass",
            "Black cat on grass. A dog runs on a dog bed .",
        )
        assert pair.positives[2:] == ("One dog .", "One dog .") and pair.negative not in {"", *pair.positives}
    assert {(pair.beside, pair.swapped) for pair in pairs} == {(a, b) for a in (True, False) for b in (True, False)}
    alone = draw_pair(CAT, CAT, np.random.default_rng(0))
    assert alone.positives[2:] == ("", "") and alone.negative == ""
    assert join_texts("", " a ") == "a" and join_texts("Why?", "b") == "Why? b"


@pytest.mark.parametrize("size", [8, 7])
def test_pictures_stand_side_by_side_or_one_above_the_other(size: int) -> None:
    one, other = torch.zeros(3, size, size), torch.ones(3, size, size)
    half = size // 2
    for beside, swapped in ((True, False), (True, True), (False, False), (False, True)):
        joined = join_images(one, other, JoinedTexts(("", "", "", ""), "", beside, swapped))
        assert joined.shape == one.shape
        first, second = (joined[..., :half], joined[..., half:]) if beside else (joined[:, :half], joined[:, half:])
        assert torch.allclose(first, torch.full_like(first, float(swapped)))
        assert torch.allclose(second, torch.full_like(second, float(not swapped)))


def test_every_text_lands_in_its_slot() -> None:
    with pytest.warns(UserWarning, match="random"):
        model = ModelSpec.parse("tiny").load()
    model.eval()
    pairs = [JoinedTexts(("a", "b", "", ""), "n", True, False), JoinedTexts(("c", "d", "e", "f"), "", False, False)]
    joined = torch.rand(2, 3, model.image_size_px, model.image_size_px)
    with torch.no_grad():
        found = encode_pairs(StepEncoder(model), joined, pairs)
        own = model.encode_text(model.tokenize(["a", "b", "n", "c", "d", "e", "f"]))
    assert found.mask.tolist() == [[True, True, False, False], [True] * 4] and found.negative_mask.tolist() == [
        True,
        False,
    ]
    assert torch.allclose(found.positives[found.mask], own[[0, 1, 3, 4, 5, 6]], atol=1e-6)
    assert torch.allclose(found.negative[0], own[2], atol=1e-6)
    assert torch.allclose(found.image, model.encode_image(joined), atol=1e-6)


def test_an_odd_number_of_samples_is_refused() -> None:
    check_even(4)
    with pytest.raises(InputError, match="two by two"):
        check_even(5)
