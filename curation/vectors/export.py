"""Export of a version's embeddings in clip-retrieval's layout, for tools that read it (its index builder, autofaiss)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from data_manifests.atomic_files import draft_folder, publish_folder
from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion

if TYPE_CHECKING:
    import pyarrow as pa

Which = Literal["first", "all"]

_PLAIN = ("uid", "key", "split", "width", "height")


def export_embeddings(version: DatasetVersion, out: Path, which: Which = "first") -> int:
    """Write ``img_emb/img_emb_0.npy``, ``text_emb/text_emb_0.npy`` and ``metadata/metadata_0.parquet``.

    Row i of all files is the same pair. The arrays are float16 [rows, d], written through a memory map, shard by shard;
    the folder appears whole or not at all.

    Args:
        version: Has embeddings of images and captions in its sidecars.
        out: The new folder.
        which: ``first``: one row per image, with its first caption; ``all``: one row per caption, with repeated images.

    Returns:
        The number of rows.

    Raises:
        InputError: the folder exists, or the version has no embeddings.
        OSError: the disk is full; nothing is left behind.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"--out {out}: exists already", fix="choose a folder that does not exist yet")
    sidecar_fields = {field["name"] for field in version.manifest.body["fields"] if field["where"] == "sidecar"}
    missing = sorted({"image_embedding", "text_embeddings"} - sidecar_fields)
    if missing:
        raise InputError(
            f"{version.ref} has no {' and no '.join(missing)}",
            allowed="a version whose recipe has the stage embed_samples, version 2 or newer",
            fix="curate it again with a recipe that embeds, such as negclip",
        )
    with draft_folder(out.parent, f".{out.name}.{os.getpid()}.building") as draft:
        rows = _write(version, draft, which)
        publish_folder(draft, out)
    return rows


def _write(version: DatasetVersion, folder: Path, which: Which) -> int:
    import pyarrow.parquet as pq

    counts = version.index(["num_captions"])["num_captions"].to_numpy()
    rows = len(counts) if which == "first" else int(counts.sum())
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir()
    parts, done = _parts(version, which), 0
    images, texts, table = first = next(parts)
    arrays = [
        open_memmap(folder / name / f"{name}_0.npy", "w+", np.float16, (rows, images.shape[1]))
        for name in ("img_emb", "text_emb")
    ]
    with pq.ParquetWriter(folder / "metadata" / "metadata_0.parquet", table.schema) as writer:
        for images, texts, table in itertools.chain([first], parts):
            arrays[0][done : done + len(images)], arrays[1][done : done + len(texts)] = images, texts
            writer.write_table(table)
            done += table.num_rows
    if done != rows:
        raise InputError(f"{version.ref}: sidecars have {done} rows, the index {rows}", fix="clipcurate verify")
    for array in arrays:
        array.flush()
    return rows


def _parts(
    version: DatasetVersion, which: Which
) -> Iterator[tuple[NDArray[np.float16], NDArray[np.float16], pa.Table]]:
    """Yield image rows, text rows and their metadata, shard by shard."""
    import pyarrow as pa

    for number in range(len(version.manifest.body["shards"])):
        table = version.sidecar(number, [*_PLAIN, "captions", "image_embedding", "text_embeddings"])
        table = table.combine_chunks()
        captions = table["captions"].to_pylist()
        kept = [1 if which == "first" else len(texts) for texts in captions]
        image = np.repeat(np.arange(table.num_rows), kept)
        # the index of each sample's first caption in the flat list of the shard's caption embeddings
        begins = np.cumsum([0, *(len(texts) for texts in captions[:-1])])
        inside = np.arange(len(image)) - np.repeat(np.cumsum([0, *kept[:-1]]), kept)
        images = _matrix(table["image_embedding"].combine_chunks(), table.num_rows)
        texts = _matrix(table["text_embeddings"].combine_chunks().flatten(), sum(map(len, captions)))
        columns: dict[str, Any] = {
            "image_path": table["key"].take(pa.array(image)),
            "caption": pa.array(
                [captions[row][number] for row, number in zip(image, inside, strict=True)], pa.string()
            ),
        }
        columns |= {name: table[name].take(pa.array(image)) for name in _PLAIN}
        columns["split"] = columns["split"].cast(pa.string())
        yield images[image], texts[begins[image] + inside], pa.table(columns)


def _matrix(column: pa.Array, rows: int) -> NDArray[np.float16]:
    flat: NDArray[np.float16] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(rows, -1)
