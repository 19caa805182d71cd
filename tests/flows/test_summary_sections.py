"""The summary page's sections: negatives to be filtered, contact sheets, neighbours; and a real browser."""

from __future__ import annotations

import html as markup
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from curation.stage import Drop, Field, MapStage
from curation.stages.check_images import CheckImages
from data_manifests.manifest import DatasetVersion
from data_manifests.sample import Sample
from flows import cluster_section, duplicates_page, negatives_section, neighbour_section
from flows.cluster_section import draw_sheets
from flows.negatives_section import MAX_NEGATIVES, NUM_PICTURES, SCRIPT, draw_cards
from flows.neighbour_section import draw_neighbours, neighbour_uids
from flows.report import summary_html
from tests.data_manifests.built_versions import Given, Picture, build, negative, picture
from tests.flows.test_report import assert_self_contained

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> \x00\u202e \"'><b>"
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
    page = summary_html(version, None, [])
    assert "All 3 clusters" in page and "mean similarity" not in page
    assert 'id="neighbours"' not in page


def test_neighbours_are_shown(placed: DatasetVersion) -> None:
    read = assert_self_contained(summary_html(placed, None, []), SCRIPT)
    assert {"negatives", "clusters", "neighbours"} <= {item["id"] for item in read.of("section")}
    samples = draw_neighbours(placed, index_rows(placed), 0)
    assert len(samples) == 10
    assert len(neighbour_uids(samples)) == 40
    assert "sample0.9000.8000.700" in re.sub(r"\s", "", read.text), "nearest first"
    assert "no picture" not in read.text


def test_the_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, less in (
        (negatives_section, "NUM_PICTURES", 5), (cluster_section, "CLUSTER_PICTURES", 2), (neighbour_section, "NUM_SAMPLES", 2),
    ):  # fmt: skip
        assert getattr(module, name) > less
        monkeypatch.setattr(module, name, less)
    text = "word " * 300 + "ball"
    many = [negative(0, text, len(text) - 4, len(text), f"cat{place}") for place in range(MAX_NEGATIVES + 30)]
    version = build(tmp_path, "drawn", [picture(number, text, negatives=tuple(many)) for number in range(7)])
    cards = draw_cards(version, 0)
    assert len(cards.samples) == 5
    assert draw_cards(version, 0) == cards
    page = summary_html(version, None, [])
    assert page.count('data-type="attribute"') == 5 * MAX_NEGATIVES
    assert page.count("and 30 more negatives") == 5
    assert max(map(len, re.findall(r'<li class="wrong" data-type.*?</li>', page))) < 1200


def test_a_page_of_noise_stays_below_ten_megabytes(placed: DatasetVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    """All sections together ask for at most so many pictures; noise is what compresses worst."""
    asked = 24 + NUM_PICTURES + cluster_section.NUM_CLUSTERS * cluster_section.CLUSTER_PICTURES
    asked += neighbour_section.NUM_SAMPLES * (1 + neighbour_section.MAX_NEIGHBOURS) + duplicates_page.MAX_DROPPED
    asked += duplicates_page.MAX_GROUPS * duplicates_page.MAX_MEMBERS
    from flows.thumbnails import _shrink

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 640, 3), np.uint8))
    path = placed.folder.parent / "noise.png"
    noise.save(path)
    small = _shrink(path.read_bytes())
    assert small
    texts = NUM_PICTURES * MAX_NEGATIVES * 1200
    assert asked * len(small[0]) * 4 / 3 + texts < 10 * 2**20


def hostile_version(root: Path) -> DatasetVersion:
    swap = negative(0, HOSTILE, 0, 2, "<i>", operation="<swap>", type='"x" y', rule=HOSTILE, difficulty=0.25)
    pictures: list[Picture] = [picture(1, HOSTILE, negatives=(swap,), extra={"note": HOSTILE})]
    for number in range(2, 14):
        caption = f"A grey dog , number {number} ."
        made = [negative(0, caption, 2, 6, "red", difficulty=number / 20)]
        if number % 2:
            made.append(negative(0, caption, 7, 10, "cat", operation="swap", type="object", difficulty=None))
        pictures.append(picture(number, caption, negatives=tuple(made)))
    return build(root, "drawn", pictures)


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    path = root / "page.html"
    path.write_text(summary_html(hostile_version(root), None, []), encoding="utf-8")
    return path


def test_strangers_markup_is_text(hostile_page: Path) -> None:
    page = hostile_page.read_text(encoding="utf-8")
    read = assert_self_contained(page, SCRIPT)
    assert "document.title='owned'" in read.text
    assert "&lt;script&gt;document.title" in page and "<script>document" not in page
    assert {"<swap>", "replace", "swap"} <= {option["value"] for option in read.of("option")}
    assert "</" not in SCRIPT and "innerHTML" not in SCRIPT and "eval" not in SCRIPT


BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine's path")


def opened(page: Path, fragment: str = "", *more: str) -> tuple[str, str]:
    """Return the document after its script ran in a real browser, and what the console said."""
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'browser'}",
        *more, "--virtual-time-budget=2000", "--enable-logging=stderr", "--dump-dom", page.as_uri() + fragment,
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
    return ran.stdout, "\n".join(line for line in ran.stderr.splitlines() if "CONSOLE" in line)


def visible(document: str) -> tuple[int, int, str]:
    """Return how many negatives and cards of the section are not hidden, and what the count says."""
    section = document[document.index('<section id="negatives"') :]
    section = section[: section.index("</section>")]
    items = re.findall(r'<li class="wrong"[^>]*>', section)
    cards = re.findall(r'<article class="card"[^>]*>', section)
    told = re.search(r"<output[^>]*>(.*?)</output>", section)
    assert told
    return sum("hidden" not in item for item in items), sum("hidden" not in card for card in cards), told[1]


@in_a_browser
@pytest.mark.parametrize(
    ("fragment", "negatives", "cards"),
    [
        ("", 19, 13),
        ("#negatives:type=object", 6, 6),
        ("#negatives:operation=replace&min=0.2&max=0.4", 5, 5),
        ("#negatives:min=0", 13, 13),
        ("#negatives:q=RED++dog", 12, 12),
        ("#negatives:q=number+7&type=attribute", 1, 1),
        ("#negatives:operation=%3Cswap%3E", 1, 1),
        ("#negatives:type=no+such+type&q=%00%ff", 0, 0),
        ("#negatives:type=<script>alert(1)</script>", 19, 13),
    ],
)
def test_filters_in_a_browser(hostile_page: Path, fragment: str, negatives: int, cards: int) -> None:
    document, console = opened(hostile_page, fragment)
    assert visible(document) == (negatives, cards, f"{negatives} of 19 negatives, {cards} pictures")
    assert console == ""
    assert "<title>drawn@1.0.0</title>" in document


@in_a_browser
def test_controls_work_and_no_other_script_runs(hostile_page: Path, tmp_path: Path) -> None:
    """Typing, choosing and the button, driven from a frame around the page; a smuggled script must not run."""
    text = hostile_page.read_text(encoding="utf-8")
    smuggled = text.replace("<main", "<script>document.title='owned'</script><main", 1)
    assert smuggled != text
    page = tmp_path / "page.html"
    page.write_text(smuggled, encoding="utf-8")
    document, console = opened(page)
    assert "<title>drawn@1.0.0</title>" in document
    assert "Content Security Policy" in console, "the browser says that it refused the script"

    frame = tmp_path / "frame.html"
    steps = """
      const seen = [], frame = document.querySelector("iframe");
      frame.onload = () => {
        const inner = frame.contentDocument, get = (name) => inner.querySelector(`[name=${name}]`);
        const put = (name, value) => {
          get(name).value = value;
          get(name).dispatchEvent(new Event("input", { bubbles: true }));
          seen.push(inner.getElementById("filter-count").textContent + " " + frame.contentWindow.location.hash);
        };
        put("type", "attribute");
        put("min", "0.5");
        put("q", "number 12");
        inner.getElementById("filter-reset").click();
        seen.push(inner.getElementById("filter-count").textContent + " " + frame.contentWindow.location.hash);
        document.querySelector("pre").textContent = seen.join("|");
      };
      frame.src = "page.html";
    """
    frame.write_text(f"<!doctype html><iframe></iframe><pre></pre><script>{steps}</script>", encoding="utf-8")
    document, _ = opened(frame, "", "--allow-file-access-from-files")
    found = re.search(r"<pre>(.*?)</pre>", document)
    assert found
    assert markup.unescape(found[1]).split("|") == [
        "12 of 19 negatives, 12 pictures #negatives:type=attribute",
        "4 of 19 negatives, 4 pictures #negatives:type=attribute&min=0.5",
        "1 of 19 negatives, 1 pictures #negatives:type=attribute&min=0.5&q=number+12",
        "19 of 19 negatives, 13 pictures #negatives",
    ]
