"""Published tests of texts over the user's copies of their files and images: ``KIND:FOLDER?images=DIR``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data_manifests.errors import InputError
from flows.evaluation.registry import EvalOptions, Target, round_robin
from training.evaluate.image_files import SUFFIXES, ImageFinder

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.features import ReportProgress
    from training.model.clip_model import ClipModel


class PublishedBenchmark:
    """``sugarcrepe:FOLDER?images=DIR`` and its kin: what `training.evaluate.published` reads.

    Images are looked for in DIR; by default in ``FOLDER/images``, or in FOLDER. A case whose image is missing or cannot be
    read is counted and left out. With `limit`, every category has its turn.

    Raises:
        InputError: the files are not as published, or not one image is there (unless only blind judges are asked).
    """

    options: ClassVar[tuple[str, ...]] = ("images",)
    has_blind: ClassVar[bool] = True

    def __init__(self, place: Target, eval_options: EvalOptions) -> None:
        from training.evaluate.published import PublishedCase, read_published

        self.place, self.eval_options = place, eval_options
        self.published = read_published(place.kind, Path(place.source))
        groups: dict[str, list[PublishedCase]] = {}
        for one in self.published.cases:
            groups.setdefault(one.case.category, []).append(one)
        self.listed = round_robin(groups.values(), eval_options.limit)
        folder = _images(place)
        names = {} if eval_options.blind else {one.file: folder.find(one.file) for one in self.listed}
        self.files = {name: path for name, path in names.items() if path is not None}
        if not eval_options.blind:
            _require(self.files, len(names), place, folder)
        self._num_missing = sum(one.file not in self.files for one in self.listed)

    @property
    def num_samples(self) -> int:
        """How many cases are asked."""
        return len(self.listed) - self.num_refused

    @property
    def num_refused(self) -> int:
        """How many cases have no readable image; final once it has run."""
        return 0 if self.eval_options.blind else self._num_missing

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return accuracy by category and their mean, the blind judges beside each."""
        from flows.evaluation.blind import with_blind_judges
        from training.evaluate.benchmark_result import BenchmarkResult
        from training.evaluate.blind import ReferenceTexts, true_texts
        from training.evaluate.features import TextEmbeddingCache
        from training.evaluate.foils import count_cases, foil_accuracy, rare_categories

        every = [one.case for one in self.listed]
        embed, cases = TextEmbeddingCache(model, report), every
        apart = self.published.apart | rare_categories(every, self.published.least)
        found = BenchmarkResult({"num_cases": len(every)})
        if not self.eval_options.blind:
            image, readable = self._image(model, report)
            self._num_missing = int((~readable).sum())
            cases = [case for case, holds in zip(every, readable, strict=True) if holds]
            found = foil_accuracy(embed, cases, image[readable], count_cases(every, readable, apart))
        if self.published.num_not_valid:
            found.metrics["num_not_valid"] = self.published.num_not_valid
        # judges may read the captions of cases whose image is missing: the text is there
        reading = ReferenceTexts(true_texts(every), self.eval_options.blind_texts)
        found = with_blind_judges(embed, found, "categories", cases, reading)
        return _with_text_only(embed, found, every) if self.place.kind == "sugarcrepe_pp" else found

    def _image(self, model: ClipModel, report: ReportProgress) -> tuple[Any, Any]:
        """Return the embedding of each listed case's image, and whether it could be read."""
        from training.evaluate.image_files import ImageFile, encode_image_files

        have = [place for place, one in enumerate(self.listed) if one.file in self.files]
        pictures = [ImageFile(self.files[self.listed[place].file], self.listed[place].box) for place in have]
        found, holds = encode_image_files(model, pictures, report)
        image = np.zeros((len(self.listed), model.embed_dim), dtype=np.float32)
        readable = np.zeros(len(self.listed), dtype=bool)
        image[have], readable[have] = found, holds
        if not readable.any():
            raise InputError(f"--on {self.place.kind}: not one image can be read", fix="check ?images=DIR")
        return image, readable


def _with_text_only(embed: Any, found: BenchmarkResult, cases: list[Any]) -> BenchmarkResult:
    """Put SugarCrepe++'s text-only task beside the other; it needs no image, so all cases are asked."""
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.triplets import text_only

    told = text_only(embed, cases)
    categories = {name: dict(entry) for name, entry in found.metrics["categories"].items()}
    for name, entry in told.metrics["categories"].items():
        categories.setdefault(name, {}).update(entry)
    metrics = {**found.metrics, "tot_accuracy": told.metrics["tot_accuracy"], "categories": categories}
    return BenchmarkResult(metrics, {**found.cases, **told.cases}, {**found.means, **told.means})


class WinogroundBenchmark:
    """``winoground:FOLDER?images=DIR``: ``examples.jsonl``, and pictures named as it says, with or without an ending.

    Raises:
        InputError: the file is missing or damaged, or there is no case with both images.
    """

    options: ClassVar[tuple[str, ...]] = ("images",)
    has_blind: ClassVar[bool] = False

    def __init__(self, place: Target, eval_options: EvalOptions) -> None:
        from training.evaluate.winoground import read_winoground

        self.place = place
        path = Path(place.source)
        self.quartets = read_winoground(path if path.is_file() else path / "examples.jsonl")[: eval_options.limit]
        folder = _images(place, ("", *SUFFIXES))
        names = {name: folder.find(name) for one in self.quartets for name in one.images}
        self.files = {name: found for name, found in names.items() if found is not None}
        _require(self.files, len(names), place, folder)
        self._num_missing = sum(not all(name in self.files for name in one.images) for one in self.quartets)

    @property
    def num_samples(self) -> int:
        """How many cases are asked."""
        return len(self.quartets) - self._num_missing

    @property
    def num_refused(self) -> int:
        """How many cases lack an image; final once it has run."""
        return self._num_missing

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return text, image and group score."""
        from training.evaluate.features import encode_texts
        from training.evaluate.image_files import ImageFile, encode_image_files
        from training.evaluate.winoground import winoground

        whole = [one for one in self.quartets if all(name in self.files for name in one.images)]
        pictures = [ImageFile(self.files[name]) for one in whole for name in one.images]
        image, readable = encode_image_files(model, pictures, report)
        holds = np.logical_and(readable[0::2], readable[1::2])
        self._num_missing = len(self.quartets) - int(holds.sum())
        asked = [one for one, both in zip(whole, holds.tolist(), strict=True) if both]
        text = encode_texts(model, [caption for one in asked for caption in one.captions], report)
        dim = model.embed_dim
        return winoground(asked, image.reshape(-1, 2, dim)[holds], text.reshape(-1, 2, dim), len(self.quartets))


def _images(place: Target, suffixes: tuple[str, ...] = ("",)) -> ImageFinder:
    """Return where a benchmark's pictures are looked for."""
    source = Path(place.source)
    own = source if source.is_dir() else source.parent
    beside = own / "images"
    root = Path(place.options["images"]) if "images" in place.options else beside if beside.is_dir() else own
    if not root.is_dir():
        raise InputError(f"--on {place.kind}:{place.source}: there is no folder {root}", fix="check ?images=DIR")
    return ImageFinder(root, suffixes)


def _require(found: Iterable[str], num_names: int, place: Target, folder: ImageFinder) -> None:
    if not list(found):
        raise InputError(
            f"--on {place.kind}:{place.source}: none of its {num_names} images is in {folder.root}",
            allowed=f"{place.kind}:FOLDER?images=DIR with a part of the images or all of them",
            fix="give their folder; or add --blind to see what text alone reaches",
        )
