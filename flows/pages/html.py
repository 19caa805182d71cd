"""Self-contained HTML pages: markup that escapes by construction, style, tables, charts and highlighted words.

Captions come from strangers. Whatever is not `Html` is text, and text is escaped; the page's policy forbids any
network besides, and every script but the one that is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from importlib import resources

import orjson

from data_manifests.text_diff import DiffPiece

_FILES = resources.files("flows.pages")
STYLE = _FILES.joinpath("page.css").read_text(encoding="utf-8")
SCRIPT = _FILES.joinpath("page.js").read_text(encoding="utf-8")
"""The only script that a page may run; see `page`."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_VOID = ("img", "input", "meta", "rect", "polyline", "line", "circle", "path")


Section = tuple[str, str, "Html"]
"""Anchor, heading, content; one without content is left out."""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def markup(value: object) -> Html:
    """Return a value as markup: `Html` as it is, everything else as escaped text."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: The element's name.
        children: Markup, or anything else as text.
        attributes: Values as text; None leaves one out. ``class_`` means class, ``stroke_width`` stroke-width.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{told}>" if name in ("img", "input", "meta") else f"<{name}{told}/>")
    return Html(f"<{name}{told}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Return parts one after the other."""
    return Html("".join(markup(part) for part in parts))


def page(title: str, lead: object, sections: Sequence[Section], script: str = "") -> str:
    """Return a whole page.

    Args:
        title: Heading and window title.
        lead: What stands under the heading.
        sections: (anchor, heading, content) in reading order; those without content are left out.
        script: Code that runs when all is there; ours, never made of a stranger's text.
    """
    shown = [section for section in sections if section[2]]
    links = [tag("a", heading, href=f"#{anchor}") for anchor, heading, _ in shown]
    body = [tag("section", tag("h2", heading), content, id=anchor, tabindex="-1") for anchor, heading, content in shown]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    skip = tag("a", "Skip to the content", class_="skip", href="#content")
    main = tag("main", *body, id="content", tabindex="-1")
    header = tag("header", tag("h1", title), lead)
    menu = tag("nav", *links, aria_label="Sections") if len(links) > 1 else ""
    last = tag("script", Html(script)) if script else ""
    return f"<!doctype html>\n{tag('html', head, tag('body', skip, header, menu, main, last), lang='en')}\n"


def _policy(script: str) -> str:
    if not script:
        return _POLICY
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{_POLICY}; script-src 'sha256-{digest}'"


def tiles(values: Iterable[tuple[object, str]]) -> Html:
    """Return big numbers with their names."""
    return tag("dl", *(tag("div", tag("dd", value), tag("dt", name)) for value, name in values), class_="tiles")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table; columns named with a leading ``>`` hold numbers. No rows, no table."""
    classes = ["number" if name.startswith(">") else None for name in columns]
    heads = [
        tag("th", name.removeprefix(">"), scope="col", class_=kind) for name, kind in zip(columns, classes, strict=True)
    ]
    lines = [
        tag("tr", *(tag("td", value, class_=kind) for value, kind in zip(row, classes, strict=True))) for row in rows
    ]
    if not lines:
        return Html("")
    made = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *lines))
    # wide tables scroll by themselves, also by keyboard
    return tag("div", made, class_="wide", tabindex="0", role="region", aria_label=columns[0].removeprefix(">"))


def diff_markup(pieces: Iterable[DiffPiece], added: str = "ins") -> Html:
    """Return a text with its removed and added words marked, the added ones by the element that is named."""
    parts: list[object] = []
    for piece in pieces:
        text = piece.text.rstrip()
        name = {"removed": "del", "added": added}.get(piece.kind)
        parts += [tag(name, text) if name else text, piece.text[len(text) :] or (" " if name == "del" else "")]
    return tag("span", *parts, class_="text", dir="auto")


def json_text(value: object) -> str:
    """Return a value as JSON in which nothing can end the element that it stands in."""
    return orjson.dumps(value).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_block(name: str, value: object) -> Html:
    """Return a value as JSON that the page's script reads by its id."""
    return Html(f'<script type="application/json" id="{html.escape(name)}">{json_text(value)}</script>')


def link_papers(text: str) -> Html:
    """Return our own mention of papers with arXiv numbers as links; following one is the reader's choice."""
    parts: list[object] = []
    at = 0
    for found in _ARXIV.finditer(text):
        address = f"https://arxiv.org/abs/{found[1]}"
        parts += [text[at : found.start()], tag("a", found[0], href=address, rel="noreferrer noopener")]
        at = found.end()
    return join([*parts, text[at:]])
