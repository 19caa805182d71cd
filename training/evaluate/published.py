"""Readers of tests of texts as their authors publish them; the pictures are the user's.

| kind | files | what they hold |
| --- | --- | --- |
| ``sugarcrepe`` | ``swap_obj.json`` and six more | id -> filename, caption, negative_caption |
| ``sugarcrepe_pp`` | ``swap_obj.json`` and four more (or ``.csv``) | filename, caption, caption2, negative_caption |
| ``aro_relation`` | ``visual_genome_relation.json`` | image_path, bbox_x/y/w/h, relation_name, true_caption, false_caption |
| ``aro_attribute`` | ``visual_genome_attribution.json`` | image_path, bbox_x/y/w/h, attributes, true_caption, false_caption |
| ``valse`` | one file for each instrument | id -> image_file, caption, foil, mturk |
| ``vl_checklist`` | any depth of folders | [image, {POS: [text], NEG: [text]}] |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_manifests.errors import InputError
from training.evaluate.blind import Case
from training.evaluate.small_files import read_bytes, read_json

PixelBox = tuple[int, int, int, int]
SUGARCREPE = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
MIN_VOTES = 2
MIN_ATTRIBUTE_CASES = 25
BOTH_WAYS = frozenset(
    {
        "near",
        "next to",
        "beside",
        "by",
        "with",
        "and",
        "close to",
        "adjacent to",
        "alongside",
        "touching",
        "across from",
    }
)
"""Relations that hold the other way round, too, so that the false caption is true."""


@dataclass(frozen=True)
class PublishedCase:
    """A case as a file lists it.

    Attributes:
        case: The texts; its `image` is `file`.
        file: The picture's name.
        box: The part of it that is shown: left, top, right, bottom; None for all.
    """

    case: Case
    file: str
    box: PixelBox | None = None


@dataclass(frozen=True)
class PublishedCases:
    """What a benchmark's files list.

    Attributes:
        cases: All cases that count.
        num_not_valid: Cases that the authors' annotators did not confirm; they do not count.
        least: A category of fewer cases is no part of the mean.
        apart: Categories that are shown, but are no part of the mean.
    """

    cases: tuple[PublishedCase, ...]
    num_not_valid: int = 0
    least: int = 1
    apart: frozenset[str] = frozenset()


def read_published(kind: str, folder: Path) -> PublishedCases:
    """Read a benchmark's files.

    Args:
        kind: One of `READERS`.
        folder: The folder that holds them, or the one file.

    Raises:
        InputError: none of its files is there, or one is not as published.
    """
    found = READERS[kind](folder)
    if not found.cases:
        raise InputError(f"{kind}: no case in {folder}", fix="check the folder")
    names = [(one.case.category, one.case.id) for one in found.cases]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{kind}: {twice[0]} has two cases called {twice[1]!r}")
    return found


def _sugarcrepe(folder: Path) -> PublishedCases:
    files = [path for name in SUGARCREPE if (path := folder / f"{name}.json").is_file()]
    _require(files, folder, ", ".join(f"{name}.json" for name in SUGARCREPE))
    return PublishedCases(tuple(
        _listed(path, key, record, "filename", _texts(path, key, record, "caption"), _texts(path, key, record, "negative_caption"))
        for path in files
        for key, record in _records(path)
    ))  # fmt: skip


def _sugarcrepe_pp(folder: Path) -> PublishedCases:
    files = [path for name in SUGARCREPE for end in ("json", "csv") if (path := folder / f"{name}.{end}").is_file()]
    _require(files, folder, "swap_obj.json, swap_att.json, replace_obj.json, replace_att.json, replace_rel.json")
    return PublishedCases(tuple(
        _listed(path, key, record, "filename", _texts(path, key, record, "caption", "caption2"), _texts(path, key, record, "negative_caption"))
        for path in files
        for key, record in _records(path)
    ))  # fmt: skip


def _aro(name: str, category: Callable[[Mapping[str, Any]], str], **more: Any) -> Callable[[Path], PublishedCases]:
    def read(folder: Path) -> PublishedCases:
        path = folder if folder.is_file() else folder / name
        _require([path] if path.is_file() else [], folder, name)
        cases = []
        for key, record in _records(path):
            try:
                left, top, width, height = (int(record[f"bbox_{side}"]) for side in "xywh")
                told = category(record)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise InputError(f"{path.name} {key}: {error!r}", allowed="bbox_x, bbox_y, bbox_w, bbox_h") from None
            right, wrong = (_texts(path, key, record, side) for side in ("true_caption", "false_caption"))
            box = (left, top, left + width, top + height)
            cases.append(_listed(path, key, record, "image_path", right, wrong, told, box))
        return PublishedCases(tuple(cases), **more)

    return read


def _valse(folder: Path) -> PublishedCases:
    files = [folder] if folder.is_file() else sorted(folder.glob("*.json"))
    _require(files, folder, "actant-swap.json, existence.json and the other instruments' files")
    cases, num_not_valid = [], 0
    for path in files:
        for key, record in _records(path):
            votes = record.get("mturk")
            if not isinstance(votes, dict) or not isinstance(votes.get("caption"), int):
                raise InputError(f"{path.name} {key}: no mturk.caption", allowed="VALSE's instruments as published")
            if votes["caption"] < MIN_VOTES:
                num_not_valid += 1
                continue
            right, wrong = (_texts(path, key, record, side) for side in ("caption", "foil"))
            cases.append(_listed(path, key, record, "image_file", right, wrong))
    return PublishedCases(tuple(cases), num_not_valid)


def _vl_checklist(folder: Path) -> PublishedCases:
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.json"))
    _require(files, folder, "files of [image, {POS: [text], NEG: [text]}]")
    cases = []
    for path in files:
        where = path.relative_to(folder if folder.is_dir() else folder.parent).with_suffix("")
        rows = read_json(path)
        if not isinstance(rows, list):
            raise InputError(f"{path.name}: {type(rows).__name__}", allowed="a list of [image, {POS: [..], NEG: [..]}]")
        for place, row in enumerate(rows):
            good = isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict)
            if not good:
                raise InputError(f"{path.name} row {place}: {str(row)[:80]}", allowed="[image, {POS: [..], NEG: [..]}]")
            right, wrong = (_texts(path, str(place), row[1], side) for side in ("POS", "NEG"))
            record = {"image": row[0]}
            cases.append(_listed(path, str(place), record, "image", right, wrong, "_".join(where.parts)))
    return PublishedCases(tuple(cases))


def _attributes(record: Mapping[str, Any]) -> str:
    return f"{record['attributes'][0]}_{record['attributes'][1]}"


READERS: Mapping[str, Callable[[Path], PublishedCases]] = {
    "sugarcrepe": _sugarcrepe,
    "sugarcrepe_pp": _sugarcrepe_pp,
    "aro_relation": _aro("visual_genome_relation.json", lambda record: str(record["relation_name"]), apart=BOTH_WAYS),
    "aro_attribute": _aro("visual_genome_attribution.json", _attributes, least=MIN_ATTRIBUTE_CASES),
    "valse": _valse,
    "vl_checklist": _vl_checklist,
}


def _require(files: Sequence[Path], folder: Path, allowed: str) -> None:
    if not files:
        raise InputError(f"{folder}: none of the benchmark's files is there", allowed=allowed)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (id, record) of a file that maps ids to records, lists records, or has a row for each."""
    if path.suffix == ".csv":
        rows: Any = list(csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"))))
    else:
        rows = read_json(path)
    if isinstance(rows, dict):
        named = rows.items()
    elif isinstance(rows, list):
        named = ((str(place), row) for place, row in enumerate(rows))  # type: ignore[assignment]
    else:
        raise InputError(f"{path.name}: {type(rows).__name__}", allowed="an object of records, or a list of them")
    for key, record in named:
        if not isinstance(record, dict):
            raise InputError(f"{path.name} {key}: {str(record)[:80]}", allowed="a record with named fields")
        yield str(key), record


def _texts(path: Path, key: str, record: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """Return a record's texts under some names; each a text or a list of them."""
    found: list[Any] = []
    for name in names:
        value = record.get(name)
        found += value if isinstance(value, list) else [value]
    if not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise InputError(
            f"{path.name} {key}: {' or '.join(names)} is {found!r}"[:300], allowed="a text that is not blank"
        )
    return tuple(found)


def _listed(
    path: Path,
    key: str,
    record: Mapping[str, Any],
    field: str,
    right: tuple[str, ...],
    wrong: tuple[str, ...],
    category: str = "",
    box: PixelBox | None = None,
) -> PublishedCase:
    name = record.get(field)
    if not isinstance(name, str) or not name:
        raise InputError(f"{path.name} {key}: {field} is {name!r}", allowed="the name of a picture")
    return PublishedCase(Case(key, name, (category or path.stem).replace(".", "_"), right, wrong), name, box)
