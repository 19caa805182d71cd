"""The samples of a published version as Python objects, read when they are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import orjson

from data_manifests.errors import InputError
from data_manifests.image_decoder import decode_image
from data_manifests.manifest import DatasetVersion
from data_manifests.shards import ShardReader

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from PIL.Image import Image

Role = Literal["caption", "view", "negative"]

_PLACE = ("shard", "json_offset", "json_bytes", "image_offset", "image_bytes")


@dataclass(frozen=True)
class SampleText:
    """A text of a sample.

    Attributes:
        uid: The sample.
        role: ``caption`` (from the source), ``view`` (another true text) or ``negative`` (false of the picture).
        text: The text.
        caption: Number of the caption that it is or was made from.
        caption_text: That caption.
        kind: A view's kind, such as ``rewrite``; a negative's type, such as ``attribute``; empty for a caption.
        record: Everything published of a view or negative: rule, source (the stage), difficulty, edits, scores; empty for a caption.
    """

    uid: str
    role: Role
    text: str
    caption: int
    caption_text: str
    kind: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class PublishedSample:
    """One sample of a version. Its texts are in memory; its picture is read and decoded each time it is asked for.

    Attributes:
        uid: BLAKE3-128 of the picture's bytes.
        key: Name of its members in the shard.
        name: Name in the source.
        split: ``train``, ``dev``, ``test`` or None.
        captions: The texts from the source.
        fields: Everything published of it, as in its JSON: also what stages added, such as ``cluster_id``.
    """

    uid: str
    key: str
    name: str
    split: str | None
    captions: tuple[str, ...]
    fields: Mapping[str, Any]
    _samples: PublishedSamples
    _place: tuple[int, int, int]

    @property
    def image_bytes(self) -> bytes:
        """The picture's original bytes.

        Raises:
            InputError: the shard is missing or too short.
        """
        return self._samples.read_bytes(*self._place)

    @property
    def image(self) -> Image:
        """The picture as people see it, in mode RGB: upright, on white, in sRGB.

        Raises:
            InputError: the shard is missing, or the bytes cannot be decoded.
        """
        return decode_image(self.image_bytes, f"sample {self.uid} ({self.name})")

    @property
    def views(self) -> tuple[SampleText, ...]:
        """Other true texts: rewrites, captions with added knowledge."""
        return tuple(self._made("view", record, "kind") for record in self.fields.get("views", ()))

    @property
    def negatives(self) -> tuple[SampleText, ...]:
        """Texts that are false of the picture."""
        return tuple(self._made("negative", record, "type") for record in self.fields["negatives"])

    @property
    def texts(self) -> tuple[SampleText, ...]:
        """Captions, views and negatives."""
        own = (SampleText(self.uid, "caption", text, at, text, "", {}) for at, text in enumerate(self.captions))
        return (*own, *self.views, *self.negatives)

    def _made(self, role: Role, record: Mapping[str, Any], kind: str) -> SampleText:
        return sample_text(self.uid, self.captions, role, record, record[kind])


class PublishedSamples(Sequence[PublishedSample]):
    """The samples of a version, in the order of its shards; each is read when it is asked for, by position or uid.

    Can be pickled, and read by many processes and threads at once.
    """

    def __init__(self, dataset: DatasetVersion, rows: NDArray[np.int64] | None = None) -> None:
        self._dataset, self._rows = dataset, rows

    def __len__(self) -> int:
        return self._dataset.manifest.num_samples if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, at: int | str) -> PublishedSample: ...
    @overload
    def __getitem__(self, at: slice) -> PublishedSamples: ...
    def __getitem__(self, at: int | str | slice) -> PublishedSample | PublishedSamples:
        """Return the sample at a position or with a uid, or the samples of a slice.

        Raises:
            IndexError: no such position.
            InputError: no such uid here, or a shard cannot be read.
        """
        import numpy as np

        if isinstance(at, slice):
            rows = np.arange(self._dataset.manifest.num_samples) if self._rows is None else self._rows
            return PublishedSamples(self._dataset, rows[at])
        if isinstance(at, str):
            return self._read(self._row_of(at))
        if not -len(self) <= at < len(self):
            raise IndexError(f"sample {at} of {len(self)}")
        at %= len(self)
        return self._read(at if self._rows is None else int(self._rows[at]))

    def of_split(self, split: str) -> PublishedSamples:
        """Return the samples of a split.

        Raises:
            InputError: there are none.
        """
        import numpy as np

        found = self._index["split"].to_pylist()
        rows = range(len(found)) if self._rows is None else self._rows.tolist()
        chosen = [row for row in rows if found[row] == split]
        if not chosen:
            there = sorted({str(found[row]) for row in rows})
            raise InputError(f"{self._dataset.ref}: no samples of split {split!r}", allowed=", ".join(there))
        return PublishedSamples(self._dataset, np.array(chosen, dtype=np.int64))

    def read_bytes(self, shard: int, offset: int, num_bytes: int) -> bytes:
        """Return bytes of a shard, which is checked against the manifest when it is first read.

        Raises:
            InputError: the shard is missing or damaged.
        """
        return self._reader.read(shard, offset, num_bytes)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files and the index behind: each process has its own."""
        return {"_dataset": self._dataset, "_rows": self._rows}

    @cached_property
    def _index(self) -> pa.Table:
        return self._dataset.index(["uid", "key", "split", *_PLACE])

    @cached_property
    def _row_by_uid(self) -> dict[str, int]:
        uids = self._index["uid"].to_pylist()
        rows = range(len(uids)) if self._rows is None else self._rows.tolist()
        return {uids[row]: row for row in rows}

    @cached_property
    def _reader(self) -> ShardReader:
        return ShardReader(self._dataset.folder, self._dataset.records)

    def _row_of(self, uid: str) -> int:
        if uid not in self._row_by_uid:
            raise InputError(f"{self._dataset.ref}: no sample with uid {uid!r} here", allowed="a uid of index.parquet")
        return self._row_by_uid[uid]

    def _read(self, row: int) -> PublishedSample:
        place = {name: self._index[name][row].as_py() for name in ("key", "split", *_PLACE)}
        fields = orjson.loads(self.read_bytes(place["shard"], place["json_offset"], place["json_bytes"]))
        image = (place["shard"], place["image_offset"], place["image_bytes"])
        about = (fields["uid"], place["key"], fields["name"], place["split"], tuple(fields["captions"]))
        return PublishedSample(*about, fields, self, image)


def first_caption(sample: PublishedSample) -> str:
    """Return a sample's first caption."""
    return sample.captions[0]


def sample_text(
    uid: str, captions: Sequence[str], role: Role, record: Mapping[str, Any], kind: str | None
) -> SampleText:
    """Return a view or negative as published."""
    return SampleText(uid, role, record["text"], record["caption"], captions[record["caption"]], kind or "", record)
