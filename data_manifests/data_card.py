"""The data card: a description of a version in Markdown, made from the manifest's body alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from data_manifests.blind_accuracy import blind_rows
from data_manifests.markdown import code, markdown_table, one_line, papers, plain
from data_manifests.nested import leaves
from data_manifests.plugins import describe_origin

Body = Mapping[str, Any]

_MAX_ROWS = 200


def card_path(manifest: Path) -> Path:
    """Return the path of the card of the version with this manifest: next to it."""
    return manifest.with_name(f"{manifest.stem}.card.md")


def card_text(body: Body) -> str:
    """Return a version's data card.

    It has no time, host or path: an equal version has an equal card. Untrusted text (the source's name, licences) is
    escaped.

    Args:
        body: A manifest's body.
    """
    body = orjson.loads(orjson.dumps(body, option=orjson.OPT_SORT_KEYS))  # as it is read back: order, lists
    sections = {
        "Sources and licences": _licences,
        "How it was made": _made,
        "What it holds": _holds,
        "Quality": _quality,
        "What was left out": _lost,
        "Known limits": _limits,
        "How to make it again": _again,
    }
    lines = list(_head(body))
    for title, section in sections.items():
        lines += ["", f"## {title}", "", *section(body)]
    return "\n".join(lines) + "\n"


def _head(body: Body) -> Iterator[str]:
    counts, recipe, source = body["counts"], body["recipe"], body["source"]
    yield f"# {body['name']}@{body['version']}"
    yield ""
    yield (
        f"{counts['samples']:,} photographs with {counts['captions']:,} captions, {counts.get('views', 0):,} rewrites and "
        f"knowledge captions and {counts['negatives']:,} hard negatives, curated from the {code(source.get('kind'))} source "
        f"{code(source.get('name'))} by the recipe {code(recipe.get('name'))} ({papers(recipe.get('paper', 'no paper'))})."
    )
    yield ""
    yield f"Manifest fingerprint `{body['fingerprint']}`, {_parent(body)}. This card is made from the manifest alone."


def _parent(body: Body) -> str:
    parent = body["parent"]
    if not parent:
        return "first version"
    return f"made after `{parent.get('name', body['name'])}@{parent['version']}` (`{parent['fingerprint']}`)"


def licence_table(body: Body) -> Iterator[str]:
    """Yield a table of what a version was made from, with licences and who uses it."""
    source = body["source"]
    terms = (
        plain(source["licence"]) if source.get("licence") else "not stated by the source: ask whoever has the rights"
    )
    rows = [(f"photographs and captions ({code(source.get('kind'))} {code(source.get('name'))})", terms, "")]
    for item, stages in _resources(body):
        terms = ", ".join(map(plain, item["licences"])) if item.get("licences") else "not recorded"
        rows.append((f"{plain(item['name'])} (`{item['hash'][:12]}`)", terms, ", ".join(map(code, stages))))
    yield from markdown_table(("what", "licence", "used by"), rows)


def _licences(body: Body) -> Iterator[str]:
    source = body["source"]
    yield from licence_table(body)
    details = [f"{key}: {plain(value)}" for key, value in source.items() if value is not None and key != "licence"]
    yield ""
    yield f"The source as the manifest has it: {', '.join(details)}."


def _resources(body: Body) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Return models and graphs with the stages that use them, in the order of the stages."""
    found: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for stage in body["stages"]:
        for item in filter(_is_used, stage["resources"].values()):
            found.setdefault(item["hash"], (item, []))[1].append(stage["name"])
    return list(found.values())


def _is_used(resource: Mapping[str, Any]) -> bool:
    return str(resource["name"]) != "none"  # an optional resource that was not given


def _made(body: Body) -> Iterator[str]:
    rows = []
    for stage in body["stages"]:
        config = ", ".join(f"{key} = {value}" for key, value in stage["config"].items() if value is not None)
        name = f"{code(stage['name'])} /{stage['version']}"
        paper = papers(stage["source"])
        paper += f" (from {plain(describe_origin(stage['origin']))})" if "origin" in stage else ""
        rows.append((name, paper, plain(config), f"`{stage['fingerprint'][:12]}`"))
    yield from markdown_table(("stage /version", "paper", "settings", "fingerprint"), rows)


def _holds(body: Body) -> Iterator[str]:
    counts, statistics = body["counts"], body["statistics"]
    size = sum(record["bytes"] for record in body["files"])
    rows = [(name, f"{counts.get(name, 0):,}") for name in ("samples", "captions", "views", "negatives")]
    if number := statistics.get("images_shown_differently"):
        rows.append(("images that other readers show differently (not upright, hidden colours)", f"{number:,}"))
    rows += [("shards", f"{len(body['shards']):,}"), ("bytes of all files", f"{size:,}")]
    words = {int(length): number for length, number in statistics.get("caption_words", {}).items()}
    if number := sum(words.values()):
        mean = sum(length * times for length, times in words.items()) / number
        rows.append(("words of a caption: mean, least, most", f"{mean:.1f}, {min(words)}, {max(words)}"))
    if sizes := sorted(statistics.get("cluster_sizes", {}).values()):
        rows.append(("clusters: number, smallest, largest", f"{len(sizes):,}, {sizes[0]:,}, {sizes[-1]:,}"))
    rows += [(f"split {plain(name)}", f"{number:,}") for name, number in sorted(statistics.get("splits", {}).items())]
    yield from markdown_table(("what", ">number"), rows)
    for title, name in (("Negatives by kind", "negatives"), ("Rewrites and knowledge captions by kind", "views")):
        yield from _counts(title, {(kind,): number for kind, number in statistics.get(name, {}).items()}, ("kind",))


def _quality(body: Body) -> Iterator[str]:
    found = body["statistics"].get("quality", {})
    judges = found.get("blind_accuracy", {})
    if not judges:
        yield "How well negatives are told from captions without the image was not measured."
    else:
        rows = [(plain(name), *shares) for name, shares in blind_rows(judges)]
        yield "How often a judge that sees no image tells the caption from its negative, in % (chance is 50; 95 % intervals):"
        yield ""
        yield from markdown_table(("negatives", *(f">{plain(name)}" for name in judges)), rows)
    rest = {name: value for name, value in found.items() if name != "blind_accuracy"}
    rows = [
        (code(stage), plain(name), plain(value))
        for stage, found_by in rest.items()
        for name, value in leaves(found_by, ", ")
    ]
    if rows:
        yield ""
        yield from markdown_table(("found by", "what", ">value"), rows)


def _lost(body: Body) -> Iterator[str]:
    counts = body["counts"]
    yield f"{counts['records']:,} records came in, {counts['samples']:,} samples went out."
    for title, by_stage in (("Samples dropped", counts["dropped"]), ("Texts refused", counts.get("rejected", {}))):
        found: dict[tuple[str, ...], int] = {
            (stage, why): number for stage, reasons in by_stage.items() for why, number in reasons.items()
        }
        yield from _counts(title, found, ("by", "reason"))


def _limits(body: Body) -> Iterator[str]:
    yield from (f"- {text}" for text in limits_of(body))


def limits_of(body: Body) -> list[str]:
    """Return what a version does not promise, a sentence each."""
    ran = {stage["name"] for stage in body["stages"]}
    leaks = [stage["resources"].values() for stage in body["stages"] if stage["name"] == "remove_leaks"]
    sought = any(_is_used(item) for items in leaks for item in items)
    counts, source = body["counts"], body["source"]
    judged = "blind_accuracy" in body["statistics"].get("quality", {})
    limits = [
        (True, "Captions are as the source has them: nobody checked that they are true, kind or complete."),
        (not source.get("licence"), "The source states no licence."),
        (
            counts["negatives"] and "find_false_negatives" not in ran,
            "Negatives were not checked against the image's other captions: some are true of their image.",
        ),
        (
            counts["negatives"] and "find_false_negatives" in ran,
            "Negatives that stay true were sought by rules, which miss some: a few are true of their image.",
        ),
        (
            counts["negatives"] and not judged,
            "How well text alone gives the negatives away is not known of this version.",
        ),
        (
            counts.get("views", 0),
            "Rewrites and knowledge captions were made by rules, graphs or models and passed gates, not people.",
        ),
        ("find_duplicates" not in ran, "Near-duplicates were not looked for."),
        (not sought, "Pictures of evaluation sets were not looked for."),
        ("balance_attributes" not in ran, "Who is shown doing what was not balanced: it is as the source has it."),
        (True, "Words and rules are English."),
    ]
    return [text for holds, text in limits if holds]


def _again(body: Body) -> Iterator[str]:
    source, name = body["source"], f"{body['name']}@{body['version']}"
    options = "".join(f" --{key} {source[key]}" for key in ("split", "limit") if source.get(key) is not None)
    yield "```"
    yield one_line(
        f"clipcurate curate {body['recipe'].get('name')} --source {source.get('kind')}:PATH{options} --name {body['name']}"
    )
    yield f"clipcurate verify {name}"
    yield "```"
    yield ""
    yield (
        "`PATH` holds the same photographs and captions. Models and graphs are given by `--model`, `--graph`, `--llm` and "
        "`--masked-model` (their hashes are above), settings that differ from the recipe's by "
        "`--set stages.STAGE.SETTING=VALUE`. Equal inputs and library versions give the fingerprint above."
    )
    if body.get("derived") or "forget" in body["counts"]["dropped"]:
        yield ""
        yield "This version was not curated but made from its parent, by `clipcurate reshard` or `forget`."


def _counts(title: str, found: Mapping[tuple[str, ...], int], names: tuple[str, ...]) -> Iterator[str]:
    """Yield a table of counts, largest first; nothing without counts."""
    rows = sorted(((number, key) for key, number in found.items()), key=lambda row: (-row[0], row[1]))[:_MAX_ROWS]
    if not rows:
        return
    yield ""
    yield f"{title}:"
    yield ""
    yield from markdown_table((*names, ">number"), [(*map(plain, key), f"{number:,}") for number, key in rows])
