"""Pages and terminal output: complete, escaped, self-contained, and plain where they must be."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from curation.stages.check_images import CheckImages
from data_manifests.diff import VersionDiff, diff_versions
from data_manifests.manifest import DatasetVersion, Manifest
from data_manifests.text_diff import diff_words
from flows.lineage import print_version
from flows.negatives_section import SCRIPT
from flows.pages import Html, bars, curve, histogram, marked, markup, page, table, tag, words
from flows.report import diff_html, print_diff, summary_html
from flows.thumbnails import EDGE_PX, Thumbnails
from tests.data_manifests.built_versions import Given, build, picture

HOSTILE = '<script>alert("x")</script> & \x1b]0;owned\x07 \u202egnirts <img src=http://evil.example/p.png onerror=x>'
VOID = {"img", "input", "meta", "rect", "polyline"}
Versions = tuple[DatasetVersion, DatasetVersion, VersionDiff]


class Reader(HTMLParser):
    """Collects tags and visible text, and checks that elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        if name not in VOID:
            assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.text += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == name]


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


def assert_self_contained(html: str, script: str = "") -> Reader:
    """Check a page; `script` is the code that it may run, and without any it has no controls either."""
    read = Reader(html)
    names = {name for name, _ in read.tags}
    assert not names & {"link", "iframe", "object", "base", "form"}
    assert html.count("<script") == bool(script)
    assert f"<script>{script}</script>" in html or not names & {"script", "input", "button", "select"}
    for name, attributes in read.tags:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "href", "action", "srcset"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "url(" not in html
    assert "@import" not in html
    policy = next(item["content"] for item in read.of("meta") if item.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.findall("script-src [^;]*", policy) == ([f"script-src 'sha256-{digest}'"] if script else [])
    assert all(item["alt"] for item in read.of("img"))
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in read.of("a")} <= {f"#{anchor}" for anchor in ids}
    return read


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
    losses = [{"step": step, "loss": 5.0 / (step + 1)} for step in range(2000)] + [{"step": 2000, "loss": float("nan")}]
    columns = [
        {"label": label, "on": "scenes:5", "model": "m", "metrics": {"image_to_text": {"r1": r1}, "rank": 3}}
        for label, r1 in (("before", 0.25), ("after", 0.75))
    ]
    html = summary_html(new, run, columns, curve=losses)
    read = assert_self_contained(html, SCRIPT)
    assert len(html) < 3 * 2**20
    assert len(read.of("article")) == 24 + 30
    assert len(read.of("img")) > 24
    for expected in (
        "drawn@2.0.0",
        "given",
        "strength = 0.5",
        "29 computed, 1 reused",
        "image_to_text.r1",
        "+0.5000",
        "Cluster 0",
        "replace adjective",
        "1.5 s",
    ):
        assert expected in read.text
    assert "<mark>striped</mark>" in html
    (line,) = read.of("polyline")
    assert 100 < len((line["points"] or "").split()) <= 600


def test_versions_made_before_something_was_counted_are_still_shown(versions: Versions, capsys: Any) -> None:
    _, new, _ = versions
    body = {key: value for key, value in new.manifest.body.items() if key != "fingerprint"}
    body["statistics"] = {"caption_words": body["statistics"]["caption_words"], "image_bytes": 1}
    body["counts"] = {name: body["counts"][name] for name in ("records", "samples", "captions", "negatives", "dropped")}
    old = DatasetVersion(Manifest.seal(body), new.folder)
    read = assert_self_contained(summary_html(old, None, []), SCRIPT)
    assert "Words in a caption" in read.text and "Splits" not in read.text
    print_version(old, as_json=False)
    assert "0 views" in capsys.readouterr().out


def test_summary_of_a_version_without_stages(tmp_path: Path) -> None:
    version = build(tmp_path, "plain", [picture(number) for number in range(3)], (CheckImages(),))
    read = assert_self_contained(summary_html(version, None, []))
    headings = {attributes["id"] for attributes in read.of("section")}
    assert headings == {"statistics", "examples", "stages"}
    assert len(read.of("article")) == 3


def test_picture_that_cannot_be_decoded_is_said_to_be_so(tmp_path: Path) -> None:
    version = build(tmp_path, "drawn", [picture(1), picture(2)], shard_bytes=2**20)
    row = version.index().to_pylist()[0]
    data = bytearray((version.folder / "00000.tar").read_bytes())
    data[row["image_offset"] : row["image_offset"] + 40] = bytes(40)
    (version.folder / "00000.tar").write_bytes(data)
    read = assert_self_contained(summary_html(version, None, []), SCRIPT)
    assert "picture cannot be decoded" in read.text
    with Thumbnails(version, ["0" * 32]) as pictures:
        assert "no picture" in pictures.picture("0" * 32, "x")


def test_thumbnails_are_small(versions: Versions) -> None:
    _, new, _ = versions
    uid = new.index(["uid"])["uid"][0].as_py()
    with Thumbnails(new, [uid]) as pictures:
        shown = pictures.picture(uid, 'a "quoted" <text>')
    match = re.search(r'src="data:image/jpeg;base64,([^"]+)" alt="a &quot;quoted&quot; &lt;text&gt;"', shown)
    assert match
    with Image.open(io.BytesIO(base64.b64decode(match[1]))) as image:
        assert (max(image.size), image.format) == (EDGE_PX, "JPEG")


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
    shown = words(diff_words("a <b> dog", "a <i> dog"))
    assert shown == '<span class="text" dir="auto">a &lt;<del>b</del> <ins>i</ins>&gt; dog</span>'


def test_marks_outside_the_text_are_left_out() -> None:
    text = "a red <dog>"
    assert marked(text, [(2, 5), (6, 11)]).count("<mark>") == 2
    assert "<mark>red</mark> <mark>&lt;dog&gt;</mark>" in marked(text, [(6, 11), (2, 5)])
    for spans in ([(5, 99)], [(-3, 2)], [(4, 4)], [(5, 2)]):
        assert "<mark>" not in marked(text, spans)
    assert marked(text, [(2, 5), (3, 8)]).count("<mark>") == 1


def test_charts_of_nothing_are_nothing() -> None:
    assert histogram([], "x") == bars([]) == curve([(1, 2)], "x") == table(("a",), []) == ""
    flat = curve([(0, 1), (1, 1)], "flat")
    assert "nan" not in flat + histogram([("a", 0)], "zero") + bars([("a", 0)])
    heights = re.findall(r'height="([0-9.]+)"', histogram([("a", 1), ("b", 4)], "x"))
    assert float(heights[1]) == pytest.approx(4 * float(heights[0]))
