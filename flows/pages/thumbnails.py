"""Small pictures of samples as data URIs, read from the shards by byte range."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from data_manifests.manifest import DatasetVersion
from data_manifests.shards import ShardReader
from flows.pages.html import Html, tag

EDGE_PX = 128
_QUALITY = 55
_MAX_PIXELS = 64 * 2**20
_MAX_BYTES = 256 * 2**20


class Thumbnails:
    """Pictures of some samples of a version; a context manager.

    Args:
        version: Where they are.
        uids: Those that may be asked for; one that the version does not have is shown as missing.
        edge: Most pixels of a picture in width and height.
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
        """Return an image element; a picture that cannot be decoded is shown as a box that says so.

        Args:
            uid: The sample.
            alternative: What it shows, for those who cannot see it.

        Raises:
            InputError: its shard is missing or shorter than the index says.
        """
        if not self._known(uid):
            return tag("span", "no picture", class_="lost")
        small = self._small(uid)
        if small is None:
            return tag("span", "picture cannot be decoded", class_="lost")
        data, width, height = small
        return tag("img", src=_address(data), alt=alternative, width=width, height=height)

    def address(self, uid: str) -> str:
        """Return a picture as data URI; empty for one that is not there or cannot be decoded.

        Raises:
            InputError: its shard is missing or shorter than the index says.
        """
        small = self._small(uid) if self._known(uid) else None
        return _address(small[0]) if small else ""

    def _known(self, uid: str) -> bool:
        return uid in self._places and 0 < self._places[uid][2] <= _MAX_BYTES

    def _small(self, uid: str) -> tuple[bytes, int, int] | None:
        return _shrink(self._reader.read(*self._places[uid]), self._edge)


def _address(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def _shrink(data: bytes, edge: int = EDGE_PX) -> tuple[bytes, int, int] | None:
    """Return a small WebP with its width and height, or None if the bytes are no picture that can be decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
                if image.width * image.height > _MAX_PIXELS:
                    return None
                image.draft("RGB", (2 * edge, 2 * edge))
                image.thumbnail((edge, edge))
                flat = Image.new("RGB", image.size, "white")
                flat.paste(image, mask=image.convert("RGBA").getchannel("A") if image.has_transparency_data else None)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    buffer = io.BytesIO()
    flat.save(buffer, format="WEBP", quality=_QUALITY)
    return buffer.getvalue(), flat.width, flat.height
