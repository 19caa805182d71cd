"""Difficulty: margins against references of the own cluster, and their place among the margins of all samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.stages.embedding.order_difficulty import OrderDifficulty
from data_manifests.sample import Sample
from tests.curation.few_samples import directions
from tests.curation.fitted_stages import (
    check_that_each_sample_is_by_itself,
    fit_and_apply,
    holds,
    kept_fields,
    samples_of,
)
from tests.curation.listed_columns import ListedColumns


def samples(size: int, clusters: int, fit: float = 0.0, seed: int = 0) -> list[Sample]:
    """Return samples whose captions point more to their images where `fit` is larger."""
    draws = np.random.default_rng(seed)
    images = directions(draws, size, 16)
    texts = [directions(draws, draws.integers(1, 4), 16) for _ in range(size)]
    near = [(own + fit * image).astype(np.float16) for own, image in zip(texts, images, strict=True)]
    uids = sorted(draws.bytes(16).hex() for _ in range(size))
    return samples_of(
        uids,
        image_embedding=images,
        text_embeddings=near,
        cluster_id=draws.permutation(np.arange(size) % clusters).tolist(),
    )


def difficulty(found: list[dict[str, Any]]) -> list[float]:
    return [one["difficulty"] for one in found]


def test_in_small_clusters_it_is_the_rank_of_the_margin_against_all_others() -> None:
    everyone = samples(40, 6)
    margins = []
    for one in everyone:
        image = one["image_embedding"].astype(np.float64)
        captions = {item.uid: item["text_embeddings"].astype(np.float64).mean(axis=0) for item in everyone}
        others = [
            captions[item.uid] @ image
            for item in everyone
            if item["cluster_id"] == one["cluster_id"] and item.uid != one.uid
        ]
        assert 0 < len(others) <= 8
        margins.append(max(others) - captions[one.uid] @ image)
    got = difficulty(kept_fields(fit_and_apply(OrderDifficulty(), everyone)))
    ranks = np.argsort(np.argsort(margins)) / 39
    np.testing.assert_allclose(got, ranks, atol=0.03)  # captions are kept in float16, so near margins may change places
    assert (min(got), max(got)) == (0.0, 1.0)


def test_references_are_nine_of_each_cluster_and_a_sample_is_not_its_own() -> None:
    everyone = samples(200, 4)
    fit = OrderDifficulty().fit(ListedColumns(everyone))
    assert np.bincount(fit.arrays["clusters"]).tolist() == [9] * 4
    halves = [np.frombuffer(bytes.fromhex(one.uid), "<u8").tolist() for one in everyone]
    known = [halves.index(half) for half in fit.arrays["uids"].tolist()]
    assert [everyone[place]["cluster_id"] for place in known] == fit.arrays["clusters"].tolist()
    for place, caption in zip(known, fit.arrays["captions"], strict=True):
        np.testing.assert_array_equal(
            caption, everyone[place]["text_embeddings"].astype(float).mean(axis=0).astype("f2")
        )


def test_a_sample_alone_in_its_cluster_is_easiest() -> None:
    everyone = samples(30, 1)
    alone = samples_of(["f" * 32], image_embedding=[everyone[0]["image_embedding"]],
                       text_embeddings=[everyone[0]["text_embeddings"]], cluster_id=[1])  # fmt: skip
    assert difficulty(kept_fields(fit_and_apply(OrderDifficulty(), [*everyone, *alone])))[-1] == 0.0


def test_in_all_there_are_no_more_references_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.stages.embedding.order_difficulty._MOST_REFERENCES", 12)
    fit = OrderDifficulty().fit(ListedColumns(samples(200, 5)))
    assert np.bincount(fit.arrays["clusters"]).tolist() == [2] * 5


def test_the_scale_holds_for_samples_of_their_kind_and_not_for_others(tmp_path: Path) -> None:
    everyone = samples(1212, 20)
    more = sorted(np.random.default_rng(1).permutation(1212)[:12].tolist())
    learned = [one for place, one in enumerate(everyone) if place not in more]
    stage = OrderDifficulty()
    check_that_each_sample_is_by_itself(stage, learned, [everyone[place] for place in more], tmp_path)
    fit = stage.fit(ListedColumns(learned))
    assert holds(stage, fit, everyone)
    shares = np.histogram(difficulty(kept_fields(stage.apply(everyone, fit))), 8, (0, 1))[0] / 1212
    np.testing.assert_allclose(shares, 1 / 8, atol=0.01)
    near = samples(1212, 20, fit=0.5)
    drifted = [near[place] if place % 3 == 0 else one for place, one in enumerate(everyone)]
    assert not holds(stage, fit, drifted)
