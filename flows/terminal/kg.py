"""What the commands about knowledge graphs do and print."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import Progress

from data_manifests.errors import InputError
from flows.terminal.console import counter, err, out, print_json, progress_bars, table

if TYPE_CHECKING:
    from curation.knowledge.build import Built, Source
    from curation.knowledge.formats.rows import Keep, Tally
    from curation.knowledge.formats.rows import Progress as Report
    from curation.knowledge.interface import Edge
    from curation.knowledge.store_reader import StoreInfo

MAX_SHOWN = 20


def split_names(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of an option that may be repeated and may hold several between commas."""
    return tuple(dict.fromkeys(part.strip() for value in values or () for part in value.split(",") if part.strip()))


def keep_of(languages: Sequence[str], relations: Sequence[str] | None, min_weight: float | None, terms: str) -> Keep:
    """Return which edges are kept, from the options.

    Raises:
        InputError: no language, or several.
    """
    from curation.knowledge.formats.rows import Keep

    names = split_names(languages)
    if len(names) != 1:
        raise InputError(
            f"--languages {','.join(names) or '(empty)'}",
            allowed="one language such as en: a store knows concepts by their words alone",
            fix="build a store for each language",
        )
    chosen = Keep(names[0], split_names(relations), license=terms)
    return chosen if min_weight is None else Keep(names[0], chosen.relations, min_weight, terms)


def build(sources: Sequence[Source], path: Path, keep: Keep, *, as_json: bool) -> Built:
    """Compile a store and print what went in."""
    from curation.knowledge.build import build_graph

    started = time.perf_counter()
    with progress_bars() as bars:
        built = build_graph(sources, path, keep, _report(bars))
    seconds = time.perf_counter() - started
    if as_json:
        size = path.stat().st_size
        tallies = [tally.to_json() for tally in built.tallies]
        print_json({"store": path.name, "bytes": size, "seconds": seconds, "inputs": tallies, **built.info.to_json()})
        return built
    _print_tallies(built.tallies)
    _print_info(path.name, built.info)
    out.print(f"{path.stat().st_size / 2**20:.1f} MiB in {seconds:.1f} s")
    return built


def _report(bars: Progress) -> Report:
    """Return a callback that shows each piece of work as a count of its own."""
    counts: dict[str, Any] = {}

    def report(what: str, number: int) -> None:
        if what not in counts:
            counts[what] = counter(bars, escape(what))
        counts[what](number)

    return report


def _print_tallies(tallies: Sequence[Tally]) -> None:
    made = table("inputs", "file", "unit", ">read", ">edges kept", ">skipped", ">malformed")
    for tally in tallies:
        numbers = (tally.num_read, tally.num_kept, tally.num_skipped, tally.num_malformed)
        made.add_row(escape(tally.name), tally.unit, *(str(number) for number in numbers))
        for example in tally.examples:
            err.print(f"{tally.name}: {example}", markup=False, highlight=False)
    out.print(made)


def info(spec: str, concepts: Sequence[str], limit: int, *, as_json: bool) -> None:
    """Print what a graph holds, and the edges of some concepts.

    Raises:
        InputError: the graph cannot be opened.
    """
    from curation.knowledge.formats.rows import plain_words
    from curation.knowledge.open_graph import GraphFile, SeedGraph, open_graph

    graph = open_graph(spec)
    about = graph.info() if isinstance(graph, GraphFile | SeedGraph) else None
    asked = [plain_words(text, "a concept") if text.strip() else text for text in concepts]
    outward, inward = graph.edges_from(asked), graph.edges_to(asked)
    if as_json:
        found: dict[str, Any] = {"graph": graph.describe(), "content_hash": graph.content_hash()}
        found |= about.to_json() if about else {}
        if asked:
            found["edges_of"] = {
                words: {"from": _as_json(outward.get(words, [])), "to": _as_json(inward.get(words, []))}
                for words in asked
            }
        print_json(found)
        return
    if about:
        _print_info(graph.describe(), about)
    else:
        # Counting the edges of an official conceptnet-lite database would take minutes.
        out.print(f"{graph.describe()}: asked in place; content hash {graph.content_hash()}", markup=False)
    known = graph.known(asked)
    for words in asked:
        if words not in known:
            out.print(f"'{words}' is not in the graph", markup=False)
        for what, edges in (("from", outward.get(words, [])), ("to", inward.get(words, []))):
            if edges:
                _print_edges(f"{what} '{words}'", edges, limit)


def _as_json(edges: Sequence[Edge]) -> list[dict[str, Any]]:
    import dataclasses

    return [{**dataclasses.asdict(edge), "uri": edge.uri} for edge in edges]


def _print_info(name: str, about: StoreInfo) -> None:
    made = table(f"{escape(name)}: {about.num_edges} edges, {about.num_concepts} concepts", "relation", ">edges")
    ranked = sorted(about.relations.items(), key=lambda item: (-item[1], item[0]))
    for relation, number in ranked[:MAX_SHOWN]:
        made.add_row(escape(relation), str(number))
    if rest := ranked[MAX_SHOWN:]:
        made.add_row(f"{len(rest)} more", str(sum(number for _, number in rest)))
    out.print(made)
    made = table("sources", "data set", "licence", ">edges")
    for dataset, terms, number in about.sources[:MAX_SHOWN]:
        made.add_row(escape(dataset), escape(terms), str(number))
    if more := about.sources[MAX_SHOWN:]:
        made.add_row(f"{len(more)} more", "", str(sum(number for _, _, number in more)))
    out.print(made)
    out.print(f"content hash {about.content_hash}")


def _print_edges(title: str, edges: Sequence[Edge], limit: int) -> None:
    rest = f" (the first {limit} of {len(edges)})" if len(edges) > limit else ""
    made = table(escape(title) + rest, "head", "relation", "tail", ">weight", "data set", "licence")
    for edge in edges[:limit]:
        ends = [f"{words} ({sense})" if sense else words for words, sense in _ends(edge)]
        cells = (ends[0], edge.relation, ends[1], f"{edge.weight:g}", edge.dataset, edge.license)
        made.add_row(*(escape(cell) for cell in cells))
    out.print(made)


def _ends(edge: Edge) -> tuple[tuple[str, str], tuple[str, str]]:
    return (edge.head, edge.head_sense), (edge.tail, edge.tail_sense)
