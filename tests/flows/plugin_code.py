"""Plug-ins as users write them: a recipe with a stage, an objective and a source, in a file or in an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_manifests import plugins

RECIPE = '''"""Captions are counted, and long ones count more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from data_manifests.sample import Sample
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.objectives.info_nce import InfoNCE
from training.objectives.interface import Objective


@dataclass(frozen=True)
class LetterCount(MapStage):
    """Count the letters of each caption."""

    name: ClassVar[str] = "letter_count"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (Field("num_letters", publish="sample"),)
    drops: ClassVar[tuple[str, ...]] = ("too_short",)
    source: ClassVar[str] = "a test"

    at_least: int = 3

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return the numbers of letters."""
        return [letters(sample, self.at_least) for sample in samples]


def letters(sample: Sample, at_least: int) -> dict[str, Any] | Drop:
    """Count the letters of one sample's captions."""
    found = [sum(char.isalpha() for char in text) for text in sample.captions]
    return {"num_letters": found} if max(found) >= at_least else Drop("too_short")


@dataclass(frozen=True)
class HalfSpread(Objective):
    """Half of the mean similarity of different images."""

    name: ClassVar[str] = "half_spread"
    source: ClassVar[str] = "a test"

    weight: float = 0.1

    def __call__(self, features: Any) -> Any:
        """Return the term."""
        return (features.image @ features.image.T).mean() / 2


def letters_clip() -> Recipe:
    """Return the recipe."""
    return Recipe(
        name="letters_clip",
        paper="a test",
        differs="it is a test",
        stages=(LetterCount(),),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(), HalfSpread()),
        train=TrainConfig(),
    )
'''

SOURCE = '''"""Pictures named by a text file."""

from pathlib import Path

from curation.sources import RecordSplit, SourceRecord
from data_manifests.sample import ImageRef, image_uid


class TabSource:
    """Path of an image, a tab, a caption."""

    kind = "tabs"

    def __init__(self, path, split=None):
        self._file = Path(path)

    def splits(self):
        return [RecordSplit(self._records)]

    def _records(self):
        for line in self._file.read_text(encoding="utf-8").splitlines():
            name, _, caption = line.partition("\\t")
            yield SourceRecord(name, ImageRef(str(self._file.parent / name)), (caption,))

    def signature(self):
        return image_uid(self._file.read_bytes())

    def describe(self):
        return {"kind": self.kind, "name": self._file.name, "licence": "CC0-1.0", "split": None}
'''

ENTRY_POINTS = """[clipcurate.recipes]
letters_clip = toy_letters.recipe:letters_clip

[clipcurate.stages]
letter_count = toy_letters.recipe:LetterCount

[clipcurate.objectives]
half_spread = toy_letters.recipe:HalfSpread

[clipcurate.sources]
tabs = toy_letters.source:TabSource
"""


def write_files(folder: Path) -> Path:
    """Write recipe and source as files of a user; return the recipe's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_source.py").write_text(SOURCE, encoding="utf-8")
    (file := folder / "my_recipe.py").write_text(RECIPE, encoding="utf-8")
    return file


def write_parts(folder: Path) -> Path:
    """Write the recipe as a file whose stage and objective are in a module beside it; return the recipe's."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, _, recipe = RECIPE.partition("def letters_clip")
    (folder / "beside_letters.py").write_text(parts, encoding="utf-8")
    text = f'"""Mine."""\nfrom beside_letters import *\n\n\ndef letters_clip{recipe}'
    (file := folder / "letters_clip.py").write_text(text, encoding="utf-8")
    return file


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, name: str = "toy-letters", points: str = ENTRY_POINTS
) -> Path:
    """Put a package with entry points on the path, as pip would; return the folder of its modules."""
    package = folder / name.replace("-", "_")
    package.mkdir(parents=True)
    for file, text in (("__init__.py", ""), ("recipe.py", RECIPE), ("source.py", SOURCE)):
        (package / file).write_text(text, encoding="utf-8")
    about = folder / f"{package.name}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    plugins.offered.cache_clear()
    plugins.origin_of.cache_clear()
    return package
