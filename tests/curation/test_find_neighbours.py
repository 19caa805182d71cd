"""Neighbours: the nearest others, and lists that updates keep as a rebuild makes them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.stages.embedding.find_neighbours import FindNeighbours
from curation.vectors.index import VectorIndex
from curation.vectors.nearest_lists import nearest_lists
from data_manifests.errors import InputError
from tests.curation.few_samples import directions, uids_of
from tests.curation.index_steps import check_steps, sample_of
from tests.curation.listed_columns import ListedColumns


def unit(num: int) -> NDArray[np.float16]:
    return directions(np.random.default_rng(0), num, 24)


def columns_of(vectors: NDArray[np.float16]) -> ListedColumns:
    """Return samples with these image embeddings; each has two captions, the same ones in reverse order."""
    captions = np.stack([vectors[::-1], vectors[::-1]], axis=1)
    rows = zip(uids_of(len(vectors)), vectors, captions, strict=True)
    return ListedColumns(
        [sample_of(uid, {"image_embedding": image, "text_embeddings": texts}) for uid, image, texts in rows]
    )


def found(vectors: NDArray[np.float16], **settings: Any) -> list[dict[str, Any]]:
    stage, columns = FindNeighbours(**settings), columns_of(vectors)
    results = list(stage.results(columns, stage.update(columns, None)))
    return [result for result in results if isinstance(result, dict)]


def test_neighbours_leave_oneself_out_and_break_ties_by_uid() -> None:
    vectors = unit(60)
    vectors[[5, 9]] = vectors[2]
    results = found(vectors, num_neighbours=2)
    own = results[9]["image_neighbours"]
    assert [item["uid"] for item in own] == [f"{2:032x}", f"{5:032x}"]
    exact = float(np.round(vectors[2].astype(np.float64) @ vectors[2].astype(np.float64), 6))
    assert own == [{"uid": item["uid"], "similarity": exact} for item in own]
    texts = results[50]["text_neighbours"]  # row 9 of the images
    assert [item["uid"] for item in texts] == [f"{59 - 5:032x}", f"{59 - 2:032x}"]
    usage = {"image_recall_per_10000": 10_000, "text_recall_per_10000": 10_000}
    assert [result["neighbour_usage"] for result in results] == [usage, *[{}] * 59]


def test_copies_can_be_left_out() -> None:
    vectors = unit(60)
    vectors[3:40] = vectors[2]
    for number, result in enumerate(found(vectors, num_neighbours=4, max_similarity=0.999)):
        similarity = np.round(vectors.astype(np.float64) @ vectors[number].astype(np.float64), 6)
        allowed = [place for place in range(60) if place != number and similarity[place] <= 0.999]
        expected = sorted(allowed, key=lambda place: (-similarity[place], place))[:4]
        assert [int(item["uid"], 16) for item in result["image_neighbours"]] == expected


@pytest.mark.parametrize("num", [1, 2])
def test_hardly_any_samples(num: int) -> None:
    assert [len(result["image_neighbours"]) for result in found(unit(num))] == [num - 1] * num


def draw(draws: np.random.Generator) -> dict[str, Any]:
    """Draw a sample; a third are copies of one image, so that there are ties."""
    image, copied = directions(draws, 8), directions(np.random.default_rng(1), 8)
    texts = directions(draws, int(draws.integers(1, 4)), 8)
    return {"image_embedding": copied if draws.random() < 0.3 else image, "text_embeddings": texts}


@pytest.mark.parametrize("num_neighbours", [1, 3, 60])
@pytest.mark.parametrize("max_similarity", [1.0, 0.9])
def test_an_update_gives_the_state_of_a_rebuild(
    num_neighbours: int, max_similarity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = FindNeighbours(num_neighbours=num_neighbours, max_similarity=max_similarity)
    results = check_steps(stage, draw, seed=num_neighbours)
    assert all(len(result["text_neighbours"]) for result in results[-1])  # type: ignore[arg-type, index]
    for name in ("_ROWS_AT_ONCE", "_NEW_AT_ONCE"):  # blocks do not matter
        monkeypatch.setattr(f"curation.vectors.nearest_lists.{name}", 5)
    assert check_steps(stage, draw, seed=num_neighbours) == results


def test_an_update_compares_only_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, search = list[int](), VectorIndex.search

    def counted(self: VectorIndex, queries: NDArray[Any], *rest: Any) -> Any:
        asked.append(len(queries))
        return search(self, queries, *rest)

    monkeypatch.setattr(VectorIndex, "search", counted)
    check_steps(FindNeighbours(), draw, seed=5)
    assert min(asked) < 10 < max(asked)


def test_no_vectors_have_no_lists() -> None:
    assert list(nearest_lists(VectorIndex(np.zeros((0, 4), np.float16)), 3).by_row()) == []


def test_a_large_data_set_is_searched_as_a_whole() -> None:
    vectors = unit(600)
    columns = columns_of(vectors)
    exact, large = FindNeighbours(), FindNeighbours(exact_below=100)
    state = large.update(columns, None)
    assert state.values["recalls"]["image"] >= large.target_recall
    both = [list(stage.results(columns, stage.update(columns, None))) for stage in (exact, large)]
    same = [one["image_neighbours"] == other["image_neighbours"] for one, other in zip(*both, strict=True)]  # type: ignore[index]
    assert np.mean(same) > 0.8


def test_the_stage_says_beforehand_which_index_it_takes() -> None:
    assert FindNeighbours().describe_method(100).startswith("every pair")
    assert FindNeighbours().describe_method(50_000).startswith("inverted file")
    assert dataclasses.replace(FindNeighbours(), exact_below=99).describe_method(100).startswith("inverted file")


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="num_neighbours=0"):
        FindNeighbours(num_neighbours=0)
