"""Charts as inline SVG or tables: bars, lines and numbers with intervals; readable without colours, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from flows.pages.html import Html, join, tag

MAX_POINTS = 400
"""Most points of a line; more than a phone has pixels."""
MAX_LINES = 12
MAX_BARS = 12
"""Most horizontal bars of a chart; the others are summed up."""
MIN_CASES = 20
"""Categories with fewer cases are shown together: of a few, a number says little."""
_WIDTH = 360.0
"""Width of every drawing; at this width its text has 14 px."""
_MIN_SPAN = 10.0
"""Least span of an axis, in percentage points."""

Points = Sequence[tuple[float, float]]


def figure(title: object, chart: Html) -> Html:
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
    width, tall = int(_WIDTH), 120
    step = width / len(values)
    every = -(-len(values) // 6)
    parts: list[Html] = []
    for place, (name, height) in enumerate(values):
        size = max(height / top * tall, 1.0 if height else 0.0)
        bar = {"x": f"{place * step + step * 0.08:.1f}", "y": f"{18 + tall - size:.1f}", "width": f"{step * 0.84:.1f}"}
        title = tag("title", f"{name}: {format_number(height)}")
        parts.append(tag("g", title, tag("rect", height=f"{size:.1f}", **bar)))
        if place % every == 0:
            parts.append(tag("text", name, x=f"{(place + 0.5) * step:.1f}", y=tall + 31, text_anchor="middle"))
    parts.append(tag("text", f"most: {format_number(top)}", x=width, y=13, text_anchor="end"))
    return tag("svg", *parts, viewBox=f"0 0 {width} {tall + 38}", role="img", aria_label=label)


def bar_chart(values: Sequence[tuple[str, float]]) -> Html:
    """Return horizontal bars with names and numbers, the longest with full width.

    Args:
        values: (name, size), the longest first where there may be many: the last ones are summed up.
    """
    if len(values) > MAX_BARS:
        rest = values[MAX_BARS - 1 :]
        values = [*values[: MAX_BARS - 1], (_other(len(rest)), sum(size for _, size in rest))]
    top = max((size for _, size in values), default=0) or 1
    rows = []
    for name, size in values:
        bar = tag("span", class_="bar", style=f"width:{max(size / top * 100, 0.5):.1f}%")
        number = tag("td", format_number(size), class_="number")
        rows.append(tag("tr", tag("th", name, scope="row"), tag("td", bar), number))
    return tag("table", tag("tbody", *rows), class_="bars") if rows else Html("")


def category_chart(counts: Mapping[str, int]) -> Html:
    """Return a bar for each category, the longest first; rare ones, and those beyond `MAX_BARS`, share the last bar."""
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    common = [name for name in ordered if [name] in group_rare(counts).values()]
    shown = common if len(common) == len(ordered) <= MAX_BARS else common[: MAX_BARS - 1]
    bars: list[tuple[str, float]] = [(name, counts[name]) for name in shown]
    rest = ordered[len(shown) :]
    return bar_chart([*bars, (_other(len(rest)), sum(counts[name] for name in rest))] if rest else bars)


def format_number(value: float) -> str:
    """Return a number as charts print it."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def line_chart(series: Mapping[str, Points], label: str, steps: tuple[float, float]) -> Html:
    """Return lines on common axes, which differ by colour and dashes; a line needs two points.

    Args:
        series: (x, y) points of each line by its name, x rising.
        label: Description for screen readers.
        steps: Where the axis of x starts and ends.
    """
    drawn = {name: points for name, points in series.items() if len(points) > 1}
    shown = dict(list(drawn.items())[:MAX_LINES])
    if not shown:
        return Html("")
    ys = [y for points in shown.values() for _, y in points]
    low, high, (first, last) = min(ys), max(ys), steps
    left, top, tall = 66.0, 8.0, 130.0
    width = _WIDTH - left
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
    bottom = top + tall + 18
    parts.append(tag("text", f"step {format_number(first)}", x=left, y=bottom))
    parts.append(tag("text", format_number(last), x=left + width, y=bottom, text_anchor="end"))
    svg = tag("svg", *parts, viewBox=f"0 0 {left + width:.0f} {bottom + 6:.0f}", role="img", aria_label=label)
    ends = [(name, points[-1][1]) for name, points in shown.items()]
    key = [_key(number, name, f"ends at {format_number(end)}") for number, (name, end) in enumerate(ends)]
    left_out = tag("li", f"and {len(drawn) - len(shown):,} more", class_="soft") if len(drawn) > len(shown) else ""
    return join([svg, tag("ul", *key, left_out, class_="key")])


def _line_style(number: int) -> dict[str, str | None]:
    """Return the attributes of a chart's n-th line: six colours, then the same six dashed."""
    return {"class_": f"curve s{number % 6}", "stroke_dasharray": None if number < 6 else "5 3"}


def _key(number: int, name: str, told: str) -> Html:
    mark = tag("line", x1=0, x2=22, y1=5, y2=5, **_line_style(number))
    swatch = tag("svg", mark, viewBox="0 0 22 10", class_="swatch", aria_hidden="true")
    return tag("li", swatch, f" {name} ", tag("span", told, class_="soft"))


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


@dataclass(frozen=True)
class Axis:
    """A linear scale.

    Attributes:
        low: The number at its start.
        high: The number at its end.
        first: Where it starts, in the units of the drawing.
        last: Where it ends.
    """

    low: float
    high: float
    first: float
    last: float

    @classmethod
    def around(cls, numbers: Sequence[float], first: float, last: float) -> Axis:
        """Return a scale with some room around numbers, of at least ten points, within 0 .. 1 where they are shares."""
        low, high = min(numbers), max(numbers)
        # numbers that are nearly equal should look so
        margin = max((high - low) * 0.06, (_MIN_SPAN / 100 - (high - low)) / 2)
        return cls(*_clamp_axis(low - margin, high + margin, low, high), first, last)

    def at(self, value: float) -> str:
        """Return where a number is."""
        return f"{self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first):.1f}"


def interval_chart(numbers: Sequence[ChartValue], label: str, mark: tuple[float, str] | None = None) -> Html:
    """Return a row for each number: its name and value, and below them a dot with its interval.

    Args:
        numbers: From top to bottom.
        label: Description for screen readers.
        mark: Position and name of a dashed line, such as chance.
    """
    if not numbers:
        return Html("")
    ends = [end for item in numbers for end in (item.value, item.low, item.high) if end is not None]
    axis = Axis.around([*ends, mark[0]] if mark else ends, 5.0, _WIDTH - 5.0)
    heading = tag("p", f"dashed: {mark[1]} {_percent(mark[0])}", class_="soft") if mark else ""
    ends_text = (tag("span", _percent(axis.low)), tag("span", _percent(axis.high)))
    return tag(
        "div",
        heading,
        *(_interval_row(item, axis, mark) for item in numbers),
        tag("div", *ends_text, class_="ends"),
        class_="intervals",
        role="group",
        aria_label=label,
    )


def _interval_row(item: ChartValue, axis: Axis, mark: tuple[float, str] | None) -> Html:
    kind = "bad" if item.bad else None
    has_interval = item.low is not None and item.high is not None
    parts = [tag("line", x1=axis.first, x2=axis.last, y1=7, y2=7, class_="rule")]
    if mark:
        place = axis.at(mark[0])
        parts.append(tag("line", x1=place, x2=place, y1=0, y2=14, class_="mark"))
    if item.low is not None and item.high is not None:
        whisker = f"whisker {kind or ''}".strip()
        parts.append(tag("line", x1=axis.at(item.low), x2=axis.at(item.high), y1=7, y2=7, class_=whisker))
    parts.append(tag("circle", cx=axis.at(item.value), cy=7, r=4, class_=kind))
    drawing = tag("svg", *parts, viewBox=f"0 0 {_WIDTH:.0f} 14", aria_hidden="true")
    name = tag("span", f"{item.label} ✗" if item.bad else item.label)
    interval = f" ({_percent(item.low or 0)} to {_percent(item.high or 0)})" if has_interval else ""
    number = tag("span", tag("b", _percent(item.value)), interval, class_="number")
    return tag("div", name, number, drawing, class_="interval")


@dataclass(frozen=True)
class PlaneCurve:
    """A curve in a plane of two numbers.

    Attributes:
        name: Its name.
        points: (x, y) in order.
        chosen: Its marked point, with intervals: x and y; None marks none.
    """

    name: str
    points: Points
    chosen: tuple[ChartValue, ChartValue] | None


def plane_chart(curves: Sequence[PlaneCurve], x_name: str, y_name: str, base: tuple[float, float] | None) -> Html:
    """Return curves of shares in a plane, each with its marked point and the point's intervals.

    Args:
        curves: Those without points are left out.
        x_name: What goes to the right.
        y_name: What goes up.
        base: Where all of them start: a square.
    """
    shown = [curve for curve in curves if curve.points][:MAX_LINES]
    if not shown:
        return Html("")
    left, right, top, bottom = 46.0, _WIDTH - 6.0, 8.0, 218.0
    marked = [number for curve in shown for number in curve.chosen or ()]
    xs, ys = (
        [point[which] for curve in shown for point in curve.points]
        + [end for number in marked[which::2] for end in (number.low, number.high) if end is not None]
        for which in (0, 1)
    )
    x_axis, y_axis = Axis.around(xs, left, right), Axis.around(ys, bottom, top)
    parts = [tag("line", x1=left, x2=right, y1=place, y2=place, class_="rule") for place in (top, bottom)]
    parts += [tag("line", x1=place, x2=place, y1=top, y2=bottom, class_="rule") for place in (left, right)]
    for number, place, dy in ((y_axis.high, top, "0.8em"), (y_axis.low, bottom, "0")):
        parts.append(tag("text", _percent(number), x=left - 5, y=place, dy=dy, text_anchor="end"))
    for number, place, anchor in ((x_axis.low, left, "start"), (x_axis.high, right, "end")):
        parts.append(tag("text", _percent(number), x=place, y=bottom + 17, text_anchor=anchor))
    for number, curve in enumerate(shown):
        parts += _plane_curve(curve, _line_style(number), x_axis, y_axis)
    if base:
        x, y = float(x_axis.at(base[0])), float(y_axis.at(base[1]))
        parts.append(tag("path", d=f"M{x - 4:.1f} {y - 4:.1f} h8 v8 h-8 z", class_="base"))
    label = f"{y_name} (upwards) against {x_name} (to the right), in %"
    svg = tag("svg", *parts, viewBox=f"0 0 {_WIDTH:.0f} {bottom + 24:.0f}", role="img", aria_label=label)
    key = [_key(number, curve.name, _chosen_text(curve)) for number, curve in enumerate(shown)]
    return join([svg, tag("ul", *key, class_="key")])


def _plane_curve(curve: PlaneCurve, style: Mapping[str, str | None], x_axis: Axis, y_axis: Axis) -> list[Html]:
    places = [(x_axis.at(x), y_axis.at(y)) for x, y in curve.points]
    parts = [tag("polyline", points=" ".join(f"{x},{y}" for x, y in places), **style)]
    colour = str(style["class_"]).split()[-1]
    parts += [tag("circle", cx=x, cy=y, r=1.8, class_=f"dot {colour}") for x, y in places]
    if curve.chosen:
        x_value, y_value = curve.chosen
        x, y = x_axis.at(x_value.value), y_axis.at(y_value.value)
        if x_value.low is not None and x_value.high is not None:
            ends = {"x1": x_axis.at(x_value.low), "x2": x_axis.at(x_value.high), "y1": y, "y2": y}
            parts.append(tag("line", **ends, class_=f"cross {colour}"))
        if y_value.low is not None and y_value.high is not None:
            ends = {"x1": x, "x2": x, "y1": y_axis.at(y_value.low), "y2": y_axis.at(y_value.high)}
            parts.append(tag("line", **ends, class_=f"cross {colour}"))
        parts.append(tag("circle", cx=x, cy=y, r=5, class_=f"dot {colour}", data_share=x_value.label))
    return parts


def _chosen_text(curve: PlaneCurve) -> str:
    if curve.chosen is None:
        return "no share is reported"
    x, y = curve.chosen
    return f"at {x.label}: ↑ {_percent(y.value)}, → {_percent(x.value)}"


def wilson(accuracy: float, num: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `num` independent cases.

    Source: Wilson 1927.
    """
    z = 1.959964
    middle = (accuracy + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * sqrt(accuracy * (1 - accuracy) / num + z * z / (4 * num * num))
    return max(0.0, middle - half), min(1.0, middle + half)


def group_rare(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Return bars by name with the categories behind each: those under `MIN_CASES` share one bar.

    A single rare category keeps its name, and so do all where every one is rare.
    """
    rare = [name for name, number in counts.items() if number < MIN_CASES]
    if not 1 < len(rare) < len(counts):
        return {name: [name] for name in counts}
    groups = {name: [name] for name in counts if name not in set(rare)}
    return groups | {_other(len(rare)): rare}


def _other(num: int) -> str:
    return f"other ({num:,} categories)"


def _clamp_axis(low: float, high: float, first: float, last: float) -> tuple[float, float]:
    """Return an axis shifted into 0 .. 1, as far as its numbers, from `first` to `last`, are shares."""
    if first >= 0 > low:
        low, high = 0.0, max(high - low, last) if high - low <= 1 else high
    if last <= 1 < high:
        low, high = max(low - (high - 1), min(first, 0.0)), 1.0
    return low, high


def _percent(value: float) -> str:
    return f"{value * 100:.1f}"
