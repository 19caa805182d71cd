"""Embeddings of picture files, whole or cut to a box; what is missing or unreadable is said, not guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from data_manifests.errors import InputError
from training.batches.decode import decode_image
from training.evaluate.features import MAX_IMAGE_PX, ReportProgress, encode_images

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from training.model.clip_model import ClipModel

MAX_FILE_BYTES = 1 << 28
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class ImageFile:
    """A picture file, or a part of one.

    Attributes:
        path: The file.
        box: Left, top, right and bottom in pixels; None is the whole picture. What lies outside of the picture is black.
    """

    path: Path
    box: tuple[int, int, int, int] | None = None

    def read(self) -> Image.Image:
        """Return it decoded.

        Raises:
            InputError: missing, too large, not a picture, or an empty box.
        """
        try:
            if (size := self.path.stat().st_size) > MAX_FILE_BYTES:
                raise InputError(f"{self.path.name}: {size} bytes", allowed=f"at most {MAX_FILE_BYTES} bytes")
            image = decode_image(self.path.read_bytes(), self.path.name, MAX_IMAGE_PX)
        except OSError as error:
            raise InputError(f"{self.path.name}: {error.strerror}") from error
        if self.box is None:
            return image
        left, top, right, bottom = self.box
        if right <= left or bottom <= top or (right - left) * (bottom - top) > MAX_IMAGE_PX:
            raise InputError(f"{self.path.name}: box {self.box}", allowed="left < right, top < bottom, not too large")
        return image.crop(self.box)


def encode_image_files(
    model: ClipModel, pictures: Sequence[ImageFile], report: ReportProgress | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return unit-norm embeddings, float32 [n, embed_dim], zero where a picture cannot be read; and which can be, [n].

    Equal pictures are computed once.
    """
    distinct = list(dict.fromkeys(pictures))
    readable = np.zeros(len(distinct), dtype=bool)

    def images() -> Iterator[Tensor]:
        for place, picture in enumerate(distinct):
            try:
                image = picture.read()
            except InputError:
                continue  # counted by the caller: `readable` stays False
            readable[place] = True
            yield model.preprocess(image)

    found = encode_images(model, images(), report=report)
    table = np.zeros((len(distinct), model.embed_dim), dtype=np.float32)
    table[readable] = found
    place = {picture: row for row, picture in enumerate(distinct)}
    rows = np.array([place[picture] for picture in pictures], dtype=np.int64)
    return table[rows], readable[rows]


class ImageFinder:
    """Finds pictures by the names that a benchmark gives them.

    A name is looked for as it stands, then by its last part in the folder, then anywhere below, where it must be there
    once only. A name cannot lead out of the folder.

    Args:
        root: The folder.
        suffixes: What may be appended to a name.
    """

    def __init__(self, root: Path, suffixes: Sequence[str] = ("",)) -> None:
        self.root, self._suffixes = root, suffixes
        self._below: dict[str, list[Path]] | None = None

    def find(self, name: str) -> Path | None:
        """Return the file, or None."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            return None
        for suffix in self._suffixes:
            for path in (self.root.joinpath(*parts), self.root / parts[-1]):
                if (found := path.with_name(path.name + suffix)).is_file():
                    return found
        for suffix in self._suffixes:
            below = self._names().get(parts[-1] + suffix, [])
            if len(below) == 1:
                return below[0]
        return None

    def _names(self) -> dict[str, list[Path]]:
        """Return all picture files below the root by name, listed once."""
        if self._below is None:
            self._below = {}
            for path in self.root.rglob("*"):
                if path.suffix.lower() in SUFFIXES:
                    self._below.setdefault(path.name, []).append(path)
        return self._below
