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
from flows.pages import Html, tag

EDGE_PX = 160
_QUALITY = 74
_MAX_PIXELS = 64 * 2**20
_MAX_BYTES = 256 * 2**20


class Thumbnails:
    """Pictures of some samples of a version; a context manager.

    Args:
        version: Where they are.
        uids: Those that may be asked for; one that the version does not have is shown as missing.
    """

    def __init__(self, version: DatasetVersion, uids: Iterable[str]) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        index = version.index(["uid", "shard", "image_offset", "image_bytes"])
        wanted = pa.array(sorted(set(uids)), pa.string())
        rows = index.filter(pc.is_in(index["uid"], value_set=wanted)).to_pylist()
        self._places = {row["uid"]: (row["shard"], row["image_offset"], row["image_bytes"]) for row in rows}
        self._reader = ShardReader(version.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def picture(self, uid: str, alternative: str) -> Html:
        """Return an image element, at most `EDGE_PX` pixels wide and high.

        A picture that cannot be decoded is shown as a box that says so.

        Args:
            uid: The sample.
            alternative: What it shows, for those who cannot see it.

        Raises:
            InputError: its shard is missing or shorter than the index says.
        """
        if uid not in self._places or not 0 < self._places[uid][2] <= _MAX_BYTES:
            return tag("span", "no picture", class_="lost")
        small = _shrink(self._reader.read(*self._places[uid]))
        if small is None:
            return tag("span", "picture cannot be decoded", class_="lost")
        data, width, height = small
        address = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
        return tag("img", src=address, alt=alternative, width=width, height=height)


def _shrink(data: bytes) -> tuple[bytes, int, int] | None:
    """Return a small JPEG with its width and height, or None if the bytes are no picture that can be decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
                if image.width * image.height > _MAX_PIXELS:
                    return None
                image.draft("RGB", (2 * EDGE_PX, 2 * EDGE_PX))
                image.thumbnail((EDGE_PX, EDGE_PX))
                flat = Image.new("RGB", image.size, "white")
                flat.paste(image, mask=image.convert("RGBA").getchannel("A") if image.has_transparency_data else None)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    buffer = io.BytesIO()
    flat.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue(), flat.width, flat.height
