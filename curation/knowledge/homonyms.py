"""Words of photographs that have two lives: our own list, second to what a graph says of itself.

A graph that knows only one sense of a word cannot see that there is another: one that has ``crane IsA bird`` and
nothing of building sites would put wings on every crane. So each line names a word, its senses (classes of
`curation.knowledge.word_sense`), and the words that speak for each. A star marks the sense to assume when nothing speaks,
for words that are nearly always that in photographs; without a star, no evidence means no sense.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from curation.text.wordlists import word_rows


@dataclass(frozen=True, slots=True)
class Homonym:
    """A word with several senses: the words that speak for each, and the sense to assume otherwise, or empty."""

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
