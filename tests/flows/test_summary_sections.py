"""A version's page: contact sheets, neighbours, and how large it can become."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
import pytest
from PIL import Image

from curation.engine.stage import Drop, Field, MapStage
from curation.stages.hygiene.check_images import CheckImages
from data_manifests.manifest import DatasetVersion
from data_manifests.sample import Sample
from flows.pages import version as version_page
from flows.pages.diff import SECTION_LIMITS
from flows.pages.html import SCRIPT
from flows.pages.sections import clusters, duplicates, neighbours, sample_selection, samples
from flows.pages.sections.clusters import draw_sheets
from flows.pages.sections.neighbours import draw_neighbours, neighbour_uids
from flows.pages.sections.sample_selection import MAX_TEXTS, _evenly, select_samples
from flows.pages.thumbnails import EDGE_PX, shrink
from tests.data_manifests.built_versions import Given, build, negative, picture
from tests.flows.pages import assert_self_contained, data_of, page_of

NUM_CLUSTERED = 40


@dataclass(frozen=True)
class Placed(MapStage):
    """Adds embeddings, neighbours and groups as a test wants them."""

    name: ClassVar[str] = "placed"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "attributes")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("image_embedding", "array", publish="sidecar"),
        Field("image_neighbours", publish="sample"),
        Field("duplicate_group", publish="sample"),
    )
    drops: ClassVar[tuple[str, ...]] = ("near_duplicate",)
    source: ClassVar[str] = "the test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        told = [sample.attributes["placed"] for sample in samples]
        return [Drop("near_duplicate", one["like"]) if one["like"] else one["fields"] for one in told]


def vector(number: int) -> list[float]:
    """Return a unit vector near that of its cluster, number % 13."""
    drawn = np.random.default_rng(number % 13).normal(size=8) + 0.4 * np.random.default_rng(number + 100).normal(size=8)
    return (drawn / np.linalg.norm(drawn)).tolist()


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    root = tmp_path_factory.mktemp("placed")
    uids = [picture(number).draw(root / "x.png") for number in range(NUM_CLUSTERED + 1)]
    pictures = []
    for number in range(NUM_CLUSTERED + 1):
        near = [{"uid": uids[(number + step) % NUM_CLUSTERED], "similarity": 1 - step / 10} for step in (3, 1, 2)]
        group = f"g{number}" if number < 2 else ("alike" if number in (5, 6, 7) else "")
        fields = {"image_embedding": vector(number), "image_neighbours": near, "duplicate_group": group}
        like = f"like {uids[4]} <b>" if number == NUM_CLUSTERED else ""
        cluster = 12 if number == 12 else number % 12  # 13 clusters of different sizes
        extra = {"placed": {"fields": fields, "like": like}}
        pictures.append(picture(number, cluster_id=cluster, extra=extra))
    return build(root, "drawn", pictures, (CheckImages(), Given(), Placed()), shard_bytes=8_000)


def index_rows(version: DatasetVersion) -> dict[str, list[Any]]:
    return version.index().to_pydict()


def test_similarities_are_the_means_over_all_pairs(placed: DatasetVersion) -> None:
    rows = index_rows(placed)
    shards = range(len(placed.manifest.body["shards"]))
    assert len(shards) > 1
    points = np.array(
        [item for shard in shards for item in placed.sidecar(shard, ["image_embedding"])["image_embedding"].to_pylist()]
    ).astype(np.float64)
    pairs: dict[Any, list[float]] = {"all": [], "within": []}
    for one in range(len(points)):
        for other in range(one):
            same = float(points[one] @ points[other])
            pairs["all"].append(same)
            if rows["cluster_id"][one] == rows["cluster_id"][other]:
                pairs["within"].append(same)
                pairs.setdefault(rows["cluster_id"][one], []).append(same)
    found = draw_sheets(placed, rows, 0)
    assert found.between == pytest.approx(np.mean(pairs["all"]))
    assert found.within == pytest.approx(np.mean(pairs["within"]))
    for sheet in found.sheets:
        expected = np.mean(pairs[sheet.cluster]) if sheet.cluster in pairs else None
        assert sheet.similarity == (None if expected is None else pytest.approx(expected))
        hard = [
            value for value, own in zip(rows["difficulty"], rows["cluster_id"], strict=True) if own == sheet.cluster
        ]
        assert sheet.difficulty == pytest.approx(np.mean(hard))
        assert sheet.size == len(hard)


def test_ten_clusters_are_shown_the_largest_and_the_smallest_among_them(placed: DatasetVersion) -> None:
    rows = index_rows(placed)
    found = draw_sheets(placed, rows, 0)
    assert (len(found.sheets), found.num_clusters) == (10, 13)
    sizes = [rows["cluster_id"].count(cluster) for cluster in set(rows["cluster_id"])]
    assert (found.sheets[0].size, found.sheets[-1].size) == (max(sizes), min(sizes))
    assert draw_sheets(placed, rows, 0) == found
    seen = {tuple(sheet.cluster for sheet in draw_sheets(placed, rows, seed).sheets) for seed in range(4)}
    assert len(seen) > 1
    for sheet in found.sheets:
        assert all(rows["cluster_id"][rows["uid"].index(uid)] == sheet.cluster for uid in sheet.uids)


def test_clusters_without_embeddings_have_no_similarity(tmp_path: Path) -> None:
    version = build(tmp_path, "drawn", [picture(number) for number in range(6)])
    found = draw_sheets(version, index_rows(version), 0)
    assert len(found.sheets) == 3
    assert found.within is found.between is found.sheets[0].similarity is None
    page = page_of(version)
    assert "All 3 clusters" in page and "mean similarity" not in page
    assert 'id="neighbours"' not in page


def test_neighbours_are_shown(placed: DatasetVersion) -> None:
    read = assert_self_contained(page_of(placed), SCRIPT)
    assert {"samples", "clusters", "neighbours"} <= {item["id"] for item in read.of("section")}
    samples = draw_neighbours(placed, index_rows(placed), 0)
    assert len(samples) == 10
    assert len(neighbour_uids(samples)) == 40
    assert "sample0.9000.8000.700" in re.sub(r"\s", "", read.text), "nearest first"
    assert "no picture" not in read.text


def test_the_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples with more and longer texts than anybody reads: texts are cut, and few samples drawn, evenly."""
    text = "word " * 60 + "ball"
    many = [negative(0, text, len(text) - 4, len(text), f"cat{place}") for place in range(MAX_TEXTS + 5)]
    version = build(tmp_path, "drawn", [picture(number, text, negatives=tuple(many)) for number in range(16)])
    monkeypatch.setattr(sample_selection, "NUM_OF_KINDS", 1)
    monkeypatch.setattr(samples, "NUM_STATIC", 1)
    entries = select_samples(version, index_rows(version), 0).entries
    assert len(entries) == 16 and all(len(entry["t"]) == MAX_TEXTS and entry["m"] == 6 for entry in entries)
    assert max(len(orjson.dumps(text)) for entry in entries for text in entry["t"]) < 1000
    size = max(len(orjson.dumps(entry)) for entry in entries)
    found = select_samples(version, index_rows(version), 0, 4 * size + 100)
    assert 3 <= len(found.entries) <= 4 and found.total == 16 and found.of_kinds == 1
    whole = len(page_of(version))
    for module, name, least in ((version_page, "PAGE_BYTES", whole // 2), (version_page, "MAX_BYTES", 5 * size)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, least)
            page = page_of(version)
            shown = len(data_of(page)["samples"])
            assert 0 < shown < 16 and f"{shown} of 16 samples" in page
            assert name != "PAGE_BYTES" or len(page) < least + 40_000, "style, script and charts come on top"


@pytest.mark.parametrize("total", [1, 2, 7, 64, 1000])
def test_samples_are_drawn_evenly_however_many(total: int) -> None:
    for seed in (0, 3):
        order = list(dict.fromkeys(_evenly(total, seed)))
        assert sorted(order) == list(range(total))
        for wanted in (number for number in (4, 10, 33) if number < total):
            gaps = np.diff(sorted(order[:wanted]))
            assert gaps.max() <= 2.1 * total / wanted + 1


def test_a_page_of_noise_stays_below_ten_megabytes(placed: DatasetVersion) -> None:
    """Samples take what other sections leave; those ask for at most so many pictures, and noise compresses worst."""
    asked = clusters.NUM_CLUSTERS * clusters.CLUSTER_PICTURES
    asked += neighbours.NUM_SAMPLES * (1 + neighbours.MAX_NEIGHBOURS) + duplicates.MAX_DROPPED
    asked += (
        duplicates.MAX_GROUPS * duplicates.MAX_MEMBERS
        + SECTION_LIMITS.edited
        + SECTION_LIMITS.added
        + SECTION_LIMITS.removed
    )
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (EDGE_PX, EDGE_PX, 3), np.uint8))
    path = placed.folder.parent / "noise.png"
    noise.save(path)
    small = shrink(path.read_bytes(), EDGE_PX)
    assert small and len(small[0]) > 4000, "not blurred"
    assert asked * (len(small[0]) * 4 / 3 + 1000) + 100 * len(small[0]) < version_page.PAGE_BYTES < 9.8e6


def test_what_is_seen_first_comes_from_everywhere(placed: DatasetVersion) -> None:
    rows = index_rows(placed)
    found = select_samples(placed, rows, 0)
    first = sorted(rows["uid"].index(entry["u"]) for entry in found.entries[:8])
    assert len(found.entries) == NUM_CLUSTERED and max(np.diff([0, *first, NUM_CLUSTERED])) <= NUM_CLUSTERED // 2
    assert found.entries == select_samples(placed, rows, 0).entries != select_samples(placed, rows, 1).entries
