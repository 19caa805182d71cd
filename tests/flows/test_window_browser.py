"""The window in a real browser: sorted, filtered, opened by keys, on a phone and in the dark, with hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.browser import Browser, in_a_browser
from tests.flows.test_browser_section import CONTRAST
from tests.flows.test_window import many
from tests.flows.windows import served

pytestmark = [pytest.mark.slow, in_a_browser]

CELLS = "document.querySelectorAll('.cell').length"
COUNT = "document.getElementById('count').textContent"
OPEN = "document.getElementById('sample').open"
LOADED = "document.querySelector('.cell img') && [...document.querySelectorAll('.cell img')].every((node) => node.naturalWidth > 0)"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(many(tmp_path_factory.mktemp("window"), 130)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def checked(browser: Browser, address: str) -> None:
    """Check that a page said nothing and asked nobody else, and forget what it did."""
    own = address.partition("?")[0]
    said, others = list(browser.said), [asked for asked in browser.asked if not asked.startswith(own)]
    browser.said.clear()
    browser.asked.clear()
    assert (said, others) == ([], [])


def visit(browser: Browser, address: str, fragment: str = "", width: int = 1280, *, dark: bool = False) -> None:
    browser.visit(address + fragment, width, 900, dark=dark)
    browser.until(LOADED)


def test_sorted_filtered_and_opened_by_keys(browser: Browser, address: str) -> None:
    visit(browser, address)
    assert browser.run("location.search") == "", "the key does not stay in the address"
    assert (browser.run(CELLS), browser.run(COUNT)) == (60, "130 of 130 samples")
    browser.run(
        "(() => { const node = document.getElementById('sort'); node.value = 'difficulty'; node.dispatchEvent(new Event('change')); })()"
    )
    browser.until(
        "document.querySelector('.cell p').textContent.includes('number 2 ') || document.querySelector('.cell p').textContent.startsWith('0.0')"
    )
    browser.until("document.querySelector('[data-key=\"is.split=train\"]') !== null")
    browser.click('[data-key="is.split=train"]')
    browser.until(f"{COUNT}.startsWith('43 ')")
    assert "is.split=train" in browser.run("location.hash") and "sort=difficulty" in browser.run("location.hash")
    browser.until("document.querySelector('[data-key=\"is.negative_type=relation\"]') !== null")
    browser.run("document.querySelector('.cell button').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "Enter"):
        browser.press(key)
    browser.until(OPEN)
    assert browser.run("document.getElementById('step-place').textContent") == "2 of 43"
    browser.press("ArrowRight")
    browser.until("document.getElementById('step-place').textContent === '3 of 43'")
    link = browser.run("location.href")
    browser.press("Escape")
    browser.until(f"!{OPEN}")
    browser.until("document.activeElement === document.querySelectorAll('.cell button')[2]")
    browser.visit(link)
    browser.until(OPEN)
    assert browser.run("document.getElementById('step-place').textContent") == "3 of 43", "a link shows the same"
    browser.until("document.querySelector('#sample-body img').naturalWidth > 200")
    checked(browser, address)


def test_pages_of_pictures_go_on(browser: Browser, address: str) -> None:
    visit(browser, address)
    browser.click("#page-on")
    browser.until("document.getElementById('page-place').textContent === '61 to 120 of 130'")
    browser.run("[...document.querySelectorAll('.cell button')].at(-1).focus()")
    browser.press("ArrowRight")
    browser.until("document.getElementById('page-place').textContent === '121 to 130 of 130'")
    browser.until("document.activeElement === document.querySelector('.cell button')")
    browser.run("history.back()")
    browser.until("document.getElementById('page-place').textContent === '61 to 120 of 130'")
    browser.until(LOADED)
    browser.click(".cell:last-child button")
    browser.until(OPEN)
    browser.press("ArrowRight")
    browser.until("document.getElementById('step-place').textContent === '121 of 130'")
    browser.click("#step-close")
    checked(browser, address)


def test_hostile_texts_stay_texts(browser: Browser, address: str) -> None:
    visit(browser, address, "#is.split=dev")
    assert "<script>document.title='owned'" in browser.run("document.querySelector('.cell').textContent")
    browser.click(".cell button")
    browser.until(OPEN)
    assert "<script>document.title='owned'" in browser.run("document.getElementById('sample-body').textContent")
    assert browser.run("document.querySelectorAll('main script, dialog script, #sample-body b, [onerror]').length") == 0
    assert browser.run("document.title").startswith("drawn@1.0.0")
    checked(browser, address)
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title = \"owned\"' }))"
    )
    assert browser.run("document.title").startswith("drawn@1.0.0"), (
        "the policy refuses a script of the page's own text, too"
    )
    browser.said.clear()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(browser: Browser, address: str, width: int, dark: bool, tmp_path: Path) -> None:
    visit(browser, address, "#sort=difficulty", width, dark=dark)
    browser.until("document.querySelectorAll('fieldset').length > 3")
    browser.run("document.getElementById('filters-box').open = true")
    for view in ("samples", "dropped", "lineage", "samples"):
        browser.click(f"#views [data-view={view}]")
        browser.until(f"!document.getElementById('view-{view}').hidden")
        assert browser.run("document.documentElement.scrollWidth") <= width, view
        ratio, where = browser.run(CONTRAST)
        assert ratio >= 4.5, (view, where)
    named = "[...document.querySelectorAll('button, input, select, textarea, img')].filter((node) => !(node.alt ?? '') && !node.textContent.trim() && !node.ariaLabel && !node.labels?.length).length"
    assert browser.run(named) == 0, "everything that can be used has a name for a screen reader"
    browser.click(".cell:nth-child(4) button")
    browser.until(OPEN)
    assert browser.run("document.getElementById('sample').scrollWidth") <= width
    assert browser.run(CONTRAST)[0] >= 4.5
    checked(browser, address)


def test_another_page_reads_nothing(browser: Browser, address: str, tmp_path: Path) -> None:
    """A page of another origin in the same browser, which has the cookie."""
    visit(browser, address)
    other = tmp_path / "other.html"
    other.write_text("<!doctype html><title>other</title>", encoding="utf-8")
    own = address.partition("?")[0]
    browser.open(other)
    tried = f"fetch('{own}api/start', {{ credentials: 'include' }}).then((got) => got.text(), () => 'refused')"
    assert browser.run(tried) == "refused"
    assert browser.run(
        f"fetch('{own}api/start', {{ mode: 'no-cors', credentials: 'include' }}).then((got) => got.type, () => 'refused')"
    ) in ("opaque", "refused")
    shown = f"new Promise((done) => {{ const node = new Image(); node.onload = () => done('seen'); node.onerror = () => done('refused'); node.src = '{own}picture/1.0.0/0'; }})"
    assert browser.run(shown) == "refused"
    browser.said.clear()
    browser.asked.clear()
