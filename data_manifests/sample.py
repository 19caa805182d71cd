"""The sample: one image with its captions, and fields that stages add."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from blake3 import blake3

UID_HEX_CHARS = 32
"""Width of a uid: 128 bits in hex, as DataComp's subset files expect."""

_MOST_OPEN_FILES = 128

REQUIRABLE = ("uid", "image", "captions", "split", "attributes")
"""Sample fields that exist before any stage has run and that a stage may name in `requires`."""


def image_uid(data: bytes) -> str:
    """Return a sample's identity: the first 128 bits of BLAKE3 over the original image bytes, in hex."""
    return blake3(data).hexdigest(length=UID_HEX_CHARS // 2)


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Location of an image's original bytes: a whole file, or a byte range of one.

    Attributes:
        path: Absolute path of the file. Never published, since it reveals the machine.
        offset: First byte.
        size_bytes: Number of bytes; -1 means to the end of the file.
    """

    path: str
    offset: int = 0
    size_bytes: int = -1

    def read(self) -> bytes:
        """Return the original, encoded image bytes.

        Raises:
            OSError: the file cannot be read, or ends before the range does.
        """
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.size_bytes) if self.size_bytes >= 0 else file.read()
        if self.size_bytes >= 0 and len(data) != self.size_bytes:
            raise OSError(f"{self.path}: wanted {self.size_bytes} bytes at {self.offset}, got {len(data)}")
        return data


class ImageFiles:
    """Reads images; the files read last stay open, since many images lie in one.

    A context manager; for a piece of work, not for long: a file that is replaced meanwhile is not noticed.
    """

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def read(self, image: ImageRef) -> bytes:
        """Return an image's bytes, as `ImageRef.read` does.

        Raises:
            OSError: the file cannot be read, or ends before the range does.
        """
        if image.size_bytes < 0:
            return image.read()
        data = os.pread(self._file(image.path), image.size_bytes, image.offset)
        # what is too large for one read is left to Python's files
        return data if len(data) == image.size_bytes else image.read()

    def _file(self, path: str) -> int:
        found = self._open.get(path)
        if found is None:
            if len(self._open) >= _MOST_OPEN_FILES:
                os.close(self._open.pop(next(iter(self._open))))
            found = self._open[path] = os.open(path, os.O_RDONLY)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its captions.

    Attributes:
        uid: BLAKE3-128 of the image bytes, 32 hex characters; the only identity.
        name: Its name in the source (a file name, a tar key); a label, not an identity.
        image: Location of the original bytes.
        captions: Human or web texts, in the source's order; never empty, no text is blank.
        split: ``train``, ``dev``, ``test`` or None, as the source says.
        attributes: Other data of the source (a scene graph, labels, licence, url); JSON values.
        fields: Fields that stages added, by name; JSON values or numpy arrays.
    """

    uid: str
    name: str
    image: ImageRef
    captions: tuple[str, ...]
    split: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """Return a built-in field or one that a stage added.

        Raises:
            KeyError: there is no such field yet.
        """
        if name in REQUIRABLE:
            return getattr(self, name)
        try:
            return self.fields[name]
        except KeyError:
            have = ", ".join((*REQUIRABLE, *sorted(self.fields)))
            raise KeyError(f"sample {self.uid}: no field '{name}' (it has: {have})") from None

    def adding(self, added: Mapping[str, Any]) -> Sample:
        """Return a copy with more fields.

        Raises:
            ValueError: a field exists already; stages add, they never overwrite.
        """
        clash = sorted(name for name in added if name in self.fields or name in REQUIRABLE)
        if clash:
            raise ValueError(f"sample {self.uid}: field(s) {', '.join(clash)} exist already; a stage may not overwrite")
        # not `replace`, which takes four times as long
        fields = {**self.fields, **added}
        return Sample(self.uid, self.name, self.image, self.captions, self.split, self.attributes, fields)
