"""Sources of samples: one module per kind (`flickr.py` opens ``--source flickr:PATH``), all yielding the same batches.

A source is a list of splits, each a stream of Arrow record batches. It only reads: it does not decode images and does
not judge quality. An entry that it cannot turn into a record is yielded as a `Rejected` with a named reason, so that
nothing is dropped silently.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from data_manifests.errors import InputError, nearest
from data_manifests.sample import ImageRef

if TYPE_CHECKING:
    import pyarrow as pa

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
        captions: As found, including blank ones, nulls and numbers (those are rejected by name).
        split: ``train``, ``dev``, ``test`` or None.
        attributes: Everything else the source knows, as JSON values (``url``, ``licence``, a scene graph ...).
    """

    name: str
    image: ImageRef | bytes
    captions: tuple[object, ...]
    split: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


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


class SourceSplit(Protocol):
    """A part of a source that is read independently of the others: a file, a tar, a range of scenes.

    It is picklable, since another process may read it.
    """

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the entries in a fixed order; each call begins anew and yields equal batches.

        Memory is bounded, however many entries there are.

        Returns:
            Batches with the columns of `curation.sources.reading.record_batches.record_schema`.
        """


@dataclass(frozen=True)
class RecordSplit:
    """A split that is read record by record.

    Args:
        read: Called without arguments (`functools.partial` gives it some), it yields the entries in a fixed order. It is
            picklable: a function of a module, or a method of a source that is picklable.
    """

    read: Callable[[], Iterable[SourceRecord | Rejected | Note]]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the entries in batches."""
        from curation.sources.reading.record_batches import record_batches

        return record_batches(self.read())


class SampleSource(Protocol):
    """A source of samples, created as ``SourceClass(path, split)``, which is cheap and checks that its files exist.

    Raises (on construction):
        InputError: the path or a file that the layout requires is missing or malformed.
    """

    kind: ClassVar[str]
    """The name of the module that defines the class."""

    def splits(self) -> Sequence[SourceSplit]:
        """Return the parts of the source in a fixed order; together they have every entry once.

        Raises:
            InputError: the files do not have what was asked for, such as a split.
        """

    def signature(self) -> str:
        """Return a cheap hash of everything that the splits would read (for files: names, sizes, mtimes).

        Equal signatures promise equal batches, so an unchanged source is not read again.
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


def read_batches(source: SampleSource) -> Iterator[pa.RecordBatch]:
    """Yield the batches of all splits, in order."""
    for split in source.splits():
        yield from split.batches()
