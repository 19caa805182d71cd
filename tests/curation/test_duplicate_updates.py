"""Duplicates and leaks: updates give the state and the results of a rebuild."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from curation.dedup.evaluation_sets import EvaluationSet, EvaluationSets
from curation.dedup.matching import ImageSignatures
from curation.dedup.perceptual_hash import hash_grey
from curation.engine.stage import Drop
from curation.stages.hygiene.find_duplicates import FindDuplicates
from curation.stages.hygiene.remove_leaks import RemoveLeaks
from data_manifests.errors import InputError
from tests.curation.few_samples import directions
from tests.curation.index_steps import check_steps, sample_of
from tests.curation.listed_columns import ListedColumns
from tests.curation.test_dedup import noise

PICTURES = [noise(seed)[cut : 120 - cut] for seed in range(12) for cut in (0, 0, 3)] + [np.full((64, 64), 90, np.uint8)]
"""Pictures, a copy of each with the same hashes, and one with another crop; and a flat one."""

HASHES = [hash_grey(picture) for picture in PICTURES]
VECTORS = directions(np.random.default_rng(2), len(PICTURES), 8)
WORDS = ("a dog runs on the wet grass", "a dog runs on the wett grass", "two men sit at a table", "a red bus")


def draw(draws: np.random.Generator) -> dict[str, Any]:
    place = int(draws.integers(0, len(PICTURES)))
    own = directions(draws, 8)
    return {
        "captions": tuple(f"{WORDS[draws.integers(0, 4)]} number {draws.integers(0, 20)}" for _ in range(2)),
        "split": (None, "train", "test")[draws.integers(0, 3)],
        "image_info": {"width": 100, "height": int(draws.integers(90, 93))},
        "hash_windows": HASHES[place].windows.astype(">u8").tobytes().hex(),
        "thumbnail": HASHES[place].thumbnail.astype(np.float16),
        "image_embedding": VECTORS[place] if draws.random() < 0.5 else own,
    }


@dataclass(frozen=True)
class DrawnSets(EvaluationSets):
    """Evaluation sets whose signatures are drawn."""

    def signatures(self, number: int, *, embedded: bool) -> ImageSignatures:
        uids = [uid for uid, _ in self.sets[number].items][1:]  # the first one could not be decoded
        draws = np.random.default_rng(number)
        samples = [draw(draws) for _ in uids]
        vectors = np.stack([sample["image_embedding"] for sample in samples]) if embedded else None
        thumbnails = np.stack([sample["thumbnail"] for sample in samples])
        return ImageSignatures(uids, [sample["hash_windows"] for sample in samples], thumbnails, vectors)


def evaluation_set(name: str, size: int) -> EvaluationSet:
    return EvaluationSet(name, "", tuple((f"{name}{number:030x}", f"{number}.jpg") for number in range(size)))


SETS = DrawnSets((evaluation_set("ee", 6), evaluation_set("dd", 4)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"embeddings": True},
        {"embeddings": True, "closest": 0.3, "similarity_alone": 0.99, "keep": "one"},
        {"keep": "one", "caption_share": 0.2, "largest_group": 3},
    ],
)
def test_duplicates(settings: dict[str, Any]) -> None:
    results = check_steps(FindDuplicates(**settings), draw, seed=1)
    rows = [row for step in results for row in step]
    grouped = [row for row in rows if isinstance(row, Drop) or row["duplicate_group"]]
    assert 0 < len(grouped) < len(rows)
    assert any(isinstance(row, Drop) for row in grouped) == (settings.get("keep") == "one")
    evidence = [row["duplicate_match"]["by"] for row in grouped if isinstance(row, dict)]
    assert ["hash"] in evidence
    assert any("embedding" in by for by in evidence) == settings.get("embeddings", False)


@pytest.mark.parametrize(
    "settings", [{}, {"embeddings": True}, {"embeddings": True, "closest": 0.3, "similarity_alone": 0.9}]
)
def test_leaks(settings: dict[str, Any]) -> None:
    results = check_steps(RemoveLeaks(SETS, **settings), draw, seed=1)
    rows = [row for step in results for row in step]
    assert {row.detail.split()[0] for row in rows if isinstance(row, Drop)} == {"ee", "dd"}
    assert {row["leak_checked"] for row in rows if isinstance(row, dict)} == {0, 10}


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_undecodable_evaluation_image_leaks_by_its_bytes(split: str) -> None:
    draws, uid = np.random.default_rng(7), SETS.sets[0].items[0][0]
    rows = {f"{number:032x}": draw(draws) for number in range(20)}
    rows[uid] = draw(draws) | {"split": split, "hash_windows": ""}
    columns = ListedColumns([sample_of(name, fields) for name, fields in rows.items()])
    stage = RemoveLeaks(SETS)
    results = dict(zip(columns.uids, stage.results(columns, stage.update(columns, None)), strict=True))
    leak = Drop("leak", f"ee 0.jpg {uid}: by uid, the same bytes")
    assert results[uid] == (leak if split == "train" else {"leak_checked": 0})


def test_the_order_of_the_sets_does_not_matter() -> None:
    draws = np.random.default_rng(3)
    columns = ListedColumns([sample_of(f"{number:032x}", draw(draws)) for number in range(20)])
    alone = RemoveLeaks(DrawnSets(SETS.sets[:1]))
    assert alone.fingerprint() != RemoveLeaks(SETS).fingerprint()
    turned = RemoveLeaks(DrawnSets(SETS.sets[::-1]))
    assert turned.fingerprint() == RemoveLeaks(SETS).fingerprint()
    names = [f"set_{place}_items" for place in (0, 1)]
    sizes = [[len(stage.update(columns, None).arrays[name]) for name in names] for stage in (RemoveLeaks(SETS), turned)]
    assert sizes == [[3, 5], [3, 5]]


def test_a_data_set_that_is_all_leaks_is_refused() -> None:
    uids = [uid for uid, _ in SETS.sets[0].items]
    draws = np.random.default_rng(3)
    columns = ListedColumns([sample_of(uid, draw(draws) | {"split": "train"}) for uid in uids])
    stage = RemoveLeaks(SETS)
    with pytest.raises(InputError, match="every sample of the data set is in an evaluation set"):
        list(stage.results(columns, stage.update(columns, None)))
