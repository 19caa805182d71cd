"""Published tests of texts: cases as their authors' files list them, and what their readers share.

Each benchmark's reader is its module in `flows/evaluation/benchmarks`; the images are the user's.
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

CropBox = tuple[int, int, int, int]
SUGARCREPE_CATEGORIES = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")


@dataclass(frozen=True)
class PublishedCase:
    """A case as a file lists it.

    Attributes:
        case: The texts; its `image` is `file`.
        file: Name of the image.
        box: The part of the image that is shown: left, top, right, bottom; None for all of it.
    """

    case: Case
    file: str
    box: CropBox | None = None


@dataclass(frozen=True)
class PublishedCases:
    """All cases of a benchmark.

    Attributes:
        cases: The cases that count.
        num_not_valid: Cases that the authors' annotators did not confirm; they do not count.
        min_cases: A category with fewer cases is not part of the mean.
        outside_mean: Categories that are shown, but are not part of the mean.
    """

    cases: tuple[PublishedCase, ...]
    num_not_valid: int = 0
    min_cases: int = 1
    outside_mean: frozenset[str] = frozenset()


def check_cases(kind: str, source: str, found: PublishedCases) -> PublishedCases:
    """Return the cases if there are any and no two of a category share an id.

    Raises:
        InputError: otherwise.
    """
    if not found.cases:
        raise InputError(f"{kind}: no case in {source}", fix="check the folder")
    names = [(case.case.category, case.case.id) for case in found.cases]
    if len(set(names)) < len(names):
        category, name = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{kind}: {category} has two cases with the id {name!r}", fix="check the files")
    return found


def read_sugarcrepe(files: Sequence[Path], captions: Sequence[str]) -> PublishedCases:
    """Read files of SugarCrepe or SugarCrepe++, whose true captions are in the fields `captions`."""
    cases = []
    for path in files:
        for key, record in read_records(path):
            right, wrong = (read_texts(path, key, record, *names) for names in (captions, ("negative_caption",)))
            cases.append(published_case(path, key, record, "filename", right, wrong))
    return PublishedCases(tuple(cases))


def read_aro(folder: Path, name: str, category: Callable[[Mapping[str, Any]], str]) -> tuple[PublishedCase, ...]:
    """Read one of ARO's files of Visual Genome: each case is a box of an image."""
    path = folder if folder.is_file() else folder / name
    require_files([path] if path.is_file() else [], folder, name)
    cases = []
    for key, record in read_records(path):
        try:
            left, top, width, height = (int(record[f"bbox_{side}"]) for side in "xywh")
            of_case = category(record)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{path.name} {key}: {error!r}", allowed="bbox_x, bbox_y, bbox_w, bbox_h") from None
        right, wrong = (read_texts(path, key, record, side) for side in ("true_caption", "false_caption"))
        box = (left, top, left + width, top + height)
        cases.append(published_case(path, key, record, "image_path", right, wrong, of_case, box))
    return tuple(cases)


def existing_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return those of a benchmark's files that are there, at least one."""
    files = [path for name in names if (path := folder / name).is_file()]
    require_files(files, folder, ", ".join(names))
    return files


def require_files(files: Sequence[Path], folder: Path, allowed: str) -> None:
    """Check that a benchmark has a file.

    Raises:
        InputError: it has none.
    """
    if not files:
        raise InputError(f"{folder}: none of the benchmark's files is there", allowed=allowed)


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (id, record) of a file that maps ids to records, lists records, or has a row for each."""
    if path.suffix == ".csv":
        rows: Any = list(csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"))))
    else:
        rows = read_json(path)
    if isinstance(rows, dict):
        named = rows.items()
    elif isinstance(rows, list):
        named = ((str(number), row) for number, row in enumerate(rows))  # type: ignore[assignment]
    else:
        raise InputError(f"{path.name}: {type(rows).__name__}", allowed="an object of records, or a list of them")
    for key, record in named:
        if not isinstance(record, dict):
            raise InputError(f"{path.name} {key}: {str(record)[:80]}", allowed="a record with named fields")
        yield str(key), record


def read_texts(path: Path, key: str, record: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """Return a record's texts under some names; each a text or a list of them."""
    texts: list[Any] = []
    for name in names:
        value = record.get(name)
        texts += value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(
            f"{path.name} {key}: {' or '.join(names)} is {texts!r}"[:300], allowed="a text that is not blank"
        )
    return tuple(texts)


def published_case(
    path: Path,
    key: str,
    record: Mapping[str, Any],
    field: str,
    right: tuple[str, ...],
    wrong: tuple[str, ...],
    category: str = "",
    box: CropBox | None = None,
) -> PublishedCase:
    """Return the case of a record.

    Args:
        path: The record's file, for messages; its stem is the category by default.
        key: The record's id.
        record: The record.
        field: The record's field with the name of the image.
        right: True texts.
        wrong: False texts.
        category: Another category.
        box: The part of the image that is shown.

    Raises:
        InputError: no name of an image.
    """
    name = record.get(field)
    if not isinstance(name, str) or not name:
        raise InputError(f"{path.name} {key}: {field} is {name!r}", allowed="the name of an image")
    return PublishedCase(Case(key, name, (category or path.stem).replace(".", "_"), right, wrong), name, box)
