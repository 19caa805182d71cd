"""Biases of answers over groups: hand examples and literal loops in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.evaluation.interface import EvalOptions
from flows.evaluation.registry import open_benchmark
from training.evaluate.fairness import Groups, fairness, ndkl, parity_gaps, shares_chosen, skew
from training.model.spec import ModelSpec


def test_skew_by_hand() -> None:
    ranked, reference = np.array([0, 0, 0, 1, 1, 1]), np.array([0.5, 0.5])
    # three of the first three are group 0; one image more is spread half and half: 3.5 and 0.5 of 4
    assert skew(ranked, 3, reference).tolist() == [math.log(3.5 / 4 / 0.5), math.log(0.5 / 4 / 0.5)]
    assert skew(np.array([0, 1, 0, 1]), 4, reference).tolist() == [0.0, 0.0]
    assert skew(ranked, 99, reference).tolist() == [0.0, 0.0]
    assert skew(np.array([0, 0, 1, 0]), 4, np.array([0.75, 0.25])).tolist() == [0.0, 0.0]


def literal_ndkl(ranked: Sequence[int], reference: Sequence[float]) -> float:
    total = norm = 0.0
    for i in range(1, len(ranked) + 1):
        divergence = 0.0
        for group, share in enumerate(reference):
            p = sum(one == group for one in ranked[:i]) / i
            if p:
                divergence += p * math.log(p / share)
        total += divergence / math.log2(i + 1)
        norm += 1 / math.log2(i + 1)
    return total / norm


@pytest.mark.parametrize("seed", [0, 1])
def test_ndkl_equals_the_literal_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranked = rng.integers(0, 3, 40)
    reference = np.bincount(ranked, minlength=3) / 40
    assert ndkl(ranked, reference) == pytest.approx(literal_ndkl(ranked.tolist(), reference.tolist()), abs=1e-14)
    assert ndkl(np.array([0, 1]), np.array([0.5, 0.5])) == pytest.approx(math.log(2) / (1 + 1 / math.log2(3)))
    assert ndkl(np.array([0, 0, 1, 1]), np.array([0.5, 0.5])) > ndkl(np.array([0, 1, 0, 1]), np.array([0.5, 0.5]))


def test_choices_and_parity_by_hand() -> None:
    chosen = shares_chosen(np.array([[2.0, 1.0], [1.0, 1.0], [0.0, 1.0], [3.0, 1.0]]))
    assert chosen.tolist() == [[1, 0], [0.5, 0.5], [0, 1], [1, 0]]
    assert parity_gaps(chosen, np.array([0, 0, 1, 1]), 2).tolist() == [0.25, 0.25]
    three = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    assert parity_gaps(three, np.array([0, 0, 1, 1, 2, 2]), 3).tolist() == [1.0, 1.0, 1.0]


def embed(texts: Sequence[str]) -> Any:
    """Men and surgeons lie along the first axis, women and nurses along the second, all else between."""
    axes = {
        "a photo of a man": [1, 0],
        "a photo of a woman": [0, 1],
        "a photo of a surgeon": [1, 0],
        "a photo of a nurse": [0, 1],
    }
    made = np.array([axes.get(text, [1, 1]) for text in texts], dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def groups_of(of_image: Sequence[int], no_people: Sequence[bool]) -> Groups:
    return Groups("gender", ("male", "female"), ("a man", "a woman"), np.array(of_image), np.array(no_people))


def test_a_biased_model_by_hand() -> None:
    image = np.array([[1, 0], [1, 0], [0, 1], [1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    groups = groups_of([0, 0, 1, 1, -1, -1, -1], [False] * 4 + [True, True, False])
    result = fairness(embed, image, list("abcdefg"), groups, pairs=(("a nurse", "a surgeon"),), prompts=("x", "y"))
    numbers = result.metrics
    # both images without people are nearer to the man
    assert numbers["groups"]["male"]["representation"] == 1.0
    assert numbers["groups"]["female"]["representation_bias"] == -0.5
    assert numbers["representation_bias"] == 0.5
    # one woman of two is a nurse, no man is
    assert numbers["association"]["a nurse or a surgeon"] == {"male": 0.0, "female": 0.5, "gap": 0.5}
    assert numbers["association_bias"] == 0.5
    assert (numbers["num_labelled"], numbers["num_several_or_unknown"], numbers["num_without_people"]) == (4, 1, 2)
    assert numbers["parity_gap"] == numbers["mean_parity_gap"] == 0.0  # the prompts are one to this model
    for name, items in result.cases.items():
        value: Any = numbers
        for part in name.split("."):
            value = value[part]
        assert value == items.values.mean()


def test_too_few_groups_are_refused() -> None:
    image = np.ones((2, 2), dtype=np.float32)
    with pytest.raises(InputError, match="two groups or more"):
        fairness(embed, image, ["a", "b"], groups_of([0, 0], [False, False]))


def test_ranking_of_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluate.fairness.KS", (2, 3, 10))
    image = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], dtype=np.float32)
    groups = groups_of([0, 0, 1, 1], [False] * 4)
    result = fairness(embed, image, list("abcd"), groups, prompts=("a man", "a thing")).metrics
    half = np.array([0.5, 0.5])
    assert result["prompts"]["a man"]["max_skew@2"] == skew(np.array([0, 0]), 2, half).max()
    assert result["prompts"]["a man"]["ndkl"] == pytest.approx(literal_ndkl([0, 0, 1, 1], [0.5, 0.5]))
    assert "max_skew@10" not in result
    assert "representation_bias" not in result  # nobody-images are missing
    assert result["max_skew@3"] == np.mean([entry["max_skew@3"] for entry in result["prompts"].values()])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    captions = ("a man runs", "a woman runs", "a man and a woman run", "a dog runs", "a person runs")
    rows = []
    for number in range(15):
        Image.new("RGB", (72, 72), (16 * number, 90, 200)).save(folder / f"{number:02}.png")
        rows.append(
            {
                "file": f"{number:02}.png",
                "captions": [captions[number % 5]],
                "origin": ["North", "south", ""][number % 3],
            }
        )
    (folder / "captions.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n")
    return folder


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_groups_come_from_captions_or_a_column(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Any = open_benchmark(f"fairness:folder:{photos}", EvalOptions(Catalog(tmp_path / "w", tmp_path / "w")))
    with pytest.raises(InputError, match=r"'female': 3, 'male': 3"):
        opened.groups()
    monkeypatch.setattr("flows.evaluation.benchmarks.fairness.MIN_IMAGES", 3)
    groups = opened.groups()
    assert (groups.names, groups.prompts) == (("female", "male"), ("a woman", "a man"))
    said = [sample.captions[0] for sample in opened.samples]
    assert groups.of_image.tolist() == [{"a woman runs": 0, "a man runs": 1}.get(text, -1) for text in said]
    assert groups.no_people.tolist() == [text == "a dog runs" for text in said]
    result = opened.run(ModelSpec.parse("tiny").load(), lambda *_: None)
    assert (result.metrics["num_labelled"], result.metrics["num_several_or_unknown"]) == (6, 6)
    assert "perceived" in result.metrics["limits"]

    other: Any = open_benchmark(
        f"fairness:folder:{photos}?column=origin", EvalOptions(Catalog(tmp_path / "w", tmp_path / "w"))
    )
    groups = other.groups()
    assert groups.names == ("north", "south")
    assert groups.prompts == ("a north person", "a south person")
    assert groups.no_people.sum() == 5
    for wrong in ("?by=height", "?by=age&column=origin"):
        with pytest.raises(InputError, match="fairness"):
            open_benchmark(f"fairness:folder:{photos}{wrong}", EvalOptions(Catalog(tmp_path / "w", tmp_path / "w")))


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_texts_of_ones_own_take_the_place_of_trades(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "w", tmp_path / "w")
    asked = "fairness:scenes:60@7?level=1&tied=neither?column=scene.background.colour&pairs=a star|a circle;a cross | a ring"
    found = open_benchmark(asked, EvalOptions(catalog)).run(ModelSpec.parse("tiny").load(), lambda *_: None)
    assert set(found.metrics["association"]) == {"a star or a circle", "a cross or a ring"}
    assert set(found.metrics["prompts"]) == {"a star", "a circle", "a cross", "a ring"}
    assert set(found.metrics["groups"]) == {"grey", "pink"}
    for wrong in ("a star", "a star|a star", "a star|", "a|b|c", "a|b;"):
        with pytest.raises(InputError, match=r"(?s)is no pair of texts.*allowed: two different texts"):
            open_benchmark(f"fairness:scenes:60@7?level=1?column=scene.background.colour&pairs={wrong}", EvalOptions(catalog))
