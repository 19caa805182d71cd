"""Pairs of a caption and a negative, and what a judge of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from curation.blind.ngram_model import Floats


class Pair(NamedTuple):
    """A caption and a negative of it.

    Attributes:
        uid: The image's.
        caption: What is true of it: the caption, or the text that the negative is an edit of.
        negative: What is not.
        operation: Under which name it is reported.
    """

    uid: str
    caption: str
    negative: str
    operation: str


def positive_of(record: Mapping[str, Any], captions: Sequence[str]) -> str:
    """Return the true text that a negative is told from: the one it names, or else its caption."""
    return str(record.get("against") or captions[record["caption"]])


class Judge(Protocol):
    """Learns from some pairs and judges others."""

    def gaps(self, learn: Sequence[Pair], captions: Sequence[str], ask: Sequence[Pair], seed: int) -> Floats:
        """Return by how much each asked pair's caption is preferred; 0 is a tie.

        Args:
            learn: Pairs to learn from.
            captions: Captions of images that are not asked about.
            ask: Pairs to judge.
            seed: Seed of the draws.
        """
