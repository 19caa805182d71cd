"""Zero-shot classification over a folder of images, one subfolder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from data_manifests.errors import InputError
from flows.evaluation.registry import EvalOptions, Target, round_robin
from training.evaluate.small_files import read_json, read_lines

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.features import ReportProgress
    from training.model.clip_model import ClipModel

MAX_NAMES = 20
LAYOUT = "a folder with one subfolder of images for each class"


class ZeroShotBenchmark:
    """``zero_shot:FOLDER``: subfolders are classes; ``classes.txt`` or ``classes.json`` and ``templates.txt`` may lie beside.

    ``classes.txt`` has one name a line, for the subfolders in alphabetical order; ``classes.json`` maps a subfolder
    to its name or a list of names. Without either, a class is called as its folder, underscores read as spaces.
    ``templates.txt`` has one text a line, with ``{}`` where the name goes. With `limit`, every class has its turn.

    Raises:
        InputError: not such a folder, no image, names that do not match, a template without a place for the name.
    """

    options: ClassVar[tuple[str, ...]] = ()
    has_blind: ClassVar[bool] = False

    def __init__(self, place: Target, eval_options: EvalOptions) -> None:
        folder = Path(place.source)
        if not folder.is_dir():
            raise InputError(f"--on zero_shot: there is no folder {folder}", allowed=LAYOUT)
        self.classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
        self.names = _names(folder, self.classes)
        self.templates = _templates(folder)
        found = [_files(folder / name) for name in self.classes]
        files = round_robin(found, eval_options.limit)
        number = {name: place for place, name in enumerate(self.classes)}
        self.ids = sorted(path.relative_to(folder).as_posix() for path in files)
        self.labels = [number[name.split("/")[0]] for name in self.ids]
        self.files = [folder / name for name in self.ids]
        if len(self.classes) < 2 or not files:
            raise InputError(
                f"--on zero_shot:{folder}: {len(files)} images in {len(self.classes)} subfolders", allowed=LAYOUT
            )
        self._num_unreadable = 0

    @property
    def num_samples(self) -> int:
        """How many images are evaluated."""
        return len(self.ids) - self._num_unreadable

    @property
    def num_refused(self) -> int:
        """How many images cannot be decoded; known once it has run."""
        return self._num_unreadable

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return top-1, top-5 and each class's own."""
        from training.evaluate.image_files import ImageFile, encode_image_files
        from training.evaluate.zero_shot import class_embeddings, zero_shot

        image, readable = encode_image_files(model, [ImageFile(path) for path in self.files], report)
        self._num_unreadable = int((~readable).sum())
        ids = [name for name, holds in zip(self.ids, readable, strict=True) if holds]
        classes = class_embeddings(model, self.names, self.templates)
        return zero_shot(image[readable], np.array(self.labels)[readable], classes, _shown(self.classes), ids)


def _shown(classes: list[str]) -> list[str]:
    """Return names for results, whose parts are joined by dots: without dots, and still all different."""
    plain = [name.replace(".", "_") for name in classes]
    return [f"{name}#{place}" if plain.count(name) > 1 else name for place, name in enumerate(plain)]


def _files(folder: Path) -> list[Path]:
    """Return the image files below a folder, by name; links to folders are not followed."""
    from training.evaluate.image_files import SUFFIXES

    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _names(folder: Path, classes: list[str]) -> list[list[str]]:
    """Return the names of each class."""
    lines, table = folder / "classes.txt", folder / "classes.json"
    if table.is_file():
        record = read_json(table)
        if not isinstance(record, dict):
            raise InputError(f"{table.name}: {type(record).__name__}", allowed="an object: subfolder -> name or names")
        missing = [name for name in classes if name not in record]
        if missing:
            raise InputError(
                f"{table.name}: no name for the folder {missing[0]!r}", allowed="a name for every subfolder"
            )
        found = [[value] if isinstance(value := record[name], str) else value for name in classes]
        for name, names in zip(classes, found, strict=True):
            good = isinstance(names, list) and all(isinstance(one, str) and one.strip() for one in names)
            if not good or not 0 < len(names) <= MAX_NAMES:
                raise InputError(f"{table.name}: {name!r} is {names!r}", allowed=f"a text or 1 to {MAX_NAMES} texts")
        return found
    if lines.is_file():
        names = [line for _, line in read_lines(lines)]
        if len(names) != len(classes):
            raise InputError(
                f"{lines.name}: {len(names)} names for {len(classes)} subfolders",
                allowed="one a line, for the subfolders in alphabetical order",
                fix="or write classes.json, which maps subfolders to names",
            )
        return [[name] for name in names]
    return [[name.replace("_", " ")] for name in classes]


def _templates(folder: Path) -> tuple[str, ...]:
    from training.evaluate.zero_shot import TEMPLATES

    path = folder / "templates.txt"
    if not path.is_file():
        return TEMPLATES
    lines = read_lines(path)
    for number, line in lines:
        if "{}" not in line and "{c}" not in line:
            raise InputError(f"{path.name} line {number}: {line[:80]!r}", allowed="a text with {} where the name goes")
    if not lines:
        raise InputError(f"{path.name}: no template", allowed="one a line", fix="delete the file to use ours")
    return tuple(line for _, line in lines)
