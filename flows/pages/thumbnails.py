"""Thumbnails of samples as data URIs, read from the shards by byte range."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from data_manifests.image_decoder import UnusableImageError, decode_image
from data_manifests.manifest import DatasetVersion
from data_manifests.shards import ShardReader
from flows.pages.html import Html, no_picture, tag

if TYPE_CHECKING:
    from PIL import Image

EDGE_PX = 128
_QUALITY = 55
MAX_BYTES = 256 * 2**20


class Thumbnails:
    """Thumbnails of some samples of a version; a context manager.

    Args:
        version: The version.
        uids: Samples whose pictures will be needed; one that the version lacks is shown as missing.
        edge: Largest width and height in pixels.
    """

    def __init__(self, version: DatasetVersion, uids: Iterable[str], edge: int = EDGE_PX) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        index = version.index(["uid", "shard", "image_offset", "image_bytes"])
        wanted = pa.array(sorted(set(uids)), pa.string())
        rows = index.filter(pc.is_in(index["uid"], value_set=wanted)).to_pylist()
        self._places = {row["uid"]: (row["shard"], row["image_offset"], row["image_bytes"]) for row in rows}
        self._reader, self._edge = ShardReader(version.folder), edge

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def picture(self, uid: str, alternative: str) -> Html:
        """Return an image element; a box with the reason for a picture that is missing or cannot be decoded.

        Args:
            uid: The sample.
            alternative: Description for screen readers.

        Raises:
            InputError: its shard is missing or shorter than the index says.
        """
        if not self._has(uid):
            return no_picture()
        small = self._small(uid)
        if small is None:
            return no_picture("picture cannot be decoded")
        data, width, height = small
        return tag("img", src=_address(data), alt=alternative, width=width, height=height)

    def address(self, uid: str) -> str:
        """Return a picture as data URI; empty for one that is missing or cannot be decoded.

        Raises:
            InputError: its shard is missing or shorter than the index says.
        """
        small = self._small(uid) if self._has(uid) else None
        return _address(small[0]) if small else ""

    def _has(self, uid: str) -> bool:
        return uid in self._places and 0 < self._places[uid][2] <= MAX_BYTES

    def _small(self, uid: str) -> tuple[bytes, int, int] | None:
        return shrink(self._reader.read(*self._places[uid]), self._edge)


def thumbnail(image: Image.Image, alternative: str) -> Html:
    """Return a decoded picture, which is made small, as an image element."""
    data, width, height = _encode(image, EDGE_PX)
    return tag("img", src=_address(data), alt=alternative, width=width, height=height)


def _address(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def shrink(data: bytes, edge: int) -> tuple[bytes, int, int] | None:
    """Return a small WebP with its width and height, or None if the bytes cannot be decoded."""
    try:
        image = decode_image(data, "picture", side_px=2 * edge)
    except UnusableImageError:
        return None
    return _encode(image, edge)


def _encode(image: Image.Image, edge: int) -> tuple[bytes, int, int]:
    image.thumbnail((edge, edge))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=_QUALITY)
    return buffer.getvalue(), image.width, image.height
