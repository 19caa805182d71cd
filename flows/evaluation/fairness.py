"""``fairness:SRC?by=gender`` or ``fairness:SRC?column=NAME``: groups found in captions or in a column of the source."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from curation.engine.engine import run_stages
from curation.engine.replay import WorkUnit, replay
from curation.engine.store import partitions
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.selection.tag_attributes import TagAttributes
from data_manifests.errors import InputError, nearest
from flows.evaluation.registry import EvalOptions, Target
from flows.evaluation.retrieval_and_order import SampleBenchmark

if TYPE_CHECKING:
    from curation.engine.stage import Stage
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.fairness import Groups
    from training.evaluate.features import ReportProgress
    from training.model.clip_model import ClipModel

LEAST_IMAGES = 20
BY = ("gender", "age", "ethnicity")
PEOPLE = {
    "gender:male": "a man", "gender:female": "a woman", "age:baby": "a baby", "age:child": "a child", "age:adult": "an adult",
    "age:teenager": "a teenager", "age:old": "an old person",
}  # fmt: skip
"""How a group's people are named in a prompt; another group is "a NAME person"."""


class FairnessBenchmark(SampleBenchmark):
    """Groups by our lexicon's reading of captions (``by``, gender by default) or by a column's values (``column``).

    An image whose captions name people of several groups, or people of unknown group, is left out; one whose captions
    name nobody counts as without people. Of a column, an image without a value counts so. Groups of fewer than 20
    images are left out.

    Raises:
        InputError: both or an unknown attribute; in `run`, fewer than two groups.
    """

    options: ClassVar[tuple[str, ...]] = ("by", "column")
    has_blind: ClassVar[bool] = False

    def __init__(self, place: Target, eval_options: EvalOptions) -> None:
        self._by, self._column = place.options.get("by", BY[0]), place.options.get("column", "")
        if self._by not in BY or ("by" in place.options and self._column):
            raise InputError(
                f"--on fairness: by={self._by}" + (f" and column={self._column}" if self._column else ""),
                allowed="?by=" + ", ?by=".join(BY) + ", or ?column=NAME of the source",
                fix=nearest(self._by, BY),
            )
        super().__init__(place, eval_options)

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return biases of representation and association, parity, skew and NDKL."""
        from training.evaluate.fairness import fairness
        from training.evaluate.features import TextEmbeddingCache, encode_sample_images

        groups = self.groups()
        image = encode_sample_images(model, self.samples, report=report)
        return fairness(TextEmbeddingCache(model), image, [sample.uid for sample in self.samples], groups)

    def groups(self) -> Groups:
        """Return who is in the images.

        Raises:
            InputError: fewer than two groups of 20 images.
        """
        from training.evaluate.fairness import Groups

        tags = self._tags()
        attribute = re.sub(r"[^a-z0-9]+", "_", self._column.casefold()).strip("_") if self._column else self._by
        values = [
            {tag.partition(":")[2] for tag in tags[sample.uid].split() if tag.startswith(f"{attribute}:")}
            for sample in self.samples
        ]
        counts = Counter(next(iter(one)) for one in values if len(one) == 1)
        names = tuple(sorted(name for name, number in counts.items() if number >= LEAST_IMAGES))
        if len(names) < 2:
            raise InputError(
                f"--on fairness: groups of '{attribute}' with their images: {dict(sorted(counts.items()))}",
                allowed=f"two groups or more of {LEAST_IMAGES} images",
                fix="take more samples, or another attribute or column",
            )
        number = {name: place for place, name in enumerate(names)}
        of_image = [number.get(next(iter(one)), -1) if len(one) == 1 else -1 for one in values]
        named = "person:" if not self._column else f"{attribute}:"
        nobody = [not any(tag.startswith(named) for tag in tags[sample.uid].split()) for sample in self.samples]
        prompts = tuple(PEOPLE.get(f"{attribute}:{name}", f"a {name.replace('_', ' ')} person") for name in names)
        alone = np.array(nobody) & (np.array(of_image) < 0)  # "his ball" names a gender and nobody
        return Groups(attribute, names, prompts, np.array(of_image, dtype=np.int64), alone)

    def _tags(self) -> dict[str, str]:
        """Return each sample's tags."""
        stages: tuple[Stage, ...] = (ParseCaptions(), TagAttributes())
        if self._column:
            stages = (TagAttributes(captions=False, columns=(self._column,)),)
        store = self.eval_options.workspace / "store"
        done, _ = run_stages(stages, self.snapshot, store)
        units = [
            WorkUnit(stages[-1], tuple(done), self.snapshot.folder, store, part)
            for part in partitions(self.snapshot.num_samples)
        ]
        held = [one.sample for unit in units for one in replay(unit, ("attribute_tags",))]
        return {sample.uid: str(sample["attribute_tags"]) for sample in held}
