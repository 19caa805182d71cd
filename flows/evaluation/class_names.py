"""Names of classes and templates of published data sets, as `class_sets/NAME.json`; those of ImageNet come from open_clip and timm."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_manifests.errors import InputError, nearest
from training.evaluate.small_files import read_json, read_lines

FOLDER = Path(__file__).parent / "class_sets"
IMAGENET = "imagenet"
_SYNSETS = Path("data", "_info", "imagenet_synsets.txt")


@dataclass(frozen=True)
class ClassNames:
    """The classes of a data set.

    Attributes:
        name: Of the data set.
        classes: Folder of each class -> its name; in the order of the data set's numbers.
        templates: Texts with ``{}`` where the name goes.
    """

    name: str
    classes: dict[str, str]
    templates: tuple[str, ...]

    def of_folders(self, folders: Sequence[str], where: str) -> list[list[str]]:
        """Return the names of some folders' classes; case, spaces, hyphens and underscores do not matter.

        Raises:
            InputError: a folder is no class of the data set.
        """
        known = {_plain(text): name for folder, name in self.classes.items() for text in (name, folder)}
        unknown = [folder for folder in folders if _plain(folder) not in known]
        if unknown:
            raise InputError(
                f"{where}: the subfolder {unknown[0]!r} is no class of {self.name} ({len(unknown)} of {len(folders)} are not)",
                allowed=f"{', '.join(list(self.classes)[:3])} ... ({len(self.classes)} classes)",
                fix=nearest(unknown[0], list(self.classes)) or "leave ?classes= out, or write a classes.json",
            )
        return [[known[_plain(folder)]] for folder in folders]


def class_set_names() -> tuple[str, ...]:
    """Return which data sets there are names of."""
    return (*sorted(path.stem for path in FOLDER.glob("*.json")), IMAGENET)


@functools.cache
def load_class_names(name: str) -> ClassNames:
    """Return the names and templates of a data set.

    Raises:
        InputError: there are none of that name.
    """
    if name not in class_set_names():
        raise InputError(f"?classes={name}", allowed=", ".join(class_set_names()), fix=nearest(name, class_set_names()))
    if name == IMAGENET:
        return _imagenet()
    found = read_json(FOLDER / f"{name}.json")
    return ClassNames(name, found["classes"], tuple(found["templates"]))


@functools.cache
def imagenet_folders() -> frozenset[str]:
    """Return the names of ImageNet's folders, such as ``n01440764``: WordNet's synsets, which timm's package lists."""
    return frozenset(_synsets())


def _synsets() -> list[str]:
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.submodule_search_locations
    return [line for _, line in read_lines(Path(spec.submodule_search_locations[0]) / _SYNSETS)]


def _imagenet() -> ClassNames:
    from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    names = dict(zip(_synsets(), IMAGENET_CLASSNAMES, strict=True))
    return ClassNames(IMAGENET, names, tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES))


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
