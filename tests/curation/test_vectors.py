"""Balanced clusters and nearest vectors against slow literal versions of what they promise."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation.stages.embedding.cluster_embeddings import ClusterEmbeddings
from curation.vectors.balanced import balanced_clusters, order_by_nearness
from curation.vectors.index import build_index, recall_of
from curation.vectors.pricing import nearest_centroids, settled_prices, size_bounds
from curation.vectors.rows import exact_dots, on_grid
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from tests.curation.fitted_stages import (
    check_that_each_sample_is_by_itself,
    fit_and_apply,
    holds,
    kept_fields,
    samples_of,
)
from tests.curation.listed_columns import ListedColumns


def unit(num: int, dim: int = 24, seed: int = 0, groups: int = 12, noise: float = 0.5) -> NDArray[np.float16]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, dim))
    rows = centres[rng.integers(0, groups, num)] + noise * rng.standard_normal((num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def literal(vectors: NDArray[np.float16], queries: NDArray[np.float16], k: int) -> NDArray[np.int64]:
    wide = np.round(queries.astype(np.float64) @ vectors.astype(np.float64).T, 6)
    return np.stack([np.lexsort((np.arange(len(vectors)), -row))[:k] for row in wide])


def pictures(vectors: NDArray[np.float16]) -> list[Sample]:
    return samples_of([f"{number:032x}" for number in range(len(vectors))], image_embedding=vectors)


@settings(max_examples=25, deadline=None)
@given(num=st.integers(1, 300), share=st.floats(0.0, 1.0), seed=st.integers(0, 5))
def test_sizes_differ_by_one_at_most_and_nobody_is_left_out(num: int, share: float, seed: int) -> None:
    k = max(1, round(share * num))
    labels = balanced_clusters(unit(num, seed=seed), k, seed=seed)
    sizes = np.bincount(labels, minlength=k)
    assert len(sizes) == k
    assert sizes.max() - sizes.min() <= (1 if num % k else 0)


@settings(max_examples=25, deadline=None)
@given(num=st.integers(1, 300), share=st.floats(0.0, 1.0), slack=st.floats(0.0, 0.99), seed=st.integers(0, 5))
def test_sizes_keep_to_their_slack(num: int, share: float, slack: float, seed: int) -> None:
    k = max(1, round(share * num))
    sizes = np.bincount(balanced_clusters(unit(num, seed=seed), k, seed=seed, slack=slack), minlength=k)
    least, most = size_bounds(num, k, slack)
    assert len(sizes) == k
    assert sizes.sum() == num
    assert max(1, (1 - slack) * num / k - 1) <= least <= sizes.min()
    assert sizes.max() <= most < (1 + slack) * num / k + 1


def test_a_little_slack_spares_groups_that_fit_no_equal_size() -> None:
    rng = np.random.default_rng(4)
    centres = np.linalg.qr(rng.standard_normal((32, 32)))[0]
    group = rng.permutation(np.repeat(np.arange(20), rng.permutation([27, 28, 29, 30, 30, 30, 30, 31, 32, 33] * 2)))
    vectors = (centres[group] + 0.05 * rng.standard_normal((600, 32))).astype(np.float16)

    def num_pairs(slack: float) -> int:
        labels = balanced_clusters(vectors, 20, seed=0, slack=slack)
        return len(set(zip(labels.tolist(), group.tolist(), strict=True)))

    assert num_pairs(0.0) > 20
    assert num_pairs(0.1) == 20


def test_equal_vectors_are_parted_too() -> None:
    labels = balanced_clusters(np.repeat(unit(1), 50, axis=0), 7, seed=0)
    assert sorted(np.bincount(labels).tolist()) == [7, 7, 7, 7, 7, 7, 8]
    sizes = np.bincount(balanced_clusters(np.repeat(unit(1), 50, axis=0), 7, seed=0, slack=0.2))
    assert len(sizes) == 7
    assert 5 <= sizes.min() <= sizes.max() <= 9


def test_planted_groups_of_equal_size_are_found() -> None:
    rng = np.random.default_rng(3)
    centres = np.linalg.qr(rng.standard_normal((32, 32)))[0]
    group = rng.permutation(np.repeat(np.arange(20), 30))
    vectors = (centres[group] + 0.05 * rng.standard_normal((600, 32))).astype(np.float16)
    labels = balanced_clusters(vectors, 20, seed=0)
    assert len({(label, number) for label, number in zip(labels.tolist(), group.tolist(), strict=True)}) == 20


def test_balanced_clusters_are_tighter_than_bisection_alone_and_the_same_again() -> None:
    from curation.vectors.bisection import Bisection

    def inertia(labels: NDArray[np.int64]) -> float:
        wide = vectors.astype(np.float64)
        return sum(float(((wide[labels == c] - wide[labels == c].mean(axis=0)) ** 2).sum()) for c in range(40))

    vectors = unit(1_000, groups=30)
    labels = balanced_clusters(vectors, 40, seed=1)
    assert inertia(labels) < 0.95 * inertia(Bisection(vectors, 40, 1).run())
    assert np.array_equal(labels, balanced_clusters(vectors, 40, seed=1))


def test_one_cluster_may_have_more_vectors_than_are_split_in_memory() -> None:
    assert not balanced_clusters(unit(9_000, groups=3), 1, seed=0).any()


def test_neighbouring_numbers_are_near() -> None:
    angles = np.random.default_rng(0).permutation(64) / 64 * np.pi
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    places = order_by_nearness(circle, seed=0)
    assert sorted(places.tolist()) == list(range(64))
    along = angles[np.argsort(places)]
    assert np.abs(np.diff(along)).mean() < 3 * np.pi / 64  # a random order has pi / 3


def test_exact_dots_do_not_depend_on_the_order_of_the_sum() -> None:
    vectors = unit(200, dim=512)
    turned = np.random.default_rng(1).permutation(512)
    every = np.tile(np.arange(200), (200, 1))
    assert np.array_equal(
        exact_dots(vectors, vectors, every), exact_dots(vectors[:, turned], vectors[:, turned], every)
    )


def test_exact_search_equals_the_literal_one_with_ties_by_position() -> None:
    vectors = unit(500)
    vectors[[40, 90, 333]] = vectors[7]
    similarity, positions = build_index(vectors, exact_below=50_000, seed=0, target_recall=0.97).search(vectors[:60], 9)
    assert np.array_equal(positions, literal(vectors, vectors[:60], 9))
    assert positions[7, :4].tolist() == [7, 40, 90, 333]
    assert (np.diff(similarity, axis=1) <= 0).all()


def test_search_leaves_out_what_is_too_similar_and_finds_all_of_many_copies() -> None:
    vectors = unit(400)
    vectors[100:300] = vectors[7]
    index = build_index(vectors, exact_below=50_000, seed=0, target_recall=0.97)
    assert index.search(vectors[7:8], 201)[1][0].tolist() == [7, *range(100, 300)]
    similarity, positions = index.search(vectors[:60], 9, max_similarity=0.9)
    exact = np.round(vectors[:60].astype(np.float64) @ vectors.astype(np.float64).T, 6)
    exact[exact > 0.9] = -np.inf
    expected = np.stack([np.lexsort((np.arange(400), -row))[:9] for row in exact])
    assert np.array_equal(positions, expected)
    assert np.array_equal(similarity, np.take_along_axis(exact, expected, axis=1))
    similarity, positions = index.search(vectors[:1], 5, max_similarity=-2.0)
    assert (positions == -1).all() and np.isneginf(similarity).all()


def test_an_inverted_file_tells_the_recall_it_has() -> None:
    vectors = unit(6_000, dim=48, groups=40)
    index = build_index(vectors, exact_below=100, seed=0, target_recall=0.9)
    assert index.num_probes
    found = index.search_own(11)[1]
    assert np.array_equal(found[:50], index.search(vectors[:50], 11)[1]) or index.num_probes
    true_recall = recall_of(found, literal(vectors, vectors, 11))
    assert index.measured_recall >= 0.9
    assert true_recall == pytest.approx(index.measured_recall, abs=0.02)
    worse = build_index(vectors, exact_below=100, seed=0, target_recall=0.0)
    assert worse.num_probes <= index.num_probes
    assert worse.measured_recall <= index.measured_recall


def test_recall_counts_what_was_found() -> None:
    assert recall_of(np.array([[1, 2, 3]]), np.array([[3, 2, 9]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("num", [1, 2])
def test_a_corpus_with_hardly_anyone(num: int) -> None:
    found = kept_fields(fit_and_apply(ClusterEmbeddings(balanced=True), pictures(unit(num))))
    assert [one["cluster_id"] for one in found] == [0] * num


def test_bad_settings_are_told() -> None:
    with pytest.raises(InputError, match="samples_per_cluster=0"):
        ClusterEmbeddings(samples_per_cluster=0)
    with pytest.raises(InputError, match=r"slack=1\.0"):
        ClusterEmbeddings(balanced=True, slack=1.0)
    with pytest.raises(InputError, match="balanced=False"):
        ClusterEmbeddings(slack=0.1)


@pytest.mark.parametrize("balanced", [False, True])
def test_cluster_numbers_are_without_gaps(balanced: bool) -> None:
    stage = ClusterEmbeddings(samples_per_cluster=10, balanced=balanced)
    labels = [one["cluster_id"] for one in kept_fields(fit_and_apply(stage, pictures(unit(203))))]
    assert set(labels) == set(range(max(labels) + 1))
    if balanced:
        assert 9 <= np.bincount(labels).min() <= np.bincount(labels).max() <= 12


def test_an_image_belongs_to_the_centroid_of_the_highest_similarity_minus_price() -> None:
    vectors = unit(300)
    centroids, prices = on_grid(unit(7, seed=1)), np.round(np.random.default_rng(0).uniform(0, 0.3, 7), 6)
    labels, similarity = nearest_centroids(vectors, centroids, prices)
    for vector, label, value in zip(vectors.tolist(), labels.tolist(), similarity.tolist(), strict=True):
        exact = [round(math.fsum(a * b for a, b in zip(vector, c, strict=True)), 6) for c in centroids.tolist()]
        assert label == min(range(7), key=lambda one: (round(float(prices[one]) - exact[one], 6), one))
        assert value == exact[label]


@settings(max_examples=15, deadline=None)
@given(num=st.integers(60, 400), slack=st.sampled_from([0.0, 0.1, 0.5]), seed=st.integers(0, 5))
def test_prices_alone_give_the_sizes_but_for_a_few(num: int, slack: float, seed: int) -> None:
    vectors, count = unit(num, seed=seed), max(1, num // 20)
    centroids = on_grid(unit(count, seed=seed + 50))
    free = np.bincount(nearest_centroids(vectors, centroids, np.zeros(count))[0], minlength=count)
    sizes = np.bincount(
        nearest_centroids(vectors, centroids, settled_prices(vectors, centroids, slack))[0], minlength=count
    )
    least, most = size_bounds(num, count, slack)

    def misplaced(found: NDArray[np.int64]) -> int:
        return int((np.maximum(found - most, 0) + np.maximum(least - found, 0)).sum())

    assert misplaced(sizes) <= min(misplaced(free), 0.03 * num)


@pytest.mark.parametrize("balanced", [False, True])
def test_centroids_hold_for_images_of_their_kind_and_not_for_others(balanced: bool, tmp_path: Path) -> None:
    everyone = pictures(unit(808, groups=40))
    stage = ClusterEmbeddings(samples_per_cluster=20, balanced=balanced)
    check_that_each_sample_is_by_itself(stage, everyone[:800], everyone[800:], tmp_path)
    fit = stage.fit(ListedColumns(everyone[:800]))
    assert holds(stage, fit, everyone)
    vectors = unit(808, groups=40)
    vectors[::3] = unit(270, seed=9)
    assert not holds(stage, fit, pictures(vectors))
    near_one_another = unit(808, groups=40)
    near_one_another[::3] = near_one_another[0]
    assert holds(stage, fit, pictures(near_one_another)) != balanced  # near a centroid, but too many


def test_centroids_are_learned_from_a_bounded_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.stages.embedding.cluster_embeddings._MOST_POINTS", 90)
    stage = ClusterEmbeddings(samples_per_cluster=30)
    columns = ListedColumns(pictures(unit(300)))
    assert len(stage._points(columns, 90)) == 90
    assert stage.fit(columns).arrays["shares"].sum() == pytest.approx(1.0)


def test_the_stage_says_beforehand_how_large_clusters_will_be() -> None:
    balanced = ClusterEmbeddings(balanced=True)
    assert balanced.describe_method(6_400).startswith("100 clusters of about 64 samples")
    assert balanced.describe_method(6_450).startswith("101 clusters of about 63 to 64 samples")
    assert (
        dataclasses.replace(balanced, slack=0.25)
        .describe_method(6_400)
        .startswith("100 clusters of about 48 to 80 samples")
    )


def test_vectors_that_are_not_numbers_are_refused() -> None:
    broken = unit(20)
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        build_index(broken, exact_below=50_000, seed=0, target_recall=0.97)
