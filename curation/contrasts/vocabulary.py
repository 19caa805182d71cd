"""What people have decided about the words of a corpus: which exclude one another, which do not, which to leave alone.

A vocabulary file is TOML::

    classes = [["left", "right"], ["ct", "mri", "x-ray"]]   # any two exclude each other
    synonyms = [["radiograph", "x-ray"]]                    # may be true of one thing
    keep = ["case", "figure"]                               # never exchanged
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from curation.contrasts.caption_words import split
from data_manifests.errors import InputError, nearest

KEYS = ("classes", "synonyms", "keep")
_MAX_BYTES = 1 << 22
_MAX_WORDS_IN_PHRASE = 4


@dataclass(frozen=True)
class ContrastVocabulary:
    """Decisions about words, in lower case; phrases are words with spaces between them.

    Attributes:
        classes: Words of which any two exclude each other, class by class.
        synonyms: Words that do not exclude one another, group by group.
        keep: Words that are never exchanged.
    """

    classes: Sequence[tuple[str, ...]] = ()
    synonyms: Sequence[tuple[str, ...]] = ()
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True)
class VocabularyFile:
    """A vocabulary file, identified by its content.

    Attributes:
        path: The file.
    """

    path: str

    @classmethod
    def open(cls, path: str) -> VocabularyFile:
        """Return the file.

        Raises:
            InputError: it is missing, no TOML, or says something that a vocabulary cannot.
        """
        file = Path(path)
        if not file.is_file():
            raise InputError(
                f"--vocabulary {path}: there is no such file",
                allowed="a TOML file with " + ", ".join(KEYS),
                fix="clipcurate vocabulary suggest NAME@VERSION writes one",
            )
        found = cls(str(file.resolve()))
        found.read()
        return found

    def content_hash(self) -> str:
        """Return BLAKE3-128 (hex) of the file."""
        return blake3(Path(self.path).read_bytes()).hexdigest(length=16)

    def describe(self) -> str:
        """Return a name for people."""
        return f"vocabulary {Path(self.path).name}"

    def read(self) -> ContrastVocabulary:
        """Return its decisions.

        Raises:
            InputError: the file is not a vocabulary; the message has the line and the key.
        """
        text = self._text()
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            where = str(error).replace("at end of document", f"at line {len(text.splitlines())}, the end")
            raise InputError(
                f"{self.path}: not TOML: {where}", allowed="TOML", fix="quote every word, close every bracket"
            ) from None
        for key in content:
            if key not in KEYS:
                raise self._error(text, key, "there is no such key", ", ".join(KEYS), nearest(key, KEYS) or "remove it")
        groups = {key: self._groups(text, key, content.get(key, [])) for key in KEYS[:2]}
        keep = self._words(text, "keep", content.get("keep", []))
        self._check_apart(text, groups["classes"], keep)
        return ContrastVocabulary(groups["classes"], groups["synonyms"], frozenset(keep))

    def _text(self) -> str:
        try:
            data = Path(self.path).read_bytes()
            if len(data) > _MAX_BYTES:
                raise InputError(f"{self.path}: {len(data):,} bytes", allowed=f"at most {_MAX_BYTES:,} bytes")
            return data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: cannot be read: {error}", allowed="a text file in UTF-8") from None

    def _groups(self, text: str, key: str, value: Any) -> tuple[tuple[str, ...], ...]:
        allowed = 'lists of two or more words, such as [["left", "right"]]'
        if not isinstance(value, list):
            raise self._error(text, key, f"got {value!r:.60}", allowed, "put the words in brackets")
        groups = tuple(self._words(text, key, group) for group in value)
        for group in groups:
            if len(group) < 2:
                raise self._error(
                    text, key, f"a group of {len(group)}: {list(group)}", allowed, "name two words or more"
                )
        return groups

    def _words(self, text: str, key: str, value: Any) -> tuple[str, ...]:
        allowed = f"a list of different words, or phrases of at most {_MAX_WORDS_IN_PHRASE} words"
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self._error(text, key, f"got {value!r:.60}", allowed, 'write words in quotes: ["left", "right"]')
        words = tuple(" ".join(part.text for part in split(word)) for word in value)
        for word, written in zip(words, value, strict=True):
            if not 0 < len(word.split()) <= _MAX_WORDS_IN_PHRASE:
                raise self._error(text, key, f"got {written!r:.60}", allowed, "shorten it, or remove it", written)
            if words.count(word) > 1:
                raise self._error(text, key, f"{word!r} stands twice in a list", allowed, "keep one of them", written)
        return words

    def _check_apart(self, text: str, classes: Sequence[Sequence[str]], keep: Sequence[str]) -> None:
        seen: set[str] = set(keep)
        for group in classes:
            for word in group:
                if word in seen:
                    where = "keep" if word in keep else "another class"
                    raise self._error(
                        text, "classes", f"{word!r} is also in {where}", "each word in one place", "remove one", word
                    )
                seen.add(word)

    def _error(self, text: str, key: str, got: str, allowed: str, fix: str, word: str = "") -> InputError:
        """Return an error with the line of a key, or of a word after it."""
        lines = text.splitlines()
        start = next((n for n, line in enumerate(lines) if re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line)), 0)
        places = [n for n, line in enumerate(lines) if n >= start and word and f'"{word}"' in line.lower()]
        return InputError(
            f"{self.path}, line {(places or [start])[-1] + 1}, key '{key}': {got}", allowed=allowed, fix=fix
        )
