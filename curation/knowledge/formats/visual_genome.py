"""Visual Genome's scene graphs: ``relationships.json`` and ``attributes.json`` of one folder.

A relationship becomes an edge named by its predicate as written (``on``, ``holding``); an attribute becomes a
``HasProperty`` edge. A fact of many photographs is one edge of weight 1.0: the files give no confidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curation.knowledge.formats.json_items import read_items
from curation.knowledge.formats.rows import (
    BuildProgress,
    EdgeRow,
    Keep,
    MalformedError,
    ReadCounts,
    checked_sense,
    plain_words,
)
from data_manifests.errors import InputError

DATASET = "/d/visual_genome"
LICENSE = "cc:by/4.0"
ALLOWED = "a folder with Visual Genome's relationships.json or attributes.json, unpacked"
_PROGRESS_EVERY = 256


def find_files(folder: Path) -> list[Path]:
    """Return which of the two files a folder holds.

    Raises:
        InputError: neither.
    """
    found = [folder / name for name in ("attributes.json", "relationships.json") if (folder / name).is_file()]
    if not found:
        raise InputError(
            f"--visual-genome {folder}: neither relationships.json nor attributes.json",
            allowed=ALLOWED,
            fix="unzip them there",
        )
    return found


def read_visual_genome(path: Path, keep: Keep, tally: ReadCounts, progress: BuildProgress) -> Iterator[EdgeRow]:
    """Yield the edges of one of the two files.

    Raises:
        InputError: no JSON array, or nothing but malformed images.
    """
    attributes = path.name == "attributes.json"
    for number, image in enumerate(read_items(path), start=1):
        if number % _PROGRESS_EVERY == 0:
            progress(f"reading {tally.name}", number)
        tally.num_read = number
        try:
            parts = _listed(image, "attributes" if attributes else "relationships")
        except MalformedError as error:
            tally.malformed(number, str(error))
            continue
        for part in parts:
            try:
                rows = list(_properties(part)) if attributes else [_relationship(part)]
            except MalformedError as error:
                tally.malformed(number, str(error))
                continue
            kept = [row for row in rows if keep.wants(row[1], row[3])]
            tally.num_kept += len(kept)
            tally.num_skipped += len(rows) - len(kept)
            yield from kept


def _listed(image: Any, key: str) -> list[Any]:
    if not isinstance(image, Mapping) or not isinstance(image.get(key), list):
        raise MalformedError(f"an image without a list of {key}")
    return list(image[key])


def _relationship(part: Any) -> EdgeRow:
    if not isinstance(part, Mapping):
        raise MalformedError("a relationship is not a JSON object")
    head, head_sense = _thing(part.get("subject"), "the subject")
    tail, tail_sense = _thing(part.get("object"), "the object")
    return (
        head,
        plain_words(part.get("predicate"), "the predicate"),
        tail,
        1.0,
        DATASET,
        LICENSE,
        head_sense,
        tail_sense,
    )


def _properties(part: Any) -> Iterator[EdgeRow]:
    head, sense = _thing(part, "the object")
    values = part.get("attributes") or []
    if not isinstance(values, list):
        raise MalformedError("attributes are not a list")
    for value in values:
        yield head, "HasProperty", plain_words(value, "an attribute"), 1.0, DATASET, LICENSE, sense, ""


def _thing(thing: Any, what: str) -> tuple[str, str]:
    """Return an object's words and sense; the files hold one ``name`` or a list of ``names``, by their version."""
    if not isinstance(thing, Mapping):
        raise MalformedError(f"{what} is not a JSON object")
    name = thing.get("name")
    if name is None:
        names = thing.get("names")
        name = names[0] if isinstance(names, list) and names else None
    synsets = thing.get("synsets")
    synset = synsets[0] if isinstance(synsets, list) and len(synsets) == 1 else ""
    parts = synset.rsplit(".", 2) if isinstance(synset, str) else []
    # ConceptNet's senses begin with the part of speech, so that ``n/dog.n.01`` is read like ``n/wn/animal``.
    sense = checked_sense(f"{parts[1]}/{synset}") if len(parts) == 3 and parts[1] else ""
    return plain_words(name, what), sense
