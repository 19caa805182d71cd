"""Self-contained HTML pages: markup that is escaped by construction, the page around it, tables, highlighted words.

Captions are untrusted: whatever is not `Html` is text, and text is escaped. The page's policy also forbids any network
access and every script but the one that it names by hash.
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
"""Anchor, heading, content; a section without content is left out."""


class Html(str):
    """Text that is already markup."""

    __slots__ = ()


def markup(value: object) -> Html:
    """Return a value as markup: `Html` as it is, everything else as escaped text."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: The element's name.
        children: Markup; anything else becomes text.
        attributes: Values as text; None leaves an attribute out. ``class_`` means class, ``stroke_width`` stroke-width.
    """
    attribute_text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{attribute_text}>" if name in ("img", "input", "meta") else f"<{name}{attribute_text}/>")
    return Html(f"<{name}{attribute_text}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Return the parts joined as markup."""
    return Html("".join(markup(part) for part in parts))


def page(title: str, lead: object, sections: Sequence[Section], script: str = "") -> str:
    """Return a whole page.

    Args:
        title: Heading and window title.
        lead: Content under the heading.
        sections: (anchor, heading, content) in reading order; those without content are left out.
        script: Code that runs when the page is loaded: `SCRIPT` or nothing, never made from captions.
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
    code = tag("script", Html(script)) if script else ""
    return f"<!doctype html>\n{tag('html', head, tag('body', skip, header, menu, main, code), lang='en')}\n"


def _policy(script: str) -> str:
    if not script:
        return _POLICY
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{_POLICY}; script-src 'sha256-{digest}'"


def note(*children: object) -> Html:
    """Return a paragraph in a softer colour."""
    return tag("p", *children, class_="soft")


def captioned(picture: Html, *caption: object) -> Html:
    """Return a picture with a caption."""
    return tag("figure", picture, tag("figcaption", *caption))


def card(picture: Html, *content: object) -> Html:
    """Return a box with a picture and, next to it, its content."""
    return tag("article", picture, tag("div", *content), class_="card")


def details(summary: str, content: Html) -> Html:
    """Return content that opens on a click on its summary."""
    return tag("details", tag("summary", summary), content)


def tiles(values: Iterable[tuple[object, object]]) -> Html:
    """Return numbers in large print with their names."""
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
    content = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *lines))
    # wide tables scroll on their own, also by keyboard
    return tag("div", content, class_="wide", tabindex="0", role="region", aria_label=columns[0].removeprefix(">"))


def diff_markup(pieces: Iterable[DiffPiece], added: str = "ins") -> Html:
    """Return a text with removed words in ``del`` and added ones in the element `added`."""
    parts: list[object] = []
    for piece in pieces:
        text = piece.text.rstrip()
        name = {"removed": "del", "added": added}.get(piece.kind)
        parts += [tag(name, text) if name else text, piece.text[len(text) :] or (" " if name == "del" else "")]
    return tag("span", *parts, class_="text", dir="auto")


def json_text(value: object) -> str:
    """Return a value as JSON that cannot close the element around it."""
    return orjson.dumps(value).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_block(name: str, value: object) -> Html:
    """Return a value as JSON that the page's script reads by its id."""
    return Html(f'<script type="application/json" id="{html.escape(name)}">{json_text(value)}</script>')


def link_papers(text: str) -> Html:
    """Return a text of ours with links at its arXiv numbers."""
    link = r'<a href="https://arxiv.org/abs/\1" rel="noreferrer noopener">\g<0></a>'
    return Html(_ARXIV.sub(link, html.escape(text)))


def shorten(text: str, max_chars: int) -> str:
    """Return a text cut to a number of characters, with a mark where it was cut."""
    return text if len(text) <= max_chars else f"{text[:max_chars]} …"


def no_picture(reason: str = "no picture") -> Html:
    """Return the box in place of a picture."""
    return tag("span", reason, class_="lost")
