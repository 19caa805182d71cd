"""A dependency tree from a parse: its columns, and the dependents of each token."""

from __future__ import annotations

from curation.models.parser import Parse


class Dependencies:
    """The columns of a parse, words in lower case, and each token's dependents.

    Args:
        parse: The parse of one text.
    """

    def __init__(self, parse: Parse) -> None:
        self.words = list(map(str.lower, parse["words"]))
        self.tags, self.pos, self.deps, self.heads = parse["tags"], parse["pos"], parse["deps"], parse["heads"]
        self.children: list[list[int]] = [[] for _ in self.heads]
        for token, head in enumerate(self.heads):
            if head != token:
                self.children[head].append(token)

    def with_dep(self, token: int, *labels: str) -> list[int]:
        """Return the dependents of a token with one of the labels."""
        found = []
        for child in self.children[token]:
            if self.deps[child] in labels:
                found.append(child)  # noqa: PERF401 - a comprehension costs a frame, and no method is called more often
        return found

    def subtree(self, token: int) -> list[int]:
        """Return a token and all its descendants, in reading order."""
        found, waiting = [], [token]
        while waiting:
            found.append(waiting.pop())
            waiting += self.children[found[-1]]
        return sorted(found)
