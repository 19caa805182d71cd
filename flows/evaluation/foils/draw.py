"""Draws a source's test: pairs of photographs whose captions are nearly the same, each false of the other photograph."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from curation.models.parser import SpacyParser
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import canonical, draw_seed
from flows.evaluation.foils.contradiction import REASONS, CaptionChecker, CaptionRead, read_caption
from flows.evaluation.foils.near_captions import NearPair, near_pairs, read_words
from flows.evaluation.foils.parts import without_phrase
from training.evaluate.kept_tests import load_test, save_test

FORMAT = "clipcurate/foils-test/1"
SEED = 0
MAX_PAIRS = 1_000
"""Pairs of a test."""
MAX_CANDIDATES = 6_000
"""Pairs of captions that are parsed and checked at most."""
MAX_USES = 4
"""Pairs that one caption is part of: "two dogs play in the snow" must not become the test."""
NUM_COUNTED = 2_000
"""Photographs whose words are counted at most, beside those of the candidates."""


@dataclass(frozen=True, slots=True)
class FoilSide:
    """One photograph of a pair.

    Attributes:
        image: Its uid.
        caption: Number of the caption.
        text: The caption: true of this photograph, false of the other one.
        also: Another of its captions in other words; empty if there is none.
        part: The caption without the phrase that differs; empty if that is no caption or not the same for both photographs.
    """

    image: str
    caption: int
    text: str
    also: str
    part: str


@dataclass(frozen=True, slots=True)
class FoilPair:
    """Two photographs with captions that are nearly the same, each false of the other photograph.

    Attributes:
        category: What differs.
        one: One photograph.
        other: The other one.
    """

    category: str
    one: FoilSide
    other: FoilSide


@dataclass(frozen=True, slots=True)
class FoilTest:
    """A test, drawn once and kept.

    Attributes:
        pairs: The pairs, in the order they were drawn.
        num_near: Pairs of captions of different photographs that are nearly the same.
        refused: How many of those that were checked are no pair, by reason.
    """

    pairs: tuple[FoilPair, ...]
    num_near: int
    refused: dict[str, int]


def kept_foil_test(samples: Sequence[Sample], workspace: Path) -> FoilTest:
    """Return the test of these samples' captions, drawn once and kept, so that every run sees the same texts.

    Raises:
        InputError: the captions give no pair, or the kept file is damaged.
    """
    identity = canonical([FORMAT, SEED, [[sample.uid, list(sample.captions)] for sample in samples]])
    path = workspace / "benchmarks" / f"foils-{blake3(identity).hexdigest(length=8)}.json"
    if not path.is_file():
        save_foil_test(path, draw_foil_test(samples))
    test = load_foil_test(path)
    if not test.pairs:
        why = ", ".join(f"{number} {reason}" for reason, number in test.refused.items() if number)
        raise InputError(
            f"foils: {sum(len(sample.captions) for sample in samples)} captions give no test: of {test.num_near} pairs of captions of "
            f"different photographs that are nearly the same, none is false of the other photograph both ways"
            + (f" ({why})" if why else ""),
            fix="take more photographs, or several captions of each",
        )
    return test


def draw_foil_test(samples: Sequence[Sample]) -> FoilTest:
    """Return a test of samples' captions.

    A pair is two photographs I and J with captions c and h that differ in one span, or by one exchange, where the captions
    of I contradict h and those of J contradict c. Both ways count, so a judge that sees only texts and prefers c to h
    is right once and wrong once, whatever it has learned.

    Source: two pictures and two captions with each other's words: Thrush et al. 2022 (Winoground, arXiv 2204.03162); minimal
        edits: Hsieh et al. 2023 (SugarCrepe, arXiv 2306.14610).
    Differs: both captions were written by people about photographs; nothing is generated. People have not checked the pairs:
        `CaptionChecker` refuses what the captions do not contradict.

    Args:
        samples: Samples with captions; images are not read.
    """
    places = [(row, number) for row, sample in enumerate(samples) for number in range(len(sample.captions))]
    words = [read_words(samples[row].captions[number]).words for row, number in places]
    names = [f"{samples[row].uid}/{number}" for row, number in places]
    num_near, drawn = _draw_candidates(words, [row for row, _ in places], names)
    rows = {places[number][0] for pair in drawn for number in (pair.one, pair.other)}
    counted = sorted(range(len(samples)), key=lambda row: draw_seed(SEED, "foils_test", samples[row].uid))
    read = _read(samples, sorted(rows.union(counted[:NUM_COUNTED])) if rows else [])
    checker = CaptionChecker(read)
    uses, refused = Counter[int](), Counter[str](dict.fromkeys((*REASONS, "caption_used_often"), 0))
    pairs: list[FoilPair] = []
    for pair in drawn:
        if len(pairs) == MAX_PAIRS:
            break
        if max(uses[pair.one], uses[pair.other]) >= MAX_USES:
            refused["caption_used_often"] += 1
            continue
        sides = [(samples[row].uid, number) for row, number in (places[pair.one], places[pair.other])]
        category, reason = _checked(checker, pair, sides, read)
        if reason:
            refused[reason] += 1
            continue
        pairs.append(_pair(category, pair, sides, read))
        uses.update((pair.one, pair.other))
    return FoilTest(tuple(pairs), num_near, dict(refused))


def _draw_candidates(
    words: Sequence[Sequence[str]], photographs: Sequence[int], names: Sequence[str]
) -> tuple[int, list[NearPair]]:
    """Return how many pairs of captions are nearly the same, and up to `MAX_CANDIDATES` of them in the order of the draw."""
    kept: list[tuple[int, int, int, NearPair]] = []
    num_near = 0
    for pair in near_pairs(words, photographs, [draw_seed(SEED, "foils_test", name) for name in names]):
        num_near += 1
        # a heap of the smallest numbers: its first item is the largest one kept
        item = -draw_seed(SEED, "foils_test", names[pair.one], names[pair.other]), -pair.one, -pair.other, pair
        if len(kept) < MAX_CANDIDATES:
            heapq.heappush(kept, item)
        else:
            heapq.heappushpop(kept, item)
    return num_near, [item[-1] for item in sorted(kept, reverse=True)]


def _read(samples: Sequence[Sample], rows: Sequence[int]) -> dict[str, list[CaptionRead]]:
    """Return the parsed captions of some samples, by uid."""
    texts = [text for row in rows for text in samples[row].captions]
    parses = iter(SpacyParser().parse(texts) if texts else [])
    return {samples[row].uid: [read_caption(text, next(parses)) for text in samples[row].captions] for row in rows}


Side = tuple[str, int]
"""A photograph's uid, and the number of its caption."""


def _checked(
    checker: CaptionChecker, pair: NearPair, sides: Sequence[Side], read: dict[str, list[CaptionRead]]
) -> tuple[str, str]:
    """Return the category of two captions, or the reason why they are no pair."""
    (image, number), (other_image, other_number) = sides
    one, other = read[image][number], read[other_image][other_number]
    span, other_span = one.words[slice(*pair.span)], other.words[slice(*pair.other_span)]
    category = "exchange" if pair.exchanged else checker.category(one, span, other, other_span)
    if not category:
        return "", "other_kind"
    if not (checker.is_confirmed(image, number, span) and checker.is_confirmed(other_image, other_number, other_span)):
        return category, "unconfirmed"
    reason = checker.refusal(image, other, other_span, exchanged=pair.exchanged)
    return category, reason or checker.refusal(other_image, one, span, exchanged=pair.exchanged)


def _pair(category: str, pair: NearPair, sides: Sequence[Side], read: dict[str, list[CaptionRead]]) -> FoilPair:
    """Return two captions as a pair, with another true text of each photograph and the part that is true of both."""
    parts = []
    for (image, number), span in zip(sides, (pair.span, pair.other_span), strict=True):
        caption = read[image][number]
        places = read_words(caption.text).places[slice(*span)]
        parts.append(without_phrase(caption.text, caption.parse, (places[0][0], places[-1][1])))
    if read_words(parts[0]).words != read_words(parts[1]).words:
        parts = ["", ""]
    made = []
    for (image, number), part in zip(sides, parts, strict=True):
        captions = read[image]
        different = [one.text for one in captions if one.words != captions[number].words]
        also = different[draw_seed(SEED, "foils_also", image, number) % len(different)] if different else ""
        made.append(FoilSide(image, number, captions[number].text, also, part))
    return FoilPair(category, *made)


def save_foil_test(path: Path, test: FoilTest) -> None:
    """Write a test as JSON."""
    save_test(path, FORMAT, {"seed": SEED, **asdict(test)})


def load_foil_test(path: Path) -> FoilTest:
    """Read a test that `save_foil_test` wrote.

    Raises:
        InputError: missing, damaged or of another format.
    """
    return load_test(path, FORMAT, "a test of foils", _foil_test)


def _foil_test(record: Any) -> FoilTest:
    pairs = tuple(
        FoilPair(str(pair["category"]), *(_side(pair[name]) for name in ("one", "other"))) for pair in record["pairs"]
    )
    refused = {str(reason): int(number) for reason, number in record["refused"].items()}
    return FoilTest(pairs, int(record["num_near"]), refused)


def _side(record: dict[str, object]) -> FoilSide:
    number = record["caption"]
    if not isinstance(number, int):
        raise TypeError(f"caption {number!r}")
    return FoilSide(str(record["image"]), number, *(str(record[name]) for name in ("text", "also", "part")))
