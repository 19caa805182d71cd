"""The page that shows one version: what it holds, how it was made, what training on it did, with pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from data_manifests.manifest import DatasetVersion
from data_manifests.shards import ShardReader
from flows.cluster_section import cluster_section, draw_sheets, spread
from flows.duplicates_page import duplicates
from flows.negatives_section import SCRIPT, draw_cards, negatives_section
from flows.neighbour_section import (
    draw_neighbours,
    neighbour_section,
    neighbour_uids,
)
from flows.pages import Html, bars, curve, figure, histogram, join, page, table, tag, tiles
from flows.sample_card import sample_card
from flows.thumbnails import Thumbnails

NUM_EXAMPLES = 24

_MAX_BARS = 60
_MAX_POINTS = 600

_CHARTED = ("caption_words", "captions_per_sample", "negatives", "views", "splits", "cluster_sizes")
_COLUMNS = ("uid", "shard", "json_offset", "json_bytes", "cluster_id", "difficulty")

Rows = Mapping[str, list[Any]]


def summary_html(
    version: DatasetVersion,
    run_json: Mapping[str, Any] | None,
    evaluations: list[Mapping[str, Any]],
    curve: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> str:
    """Return one self-contained page: pictures inside, no network, no script but the negatives' filter; all escaped.

    Args:
        version: The version.
        run_json: The run record beside its manifest (when, where, how long), if there is one.
        evaluations: Columns of the results' table, in order: ``{"label", "on", "model", "metrics"}``.
        curve: A training log: ``{"step", "loss"}`` of each step.
        seed: Picks what is shown as drawn.

    Raises:
        InputError: a file of the version is missing or damaged.
    """
    body = version.manifest.body
    index = version.index()
    rows = {name: index[name].to_pylist() for name in _COLUMNS if name in index.column_names}
    examples = spread(len(rows["uid"]), NUM_EXAMPLES)
    cards, sheets = draw_cards(version, seed), draw_sheets(version, rows, seed)
    near = draw_neighbours(version, rows, seed)
    uids = [rows["uid"][place] for place in examples]
    with Thumbnails(version, [*uids, *cards.uids, *sheets.uids, *neighbour_uids(near)]) as pictures:
        sections = [
            ("results", "Results", _results(evaluations)),
            ("training", "Training", _training(curve)),
            ("statistics", "Statistics", _statistics(body["counts"], body["statistics"], rows)),
            ("examples", "Examples", _examples(version, rows, examples, pictures)),
            ("negatives", "Negatives", negatives_section(cards, pictures)),
            ("clusters", "Clusters", cluster_section(sheets, pictures)),
            ("neighbours", "Neighbours", neighbour_section(near, pictures)),
            ("duplicates", "Duplicates and leaks", duplicates(version)),
            ("stages", "Stages", _stages(body["stages"], run_json)),
            ("dropped", "Dropped", _dropped(body["counts"]["dropped"])),
        ]
    script = SCRIPT if cards.samples else ""
    return page(version.ref, join([_lead(version, run_json), _tiles(body)]), sections, script)


def _lead(version: DatasetVersion, run_json: Mapping[str, Any] | None) -> Html:
    body = version.manifest.body
    source = ", ".join(f"{key} {value}" for key, value in body["source"].items() if value is not None)
    parent = (
        f"from {body['parent'].get('name', body['name'])}@{body['parent']['version']}"
        if body["parent"]
        else "the first version"
    )
    lines: list[object] = [
        tag("p", f"Recipe {body['recipe'].get('name')} ({body['recipe'].get('paper', 'no paper')}); {parent}."),
        tag("p", f"Source: {source}.", class_="soft"),
        tag("code", version.manifest.fingerprint),
    ]
    if run_json and "seconds" in run_json:
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in run_json["seconds"].items())
        lines.append(
            tag(
                "p",
                f"Made {run_json.get('finished', '')} on {run_json.get('cores', '?')} cores: {took}.",
                class_="soft",
            )
        )
    return join(lines)


def _tiles(body: Mapping[str, Any]) -> Html:
    counts = body["counts"]
    dropped = sum(number for reasons in counts["dropped"].values() for number in reasons.values())
    size = sum(record["bytes"] for record in body["files"])
    values = [(f"{counts.get(name, 0):,}", name) for name in ("samples", "captions", "views", "negatives")]
    return tiles(
        [
            *values,
            (f"{dropped:,}", "dropped"),
            (f"{len(body['shards']):,}", "shards"),
            (f"{size / 2**20:,.1f}", "MiB"),
        ]
    )


def _examples(version: DatasetVersion, rows: Rows, places: Iterable[int], pictures: Thumbnails) -> Html:
    cards = []
    with ShardReader(version.folder) as reader:
        for place in places:
            data = reader.read(rows["shard"][place], rows["json_offset"][place], rows["json_bytes"][place])
            cards.append(sample_card(orjson.loads(data), pictures))
    note = tag(
        "p",
        "Evenly over the shards, which hold cluster after cluster. ",
        tag("mark", "Marked"),
        " is what was put into a caption to make it false.",
        class_="soft",
    )
    return join([note, tag("div", *cards, class_="cards")])


def _statistics(counts: Mapping[str, Any], statistics: Mapping[str, Any], rows: Rows) -> Html:
    # versions made before something was counted do not say it: their page has no such chart
    told = {name: statistics.get(name, {}) for name in _CHARTED}
    sizes = sorted(told["cluster_sizes"].values(), reverse=True)
    scores = [value for value in rows.get("difficulty", []) if value is not None]
    charts = [
        figure("Words in a caption", histogram(_binned(told["caption_words"]), "captions by number of words")),
        figure("Captions of a sample", bars(list(told["captions_per_sample"].items())[:_MAX_BARS])),
        figure("Negatives by kind", bars(_longest(told["negatives"]))),
        figure("Rewrites and knowledge captions by kind", bars(_longest(told["views"]))),
        figure("Texts that a gate refused, by reason", bars(_longest(_refused(counts)))),
        figure("Splits", bars(list(told["splits"].items()))),
        figure("Clusters by size, largest first", histogram(_sampled(sizes), "cluster sizes, largest first")),
        figure("Difficulty", histogram(_shares(scores), "samples by difficulty")),
    ]
    return tag("div", *charts, class_="charts")


def _refused(counts: Mapping[str, Any]) -> dict[str, int]:
    """Return how many texts were refused by ``stage: reason``."""
    stages = counts.get("rejected", {}).items()
    return {f"{stage}: {reason}": number for stage, reasons in stages for reason, number in reasons.items()}


def _binned(counts: Mapping[str, int]) -> list[tuple[object, float]]:
    """Return a histogram over whole numbers without gaps; what lies far out is summed up in the last bar."""
    numbers = {int(value): number for value, number in counts.items()}
    if not numbers:
        return []
    first, last = min(numbers), min(max(numbers), min(numbers) + _MAX_BARS - 1)
    made: list[tuple[object, float]] = [(value, numbers.get(value, 0)) for value in range(first, last + 1)]
    beyond = sum(number for value, number in numbers.items() if value > last)
    return [*made[:-1], (f"{last}+", made[-1][1] + beyond)] if beyond else made


def _longest(counts: Mapping[str, int]) -> Sequence[tuple[str, float]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MAX_BARS]


def _sampled(sizes: Sequence[int]) -> list[tuple[object, float]]:
    return [(place + 1, sizes[place]) for place in spread(len(sizes), _MAX_BARS)]


def _shares(scores: Sequence[float]) -> list[tuple[object, float]]:
    if not scores:
        return []
    heights, _ = np.histogram(np.array(scores, dtype=np.float64), bins=20, range=(0.0, 1.0))
    return [(f"{place / 20:.2f}", int(height)) for place, height in enumerate(heights)]


def _stages(stages: Iterable[Mapping[str, Any]], run_json: Mapping[str, Any] | None) -> Html:
    ran = {item["stage"]: item for item in (run_json or {}).get("stages", [])}
    rows = []
    for stage in stages:
        told = ran.get(stage["name"], {})
        work = f"{told['computed']:,} computed, {told['reused']:,} reused" if told else ""
        config = ", ".join(f"{name} = {value}" for name, value in stage["config"].items())
        models = ", ".join(f"{value['name']} ({value['hash'][:8]})" for value in stage["resources"].values())
        seconds = f"{told['wall_s']:.1f}" if told else ""
        rows.append(
            (
                f"{stage['name']} /{stage['version']}",
                stage["source"],
                config,
                models,
                tag("code", stage["fingerprint"][:12]),
                work,
                seconds,
            )
        )
    return table(("stage /version", "paper", "settings", "models", "fingerprint", "samples", ">seconds"), rows)


def _dropped(dropped: Mapping[str, Mapping[str, int]]) -> Html:
    rows = [(stage, reason, f"{number:,}") for stage, reasons in dropped.items() for reason, number in reasons.items()]
    return table(("by", "reason", ">samples"), rows)


def _training(log: Sequence[Mapping[str, Any]]) -> Html:
    points = [(float(line["step"]), float(line["loss"])) for line in log if np.isfinite(line.get("loss", np.nan))]
    return figure("Loss", curve([points[place] for place in spread(len(points), _MAX_POINTS)], "loss by step"))


def _results(evaluations: Sequence[Mapping[str, Any]]) -> Html:
    """Return a table for each benchmark: a column for each evaluation, and the change from first to last."""
    parts: list[Html] = []
    for on in dict.fromkeys(item["on"] for item in evaluations):
        columns = [item for item in evaluations if item["on"] == on]
        values = [dict(_flat(item["metrics"])) for item in columns]
        names = dict.fromkeys(name for column in values for name in column)
        rows = [(name, *(_shown(column.get(name)) for column in values), _change(name, values)) for name in names]
        heads = [f">{item.get('label') or item.get('model')}" for item in columns]
        parts += [tag("h3", on), table(("metric", *heads, ">change"), rows)]
    return join(parts)


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _change(name: str, columns: Sequence[Mapping[str, Any]]) -> str:
    first, last = columns[0].get(name), columns[-1].get(name)
    if len(columns) < 2 or not isinstance(first, float) or not isinstance(last, float):
        return ""
    return f"{last - first:+.4f}"
