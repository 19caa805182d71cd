"""What the readers of graph sources share: rows, filters, counts and checks of fields."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_manifests.errors import InputError

EdgeRow = tuple[str, str, str, float, str, str, str, str]
"""An edge in the order of `Edge`'s fields; a plain tuple, because millions of them pass."""
BuildProgress = Callable[[str, int], None]
"""Called with the step and its count (lines, items or edges)."""

PROGRESS_EVERY = 1 << 16
MAX_NAME_CHARS = 500
NUM_EXAMPLES = 5
_MAX_OTHER = 100
_GIVE_UP_AFTER = 1000  # lines without a single well-formed one: this is some other kind of file


@dataclass(frozen=True, slots=True)
class Keep:
    """Which edges are kept in a store.

    Attributes:
        language: Both ends must be of this language, where the source names languages. One, because a concept in the
            store is bare words: two languages would share the words that are spelt alike.
        relations: Only these; all without.
        min_weight: Only edges at least this heavy.
        license: Of sources that state none (plain triples).
    """

    language: str = "en"
    relations: tuple[str, ...] = ()
    min_weight: float = -math.inf
    license: str = "unknown"

    def wants(self, relation: str, weight: float) -> bool:
        """Return whether an edge of the right language is kept."""
        return weight >= self.min_weight and (not self.relations or relation in self.relations)


class MalformedError(ValueError):
    """A line or item does not follow the format; the message is the reason."""


@dataclass
class ReadCounts:
    """Counts of a reader for one source.

    Attributes:
        name: The source's file name.
        unit: What is counted: ``line``, ``image`` or ``edge``.
        num_read: Lines or items read.
        num_kept: Edges handed on.
        num_skipped: Well-formed, but of another language or relation, or too light.
        num_malformed: Not following the format.
        examples: The first few malformed ones: where, and why.
        other_relations: Some of the relations of what was skipped.
    """

    name: str
    unit: str = "line"
    num_read: int = 0
    num_kept: int = 0
    num_skipped: int = 0
    num_malformed: int = 0
    examples: list[str] = field(default_factory=list)
    other_relations: set[str] = field(default_factory=set)

    def skipped(self, relation: str) -> None:
        """Count an edge of the right language that is filtered out."""
        self.num_skipped += 1
        if len(self.other_relations) < _MAX_OTHER:
            self.other_relations.add(relation)

    def malformed(self, where: int, reason: str) -> None:
        """Count a malformed line or item.

        Raises:
            InputError: so far every line was malformed, so the source is of another format.
        """
        self.num_malformed += 1
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append(f"{self.unit} {where}: {reason}")
        if self.num_malformed >= _GIVE_UP_AFTER and not (self.num_kept or self.num_skipped):
            raise self.unusable("")

    def unusable(self, allowed: str) -> InputError:
        """Return the error for a source without any usable edge."""
        counts = f"{self.num_read} {self.unit}s read, {self.num_skipped} skipped, {self.num_malformed} malformed"
        examples = "".join(f"\n    {example}" for example in self.examples)
        if self.num_malformed:
            fix = "check the kind of file that the option names"
        else:
            allowed = f"relations there: {', '.join(sorted(self.other_relations))}" if self.other_relations else ""
            fix = "relax --languages, --relations or --min-weight"
        return InputError(f"{self.name}: no usable edge ({counts}){examples}", allowed=allowed, fix=fix)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "name": self.name,
            "unit": self.unit,
            "read": self.num_read,
            "kept": self.num_kept,
            "skipped": self.num_skipped,
            "malformed": self.num_malformed,
            "examples": list(self.examples),
        }


def plain_words(text: Any, what: str) -> str:
    """Return a concept's words as `Edge` has them: lower case, single spaces, composed characters.

    Raises:
        MalformedError: no text, empty, too long or with control characters.
    """
    if not isinstance(text, str):
        raise MalformedError(f"{what} is not a text")
    words = text if text.isascii() else unicodedata.normalize("NFC", text)
    return checked_name(" ".join(words.replace("_", " ").lower().split()), what)


@functools.lru_cache(maxsize=1 << 15)
def checked_name(name: str, what: str) -> str:
    """Return a name that may be stored and shown.

    Raises:
        MalformedError: empty, too long or with control characters.
    """
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        reason = "is empty" if not name else "holds control characters"
        raise MalformedError(
            f"{what} {f'has over {MAX_NAME_CHARS} characters' if len(name) > MAX_NAME_CHARS else reason}"
        )
    return name


@functools.lru_cache(maxsize=1 << 15)
def concept_parts(uri: str) -> tuple[str, str, str]:
    """Return language, words and sense of a concept's address such as ``/c/en/bat/n/wn/animal``.

    Raises:
        MalformedError: it is no such address.
    """
    parts = uri.rstrip("/").split("/", 4)
    if len(parts) < 4 or parts[1] != "c":
        raise MalformedError("an end is not /c/LANGUAGE/WORDS")
    sense = parts[4] if len(parts) > 4 else ""
    return parts[2], checked_name(parts[3].replace("_", " ").strip(), "a concept"), checked_sense(sense)


def checked_sense(sense: str) -> str:
    """Return a sense that may be stored (it may be empty).

    Raises:
        MalformedError: too long or with control characters.
    """
    return checked_name(sense, "a sense") if sense else ""


def provenance(details: Any) -> tuple[float, str, str]:
    """Return weight, data set and licence out of an assertion's JSON object.

    Raises:
        MalformedError: no object, or one of the three is of the wrong type.
    """
    if not isinstance(details, Mapping):
        raise MalformedError("the details are not a JSON object")
    return (
        checked_weight(details.get("weight", 1.0)),
        _stated(details, "dataset"),
        _stated(details, "license"),
    )


def checked_weight(value: Any) -> float:
    """Return a weight as a finite number.

    Raises:
        MalformedError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MalformedError("the weight is not a finite number")
    return float(value)


def _stated(details: Mapping[str, Any], key: str) -> str:
    value = details.get(key, "unknown")
    if not isinstance(value, str):
        raise MalformedError(f"{key} is not a text")
    return checked_name(value, key)


def require_file(path: Path, option: str) -> Path:
    """Return the path of an existing file.

    Raises:
        InputError: there is none.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise InputError(f"{option} {path}: {what}", fix="check the path")
    return path
