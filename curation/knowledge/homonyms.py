"""Homonyms in captions of photographs: our own list, in addition to the senses that a graph has.

A graph with only one sense of a word does not show that there are others: one that has ``crane IsA bird`` and nothing
about building sites would put wings on every crane. So each line has a word, a sense (a class of
`curation.knowledge.word_sense`), and the cue words of that sense. A star marks the default sense, for words that nearly
always mean it in photographs; without a star, no evidence means no sense.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from curation.text.wordlists import word_rows


@dataclass(frozen=True, slots=True)
class Homonym:
    """A word with several senses: the cue words of each, and the default sense or an empty string."""

    senses: Mapping[str, frozenset[str]]
    assumed: str = ""


@functools.lru_cache(maxsize=1)
def homonyms() -> Mapping[str, Homonym]:
    """Return our homonyms by word."""
    found: dict[str, Homonym] = {}
    for word, sense, cues in word_rows("homonyms"):
        before = found.get(word, Homonym({}))
        name = sense.rstrip("*")
        assumed = before.assumed or (name if sense.endswith("*") else "")
        found[word] = Homonym({**before.senses, name: frozenset(cues.split())}, assumed)
    return found
