"""Charts as inline SVG or tables: bars, lines and numbers with intervals; readable without colours, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flows.pages.html import Html, join, tag

MAX_POINTS = 400
"""Most points of a line; more than a phone has pixels."""
MAX_LINES = 12
MAX_BARS = 12
"""Most horizontal bars of a chart; the others are summed up."""
_MAX_LABEL_CHARS = 34
_MIN_SPAN = 10.0
"""Least span of an axis, in percentage points."""

Points = Sequence[tuple[float, float]]


def figure(title: str, chart: Html) -> Html:
    """Return a chart with its title; nothing for an empty chart."""
    return tag("figure", tag("figcaption", title), chart, class_="chart") if chart else Html("")


def chart_grid(charts: Iterable[Html]) -> Html:
    """Return charts side by side, as far as there is room; nothing if all are empty."""
    shown = [chart for chart in charts if chart]
    return tag("div", *shown, class_="charts") if shown else Html("")


def histogram(values: Sequence[tuple[object, float]], label: str) -> Html:
    """Return vertical bars in the given order.

    Args:
        values: (name, height) of each bar; heights not negative.
        label: Description for screen readers.
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
        title = tag("title", f"{name}: {format_number(height)}")
        parts.append(tag("g", title, tag("rect", height=f"{size:.1f}", **bar)))
        if place % every == 0:
            parts.append(tag("text", name, x=f"{(place + 0.5) * step:.1f}", y=tall + 28, text_anchor="middle"))
    parts.append(tag("text", f"most: {format_number(top)}", x=width, y=10, text_anchor="end"))
    return tag("svg", *parts, viewBox=f"0 0 {width} {tall + 34}", role="img", aria_label=label)


def bar_chart(values: Sequence[tuple[str, float]]) -> Html:
    """Return horizontal bars with names and numbers, the longest with full width, the last ones summed up."""
    if len(values) > MAX_BARS:
        others = values[MAX_BARS - 1 :]
        values = [*values[: MAX_BARS - 1], (f"{len(others):,} others", sum(size for _, size in others))]
    top = max((size for _, size in values), default=0) or 1
    rows = []
    for name, size in values:
        bar = tag("span", class_="bar", style=f"width:{max(size / top * 100, 0.5):.1f}%")
        number = tag("td", format_number(size), class_="number")
        rows.append(tag("tr", tag("th", name, scope="row"), tag("td", bar), number))
    return tag("table", tag("tbody", *rows), class_="bars") if rows else Html("")


def format_number(value: float) -> str:
    """Return a number as charts print it."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def line_chart(series: Mapping[str, Points], label: str) -> Html:
    """Return lines on common axes, which differ by colour and dashes; a line needs two points.

    Args:
        series: (x, y) points of each line by its name, x rising.
        label: Description for screen readers.
    """
    drawn = {name: points for name, points in series.items() if len(points) > 1}
    shown = dict(list(drawn.items())[:MAX_LINES])
    if not shown:
        return Html("")
    xs = [x for points in shown.values() for x, _ in points]
    ys = [y for points in shown.values() for _, y in points]
    low, high, first, last = min(ys), max(ys), min(xs), max(xs)
    left, width, top, tall = 44.0, 316.0, 8.0, 130.0
    wide, high_by = (last - first) or 1.0, (high - low) or 1.0
    parts: list[Html] = []
    for share in (0.0, 0.5, 1.0):
        at = f"{top + (1 - share) * tall:.1f}"
        parts.append(tag("line", x1=left, x2=left + width, y1=at, y2=at, class_="rule"))
        if high > low or share == 0.5:
            number = format_number(low + share * (high - low))
            parts.append(tag("text", number, x=left - 5, y=at, dy="0.35em", text_anchor="end"))
    for place, points in enumerate(shown.values()):
        flat = high == low
        places = " ".join(
            f"{left + (x - first) / wide * width:.1f},{top + (0.5 if flat else (high - y) / high_by) * tall:.1f}"
            for x, y in _thin_out(points)
        )
        parts.append(tag("polyline", points=places, **_line_style(place)))
    bottom = top + tall + 16
    parts.append(tag("text", f"step {format_number(first)}", x=left, y=bottom))
    parts.append(tag("text", format_number(last), x=left + width, y=bottom, text_anchor="end"))
    svg = tag("svg", *parts, viewBox=f"0 0 {left + width:.0f} {bottom + 6:.0f}", role="img", aria_label=label)
    ends = [(name, points[-1][1]) for name, points in shown.items()]
    key = [_key(number, name, format_number(end)) for number, (name, end) in enumerate(ends)]
    left_out = tag("li", f"and {len(drawn) - len(shown):,} more", class_="soft") if len(drawn) > len(shown) else ""
    return join([svg, tag("ul", *key, left_out, class_="key")])


def _line_style(number: int) -> dict[str, str | None]:
    """Return the attributes of a chart's n-th line: six colours, then the same six dashed."""
    return {"class_": f"curve s{number % 6}", "stroke_dasharray": None if number < 6 else "5 3"}


def _key(number: int, name: str, end: str) -> Html:
    mark = tag("line", x1=0, x2=22, y1=5, y2=5, **_line_style(number))
    swatch = tag("svg", mark, viewBox="0 0 22 10", class_="swatch", aria_hidden="true")
    return tag("li", swatch, f" {name} ", tag("span", f"ends at {end}", class_="soft"))


def _thin_out(points: Points) -> Points:
    """Return at most `MAX_POINTS` points, evenly spaced, with the first and the last."""
    if len(points) <= MAX_POINTS:
        return points
    return [points[round(at * (len(points) - 1) / (MAX_POINTS - 1))] for at in range(MAX_POINTS)]


@dataclass(frozen=True)
class ChartValue:
    """One number of a chart.

    Attributes:
        label: What was measured.
        value: The number.
        low: Lower end of its interval; None without one.
        high: Upper end.
        bad: Whether to mark it as failed.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    bad: bool = False


def interval_chart(numbers: Sequence[ChartValue], label: str, mark: tuple[float, str] | None = None) -> Html:
    """Return a row for each number: its name, and below it a dot with its interval.

    Args:
        numbers: From top to bottom.
        label: Description for screen readers.
        mark: Position and name of a dashed line, such as chance.
    """
    if not numbers:
        return Html("")
    ends = [end for item in numbers for end in (item.value, item.low, item.high) if end is not None]
    ends += [mark[0]] if mark else []
    low, high = min(ends), max(ends)
    # numbers that are nearly equal should look so
    margin = max((high - low) * 0.06, (_MIN_SPAN / 100 - (high - low)) / 2)
    low, high = _clamp_axis(low - margin, high + margin, low, high)
    width, row, top = 360.0, 30.0, 18.0 if mark else 4.0

    def at(value: float) -> str:
        return f"{4 + (value - low) / (high - low) * (width - 8):.1f}"

    parts: list[Html] = []
    bottom = top + row * len(numbers)
    place = float(at(mark[0])) if mark else 0.0
    if mark:
        anchor = "start" if place < width * 0.15 else "end" if place > width * 0.85 else "middle"
        parts.append(tag("text", f"{mark[1]} {_percent(mark[0])}", x=place, y=11, text_anchor=anchor))
    for number, item in enumerate(numbers):
        y = top + row * number
        interval = "" if item.low is None or item.high is None else f" ({_percent(item.low)} to {_percent(item.high)})"
        name = item.label if len(item.label) <= _MAX_LABEL_CHARS else f"{item.label[: _MAX_LABEL_CHARS - 1]}…"
        text = f"{name} ✗" if item.bad else name
        parts.append(tag("text", tag("title", item.label), text, x=0, y=y + 11, class_="name"))
        numeric = tag("tspan", _percent(item.value), class_="name")
        parts.append(tag("text", numeric, interval, x=width, y=y + 11, text_anchor="end"))
        middle = f"{y + 21:.1f}"
        parts.append(tag("line", x1=4, x2=width - 4, y1=middle, y2=middle, class_="rule"))
        if mark:  # only at the height of the dot, so that it crosses no name
            parts.append(tag("line", x1=place, x2=place, y1=y + 14, y2=y + 28, class_="mark"))
        kind = "bad" if item.bad else None
        if item.low is not None and item.high is not None:
            parts.append(
                tag("line", x1=at(item.low), x2=at(item.high), y1=middle, y2=middle, class_=f"whisker {kind or ''}")
            )
        parts.append(tag("circle", cx=at(item.value), cy=middle, r=4, class_=kind))
    ends_at = bottom + 9
    parts.append(tag("text", _percent(low), x=4, y=ends_at))
    parts.append(tag("text", _percent(high), x=width - 4, y=ends_at, text_anchor="end"))
    return tag("svg", *parts, viewBox=f"0 0 {width:.0f} {bottom + 14:.0f}", role="img", aria_label=label)


def _clamp_axis(low: float, high: float, first: float, last: float) -> tuple[float, float]:
    """Return an axis shifted into 0 .. 1, as far as its numbers, from `first` to `last`, are shares."""
    if first >= 0 > low:
        low, high = 0.0, max(high - low, last) if high - low <= 1 else high
    if last <= 1 < high:
        low, high = max(low - (high - 1), min(first, 0.0)), 1.0
    return low, high


def _percent(value: float) -> str:
    return f"{value * 100:.1f}"
