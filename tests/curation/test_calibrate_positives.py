"""Thresholds as quantiles of random pairs, and the pairs of a cluster that pass them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from curation.selection.scores import unit_rows
from curation.stages.embedding.calibrate_positives import CalibratePositives
from data_manifests.errors import InputError
from tests.curation.few_samples import FewSamples, directions, uids_of

SETTINGS: dict[str, Any] = {"t2i": 0.95, "t2i_weak": 0.9, "i2i": 0.92, "t2t": 0.95, "num_pairs": 40_000}


def corpus(size: int = 60, clusters: int = 3) -> FewSamples:
    draws = np.random.default_rng(4)
    texts = [directions(draws, draws.integers(1, 4), 8) for _ in range(size)]
    return FewSamples(
        uids_of(size),
        {
            "image_embedding": directions(draws, size, 8),
            "text_embeddings": texts,
            "cluster_id": draws.integers(0, clusters, size).tolist(),
        },
    )


def fitted(stage: CalibratePositives, samples: FewSamples) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    found = [one for one in stage.fit(samples) if isinstance(one, dict)]
    assert all(one["positive_thresholds"] == found[0]["positive_thresholds"] for one in found)
    return found[0]["positive_thresholds"], [json.loads(one["likely_positives"]) for one in found]


def test_thresholds_are_quantiles_of_pairs_of_different_samples() -> None:
    samples = corpus()
    thresholds, _ = fitted(CalibratePositives(**SETTINGS), samples)
    images = unit_rows(samples.array("image_embedding")).astype(np.float64)
    texts = [unit_rows(own).astype(np.float64) for own in samples.column("text_embeddings")]
    i2i, t2i, t2t, weights = [], [], [], []
    for i in range(60):  # every pair of different samples and every pair of their captions, each as likely as drawn
        for j in range(60):
            for b in texts[j] if i != j else ():
                for a in texts[i]:
                    i2i.append(images[i] @ images[j])
                    t2i.append(images[i] @ b)
                    t2t.append(a @ b)
                    weights.append(1 / (len(texts[i]) * len(texts[j])))

    def share_above(numbers: list[float], threshold: float) -> float:
        return float(np.average(np.array(numbers) > threshold, weights=weights))

    sure, doubtful = thresholds["sure"], thresholds["doubtful"]
    for name, numbers in (("t2i", t2i), ("t2i_weak", t2i), ("i2i", i2i), ("t2t", t2t)):
        assert share_above(numbers, sure[name]) == pytest.approx(1 - SETTINGS[name], abs=0.005), name
        assert share_above(numbers, doubtful[name]) == pytest.approx(4 * (1 - SETTINGS[name]), abs=0.01), name
    passed = [
        it > sure["t2i"] or (ii > sure["i2i"] and it > sure["t2i_weak"]) or tt > sure["t2t"]
        for it, ii, tt in zip(t2i, i2i, t2t, strict=True)
    ]
    assert thresholds["sure_share_of_random"] == pytest.approx(np.average(passed, weights=weights), abs=0.01)


def test_likely_positives_are_the_pairs_of_a_cluster_that_pass() -> None:
    samples = corpus()
    thresholds, listed = fitted(CalibratePositives(**SETTINGS, max_listed=100), samples)
    sure = thresholds["sure"]
    images = unit_rows(samples.array("image_embedding"))
    texts = [unit_rows(own) for own in samples.column("text_embeddings")]
    clusters = samples.column("cluster_id")
    num_pairs = 0
    for i in range(60):
        wanted = set()
        for j in range(60):
            it = round(max(float((images[i] @ texts[j].T).max()), float((images[j] @ texts[i].T).max())), 4)
            ii, tt = round(float(images[i] @ images[j]), 4), round(float((texts[i] @ texts[j].T).max()), 4)
            passes = it > sure["t2i"] or (ii > sure["i2i"] and it > sure["t2i_weak"]) or tt > sure["t2t"]
            if i != j and clusters[i] == clusters[j] and passes:
                wanted.add(samples.uids[j])
        assert {one["uid"] for one in listed[i]} == wanted
        assert listed[i] == sorted(listed[i], key=lambda one: (-one["similarity"], one["uid"]))
        num_pairs += len(wanted)
    assert 0 < num_pairs < 60 * 59 / 3
    _, few = fitted(CalibratePositives(**SETTINGS, max_listed=2), samples)
    assert few == [found[:2] for found in listed]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = corpus(clusters=1)
    whole = fitted(CalibratePositives(**SETTINGS), samples)
    monkeypatch.setattr("curation.stages.embedding.calibrate_positives._ROWS_AT_ONCE", 7)
    assert fitted(CalibratePositives(**SETTINGS), samples) == whole


@pytest.mark.parametrize(
    "bad", [{"t2i": 1.0}, {"i2i": 0.0}, {"t2i": 0.9, "t2i_weak": 0.95}, {"doubt": 0.5}, {"num_pairs": 0}]
)
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="allowed:"):
        CalibratePositives(**bad)  # type: ignore[arg-type]


def test_one_sample_has_no_pairs() -> None:
    with pytest.raises(InputError, match="1 samples"):
        CalibratePositives().fit(corpus(1))
