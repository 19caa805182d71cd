"""Languages of captions: which there are, and what is known of the words of each."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from blake3 import blake3

from curation.text.lexicon import NEGATIONS
from curation.text.wordlists import word_map, word_rows, word_sets
from data_manifests.errors import InputError, nearest

NAMES = word_map("language_names")
"""Code -> name of the languages that captions may be in."""

WITHOUT_INFLECTION = frozenset({"en", "zh"})
"""Languages in which a word and those before it need not agree, beyond "a" and "an"."""

_ADJECTIVE_ENDINGS = ("", "e", "em", "en", "er", "es")
_LEAST_WORDS, _LEAST_SHARE, _MANY_TIMES = 100, 0.1, 3
_LATIN_END, _LEAST_OF_SCRIPT = 0x250, 0.5
_ENDING, _LEAST_FOR_ENDING = 2, 4


@dataclass(frozen=True)
class CaptionLanguage:
    """A language of captions: a `Resource` of the stages that depend on it.

    Attributes:
        code: ISO 639 code, such as ``de``.
    """

    code: str = "en"

    @classmethod
    def parse(cls, code: str) -> CaptionLanguage:
        """Return the language of a code.

        Raises:
            InputError: no such language is known.
        """
        if code not in NAMES:
            by_name = {name.lower(): known for known, name in NAMES.items()}
            fix = nearest(code, NAMES) or "give the code of one of these"
            if code.lower() in (*by_name, *NAMES):
                fix = f"give {by_name.get(code.lower(), code.lower())}"
            allowed = ", ".join(f"{known} {name}" for known, name in NAMES.items())
            raise InputError(f"--language {code}: no such language is known", allowed=allowed, fix=fix)
        return cls(code)

    @property
    def is_english(self) -> bool:
        """Whether rules and lists that know English only apply."""
        return self.code == "en"

    @property
    def name(self) -> str:
        """Its English name."""
        return NAMES[self.code]

    @property
    def inflects(self) -> bool:
        """Whether words agree with those before them: "ein roter Kreis", "eine rote Raute"."""
        return self.code not in WITHOUT_INFLECTION

    @property
    def has_lists(self) -> bool:
        """Whether our lists have its function words and negations."""
        return self.is_english or bool(self._lists)

    @property
    def _lists(self) -> dict[str, frozenset[str]]:
        return dict(word_sets("caption_languages", self.code))

    @cached_property
    def kept_words(self) -> frozenset[str]:
        """Words that are never exchanged for others: our list, or spaCy's stop words."""
        if self.is_english:
            return word_sets("kept_words")["keep"]
        return self._lists["keep"] if self._lists else _stop_words(self.code)

    @cached_property
    def negations(self) -> frozenset[str]:
        """Words that deny what follows them; empty for a language without a list."""
        return NEGATIONS if self.is_english else self._lists.get("deny", frozenset())

    @cached_property
    def _exclusive(self) -> dict[str, set[tuple[int, str]]]:
        """Return each listed word with the numbers of its rows and its ending in each."""
        found: dict[str, set[tuple[int, str]]] = {}
        for number, (code, *words) in enumerate(word_rows("exclusive_words_of_languages")):
            for word in words if code == self.code else ():
                for ending in _ADJECTIVE_ENDINGS if word.endswith("-") else ("",):
                    found.setdefault(word.removesuffix("-") + ending, set()).add((number, ending))
        return found

    def lists_say_exclude(self, one: str, other: str) -> bool:
        """Return whether our lists of a language other than English say that two words exclude each other."""
        return one != other and not self._exclusive.get(one, set()).isdisjoint(self._exclusive.get(other, set()))

    def agreement_sign(self, word: str) -> str:
        """Return what words after a word agree with: the word itself where it is a function word, else its ending."""
        return word if word in self.kept_words or len(word) < _LEAST_FOR_ENDING else f"-{word[-_ENDING:]}"

    def content_hash(self) -> str:
        """Return a hash of what is known of it beyond our lists, which are part of fingerprints by themselves."""
        known = "" if self.has_lists else f" spaCy {importlib.metadata.version('spacy')}"
        return blake3(f"language {self.code}{known}".encode()).hexdigest(length=16)

    def describe(self) -> str:
        """Return name and code."""
        return f"{self.name} ({self.code})"


ENGLISH = CaptionLanguage()


def _stop_words(code: str) -> frozenset[str]:
    """Return spaCy's stop words, which takes seconds once a process."""
    words: Iterable[str] = importlib.import_module(f"spacy.lang.{code}.stop_words").STOP_WORDS
    return frozenset(words)


def other_language(captions: Sequence[str], language: CaptionLanguage) -> str:
    """Return what captions look like if they are plainly not in a language; else an empty string.

    Scripts are told by letters, languages with a list of function words by these; captions without function words, such
    as product titles, say nothing.
    """
    letters = [char for caption in captions for char in caption if char.isalpha()]
    if len(letters) < _LEAST_WORDS:
        return ""
    chinese = sum("\u3400" <= char <= "\u9fff" for char in letters) / len(letters)
    latin = sum(ord(char) < _LATIN_END for char in letters) / len(letters)
    if language.code == "zh":
        return "" if chinese >= 1 - _LEAST_OF_SCRIPT else f"only {chinese:.0%} of their letters are Chinese signs"
    if language.has_lists and latin < _LEAST_OF_SCRIPT:
        kind = " Chinese signs" if chinese >= _LEAST_OF_SCRIPT else " of another script than the Latin one"
        return f"{max(chinese, 1 - latin):.0%} of their letters are{kind}"
    words = [word for caption in captions for word in caption.lower().split()]
    lists = [CaptionLanguage(code) for code in NAMES]
    shares = {one: sum(map(one.kept_words.__contains__, words)) / len(words) for one in lists if one.has_lists}
    best = max(shares, key=lambda one: (shares[one], one.code))
    own = shares.get(language)
    if own is None or len(words) < _LEAST_WORDS or shares[best] < max(_LEAST_SHARE, _MANY_TIMES * own):
        return ""
    return (
        f"{shares[best]:.0%} of their words are function words of {best.describe()}, {own:.0%} of {language.describe()}"
    )
