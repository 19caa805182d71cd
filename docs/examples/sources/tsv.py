"""Pictures named by a text file: in each line the path of an image, a tab, and a caption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from curation.sources import RecordSplit, Rejected, SourceRecord
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, image_uid


class TsvSource:
    """`--source tsv:FILE`; paths are relative to the file, and lines with the same path are captions of one image."""

    kind: ClassVar[str] = "tsv"

    def __init__(self, path: str, split: str | None = None) -> None:
        self._file = Path(path)
        if split or not self._file.is_file():
            raise InputError(f"--source tsv:{path}", allowed="an existing text file, without --split")

    def splits(self) -> list[RecordSplit]:
        """Return the parts that can be read at the same time: here one."""
        return [RecordSplit(self._records)]

    def _records(self) -> Iterator[SourceRecord | Rejected]:
        """Yield the images in the file's order."""
        captions: dict[str, list[str]] = {}
        for line in self._file.read_text(encoding="utf-8").splitlines():
            name, _, caption = line.partition("\t")
            captions.setdefault(name, []).append(caption)
        for name, texts in captions.items():
            image = (self._file.parent / name).resolve()
            yield (
                SourceRecord(name, ImageRef(str(image)), tuple(texts))
                if image.is_file()
                else Rejected(name, "missing_image")
            )

    def signature(self) -> str:
        """Return a hash that changes when the file does; a source is read again only then."""
        return image_uid(self._file.read_bytes())

    def describe(self) -> dict[str, Any]:
        """Return what the manifest says about the source."""
        return {"kind": self.kind, "name": self._file.name, "licence": "unknown", "split": None}
