"""Sources of samples: one module per kind (`flickr.py` opens ``--source flickr:PATH``), all yielding the same records.

A source only reads: it does not decode images and does not judge quality. An entry that it cannot turn into a
record is yielded as a `Rejected` with a named reason, so that nothing is dropped silently.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from data_manifests.errors import InputError, nearest
from data_manifests.sample import ImageRef

KINDS: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg))
"""Source kinds: the names of this package's modules. Each is imported only when a source of that kind is opened."""


SPLIT_PRIORITY = ("test", "dev", "train", None)
"""Which split an image belongs to that is in several: nothing that is evaluated may be trained on."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One image with its captions, as the source has it.

    Attributes:
        name: The source's own name for the image (file name, tar key). Several records may have one image: the intake
            unites records with the same bytes.
        image: Where the encoded bytes are stored, or the bytes themselves when no file contains them.
        captions: As found, including blank ones, nulls and numbers (the intake rejects those by name).
        split: ``train``, ``dev``, ``test`` or None.
        attributes: Everything else the source knows, as JSON values (``url``, ``licence``, a scene graph ...).
    """

    name: str
    image: ImageRef | bytes
    captions: tuple[object, ...]
    split: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[str, ...]:
        """The captions that are text, without superfluous spaces."""
        return tuple(" ".join(caption.split()) for caption in self.captions if isinstance(caption, str))


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that could not become a record.

    Attributes:
        name: The source's name for it.
        reason: ``missing_image``, ``no_captions``, ``duplicate_key``, ``unsafe_path`` ...
        detail: What was found, with the file's base name and the line or key. Never a path of this machine.
    """

    name: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the reader of a source should know although nothing is rejected, such as a guessed encoding."""

    text: str


class SampleSource(Protocol):
    """A source of samples, created as ``SourceClass(path, split)``, which is cheap and checks that its files exist.

    Raises (on construction):
        InputError: the path or a file that the layout requires is missing or malformed.
    """

    kind: ClassVar[str]
    """The name of the module that defines the class."""

    def records(self) -> Iterator[SourceRecord | Rejected | Note]:
        """Yield every entry once, in a fixed order, without loading all of them into memory."""

    def signature(self) -> str:
        """Return a cheap hash of everything that `records` would read (for files: names, sizes, mtimes).

        Equal signatures promise equal records, so an unchanged source is not read again.
        """

    def describe(self) -> dict[str, Any]:
        """Return the source's entry in the manifest: kind, name (without folders), licence, split."""


def open_source(spec: str, split: str | None = None) -> SampleSource:
    """Open ``KIND:PATH`` (or ``scenes:COUNT[@SEED]``).

    Raises:
        InputError: the kind is unknown, or the source rejects the path or the split.
    """
    kind, _, path = spec.partition(":")
    if kind not in KINDS or not path:
        fix = "for example --source flickr:/data/flickr8k or --source scenes:2000"
        if ":" not in spec:
            problem, fix = "no source kind before the path", f"for example --source folder:{spec}"
        else:
            problem = "no path after the source kind" if kind in KINDS else f"unknown source kind {kind!r}"
        raise InputError(
            f"--source {spec!r}: {problem}",
            allowed="KIND:PATH with KIND one of " + ", ".join(KINDS),
            fix=nearest(kind, KINDS) if kind not in KINDS and nearest(kind, KINDS) else fix,
        )
    module = vars(importlib.import_module(f"{__name__}.{kind}"))
    source_class: Any = next(item for item in module.values() if getattr(item, "kind", None) == kind)
    source: SampleSource = source_class(path, split)
    return source
