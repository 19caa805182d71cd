"""What the published tests of texts share: cases from the user's copies of the files, and images found by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data_manifests.errors import InputError
from flows.evaluation.blind import with_blind_judges
from flows.evaluation.interface import Benchmark, CaseName, EvalOptions, ShownCase, Target, cases_by_name, round_robin
from training.evaluate.benchmark_result import BenchmarkResult, merge_results
from training.evaluate.blind import ReferenceTexts, true_texts
from training.evaluate.features import TextEmbeddingCache
from training.evaluate.foils import chance, count_cases, foil_accuracy, rare_categories
from training.evaluate.image_files import ImageFile, ImageFinder, encode_image_files
from training.evaluate.published import PublishedCase, PublishedCases, check_cases
from training.evaluate.triplets import add_text_only

if TYPE_CHECKING:
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel


class PublishedBenchmark(Benchmark):
    """``KIND:FOLDER?images=DIR``; a kind implements `read`.

    Images are looked for in DIR, by default in ``FOLDER/images`` or FOLDER. A case whose image is missing or cannot be
    read is counted and left out. With `limit`, cases are taken from the categories in turn.

    Raises:
        InputError: the files are not as published, or not one image is found (unless only texts are evaluated).
    """

    options: ClassVar[tuple[str, ...]] = ("images",)
    has_blind: ClassVar[bool] = True
    has_text_only_task: ClassVar[bool] = False

    @abstractmethod
    def read(self, folder: Path) -> PublishedCases:
        """Read the cases from their folder, or from their one file."""

    def __init__(self, target: Target, eval_options: EvalOptions) -> None:
        super().__init__(target, eval_options)
        self.published = check_cases(target.kind, target.source, self.read(Path(target.source)))
        groups: dict[str, list[PublishedCase]] = {}
        for case in self.published.cases:
            groups.setdefault(case.case.category, []).append(case)
        self.listed = round_robin(groups.values(), eval_options.limit)
        if eval_options.blind:
            self.count(len(self.listed), 0)
        else:
            self.files = find_images(target, [case.file for case in self.listed])
            self.count(len(self.listed), sum(case.file not in self.files for case in self.listed))

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return accuracy by category and their mean, each with the blind judges' accuracy."""
        listed = [case.case for case in self.listed]
        embed, cases = TextEmbeddingCache(model, report), listed
        result = BenchmarkResult({"num_cases": len(listed), "chance": chance(listed)})
        if not self.eval_options.blind:
            image, readable = self._embed_images(model, report)
            self.count(len(listed), int((~readable).sum()))
            cases = [case for case, is_readable in zip(listed, readable, strict=True) if is_readable]
            outside_mean = self.published.outside_mean | rare_categories(listed, self.published.min_cases)
            result = foil_accuracy(embed, cases, image[readable], count_cases(listed, readable, outside_mean))
        if self.published.num_not_valid:
            result.metrics["num_not_valid"] = self.published.num_not_valid
        # judges may learn from the captions of cases whose image is missing: the text is there
        reference = ReferenceTexts(true_texts(listed), self.eval_options.blind_texts)
        result = with_blind_judges(embed, result, "categories", cases, reference)
        result = merge_results(result, self.count_unread(model, (), cases))
        return add_text_only(embed, result, listed) if self.has_text_only_task else result

    def show_cases(self, names: Collection[CaseName]) -> dict[CaseName, ShownCase]:
        """Return those whose image is there."""
        listed = {(item.case.category, item.case.id): item for item in self.listed if item.file in self.files}
        found: dict[CaseName, ShownCase] = {}
        for name, case in cases_by_name((item.case for item in listed.values()), names).items():
            entry = listed[case.category, case.id]
            image = ImageFile(self.files[entry.file], entry.box).read()
            found[name] = ShownCase(image, case.right, case.wrong)
        return found

    def _embed_images(self, model: ClipModel, report: EvalProgress) -> tuple[Any, Any]:
        """Return the embedding of each listed case's image, and whether it could be read."""
        found = [number for number, case in enumerate(self.listed) if case.file in self.files]
        files = [ImageFile(self.files[self.listed[number].file], self.listed[number].box) for number in found]
        image = np.zeros((len(self.listed), model.embed_dim), dtype=np.float32)
        readable = np.zeros(len(self.listed), dtype=bool)
        image[found], readable[found] = encode_image_files(model, files, report)
        if not readable.any():
            raise InputError(f"--on {self.target.kind}: not one image can be read", fix="check ?images=DIR")
        return image, readable


def find_images(target: Target, names: Iterable[str], suffixes: tuple[str, ...] = ("",)) -> dict[str, Path]:
    """Return the image files of a benchmark by name.

    Raises:
        InputError: the folder is missing, or holds none of them.
    """
    source = Path(target.source)
    folder = source if source.is_dir() else source.parent
    if "images" in target.options:
        root = Path(target.options["images"])
    else:
        root = folder / "images" if (folder / "images").is_dir() else folder
    if not root.is_dir():
        raise InputError(f"--on {target.kind}:{source}: there is no folder {root}", fix="check ?images=DIR")
    finder, distinct = ImageFinder(root, suffixes), list(dict.fromkeys(names))
    found = {name: path for name in distinct if (path := finder.find(name)) is not None}
    if not found:
        raise InputError(
            f"--on {target.kind}:{source}: none of its {len(distinct)} images is in {root}",
            allowed=f"{target.kind}:FOLDER?images=DIR with some or all of the images",
            fix="give their folder; or add --blind to see what text alone reaches",
        )
    return found
