"""A dependency tree read from a parse: the columns, and what hangs on what."""

from __future__ import annotations

from curation.models.parser import Parse


class Dependencies:
    """A parse's columns, words in lower case, and each token's dependents.

    Args:
        parse: Of one text.
    """

    def __init__(self, parse: Parse) -> None:
        self.words = list(map(str.lower, parse["words"]))
        self.tags, self.pos, self.deps, self.heads = parse["tags"], parse["pos"], parse["deps"], parse["heads"]
        self.children: list[list[int]] = [[] for _ in self.heads]
        for token, head in enumerate(self.heads):
            if head != token:
                self.children[head].append(token)

    def with_dep(self, token: int, *labels: str) -> list[int]:
        """Return what hangs on a token with one of the labels."""
        found = []
        for child in self.children[token]:
            if self.deps[child] in labels:
                found.append(child)  # noqa: PERF401 - a comprehension costs a frame, and this is called most of all
        return found

    def subtree(self, token: int) -> list[int]:
        """Return a token with all that hangs on it, in reading order."""
        found, waiting = [], [token]
        while waiting:
            one = waiting.pop()
            found.append(one)
            waiting += self.children[one]
        return sorted(found)
