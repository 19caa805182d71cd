"""A caption's dependency tree for the rewriting rules, and sentences built from its parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from curation.models.parser import Parse
from curation.text.articles import fix_articles
from curation.text.dependencies import Dependencies

_BEFORE_MARK = re.compile(r"\s+([,.!?;:])")


class CaptionTree(Dependencies):
    """One parsed caption.

    Args:
        text: The caption.
        parse: Its parse.
    """

    def __init__(self, text: str, parse: Parse) -> None:
        super().__init__(parse)
        self.text, self.parse = text, parse
        self.roots = [token for token, head in enumerate(self.heads) if head == token and self.pos[token] != "PUNCT"]
        last = len(self.words) - 1
        self.end = last if last >= 0 and self.words[last] in (".", "!") else last + 1
        """One past the last token before the closing punctuation mark."""

    def is_contiguous(self, tokens: Sequence[int]) -> bool:
        """Return whether tokens follow each other without a gap."""
        return bool(tokens) and tokens[-1] - tokens[0] + 1 == len(tokens)

    def text_between(self, first: int, stop: int) -> str:
        """Return tokens first:stop as written, but the first word of the caption in lower case."""
        if first >= stop:
            return ""
        start = self.parse["starts"][first]
        end = self.parse["starts"][stop - 1] + len(self.parse["words"][stop - 1])
        piece = self.text[start:end]
        if first == 0 and self.pos[0] != "PROPN" and not any(char.isupper() for char in self.parse["words"][0][1:]):
            piece = piece[:1].lower() + piece[1:]
        return piece

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return contiguous tokens as `text_between` does."""
        return self.text_between(tokens[0], tokens[-1] + 1) if tokens else ""

    def is_plural(self, noun: int, before: int | None = None) -> bool:
        """Return whether a noun phrase takes "are"; of nouns joined to it, only those before a token count, if one is given."""
        many = self.tags[noun] in ("NNS", "NNPS") or self.words[noun] in ("people", "they")
        return many or any(before is None or token < before for token in self.with_dep(noun, "conj"))

    def sentence(self, *pieces: str) -> str:
        """Join parts to a sentence with the caption's capital and closing punctuation mark, its articles corrected."""
        text = " ".join(" ".join(pieces).split())
        text = fix_articles(_BEFORE_MARK.sub(r"\1", text)).strip(" ,")
        closing = self.text[self.parse["starts"][self.end] :].strip() if self.end < len(self.words) else ""
        space = " " if closing and self.text[: self.parse["starts"][self.end]].endswith(" ") else ""
        text = text[:1].upper() + text[1:] if self.text[:1].isupper() else text
        return f"{text}{space}{closing}"

    def single_clause(self) -> bool:
        """Return whether the caption is one tree, without a second sentence, quotes or brackets."""
        odd = any(word in "\"'`()[]:;-/*#&" or word == "--" for word in self.words)
        return len(self.roots) == 1 and not odd and "." not in self.words[: self.end]


@lru_cache(maxsize=4096)
def inflected(lemma: str, tag: str) -> str:
    """Return the form of a word for a Penn tag (``VBN``, ``NNS`` ...), or an empty string when it is unknown."""
    from lemminflect import getInflection

    return str((getInflection(lemma, tag=tag) or ("",))[0])
