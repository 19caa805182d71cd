"""A caption's dependency tree as the rules read it, and sentences put together again from its pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
        """One past the last token that is not the closing mark."""

    def is_contiguous(self, tokens: Sequence[int]) -> bool:
        """Say whether tokens stand side by side."""
        return bool(tokens) and tokens[-1] - tokens[0] + 1 == len(tokens)

    def text_between(self, first: int, stop: int) -> str:
        """Return tokens first:stop as written, the sentence's first word without its capital."""
        if first >= stop:
            return ""
        start = self.parse["starts"][first]
        end = self.parse["starts"][stop - 1] + len(self.parse["words"][stop - 1])
        piece = self.text[start:end]
        if first == 0 and self.pos[0] != "PROPN" and not any(char.isupper() for char in self.parse["words"][0][1:]):
            piece = piece[:1].lower() + piece[1:]
        return piece

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return tokens that stand side by side as written."""
        return self.text_between(tokens[0], tokens[-1] + 1) if tokens else ""

    def is_plural(self, noun: int, before: int | None = None) -> bool:
        """Say whether a noun phrase takes "are"; nouns joined to it count only if they stand before a token."""
        many = self.tags[noun] in ("NNS", "NNPS") or self.words[noun] in ("people", "they")
        return many or any(before is None or one < before for one in self.with_dep(noun, "conj"))

    def sentence(self, *pieces: str) -> str:
        """Join pieces to a sentence with the caption's capital and closing mark, its articles put right."""
        text = " ".join(" ".join(pieces).split())
        text = fix_articles(_BEFORE_MARK.sub(r"\1", text)).strip(" ,")
        closing = self.text[self.parse["starts"][self.end] :].strip() if self.end < len(self.words) else ""
        space = " " if closing and self.text[: self.parse["starts"][self.end]].endswith(" ") else ""
        text = text[:1].upper() + text[1:] if self.text[:1].isupper() else text
        return f"{text}{space}{closing}"

    def single_clause(self) -> bool:
        """Say whether the caption is one tree without a second sentence, quotes or brackets."""
        odd = any(word in "\"'`()[]:;-/*#&" or word == "--" for word in self.words)
        return len(self.roots) == 1 and not odd and "." not in self.words[: self.end]


@lru_cache(maxsize=4096)
def inflected(lemma: str, tag: str) -> str:
    """Return a form of a dictionary word (``VBN``, ``NNS`` ...), or an empty string when none is known."""
    from lemminflect import getInflection

    return str((getInflection(lemma, tag=tag) or ("",))[0])


def join_nonempty(pieces: Iterable[str]) -> str:
    """Join pieces, empty ones left out."""
    return " ".join(piece for piece in pieces if piece)
