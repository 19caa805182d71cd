"""Captions in text files beside their images: ``7.jpg`` and ``7.txt``, as img2dataset and image generators write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from curation.sources import Rejected, SourceRecord
from curation.sources.reading.files import has_image_ending, image_in, scan, shown
from curation.sources.reading.table_rows import MAX_TEXT_BYTES, BadRow, text_lines
from data_manifests.sample import ImageRef

ENDING = ".txt"


def has_caption_files(root: Path, linked: Sequence[Path]) -> bool:
    """Return whether an image in a folder has a text file beside it."""
    images, texts = set[str](), set[str]()
    for name, _, _ in scan(root, linked):
        stem, _, _ = name.rpartition(".")
        if has_image_ending(name):
            images.add(stem)
        elif name.endswith(ENDING):
            texts.add(stem)
    return not images.isdisjoint(texts)


def caption_file_records(root: Path, linked: Sequence[Path]) -> Iterator[SourceRecord | Rejected]:
    """Yield one entry per image, sorted by name; each line of its text file that is not blank is a caption.

    Args:
        root: Real path of the folder.
        linked: Real paths of other folders that links may lead into, because the user named them.
    """
    for name in sorted(name for name, _, _ in scan(root, linked) if has_image_ending(name)):
        image = image_in(root, name, linked)
        if isinstance(image, Rejected):
            yield image
            continue
        table = f"{name.rpartition('.')[0]}{ENDING}"
        captions = _captions(root, table, linked)
        if isinstance(captions, Rejected):
            yield Rejected(shown(name), captions.reason, captions.detail)
        else:
            yield _record(name, image, captions, table)


def _record(name: str, image: ImageRef, captions: tuple[str, ...], table: str) -> SourceRecord | Rejected:
    if not captions:
        return Rejected(shown(name), "no_captions", f"{shown(table)} has no line with text")
    return SourceRecord(name, image, captions)


def _captions(root: Path, name: str, linked: Sequence[Path]) -> tuple[str, ...] | Rejected:
    """Return the lines of a text file, or why they cannot be read."""
    path = root / name
    if not path.is_file():
        return Rejected(name, "no_captions", f"no {shown(name)} beside it")
    if path.is_symlink() and not any(path.resolve().is_relative_to(folder) for folder in (root, *linked)):
        return Rejected(name, "unsafe_path", f"{shown(name)} is a link out of the folder")
    if path.stat().st_size > MAX_TEXT_BYTES:
        return Rejected(name, "malformed_line", f"{shown(name)} has more than 16 MiB")
    lines = list(text_lines(path))
    if bad := next(((number, line) for number, line in lines if isinstance(line, BadRow)), None):
        return Rejected(name, "malformed_line", f"{shown(name)}:{bad[0]}: {bad[1].problem}")
    return tuple(str(line) for _, line in lines)
