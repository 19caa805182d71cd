"""Self-contained HTML pages: markup that escapes by construction, style, tables, charts and highlighted words.

Captions come from strangers. Whatever is not `Html` is text, and text is escaped; the page's policy forbids any
network besides, and every script but the one that is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence

from data_manifests.text_diff import Piece
from flows.page_style import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_VOID = ("img", "input", "meta", "rect", "polyline", "line")


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


def page(title: str, lead: object, sections: Sequence[tuple[str, str, Html]], script: str = "") -> str:
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


def words(pieces: Iterable[Piece]) -> Html:
    """Return a text with its removed and added words marked."""
    parts: list[object] = []
    for piece in pieces:
        text = piece.text.rstrip()
        name = {"removed": "del", "added": "ins"}.get(piece.kind)
        parts += [tag(name, text) if name else text, piece.text[len(text) :] or (" " if name == "del" else "")]
    return tag("span", *parts, class_="text", dir="auto")


def marked(text: str, spans: Iterable[tuple[int, int]]) -> Html:
    """Return a text with character ranges marked; ranges that overlap or lie outside are left out."""
    parts: list[object] = []
    at = 0
    for start, end in sorted(spans):
        if at <= start < end <= len(text):
            parts += [text[at:start], tag("mark", text[start:end])]
            at = end
    return tag("span", *parts, text[at:], class_="text", dir="auto")


def figure(title: str, chart: Html) -> Html:
    """Return a chart with its title; no chart, no figure."""
    return tag("figure", tag("figcaption", title), chart, class_="chart") if chart else Html("")


def histogram(values: Sequence[tuple[object, float]], label: str) -> Html:
    """Return upright bars in the given order.

    Args:
        values: (name, height) of each bar; heights not negative.
        label: What the bars are, for those who cannot see them.
    """
    if not values:
        return Html("")
    top = max(height for _, height in values) or 1
    width, tall = 360, 120
    step = width / len(values)
    every = -(-len(values) // 8)
    parts: list[Html] = []
    for place, (name, height) in enumerate(values):
        size = max(height / top * tall, 1.0 if height else 0.0)
        bar = {"x": f"{place * step + step * 0.08:.1f}", "y": f"{14 + tall - size:.1f}", "width": f"{step * 0.84:.1f}"}
        parts.append(tag("g", tag("title", f"{name}: {_number(height)}"), tag("rect", height=f"{size:.1f}", **bar)))
        if place % every == 0:
            parts.append(tag("text", name, x=f"{(place + 0.5) * step:.1f}", y=tall + 28, text_anchor="middle"))
    parts.append(tag("text", f"most: {_number(top)}", x=width, y=10, text_anchor="end"))
    return tag("svg", *parts, viewBox=f"0 0 {width} {tall + 34}", role="img", aria_label=label)


def bars(values: Sequence[tuple[str, float]]) -> Html:
    """Return lying bars with names and numbers, longest as wide as the page lets it."""
    top = max((size for _, size in values), default=0) or 1
    rows = []
    for name, size in values:
        bar = tag("span", class_="bar", style=f"width:{max(size / top * 100, 0.5):.1f}%")
        rows.append(tag("tr", tag("th", name, scope="row"), tag("td", bar), tag("td", _number(size), class_="number")))
    return tag("table", tag("tbody", *rows), class_="bars") if rows else Html("")


def curve(points: Sequence[tuple[float, float]], label: str) -> Html:
    """Return a line through (x, y) points; fewer than two make none."""
    if len(points) < 2:
        return Html("")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    width, tall = 360.0, 150.0
    across, up = (max(xs) - min(xs)) or 1, (high - low) or 1
    places = " ".join(
        f"{(x - min(xs)) / across * width:.1f},{14 + (high - y) / up * (tall - 8):.1f}" for x, y in points
    )
    parts = [
        tag("polyline", points=places, class_="curve"),
        tag("text", _number(high), x=0, y=10),
        tag("text", _number(low), x=0, y=tall + 24),
        tag("text", f"step {_number(min(xs))} to {_number(max(xs))}", x=width, y=tall + 24, text_anchor="end"),
        tag("text", f"last: {_number(ys[-1])}", x=width, y=10, text_anchor="end"),
    ]
    return tag("svg", *parts, viewBox=f"0 0 {width:.0f} {tall + 30:.0f}", role="img", aria_label=label)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
