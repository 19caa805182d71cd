"""Zero-shot classification over a folder of images, one subfolder for each class."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from data_manifests.errors import InputError
from data_manifests.image_decoder import IMAGE_ENDINGS
from flows.evaluation.class_names import load_class_names
from flows.evaluation.interface import Benchmark, CaseName, EvalOptions, ShownCase, Target, round_robin
from flows.evaluation.labelled_images import LabelledImages, find_labelled_images
from training.evaluate.image_files import ImageFile, encode_image_files
from training.evaluate.small_files import read_json, read_lines
from training.evaluate.zero_shot import TEMPLATES, class_embeddings, zero_shot

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel

MAX_NAMES = 20
MAX_NAMED = 5
MACOS_FOLDER = "__MACOSX"
"""What macOS puts into a ZIP file: shadow files named as the images, but no images."""
LAYOUT = "a folder with one subfolder of images for each class, or CIFAR, Food-101, Pets, Caltech-101 or ImageNet as unpacked"
NAME_FILES = ("classes.txt", "classes.json")


class ZeroShotBenchmark(Benchmark):
    """``zero_shot:FOLDER``: subfolders are classes; ``classes.txt`` or ``classes.json`` and ``templates.txt`` are optional.

    Hidden folders (a name that begins with ``.``), ``__MACOSX`` and folders without an image are no classes, and hidden files are no images;
    what is left out is said.
    ``classes.txt`` has one name a line, for the subfolders in alphabetical order; ``classes.json`` maps a subfolder
    to its name or a list of names. Without either, a class is named by its folder, with spaces for underscores.
    ``templates.txt`` has one text a line, with ``{}`` where the name goes. With `limit`, images are taken from the classes in turn.

    CIFAR, Food-101, Pets, Caltech-101 and ImageNet are read as their archives unpack, see `labelled_images`, with their own names
    and templates; ``?classes=NAME`` takes these for any folder whose subfolders are called as their classes.

    Raises:
        InputError: not such a folder, no image, names that do not match, a template without ``{}``.
    """

    options: ClassVar[tuple[str, ...]] = ("classes",)

    def __init__(self, target: Target, eval_options: EvalOptions) -> None:
        super().__init__(target, eval_options)
        folder, wanted = Path(target.source), target.options.get("classes", "")
        if not folder.is_dir():
            raise InputError(f"--on zero_shot: there is no folder {folder}", allowed=LAYOUT)
        own = any((folder / name).is_file() for name in (*NAME_FILES, "templates.txt"))
        found = None if own or wanted else find_labelled_images(folder, eval_options.split)
        if isinstance(found, LabelledImages):
            self._take(found)
            return
        left_out: tuple[str, ...] = ()
        if found is not None:
            folder, wanted, left_out = found.folder, found.name, found.left_out
        self._read_folder(folder, wanted, left_out)

    def _take(self, found: LabelledImages) -> None:
        """Take the images, names and templates of a published data set."""
        known = load_class_names(found.name)
        by_class: dict[str, list[tuple[str, ImageFile]]] = {}
        for label, name, image in found.images:
            by_class.setdefault(label, []).append((name, image))
        self.classes = [name for name in known.classes if name in by_class]
        self.names = [[known.classes[name]] for name in self.classes]
        self.templates = known.templates
        number = {name: row for row, name in enumerate(self.classes)}
        listed = [[(label, *item) for item in items] for label, items in by_class.items()]
        chosen = sorted(round_robin(listed, self.eval_options.limit), key=lambda item: item[1])
        self.ids = [name for _, name, _ in chosen]
        self.labels = [number[label] for label, _, _ in chosen]
        self.files = [image for _, _, image in chosen]
        if len(self.classes) < 2:
            raise InputError(
                f"--on {self.target.kind}:{self.target.source}: images of {len(self.classes)} classes of {found.name}"
            )
        self.notes.append(
            f"{found.name}: {len(self.classes)} classes, its own names and {len(self.templates)} templates"
        )
        self.count(len(self.ids), 0)

    def _read_folder(self, folder: Path, wanted: str, left_out: Collection[str]) -> None:
        """Take the images of a folder with one subfolder for each class, with the names of a published data set if one is wanted."""
        images, others = _classes(folder, left_out)
        self._note_left_out("no classes (hidden, __MACOSX or without an image)", others)
        self.classes = list(images)
        if wanted:
            known = load_class_names(wanted)
            self.names = known.of_folders(self.classes, f"--on zero_shot:{folder}")
            self.templates = known.templates
        else:
            self.names, self.templates = _names(folder, self.classes), _templates(folder)
        unread = [
            path
            for name in self.classes
            for path in _shown_files(folder / name)
            if path.suffix.lower() not in IMAGE_ENDINGS
        ]
        self._note_left_out("files that are not JPEG, PNG or WebP", [_relative(path, folder) for path in unread])
        files = round_robin(images.values(), self.eval_options.limit)
        number = {name: row for row, name in enumerate(self.classes)}
        self.ids = sorted(_relative(path, folder) for path in files)
        self.labels = [number[name.split("/")[0]] for name in self.ids]
        self.files = [ImageFile(folder / name) for name in self.ids]
        if len(self.classes) < 2 or not files:
            raise InputError(
                f"--on zero_shot:{folder}: {len(files)} images in {len(self.classes)} subfolders with images",
                allowed=LAYOUT,
                fix="; ".join(self.notes),
            )
        self.count(len(self.ids), 0)

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return top-1 and top-5 accuracy, and the accuracy of each class."""
        image, readable = encode_image_files(model, self.files, report)
        self.count(len(self.ids), int((~readable).sum()))
        refused = [name for name, is_readable in zip(self.ids, readable, strict=True) if not is_readable]
        self._note_left_out("unreadable images", refused)
        ids = [name for name, is_readable in zip(self.ids, readable, strict=True) if is_readable]
        classes = class_embeddings(model, self.names, self.templates)
        return zero_shot(image[readable], np.array(self.labels)[readable], classes, _shown(self.classes), ids)

    def show_cases(self, names: Collection[CaseName]) -> dict[CaseName, ShownCase]:
        """Return the images with their classes."""
        row = {name: number for number, name in enumerate(self.ids)}
        return {
            name: ShownCase(self.files[at].read(), self.names[self.labels[at]][:1])
            for name in names
            if (at := row.get(name.id)) is not None
        }

    def _note_left_out(self, what: str, names: list[str]) -> None:
        """Note that some files or folders are left out, with the names of the first ones."""
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            self.notes.append(f"left out, {what}: {', '.join(names[:MAX_NAMED])}{more}")


def _shown(classes: list[str]) -> list[str]:
    """Return names for results, where dots join the parts: names without dots, made unique again."""
    plain = [name.replace(".", "_") for name in classes]
    return [f"{name}#{number}" if plain.count(name) > 1 else name for number, name in enumerate(plain)]


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _classes(folder: Path, left_out: Collection[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the image files of each class by its folder's name, in order, and the folders that are no classes."""
    folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    found = {
        name: _files(folder / name) for name in folders if name[0] != "." and name not in {MACOS_FOLDER, *left_out}
    }
    classes = {name: files for name, files in found.items() if files}
    return classes, [name for name in folders if name not in classes]


def _files(folder: Path) -> list[Path]:
    """Return the image files below a folder, by name."""
    return [path for path in _shown_files(folder) if path.suffix.lower() in IMAGE_ENDINGS]


def _shown_files(folder: Path) -> list[Path]:
    """Return the files below a folder that are not hidden, by name; links to folders are not followed."""
    found = (path for path in folder.rglob("*") if path.is_file())
    visible = (
        path
        for path in found
        if not any(part[0] == "." or part == MACOS_FOLDER for part in path.relative_to(folder).parts)
    )
    return sorted(visible, key=lambda path: _relative(path, folder))


def _names(folder: Path, classes: list[str]) -> list[list[str]]:
    """Return the names of each class."""
    lines, table = (folder / name for name in NAME_FILES)
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
            is_valid = isinstance(names, list) and all(isinstance(text, str) and text.strip() for text in names)
            if not is_valid or not 0 < len(names) <= MAX_NAMES:
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
