"""Pages as tests read them: built as the command builds them, and checked to need nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import orjson

from data_manifests.manifest import Catalog, DatasetVersion
from flows.pages.build import version_html

VOID = {"img", "input", "meta", "rect", "polyline", "line", "circle", "path"}


def catalog_of(version: DatasetVersion) -> Catalog:
    """Return the catalog of a version that `tests.data_manifests.built_versions.build` made."""
    root = version.folder.parent.parent.parent
    return Catalog(root / "manifests", root)


def page_of(version: DatasetVersion, **options: Any) -> str:
    """Return a version's page."""
    return version_html(version, catalog_of(version), **options)


def data_of(page: str) -> dict[str, Any]:
    """Return what the page's script shows."""
    found = re.search(r'<script type="application/json" id="samples-data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = orjson.loads(found[1])
    return data


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
        """Return the attributes of all elements of a name."""
        return [attributes for found, attributes in self.tags if found == name]


def assert_self_contained(html: str, script: str = "") -> Reader:
    """Check a page; `script` is the code that it may run, and without any it has no controls either."""
    read = Reader(html)
    names = {name for name, _ in read.tags}
    assert f"<script>{script}</script>" in html or not names & {"script", "input", "button", "select"}
    kinds = [item.get("type") for item in read.of("script")]
    assert kinds.count(None) == (1 if script else 0) and set(kinds) <= {None, "application/json"}
    for name, attributes in read.tags:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "action", "srcset"):
            assert (attributes.get(key) or "data:image/webp;base64,").startswith("data:image/webp;base64,")
        if name != "a":
            assert "href" not in attributes
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
    for link in read.of("a"):
        # papers are the only places outside that a page names; nobody is sent there unasked
        address = link["href"] or ""
        assert address in {f"#{anchor}" for anchor in ids} or re.fullmatch(r"https://arxiv\.org/abs/[0-9.]+", address)
    return read
