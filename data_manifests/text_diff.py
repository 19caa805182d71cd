"""Differences of a sample's texts: captions word by word, negatives and views by their origin."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

SIGNS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Signs of scripts without spaces between words, as a part of a character class: each counts as a word."""
_TOKEN = re.compile(rf"([{SIGNS}]|[^\W{SIGNS}]+(?:['\u2019-][^\W{SIGNS}]+)*|[^\w\s])\s*")
_MIN_SIMILARITY = 0.4
"""Two captions with at least this share of common words are a change; else one was removed and one added."""
_MAX_PAIRS = 400
_MAX_CELLS = 1_000_000
"""Bounds of quadratic work: texts are untrusted and may be very long."""

NEGATIVE_KIND = ("source", "operation", "span_class")
"""Keys of a negative's origin; a negative can only change into one with the same origin."""
VIEW_KIND = ("source", "kind", "family")
"""Keys of a view's origin."""


@dataclass(frozen=True, slots=True)
class DiffPiece:
    """Consecutive words that stayed, were removed or were added, with the spaces after them."""

    kind: Literal["same", "removed", "added"]
    text: str


@dataclass(frozen=True, slots=True)
class CaptionChange:
    """One caption that differs between two versions of a sample.

    Attributes:
        kind: ``moved`` means the same text at another position.
        old_position: Index among the old captions; None if added.
        new_position: Index among the new captions; None if removed.
        pieces: Its words, in reading order.
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
        pieces: Its words, in reading order.
    """

    kind: Literal["changed", "added", "removed"]
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    pieces: tuple[DiffPiece, ...]


@dataclass(frozen=True, slots=True)
class DifficultyChange:
    """Negatives of a sample that kept their text and have another difficulty.

    Attributes:
        number: How many.
        old: Their mean difficulty before.
        new: Their mean difficulty now.
    """

    number: int
    old: float
    new: float


def diff_words(old: str, new: str) -> tuple[DiffPiece, ...]:
    """Return the words of two texts that stayed, were removed and were added, in reading order.

    A word is a run of letters and digits (with inner apostrophes and hyphens), a sign of a script without spaces or a
    single other character; spaces are not compared.
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
        removed, added = _text(before[first:end]), _text(after[new_first:new_end])
        if step == "equal":
            pieces.append(DiffPiece("same", added))
            continue
        pieces += [DiffPiece("removed", removed)] if removed else []
        pieces += [DiffPiece("added", added)] if added else []
    return tuple(pieces)


def _tokens(text: str) -> list[tuple[str, str]]:
    return [(match[1], match[0]) for match in _TOKEN.finditer(text)]


def _text(tokens: Sequence[tuple[str, str]]) -> str:
    return "".join(spaced for _, spaced in tokens)


def _ends_only(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """Return opcodes with only the common prefix and suffix: linear work for very long texts."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    rest = shorter - head
    tail = next((at for at in range(rest) if old[-1 - at] != new[-1 - at]), rest)
    middle = (head, len(old) - tail, head, len(new) - tail)
    return [("equal", 0, head, 0, head), ("replace", *middle), ("equal", middle[1], len(old), middle[3], len(new))]


def diff_captions(old: Sequence[str], new: Sequence[str]) -> tuple[tuple[CaptionChange, ...], dict[int, int]]:
    """Return the captions that differ, in the new order, and the new position of each old caption.

    Equal texts are paired first, then texts that share the most words; the others were removed or added.
    """
    equal = _equal_texts(old, new)
    taken = set(equal.values())
    unpaired_old = [position for position in range(len(old)) if position not in equal]
    unpaired_new = [position for position in range(len(new)) if position not in taken]
    similar = _most_similar(old, new, unpaired_old, unpaired_new)
    changes = [CaptionChange("changed", at, to, diff_words(old[at], new[to])) for at, to in similar.items()]
    if not unpaired_old and not unpaired_new:
        changes += [
            CaptionChange("moved", at, to, (DiffPiece("same", new[to]),)) for at, to in equal.items() if at != to
        ]
    paired = set(similar.values())
    changes += [
        CaptionChange("added", None, to, (DiffPiece("added", new[to]),)) for to in unpaired_new if to not in paired
    ]
    changes += [
        CaptionChange("removed", at, None, (DiffPiece("removed", old[at]),)) for at in unpaired_old if at not in similar
    ]
    return tuple(sorted(changes, key=_caption_order)), {**equal, **similar}


def _caption_order(change: CaptionChange) -> tuple[int, bool]:
    position = change.old_position if change.new_position is None else change.new_position
    return (position or 0, change.new_position is not None)


def _equal_texts(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """Return old position -> new position of equal texts, the same position first, then in order."""
    pairs = {at: at for at in range(min(len(old), len(new))) if old[at] == new[at]}
    free: defaultdict[str, list[int]] = defaultdict(list)
    for at in reversed(range(len(new))):
        if at not in pairs:
            free[new[at]].append(at)
    for at, text in enumerate(old):
        if at not in pairs and free[text]:
            pairs[at] = free[text].pop()
    return pairs


def _most_similar(
    old: Sequence[str], new: Sequence[str], unpaired_old: Sequence[int], unpaired_new: Sequence[int]
) -> dict[int, int]:
    """Pair texts greedily by their share of common words; for ties the nearest positions."""
    if len(unpaired_old) * len(unpaired_new) > _MAX_PAIRS:
        return dict(zip(unpaired_old, unpaired_new, strict=False))
    candidates = [(-_similarity(old[at], new[to]), abs(at - to), at, to) for at in unpaired_old for to in unpaired_new]
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for similarity, _, at, to in sorted(candidates):
        if -similarity >= _MIN_SIMILARITY and at not in pairs and to not in taken:
            pairs[at] = to
            taken.add(to)
    return pairs


def _similarity(old: str, new: str) -> float:
    """Return the share of words that two texts have in common, in any order: 0 .. 1."""
    before, after = (Counter(word.lower() for word, _ in _tokens(text)) for text in (old, new))
    return 2 * (before & after).total() / max(1, before.total() + after.total())


def diff_records(
    old: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    new_positions: Mapping[int, int],
    kind: Sequence[str] = NEGATIVE_KIND,
) -> tuple[TextChange, ...]:
    """Return the negatives (or views) that differ.

    Args:
        old: Records of the old version.
        new: Records of the new version.
        new_positions: New position of each old caption, from `diff_captions`.
        kind: Keys of the origin.
    """
    groups: defaultdict[tuple[str, ...], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for side, records in enumerate((old, new)):
        for record in records:
            groups[tuple(str(record[name]) for name in kind)][side].append(record)
    changes: list[TextChange] = []
    for origin in sorted(groups):
        removed, added = _without_equal(*groups[origin])
        for before in removed:
            after = _successor(before, added, new_positions)
            if after is not None:
                added.remove(after)
                changes.append(TextChange("changed", before, after, diff_words(before["text"], after["text"])))
            else:
                changes.append(TextChange("removed", before, None, (DiffPiece("removed", before["text"]),)))
        changes += [TextChange("added", None, after, (DiffPiece("added", after["text"]),)) for after in added]
    return tuple(changes)


def diff_difficulties(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> tuple[DifficultyChange | None, int]:
    """Return the negatives that kept their text and have another difficulty (None if there are none).

    Also how many kept text and difficulty and differ in something else, such as scores of another judge.
    """
    changed: list[tuple[float, float]] = []
    num_rescored = 0
    for before, after in _same_texts(old, new):
        old_difficulty, difficulty = before.get("difficulty"), after.get("difficulty")
        if old_difficulty is not None and difficulty is not None and old_difficulty != difficulty:
            changed.append((old_difficulty, difficulty))
        elif old_difficulty == difficulty and before != after:
            num_rescored += 1
    means = [sum(side) / len(changed) for side in zip(*changed, strict=True)]
    return DifficultyChange(len(changed), *means) if changed else None, num_rescored


def _same_texts(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield pairs of records with the same origin and text, each record once."""
    known: defaultdict[tuple[str, ...], deque[Mapping[str, Any]]] = defaultdict(deque)
    for record in old:
        known[_identity(record)].append(record)
    for record in new:
        same = known[_identity(record)]
        if same:
            yield same.popleft(), record


def _identity(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (*(str(record[name]) for name in NEGATIVE_KIND), record["text"])


def _without_equal(old: list[Any], new: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return both lists without the records whose text is also on the other side, each counted once."""
    common = Counter(record["text"] for record in old) & Counter(record["text"] for record in new)
    return _without(old, common.copy()), _without(new, common)


def _without(records: list[Any], texts: Counter[str]) -> list[Any]:
    kept = []
    for record in records:
        if texts[record["text"]] > 0:
            texts[record["text"]] -= 1
        else:
            kept.append(record)
    return kept


def _successor(before: Mapping[str, Any], added: Sequence[Any], new_positions: Mapping[int, int]) -> Any:
    """Return the added record that replaced `before`: of the same caption, else the first one."""
    caption = new_positions.get(before["caption"])
    return next((record for record in added if record["caption"] == caption), added[0] if added else None)
