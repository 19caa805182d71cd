"""Embeddings of image files, whole or cropped to a box; missing and unreadable files are reported to the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from data_manifests.errors import InputError
from data_manifests.image_decoder import IMAGE_ENDINGS, decode_image
from training.evaluate.encoding_cache import ImageInput
from training.evaluate.features import MAX_IMAGE_PX, EvalProgress, encode_images
from training.evaluate.small_files import read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from training.model.clip_model import ClipModel


@dataclass(frozen=True)
class ImageFile:
    """An image file, or a box of one.

    Attributes:
        path: The file.
        box: Left, top, right and bottom in pixels; None is the whole image. What lies outside the image is black.
    """

    path: Path
    box: tuple[int, int, int, int] | None = None

    def read(self) -> Image.Image:
        """Return the decoded image.

        Raises:
            InputError: missing, too large, not an image, or an empty box.
        """
        image = decode_image(read_bytes(self.path), self.path.name, MAX_IMAGE_PX)
        if self.box is None:
            return image
        left, top, right, bottom = self.box
        if right <= left or bottom <= top or (right - left) * (bottom - top) > MAX_IMAGE_PX:
            raise InputError(f"{self.path.name}: box {self.box}", allowed="left < right, top < bottom, not too large")
        return image.crop(self.box)


def encode_image_files(
    model: ClipModel, files: Sequence[ImageFile], report: EvalProgress | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return unit-norm embeddings, float32 [n, embed_dim], zero for unreadable ones; and which are readable, [n].

    Equal files are computed once.
    """
    distinct = list(dict.fromkeys(files))

    def read(file: ImageFile) -> Tensor | None:
        try:
            return model.preprocess(file.read())
        except InputError:
            return None  # reported to the caller as unreadable

    table = encode_images(
        model, (ImageInput(f"{file.path} {file.box}", partial(read, file)) for file in distinct), report
    )
    row_of = {file: row for row, file in enumerate(distinct)}
    rows = np.array([row_of[file] for file in files], dtype=np.int64)
    readable: NDArray[np.bool_] = (table != 0).sum(axis=1) > 0
    return table[rows], readable[rows]


class ImageFinder:
    """Finds image files by the names that a benchmark has for them.

    A name is looked up as a path below the folder, then by its last part in the folder, then anywhere below, where it
    must be unique. A name cannot lead out of the folder.

    Args:
        root: The folder.
        suffixes: Extensions that may be appended to a name.
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
        """Return all image files below the root by name; the folder is listed once."""
        if self._below is None:
            self._below = {}
            for path in self.root.rglob("*"):
                if path.suffix.lower() in IMAGE_ENDINGS:
                    self._below.setdefault(path.name, []).append(path)
        return self._below
