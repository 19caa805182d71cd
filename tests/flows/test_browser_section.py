"""Samples browsed in a real browser: searched, filtered, opened by click and by keys, on a phone and in the dark."""

from __future__ import annotations

import html as markup
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_manifests.manifest import DatasetVersion
from flows.pages.html import SCRIPT, page
from flows.pages.sections.sample_selection import SampleSelection, select_samples
from flows.pages.sections.samples import browser_section
from tests.data_manifests.built_versions import Picture, build, negative, picture
from tests.flows.browser import Browser, in_a_browser
from tests.flows.pages import assert_self_contained, data_of, page_of

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> \x00\u202e \"'><b> &amp; <!--"
COUNT = "document.getElementById('filter-count').textContent"
SEEN = "[...document.querySelectorAll('#grid .card')].filter((card) => card.offsetParent).length"
OPEN = "document.getElementById('sample').open"
PLACE = "document.getElementById('step-place').textContent"


def hostile_version(root: Path) -> DatasetVersion:
    swap = negative(0, HOSTILE, 0, 2, "<i>", operation="<swap>", type='"x" y', rule=HOSTILE, difficulty=0.25)
    pictures: list[Picture] = [picture(1, HOSTILE, negatives=(swap,), extra={"note": HOSTILE}, split="dev")]
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
    path.write_text(page_of(hostile_version(root)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def checked(browser: Browser) -> None:
    """Check that a page neither said nor asked for anything, and forget what it did."""
    said, asked = list(browser.said), list(browser.asked)
    browser.said.clear()
    browser.asked.clear()
    assert (said, asked) == ([], [])


def test_strangers_markup_is_text(hostile_page: Path) -> None:
    text = hostile_page.read_text(encoding="utf-8")
    read = assert_self_contained(text, SCRIPT)
    assert "document.title='owned'" in read.text, "also without the script"
    assert "&lt;script&gt;document.title" in text and "<script>document" not in text
    assert {"<swap>", "replace", "swap"} <= {option["value"] for option in read.of("option")}
    assert "</" not in SCRIPT and "innerHTML" not in SCRIPT and "eval" not in SCRIPT
    data = data_of(text)
    assert HOSTILE[:30] in "".join(
        piece[1:] for entry in data["samples"] for record in entry["t"] for piece in record[4:]
    )


def test_texts_lead_back_to_what_was_published(tmp_path: Path) -> None:
    version = hostile_version(tmp_path)
    found = select_samples(version, version.index().to_pydict(), 0)
    labels = list(found.labels)
    seen = 0
    for entry in found.entries:
        texts = [(labels[record[0]], record) for record in entry["t"]]
        captions = ["".join(piece[1:] for piece in record[4:]) for label, record in texts if label[0] == "caption"]
        for label, record in texts:
            if label[0] != "negative":
                continue
            old = "".join(piece[1:] for piece in record[4:] if piece[0] != "+")
            assert old == captions[record[1]], "what was struck out is what the caption says"
            assert [piece[1:] for piece in record[4:] if piece[0] == "+"] in (["red"], ["cat"], ["<i>"])
            seen += 1
    assert seen == 19
    assert sorted(entry["u"] for entry in found.entries) == sorted(version.index()["uid"].to_pylist())


@in_a_browser
@pytest.mark.parametrize(
    ("fragment", "told"),
    [
        ("", "13 of 13 samples, 32 texts"),
        ("#samples:type=object", "6 of 13 samples, 6 texts"),
        ("#samples:operation=replace&min=0.2&max=0.4", "5 of 13 samples, 5 texts"),
        ("#samples:min=0", "13 of 13 samples, 13 texts"),
        ("#samples:q=RED++dog", "12 of 13 samples, 12 texts"),
        ("#samples:q=number+7&type=attribute", "1 of 13 samples, 1 texts"),
        ("#samples:text=caption&split=dev", "1 of 13 samples, 1 texts"),
        ("#samples:cluster=2", "4 of 13 samples, 10 texts"),
        ("#samples:operation=%3Cswap%3E", "1 of 13 samples, 1 texts"),
        ("#samples:q=%00%ff", "0 of 13 samples, 0 texts"),
        ("#samples:type=<script>alert(1)</script>", "13 of 13 samples, 32 texts"),
    ],
)
def test_filters(browser: Browser, hostile_page: Path, fragment: str, told: str) -> None:
    browser.open(hostile_page, fragment)
    assert browser.run(COUNT) == told
    assert browser.run(SEEN) == int(told.split(maxsplit=1)[0])
    assert browser.run("document.title") == "drawn@1.0.0"
    checked(browser)


@in_a_browser
def test_search_by_typing_and_a_sample_by_keys(browser: Browser, hostile_page: Path) -> None:
    browser.open(hostile_page)
    browser.run("document.querySelector('[name=q]').focus()")
    browser.type("cat")
    assert browser.run(COUNT) == "6 of 13 samples, 6 texts"
    assert browser.run("location.hash") == "#samples:q=cat"
    assert browser.run("document.querySelectorAll('#grid ins').length") == 6
    browser.run("document.querySelector('#grid .open').focus()")
    browser.press("ArrowRight")
    browser.press("Enter")
    assert (browser.run(OPEN), browser.run(PLACE)) == (True, "2 of 6")
    assert browser.run("document.querySelectorAll('#sample-body .hit').length") == 1
    for _ in range(3):  # the first, and no further: keys work on where there is nothing before
        browser.press("ArrowLeft")
    assert browser.run(PLACE) == "1 of 6"
    for _ in range(2):
        browser.press("ArrowRight")
    assert browser.run(PLACE) == "3 of 6"
    uid = browser.run("document.querySelector('#sample-body code').textContent")
    assert browser.run("location.hash") == f"#samples:q=cat&open={uid}"
    browser.press("Escape")
    browser.until(f"!{OPEN}")
    browser.until("document.activeElement === document.querySelectorAll('#grid .open')[2]")
    assert browser.run("location.hash") == "#samples:q=cat"
    browser.click("#filter-reset")
    assert browser.run(COUNT) == "13 of 13 samples, 32 texts"
    checked(browser)


@in_a_browser
def test_a_sample_by_click_and_by_link(browser: Browser, hostile_page: Path) -> None:
    browser.open(hostile_page)
    browser.click("#grid .card:nth-child(4) .open img")
    assert (browser.run(OPEN), browser.run(PLACE)) == (True, "4 of 13")
    browser.click("#step-on")
    assert browser.run(PLACE) == "5 of 13"
    link = browser.run("location.hash")
    browser.click("#step-close")
    browser.until(f"!{OPEN}")
    browser.open(hostile_page, link)
    assert (browser.run(OPEN), browser.run(PLACE)) == (True, "5 of 13")
    assert browser.run("document.querySelector('#sample-body img').naturalWidth") > 100
    checked(browser)


@in_a_browser
def test_hostile_texts_stay_texts_when_opened(browser: Browser, hostile_page: Path) -> None:
    browser.open(hostile_page, "#samples:split=dev")
    browser.click("#grid .open")
    shown = browser.run("document.getElementById('sample-body').textContent")
    assert "<script>document.title='owned'" in shown and "<!--" in shown
    assert (
        browser.run("document.querySelectorAll('#sample-body script, #sample-body b, #sample-body [onerror]').length")
        == 0
    )
    assert browser.run("document.title") == "drawn@1.0.0"
    checked(browser)


@in_a_browser
def test_a_smuggled_script_does_not_run(browser: Browser, hostile_page: Path, tmp_path: Path) -> None:
    text = hostile_page.read_text(encoding="utf-8")
    smuggled = text.replace("<main", "<script>document.title='owned'</script><main", 1)
    path = tmp_path / "page.html"
    path.write_text(smuggled, encoding="utf-8")
    browser.open(path)
    assert smuggled != text and browser.run("document.title") == "drawn@1.0.0"
    assert any("Content Security Policy" in line for line in browser.said), "the browser says that it refused it"
    browser.said.clear()


@in_a_browser
def test_without_scripts_samples_are_there_and_controls_are_not(browser: Browser, hostile_page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(hostile_page)
        shown = (
            "[...document.querySelectorAll('.filters, .more, .scripted')].filter((node) => node.offsetParent).length"
        )
        assert (browser.run(SEEN), browser.run(shown)) == (12, 0)
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


CONTRAST = """(() => {
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let worst = [99, ""];
  for (const node of document.querySelectorAll("h1, h2, h3, p, a, td, th, li, dt, dd, code, ins, del, mark, button, label, svg text, .tag, .soft, summary")) {
    if (!node.textContent.trim() || !node.getClientRects().length) continue;
    const style = getComputedStyle(node), ink = node instanceof SVGElement ? style.fill : style.color;
    const [one, other] = [light(ink), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < worst[0]) worst = [ratio, `${node.tagName} ${node.className.baseVal ?? node.className} ${ink} on ${behind(node)}`];
  }
  return worst;
})()"""


@in_a_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(browser: Browser, hostile_page: Path, width: int, dark: bool) -> None:
    browser.open(hostile_page, "", width, 844, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    ratio, where = browser.run(CONTRAST)
    assert ratio >= 4.5, where
    back = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", back)[:3])) < 60) == dark
    browser.click("#grid .open")
    box = browser.run("(({ left, right }) => [left, right])(document.getElementById('sample').getBoundingClientRect())")
    assert 0 <= box[0] < box[1] <= width
    assert browser.run("document.getElementById('sample').scrollWidth") <= width
    assert browser.run(CONTRAST)[0] >= 4.5
    checked(browser)


@in_a_browser
def test_thousands_of_samples(browser: Browser, tmp_path: Path) -> None:
    """The script alone, on as many samples as a page may hold and more: found at once, shown in parts."""
    found = SampleSelection(5000, 0)
    caption, wrong = found.label("caption", "", "", ""), found.label("negative", "replace", "noun", "object")
    for number in range(5000):
        texts: list[list[Any]] = [[caption, at, None, "", f"=caption {at} of sample {number}"] for at in range(5)]
        texts += [[wrong, at % 5, at / 10, "rule", "=a ", "-dog", f"+cat {number}"] for at in range(9)]
        about = {
            "u": f"{number:032x}",
            "n": f"{number}.jpg",
            "s": "train",
            "c": number % 70,
            "d": 0.5,
            "w": "",
            "p": "",
            "m": 0,
        }
        found.entries.append({**about, "t": texts})
    path = tmp_path / "many.html"
    path.write_text(page("many", "", [("samples", "Samples", browser_section(found))], SCRIPT), encoding="utf-8")
    browser.open(path)
    assert browser.run(COUNT) == "5,000 of 5,000 samples, 70,000 texts"
    assert browser.run(SEEN) == 24
    took = browser.run(
        "(() => { const field = document.querySelector('[name=q]'), began = performance.now(); field.value = 'cat 4321';"
        "field.dispatchEvent(new Event('input', { bubbles: true })); return performance.now() - began; })()"
    )
    assert browser.run(COUNT) == "1 of 5,000 samples, 9 texts"
    assert took < 1500
    browser.click("#filter-reset")
    browser.run("[...document.querySelectorAll('.open')].at(-1).focus()")
    browser.press("ArrowRight")
    assert browser.run(SEEN) == 48, "going on past the end shows more"
    assert "24.jpg" in markup.unescape(browser.run("document.activeElement.getAttribute('aria-label')"))
    browser.press("Enter")
    for _ in range(30):
        browser.press("ArrowRight")
    browser.press("Escape")
    browser.until("document.activeElement.getAttribute('aria-label')?.startsWith('Open 54.jpg')")
    checked(browser)
