"""Thresholds as quantiles of random pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curation.selection.scores import unit_rows
from curation.stages.embedding.calibrate_positives import CalibratePositives
from data_manifests.errors import InputError
from tests.curation.few_samples import FewSamples, directions, uids_of

SETTINGS: dict[str, Any] = {"t2i": 0.95, "t2i_weak": 0.9, "i2i": 0.92, "t2t": 0.95, "num_pairs": 40_000}


def corpus(size: int = 60) -> FewSamples:
    draws = np.random.default_rng(4)
    texts = [directions(draws, draws.integers(1, 4), 8) for _ in range(size)]
    return FewSamples(uids_of(size), {"image_embedding": directions(draws, size, 8), "text_embeddings": texts})


def fitted(stage: CalibratePositives, samples: FewSamples) -> dict[str, Any]:
    found = [one["positive_thresholds"] for one in stage.fit(samples) if isinstance(one, dict)]
    assert found == found[:1] * len(samples.uids)
    return dict(found[0])


def test_thresholds_are_quantiles_of_pairs_of_different_samples() -> None:
    samples = corpus()
    thresholds = fitted(CalibratePositives(**SETTINGS), samples)
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


@pytest.mark.parametrize(
    "bad", [{"t2i": 1.0}, {"i2i": 0.0}, {"t2i": 0.9, "t2i_weak": 0.95}, {"doubt": 0.5}, {"num_pairs": 0}]
)
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="allowed:"):
        CalibratePositives(**bad)  # type: ignore[arg-type]


def test_one_sample_has_no_pairs() -> None:
    with pytest.raises(InputError, match="1 samples"):
        CalibratePositives().fit(corpus(1))
