"""Thresholds as quantiles of random pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.selection.scores import CaptionedImages, unit_rows
from curation.stages.embedding.calibrate_positives import CalibratePositives
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from tests.curation.few_samples import directions, uids_of
from tests.curation.fitted_stages import (
    check_that_each_sample_is_by_itself,
    fit_and_apply,
    holds,
    kept_fields,
    samples_of,
)
from tests.curation.listed_columns import ListedColumns

SETTINGS: dict[str, Any] = {"t2i": 0.95, "t2i_weak": 0.9, "i2i": 0.92, "t2t": 0.95, "num_pairs": 40_000}


def samples(size: int = 60) -> list[Sample]:
    draws = np.random.default_rng(4)
    images, texts = directions(draws, size, 8), [directions(draws, draws.integers(1, 4), 8) for _ in range(size)]
    return samples_of(uids_of(size), image_embedding=images, text_embeddings=texts)


def test_thresholds_are_quantiles_of_pairs_of_different_samples() -> None:
    found = [
        one["positive_thresholds"] for one in kept_fields(fit_and_apply(CalibratePositives(**SETTINGS), samples()))
    ]
    assert found == found[:1] * 60
    thresholds = found[0]
    images = unit_rows(np.stack([one["image_embedding"] for one in samples()])).astype(np.float64)
    texts = [unit_rows(one["text_embeddings"]).astype(np.float64) for one in samples()]
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
        CalibratePositives().fit(ListedColumns(samples(1)))


def test_thresholds_hold_for_samples_of_their_kind_and_not_for_others(tmp_path: Path) -> None:
    everyone = samples(606)
    stage = CalibratePositives(**SETTINGS)
    check_that_each_sample_is_by_itself(stage, everyone[:600], everyone[600:], tmp_path)
    fit = stage.fit(ListedColumns(everyone[:600]))
    assert len(fit.values["uids"]) == 256
    assert holds(stage, fit, everyone)
    images, texts = ([one[name] for one in everyone] for name in ("image_embedding", "text_embeddings"))
    other = [
        image * np.array([1, -1] * 4, np.float16) if place % 3 == 0 else image for place, image in enumerate(images)
    ]
    assert not holds(stage, fit, samples_of(uids_of(606), image_embedding=other, text_embeddings=texts))
    turned = [-own if place % 3 == 0 else own for place, own in enumerate(texts)]
    assert not holds(stage, fit, samples_of(uids_of(606), image_embedding=images, text_embeddings=turned))


def test_pairs_come_from_a_bounded_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.stages.embedding.calibrate_positives._MOST_IMAGES", 2)
    everyone, stage = samples(), CalibratePositives(**SETTINGS)
    chosen = CaptionedImages.chosen(ListedColumns(everyone), 2, 0, "calibrate_positives", "images")
    similarities = stage._random_pairs(chosen)
    assert len(np.unique(similarities["i2i"].round(6))) == 1
    assert len(stage.fit(ListedColumns(everyone)).values["uids"]) == 2
