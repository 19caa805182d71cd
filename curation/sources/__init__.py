"""Inputs: one file per kind, all yielding the same records.

A source reads; it never decodes an image and never decides what is good. What it cannot turn into a
record it yields as a `Rejected` with a named reason, so that nothing is dropped silently.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from data_manifests.errors import InputError, nearest
from data_manifests.sample import ImageRef

KINDS: Mapping[str, str] = {
    "flickr": "curation.sources.flickr:FlickrSource",
    "coco": "curation.sources.coco:CocoSource",
    "folder": "curation.sources.folder:FolderSource",
    "parquet": "curation.sources.parquet:ParquetSource",
    "webdataset": "curation.sources.webdataset:WebDatasetSource",
    "scenes": "curation.sources.synthetic.source:ScenesSource",
}
"""Source kind -> ``module:class``, imported only when used."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image with its captions, as the source has it.

    Attributes:
        name: The source's own name for it (file name, tar key); unique within the source.
        image: Where the bytes lie, or the bytes themselves when there is no file to point into.
        captions: As found; blank ones included (the intake quarantines them by name).
        split: ``train``, ``dev``, ``test`` or None.
        attributes: Whatever else the source knows, as JSON values (``url``, ``licence``, a scene graph ...).
    """

    name: str
    image: ImageRef | bytes
    captions: tuple[str, ...]
    split: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that could not become a record.

    Attributes:
        name: The source's name for it.
        reason: ``missing_image``, ``no_captions``, ``duplicate_key``, ``unsafe_path`` ...
        detail: What was seen, with file (base name only) and line or key; no paths of this machine.
    """

    name: str
    reason: str
    detail: str = ""


class Source(Protocol):
    """An input. Built as ``SourceClass(path, split)``; cheap to build, checks that its files exist.

    Raises (on construction):
        InputError: the path or a file that the layout needs is missing or malformed.
    """

    kind: ClassVar[str]

    def records(self) -> Iterator[Record | Rejected]:
        """Yield every entry once, in a fixed order, without holding them all."""

    def signature(self) -> str:
        """Return a cheap hash of all that `records` would read (for files: names, sizes, mtimes).

        Equal signatures promise equal records, so that an unchanged source is not read again.
        """

    def describe(self) -> dict[str, Any]:
        """Return what the manifest says of it: kind, name (no folder), licence, split."""


def open_source(spec: str, split: str | None = None) -> Source:
    """Open ``KIND:PATH`` (or ``scenes:COUNT[@SEED]``).

    Raises:
        InputError: unknown kind, or the source itself refuses the path.
    """
    kind, colon, path = spec.partition(":")
    if not colon or not path or kind not in KINDS:
        hint = nearest(kind, KINDS)
        raise InputError(
            f"--source {spec!r}: "
            + ("no source kind and path" if not colon else f"unknown source kind {kind!r}; {hint}"),
            allowed="KIND:PATH with KIND one of " + ", ".join(KINDS),
            fix="for example --source flickr:/data/flickr8k or --source scenes:2000",
        )
    module, _, name = KINDS[kind].partition(":")
    source: Source = getattr(importlib.import_module(module), name)(path, split)
    return source
