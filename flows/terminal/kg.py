"""Output of the commands about knowledge graphs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from data_manifests.errors import InputError
from flows.terminal.console import bars_by_name, err, out, print_json, print_table, progress_bars

if TYPE_CHECKING:
    from curation.knowledge.build import Built, GraphSource
    from curation.knowledge.formats.rows import Keep, ReadCounts
    from curation.knowledge.interface import Edge
    from curation.knowledge.store_reader import StoreInfo

MAX_SHOWN = 20


def split_names(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names given by a repeatable option whose values may be comma-separated."""
    return tuple(dict.fromkeys(part.strip() for value in values or () for part in value.split(",") if part.strip()))


def keep_of(languages: Sequence[str], relations: Sequence[str] | None, min_weight: float | None, terms: str) -> Keep:
    """Return the filter of edges that the options describe.

    Raises:
        InputError: no language, or several.
    """
    from curation.knowledge.formats.rows import Keep

    names = split_names(languages)
    if len(names) != 1:
        raise InputError(
            f"--languages {','.join(names) or '(empty)'}",
            allowed="one language such as en: a store identifies concepts by their words alone",
            fix="build a store for each language",
        )
    weight = {} if min_weight is None else {"min_weight": min_weight}
    return Keep(names[0], split_names(relations), license=terms, **weight)


def build(sources: Sequence[GraphSource], path: Path, keep: Keep, *, as_json: bool) -> Built:
    """Compile a store and print what it was made of."""
    from curation.knowledge.build import build_graph

    started = time.perf_counter()
    with progress_bars() as bars:
        built = build_graph(sources, path, keep, bars_by_name(bars))
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


def _print_tallies(tallies: Sequence[ReadCounts]) -> None:
    for tally in tallies:
        for example in tally.examples:
            err.print(f"{tally.name}: {example}", markup=False, highlight=False)
    rows = (
        (escape(tally.name), tally.unit, tally.num_read, tally.num_kept, tally.num_skipped, tally.num_malformed)
        for tally in tallies
    )
    print_table("inputs", ("file", "unit", ">read", ">edges kept", ">skipped", ">malformed"), rows)


def info(spec: str, concepts: Sequence[str], limit: int, *, as_json: bool) -> None:
    """Print a graph's relations and sources, and the edges of some concepts.

    Raises:
        InputError: the graph cannot be opened.
    """
    from curation.knowledge.formats.rows import plain_words
    from curation.knowledge.open_graph import GraphFile, SeedGraph, open_graph

    graph = open_graph(spec)
    about = graph.info() if isinstance(graph, GraphFile | SeedGraph) else None
    names = [plain_words(text, "a concept") if text.strip() else text for text in concepts]
    outward, inward = graph.edges_from(names), graph.edges_to(names)
    if as_json:
        found: dict[str, Any] = {"graph": graph.describe(), "content_hash": graph.content_hash()}
        found |= about.to_json() if about else {}
        if names:
            found["edges_of"] = {
                words: {"from": _as_json(outward.get(words, [])), "to": _as_json(inward.get(words, []))}
                for words in names
            }
        print_json(found)
        return
    if about:
        _print_info(graph.describe(), about)
    else:
        # Counting the edges of an official conceptnet-lite database would take minutes.
        out.print(f"{graph.describe()}: queried in place; content hash {graph.content_hash()}", markup=False)
    known = graph.known(names)
    for words in names:
        if words not in known:
            out.print(f"'{words}' is not in the graph", markup=False)
        for what, edges in (("from", outward.get(words, [])), ("to", inward.get(words, []))):
            if edges:
                _print_edges(f"{what} '{words}'", edges, limit)


def _as_json(edges: Sequence[Edge]) -> list[dict[str, Any]]:
    import dataclasses

    return [{**dataclasses.asdict(edge), "uri": edge.uri} for edge in edges]


def _print_info(name: str, about: StoreInfo) -> None:
    ranked = sorted(about.relations.items(), key=lambda item: (-item[1], item[0]))
    rows = [(escape(relation), number) for relation, number in ranked[:MAX_SHOWN]]
    if more := ranked[MAX_SHOWN:]:
        rows.append((f"{len(more)} more", sum(number for _, number in more)))
    title = f"{escape(name)}: {about.num_edges} edges, {about.num_concepts} concepts"
    print_table(title, ("relation", ">edges"), rows)
    sources = [(escape(dataset), escape(license_name), number) for dataset, license_name, number in about.sources]
    if rest := sources[MAX_SHOWN:]:
        sources[MAX_SHOWN:] = [(f"{len(rest)} more", "", sum(number for _, _, number in rest))]
    print_table("sources", ("data set", "licence", ">edges"), sources)
    out.print(f"content hash {about.content_hash}")


def _print_edges(title: str, edges: Sequence[Edge], limit: int) -> None:
    rest = f" (the first {limit} of {len(edges)})" if len(edges) > limit else ""
    columns = ("head", "relation", "tail", ">weight", "data set", "licence")
    rows = (
        (
            _concept(edge.head, edge.head_sense),
            escape(edge.relation),
            _concept(edge.tail, edge.tail_sense),
            f"{edge.weight:g}",
            escape(edge.dataset),
            escape(edge.license),
        )
        for edge in edges[:limit]
    )
    print_table(escape(title) + rest, columns, rows)


def _concept(words: str, sense: str) -> str:
    return escape(f"{words} ({sense})" if sense else words)
