"""``scenes:COUNT[@SEED][?level=N&twins=yes&language=de&wrong_captions=SHARE&tied=SHARE]``: generated scenes, for which it is known whether a caption is true.

A scene depends only on (seed, index, level), so the first hundred of ``scenes:2000`` are those of ``scenes:100``. A record's
attributes contain the scene graph (``scene``, see `synthetic.world`); `synthetic.grammar.truth` decides any sentence.

* Level 1: two objects of 6 colours and 4 shapes on white; short captions. No numbers and no negation.
* Level 2: two or three objects, 8 colours, 6 shapes, two sizes; some captions count, some say what is not there.
* Level 3, which is meant without ``level``: up to four objects with textures, landscapes, objects inside rings; long captions.
  Its records also have false texts in their attributes (``foils``, see `synthetic.captions.foils_of`).

With ``twins=yes`` each scene is followed by its twin, which differs in one thing, and the captions of both are the texts of
`synthetic.twins`, with those of the other as ``foils``: a test that cannot be passed without looking.

With ``language=de`` or ``zh`` the pictures are the same, the captions are German or Chinese, and `PhraseBook.truth`
decides any sentence; there are no foils and no twins.

With ``wrong_captions=0.1`` each scene has with this chance the captions of another one, all false of it, and
``wrong_captions`` in its attributes: noise whose truth is known. The pictures, and the texts of all others, stay the same.

With ``level=1&tied=0.8`` the ground is grey or pink, one of the two objects is a star or a circle, and a star comes with grey,
a circle with pink, with this chance: a bias whose strength is known, of groups (the ground, which no caption names) and what
they are shown with (``tied_shape`` in the attributes). With ``tied=neither`` there are the two grounds, and neither stars nor circles: on such scenes a model
without bias has no reason to expect one or the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from blake3 import blake3

from curation.sources import RecordSplit, SourceRecord
from curation.sources.reading.files import check_split
from curation.sources.synthetic.captions import captions_of, foils_of
from curation.sources.synthetic.chinese import CHINESE
from curation.sources.synthetic.drawing import draw_scene
from curation.sources.synthetic.german import GERMAN
from curation.sources.synthetic.grammar import truth
from curation.sources.synthetic.phrase_book import PhraseBook
from curation.sources.synthetic.simple_captions import simple_captions
from curation.sources.synthetic.twins import make_twin
from curation.sources.synthetic.world import LEVELS, Level, sample_scene, sample_simple_scene
from data_manifests.errors import InputError, nearest
from data_manifests.sample import image_uid
from data_manifests.seeds import canonical, generator

GENERATOR_VERSIONS: Mapping[int, int] = {1: 2, 2: 2, 3: 1}
"""Level -> version, increased whenever the same seed and index would give a different image or different texts."""
TWINS_VERSION = 2
"""The same for the texts of twins."""
MAX_COUNT = 1_000_000
SCENES_PER_SPLIT = 500
"""About a second of drawing."""
_MOST_TRIES = 1000
LICENCE = "CC0-1.0"
SPLITS = ("train", "dev", "test")
DEFAULT_LEVEL = 3
BOOKS: Mapping[str, PhraseBook] = {book.code: book for book in (GERMAN, CHINESE)}
BOOKS_VERSION = 1
"""Increased whenever the same seed and index would give different texts in a language of `BOOKS`."""
DEFAULT_LANGUAGE = "en"
OPTIONS = {
    "level": tuple(str(number) for number in LEVELS),
    "twins": ("no", "yes"),
    "language": (DEFAULT_LANGUAGE, *BOOKS),
    "wrong_captions": ("a share from 0 to 1",),
    "tied": ("neither", "a share from 0 to 1"),
}
SHARES = ("wrong_captions", "tied")
"""Options whose value may be a number."""
TIED_GROUNDS, TIED_SHAPES = ("grey", "pink"), ("star", "circle")
TIED_VERSION = 1
"""Increased whenever the same seed and index would give another scene with ``tied``."""

_SHARE = re.compile(r"[0-9](\.[0-9]{1,6})?")
_SPEC = re.compile(r"([0-9]{1,7})(?:@([0-9]{1,18}))?")
_SPLIT_OF_LAST_DIGIT = ("train",) * 8 + ("dev", "test")


def split_of(index: int) -> str:
    """Return a scene's split: of every ten consecutive scenes, eight are train, one is dev and one is test."""
    return _SPLIT_OF_LAST_DIGIT[index % 10]


def read_options(path: str) -> tuple[str, dict[str, str]]:
    """Return a source's path without its options, and the options.

    Raises:
        InputError: an option is unknown or given twice, or its value is.
    """
    spec, mark, after = path.partition("?")
    options: dict[str, str] = {}
    for part in after.split("&") if mark else ():
        name, _, value = part.partition("=")
        if name not in OPTIONS or name in options or not _is_value(name, value):
            problem = f"unknown option {name!r}" if name not in OPTIONS else f"{name}={value!r}"
            raise InputError(
                f"--source scenes:{path}: " + (f"{name} is given twice" if name in options else problem),
                allowed="; ".join(
                    f"{known} {'' if known in SHARES else 'one of '}{', '.join(values)}"
                    for known, values in OPTIONS.items()
                ),
                fix=(name not in OPTIONS and nearest(name, OPTIONS)) or f"for example --source scenes:{spec}?level=1",
            )
        options[name] = value
    if options.get("twins") == "yes" and options.get("language", DEFAULT_LANGUAGE) != DEFAULT_LANGUAGE:
        raise InputError(
            f"--source scenes:{path}: twins in '{options['language']}'",
            allowed=f"twins=yes with language={DEFAULT_LANGUAGE}: the texts that tell twins apart are English",
            fix="leave out one of the two",
        )
    if options.get("twins") == "yes" and float(options.get("wrong_captions", 0)) > 0:
        raise InputError(
            f"--source scenes:{path}: twins with wrong captions",
            allowed="one of the two: the captions of twins are the texts that tell them apart",
            fix="leave out one of the two",
        )
    if "tied" in options and (options.get("level") != "1" or options.get("twins") == "yes"):
        raise InputError(
            f"--source scenes:{path}: tied without level=1, or with twins",
            allowed="tied=SHARE or tied=neither, with level=1 and without twins=yes",
            fix=f"--source scenes:{spec}?level=1&tied={options['tied']}",
        )
    return spec, options


def _is_value(name: str, value: str) -> bool:
    """Return whether an option may have a value."""
    if name not in SHARES or value in OPTIONS[name][:-1]:
        return value in OPTIONS[name]
    return _SHARE.fullmatch(value) is not None and float(value) <= 1


class ScenesSource:
    """Generated scenes with captions, ground truth and foils.

    Args:
        path: ``COUNT`` or ``COUNT@SEED`` (the default seed is 0), and options after ``?``.
        split: Yield only this split of the COUNT scenes; all of them when None.

    Raises:
        InputError: COUNT, SEED or an option is not one that is allowed, or the split is unknown or would be empty.
    """

    kind: ClassVar[str] = "scenes"

    def __init__(self, path: str, split: str | None = None) -> None:
        spec, options = read_options(path)
        self.level, self.twins = int(options.get("level", DEFAULT_LEVEL)), options.get("twins") == "yes"
        self.language = options.get("language", DEFAULT_LANGUAGE)
        self.wrong_captions, self.tied = float(options.get("wrong_captions", 0)), options.get("tied", "")
        parts = _SPEC.fullmatch(spec)
        self.count = int(parts[1]) if parts else 0
        if parts is None or not 1 <= self.count <= MAX_COUNT:
            raise InputError(
                f"--source scenes:{path}: invalid count or seed",
                allowed=f"scenes:COUNT[@SEED][?level=N], COUNT from 1 to {MAX_COUNT:,}, SEED a whole number of at most 18 digits",
                fix="for example --source scenes:2000 or --source scenes:2000@7",
            )
        self.seed = int(parts[2] or 0)
        check_split(split, SPLITS)
        self.split = split
        if not any(split in (None, split_of(index)) for index in range(min(self.count, 10))):
            raise InputError(
                f"--source scenes:{path} --split {split}: none of these scenes is in this split",
                allowed="a COUNT of 10 or more: of every ten scenes, eight are train, then one is dev and one is test",
                fix="use at least scenes:10, or omit --split",
            )

    def splits(self) -> list[RecordSplit]:
        """Return a split for every `SCENES_PER_SPLIT` scenes."""
        starts = range(0, self.count, SCENES_PER_SPLIT)
        return [RecordSplit(partial(self.records, start, start + SCENES_PER_SPLIT)) for start in starts]

    def records(self, start: int = 0, end: int = MAX_COUNT) -> Iterator[SourceRecord]:
        """Yield the scenes by index, from index `start` to before `end`."""
        for index in range(start, min(end, self.count)):
            if self.split not in (None, split_of(index)):
                continue
            if self.twins:
                yield from twin_records(self.seed, index, self.level)
            else:
                yield scene_record(self.seed, index, self.level, self.language, self.wrong_captions, self.tied)

    def signature(self) -> str:
        """Return a hash of the settings that determine the records; no scene is drawn for it."""
        settings = [
            self.kind,
            GENERATOR_VERSIONS[self.level],
            self.count,
            self.seed,
            self.split,
            *self._options().items(),
            *([] if self.language == DEFAULT_LANGUAGE else [BOOKS_VERSION]),
            *([TWINS_VERSION] if self.twins else []),
            *([TIED_VERSION] if self.tied else []),
        ]
        return blake3(canonical(settings)).hexdigest(length=16)

    def describe(self) -> dict[str, Any]:
        """Return the source's entry in the manifest."""
        return {
            "kind": self.kind,
            "name": self.kind,
            "count": self.count,
            "seed": self.seed,
            "licence": LICENCE,
            "split": self.split,
            **self._options(),
        }

    def _options(self) -> dict[str, Any]:
        """Return the options that are not the default."""
        given: dict[str, Any] = {"level": self.level} if self.level != DEFAULT_LEVEL else {}
        if self.language != DEFAULT_LANGUAGE:
            given["language"] = self.language
        if self.wrong_captions:
            given["wrong_captions"] = self.wrong_captions
        if self.tied:
            given["tied"] = self.tied
        return given | ({"twins": True} if self.twins else {})


def scene_record(
    seed: int,
    index: int,
    level: int = DEFAULT_LEVEL,
    language: str = DEFAULT_LANGUAGE,
    wrong_captions: float = 0.0,
    tied: str = "",
) -> SourceRecord:
    """Return scene `index` of a seed and level, with captions in a language; it depends on nothing else.

    Args:
        seed: The seed.
        index: The scene's number.
        level: Its level.
        language: Its captions' language.
        wrong_captions: Chance of the captions of another scene.
        tied: Chance that ground and shape belong together, or ``neither``; empty for scenes of all shapes on white.
    """
    scene = _scene(seed, index, level, tied)
    attributes: dict[str, Any] = {"scene": scene}
    if tied:
        shapes = {item["shape"] for item in scene["objects"]}
        attributes["tied_shape"] = next((shape for shape in TIED_SHAPES if shape in shapes), "neither")
    if wrong_captions and _rng(seed, index, level, "wrong captions").random() < wrong_captions:
        attributes["wrong_captions"] = True
        captions = _captions_of_another(scene, (seed, index, level), language, tied)
    else:
        captions = _captions(scene, seed, index, level, language)
        if level == DEFAULT_LEVEL and language == DEFAULT_LANGUAGE:
            attributes["foils"] = foils_of(scene, captions, _rng(seed, index, level, "foils"))
    return _record("scene", scene, captions, attributes, (seed, index, level))


def truth_in(language: str, scene: Mapping[str, Any], text: str) -> bool | None:
    """Return whether a sentence of a language is true of a scene; None if it is no sentence of the language's grammar."""
    return truth(scene, text) if language == DEFAULT_LANGUAGE else BOOKS[language].truth(scene, text)


def _captions_of_another(
    scene: Mapping[str, Any], at: tuple[int, int, int], language: str, tied: str
) -> tuple[str, ...]:
    """Return the captions of a scene behind all that a source can have; each of them is known to be false of this one."""
    seed, index, level = at
    first = MAX_COUNT + int(_rng(seed, index, level, "other scene").integers(MAX_COUNT))
    for other in range(first, first + _MOST_TRIES):
        texts = _captions(_scene(seed, other, level, tied), seed, other, level, language)
        if all(truth_in(language, scene, text) is False for text in texts):
            return texts
    raise RuntimeError(f"scene {index}: each of {_MOST_TRIES} other scenes has a caption that may be true of it")


def twin_records(seed: int, index: int, level: int) -> Iterator[SourceRecord]:
    """Yield scene `index` and its twin, with the texts that tell them apart; nothing if it has no twin.

    The attribute ``twin_of`` of both is the uid of the scene's image.
    """
    scene = _scene(seed, index, level)
    made = make_twin(scene, LEVELS[level], _rng(seed, index, level, "twin"))
    if made is None:
        return
    twin, texts = made
    first = image_uid(draw_scene(scene, _rng(seed, index, level, "drawing")))
    for prefix, graph, sides in (
        ("scene", scene, [(text.kind, text.own, text.other) for text in texts]),
        ("twin", twin, [(text.kind, text.other, text.own) for text in texts]),
    ):
        captions = tuple(dict.fromkeys(own for _, own, _ in sides))
        foils = [{"kind": kind, "caption": captions.index(own), "text": other} for kind, own, other in sides]
        attributes = {"scene": graph, "foils": foils, "twin_of": first}
        yield _record(prefix, graph, captions, attributes, (seed, index, level))


def caption_texts(count: int, seed: int, level: int) -> tuple[str, ...]:
    """Return the captions of the first scenes of a seed and level; no picture is drawn."""
    return tuple(
        text
        for index in range(count)
        for text in _captions(_scene(seed, index, level), seed, index, level, DEFAULT_LANGUAGE)
    )


def _rng(seed: int, index: int, level: int, purpose: str) -> np.random.Generator:
    """Return the generator of one draw; level 3 came first and has no level in its seed."""
    return generator(seed, "scenes", *(() if level == DEFAULT_LEVEL else (level,)), index, purpose)


def _scene(seed: int, index: int, level: int, tied: str = "") -> dict[str, Any]:
    rng = _rng(seed, index, level, "world")
    if tied:
        return _tied_scene(LEVELS[level], tied, rng)
    return sample_scene(rng) if level == DEFAULT_LEVEL else sample_simple_scene(LEVELS[level], rng)


def _tied_scene(level: Level, tied: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return a scene on one of two grounds, with the shape that belongs to it, or the other, or neither."""
    others = tuple(shape for shape in level.shapes if shape not in TIED_SHAPES)
    side = int(rng.integers(2))
    shown = "" if tied == "neither" else TIED_SHAPES[side if rng.random() < float(tied) else 1 - side]
    level = replace(level, grounds=(TIED_GROUNDS[side],), shapes=(*others, shown) if shown else others)
    while True:
        scene = sample_simple_scene(level, rng)
        if not shown or shown in {item["shape"] for item in scene["objects"]}:
            return scene


def _captions(scene: dict[str, Any], seed: int, index: int, level: int, language: str) -> tuple[str, ...]:
    """Return a scene's own captions."""
    if language != DEFAULT_LANGUAGE:
        return BOOKS[language].captions(scene, LEVELS[level], _rng(seed, index, level, f"captions {language}"))
    rng = _rng(seed, index, level, "captions")
    return captions_of(scene, rng) if level == DEFAULT_LEVEL else simple_captions(scene, LEVELS[level], rng)


def _record(
    prefix: str, scene: dict[str, Any], captions: tuple[str, ...], attributes: dict[str, Any], at: tuple[int, int, int]
) -> SourceRecord:
    seed, index, level = at
    name = f"{prefix}-{seed}-{index:06d}" if level == DEFAULT_LEVEL else f"{prefix}-{seed}-level{level}-{index:06d}"
    image = draw_scene(scene, _rng(seed, index, level, "drawing"))
    return SourceRecord(name, image, captions, split_of(index), attributes)
