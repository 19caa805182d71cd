"""Groups from pairs, without chains: every member matches the one its group was made around."""

from __future__ import annotations

from collections.abc import Iterable


def star_groups(size: int, pairs: Iterable[tuple[int, int]], largest: int) -> list[list[int]]:
    """Return groups of two or more, each sorted; groups by their first member.

    Whoever matches most takes all that match it and are still free, up to `largest` together; and so on. So A and C
    are never in one group only because both resemble B, unless B is the one that the group was made around.

    Args:
        size: Number of things.
        pairs: Matching positions.
        largest: Most members of a group.
    """
    beside: list[set[int]] = [set() for _ in range(size)]
    for one, other in pairs:
        beside[one].add(other)
        beside[other].add(one)
    free = [True] * size
    groups = []
    for hub in sorted(range(size), key=lambda at: (-len(beside[at]), at)):
        near = sorted(at for at in beside[hub] if free[at])[: largest - 1]
        if free[hub] and near:
            members = sorted([hub, *near])
            groups.append(members)
            for at in members:
                free[at] = False
    return sorted(groups)
