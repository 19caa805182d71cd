"""How a sample's texts changed: captions word by word, negatives and views by what made them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

_TOKEN = re.compile(r"(\w+(?:['\u2019-]\w+)*|[^\w\s])\s*")
_ALIKE = 0.4
"""Two captions are versions of one another from this share of common words on; else one went and one came."""
_MAX_PAIRS = 400
_MAX_CELLS = 1_000_000
"""Bounds of quadratic work: texts come from strangers, and one of them may be a book."""

NEGATIVE_KIND = ("source", "operation", "span_class")
"""What tells the makers of negatives apart; a negative can only have changed into one of its own kind."""
VIEW_KIND = ("source", "kind", "family")
"""The same of views."""


@dataclass(frozen=True, slots=True)
class DiffPiece:
    """A run of words that a text kept, lost or gained; spaces after a word belong to it."""

    kind: Literal["same", "removed", "added"]
    text: str


@dataclass(frozen=True, slots=True)
class CaptionChange:
    """One caption that differs between two versions of a sample.

    Attributes:
        kind: ``moved`` means the same text at another position.
        old_position: Index among the old captions; None if added.
        new_position: Index among the new captions; None if removed.
        pieces: The words, in reading order.
    """

    kind: Literal["changed", "added", "removed", "moved"]
    old_position: int | None
    new_position: int | None
    pieces: tuple[DiffPiece, ...]


@dataclass(frozen=True, slots=True)
class TextChange:
    """One negative or view that differs between two versions of a sample.

    Attributes:
        kind: ``changed`` means: another text of the same kind (`NEGATIVE_KIND`, `VIEW_KIND`).
        old: The old record; None if added.
        new: The new record; None if removed.
        pieces: The words, in reading order.
    """

    kind: Literal["changed", "added", "removed"]
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    pieces: tuple[DiffPiece, ...]


@dataclass(frozen=True, slots=True)
class DifficultyChange:
    """Negatives of a sample whose text stayed and whose difficulty did not.

    Attributes:
        number: How many.
        old: Their mean difficulty before.
        new: Their mean difficulty now.
    """

    number: int
    old: float
    new: float


def diff_words(old: str, new: str) -> tuple[DiffPiece, ...]:
    """Return what of a text's words stayed, went and came, in reading order.

    Words are runs of letters and digits (with inner apostrophes and hyphens) or single signs; spaces are not compared.
    """
    before, after = _tokens(old), _tokens(new)
    words = [word for word, _ in before], [word for word, _ in after]
    steps: Sequence[tuple[str, int, int, int, int]]
    if len(before) * len(after) > _MAX_CELLS:
        steps = _ends_only(*words)
    else:
        steps = SequenceMatcher(None, *words, autojunk=False).get_opcodes()
    pieces: list[DiffPiece] = []
    for step, first, end, new_first, new_end in steps:
        kept, came = _text(before[first:end]), _text(after[new_first:new_end])
        if step == "equal":
            pieces.append(DiffPiece("same", came))
            continue
        pieces += [DiffPiece("removed", kept)] if kept else []
        pieces += [DiffPiece("added", came)] if came else []
    return tuple(pieces)


def _tokens(text: str) -> list[tuple[str, str]]:
    return [(match[1], match[0]) for match in _TOKEN.finditer(text)]


def _text(tokens: Sequence[tuple[str, str]]) -> str:
    return "".join(spaced for _, spaced in tokens)


def _ends_only(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """Return opcodes that know only the common beginning and end: linear work for very long texts."""
    shorter = min(len(old), len(new))
    head = next((place for place in range(shorter) if old[place] != new[place]), shorter)
    rest = shorter - head
    tail = next((place for place in range(rest) if old[-1 - place] != new[-1 - place]), rest)
    middle = (head, len(old) - tail, head, len(new) - tail)
    return [("equal", 0, head, 0, head), ("replace", *middle), ("equal", middle[1], len(old), middle[3], len(new))]


def diff_captions(old: Sequence[str], new: Sequence[str]) -> tuple[tuple[CaptionChange, ...], dict[int, int]]:
    """Return the captions that differ, in the new order, and which new position each old one went to.

    Equal texts belong together, then the texts that share most words; what shares too little went or came.
    """
    where = _equal_texts(old, new)
    taken = set(where.values())
    lone_old = [position for position in range(len(old)) if position not in where]
    lone_new = [position for position in range(len(new)) if position not in taken]
    alike = _most_alike(old, new, lone_old, lone_new)
    changes = [CaptionChange("changed", at, to, diff_words(old[at], new[to])) for at, to in alike.items()]
    if not lone_old and not lone_new:
        changes += [
            CaptionChange("moved", at, to, (DiffPiece("same", new[to]),)) for at, to in where.items() if at != to
        ]
    found = set(alike.values())
    changes += [CaptionChange("added", None, to, (DiffPiece("added", new[to]),)) for to in lone_new if to not in found]
    changes += [
        CaptionChange("removed", at, None, (DiffPiece("removed", old[at]),)) for at in lone_old if at not in alike
    ]
    return tuple(sorted(changes, key=_caption_order)), {**where, **alike}


def _caption_order(change: CaptionChange) -> tuple[int, bool]:
    position = change.old_position if change.new_position is None else change.new_position
    return (position or 0, change.new_position is not None)


def _equal_texts(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """Return old position -> new position of equal texts, the same position first, then in order."""
    where = {place: place for place in range(min(len(old), len(new))) if old[place] == new[place]}
    free: defaultdict[str, list[int]] = defaultdict(list)
    for place in reversed(range(len(new))):
        if place not in where:
            free[new[place]].append(place)
    for place, text in enumerate(old):
        if place not in where and free[text]:
            where[place] = free[text].pop()
    return where


def _most_alike(
    old: Sequence[str], new: Sequence[str], lone_old: Sequence[int], lone_new: Sequence[int]
) -> dict[int, int]:
    """Pair texts greedily by their share of common words; among equals the nearest positions."""
    if len(lone_old) * len(lone_new) > _MAX_PAIRS:
        return dict(zip(lone_old, lone_new, strict=False))
    candidates = [(-_likeness(old[at], new[to]), abs(at - to), at, to) for at in lone_old for to in lone_new]
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for likeness, _, at, to in sorted(candidates):
        if -likeness >= _ALIKE and at not in pairs and to not in taken:
            pairs[at] = to
            taken.add(to)
    return pairs


def _likeness(old: str, new: str) -> float:
    """Return the share of words that two texts have in common, whatever their order: 0 .. 1."""
    before, after = (Counter(word.lower() for word, _ in _tokens(text)) for text in (old, new))
    return 2 * (before & after).total() / max(1, before.total() + after.total())


def diff_records(
    old: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    moved_to: Mapping[int, int],
    kind: Sequence[str] = NEGATIVE_KIND,
) -> tuple[TextChange, ...]:
    """Return the negatives (or views) that differ.

    Args:
        old: Records of the old version.
        new: Records of the new version.
        moved_to: Where each old caption went, from `diff_captions`.
        kind: Keys that tell makers apart.
    """
    groups: defaultdict[tuple[str, ...], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for side, records in enumerate((old, new)):
        for record in records:
            groups[tuple(str(record[name]) for name in kind)][side].append(record)
    changes: list[TextChange] = []
    for maker in sorted(groups):
        lost, won = _without_equal(*groups[maker])
        for before in lost:
            after = _successor(before, won, moved_to)
            if after is not None:
                won.remove(after)
                changes.append(TextChange("changed", before, after, diff_words(before["text"], after["text"])))
            else:
                changes.append(TextChange("removed", before, None, (DiffPiece("removed", before["text"]),)))
        changes += [TextChange("added", None, after, (DiffPiece("added", after["text"]),)) for after in won]
    return tuple(changes)


def diff_difficulties(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> tuple[DifficultyChange | None, int]:
    """Return which negatives kept their text and are graded otherwise now (None if there are none).

    Also how many kept text and difficulty and differ in something else: another judge gives other scores.
    """
    moved: list[tuple[float, float]] = []
    num_rescored = 0
    for before, after in _kept(old, new):
        grade, later = before.get("difficulty"), after.get("difficulty")
        if grade is not None and later is not None and grade != later:
            moved.append((grade, later))
        elif grade == later and before != after:
            num_rescored += 1
    means = [sum(side) / len(moved) for side in zip(*moved, strict=True)]
    return DifficultyChange(len(moved), *means) if moved else None, num_rescored


def _kept(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield the records of the same maker and text on both sides, each once."""
    known: defaultdict[tuple[str, ...], deque[Mapping[str, Any]]] = defaultdict(deque)
    for record in old:
        known[_named(record)].append(record)
    for record in new:
        same = known[_named(record)]
        if same:
            yield same.popleft(), record


def _named(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (*(str(record[name]) for name in NEGATIVE_KIND), record["text"])


def _without_equal(old: list[Any], new: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return both lists without the records whose text is on the other side too, each counted once."""
    common = Counter(record["text"] for record in old) & Counter(record["text"] for record in new)
    return _less(old, common), _less(new, common)


def _less(records: list[Any], texts: Counter[str]) -> list[Any]:
    left = Counter(texts)
    kept = []
    for record in records:
        if left[record["text"]] > 0:
            left[record["text"]] -= 1
        else:
            kept.append(record)
    return kept


def _successor(before: Mapping[str, Any], won: Sequence[Any], moved_to: Mapping[int, int]) -> Any:
    """Return the negative that stands where `before` stood: of the same caption, else the next of its kind."""
    caption = moved_to.get(before["caption"])
    return next((record for record in won if record["caption"] == caption), won[0] if won else None)
