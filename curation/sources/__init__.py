"""Sources of samples: one module per kind (`flickr.py` opens ``--source flickr:PATH``), all yielding the same batches.

Other packages offer kinds as entry points ``clipcurate.sources``, and ``--source FILE.py:PATH`` reads with a user's own class.

A source is a list of splits, each a stream of Arrow record batches. It only reads: it does not decode images and does
not judge quality. An entry that it cannot turn into a record is yielded as a `Rejected` with a named reason, so that
nothing is dropped silently.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from data_manifests.errors import InputError, nearest
from data_manifests.object_store import is_url
from data_manifests.plugins import (
    FileName,
    is_ours,
    load_offered,
    named_file,
    offered,
    open_file,
    origin_of,
    plugin_error,
)
from data_manifests.sample import ImageRef

if TYPE_CHECKING:
    import pyarrow as pa

KINDS: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg))
"""Our source kinds: the names of this package's modules. Each is imported only when a source of that kind is opened."""


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


def open_source(
    spec: str,
    split: str | None = None,
    workspace: Path | None = None,
    on_note: Callable[[str], None] = lambda _note: None,
) -> SampleSource:
    """Open ``KIND:PATH`` (or ``scenes:COUNT[@SEED]``), or ``FILE.py:PATH`` with a source of the user's own.

    Args:
        spec: What ``--source`` says.
        split: Only this split.
        workspace: Where the files of a source behind a URL are copied to; None where none can be.
        on_note: Called with a sentence about what was fetched.

    Raises:
        InputError: the kind is unknown, its file or package cannot be imported, or the source rejects the path or the split.
    """
    where = f"--source {spec!r}: "
    if (file := named_file(spec)) is not None:
        source_class, path = _class_of_file(file, where)
    else:
        kind, _, path = spec.partition(":")
        if not path or kind not in (*KINDS, *offered("sources")):
            raise _unknown_kind(spec, where)
        source_class = _own_class(kind) if kind in KINDS else _checked(load_offered("sources", kind), where, kind)
    if not path:
        raise InputError(
            f"{where}no path after the source kind", allowed="FILE.py:PATH", fix=f"for example {spec}:photos"
        )
    if file is None and is_url(path):
        return _open_fetched(source_class, path, split, workspace, on_note)
    try:
        source: SampleSource = source_class(path, split)
    except InputError:
        raise
    except Exception as error:
        if is_ours(source_class):
            raise
        raise plugin_error(f"{where}the source cannot be opened", error, fix="correct its class") from error
    return source


def _open_fetched(
    source_class: Any, url: str, split: str | None, workspace: Path | None, on_note: Callable[[str], None]
) -> SampleSource:
    """Open a source behind a URL: its files are fetched first. Messages name the URL, not the copies."""
    from curation.sources.reading.fetch import FOLDER, fetch_pictures, fetch_source

    if workspace is None:
        raise InputError(
            f"{source_class.kind}:{url}: no URL is read here", fix="download the files and give their path"
        )
    files = fetch_source(source_class.kind, url, workspace / FOLDER)
    try:
        source: SampleSource = source_class(files.path, split)
        if (names := getattr(source, "image_names", None)) is not None:
            fetch_pictures(names(), files)
    except InputError as error:
        got, allowed, fix = map(files.in_urls, (error.got, error.allowed, error.fix))
        raise InputError(got, allowed=allowed, fix=fix) from None
    on_note(files.note())
    return source


def source_origin(source: SampleSource) -> dict[str, str]:
    """Return where a source's class comes from, as the manifest has it; empty for ours."""
    return {} if is_ours(type(source)) else origin_of(type(source).__module__)


def _unknown_kind(spec: str, where: str) -> InputError:
    """Return the error of a text that names no source."""
    kind, colon, _ = spec.partition(":")
    kinds = (*KINDS, *offered("sources"))
    fix = "for example --source flickr:/data/flickr8k or --source scenes:2000"
    if not colon:
        problem, fix = "no source kind before the path", f"for example --source folder:{spec}"
    else:
        problem = "no path after the source kind" if kind in kinds else f"unknown source kind {kind!r}"
    return InputError(
        where + problem,
        allowed="KIND:PATH with KIND one of " + ", ".join(kinds) + ", or FILE.py:PATH",
        fix=nearest(kind, kinds) if kind not in kinds and nearest(kind, kinds) else fix,
    )


def _own_class(kind: str) -> Any:
    module = vars(importlib.import_module(f"{__name__}.{kind}"))
    return next(item for item in module.values() if getattr(item, "kind", None) == kind)


def _class_of_file(file: FileName, where: str) -> tuple[Any, str]:
    """Return the source of a user's file, and the path after it; with several sources the kind stands between."""
    module = open_file(file.path, where)
    own = (item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__)
    found = {kind: item for item in own if isinstance(kind := vars(item).get("kind"), str)}
    kind, _, path = file.rest.partition(":")
    if len(found) == 1 and kind not in found:
        (kind,), path = found, file.rest
    if kind not in found:
        raise InputError(
            f"{where}{file.path.name} has {len(found)} sources" + (f", none of kind '{kind}'" if found else ""),
            allowed=f"FILE.py:KIND:PATH, KIND one of {', '.join(found)}"
            if found
            else "a class with kind, splits, signature and describe",
            fix=nearest(kind, found) or "name one of them before the path"
            if found
            else "the class is as curation.sources.SampleSource says",
        )
    return _checked(found[kind], where, kind), path


def _checked(found: Any, where: str, kind: str) -> Any:
    """Return a plug-in's source, checked.

    Raises:
        InputError: it is no source.
    """
    missing = [name for name in ("splits", "signature", "describe") if not callable(getattr(found, name, None))]
    if not isinstance(found, type) or missing or getattr(found, "kind", None) != kind:
        lacks = f"lacks {', '.join(missing)}" if missing else f"has the kind {getattr(found, 'kind', None)!r}"
        raise InputError(
            f"{where}source '{kind}' ({getattr(found, '__name__', found)}) {lacks}",
            allowed=f"a class with kind = {kind!r} and the methods splits, signature and describe",
            fix="python -m pydoc curation.sources.SampleSource shows what each of them does",
        )
    return found


def read_batches(source: SampleSource) -> Iterator[pa.RecordBatch]:
    """Yield the batches of all splits, in order."""
    for split in source.splits():
        yield from split.batches()
