"""CIFAR-10 and CIFAR-100 in their own files: the binary ones, and Python's pickles read as data, never as a program."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from data_manifests.errors import InputError
from training.evaluate.image_files import ImageFile
from training.evaluate.small_files import read_bytes

SIZE_PX = 32
IMAGE_BYTES = 3 * SIZE_PX * SIZE_PX
_UNREADABLE = (pickle.UnpicklingError, EOFError, KeyError, IndexError, AttributeError, TypeError, ValueError, RecursionError,
               OverflowError, MemoryError)  # fmt: skip


@dataclass(frozen=True)
class CifarFiles:
    """Where a CIFAR data set lies.

    Attributes:
        name: ``cifar10`` or ``cifar100``.
        files: Those of one split, in order.
        binary: Whether they are the binary ones.
    """

    name: str
    files: tuple[Path, ...]
    binary: bool


@dataclass(frozen=True)
class CifarImage(ImageFile):
    """An image of a CIFAR file; `path` is the file with the image's number.

    Attributes:
        pixels: Red, green and blue planes, row by row.
    """

    pixels: bytes = field(default=b"", repr=False)

    def read(self) -> Image.Image:
        """Return the image."""
        planes = np.frombuffer(self.pixels, np.uint8).reshape(3, SIZE_PX, SIZE_PX)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


_LAYOUTS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...], bool], ...] = (
    ("cifar10", "cifar-10-batches-bin", ("test_batch.bin",), tuple(f"data_batch_{n}.bin" for n in range(1, 6)), True),
    ("cifar10", "cifar-10-batches-py", ("test_batch",), tuple(f"data_batch_{n}" for n in range(1, 6)), False),
    ("cifar100", "cifar-100-binary", ("test.bin",), ("train.bin",), True),
    ("cifar100", "cifar-100-python", ("test",), ("train",), False),
)
"""Data set, folder, files of the test images, files of the training images, binary or not."""


def find_cifar(folder: Path, *, train: bool) -> CifarFiles | None:
    """Return the files of a CIFAR data set in a folder, or in the subfolder that its archive unpacks to; None if there is none."""
    for name, own, test_files, train_files, binary in _LAYOUTS:
        for root in (folder, folder / own):
            files = [root / item for item in (train_files if train else test_files)]
            if all(path.is_file() for path in files):
                return CifarFiles(name, tuple(files), binary)
    return None


def read_cifar(found: CifarFiles) -> tuple[list[CifarImage], list[int]]:
    """Return the images and the number of each one's class.

    Raises:
        InputError: a file that is no such file, or a pickle that holds more than numbers, texts and arrays.
    """
    images: list[CifarImage] = []
    labels: list[int] = []
    most = 10 if found.name == "cifar10" else 100
    for path in found.files:
        pixels, of_file = _read_binary(path, found.name) if found.binary else _read_pickle(path)
        wrong = [label for label in of_file if not 0 <= label < most]
        if wrong:
            raise InputError(f"{path}: class number {wrong[0]}", allowed=f"0 to {most - 1} in {found.name}")
        images += [CifarImage(path / f"{row:05}", None, pixels[row].tobytes()) for row in range(len(of_file))]
        labels += of_file
    return images, labels


def _read_binary(path: Path, name: str) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], list[int]]:
    marks = 1 if name == "cifar10" else 2  # CIFAR-100 has the coarse class before the fine one
    content = read_bytes(path)
    if not content or len(content) % (marks + IMAGE_BYTES):
        raise InputError(
            f"{path}: {len(content)} bytes",
            allowed=f"records of {marks + IMAGE_BYTES} bytes, as in the binary version of {name}",
        )
    table = np.frombuffer(content, np.uint8).reshape(-1, marks + IMAGE_BYTES)
    return table[:, marks:], table[:, marks - 1].tolist()


def _read_pickle(path: Path) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], list[int]]:
    try:
        record = _PlainUnpickler(io.BytesIO(read_bytes(path)), encoding="bytes").load()
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: not a file of CIFAR's Python version: {error}",
            allowed="a pickle of a dictionary with data and labels, and nothing that runs when it is read",
            fix="unpack the archive again, or use the binary version",
        ) from None
    table = {_text(key): value for key, value in record.items()} if isinstance(record, dict) else {}
    data, labels = table.get("data"), table.get("fine_labels", table.get("labels"))
    is_list = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not isinstance(data, _Array) or not is_list or data.shape() != (len(labels or ()), IMAGE_BYTES):
        raise InputError(
            f"{path}: its data and labels are not those of CIFAR",
            allowed=f"data [n, {IMAGE_BYTES}] of bytes, and n labels",
        )
    assert isinstance(labels, list)
    return np.frombuffer(data.content(), np.uint8).reshape(data.shape()), labels


def _text(key: Any) -> str:
    return key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)


class _Dtype:
    """Stands for the type of an array's numbers; only bytes are known."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.is_bytes = code in (b"u1", "u1")

    def __setstate__(self, state: Any) -> None:
        """Take what a pickle says about byte order; bytes have none."""


class _Array:
    """Stands for a numpy array while a pickle is read: no code of numpy sees what the file says."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        """Take version, shape, type, order and content."""
        self.state = state if isinstance(state, tuple) and len(state) == 5 else ()

    def content(self) -> bytes:
        """Return the bytes."""
        raw: bytes = self.state[4]
        return raw

    def shape(self) -> tuple[int, ...] | None:
        """Return the shape; None unless it is one of bytes, row by row, with as many bytes as it says."""
        if not self.state:
            return None
        _, shape, dtype, by_columns, content = self.state
        is_shape = isinstance(shape, tuple) and all(type(item) is int and item >= 0 for item in shape)
        if (
            not is_shape
            or not isinstance(dtype, _Dtype)
            or not dtype.is_bytes
            or by_columns
            or type(content) is not bytes
        ):
            return None
        found: tuple[int, ...] = shape
        return found if len(content) == math.prod(found) else None


def _latin1(text: Any, encoding: Any) -> bytes:
    """Return a text as bytes: how Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        _refuse(f"it encodes {type(text).__name__} as {encoding!r}")
    return text.encode("latin1")


_ADMITTED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _latin1,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}
"""What a pickle of CIFAR names -> what stands for it here; nothing else is ever looked up."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists, dictionaries and stand-ins of arrays; whatever else a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the stand-in of a name.

        Raises:
            UnpicklingError: any other name.
        """
        if (module, name) not in _ADMITTED:
            _refuse(f"it names {module}.{name}")
        return _ADMITTED[module, name]


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(what)
