"""Groups from pairs, without chains: every member matches the centre of its group."""

from __future__ import annotations

from collections.abc import Iterable


def star_groups(size: int, pairs: Iterable[tuple[int, int]], largest: int) -> list[list[int]]:
    """Return groups of two or more positions, each sorted, ordered by their first member.

    In order of the number of matches, each position that is still free becomes the centre of a group with all free
    positions that match it, up to `largest` together. So A and C are in one group because both match B only if B is
    the centre.

    Args:
        size: Number of positions.
        pairs: Matching positions.
        largest: Maximum size of a group.
    """
    matches: list[set[int]] = [set() for _ in range(size)]
    for left, right in pairs:
        matches[left].add(right)
        matches[right].add(left)
    free = set(range(size))
    groups = []
    for centre in sorted(range(size), key=lambda position: (-len(matches[position]), position)):
        others = sorted(matches[centre] & free)[: largest - 1]
        if centre in free and others:
            groups.append(sorted([centre, *others]))
            free -= {centre, *others}
    return sorted(groups)
