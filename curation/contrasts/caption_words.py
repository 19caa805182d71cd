"""Captions as words: split without a parser, with words that nearly always come together joined to one."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from curation.blind.tokens import Int64s
from data_manifests.text_diff import SIGNS

_TOKEN = re.compile(
    r"\d+(?:[.,]\d+)*(?![^\W_])"  # a number
    rf"|[{SIGNS}]"  # scripts without spaces: every sign is a word
    rf"|[^\W_{SIGNS}]+(?:['\u2019\u2010-][^\W_{SIGNS}]+)*|[^\w\s]|_"
)
_BETWEEN_SIGNS = re.compile(rf"(?<=[{SIGNS}]) (?=[{SIGNS}])")
_MAX_WORDS = 120
JOIN_ROUNDS = 2
"""How often words are joined: up to four become one."""
_LEAST_TOGETHER = 0.6
"""Two words are joined if at least this share of either comes with the other."""

EDGE = ""
"""What stands before the first and after the last word of a caption."""


class Word(NamedTuple):
    """A word of a caption in lower case, and where it is."""

    text: str
    start: int
    end: int


def split(caption: str) -> list[Word]:
    """Return the words and marks of a caption, at most 120."""
    found = islice(_TOKEN.finditer(caption), _MAX_WORDS)
    return [Word(match[0].lower(), match.start(), match.end()) for match in found]


def join(words: Sequence[str], joined: Collection[tuple[str, str]]) -> list[str]:
    """Return the words with joined pairs as one, from the left; joined words may be joined once more."""
    for _ in range(JOIN_ROUNDS):
        found: list[str] = []
        for word in words:
            if found and (found[-1], word) in joined:
                found[-1] = f"{found[-1]} {word}"
            else:
                found.append(word)
        words = found
    return list(words)


class Phrases:
    """Words and phrases that are found in captions, the longest at each place, from the left.

    Args:
        known: Words, and phrases of words with spaces between them.
    """

    def __init__(self, known: Collection[str]) -> None:
        self._known = frozenset(known)
        lengths: dict[str, set[int]] = {}
        for phrase in self._known:
            if " " in phrase:
                lengths.setdefault(phrase.split(" ", 1)[0], set()).add(1 + phrase.count(" "))
        self._lengths = {word: sorted(found, reverse=True) for word, found in lengths.items()}

    def join(self, words: Sequence[str]) -> list[str]:
        """Return the words with those of a phrase as one."""
        found, at = [], 0
        while at < len(words):
            word = words[at]
            for length in self._lengths.get(word, ()):
                phrase = " ".join(words[at : at + length])
                if phrase in self._known:
                    word = phrase
                    break
            found.append(word)
            at += 1 + word.count(" ")
        return found

    def split(self, caption: str) -> list[Word]:
        """Return the words of a caption, with those of a phrase as one."""
        words, place, found = split(caption), 0, []
        for text in self.join([word.text for word in words]):
            last = place + text.count(" ")
            found.append(Word(text, words[place].start, words[last].end))
            place = last + 1
        return found


def as_written(word: str) -> str:
    """Return joined words as they are written: without spaces between signs of scripts that have none."""
    return _BETWEEN_SIGNS.sub("", word)


def is_number(word: str) -> bool:
    """Return whether a word is a number in digits."""
    return word[:1].isdigit() and word.replace(".", "").replace(",", "").isdigit()


def is_exchangeable(word: str) -> bool:
    """Return whether a word may be exchanged at all: it has letters and no digits, which codes have."""
    letters = sum(map(str.isalpha, word))
    return letters > 0 and not any(map(str.isdigit, word)) and (letters > 1 or not word.isascii())


def are_forms_of_one_word(one: str, other: str) -> bool:
    """Return whether two words are spellings or inflections of one: equal but for one letter, or for the last three."""
    one, other = one.replace("-", ""), other.replace("-", "")
    longest, shortest = max(len(one), len(other)), min(len(one), len(other))
    first = next((at for at in range(shortest) if one[at] != other[at]), shortest)
    if first == shortest and shortest >= 3:  # one begins with the other: "dog", "dogs"
        return longest - shortest <= 3
    last = next((at for at in range(shortest - first) if one[-1 - at] != other[-1 - at]), shortest - first)
    return shortest >= 4 and ((first >= 4 and first >= longest - 3) or first + last >= longest - 1)


def is_plural(word: str) -> bool:
    """Return whether a word ends as plurals do."""
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))


class WordTable(NamedTuple):
    """Captions as word numbers, one after another with two edges between them.

    Attributes:
        words: The words by number, sorted; number 0 is the edge.
        ids: Numbers of words.
        caption: Number of each word's caption; -1 for edges.
        image: Number of each caption's image.
    """

    words: Sequence[str]
    ids: Int64s
    caption: Int64s
    image: Int64s

    @property
    def num_captions(self) -> int:
        """Number of captions."""
        return len(self.image)

    @classmethod
    def of(cls, images: Sequence[Sequence[Sequence[str]]]) -> WordTable:
        """Return the table of the captions of images, each a list of words."""
        captions = [caption for image in images for caption in image]
        words = [EDGE, *sorted({word for caption in captions for word in caption})]
        number = {word: place for place, word in enumerate(words)}
        ids, caption = [0, 0], [-1, -1]
        for place, text in enumerate(captions):
            ids += [*map(number.__getitem__, text), 0, 0]
            caption += [*[place] * len(text), -1, -1]
        image = np.repeat(np.arange(len(images)), [len(image) for image in images])
        return cls(words, np.array(ids, np.int64), np.array(caption, np.int64), image.astype(np.int64))

    def pairs_to_join(self, least: int, kept: Collection[str]) -> set[tuple[str, str]]:
        """Return pairs of words, none of them kept, that mostly come together, at least a number of times."""
        size = len(self.words)
        counts = np.bincount(self.ids, minlength=size)
        may_join = np.array([is_exchangeable(word) and word not in kept for word in self.words])
        first, second = self.ids[:-1], self.ids[1:]
        inside = may_join[first] & may_join[second]
        pairs, times = np.unique(first[inside] * size + second[inside], return_counts=True)
        often = times >= np.maximum(least, _LEAST_TOGETHER * np.maximum(counts[pairs // size], counts[pairs % size]))
        return {(self.words[pair // size], self.words[pair % size]) for pair in pairs[often].tolist()}
