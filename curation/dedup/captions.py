"""Near-duplicate captions: equal except for case, punctuation and typing errors."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+")
_BANDS, _ROWS = 10, 3
_PRIME = np.uint64(2**31 - 1)
_MAX_COMPARED = 24
"""In a large bucket, a text is compared only with this many of those that follow it in alphabetical order."""

_MAX_OWNERS = 24
"""A text that more samples share says nothing about any two of them."""

_MAX_EDITS, _LETTERS_PER_EDIT = 3, 12


def plain_text(caption: str) -> str:
    """Return a caption's words in lower case, separated by single spaces."""
    return " ".join(_WORD.findall(caption.casefold()))


def same_caption_pairs(captions: Sequence[Sequence[str]]) -> dict[tuple[int, int], float]:
    """Return pairs of samples with near-duplicate captions, and their share of the captions of the smaller sample.

    Args:
        captions: The captions of each sample.
    """
    owners: defaultdict[str, list[int]] = defaultdict(list)
    plain = [sorted({plain_text(caption) for caption in each} - {""}) for each in captions]
    for sample, each in enumerate(plain):
        for text in each:
            owners[text].append(sample)
    texts = sorted(text for text, samples in owners.items() if len(samples) <= _MAX_OWNERS)
    near = [(text, text) for text in texts if len(owners[text]) > 1]
    near += [(texts[left], texts[right]) for left, right in near_texts(texts)]
    matched: defaultdict[tuple[int, int], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for text, other in near:
        for left, right in product(owners[text], owners[other]):
            if left != right:
                sides = matched[min(left, right), max(left, right)]
                sides[left > right].add(text)
                sides[left < right].add(other)
    return {
        pair: round(min(len(sides[0]), len(sides[1])) / min(len(plain[pair[0]]), len(plain[pair[1]])), 3)
        for pair, sides in sorted(matched.items())
    }


def near_texts(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return positions of different texts a few edits apart: one edit per twelve letters, at most three.

    Candidates share a band of their MinHash signature, which texts with many common trigrams almost certainly do.
    """
    buckets: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    for position, signature in enumerate(_signatures(texts)):
        for band in range(_BANDS):
            buckets[band, signature[band].tobytes()].append(position)
    pairs = {
        (left, right)
        for members in buckets.values()
        for index, left in enumerate(members)
        for right in members[index + 1 : index + 1 + _MAX_COMPARED]
    }
    return sorted((left, right) for left, right in pairs if _few_edits(texts[left], texts[right]))


def _signatures(texts: Sequence[str]) -> Iterable[NDArray[Any]]:
    """Yield the MinHash signature [bands, rows] of each text's trigrams."""
    count = _BANDS * _ROWS
    factors = np.frombuffer(blake3(b"caption trigrams").digest(length=8 * 2 * count), dtype="<u8").reshape(2, count)
    slope, shift = factors[0] % (_PRIME - np.uint64(1)) + np.uint64(1), factors[1] % _PRIME
    for text in texts:
        codes = np.frombuffer(f"  {text}  ".encode("utf-32-le"), dtype="<u4").astype(np.uint64)
        grams = (codes[:-2] * np.uint64(69_069) + codes[1:-1] * np.uint64(257) + codes[2:]) % _PRIME
        yield ((grams[:, None] * slope + shift) % _PRIME).min(axis=0).astype("<u4").reshape(_BANDS, _ROWS)


def _few_edits(left: str, right: str) -> bool:
    limit = min(_MAX_EDITS, min(len(left), len(right)) // _LETTERS_PER_EDIT)
    return limit > 0 and edits_within(left, right, limit)


def edits_within(left: str, right: str, limit: int) -> bool:
    """Return whether the Levenshtein distance of two texts is at most `limit`."""
    if abs(len(left) - len(right)) > limit or (Counter(left) - Counter(right)).total() > limit:
        return False
    far = limit + 1
    previous = {column: column for column in range(min(limit, len(right)) + 1)}
    for row, letter in enumerate(left, start=1):
        current: dict[int, int] = {}
        for column in range(max(0, row - limit), min(len(right), row + limit) + 1):
            if column == 0:
                current[0] = row
                continue
            replaced = previous.get(column - 1, far) + (right[column - 1] != letter)
            current[column] = min(replaced, previous.get(column, far) + 1, current.get(column - 1, far) + 1)
        if min(current.values()) > limit:
            return False
        previous = current
    return previous.get(len(right), far) <= limit


def shared_caption_groups(captions: Sequence[Sequence[str]]) -> list[int]:
    """Return for each sample the first sample that has the same caption, or -1.

    Each sample counts only for its most common caption, so that groups do not merge through chains.
    """
    plain = [sorted({plain_text(caption) for caption in each} - {""}) for each in captions]
    count = Counter(text for each in plain for text in each)
    chosen = [max(each, key=lambda text: (count[text], text), default="") for each in plain]
    first: dict[str, int] = {}
    for sample, text in enumerate(chosen):
        first.setdefault(text, sample)
    size = Counter(chosen)
    return [first[text] if text and size[text] > 1 else -1 for text in chosen]
