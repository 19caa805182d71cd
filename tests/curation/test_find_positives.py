"""Likely positives: the pairs of a cluster that pass the thresholds, and lists that updates keep as a rebuild makes them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from curation.selection.scores import unit_rows
from curation.stages.embedding.find_positives import FindPositives
from data_manifests.errors import InputError
from tests.curation.few_samples import directions, uids_of
from tests.curation.index_steps import check_steps, sample_of
from tests.curation.listed_columns import ListedColumns

SURE = {"t2i": 0.72, "t2i_weak": 0.66, "i2i": 0.68, "t2t": 0.75}


def fields(draws: np.random.Generator) -> dict[str, Any]:
    return {
        "image_embedding": directions(draws, 8),
        "text_embeddings": directions(draws, draws.integers(1, 4), 8),
        "cluster_id": int(draws.integers(0, 3)),
        "positive_thresholds": {"sure": SURE},
    }


def few(size: int = 60) -> ListedColumns:
    draws = np.random.default_rng(4)
    return ListedColumns([sample_of(uid, fields(draws)) for uid in uids_of(size)])


def listed(columns: ListedColumns, **settings: int) -> list[list[dict[str, Any]]]:
    stage = FindPositives(**settings)
    found = stage.results(columns, stage.update(columns, None))
    return [json.loads(one["likely_positives"]) for one in found if isinstance(one, dict)]


def test_likely_positives_are_the_pairs_of_a_cluster_that_pass() -> None:
    columns = few()
    found = listed(columns, max_listed=100)
    images = unit_rows(columns.vectors("image_embedding"))
    texts = [unit_rows(sample["text_embeddings"]) for sample in columns.samples]
    clusters = [sample["cluster_id"] for sample in columns.samples]
    num_pairs = 0
    for i in range(60):
        wanted = {}
        for j in range(60):
            it = round(max(float((images[i] @ texts[j].T).max()), float((images[j] @ texts[i].T).max())), 4)
            ii, tt = round(float(images[i] @ images[j]), 4), round(float((texts[i] @ texts[j].T).max()), 4)
            by_rule = {
                "t2i": (it > SURE["t2i"], it),
                "i2i": (ii > SURE["i2i"] and it > SURE["t2i_weak"], ii),
                "t2t": (tt > SURE["t2t"], tt),
            }
            rules = [(rule, similarity) for rule, (passes, similarity) in by_rule.items() if passes]
            if i != j and clusters[i] == clusters[j] and rules:
                wanted[columns.uids[j]] = rules[0]
        assert {one["uid"]: (one["by"], one["similarity"]) for one in found[i]} == wanted
        assert [one["similarity"] for one in found[i]] == sorted((one["similarity"] for one in found[i]), reverse=True)
        num_pairs += len(wanted)
    assert 0 < num_pairs < 60 * 59 / 3
    assert listed(columns, max_listed=2) == [one[:2] for one in found]


def test_an_update_gives_the_state_of_a_rebuild() -> None:
    results = [check_steps(FindPositives(max_listed=most), fields, seed=most) for most in (1, 3, 16)]
    assert all(any(len(json.loads(one["likely_positives"])) > 1 for one in found[-1]) for found in results[1:])  # type: ignore[index]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = listed(few())
    monkeypatch.setattr("curation.stages.embedding.find_positives._SAMPLES_AT_ONCE", 7)
    assert listed(few()) == whole


def test_an_embedding_without_direction_is_refused() -> None:
    columns = few(3)
    broken = {**columns.samples[1].fields, "image_embedding": np.zeros(8, np.float16), "cluster_id": 0}
    samples = [columns.samples[0], sample_of(columns.uids[1], broken)]
    with pytest.raises(InputError, match=f"{columns.uids[1]} has no direction"):
        listed(ListedColumns(samples))


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(InputError, match="max_listed is -1"):
        FindPositives(max_listed=-1)
