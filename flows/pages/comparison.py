"""The sections of a comparison's page: numbers with intervals as charts and a table, the gate, recipes, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_manifests.errors import InputError
from data_manifests.run_files import LOG_FILE
from flows.comparison.output import COMPARISON_FILE, FORMAT
from flows.comparison.variants import CONTROL, PRETRAINED
from flows.pages.charts import ChartValue, chart_grid, figure, interval_chart
from flows.pages.html import Html, Section, details, join, link_papers, note, table, tag, tiles
from flows.pages.run import read_json, read_log
from flows.pages.sections.results import benchmark_name
from flows.pages.sections.training_curves import Log, overlay_curves

_CURVES = (
    ("loss", "Loss"),
    ("lr", "Learning rate"),
    ("logit_scale", "Logit scale"),
    ("hardness.margin", "Margin of captions to their negatives"),
    ("hardness.fooled", "Share of negatives nearer to the image than the caption"),
    ("hardness.rival_margin", "Margin of captions to the nearest rival in the batch"),
)


def read_comparison(folder: Path) -> dict[str, Any]:
    """Read the results of a comparison from its folder.

    Raises:
        InputError: there are none, or they are in another format.
    """
    document = read_json(folder / COMPARISON_FILE)
    if document.get("format") != FORMAT:
        raise InputError(
            f"{folder / COMPARISON_FILE}: format is {document.get('format')!r}", allowed=repr(FORMAT),
            fix="run clipcurate compare again",
        )  # fmt: skip
    return document


def comparison_sections(document: Mapping[str, Any], folder: Path) -> list[Section]:
    """Return a comparison's sections.

    Args:
        document: Result of `read_comparison`.
        folder: Folder of its cells' runs.
    """
    rows = document["rows"]
    return [
        ("numbers", "Numbers with their intervals", _charts(rows, document.get("blind", []))),
        ("table", "Table", _table(rows, document.get("blind", []))),
        ("differences", "Differences to plain fine-tuning", _differences(rows)),
        ("recipes", "Recipes", _recipes(rows)),
        ("curves", "Training", _curves(document.get("cells", []), folder)),
        ("cells", "Cells", _cells(document.get("cells", []))),
    ]


def comparison_lead(document: Mapping[str, Any]) -> Html:
    """Return the content above a comparison's sections."""
    rows = document["rows"]
    gate = document["gate"]
    evaluated = [row for row in rows if row["name"] != PRETRAINED and row["numbers"]]
    failed = [row["name"] for row in evaluated if row["failed"]]
    gate_text = (
        f"The gate: a recipe fails if it loses more than {gate['zero_shot']:g} points in zero-shot classification or "
        f"{gate['retrieval']:g} in R@1 against the {gate['against']} model, whatever it gains."
    )
    benchmarks = document["benchmarks"]
    return join(
        [
            tag("p", document["title"]),
            note(gate_text),
            tag("p", tag("span", "✗ ", class_="bad"), "fails: ", ", ".join(failed)) if failed else "",
            tiles(
                [
                    (f"{len(evaluated):,}", "row(s)"),
                    (f"{len(document['seeds']):,}", "seed(s) each"),
                    (f"{len(benchmarks['on']):,}", "benchmark(s)"),
                    (f"{len(evaluated) - len(failed):,}", "pass the gate"),
                ]
            ),
            tag("p", tag("code", document["command"])),
        ]
    )


MetricKey = tuple[str, str]
"""Benchmark and metric."""


def _key(item: Mapping[str, Any]) -> MetricKey:
    return item["on"], item["metric"]


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[MetricKey]:
    return list(dict.fromkeys(_key(item) for row in rows for item in row["numbers"]))


def _numbers(row: Mapping[str, Any]) -> dict[MetricKey, Mapping[str, Any]]:
    return {_key(item): item for item in row["numbers"]}


def _points_lost(row: Mapping[str, Any]) -> dict[MetricKey, float]:
    return {_key(item): item["points"] for item in row["lost"]}


def _charts(rows: Sequence[Mapping[str, Any]], blind: Sequence[Mapping[str, Any]]) -> Html:
    """Return a chart for each number: every row's dot with its interval, and a line at the pretrained model's value.

    The best blind judge, which sees no image, is below the rows.
    """
    charts = []
    for key in _keys(rows):
        measured = [(row["name"], _numbers(row)[key], key in _points_lost(row)) for row in rows if key in _numbers(row)]
        values = [ChartValue(name, item["value"], item["low"], item["high"], bad) for name, item, bad in measured]
        values += [ChartValue(f"blind: {item['judge']}", item["value"]) for item in blind if _key(item) == key]
        base = next((item["value"] for name, item, _ in measured if name == PRETRAINED), None)
        title = f"{benchmark_name(key[0])}: {key[1]}, in %"
        charts.append(figure(title, interval_chart(values, title, None if base is None else (base, PRETRAINED))))
    remark = "Dots are means over seeds, whiskers 95 % intervals over images and seeds; ✗ marks what fails the gate."
    return join([note(remark), chart_grid(charts)]) if charts else Html("")


def _table(rows: Sequence[Mapping[str, Any]], blind: Sequence[Mapping[str, Any]]) -> Html:
    keys = _keys(rows)
    heads = [f">{benchmark_name(on)} {metric}" for on, metric in keys]
    lines = []
    for row in rows:
        numbers, lost = _numbers(row), _points_lost(row)
        cells = [_cell(numbers.get(key), lost.get(key)) for key in keys]
        count = f"{row['num_samples']:,}" if "num_samples" in row else ""
        name = tag("span", row["name"], class_="bad") if row["failed"] else row["name"]
        lines.append((name, _gate(row), count, *cells))
    by_judge = {_key(item): f"{100 * item['value']:.1f} by {item['judge']}" for item in blind}
    if by_judge:
        lines.append(("without the image", Html(""), "", *(tag("span", by_judge.get(key, "")) for key in keys)))
    remark = (
        "In %: mean over seeds (95 % interval), difference to plain fine-tuning; ▲ ▼ where a paired test is significant. "
        "Red: fails the gate, with the points lost against the pretrained model."
    )
    return join([table(("recipe", "gate", ">samples", *heads), lines), note(remark)])


def _cell(number: Mapping[str, Any] | None, lost: float | None) -> Html:
    if number is None:
        return Html("")
    text = f"{100 * number['value']:.1f} ({100 * number['low']:.1f} to {100 * number['high']:.1f})"
    difference = number.get("to_control")
    change = "" if difference is None else f" {100 * difference['value']:+.1f}{_mark(difference)}"
    if lost is not None:
        text += f" lost {-lost:.1f}"
    return join([tag("span", text, class_=None if lost is None else "bad"), tag("span", change, class_="soft")])


def _mark(difference: Mapping[str, Any]) -> str:
    if not difference["told_apart"]:
        return ""
    return "▲" if difference["value"] > 0 else "▼"


def _gate(row: Mapping[str, Any]) -> Html:
    if row["faults"]:
        return tag("span", f"did not run: {next(iter(row['faults'].values())).splitlines()[0]}", class_="bad")
    if row["failed"]:
        return tag("span", "✗\N{NO-BREAK SPACE}failed", class_="bad")
    return Html("" if row["name"] == PRETRAINED or not row["numbers"] else "passed")


def _differences(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Return a chart for each number with every row's difference to the control."""
    charts = []
    for key in _keys(rows):
        values = [
            ChartValue(f"{row['name']} {_mark(found)}".strip(), found["value"], found["low"], found["high"])
            for row in rows
            if (found := _numbers(row).get(key, {}).get("to_control"))
        ]
        title = f"{benchmark_name(key[0])}: {key[1]} minus that of {CONTROL}, in points"
        charts.append(figure(title, interval_chart(values, title, (0.0, CONTROL) if values else None)))
    return chart_grid(charts)


def _recipes(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Return each row's recipe with its paper and what differs from the paper."""
    from flows.recipe import load_recipe, recipe_names

    known, lines = set(recipe_names()), []
    for row in rows:
        name = row.get("recipe")
        if name is None:
            continue
        recipe = load_recipe(name) if name in known else None
        manifest = row["manifest"]
        settings = ", ".join(row["settings"])
        version = join([manifest["ref"], " ", tag("code", manifest["fingerprint"][:12])])
        source = (link_papers(recipe.paper), recipe.differs) if recipe else ("", "")
        lines.append((row["name"], name, *source, settings, version))
    return table(("row", "recipe", "paper", "differs", "other settings", "version"), lines)


def _curves(cells: Sequence[Mapping[str, Any]], folder: Path) -> Html:
    """Return the runs' curves over each other, of each row the first seed, so that there are few lines."""
    logs: dict[str, Log] = {}
    for cell in cells:
        path = (folder / str(cell["folder"]) / "run" / LOG_FILE).resolve()
        if cell["row"] not in logs and path.is_relative_to(folder.resolve()) and path.is_file():
            logs[cell["row"]] = read_log(path, fix="run clipcurate compare again")
    charts = [chart for column, title in _CURVES if (chart := overlay_curves(logs, column, title))]
    remark = note("The first seed of each recipe.")
    return join([remark, chart_grid(charts)]) if charts else Html("")


def _cells(cells: Sequence[Mapping[str, Any]]) -> Html:
    rows = []
    for cell in cells:
        counts = {
            f"{item['num_samples']:,} of {item['num_samples'] + item['num_refused']:,}"
            for item in cell["results"].values()
        }
        fault = tag("span", cell["fault"].splitlines()[0], class_="bad") if cell["fault"] else ""
        seed = "" if cell["seed"] is None else cell["seed"]
        rows.append(
            (cell["row"], seed, f"{cell['train_s']:.0f}", f"{cell['evaluate_s']:.0f}", ", ".join(sorted(counts)), fault)
        )
    content = table(("row", ">seed", ">training s", ">evaluation s", "items scored", "fault"), rows)
    return details(f"{len(rows)} cells", content) if rows else Html("")
