"""Cache of the activations of a frozen prefix, by name, in memory or on disk: each is computed once.

On two cores this is the difference between minutes and days: 6,000 photographs go through the frozen part of an image
tower once, and hundreds of steps of 512 then only run the rest. Every value is computed in a batch whose shape does not
depend on its neighbours, so a store filled in any order, in any number of sittings, has the same bits.

Activations are float32: what a step would compute, up to the order of sums. On disk a store is a folder of `.npz` files that
are mapped into memory, so that a store may be larger than memory. They take part in a disk budget (`train.cache_gb`)
for all stores of a workspace.
"""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
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

PART_BYTES = 1 << 26
"""Most bytes per file, unless one row alone has more."""

TEXT_ROWS = 32
"""Texts per forward pass, padded to exactly so many."""

Rows = Sequence[np.ndarray[Any, Any]]
"""Activations of one image or text each; those of texts by position differ in their first axis."""


class ProgressReport(Protocol):
    """A callback for the progress of long work."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""


def text_name(text: str) -> str:
    """Return a text's name in a store: BLAKE3-128, hex."""
    return blake3(text.encode()).hexdigest(length=16)


class ActivationStore:
    """Activations by name (32 hex characters).

    Args:
        folder: Where parts are kept between runs; None keeps them in memory. A folder must belong to one prefix.
        wanted: Only these names are held.

    Raises:
        InputError: a file in the folder is damaged.
    """

    def __init__(self, folder: Path | None, wanted: Sequence[str]) -> None:
        self._folder = folder
        self._rows: dict[str, np.ndarray[Any, Any]] = {}
        self._wanted = set(wanted)
        for path in sorted(folder.glob("*.npz")) if folder else []:
            self._hold(*_read_part(path))
        if folder is not None and folder.is_dir():
            os.utime(folder)  # `make_room` removes the store that was not used for the longest time

    def missing(self) -> list[str]:
        """Return the wanted names that are not there, sorted."""
        return sorted(self._wanted - self._rows.keys())

    def add(self, names: Sequence[str], rows: Rows) -> None:
        """Keep float32 activations, one array for each name; on disk they are there whole or not at all."""
        if self._folder is None:
            self._hold(names, rows)
            return
        arrays: dict[str, Any] = {"names": np.array(names, dtype="<U32")}
        if len({row.shape for row in rows}) == 1:
            arrays["values"] = np.stack(rows)
        else:
            arrays |= {"values": np.concatenate(rows), "lengths": np.array([len(row) for row in rows])}
        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        path = self._folder / f"{blake3(''.join(names).encode()).hexdigest(length=16)}.npz"
        write_atomically(path, buffer.getbuffer())
        self._hold(*_read_part(path))

    def take(self, names: Sequence[str]) -> Tensor:
        """Return float32 activations [len(names), ...]; sequences are filled with zeros to the longest of them."""
        import torch

        rows = [self._rows[name] for name in names]
        out = np.zeros((len(rows), max(len(row) for row in rows), *rows[0].shape[1:]), dtype=np.float32)
        for number, row in enumerate(rows):
            out[number, : len(row)] = row
        return torch.from_numpy(out)

    def _hold(self, names: Sequence[str], rows: Rows) -> None:
        self._rows |= {
            name: np.asarray(row, dtype=np.float32)
            for name, row in zip(names, rows, strict=True)
            if name in self._wanted and name not in self._rows
        }


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
        held, rows = _read_part(path)
        kept = [at for at, name in enumerate(held) if name not in names]
        if len(kept) == len(held):
            continue
        gone += len(held) - len(kept)
        if kept:
            # under its new name first: after a kill in between rows are there twice, which is harmless, and both are found again
            ActivationStore(path.parent, ()).add([held[at] for at in kept], [rows[at] for at in kept])
        path.unlink()
    return gone


def make_room(folder: Path, num_bytes: int, budget: float) -> None:
    """Keep all stores of a workspace within a budget: remove those that were not used for the longest time.

    Args:
        folder: The store that is about to be filled, two levels below the folder of all stores; goes last.
        num_bytes: What will be added to it, at most the budget.
        budget: Bytes.

    Raises:
        InputError: the disk has less room.
    """
    stores = {path.parent for path in folder.parent.parent.rglob("*.npz")}
    sizes = {store: sum(path.stat().st_size for path in store.glob("*.npz")) for store in stores}
    for store in sorted(stores, key=lambda store: (store == folder, store.stat().st_mtime_ns, store)):
        if sum(sizes.values()) + num_bytes <= budget:
            break
        shutil.rmtree(store)
        sizes.pop(store)
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < num_bytes:
        raise InputError(
            f"{folder}: activations of {num_bytes / 1e9:.3f} GB are to be cached, {free / 1e9:.3f} GB are free",
            fix="free some space, or compute them at each step: --set train.cache_gb=0",
        )


def _read_part(path: Path) -> tuple[list[str], Rows]:
    try:
        with zipfile.ZipFile(path) as archive:
            if (odd := archive.testzip()) is not None:
                raise ValueError(f"'{odd}' has other bytes than were written")
            values = _mapped(path, archive.getinfo("values.npy"))
        with np.load(path, allow_pickle=False) as part:
            names: list[str] = part["names"].tolist()
            rows: Rows = np.split(values, part["lengths"].cumsum()[:-1]) if "lengths" in part else list(values)
        if values.ndim < 2 or len(names) != len(rows):
            raise ValueError(f"{len(names)} names for an array of shape {values.shape}")
    except (OSError, ValueError, KeyError, struct.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: damaged activation cache: {error}", fix="delete this file; it is computed again"
        ) from None
    return names, rows


def _mapped(path: Path, member: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    """Return an array of an `.npz` file, mapped into memory; numpy itself only maps single `.npy` files."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        # a member's own header: 30 bytes, then its name and an extra field, whose lengths are its last two numbers
        skipped = sum(struct.unpack("<26xHH", file.read(30)))
        file.seek(member.header_offset + 30 + skipped)
        np.lib.format.read_magic(file)
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        if by_column or dtype != np.float32 or member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"an array of {dtype}")
        return np.asarray(np.memmap(path, dtype, "r", file.tell(), shape))


def activation_bytes(model: ClipModel, texts: Sequence[str] | None = None) -> int:
    """Return how many bytes the activations of one image take, or those of all these texts together.

    Args:
        model: In eval mode.
        texts: The texts; None for an image.
    """
    import torch

    with torch.no_grad():
        if texts is None:
            side = model.image_size_px
            return 4 * model.image_prefix(torch.zeros(1, 3, side, side, device=model.device)).numel()
        one = model.text_prefix(model.trim(model.tokenize(["a"])).to(model.device))
    total = 0
    for first in range(0, len(texts), PART_ROWS):
        part = texts[first : first + PART_ROWS]
        rows = int(model.padded_lengths(model.tokenize(part), bucket=1).sum()) if "text" in model.cuts else len(part)
        total += 4 * one.shape[-1] * rows
    return total


def fill_images(
    store: ActivationStore,
    model: ClipModel,
    names: Sequence[str],
    pixels: Callable[[str], Tensor],
    report: ProgressReport,
    *,
    bf16: bool = False,
) -> None:
    """Compute image activations, one image at a time, and keep them.

    Args:
        store: Where they go.
        model: In eval mode.
        names: The missing images.
        pixels: Gives the float [3, size, size] of an image by its name; called from several threads.
        report: Called after each part.
        bf16: Compute as a step in bfloat16 does.
    """
    import torch

    device = model.device

    def work(name: str) -> Tensor:
        with torch.no_grad(), _autocast(device, bf16=bf16):
            return model.image_prefix(pixels(name)[None].to(device))[0].float().cpu()

    size = min(PART_ROWS, max(1, PART_BYTES // activation_bytes(model))) if names else 1
    with _workers() as pool:
        for first in range(0, len(names), size):
            part = names[first : first + size]
            store.add(part, [row.contiguous().numpy() for row in pool.map(work, part)])
            report("image activations", first + len(part), len(names))


def fill_texts(
    store: ActivationStore, model: ClipModel, texts: dict[str, str], report: ProgressReport, *, bf16: bool = False
) -> None:
    """Compute text activations in batches of a fixed shape and keep them.

    A text's batch has `TEXT_ROWS` rows and the length that the text alone decides; missing rows repeat the first.

    Args:
        store: Where they go.
        model: In eval mode.
        texts: Missing texts by name.
        report: Called after each part.
        bf16: Compute as a step in bfloat16 does.
    """
    names = sorted(texts)
    with _workers() as pool:
        for first in range(0, len(names), PART_ROWS):
            part = names[first : first + PART_ROWS]
            tokens = model.tokenize([texts[name] for name in part])
            store.add(part, _text_activations(model, tokens, pool, bf16=bf16))
            report("text activations", first + len(part), len(names))


def _text_activations(model: ClipModel, tokens: torch.Tensor, pool: ThreadPoolExecutor, *, bf16: bool) -> Rows:
    """Return activations of tokens [n, context_length]: [width], or by position [own length, width + 1]."""
    import torch

    device = model.device
    lengths, own = model.padded_lengths(tokens), model.padded_lengths(tokens, bucket=1).tolist()
    groups: list[tuple[int, Tensor]] = []
    for length in sorted(set(lengths.tolist())):
        rows = torch.nonzero(lengths == length)[:, 0]
        groups += [(length, group) for group in torch.split(rows, TEXT_ROWS)]

    def work(item: tuple[int, Tensor]) -> Tensor:
        length, group = item
        padded = torch.cat([group, group[:1].expand(TEXT_ROWS - len(group))])
        with torch.no_grad(), _autocast(device, bf16=bf16):
            return model.text_prefix(tokens[padded, :length].to(device))[: len(group)].float().cpu()

    found: dict[int, np.ndarray[Any, Any]] = {}
    for (_, group), values in zip(groups, pool.map(work, groups), strict=True):
        found |= dict(zip(group.tolist(), values.numpy(), strict=True))
    return [found[at] if found[at].ndim == 1 else found[at][: own[at]] for at in range(len(tokens))]


def _autocast(device: torch.device, *, bf16: bool) -> Any:
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()


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
