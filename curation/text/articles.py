"""The article before a word, "a" or "an": by its first letter, and short lists of exceptions."""

from __future__ import annotations

import re

from curation.text.wordlists import word_sets

_AN_PREFIXES, _A_PREFIXES = (tuple(word_sets("articles")[name]) for name in ("an_prefixes", "a_prefixes"))
_SPELLED_WITH_AN = word_sets("articles")["an_spelled"]
_ARTICLE = re.compile(r"\b([Aa])n?(\s+)(?=([A-Za-z]+))")


def article_for(text: str) -> str:
    """Return ``a`` or ``an`` for the text that follows."""
    word = text.split(maxsplit=1)[0].lower()
    if digits := re.match(r"\d+", word):
        return "an" if digits[0][0] == "8" or digits[0] in ("11", "18") else "a"
    if word.startswith(_AN_PREFIXES) or word in _SPELLED_WITH_AN:
        return "an"
    return "an" if word[0] in "aeiou" and not word.startswith(_A_PREFIXES) else "a"


def fix_articles(text: str) -> str:
    """Return a text with each "a" and "an" corrected for the word after it."""

    def fixed(found: re.Match[str]) -> str:
        word = found[3].lower()
        if len(word) == 1 and word not in "aeiou":  # "a T shirt", "an F": spelling does not say how a letter is read
            return found[0]
        return f"{found[1]}{'n' if article_for(word) == 'an' else ''}{found[2]}"

    return _ARTICLE.sub(fixed, text)
