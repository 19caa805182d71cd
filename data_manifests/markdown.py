"""Markdown of cards: untrusted text is escaped, so that a name or a licence cannot be a link or end a table."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

_MAX_TEXT = 400
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_MARKS = re.compile(r"([\\|`*_\[\]])")


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table; columns whose names begin with ``>`` are numbers."""
    yield "| " + " | ".join(name.removeprefix(">") for name in columns) + " |"
    yield "| " + " | ".join("---:" if name.startswith(">") else "---" for name in columns) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def plain(value: object) -> str:
    """Return a value as one line of text without Markdown."""
    return _MARKS.sub(r"\\\1", html.escape(one_line(str(value)), quote=False))


def code(value: object) -> str:
    """Return a value as code, without the characters that could end it."""
    return f"`{one_line(re.sub('[`|<>]', '', str(value))) or '?'}`"


def one_line(text: str) -> str:
    """Return a text on one line, without unprintable characters, cut where it is long."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"


def papers(text: str) -> str:
    """Return a citation with links at its arXiv numbers."""
    return _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", plain(text))
