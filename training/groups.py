"""Groups of samples by their tags, for objectives that compare groups: ``gender:female|gender:male``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def group_of(tags: frozenset[str], attribute: str) -> int:
    """Return the number of a sample's group, or -1 where it is unknown.

    Args:
        tags: The sample's tags, such as ``gender:female``.
        attribute: ``a|b|c``: the group is the only one of these tags that the sample has; ``a``: 0 with it, 1 without.
    """
    names = attribute.split("|")
    if len(names) == 1:
        return int(names[0] not in tags)
    found = [number for number, name in enumerate(names) if name in tags]
    return found[0] if len(found) == 1 else -1


def group_numbers(tags: Sequence[str], attributes: Sequence[str]) -> Tensor:
    """Return the group of each sample by each attribute, int64 [B, A]; -1 where unknown.

    Args:
        tags: Each sample's tags, separated by spaces.
        attributes: See `group_of`.
    """
    import torch

    rows = [[group_of(frozenset(text.split()), attribute) for attribute in attributes] for text in tags]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(tags), len(attributes))


def group_names(attribute: str) -> list[str]:
    """Return what the groups of an attribute are called, in order of their numbers."""
    names = attribute.split("|")
    return names if len(names) > 1 else [names[0], f"not {names[0]}"]
