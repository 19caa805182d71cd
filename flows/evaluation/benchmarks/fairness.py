"""``fairness:SRC?by=gender`` or ``fairness:SRC?column=NAME``: groups found in captions, in a column, or in FairFace or UTKFace."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.selection.tag_attributes import TagAttributes
from data_manifests.errors import InputError, nearest
from flows.evaluation.faces import Face, evenly, read_faces
from flows.evaluation.interface import Benchmark, EvalOptions, Target
from flows.evaluation.sample_benchmark import SampleBenchmark, samples_with_fields
from training.evaluate.fairness import PAIRS, PROMPTS, Groups, fairness
from training.evaluate.features import TextEmbeddingCache, encode_sample_images
from training.evaluate.image_files import encode_image_files

if TYPE_CHECKING:
    from curation.engine.stage import Stage
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel

MIN_IMAGES = 20
ATTRIBUTES = ("gender", "age", "ethnicity")
PEOPLE = {
    "gender:male": "a man", "gender:female": "a woman", "age:baby": "a baby", "age:child": "a child", "age:adult": "an adult",
    "age:teenager": "a teenager", "age:old": "an old person",
}  # fmt: skip
"""How a group's people are named in a prompt; another group is "a NAME person"."""


class FairnessBenchmark(SampleBenchmark):
    """Bias over groups of people, named by captions (``by``, gender by default) or by a column (``column``).

    An image whose captions name people of several groups, or of an unknown group, is left out; one whose captions name
    nobody counts as without people, and so does one without a value in the column. Groups of fewer than 20 images are
    left out. A folder in place of a source is FairFace or UTKFace, whose faces have no captions; see `faces`. With
    ``pairs=ONE|OTHER;ONE|OTHER`` these texts take the place of trades and neutral prompts, for groups that are no people.

    Raises:
        InputError: an unknown attribute, both `by` and `column`, or `pairs` that are none; in `run`, fewer than two groups.
    """

    options: ClassVar[tuple[str, ...]] = ("by", "column", "pairs")

    def __init__(self, target: Target, eval_options: EvalOptions) -> None:
        self._by, self._column = target.options.get("by", ATTRIBUTES[0]), target.options.get("column", "")
        if self._by not in ATTRIBUTES or ("by" in target.options and self._column):
            raise InputError(
                f"--on fairness: by={self._by}" + (f" and column={self._column}" if self._column else ""),
                allowed="?by=" + ", ?by=".join(ATTRIBUTES) + ", or ?column=NAME of the source",
                fix=nearest(self._by, ATTRIBUTES),
            )
        self._pairs, self._prompts = _pairs_and_prompts(target.options.get("pairs", ""))
        self.faces: list[Face] = []
        if not Path(target.source).is_dir():
            super().__init__(target, eval_options)
            return
        if self._column:
            raise InputError(
                f"--on fairness:{target.source}?column={self._column}", allowed="?by=" + ", ?by=".join(ATTRIBUTES)
            )
        Benchmark.__init__(self, target, eval_options)
        self.samples = ()
        self.faces = evenly(read_faces(Path(target.source), eval_options.split), eval_options.limit)
        self.count(len(self.faces), 0)

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return biases of representation and association, parity, skew and NDKL."""
        if self.faces:
            image, readable = encode_image_files(model, [face.image for face in self.faces], report)
            self.count(len(self.faces), int((~readable).sum()))
            self.faces = [face for face, is_readable in zip(self.faces, readable, strict=True) if is_readable]
            names = [face.name for face in self.faces]
            return fairness(
                TextEmbeddingCache(model), image[readable], names, self.groups(), self._pairs, self._prompts
            )
        groups = self.groups()
        image = encode_sample_images(model, self.samples, report)
        uids = [sample.uid for sample in self.samples]
        return fairness(TextEmbeddingCache(model), image, uids, groups, self._pairs, self._prompts)

    def groups(self) -> Groups:
        """Return the groups of people in the images.

        Raises:
            InputError: fewer than two groups of 20 images.
        """
        tags = {} if self.faces else self._tags()
        attribute = re.sub(r"[^a-z0-9]+", "_", self._column.casefold()).strip("_") if self._column else self._by
        values = [
            {tag.partition(":")[2] for tag in tags[sample.uid].split() if tag.startswith(f"{attribute}:")}
            for sample in self.samples
        ] or [{face.groups[attribute]} if attribute in face.groups else set[str]() for face in self.faces]
        single = [next(iter(groups)) if len(groups) == 1 else None for groups in values]
        counts = Counter(group for group in single if group is not None)
        names = tuple(sorted(name for name, number in counts.items() if number >= MIN_IMAGES))
        if len(names) < 2:
            raise InputError(
                f"--on fairness: groups of '{attribute}' with their images: {dict(sorted(counts.items()))}",
                allowed=f"two groups or more of {MIN_IMAGES} images",
                fix="take more samples, or another attribute or column",
            )
        of_image = np.array([names.index(group) if group in names else -1 for group in single], dtype=np.int64)
        prefix = f"{attribute}:" if self._column else "person:"
        nobody = [not any(tag.startswith(prefix) for tag in tags[sample.uid].split()) for sample in self.samples]
        nobody += [False] * len(self.faces)
        prompts = tuple(PEOPLE.get(f"{attribute}:{name}", f"a {name.replace('_', ' ')} person") for name in names)
        no_people = np.array(nobody) & (of_image < 0)  # "his ball" names a gender and nobody
        return Groups(attribute, names, prompts, of_image, no_people)

    def _tags(self) -> dict[str, str]:
        """Return each sample's tags."""
        stages: tuple[Stage, ...] = (ParseCaptions(), TagAttributes())
        if self._column:
            stages = (TagAttributes(captions=False, columns=(self._column,)),)
        samples = samples_with_fields(stages, self.snapshot, self.eval_options.catalog.workspace, ("attribute_tags",))
        return {sample.uid: str(sample["attribute_tags"]) for sample in samples}


def _pairs_and_prompts(given: str) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
    """Return pairs of texts, and all texts once; of trades and neutral prompts where none are given.

    Raises:
        InputError: a pair has not two different texts.
    """
    if not given:
        return PAIRS, PROMPTS
    pairs = []
    for part in given.split(";"):
        texts = [text.strip() for text in part.split("|")]
        if len(texts) != 2 or not all(texts) or texts[0] == texts[1]:
            raise InputError(
                f"--on fairness: pairs={given}: '{part}' is no pair of texts",
                allowed="two different texts with | between them, and ; between pairs",
                fix="for example ?column=NAME&pairs=a star|a circle",
            )
        pairs.append((texts[0], texts[1]))
    return pairs, list(dict.fromkeys(text for pair in pairs for text in pair))
