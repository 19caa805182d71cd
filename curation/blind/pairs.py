"""Pairs of a caption and a negative, and the interface of their judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from curation.blind.ngram_model import Float64s


class Pair(NamedTuple):
    """A caption and a negative of it.

    Attributes:
        uid: The image's.
        caption: A true text: the caption, or the text that the negative is an edit of.
        negative: A false text.
        operation: Name under which the pair is counted.
    """

    uid: str
    caption: str
    negative: str
    operation: str


def positive_of(record: Mapping[str, Any], captions: Sequence[str]) -> str:
    """Return the true text that a negative is paired with: the one its record names, or else its caption."""
    return str(record.get("against") or captions[record["caption"]])


class Judge(Protocol):
    """Learns from some pairs and judges others, from text alone."""

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:
        """Return by how much the caption of each test pair is preferred to its negative; 0 is a tie.

        Args:
            train: Pairs to learn from.
            captions: Captions to learn from, those of `train` among them; none of an image of `test`.
            test: Pairs to judge.
        """
