"""FairFace and UTKFace as their archives unpack: faces with gender, age and ethnicity, and no captions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_manifests.errors import InputError
from data_manifests.image_decoder import IMAGE_ENDINGS
from training.evaluate.image_files import ImageFile
from training.evaluate.small_files import read_bytes

FAIRFACE = ("fairface_label_val.csv", "fairface_label_train.csv")
LAYOUT = f"FairFace ({FAIRFACE[0]} and the images that it names), or UTKFace (AGE_GENDER_RACE_DATE.jpg)"
_COLUMNS = ("file", "age", "gender", "race")
_UTKFACE = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+.*")
_RACES = ("white", "black", "asian", "indian", "")
"""By UTKFace's number; the last one, "others", names no group."""
_AGES = ((2, "baby"), (12, "child"), (19, "teenager"), (59, "adult"), (200, "old"))
"""Last year of an age, in years, and what captions call it."""


@dataclass(frozen=True)
class Face:
    """A face and what its data set says about it.

    Attributes:
        name: The image's path in the data set.
        image: The image.
        groups: Group by attribute: gender, age and ethnicity; without those that are unknown.
    """

    name: str
    image: ImageFile
    groups: Mapping[str, str]


def read_faces(folder: Path, split: str | None) -> list[Face]:
    """Return the faces of a folder by name; of FairFace the validation images, or with the split ``train`` those for training.

    Raises:
        InputError: the folder is neither data set, or a line of the table cannot be read.
    """
    table = folder / FAIRFACE[int(split == "train")]
    if table.is_file():
        return sorted(_fairface(folder, table), key=lambda face: face.name)
    found = sorted(_utkface(folder), key=lambda face: face.name)
    if not found:
        raise InputError(
            f"--on fairness:{folder}: a folder without faces",
            allowed=LAYOUT,
            fix="for images with captions name their source, such as fairness:folder:photos",
        )
    return found


def _fairface(folder: Path, table: Path) -> Iterator[Face]:
    text = read_bytes(table).decode("utf-8-sig", errors="replace")
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if not set(_COLUMNS) <= set(rows.fieldnames or ()):
        raise InputError(f"{table}: columns {', '.join(rows.fieldnames or ())}", allowed=", ".join(_COLUMNS))
    try:
        for row in rows:
            path, age = str(row["file"] or ""), re.match(r"(?:more than )?(\d+)", str(row["age"] or ""))
            if not path or age is None or ".." in Path(path).parts or Path(path).is_absolute():
                raise InputError(
                    f"{table} line {rows.line_num}: file {path!r}, age {row['age']!r}",
                    allowed="a path below the folder, and an age such as 20-29 or more than 70",
                )
            race = re.sub(r"[^a-z]+", "_", str(row["race"] or "").lower())
            yield Face(path, ImageFile(folder / path), _groups(str(row["gender"] or "").lower(), int(age[1]), race))
    except csv.Error as error:
        raise InputError(f"{table} line {rows.line_num}: {error}", allowed="CSV") from None


def _utkface(folder: Path) -> Iterator[Face]:
    for path in folder.rglob("*"):
        found = _UTKFACE.fullmatch(path.name)
        if found and path.suffix.lower() in IMAGE_ENDINGS and path.is_file():
            gender, race = ("male", "female")[int(found[2])], _RACES[int(found[3])]
            yield Face(path.relative_to(folder).as_posix(), ImageFile(path), _groups(gender, int(found[1]), race))


def _groups(gender: str, years: int, race: str) -> Mapping[str, str]:
    age = next((name for last, name in _AGES if years <= last), "")
    found = {"gender": gender, "age": age, "ethnicity": race}
    return {name: group for name, group in found.items() if group}


def evenly(faces: Sequence[Face], limit: int | None) -> list[Face]:
    """Return at most so many faces, spread over the list."""
    if limit is None or limit >= len(faces):
        return list(faces)
    return [faces[at * len(faces) // limit] for at in range(limit)]
