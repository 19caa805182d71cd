"""Captions that say the same but for case, punctuation and a slip of the keyboard."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from blake3 import blake3

Array = np.ndarray[Any, np.dtype[Any]]

_WORD = re.compile(r"[^\W_]+")
_BANDS, _ROWS = 10, 3
_PRIME = np.uint64(2**31 - 1)
_ALONGSIDE = 24
"""In a bucket of many texts each is compared with so many that follow it in the alphabet."""

_COMMON = 24
"""A text that so many samples share tells nothing of any two of them."""

_EDITS, _LETTERS_EACH = 3, 12


def plain_text(caption: str) -> str:
    """Return a caption's words in lower case, one space between."""
    return " ".join(_WORD.findall(caption.casefold()))


def same_caption_pairs(captions: Sequence[Sequence[str]]) -> dict[tuple[int, int], float]:
    """Return pairs of samples with captions that are the same but for slips, and which share of the fewer they are.

    Args:
        captions: The captions of each sample.
    """
    owners: defaultdict[str, list[int]] = defaultdict(list)
    plain = [sorted({plain_text(caption) for caption in each} - {""}) for each in captions]
    for at, each in enumerate(plain):
        for text in each:
            owners[text].append(at)
    texts = sorted(text for text, held in owners.items() if len(held) <= _COMMON)
    twins = [(text, text) for text in texts if len(owners[text]) > 1]
    twins += [(texts[one], texts[two]) for one, two in near_texts(texts)]
    matched: defaultdict[tuple[int, int], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for text, other in twins:
        for here in owners[text]:
            for there in owners[other]:
                if here != there:
                    low, high = (text, other) if here < there else (other, text)
                    sides = matched[min(here, there), max(here, there)]
                    sides[0].add(low)
                    sides[1].add(high)
    return {
        pair: round(min(len(sides[0]), len(sides[1])) / min(len(plain[pair[0]]), len(plain[pair[1]])), 3)
        for pair, sides in sorted(matched.items())
    }


def near_texts(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return positions of different texts a few edits apart: one for every twelve letters, three at most.

    Texts that share many trigrams fall, with near certainty, into one bucket of some band of their minhash.
    """
    buckets: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    for at, bands in enumerate(_signatures(texts)):
        for number in range(_BANDS):
            buckets[number, bands[number].tobytes()].append(at)
    pairs = {
        (one, two)
        for members in buckets.values()
        for place, one in enumerate(members)
        for two in members[place + 1 : place + 1 + _ALONGSIDE]
    }
    return sorted((one, two) for one, two in pairs if _few_edits(texts[one], texts[two]))


def _signatures(texts: Sequence[str]) -> Iterable[Array]:
    """Yield a minhash [bands, rows] of each text's trigrams."""
    count = _BANDS * _ROWS
    factors = np.frombuffer(blake3(b"caption trigrams").digest(length=8 * 2 * count), dtype="<u8").reshape(2, count)
    slope, shift = factors[0] % (_PRIME - np.uint64(1)) + np.uint64(1), factors[1] % _PRIME
    for text in texts:
        codes = np.frombuffer(f"  {text}  ".encode("utf-32-le"), dtype="<u4").astype(np.uint64)
        grams = (codes[:-2] * np.uint64(69_069) + codes[1:-1] * np.uint64(257) + codes[2:]) % _PRIME
        yield ((grams[:, None] * slope + shift) % _PRIME).min(axis=0).astype("<u4").reshape(_BANDS, _ROWS)


def _few_edits(left: str, right: str) -> bool:
    limit = min(_EDITS, min(len(left), len(right)) // _LETTERS_EACH)
    return limit > 0 and edits_within(left, right, limit)


def edits_within(left: str, right: str, limit: int) -> bool:
    """Whether at most `limit` letters must be put in, taken out or exchanged to make one text the other."""
    if abs(len(left) - len(right)) > limit or (Counter(left) - Counter(right)).total() > limit:
        return False
    far = limit + 1
    row = {at: at for at in range(min(limit, len(right)) + 1)}
    for down, letter in enumerate(left, start=1):
        now: dict[int, int] = {}
        for at in range(max(0, down - limit), min(len(right), down + limit) + 1):
            if at == 0:
                now[0] = down
                continue
            exchanged = row.get(at - 1, far) + (right[at - 1] != letter)
            now[at] = min(exchanged, row.get(at, far) + 1, now.get(at - 1, far) + 1)
        if min(now.values()) > limit:
            return False
        row = now
    return row.get(len(right), far) <= limit


def shared_caption_groups(captions: Sequence[Sequence[str]]) -> list[int]:
    """Return for each sample the first sample it shares a whole caption with, or -1.

    A sample goes with the caption that most samples share, so groups do not run together.
    """
    plain = [sorted({plain_text(caption) for caption in each} - {""}) for each in captions]
    count = Counter(text for each in plain for text in each)
    chosen = [max(each, key=lambda text: (count[text], text), default="") for each in plain]
    first: dict[str, int] = {}
    held = Counter(chosen)
    for at, text in enumerate(chosen):
        first.setdefault(text, at)
    return [first[text] if text and held[text] > 1 else -1 for text in chosen]
