"""``winoground:FOLDER?images=DIR``: ``examples.jsonl`` and the images that it names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from data_manifests.image_decoder import IMAGE_ENDINGS
from flows.evaluation.interface import Benchmark, CaseName, EvalOptions, ShownCase, Target
from flows.evaluation.published_benchmark import find_images
from training.evaluate.benchmark_result import merge_results
from training.evaluate.blind import Case
from training.evaluate.features import encode_texts
from training.evaluate.image_files import ImageFile, encode_image_files
from training.evaluate.winoground import read_winoground, winoground

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel


class WinogroundBenchmark(Benchmark):
    """Winoground; names of images may lack the extension.

    Raises:
        InputError: the file is missing or damaged, or there is no case with both images.
    """

    options: ClassVar[tuple[str, ...]] = ("images",)

    def __init__(self, target: Target, eval_options: EvalOptions) -> None:
        super().__init__(target, eval_options)
        path = Path(target.source)
        self.cases = read_winoground(path if path.is_file() else path / "examples.jsonl")[: eval_options.limit]
        self.files = find_images(target, [name for case in self.cases for name in case.images], ("", *IMAGE_ENDINGS))
        self.complete = [case for case in self.cases if all(name in self.files for name in case.images)]
        self.count(len(self.cases), len(self.cases) - len(self.complete))

    def show_cases(self, names: Collection[CaseName]) -> dict[CaseName, ShownCase]:
        """Return the first image of each case with its own caption and the other one."""
        complete = {case.id: case for case in self.complete}
        return {
            name: ShownCase(ImageFile(self.files[case.images[0]]).read(), case.captions[:1], case.captions[1:])
            for name in names
            if (case := complete.get(name.id)) is not None
        }

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return text, image and group score."""
        files = [ImageFile(self.files[name]) for case in self.complete for name in case.images]
        image, readable = encode_image_files(model, files, report)
        both = np.logical_and(readable[0::2], readable[1::2])
        self.count(len(self.cases), len(self.cases) - int(both.sum()))
        cases = [case for case, is_readable in zip(self.complete, both.tolist(), strict=True) if is_readable]
        text = encode_texts(model, [caption for case in cases for caption in case.captions], report)
        dim = model.embed_dim
        result = winoground(cases, image.reshape(-1, 2, dim)[both], text.reshape(-1, 2, dim), len(self.cases))
        pairs = [Case(case.id, case.images[0], case.tag, case.captions[:1], case.captions[1:]) for case in cases]
        return merge_results(result, self.count_unread(model, (), pairs))
