"""The sections of a comparison's page: curves from the base, cases that differ, numbers with intervals, recipes, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.run_files import LOG_FILE
from flows.comparison.output import COMPARISON_FILE, FORMAT
from flows.comparison.table import NO_HEADLINE
from flows.comparison.variants import CONTROL, PRETRAINED
from flows.evaluation.intervals import read_cases
from flows.pages.charts import ChartValue, PlaneCurve, chart_grid, figure, interval_chart, plane_chart
from flows.pages.glossary import word
from flows.pages.html import Html, Section, details, join, link_papers, note, table, tag, tiles
from flows.pages.run import read_json, read_log
from flows.pages.sections.cases import MAX_GALLERIES, Cases, CaseSource, case_changes, cases_section
from flows.pages.sections.results import benchmark_name, metric_name
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


def comparison_sections(document: Mapping[str, Any], folder: Path, catalog: Catalog) -> list[Section]:
    """Return a comparison's sections.

    Args:
        document: Result of `read_comparison`.
        folder: Folder of its cells' runs.
        catalog: Workspace and manifests, for the pictures of cases.
    """
    rows, cells = document["rows"], document["cells"]
    reasons = {_key(item): item["reason"] for item in document["metrics"] if item["reason"]}
    pair = _leader_and_control(document)
    numbers = [_charts(rows, document["blind"], reasons), tag("h3", "Table"), _table(rows, document["blind"], reasons)]
    gallery = _gallery(document, folder, catalog, *pair) if pair else Html("")
    return [
        ("curves", "From the base to the tuned weights", _share_curves(document)),
        ("cases", f"Where {pair[0]} and {pair[1]} differ" if pair else "", gallery),
        ("numbers", "Numbers", join(numbers)),
        ("differences", "Differences to plain fine-tuning", _differences(rows)),
        ("recipes", "Recipes", _recipes(rows)),
        ("training", "Training", _curves(cells, folder)),
        ("record", "Record", details("Command, versions and cells", _record(document))),
    ]


def comparison_lead(document: Mapping[str, Any]) -> Html:
    """Return the content above a comparison's sections: who dominates whom, the rule, the gate."""
    rows, gate = document["rows"], document["gate"]
    evaluated = [row for row in rows if row["name"] != PRETRAINED and row["numbers"]]
    failed = [row["name"] for row in evaluated if row["failed"]]
    gate_text = (
        f": a recipe fails if it loses more than {gate['zero_shot']:g} points in zero-shot classification or "
        f"{gate['retrieval']:g} in R@1 against the {gate['against']} model, whatever it gains."
    )
    below: dict[str, list[str]] = {}
    for pair in document["dominance"]:
        below.setdefault(pair["row"], []).append(pair["over"])
    lines = [join([f"{row} ", word("dominates"), f" {', '.join(others)}"]) for row, others in below.items()]
    return join(
        [
            *(
                tag("p", line, class_="headline")
                for line in lines or [join(["No row ", word("dominates"), " another"])]
            ),
            tag("p", document["title"]),
            note("Each row is shown at its own ", word("share"), ". ", document["rule"]["sentence"]),
            note("The ", word("gate"), gate_text),
            tag("p", tag("span", "✗ ", class_="bad"), "fails: ", ", ".join(failed)) if failed else "",
            tiles(
                [
                    (f"{len(evaluated):,}", "row(s)"),
                    (f"{len(document['seeds']):,}", "seed(s) each"),
                    (f"{len(document['benchmarks']['on']):,}", "benchmark(s)"),
                    (f"{len(evaluated) - len(failed):,}", "pass the gate"),
                ]
            ),
        ]
    )


def _title(on: str, metric: str) -> str:
    return f"{benchmark_name(on)}: {metric_name(metric)}"


def _share_curves(document: Mapping[str, Any]) -> Html:
    """Return tests of composition against retrieval and zero-shot, a curve for each row; tests that do not count are folded."""
    roles = document["metrics"]
    sides = [_key(item) for item in roles if item["role"] in ("retrieval", "zero_shot")]
    up = [item for item in roles if item["role"] == "composition"]
    counted = [_plane(document, side, _key(item)) for item in up if item["headline"] for side in sides]
    folded = [
        join([note(f"{_title(*_key(item))} is no headline: {item['reason']}."), chart_grid(_plane(document, side, _key(item)) for side in sides)])
        for item in up
        if not item["headline"]
    ]  # fmt: skip
    shown = [chart for chart in counted if chart]
    if not shown and not any(folded):
        return Html("")
    remark = note(
        "Each line goes from the ", word("base"), " (square, ", word("share"), " 0) to the tuned weights (share 1) in tenths; the large dot is the share "
        "that the rule chose, with its 95 % ", word("interval", "intervals"), ". Up and to the right is better.",
    )  # fmt: skip
    more = details("Tests that are no headline", join(folded)) if folded else ""
    pairs = [
        (item["row"], item["over"], ", ".join(_title(*_key(test)) for test in item["higher"]))
        for item in document["dominance"]
    ]
    return join([remark, chart_grid(shown), more, table(("row", "dominates", "being higher in"), pairs)])


def _plane(document: Mapping[str, Any], x_key: MetricKey, y_key: MetricKey) -> Html:
    curves, base = [], None
    for row in document["rows"]:
        points, chosen = [], None
        for point in row["curve"]:
            numbers = {_key(item): item for item in point["numbers"]}
            if x_key not in numbers or y_key not in numbers:
                continue
            values = [numbers[key] for key in (x_key, y_key)]
            points.append((values[0]["value"], values[1]["value"]))
            base = points[-1] if point["share"] == 0 else base
            if point["share"] == row["share"]:
                label = f"share {point['share']:g}"
                x, y = (ChartValue(label, item["value"], item["low"], item["high"]) for item in values)
                chosen = (x, y)
        curves.append(PlaneCurve(row["name"], points, chosen))
    title = join(tag("div", name) for name in (f"↑ {_title(*y_key)}", f"→ {_title(*x_key)}"))
    return figure(title, plane_chart(curves, _title(*x_key), _title(*y_key), base))


def _leader_and_control(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the row that is highest in the first test that counts, of those that pass the gate, and what it is held against."""
    rows = {row["name"]: row for row in document["rows"] if row["numbers"]}
    control = CONTROL if CONTROL in rows else PRETRAINED
    others = [row for name, row in rows.items() if name not in (CONTROL, PRETRAINED)]
    ranked = sorted(document["metrics"], key=lambda item: (not item["headline"], item["role"] != "composition"))
    if not others or not ranked or control not in rows:
        return None
    key = _key(ranked[0])
    best = max(
        others, key=lambda row: (not row["failed"], _numbers(row)[key]["value"] if key in _numbers(row) else -1.0)
    )
    return str(best["name"]), control


def _gallery(document: Mapping[str, Any], folder: Path, catalog: Catalog, leader: str, control: str) -> Html:
    """Return the cases that leader and control judge differently, for the first tests, those of composition before others."""
    order = ("composition", "retrieval", "zero_shot", "other")
    metrics = sorted(document["metrics"], key=lambda item: (not item["headline"], order.index(item["role"])))
    firsts = {item["on"]: item["metric"] for item in reversed(metrics)}
    parts: list[Html] = []
    for on in dict.fromkeys(item["on"] for item in metrics):
        if len(parts) == 2 * MAX_GALLERIES:
            break
        runs = [_results(document["cells"], folder, name, on) for name in (control, leader)]
        if not all(runs):
            continue
        means = runs[1][0][0].get("means") or {}
        names = means.get(firsts[on], [firsts[on]])
        changes = case_changes([cases for _, cases in runs[0]], [cases for _, cases in runs[1]], names)
        of = document["benchmarks"]
        section = cases_section(
            changes, CaseSource(on, runs[1][0][0].get("split"), of["limit"], catalog), control, leader
        )
        parts += [tag("h3", _title(on, firsts[on])), section]
    return join(parts)


def _results(
    cells: Sequence[Mapping[str, Any]], folder: Path, row: str, on: str
) -> list[tuple[Mapping[str, Any], Cases]]:
    """Return a row's results on a benchmark, one for each seed, with their cases; those whose files are not here are left out."""
    found: list[tuple[Mapping[str, Any], Cases]] = []
    for cell in cells:
        result = cell["results"].get(on)
        if cell["row"] == row and result is not None and "file" in result:
            path = (folder / str(result["file"])).resolve().with_suffix(".parquet")
            if path.is_relative_to(folder.resolve()) and path.is_file():
                found.append((result, read_cases(path, on, None)))
    return found


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


Reasons = Mapping[MetricKey, str]
"""Why a test is no headline."""


def _charts(rows: Sequence[Mapping[str, Any]], blind: Sequence[Mapping[str, Any]], reasons: Reasons) -> Html:
    """Return a chart for each number: every row's dot with its interval, and a line at the pretrained model's value.

    The best blind judge, which sees no image, is below the rows.
    """
    charts = []
    for key in _keys(rows):
        measured = [(row["name"], _numbers(row)[key], key in _points_lost(row)) for row in rows if key in _numbers(row)]
        values = [ChartValue(name, item["value"], item["low"], item["high"], bad) for name, item, bad in measured]
        values += [ChartValue(f"blind: {item['judge']}", item["value"]) for item in blind if _key(item) == key]
        base = next((item["value"] for name, item, _ in measured if name == PRETRAINED), None)
        title = f"{_title(*key)}, in %{NO_HEADLINE if key in reasons else ''}"
        charts.append(figure(title, interval_chart(values, title, None if base is None else (base, PRETRAINED))))
    remark = "Dots are means over seeds, whiskers 95 % intervals over images and seeds; ✗ marks what fails the gate."
    flagged = [
        note(f"{NO_HEADLINE.strip()} {_title(*key)} is no headline: {reason}.") for key, reason in reasons.items()
    ]
    return join([note(remark), *flagged, chart_grid(charts)]) if charts else Html("")


def _table(rows: Sequence[Mapping[str, Any]], blind: Sequence[Mapping[str, Any]], reasons: Reasons) -> Html:
    keys = _keys(rows)
    heads = [f">{_title(*key)}{NO_HEADLINE if key in reasons else ''}" for key in keys]
    lines = []
    for row in rows:
        numbers, lost = _numbers(row), _points_lost(row)
        cells = [_cell(numbers.get(key), lost.get(key)) for key in keys]
        count = f"{row['num_samples']:,}" if "num_samples" in row else ""
        name = tag("span", row["name"], class_="bad") if row["failed"] else row["name"]
        share = "" if row["share"] is None else f"{row['share']:g}"
        lines.append((name, share, _gate(row), count, *cells))
    by_judge = {_key(item): f"{100 * item['value']:.1f} by {item['judge']}" for item in blind}
    if by_judge:
        lines.append(("without the image", "", Html(""), "", *(tag("span", by_judge.get(key, "")) for key in keys)))
    remark = (
        "In %: mean over seeds (95 % interval), difference to plain fine-tuning; ▲ ▼ where a paired test is significant. "
        "Red: fails the gate, with the points lost against the pretrained model."
    )
    return join([table(("recipe", ">share", "gate", ">samples", *heads), lines), note(remark)])


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
        title = f"{_title(*key)} minus that of {CONTROL}, in points"
        charts.append(figure(title, interval_chart(values, title, (0.0, CONTROL) if values else None)))
    return chart_grid(charts)


def _recipes(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Return each row's recipe with its paper and what differs from the paper."""
    from flows.recipe import load_recipe
    from flows.recipe_finding import own_recipe_names

    known, lines = set(own_recipe_names()), []
    for row in rows:
        name = row.get("recipe")
        if name is None:
            continue
        recipe = load_recipe(name) if name in known else None
        settings = ", ".join(row["settings"])
        source = (link_papers(recipe.paper), recipe.differs) if recipe else ("", "")
        data = row.get("data", name)
        lines.append(
            (row["name"], name if data == name else f"{name} on {data}", *source, settings, row["manifest"]["ref"])
        )
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


def _record(document: Mapping[str, Any]) -> Html:
    """Return the command, the versions that rows trained on, and the cells."""
    rows = []
    for cell in document["cells"]:
        counts = {
            f"{item['num_samples']:,} of {item['num_samples'] + item['num_refused']:,}"
            for item in cell["results"].values()
        }
        fault = tag("span", cell["fault"].splitlines()[0], class_="bad") if cell["fault"] else ""
        seed = "" if cell["seed"] is None else cell["seed"]
        rows.append(
            (cell["row"], seed, f"{cell['train_s']:.0f}", f"{cell['evaluate_s']:.0f}", ", ".join(sorted(counts)), fault)
        )
    cells = table(("row", ">seed", ">training s", ">evaluation s", "items scored", "fault"), rows)
    manifests = {
        row["manifest"]["ref"]: row["manifest"]["fingerprint"] for row in document["rows"] if "manifest" in row
    }
    versions = table(("version", "fingerprint"), [(ref, tag("code", value)) for ref, value in manifests.items()])
    return join([tag("p", tag("code", document["command"])), versions, cells])
