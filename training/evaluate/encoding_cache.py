"""Caches what encoders make of images and texts, for the next benchmark, share or model that needs the same.

A comparison evaluates dozens of models on the same images and texts. Two things are cached, each by a hash of the weights
that decide it: a tower's prefix, which models share that differ only behind it (`ClipModel.cut_at_first_changed`), and the
embedding. So the shares of a run read and decode each image once and compute once what no share changes; where an image
tower changes from its first weight on, its prefix are the prepared pixels themselves. Texts are split into tokens once.

Activations lie in unnamed temporary files, which end with the command, within a budget (`MAX_BYTES`, and half of the free
space of the disk): the page cache keeps in memory what fits. What finds no room is computed again. The bits are the same as
without the cache: every computation has a fixed number of rows.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.model.clip_model import ClipModel

MAX_BYTES = 1 << 32
MAX_FILES = 64
"""Two for each share and tower: what earlier shares made is of no use any more."""


@dataclass(frozen=True)
class ImageInput:
    """An image that is read only if nothing of it is cached.

    Attributes:
        key: Names the pixels: equal keys are equal images.
        read: Returns the preprocessed image [3, size, size], or None if it cannot be read.
    """

    key: str
    read: Callable[[], Tensor | None]


Rows = list["Tensor | None"]
"""One value for each input; None for an unreadable image."""
EncodeImages = Callable[[Sequence[ImageInput]], Rows]
EncodeTexts = Callable[["Tensor"], Rows]
"""Takes token ids [n, length]."""
ComputeRows = Callable[[list[int]], Rows]
"""Takes the numbers of the inputs that are not cached."""


class _RowFile:
    """Tensors (float32) by key in an unnamed temporary file.

    Args:
        folder: A folder on the disk that it takes room of.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as this object is used
        self._where: dict[Hashable, tuple[int, torch.Size] | None] = {}
        self.num_bytes = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._where

    def add(self, key: Hashable, row: Tensor | None) -> None:
        """Keep a row."""
        self._where[key] = None if row is None else (self.num_bytes, row.shape)
        if row is not None:
            self._file.seek(self.num_bytes)
            self.num_bytes += self._file.write(row.contiguous().numpy().data)

    def take(self, key: Hashable) -> Tensor | None:
        """Return a row."""
        import torch

        if (found := self._where[key]) is None:
            return None
        start, shape = found
        self._file.seek(start)
        return torch.frombuffer(bytearray(self._file.read(4 * shape.numel())), dtype=torch.float32).reshape(shape)

    def close(self) -> None:
        """Give the disk's room back."""
        self._file.close()


class EncodingCache:
    """Rows by what computes them and by input; when it is full, what was not used for the longest time goes.

    Args:
        folder: A folder on the disk that it takes room of.
        max_bytes: Most bytes.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._max_bytes = folder, min(max_bytes, shutil.disk_usage(folder).free // 2)
        self._files: dict[str, _RowFile] = {}
        self._tokens: dict[str, dict[str, Tensor]] = {}

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        return sum(file.num_bytes for file in self._files.values())

    def keep(self, name: str, keys: Sequence[Hashable], compute: ComputeRows) -> Rows:
        """Return a row for each key; those that are not cached are computed and cached.

        Args:
            name: What computes them: equal names and keys are equal rows.
            keys: The inputs.
            compute: Computes some of them.
        """
        file = self._files.get(name)
        rows = {row: file.take(key) for row, key in enumerate(keys) if key in file} if file else {}
        new = [row for row in range(len(keys)) if row not in rows]
        computed = dict(zip(new, compute(new) if new else [], strict=True))
        # only now, since what they are computed of is cached as well, and may have taken this file's room
        self._files[name] = file = self._files.pop(name, None) or _RowFile(self._folder)
        if len(self._files) > MAX_FILES:
            self._files.pop(next(iter(self._files))).close()
        for row, value in computed.items():
            if self._has_room(0 if value is None else value.nbytes, name):
                file.add(keys[row], value)
        rows |= computed
        return [rows[row] for row in range(len(keys))]

    def tokens_of(self, model: ClipModel, texts: Sequence[str]) -> Tensor:
        """Return int64 token ids [n, context_length], those of each text computed once."""
        import torch

        known = self._tokens.setdefault(blake3(canonical(model.config)).hexdigest(), {})
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known |= dict(zip(new, model.tokenize(new).int(), strict=True))
        return torch.stack([known[text] for text in texts]).long() if texts else model.tokenize(texts)

    def close(self) -> None:
        """Give the disk's room back."""
        for file in self._files.values():
            file.close()

    def _has_room(self, size: int, name: str) -> bool:
        """Make room for a row of a file; return whether there is any."""
        while (full := self.num_bytes + size > self._max_bytes) and (oldest := next(iter(self._files))) != name:
            self._files.pop(oldest).close()
        return not full


_CACHE: ContextVar[EncodingCache | None] = ContextVar("encoding cache", default=None)


@contextmanager
def shared_encodings(folder: Path) -> Iterator[EncodingCache]:
    """Let all evaluations inside the block share one cache: that of an enclosing block, or a new one.

    Args:
        folder: A folder on the disk that a new cache takes room of.
    """
    if (enclosing := _CACHE.get()) is not None:
        yield enclosing
        return
    cache = EncodingCache(folder)
    token = _CACHE.set(cache)
    try:
        yield cache
    finally:
        _CACHE.reset(token)
        cache.close()


def image_encoder(model: ClipModel, num_rows: int) -> EncodeImages:
    """Return a function that gives unit-norm embeddings [embed_dim], with the cache of the enclosing block if there is one.

    Args:
        model: In eval mode.
        num_rows: Images per pass; the last batch is padded.
    """
    import torch

    keep = _keeper()
    prefix, whole = (f"image {part}" for part in _hashes(model, "image"))

    def rest(activations: Tensor) -> Tensor:
        return torch.nn.functional.normalize(model.image_head(model.image_trunk_from(activations)), dim=-1)

    def encode(images: Sequence[ImageInput]) -> Rows:
        def begin(new: list[int]) -> Rows:
            return _in_batches(model.image_prefix, _read([images[row] for row in new]), num_rows)

        def finish(new: list[int]) -> Rows:
            keys = [images[row].key for row in new]
            return _in_batches(rest, keep(prefix, keys, lambda part: begin([new[row] for row in part])), num_rows)

        return keep(whole, [image.key for image in images], finish)

    return encode


def text_encoder(model: ClipModel, num_rows: int) -> EncodeTexts:
    """Return the same for token ids [n, length]."""
    import torch

    keep = _keeper()
    prefix, whole = (f"text {part}" for part in _hashes(model, "text"))

    def rest(activations: Tensor) -> Tensor:
        return torch.nn.functional.normalize(model.text_head(model.text_rest(activations)), dim=-1)

    def encode(tokens: Tensor) -> Rows:
        keys = [row.numpy().tobytes() for row in tokens]

        def begin(new: list[int]) -> Rows:
            return _in_batches(model.text_prefix, list(tokens[new]), num_rows)

        def finish(new: list[int]) -> Rows:
            held = keep(prefix, [keys[row] for row in new], lambda part: begin([new[row] for row in part]))
            return _in_batches(rest, held, num_rows)

        return keep(whole, keys, finish)

    return encode


def tokens_of(model: ClipModel, texts: Sequence[str]) -> Tensor:
    """Return `model.tokenize(texts)`, with the cache of the enclosing block if there is one."""
    cache = _CACHE.get()
    return model.tokenize(texts) if cache is None else cache.tokens_of(model, texts)


def _keeper() -> Callable[[str, Sequence[Hashable], ComputeRows], Rows]:
    cache = _CACHE.get()
    return _compute_all if cache is None else cache.keep


def _compute_all(_: str, keys: Sequence[Hashable], compute: ComputeRows) -> Rows:
    return compute(list(range(len(keys))))


def _hashes(model: ClipModel, side: str) -> tuple[str, str]:
    """Return the hashes of a tower's prefix and of the whole tower; without a cache nobody asks for them."""
    return ("", "") if _CACHE.get() is None else (f"prefix {model.prefix_hash(side)}", model.tower_hash(side))


def _read(images: Sequence[ImageInput]) -> Rows:
    return [image.read() for image in images]


def _in_batches(compute: Callable[[Tensor], Tensor], inputs: Rows, num_rows: int) -> Rows:
    """Compute at most `num_rows` inputs; those missing to as many repeat the first: with the shape fixed, so are the bits."""
    import torch

    there = [value for value in inputs if value is not None]
    if not there:
        return list(inputs)
    padded = torch.stack([*there, *[there[0]] * (num_rows - len(there))])
    # copied, since a view would keep the whole batch alive
    computed = iter([row.clone() for row in compute(padded)[: len(there)]])
    return [None if value is None else next(computed) for value in inputs]
