"""Slots that many names fill: brands before "men" in titles of products, cities before a country.

A slot is what stands between two frequent words, or an edge of the caption and one. Its fillers, of up to four words, are
names of one thing if they hardly come anywhere else, and if two of them hardly ever come in one caption, where by chance
many captions would have two: each filler alone is too rare to tell, all together are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from curation.contrasts.caption_words import EDGE, Phrases, is_exchangeable

_MAX_LENGTH = 4
_LEAST_SHARE, _LEAST_TIMES = 0.02, 5
_MAX_ANCHORS = 200
_LEAST_FILLERS = 8
_LEAST_ALIKE = 0.3
_LEAST_CONCENTRATION = 0.6
_LEAST_OF_OFTEN = 0.3
"""A filler of several words is this share of the times that each word of it comes, unless that is rare."""
_LEAST_EXPECTED, _MOST_TOGETHER = 10.0, 0.1
_MAX_MEMBERS = 200


class OpenSlot(NamedTuple):
    """Fillers of a slot, the most frequent first, with counts, and why they exclude each other."""

    fillers: Mapping[str, int]
    evidence: str


def open_slots(captions: Sequence[Sequence[str]], known: Mapping[str, str], kept: Collection[str]) -> list[OpenSlot]:
    """Return the slots of some captions.

    Args:
        captions: Captions as words in lower case.
        known: Words of classes, with the names of these: no filler has one, and beside two of one class stand the same names.
        kept: Words that are never exchanged: no filler ends in one.
    """
    counts = Counter(word for caption in captions for word in caption)
    frames = _frames(captions, known, kept)
    merged: list[Counter[str]] = []
    for frame in sorted(frames, key=lambda frame: (-frames[frame].total(), frame)):
        fillers = frames[frame]
        for slot in merged:
            if sum(count for filler, count in fillers.items() if filler in slot) >= _LEAST_ALIKE * fillers.total():
                slot.update(fillers)
                break
        else:
            merged.append(Counter(fillers))
    likely = [_without_others(slot, counts, kept) for slot in merged]
    enough = (2 * _LEAST_EXPECTED * len(captions)) ** 0.5
    found = [_of_names(slot, captions) for slot in likely if slot.total() >= enough]
    return [one for one in found if one is not None]


def _without_others(slot: Counter[str], counts: Mapping[str, int], kept: Collection[str]) -> Counter[str]:
    """Return the fillers without those of words that mostly stand elsewhere, and without rare ones that begin with another."""
    found: Counter[str] = Counter()
    for filler, count in slot.items():
        words = filler.split(" ")
        begins = any(" ".join(words[:length]) in slot for length in range(1, len(words)))
        least = _LEAST_CONCENTRATION if len(words) == 1 else _LEAST_OF_OFTEN
        often = (counts[word] for word in words if word.isalpha() and word not in kept)
        if not (begins and count < 2) and all(count >= least * number or number < _LEAST_TIMES for number in often):
            found[filler] = count
    return found


def _frames(
    captions: Sequence[Sequence[str]], known: Mapping[str, str], kept: Collection[str]
) -> dict[tuple[str, str], Counter[str]]:
    """Return what stands between two frequent words, where it is much."""
    counts = Counter(word for caption in captions for word in set(caption))
    least = max(_LEAST_TIMES, _LEAST_SHARE * len(captions))
    often = {word for word, count in counts.most_common(_MAX_ANCHORS) if count >= least and word.isalpha()} | {EDGE}
    frames: dict[tuple[str, str], Counter[str]] = {}
    for caption in captions:
        words = [EDGE, *caption, EDGE]
        for start in [at for at, word in enumerate(words[:-2]) if word in often]:
            for stop in range(start + 2, min(start + 2 + _MAX_LENGTH, len(words))):
                if words[stop - 1] in known:
                    break
                ends = words[start + 1], words[stop - 1]
                if words[stop] in often and all(is_exchangeable(word) and word not in kept for word in ends):
                    sides = (known.get(words[side], words[side]) for side in (start, stop))
                    frame = frames.setdefault((next(sides), next(sides)), Counter())
                    frame[" ".join(words[start + 1 : stop])] += 1
    return {frame: fillers for frame, fillers in frames.items() if len(fillers) >= _LEAST_FILLERS}


def _of_names(slot: Counter[str], captions: Sequence[Sequence[str]]) -> OpenSlot | None:
    """Return the fillers that hardly come elsewhere; None if these come together in captions."""
    phrases = Phrases(slot)
    of_caption = [[word for word in phrases.join(caption) if word in slot] for caption in captions]
    counts = Counter(word for found in of_caption for word in found)
    kept = {word for word, count in slot.items() if count >= _LEAST_CONCENTRATION * counts[word]}
    times = {
        word: counts[word]
        for word in sorted(kept, key=lambda word: (-counts[word], word))[:_MAX_MEMBERS]
        if counts[word]
    }
    total, captions_with_two = sum(times.values()), 0
    for found in of_caption:
        captions_with_two += len({word for word in found if word in times}) > 1
    expected = (total**2 - sum(count**2 for count in times.values())) / (2 * max(len(captions), 1))
    if len(times) < _LEAST_FILLERS or expected < _LEAST_EXPECTED or captions_with_two > _MOST_TOGETHER * expected:
        return None
    return OpenSlot(
        times,
        f"{len(times)} names in one place of captions; two of them together in {captions_with_two} captions "
        f"where {expected:.0f} were expected",
    )
