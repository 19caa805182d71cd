"""The sections of a version's page: pictures, statistics, quality, how it was made, what changed, the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_manifests.caption_negatives import CaptionNegatives
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.nested import leaves
from flows.execution.learned_contrasts import read_contrasts
from flows.pages.charts import bar_chart, category_chart, chart_grid, figure, histogram
from flows.pages.diff import SECTION_LIMITS, diff_lead, diff_sections
from flows.pages.glossary import word
from flows.pages.html import Html, Section, details, join, link_papers, note, table, tag, tiles
from flows.pages.index_rows import IndexRows
from flows.pages.sections.clusters import cluster_section, draw_sheets, spread
from flows.pages.sections.contrasts import contrasts_section
from flows.pages.sections.duplicates import duplicates_section
from flows.pages.sections.lineage import lineage_list, parents_of, version_steps
from flows.pages.sections.neighbours import draw_neighbours, neighbour_section, neighbour_uids
from flows.pages.sections.quality import quality_section
from flows.pages.sections.sample_selection import MAX_BYTES, select_samples
from flows.pages.sections.samples import browser_section
from flows.pages.thumbnails import Thumbnails

PAGE_BYTES = 9_700_000
"""About the size of a page: samples get what the other sections leave."""

_MAX_BARS = 60

_CHARTED = ("caption_words", "captions_per_sample", "negatives", "views", "splits", "cluster_sizes")
_COLUMNS = ("uid", "shard", "json_offset", "json_bytes", "cluster_id", "difficulty")


def version_sections(
    version: DatasetVersion,
    catalog: Catalog,
    run_json: Mapping[str, Any] | None,
    results: Sequence[Section] = (),
    seed: int = 0,
) -> list[Section]:
    """Return a version's sections.

    Args:
        version: The version.
        catalog: Manifests and workspace, with its parents.
        run_json: The run record next to its manifest (when, where, how long), if there is one.
        results: Sections on models that were trained on it; they follow the pictures.
        seed: Seed of everything that is drawn.

    Raises:
        InputError: a file of the version is missing or damaged.
    """
    body = version.manifest.body
    index = version.index()
    rows = {name: index[name].to_pylist() for name in _COLUMNS if name in index.column_names}
    sheets, near = draw_sheets(version, rows, seed), draw_neighbours(version, rows, seed)
    steps = version_steps(body, parents_of(catalog, version.manifest))
    with Thumbnails(version, [*sheets.uids, *neighbour_uids(near)]) as pictures:
        drawn = [
            ("clusters", "Clusters", cluster_section(sheets, pictures)),
            ("neighbours", "Neighbours", neighbour_section(near, pictures)),
        ]
    rest = [
        *drawn,
        ("duplicates", "Duplicates and leaks", duplicates_section(version)),
        *results,
        ("statistics", "Statistics", _statistics(body["counts"], body["statistics"], rows)),
        ("quality", "Quality", quality_section(body["statistics"])),
        ("contrasts", "Contrasts", contrasts_section(read_contrasts(catalog, version))),
        ("lineage", "How it was made", lineage_list(steps, f"How {version.ref} was made, from its source down")),
        ("dropped", "Dropped", _dropped(body["counts"]["dropped"])),
        ("changes", "Changes", _changes(version, catalog)),
        ("record", "Record", details("Hashes, sizes, times and settings", _record(version, run_json))),
    ]
    left = PAGE_BYTES - sum(len(content.encode()) for _, _, content in rest)
    return [("samples", "Samples", browser_section(select_samples(version, rows, seed, min(left, MAX_BYTES)))), *rest]


def version_lead(version: DatasetVersion) -> Html:
    """Return the content above a version's sections: recipe, source, counts."""
    body, parent = version.manifest.body, version.manifest.parent_ref
    source, recipe = body["source"], body["recipe"]
    origin = f"from {parent}" if parent else "the first version"
    paper = link_papers(recipe.get("paper", "no paper"))
    licence = f", licence {source['licence']}" if source.get("licence") else ""
    return join(
        [
            tag("p", f"Recipe {recipe.get('name')} (", paper, f"); {origin}."),
            *_language(recipe),
            note(f"Source: {source.get('name')} ({source.get('kind')}){licence}."),
            _tiles(body),
        ]
    )


def _language(recipe: Mapping[str, Any]) -> list[Html]:
    """Return what the captions are in, if not English, and what was left out for it."""
    if "language" not in recipe:
        return []
    left_out = ", ".join(map(_readable, recipe["left_out"]))
    return [
        note(
            f"Captions in {recipe['language']}"
            + (f"; left out, because they know English only: {left_out}." if left_out else ".")
        )
    ]


def _changes(version: DatasetVersion, catalog: Catalog) -> Html:
    """Return how the version differs from its parent; a sentence if the parent is not here."""
    ref = version.manifest.parent_ref
    if ref is None:
        return Html("")
    try:
        old = catalog.open(ref)
    except InputError:
        return note(f"Its parent {ref} is not here, so there is nothing to compare with.")
    from data_manifests.diff import diff_versions

    diff = diff_versions(old, version)
    parts: list[Html] = [note(f"Against its parent {ref}."), diff_lead(diff)]
    for _, heading, content in diff_sections(diff, old, version, SECTION_LIMITS):
        parts += [tag("h3", heading), content] if content else []
    return join(parts)


def _tiles(body: Mapping[str, Any]) -> Html:
    counts = body["counts"]
    dropped = sum(number for _, number in leaves(counts["dropped"]))
    names = {name: word(name.removesuffix("s"), name) for name in ("samples", "captions", "views", "negatives")}
    values: list[tuple[object, str]] = [(f"{counts.get(name, 0):,}", shown) for name, shown in names.items()]
    values.append((f"{dropped:,}", word("dropped")))
    if number := body["statistics"].get("images_shown_differently"):
        values.append((f"{number:,}", "shown differently by other readers"))
    return tiles(values)


def _statistics(counts: Mapping[str, Any], statistics: Mapping[str, Any], rows: IndexRows) -> Html:
    # older versions lack some counts: their page has no such chart
    counted = {name: statistics.get(name, {}) for name in _CHARTED}
    sizes = sorted(counted["cluster_sizes"].values(), reverse=True)
    scores = [value for value in rows.get("difficulty", []) if value is not None]
    negatives = CaptionNegatives.of(statistics)
    per_caption = {} if negatives is None else negatives.captions
    rejected = {_readable(name): number for name, number in leaves(counts.get("rejected", {}), ": ")}
    charts = [
        figure("Words in a caption", histogram(_binned(counted["caption_words"]), "captions by number of words")),
        figure("Captions of a sample", bar_chart(list(counted["captions_per_sample"].items()))),
        figure(join([word("negative", "Negatives"), " by kind"]), category_chart(counted["negatives"])),
        figure(
            join([word("negative", "Negatives"), " of a caption"]),
            histogram(_binned(per_caption), "captions by number of negatives"),
        ),
        figure(join([word("view", "Views"), " by kind"]), category_chart(counted["views"])),
        figure(join([word("rejected", "Rejected"), " texts by stage and reason"]), category_chart(rejected)),
        figure(word("split", "Splits"), bar_chart(list(counted["splits"].items()))),
        figure("Clusters by size, largest first", histogram(_sampled(sizes), "cluster sizes, largest first")),
        figure(word("difficulty", "Difficulty"), histogram(_shares(scores), "samples by difficulty")),
    ]
    return join([chart_grid(charts), _candidates(negatives)])


def _candidates(negatives: CaptionNegatives | None) -> Html:
    """Return how many negatives captions have, and a table of what became of each stage's; nothing without negatives."""
    if negatives is None:
        return Html("")
    rows = [
        (one.name, f"{one.captions:,}", f"{one.made:,}", f"{one.kept:,}", _listed(one.lost))
        for one in negatives.generators
    ]
    if negatives.without:
        without = sum(negatives.without.values())
        rows.append(
            ("captions without a negative, by the last reason", f"{without:,}", "", "", _listed(negatives.without))
        )
    columns = ("negatives by the stage that made them", ">captions", ">made", ">kept", "lost")
    return join([note(f"Negatives per caption: {negatives.describe()}."), table(columns, rows)])


def _listed(numbers: Mapping[str, int]) -> str:
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{_readable(name)} {number:,}" for name, number in ordered)


def _binned(counts: Mapping[Any, int]) -> list[tuple[object, float]]:
    """Return a histogram over integers without gaps; the last bar sums up the outliers."""
    numbers = {int(value): number for value, number in counts.items()}
    if not numbers:
        return []
    first, last = min(numbers), min(max(numbers), min(numbers) + _MAX_BARS - 1)
    bins: list[tuple[object, float]] = [(value, numbers.get(value, 0)) for value in range(first, last + 1)]
    beyond = sum(number for value, number in numbers.items() if value > last)
    return [*bins[:-1], (f"{last}+", bins[-1][1] + beyond)] if beyond else bins


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _sampled(sizes: Sequence[int]) -> list[tuple[object, float]]:
    return [(rank + 1, sizes[rank]) for rank in spread(len(sizes), _MAX_BARS)]


def _shares(scores: Sequence[float]) -> list[tuple[object, float]]:
    if not scores:
        return []
    heights, _ = np.histogram(np.array(scores, dtype=np.float64), bins=20, range=(0.0, 1.0))
    return [(f"{number / 20:.2f}", int(height)) for number, height in enumerate(heights)]


def _record(version: DatasetVersion, run_json: Mapping[str, Any] | None) -> Html:
    """Return what identifies the version and says how it was run: source, hashes, sizes, seconds, settings of stages."""
    body, run = version.manifest.body, run_json or {}
    size = sum(record["bytes"] for record in body["files"])
    facts: list[tuple[str, object]] = [("fingerprint", tag("code", version.manifest.fingerprint))]
    facts += [(f"source: {key}", value) for key, value in body["source"].items() if value is not None]
    facts += [("shards", f"{len(body['shards']):,}"), ("files", f"{size / 2**20:,.1f} MiB")]
    if "seconds" in run:
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in run["seconds"].items())
        facts.append(("made", f"{run.get('finished', '')} on {run.get('cores', '?')} cores: {took}"))
    return join([table(("what", "value"), facts), _stages(body["stages"], run)])


def _stages(stages: Iterable[Mapping[str, Any]], run_json: Mapping[str, Any]) -> Html:
    ran = {item["stage"]: item for item in run_json.get("stages", [])}
    rows = []
    for stage in stages:
        record = ran.get(stage["name"], {})
        work = f"{record['computed']:,} computed, {record['reused']:,} reused" if record else ""
        config = ", ".join(f"{name} = {value}" for name, value in stage["config"].items())
        models = ", ".join(f"{value['name']} ({value['hash'][:8]})" for value in stage["resources"].values())
        seconds = f"{record['wall_s']:.1f}" if record else ""
        name, fingerprint = f"{stage['name']} /{stage['version']}", tag("code", stage["fingerprint"][:12])
        rows.append((name, config, models, fingerprint, work, seconds))
    return table(("stage /version", "settings", "models", "fingerprint", "samples", ">seconds"), rows)


def _dropped(dropped: Mapping[str, Mapping[str, int]]) -> Html:
    rows = [
        (_readable(stage), _readable(reason), f"{number:,}")
        for stage, reasons in dropped.items()
        for reason, number in reasons.items()
    ]
    return table(("by", "reason", ">samples"), rows)
