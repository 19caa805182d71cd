"""Cache of a frozen trunk's activations, by name, in memory and on disk: each is computed once.

On two cores this is the difference between minutes and days: 6,000 photographs go through an image trunk once, and
hundreds of steps of 512 then only run the heads. Every value is computed in a batch whose shape does not depend on
its neighbours, so a store filled in any order, in any number of sittings, has the same bits.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from blake3 import blake3

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.model.clip_model import ClipModel

PART_ROWS = 256
"""Rows per file, and the most that a kill can cost."""

TEXT_ROWS = 32
"""Texts per forward pass, padded to exactly so many."""


class ProgressReport(Protocol):
    """A callback for the progress of long work."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""


def text_name(text: str) -> str:
    """Return a text's name in a store: BLAKE3-128, hex."""
    return blake3(text.encode()).hexdigest(length=16)


class ActivationStore:
    """Activations [width] by name (32 hex characters).

    Args:
        folder: Where parts are kept between runs; None keeps them in memory alone. A folder must belong to one trunk.
        wanted: Only these names are loaded.

    Raises:
        InputError: a file in the folder is damaged.
    """

    def __init__(self, folder: Path | None, wanted: Sequence[str]) -> None:
        self._folder = folder
        self._row: dict[str, int] = {}
        self._parts: list[np.ndarray[Any, Any]] = []
        self._wanted = set(wanted)
        for path in sorted(folder.glob("*.npz")) if folder else []:
            self._hold(*_read_part(path))

    def missing(self) -> list[str]:
        """Return the wanted names that are not there, sorted."""
        return sorted(self._wanted - self._row.keys())

    def add(self, names: Sequence[str], values: np.ndarray[Any, Any]) -> None:
        """Keep float32 values [n, width]; on disk they are there whole or not at all."""
        if self._folder is not None:
            buffer = BytesIO()
            np.savez(buffer, names=np.array(names, dtype="<U32"), values=values, allow_pickle=False)
            part = blake3("".join(names).encode()).hexdigest(length=16)
            write_atomically(self._folder / f"{part}.npz", buffer.getvalue())
        self._hold(names, values)

    def take(self, names: Sequence[str]) -> Tensor:
        """Return float32 activations [len(names), width]."""
        import torch

        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return torch.from_numpy(self._parts[0][[self._row[name] for name in names]])

    def _hold(self, names: Sequence[str], values: np.ndarray[Any, Any]) -> None:
        new = [at for at, name in enumerate(names) if name in self._wanted and name not in self._row]
        self._row |= {names[at]: row for row, at in enumerate(new, len(self._row))}
        if new:
            self._parts.append(np.asarray(values, dtype=np.float32)[new])


def forget_activations(root: Path, names: Collection[str]) -> int:
    """Take names out of all stores below a folder; return how many rows went.

    Args:
        root: Folder of stores.
        names: Uids of images and `text_name`s of texts.

    Raises:
        InputError: a file is damaged.
    """
    gone = 0
    for path in sorted(root.rglob("*.npz")):
        held, values = _read_part(path)
        kept = [at for at, name in enumerate(held) if name not in names]
        if len(kept) == len(held):
            continue
        gone += len(held) - len(kept)
        if kept:
            # under its new name first: after a kill in between rows are there twice, which is harmless, and both are found again
            ActivationStore(path.parent, ()).add([held[at] for at in kept], values[kept])
        path.unlink()
    return gone


def _read_part(path: Path) -> tuple[list[str], np.ndarray[Any, Any]]:
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as part:
            names, values = part["names"].tolist(), part["values"]
        if values.ndim != 2 or len(names) != len(values):
            raise ValueError(f"{len(names)} names for an array of shape {values.shape}")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: damaged activation cache: {error}", fix="delete this file; it is computed again"
        ) from None
    return names, values


def fill_images(
    store: ActivationStore,
    model: ClipModel,
    names: Sequence[str],
    pixels: Callable[[str], Tensor],
    report: ProgressReport,
) -> None:
    """Compute image activations, one image at a time, and keep them.

    Args:
        store: Where they go.
        model: In eval mode.
        names: The missing images.
        pixels: Gives the float [3, size, size] of an image by its name; called from several threads.
        report: Called after each part.
    """
    import torch

    device = model.device

    def work(name: str) -> Tensor:
        with torch.no_grad():
            return model.image_trunk(pixels(name)[None].to(device))[0].cpu()

    with _workers() as pool:
        for first in range(0, len(names), PART_ROWS):
            part = names[first : first + PART_ROWS]
            store.add(part, torch.stack(list(pool.map(work, part))).numpy())
            report("image activations", first + len(part), len(names))


def fill_texts(store: ActivationStore, model: ClipModel, texts: dict[str, str], report: ProgressReport) -> None:
    """Compute text activations in batches of a fixed shape and keep them.

    A text's batch has `TEXT_ROWS` rows and the length that the text alone decides; missing rows repeat the first.

    Args:
        store: Where they go.
        model: In eval mode.
        texts: Missing texts by name.
        report: Called after each part.
    """
    names = sorted(texts)
    with _workers() as pool:
        for first in range(0, len(names), PART_ROWS):
            part = names[first : first + PART_ROWS]
            tokens = model.tokenize([texts[name] for name in part])
            store.add(part, _text_activations(model, tokens, pool).numpy())
            report("text activations", first + len(part), len(names))


def _text_activations(model: ClipModel, tokens: torch.Tensor, pool: ThreadPoolExecutor) -> torch.Tensor:
    """Return activations [n, width] of tokens [n, context_length]."""
    import torch

    device = model.device
    lengths = model.padded_lengths(tokens)
    groups: list[tuple[int, Tensor]] = []
    for length in sorted(set(lengths.tolist())):
        rows = torch.nonzero(lengths == length)[:, 0]
        groups += [(length, group) for group in torch.split(rows, TEXT_ROWS)]

    def work(item: tuple[int, Tensor]) -> Tensor:
        length, group = item
        padded = torch.cat([group, group[:1].expand(TEXT_ROWS - len(group))])
        with torch.no_grad():
            return model.text_trunk(tokens[padded, :length].to(device))[: len(group)].cpu()

    found = torch.cat(list(pool.map(work, groups)))
    return found[torch.cat([group for _, group in groups]).argsort()]


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Give a thread for each core, each computing on one thread.

    Small batches gain nothing from threads inside an operation, and with one the bits do not depend on how many
    there are: every run on any machine of this kind shares the store.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)
