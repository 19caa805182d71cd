"""Keeps duplicates out of each other's batches: repairs any planner's epoch.

Two copies of a picture in one batch are each other's negatives, which is false by construction; so are two samples
that share a caption.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from data_manifests.seeds import draw_seed
from training.batches.epoch import EpochPlan
from training.batches.index import PlanIndex

_ALONE = -1


def separate_duplicates(plan: EpochPlan, index: PlanIndex, seed: int, epoch: int) -> EpochPlan:
    """Return an epoch in which no batch holds two members of a duplicate group or of a caption group.

    A batch keeps the first member of each group. Every other one is swapped with a sample of the nearest batch, the
    later one first, so that neither then has two of a group; a sample keeps its caption. One that cannot be swapped
    is replaced by a sample of a batch that was left out, or one that the plan had not drawn, closest in difficulty;
    if there is none its whole batch is left out. Batches keep their size, no sample comes twice, and a plan without
    a clash is returned unchanged. A pure function.

    Args:
        plan: The epoch, rows of `index` in it.
        index: Says which group each row belongs to.
        seed: The run's; draws the caption of a sample that the plan had not drawn.
        epoch: Number of the epoch.
    """
    keys = _keys(index)
    if not keys:
        return plan
    repair = _Repair(plan, index, keys)
    repair.swap_clashes()
    repair.replace_clashes()
    return repair.plan(seed, epoch) if repair.touched else plan


def _keys(index: PlanIndex) -> dict[int, tuple[str, ...]]:
    """Return the groups of each row that shares one, by row."""
    keys: defaultdict[int, list[str]] = defaultdict(list)
    for kind, column in (("picture", index.duplicate_group), ("caption", index.caption_group)):
        if column is None:
            continue
        numbers = column.tolist()
        count = Counter(numbers)
        for row, number in zip(index.rows.tolist(), numbers, strict=True):
            if number != _ALONE and count[number] > 1:
                keys[row].append(f"{kind} {number}")
    return {row: tuple(names) for row, names in keys.items()}


class _Repair:
    """An epoch under repair: its samples by batch, and how often each group is in each batch."""

    def __init__(self, plan: EpochPlan, index: PlanIndex, keys: dict[int, tuple[str, ...]]) -> None:
        self._plan, self._index, self._keys = plan, index, keys
        self._rows = plan.rows.tolist()
        self._caption = dict(zip(plan.rows.ravel().tolist(), plan.caption.ravel().tolist(), strict=True))
        self._counts = [Counter(key for row in batch for key in keys.get(row, ())) for batch in self._rows]
        drawn = set(self._caption)
        hard = [0.0] * len(index) if index.difficulty is None else index.difficulty.tolist()
        self._difficulty = dict(zip(index.rows.tolist(), hard, strict=True))
        self._spare = [row for row in index.rows.tolist() if row not in drawn]
        self._dropped: set[int] = set()
        self.touched = False

    def swap_clashes(self) -> None:
        """Swap every clashing sample into another batch, where one fits."""
        for at, slot in self._clashes():
            self._move(at, slot)

    def replace_clashes(self) -> None:
        """Replace samples that still clash by others; a batch that cannot be repaired is dropped."""
        for at, slot in self._clashes():
            row = self._rows[at][slot]
            if at not in self._dropped and self._clash(at, row) and not self._move(at, slot):
                self._substitute(at, slot)

    def plan(self, seed: int, epoch: int) -> EpochPlan:
        """Return the repaired epoch."""
        kept = [sorted(batch) for at, batch in enumerate(self._rows) if at not in self._dropped]
        rows = np.array(kept, dtype=np.int64).reshape(len(kept), self._plan.rows.shape[1])
        place = {row: at for at, row in enumerate(self._index.rows.tolist())}
        caption = [
            self._caption[row] if row in self._caption else self._draw(place[row], seed, epoch)
            for row in rows.ravel().tolist()
        ]
        return EpochPlan(rows, np.array(caption, dtype=np.int16).reshape(rows.shape))

    def _draw(self, place: int, seed: int, epoch: int) -> int:
        return draw_seed(seed, epoch, self._index.uids[place], "caption") % int(self._index.num_captions[place])

    def _clashes(self) -> list[tuple[int, int]]:
        """Return (batch, slot) of the samples behind the first of their group in a batch."""
        found = []
        for at, batch in enumerate(self._rows):
            if at in self._dropped or max(self._counts[at].values(), default=0) < 2:
                continue
            seen: set[str] = set()
            for slot, row in enumerate(batch):
                names = self._keys.get(row, ())
                if seen.intersection(names):
                    found.append((at, slot))
                else:
                    seen.update(names)
        return found

    def _clash(self, at: int, row: int) -> bool:
        """Return whether a sample of a batch shares a group there."""
        return any(self._counts[at][name] > 1 for name in self._keys.get(row, ()))

    def _fits(self, row: int, at: int, instead: int) -> bool:
        """Return whether a sample may replace another in a batch."""
        leaving = self._keys.get(instead, ())
        return all(self._counts[at][name] - (name in leaving) == 0 for name in self._keys.get(row, ()))

    def _move(self, at: int, slot: int) -> bool:
        """Swap with a sample of another batch; return whether none clashes any more."""
        row = self._rows[at][slot]
        if not self._clash(at, row):
            return True
        for there in _by_distance(at, len(self._rows)):
            if there in self._dropped or any(self._counts[there][name] for name in self._keys.get(row, ())):
                continue
            for place, other in enumerate(self._rows[there]):
                if self._fits(row, there, other) and self._fits(other, at, row):
                    self._put(at, slot, other)
                    self._put(there, place, row)
                    return True
        return False

    def _put(self, at: int, slot: int, row: int) -> None:
        self._counts[at].subtract(self._keys.get(self._rows[at][slot], ()))
        self._counts[at].update(self._keys.get(row, ()))
        self._rows[at][slot] = row
        self.touched = True

    def _substitute(self, at: int, slot: int) -> None:
        """Replace a sample by one that is not in the epoch, or drop its batch."""
        row = self._rows[at][slot]
        fitting = [other for other in self._spare if self._fits(other, at, row)]
        if fitting:
            hard = self._difficulty
            chosen = min(fitting, key=lambda other: (abs(hard[other] - hard[row]), other))
            self._spare.remove(chosen)
            self._put(at, slot, chosen)
            return
        self._dropped.add(at)
        self.touched = True
        self._spare += self._rows[at]


def _by_distance(at: int, count: int) -> list[int]:
    """Return the other batches, nearest first, the later of two first."""
    return sorted((other for other in range(count) if other != at), key=lambda other: (abs(other - at), other < at))
