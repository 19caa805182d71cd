"""``a`` or ``an``: by the first letter of what follows, and short lists of exceptions."""

from __future__ import annotations

import re

from curation.text.wordlists import word_sets

_SETS = word_sets("articles")

_AN_BEFORE = tuple(_SETS["an_prefixes"])
_A_BEFORE = tuple(_SETS["a_prefixes"])
_SPELLED_WITH_AN = _SETS["an_spelled"]
_ARTICLE = re.compile(r"\b([Aa])n?(\s+)(?=([A-Za-z]+))")


def article_for(text: str) -> str:
    """Return ``a`` or ``an`` for what follows."""
    word = text.split(maxsplit=1)[0].lower()
    digits = re.match(r"\d+", word)
    if digits:
        return "an" if digits[0][0] == "8" or digits[0] in ("11", "18") else "a"
    if word.startswith(_AN_BEFORE) or word in _SPELLED_WITH_AN:
        return "an"
    return "an" if word[0] in "aeiou" and not word.startswith(_A_BEFORE) else "a"


def fix_articles(text: str) -> str:
    """Return a text with "a" and "an" as the next word wants them."""

    def right(found: re.Match[str]) -> str:
        word = found[3].lower()
        if len(word) == 1 and word not in "aeiou":  # "a T shirt": how a letter is read is not told by its shape
            return found[0]
        return f"{found[1]}{'n' if article_for(word) == 'an' else ''}{found[2]}"

    return _ARTICLE.sub(right, text)
