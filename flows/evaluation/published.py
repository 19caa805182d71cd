"""Published tests of texts over the user's copies of their files and images: ``KIND:FOLDER?images=DIR``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data_manifests.errors import InputError
from flows.evaluation.registry import EvalOptions, Place, in_turns
from training.evaluate.image_files import SUFFIXES, PictureFolder

if TYPE_CHECKING:
    from training.evaluate.features import Report
    from training.evaluate.outcome import Outcome
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

    def __init__(self, place: Place, eval_options: EvalOptions) -> None:
        from training.evaluate.published import Listed, read_published

        self.place, self.eval_options = place, eval_options
        self.published = read_published(place.kind, Path(place.source))
        groups: dict[str, list[Listed]] = {}
        for one in self.published.cases:
            groups.setdefault(one.case.category, []).append(one)
        self.listed = in_turns(groups.values(), eval_options.limit)
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

    def run(self, model: ClipModel, report: Report) -> Outcome:
        """Return accuracy by category and their mean, the blind judges beside each."""
        from flows.evaluation.blind import with_blind
        from training.evaluate.blind import Reading, own_texts
        from training.evaluate.features import TextMemory
        from training.evaluate.foils import choose_texts, counted, rare
        from training.evaluate.outcome import Outcome

        every = [one.case for one in self.listed]
        embed, cases = TextMemory(model, report), every
        apart = self.published.apart | rare(every, self.published.least)
        found = Outcome({"num_cases": len(every)})
        if not self.eval_options.blind:
            image, readable = self._image(model, report)
            self._num_missing = int((~readable).sum())
            cases = [case for case, holds in zip(every, readable, strict=True) if holds]
            found = choose_texts(embed, cases, image[readable], counted(every, readable, apart))
        if self.published.num_not_valid:
            found.metrics["num_not_valid"] = self.published.num_not_valid
        # judges may read the captions of cases whose image is missing: the text is there
        reading = Reading(own_texts(every), self.eval_options.blind_texts)
        found = with_blind(embed, found, "categories", cases, reading)
        return _with_text_only(embed, found, every) if self.place.kind == "sugarcrepe_pp" else found

    def _image(self, model: ClipModel, report: Report) -> tuple[Any, Any]:
        """Return the embedding of each listed case's image, and whether it could be read."""
        from training.evaluate.image_files import Picture, encode_pictures

        have = [place for place, one in enumerate(self.listed) if one.file in self.files]
        pictures = [Picture(self.files[self.listed[place].file], self.listed[place].box) for place in have]
        found, holds = encode_pictures(model, pictures, report)
        image = np.zeros((len(self.listed), model.embed_dim), dtype=np.float32)
        readable = np.zeros(len(self.listed), dtype=bool)
        image[have], readable[have] = found, holds
        if not readable.any():
            raise InputError(f"--on {self.place.kind}: not one image can be read", fix="check ?images=DIR")
        return image, readable


def _with_text_only(embed: Any, found: Outcome, cases: list[Any]) -> Outcome:
    """Put SugarCrepe++'s text-only task beside the other; it needs no image, so all cases are asked."""
    from training.evaluate.outcome import Outcome
    from training.evaluate.triplets import text_only

    told = text_only(embed, cases)
    categories = {name: dict(entry) for name, entry in found.metrics["categories"].items()}
    for name, entry in told.metrics["categories"].items():
        categories.setdefault(name, {}).update(entry)
    metrics = {**found.metrics, "tot_accuracy": told.metrics["tot_accuracy"], "categories": categories}
    return Outcome(metrics, {**found.items, **told.items}, {**found.means, **told.means})


class WinogroundBenchmark:
    """``winoground:FOLDER?images=DIR``: ``examples.jsonl``, and pictures named as it says, with or without an ending.

    Raises:
        InputError: the file is missing or damaged, or there is no case with both images.
    """

    options: ClassVar[tuple[str, ...]] = ("images",)
    has_blind: ClassVar[bool] = False

    def __init__(self, place: Place, eval_options: EvalOptions) -> None:
        from training.evaluate.winoground import read_quartets

        self.place = place
        path = Path(place.source)
        self.quartets = read_quartets(path if path.is_file() else path / "examples.jsonl")[: eval_options.limit]
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

    def run(self, model: ClipModel, report: Report) -> Outcome:
        """Return text, image and group score."""
        from training.evaluate.features import encode_texts
        from training.evaluate.image_files import Picture, encode_pictures
        from training.evaluate.winoground import winoground

        whole = [one for one in self.quartets if all(name in self.files for name in one.images)]
        pictures = [Picture(self.files[name]) for one in whole for name in one.images]
        image, readable = encode_pictures(model, pictures, report)
        holds = np.logical_and(readable[0::2], readable[1::2])
        self._num_missing = len(self.quartets) - int(holds.sum())
        asked = [one for one, both in zip(whole, holds.tolist(), strict=True) if both]
        text = encode_texts(model, [caption for one in asked for caption in one.captions], report)
        dim = model.embed_dim
        return winoground(asked, image.reshape(-1, 2, dim)[holds], text.reshape(-1, 2, dim), len(self.quartets))


def _images(place: Place, suffixes: tuple[str, ...] = ("",)) -> PictureFolder:
    """Return where a benchmark's pictures are looked for."""
    source = Path(place.source)
    own = source if source.is_dir() else source.parent
    beside = own / "images"
    root = Path(place.options["images"]) if "images" in place.options else beside if beside.is_dir() else own
    if not root.is_dir():
        raise InputError(f"--on {place.kind}:{place.source}: there is no folder {root}", fix="check ?images=DIR")
    return PictureFolder(root, suffixes)


def _require(found: Iterable[str], num_names: int, place: Place, folder: PictureFolder) -> None:
    if not list(found):
        raise InputError(
            f"--on {place.kind}:{place.source}: none of its {num_names} images is in {folder.root}",
            allowed=f"{place.kind}:FOLDER?images=DIR with a part of the images or all of them",
            fix="give their folder; or add --blind to see what text alone reaches",
        )
