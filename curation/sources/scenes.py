"""``scenes:COUNT[@SEED]``: generated scenes, for which it is known whether a caption is true.

A scene depends only on (seed, index), so the first hundred of ``scenes:2000`` are those of ``scenes:100``. A record's
attributes contain the scene graph (``scene``, see `synthetic.world`) and false texts (``foils``, see
`synthetic.captions.foils_of`); `synthetic.grammar.truth` decides any other sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from blake3 import blake3

from curation.sources import SourceRecord
from curation.sources.reading.files import check_split
from curation.sources.synthetic.captions import captions_of, foils_of
from curation.sources.synthetic.drawing import draw_scene
from curation.sources.synthetic.world import sample_scene
from data_manifests.errors import InputError
from data_manifests.seeds import canonical, generator

GENERATOR_VERSION = 1
"""Increased whenever the same seed and index would give a different image or different texts."""
MAX_COUNT = 1_000_000
LICENCE = "CC0-1.0"
SPLITS = ("train", "dev", "test")

_SPEC = re.compile(r"([0-9]{1,7})(?:@([0-9]{1,18}))?")
_SPLIT_OF_LAST_DIGIT = ("train",) * 8 + ("dev", "test")


def split_of(index: int) -> str:
    """Return a scene's split: of every ten consecutive scenes, eight are train, one is dev and one is test."""
    return _SPLIT_OF_LAST_DIGIT[index % 10]


class ScenesSource:
    """Generated scenes with captions, ground truth and foils.

    Args:
        path: ``COUNT`` or ``COUNT@SEED`` (the default seed is 0).
        split: Yield only this split of the COUNT scenes; all of them when None.

    Raises:
        InputError: COUNT or SEED is not a number in range, or the split is unknown or would be empty.
    """

    kind: ClassVar[str] = "scenes"

    def __init__(self, path: str, split: str | None = None) -> None:
        parts = _SPEC.fullmatch(path)
        self.count = int(parts[1]) if parts else 0
        if parts is None or not 1 <= self.count <= MAX_COUNT:
            raise InputError(
                f"--source scenes:{path}: invalid count or seed",
                allowed=f"scenes:COUNT[@SEED], COUNT from 1 to {MAX_COUNT:,}, SEED a whole number of at most 18 digits",
                fix="for example --source scenes:2000 or --source scenes:2000@7",
            )
        self.seed = int(parts[2] or 0)
        check_split(split, SPLITS)
        self.split = split
        if next(self._indices(), None) is None:
            raise InputError(
                f"--source scenes:{path} --split {split}: none of these scenes is in this split",
                allowed="a COUNT of 10 or more: of every ten scenes, eight are train, then one is dev and one is test",
                fix="use at least scenes:10, or omit --split",
            )

    def records(self) -> Iterator[SourceRecord]:
        """Yield the scenes by index."""
        for index in self._indices():
            yield scene_record(self.seed, index)

    def signature(self) -> str:
        """Return a hash of the settings that determine the records; no scene is drawn for it."""
        return blake3(canonical([self.kind, GENERATOR_VERSION, self.count, self.seed, self.split])).hexdigest(length=16)

    def describe(self) -> dict[str, Any]:
        """Return the source's entry in the manifest."""
        return {
            "kind": self.kind,
            "name": self.kind,
            "count": self.count,
            "seed": self.seed,
            "licence": LICENCE,
            "split": self.split,
        }

    def _indices(self) -> Iterator[int]:
        """Yield the indices of the scenes that `records` yields."""
        return (index for index in range(self.count) if self.split in (None, split_of(index)))


def scene_record(seed: int, index: int) -> SourceRecord:
    """Return scene `index` of a seed; it depends on nothing else."""

    def rng(purpose: str) -> np.random.Generator:
        return generator(seed, "scenes", index, purpose)

    scene = sample_scene(rng("world"))
    captions = captions_of(scene, rng("captions"))
    return SourceRecord(
        name=f"scene-{seed}-{index:06d}",
        image=draw_scene(scene, rng("drawing")),
        captions=captions,
        split=split_of(index),
        attributes={"scene": scene, "foils": foils_of(scene, captions, rng("foils"))},
    )
