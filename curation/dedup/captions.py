"""Near-duplicate captions: equal except for case, punctuation and typing errors."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
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
_LETTER_GROUPS = 40
_TEXTS_AT_ONCE, _TEXTS_REDUCED = 4096, 128
"""How many share one table of trigrams; and so few that intermediate results stay in the cache."""

Positions = NDArray[np.int64]


def plain_text(caption: str) -> str:
    """Return a caption's words in lower case, separated by single spaces."""
    return " ".join(_WORD.findall(caption.casefold()))


def plain_texts(captions: Sequence[str]) -> list[str]:
    """Return the different captions of a sample as plain texts, sorted; none of those without a word."""
    return sorted({plain_text(caption) for caption in captions} - {""})


def same_caption_pairs(plain: Sequence[Sequence[str]]) -> dict[tuple[int, int], float]:
    """Return pairs of samples with near-duplicate captions, and their share of the captions of the smaller sample.

    Args:
        plain: The `plain_texts` of each sample.
    """
    owners: defaultdict[str, list[int]] = defaultdict(list)
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
    parts = [
        part
        for first in range(0, len(texts), _TEXTS_AT_ONCE)
        for part in _bands_and_letters(texts[first : first + _TEXTS_AT_ONCE])
    ]
    if not parts:
        return []
    bands, letters = (np.concatenate(column) for column in zip(*parts, strict=True))
    lengths = letters.sum(axis=1)
    codes = {
        code
        for keys in bands.T
        for left, right in _same_keys(keys)
        for code in (left * len(texts) + right)[_may_be_near(left, right, lengths, letters)].tolist()
    }
    pairs = (divmod(code, len(texts)) for code in sorted(codes))
    return [
        (left, right)
        for left, right in pairs
        if edits_within(texts[left], texts[right], _edits_allowed(lengths[left], lengths[right]))
    ]


def _same_keys(keys: NDArray[Any]) -> Iterator[tuple[Positions, Positions]]:
    """Yield pairs of positions with equal keys, each with at most `_MAX_COMPARED` of those that follow it."""
    order = np.argsort(keys, kind="stable")
    for distance in range(1, min(_MAX_COMPARED, len(keys) - 1) + 1):
        same = np.flatnonzero(keys[order[distance:]] == keys[order[:-distance]])
        if not len(same):
            return
        yield order[same], order[same + distance]


def _may_be_near(
    left: Positions, right: Positions, lengths: Positions, letters: NDArray[np.int16]
) -> NDArray[np.bool_]:
    """Return which pairs have letters that so few edits could make equal."""
    allowed = _edits_allowed(lengths[left], lengths[right])
    near: NDArray[np.bool_] = (np.abs(lengths[left] - lengths[right]) <= allowed) & (allowed > 0)
    kept = np.flatnonzero(near)
    missing = np.maximum(letters[left[kept]] - letters[right[kept]], 0).sum(axis=1)
    near[kept] = missing <= allowed[kept]
    return near


def _edits_allowed(left: Any, right: Any) -> Any:
    return np.minimum(_MAX_EDITS, np.minimum(left, right) // _LETTERS_PER_EDIT)


def _bands_and_letters(texts: Sequence[str]) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int16]]]:
    """Yield a hash of each band of each text's MinHash signature [n, bands], and counts of its letters [n, groups]."""
    padded = [f"  {text}  " for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    grams = (codes[:-2] * np.uint64(69_069) + codes[1:-1] * np.uint64(257) + codes[2:]) % _PRIME
    ends = np.cumsum([len(text) for text in padded])
    inside = np.ones(len(codes), np.bool_)
    inside[ends - 1] = inside[ends - 2] = False
    # texts share most of their trigrams, so each is hashed once
    distinct, gram = np.unique(grams[inside[:-2]], return_inverse=True)
    hashed, starts = _hashed(distinct), np.concatenate([[0], ends - 2 * np.arange(1, len(texts) + 1)])
    for first in range(0, len(texts), _TEXTS_REDUCED):
        some = texts[first : first + _TEXTS_REDUCED]
        begins = starts[first : first + len(some)]
        values = hashed[gram[begins[0] : starts[first + len(some)]]]
        signatures = (
            np.minimum.reduceat(values, begins - begins[0], axis=0).astype(np.uint64).reshape(-1, _BANDS, _ROWS)
        )
        mixed = signatures * np.array([1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
        yield np.bitwise_xor.reduce(mixed, axis=2), _letters(some)


def _hashed(grams: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the hashes of trigrams by each function of the MinHash signature [grams, functions]."""
    count = _BANDS * _ROWS
    factors = np.frombuffer(blake3(b"caption trigrams").digest(length=8 * 2 * count), dtype="<u8").reshape(2, count)
    slope, shift = factors[0] % (_PRIME - np.uint64(1)) + np.uint64(1), factors[1] % _PRIME
    hashed = grams[:, None] * slope + shift
    for _ in range(2):  # modulo 2^31 - 1, but for the prime itself
        hashed = (hashed & _PRIME) + (hashed >> np.uint64(31))
    hashed[hashed == _PRIME] = 0
    return np.asarray(hashed, np.uint32)


def _letters(texts: Sequence[str]) -> NDArray[np.int16]:
    """Return counts of the letters of each text [n, groups]."""
    letters = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4").astype(np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    groups = np.bincount(owner * _LETTER_GROUPS + letters % _LETTER_GROUPS, minlength=len(texts) * _LETTER_GROUPS)
    return groups.reshape(len(texts), -1).astype(np.int16)


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


def shared_caption_groups(plain: Sequence[Sequence[str]]) -> list[int]:
    """Return for each sample the first sample that has the same caption, or -1.

    Each sample counts only for its most common caption, so that groups do not merge through chains.

    Args:
        plain: The `plain_texts` of each sample.
    """
    count = Counter(text for each in plain for text in each)
    chosen = [max(each, key=lambda text: (count[text], text), default="") for each in plain]
    first: dict[str, int] = {}
    for sample, text in enumerate(chosen):
        first.setdefault(text, sample)
    size = Counter(chosen)
    return [first[text] if text and size[text] > 1 else -1 for text in chosen]
