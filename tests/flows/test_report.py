"""Pages and terminal output: complete, escaped, self-contained, and plain where they must be."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image
from rich.console import Console

from curation.stages.hygiene.check_images import CheckImages
from data_manifests.diff import VersionDiff, diff_versions
from data_manifests.manifest import DatasetVersion, Manifest
from data_manifests.text_diff import diff_words
from flows.pages.charts import (
    MAX_BARS,
    MAX_POINTS,
    ChartValue,
    PlaneCurve,
    bar_chart,
    category_chart,
    group_rare,
    histogram,
    interval_chart,
    line_chart,
    plane_chart,
    wilson,
)
from flows.pages.diff import diff_html
from flows.pages.html import SCRIPT, Html, diff_markup, link_papers, markup, page, table, tag
from flows.pages.thumbnails import EDGE_PX, Thumbnails
from flows.terminal.diff import print_diff
from flows.terminal.versions import print_version
from tests.data_manifests.built_versions import Given, Picture, build, negative, picture
from tests.flows.pages import assert_self_contained, catalog_of, page_of

HOSTILE = '<script>alert("x")</script> & \x1b]0;owned\x07 \u202egnirts <img src=http://evil.example/p.png onerror=x>'
Versions = tuple[DatasetVersion, DatasetVersion, VersionDiff]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    root = tmp_path_factory.mktemp("report")
    pictures = [picture(number) for number in range(30)]
    hostile = picture(7, HOSTILE, "One ball on a plain ground", extra={"note": HOSTILE})
    changed = [
        picture(3, "A shiny orange ball, number 3 .", "One ball on a plain ground"),
        hostile,
        dataclasses.replace(picture(9), cluster_id=1, difficulty=0.9),
    ]
    rest = [item for item in pictures if item.number not in (0, 3, 7, 9)]
    old = build(root, "drawn", pictures)
    new = build(root, "drawn", [*rest, *changed, picture(40)], (CheckImages(), Given(strength=0.5)))
    return old, new, diff_versions(old, new)


def test_diff_page_shows_what_changed(versions: Versions) -> None:
    old, new, diff = versions
    html = diff_html(diff, old, new)
    read = assert_self_contained(html)
    assert "drawn@1.0.0 → drawn@2.0.0" in read.text
    assert "<ins>shiny</ins>" in html
    assert "<script>alert" in read.text, "a stranger's markup is shown as text"
    assert "<script" not in html
    moved = len(diff.clusters.moved) if diff.clusters else 0
    assert len(read.of("img")) == len(diff.edited) + len(diff.added) + len(diff.removed) + moved > 4
    for expected in ("config.strength", "1.0", "0.5", "40.png", "0.png", "striped", "words per caption", "difficulty"):
        assert expected in read.text
    assert "prefers-color-scheme: dark" in html


def test_removed_samples_show_the_old_picture(versions: Versions) -> None:
    old, new, diff = versions
    with Thumbnails(old, [diff.removed[0].uid]) as before:
        expected = before.picture(diff.removed[0].uid, diff.removed[0].caption)
    assert expected in diff_html(diff, old, new)


def test_empty_diff_page(versions: Versions) -> None:
    old, _, _ = versions
    html = diff_html(diff_versions(old, old), old, old)
    assert "Nothing differs." in assert_self_contained(html).text
    assert "<img" not in html


def test_pictures_of_a_large_diff_are_bounded(tmp_path: Path) -> None:
    old = build(tmp_path, "drawn", [picture(number) for number in range(150)], shard_bytes=2**20)
    others = [picture(number, f"Text {number}") for number in range(90)]
    new = build(tmp_path, "drawn", [*others, *(picture(number) for number in range(200, 260))], shard_bytes=2**20)
    html = diff_html(diff_versions(old, new), old, new)
    read = assert_self_contained(html)
    assert 100 < len(read.of("img")) <= 200
    assert "10 more are not shown" in read.text
    assert "15 more are not shown" in read.text


def test_summary_page(versions: Versions) -> None:
    _, new, _ = versions
    run = {
        "finished": "2026-01-01T00:00:00",
        "cores": 2,
        "seconds": {"stages": 1.5},
        "stages": [{"stage": "given", "computed": 29, "reused": 1, "wall_s": 0.25}],
    }
    catalog = catalog_of(new)
    record = catalog.manifests / "drawn" / "2.0.0.run.json"
    record.write_bytes(orjson.dumps(run))
    folder = new.folder.parent.parent.parent / "run"
    folder.mkdir()
    parts: dict[str, Any] = {name: {} for name in ("manifest", "model", "recipe", "config")}
    (folder / "run.json").write_bytes(orjson.dumps(parts))
    losses = [{"step": step, "loss": 5.0 / (step + 1), "objective": {"a": 1.0, "b": step / 7}} for step in range(2000)]
    log = [orjson.dumps(line) + b"\n" for line in [*losses, {"step": 2000, "loss": None}]]
    (folder / "log.jsonl").write_bytes(b"".join(log) + b'{"step": 2001, "los')
    columns = [
        {"label": label, "on": "scenes:5", "model": "m", "metrics": {"image_to_text": {"r1": r1}, "rank": 3}}
        for label, r1 in (("before", 0.25), ("after", 0.75))
    ]
    html = page_of(new, evaluations=columns, run=folder)
    record.unlink()
    read = assert_self_contained(html, SCRIPT)
    assert len(html) < 3 * 2**20
    assert len(read.of("img")) > 24
    for expected in (
        "drawn@2.0.0",
        "given",
        "strength = 0.5",
        "29 computed, 1 reused",
        "image to text, r1",
        "+0.5000",
        "Cluster 0",
        "replace adjective",
        "1.5 s",
        "after drawn@1.0.0",
        "Against its parent drawn@1.0.0",
    ):
        assert expected in read.text
    assert "<ins>striped</ins>" in html
    sections = [item["id"] for item in read.of("section")]
    assert sections == [
        "samples",
        "clusters",
        "results",
        "training",
        "statistics",
        "lineage",
        "changes",
        "words",
        "record",
    ]
    drawn = [len((line["points"] or "").split()) for line in read.of("polyline")]
    assert drawn == [MAX_POINTS] * 3, "the loss, and two objectives in one chart"


def test_versions_made_before_something_was_counted_are_still_shown(versions: Versions, capsys: Any) -> None:
    _, new, _ = versions
    body = {key: value for key, value in new.manifest.body.items() if key != "fingerprint"}
    body["statistics"] = {"caption_words": body["statistics"]["caption_words"], "image_bytes": 1}
    body["counts"] = {name: body["counts"][name] for name in ("records", "samples", "captions", "negatives", "dropped")}
    old = DatasetVersion(Manifest.seal(body), new.folder)
    read = assert_self_contained(page_of(old), SCRIPT)
    assert "Words in a caption" in read.text and "Splits" not in read.text
    print_version(old, as_json=False)
    assert "0 views" in capsys.readouterr().out


def test_summary_of_a_version_without_stages(tmp_path: Path) -> None:
    version = build(tmp_path, "plain", [picture(number) for number in range(3)], (CheckImages(),))
    read = assert_self_contained(page_of(version), SCRIPT)
    headings = {attributes["id"] for attributes in read.of("section")}
    assert headings == {"samples", "statistics", "lineage", "words", "record"}
    assert len(read.of("article")) == 3


def test_picture_that_cannot_be_decoded_is_said_to_be_so(tmp_path: Path) -> None:
    version = build(tmp_path, "drawn", [picture(1), picture(2)], shard_bytes=2**20)
    row = version.index().to_pylist()[0]
    data = bytearray((version.folder / "00000.tar").read_bytes())
    data[row["image_offset"] : row["image_offset"] + 40] = bytes(40)
    (version.folder / "00000.tar").write_bytes(data)
    read = assert_self_contained(page_of(version), SCRIPT)
    assert "picture cannot be decoded" in read.text
    with Thumbnails(version, ["0" * 32]) as pictures:
        assert "no picture" in pictures.picture("0" * 32, "x")


def test_thumbnails_are_small(versions: Versions) -> None:
    _, new, _ = versions
    uid = new.index(["uid"])["uid"][0].as_py()
    with Thumbnails(new, [uid]) as pictures:
        shown = pictures.picture(uid, 'a "quoted" <text>')
    match = re.search(r'src="data:image/webp;base64,([^"]+)" alt="a &quot;quoted&quot; &lt;text&gt;"', shown)
    assert match
    with Image.open(io.BytesIO(base64.b64decode(match[1]))) as image:
        assert (max(image.size), image.format) == (EDGE_PX, "WEBP")


def printed(diff: VersionDiff, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=200, **options)
    print_diff(diff, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_terminal_without_colours_marks_words(versions: Versions) -> None:
    text = printed(versions[2])
    assert "caption 0, changed: A {+shiny+} orange ball, number 3 ." in text
    assert "[-A grey ball, number 7 .-]" in text
    assert "30 → 30 samples: 1 added, 1 removed, 3 edited" in text
    for expected in ("+ 40.png", "- 0.png", "config.strength", "negatives in samples of both", "difficulty: "):
        assert expected in text


def test_terminal_is_not_steered_by_captions(versions: Versions) -> None:
    for text in (printed(versions[2]), re.sub(r"\x1b\[[0-9;]*m", "", printed(versions[2], force_terminal=True))):
        assert '<script>alert("x")</script>' in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)


def test_terminal_colours_words(versions: Versions) -> None:
    text = printed(versions[2], force_terminal=True, color_system="standard", legacy_windows=False)
    assert "\x1b[4;32mshiny\x1b[0m" in text
    assert "{+" not in text


def test_terminal_says_when_nothing_differs(versions: Versions) -> None:
    assert "nothing differs" in printed(diff_versions(versions[0], versions[0]))


def test_markup_escapes_by_construction() -> None:
    made = tag("p", "<b>", Html("<i>x</i>"), class_="a", title='"<')
    assert made == '<p class="a" title="&quot;&lt;">&lt;b&gt;<i>x</i></p>'
    assert markup("a & b") == "a &amp; b"
    assert isinstance(markup(markup("&")), Html)
    assert markup(markup("&")) == "&amp;"
    assert "<td>&lt;x&gt;</td>" in table(("<h>",), [("<x>",)])
    assert "<title>&lt;/title&gt;</title>" in page("</title>", "", [])
    shown = diff_markup(diff_words("a <b> dog", "a <i> dog"))
    assert shown == '<span class="text" dir="auto">a &lt;<del>b</del> <ins>i</ins>&gt; dog</span>'


def test_papers_are_links_and_nothing_else_is() -> None:
    told = link_papers("Oh 2024, EMNLP, arXiv 2410.05210; <b>arXiv 1.2</b> javascript:arXiv 12")
    assert told.count("<a ") == 1 and 'href="https://arxiv.org/abs/2410.05210"' in told
    assert "&lt;b&gt;arXiv 1.2" in told


def test_charts_of_nothing_are_nothing() -> None:
    assert (
        histogram([], "x")
        == bar_chart([])
        == line_chart({"a": [(1, 2)]}, "x", (0, 1))
        == plane_chart([], "x", "y", None)
        == interval_chart([], "x")
        == table(("a",), [])
        == ""
    )
    flat = line_chart({"a": [(0, 1), (1, 1)]}, "flat", (0, 1)) + interval_chart([ChartValue("a", 0.0)], "x")
    assert "nan" not in flat + histogram([("a", 0)], "zero") + bar_chart([("a", 0)])
    heights = re.findall(r'height="([0-9.]+)"', histogram([("a", 1), ("b", 4)], "x"))
    assert float(heights[1]) == pytest.approx(4 * float(heights[0]))


def test_long_lists_of_bars_are_summed_up() -> None:
    made = bar_chart([(f"b{number}", 100 - number) for number in range(20)])
    assert made.count("<tr>") == MAX_BARS and "other (9 categories)" in made
    assert str(sum(100 - number for number in range(11, 20))) in made


def test_rare_categories_are_one_and_none_is_hidden_alone() -> None:
    counts = {"b": 30, "a": 30, "c": 19, "d": 1}
    assert group_rare(counts) == {"b": ["b"], "a": ["a"], "other (2 categories)": ["c", "d"]}
    assert list(group_rare({"a": 30, "c": 19})) == ["a", "c"] and list(group_rare({"c": 3, "d": 1})) == ["c", "d"]
    made = category_chart(counts)
    assert re.findall('scope="row">([^<]*)', made) == ["a", "b", "other (2 categories)"] and ">20<" in made
    many = category_chart({f"b{number:02}": 100 - number for number in range(99)})
    assert many.count("<tr>") == MAX_BARS and "other (88 categories)" in many
    assert str(sum(100 - number for number in range(11, 99))) in many.replace(",", "")


def test_wilsons_interval() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_curves_in_a_plane_are_to_scale_and_mark_their_point() -> None:
    chosen = (ChartValue("share 0.5", 0.3, 0.2, 0.4), ChartValue("share 0.5", 0.6, 0.5, 0.7))
    drawn = plane_chart([PlaneCurve("<a>", [(0.2, 0.5), (0.3, 0.6), (0.4, 0.7)], chosen)], "R@1", "foils", (0.2, 0.5))
    places = [tuple(map(float, pair.split(","))) for pair in re.findall('points="([^"]+)"', drawn)[0].split()]
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.11)
    assert places[0][1] > places[1][1] > places[2][1], "more is higher"
    ends = [
        tuple(map(float, found))
        for found in re.findall('x1="([^"]+)" x2="([^"]+)" y1="([^"]+)" y2="([^"]+)" class="cross', drawn)
    ]
    assert ends[0][:2] == (places[0][0], places[2][0]), "the interval of x"
    assert ends[1][2:] == (places[0][1], places[2][1]), "the interval of y"
    assert "&lt;a&gt;" in drawn and "at share 0.5: ↑ 60.0, → 30.0" in drawn and drawn.count('r="5"') == 1
    unmarked = plane_chart([PlaneCurve("b", [(0.2, 0.5)], None)], "R@1", "foils", None)
    assert "no share is reported" in unmarked and 'r="5"' not in unmarked and "cross" not in unmarked


def test_lines_share_their_axes() -> None:
    drawn = line_chart({"low": [(0, 0.0), (10, 1.0)], "high": [(0, 1.0), (5, 4.0)]}, "x", (0, 10))
    places = [
        [tuple(map(float, pair.split(","))) for pair in found.split()]
        for found in re.findall('points="([^"]+)"', drawn)
    ]
    (left, bottom), (right, quarter) = places[0]
    assert places[1][0] == (left, quarter) and places[1][1][0] == pytest.approx((left + right) / 2)
    assert bottom - quarter == pytest.approx((bottom - places[1][1][1]) / 4, abs=0.1)
    assert "ends at 4" in drawn and "step 0" in drawn
    many = line_chart({f"l{number}": [(0, number), (1, number)] for number in range(15)}, "x", (0, 1))
    assert many.count("points=") == 12 and "and 3 more" in many and 'stroke-dasharray="5 3"' in many


def test_whiskers_are_to_scale() -> None:
    numbers = [ChartValue("one", 0.4, 0.3, 0.5), ChartValue("two", 0.6, 0.55, 0.7, bad=True), ChartValue("three", 0.5)]
    drawn = interval_chart(numbers, "x", (0.5, "chance"))
    dots = [float(place) for place in re.findall(r'cx="([0-9.]+)"', drawn)]
    low, high = (
        [float(place) for place in found]
        for found in zip(*re.findall(r'x1="([0-9.]+)" x2="([0-9.]+)"[^>]*whisker', drawn), strict=True)
    )
    scale = (dots[1] - dots[0]) / 0.2
    assert [(one - dots[0]) / scale for one in (*low, *high)] == pytest.approx([-0.1, 0.15, 0.1, 0.3], abs=0.003)
    assert dots[2] == pytest.approx(float(re.findall(r'<line x1="([0-9.]+)"[^>]*class="mark"', drawn)[0]), abs=0.1)
    assert "40.0" in drawn and "(30.0 to 50.0)" in drawn and "two ✗" in drawn and drawn.count('class="bad"') == 1
    assert "dashed: chance 50.0" in drawn
    close = interval_chart([ChartValue("a", 0.001), ChartValue("b", 0.002)], "x")
    near = [float(place) for place in re.findall(r'cx="([0-9.]+)"', close)]
    assert near[1] - near[0] < 10, "what is nearly the same looks so"
    assert ">0.0<" in close and "-" not in re.sub("<[^>]*>", "", close), "no share is below none"


def test_regraded_negatives_are_reported(tmp_path: Path) -> None:
    def ball(grade: float) -> Picture:
        return picture(1, "A ball .", negatives=(negative(0, "A ball .", 2, 6, "cube", difficulty=grade),))

    old, new = build(tmp_path, "drawn", [ball(0.5)]), build(tmp_path, "drawn", [ball(0.25)])
    diff, told = diff_versions(old, new), "negatives regraded: 1, mean difficulty 0.50 → 0.25"
    assert told in printed(diff)
    assert told in diff_html(diff, old, new)
