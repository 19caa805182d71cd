"""VisualSem: ``nodes.v2.json`` and ``tuples.v2.json`` of one folder.

Nodes map BabelNet's ids to ``{"ms": "WN:EN:dog", ...}``, of which the main sense (``ms``) is read; tuples map the id of a tail to
``[{"s": head, "r": relation, "r_id": number}, ...]``. Relations get ConceptNet's names where it has them (``is-a`` is ``IsA``), a node
the words of its main sense without what Wikipedia puts in brackets (``Jaguar_(car)``), and as sense its id behind its part of speech.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curation.knowledge.formats.json_items import read_members
from curation.knowledge.formats.rows import (
    BuildProgress,
    EdgeRow,
    Keep,
    MalformedError,
    ReadCounts,
    checked_name,
    checked_sense,
    plain_words,
)
from data_manifests.errors import InputError

NODES, TUPLES = "nodes.v2.json", "tuples.v2.json"
DATASET = "/d/visualsem"
LICENSE = "https://babelnet.org/license"
"""BabelNet's: research only, not commercial."""
ALLOWED = f"a folder with VisualSem's {NODES} and {TUPLES}"

_RELATIONS: Mapping[str, str] = {
    "is-a": "IsA", "has-part": "HasA", "part-of": "PartOf", "related-to": "RelatedTo", "used-for": "UsedFor", "made-of": "MadeOf",
    "has-property": "HasProperty", "receives-action": "ReceivesAction", "synonym": "Synonym", "located-at": "AtLocation",
}  # fmt: skip
_BRACKETS = re.compile(r"[ _]*\([^()]*\)$")
_PROGRESS_EVERY = 4096

_Node = tuple[str, str, str]
"""Language in lower case (empty where the main sense names none), words and sense."""


def find_files(folder: Path) -> list[Path]:
    """Return the file of tuples, beside which that of nodes lies.

    Raises:
        InputError: one of the two is missing.
    """
    for name in (NODES, TUPLES):
        if not (folder / name).is_file():
            raise InputError(f"--visualsem {folder}: no {name}", allowed=ALLOWED, fix="download both there")
    return [folder / TUPLES]


def read_visualsem(path: Path, keep: Keep, tally: ReadCounts, progress: BuildProgress) -> Iterator[EdgeRow]:
    """Yield the edges of a file of tuples.

    Raises:
        InputError: no JSON object, or nothing but malformed nodes.
    """
    nodes = _read_nodes(path.with_name(NODES), progress)
    for number, (tail_id, entries) in enumerate(read_members(path), start=1):
        if number % _PROGRESS_EVERY == 0:
            progress(f"reading {tally.name}", number)
        tally.num_read = number
        if not isinstance(entries, list):
            tally.malformed(number, "a node without a list of tuples")
            continue
        for entry in entries:
            try:
                row, languages = _row(nodes, tail_id, entry)
            except MalformedError as error:
                tally.malformed(number, str(error))
                continue
            if not languages <= {"", keep.language}:
                tally.num_skipped += 1
            elif not keep.wants(row[1], row[3]):
                tally.skipped(row[1])
            else:
                tally.num_kept += 1
                yield row


def _read_nodes(path: Path, progress: BuildProgress) -> dict[str, _Node | str]:
    """Return the nodes by id; for one that cannot be used the reason."""
    found: dict[str, _Node | str] = {}
    for number, (name, node) in enumerate(read_members(path), start=1):
        if number % _PROGRESS_EVERY == 0:
            progress(f"reading {path.name}", number)
        try:
            found[name] = _node(name, node)
        except MalformedError as error:
            found[name] = str(error)
    return found


def _node(name: str, node: Any) -> _Node:
    main = node.get("ms") if isinstance(node, Mapping) else None
    if not isinstance(main, str):
        raise MalformedError(f"the node {name[:40]} has no main sense")
    # "WN:EN:dog", "WIKI:EN:Jaguar_(car)", "dog#n#1"
    *source, words = main.split(":", 2)
    language = source[1].lower() if len(source) > 1 else ""
    pos = name[-1:] if name[-1:] in "nvar" else ""
    sense = checked_sense(f"{pos}/{name}") if pos else ""
    return language, plain_words(_BRACKETS.sub("", words.split("#")[0]), f"the main sense of {name[:40]}"), sense


def _row(nodes: Mapping[str, _Node | str], tail_id: str, entry: Any) -> tuple[EdgeRow, set[str]]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("s"), str) or not isinstance(entry.get("r"), str):
        raise MalformedError("a tuple is not an object with s and r")
    ends = []
    for name in (entry["s"], tail_id):
        node = nodes.get(name, f"{NODES} has no node {name[:40]}")
        if isinstance(node, str):
            raise MalformedError(node)
        ends.append(node)
    (head_language, head, head_sense), (tail_language, tail, tail_sense) = ends
    relation = checked_name(_RELATIONS.get(entry["r"], entry["r"]), "the relation")
    return (head, relation, tail, 1.0, DATASET, LICENSE, head_sense, tail_sense), {head_language, tail_language}
