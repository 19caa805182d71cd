"""Decodes untrusted images, with limits."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP")


def decode_image(data: bytes, name: str, max_px: int, side_px: int = 0) -> Image.Image:
    """Return an RGB image.

    Args:
        data: The file.
        name: What messages call it.
        max_px: Most pixels, before any reduction.
        side_px: Decode a JPEG at the smallest of 1, 1/2, 1/4 and 1/8 that leaves both sides at least so long; 0 always
            decodes it whole.

    Raises:
        InputError: not a JPEG, PNG or WebP, damaged, cut off, or of more than `max_px` pixels.
    """
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_px:
                raise InputError(
                    f"{name}: {image.width} x {image.height} pixels",
                    allowed=f"at most {max_px} pixels",
                    fix="--set train.max_image_px=VALUE, or curate without this image",
                )
            if side_px:
                image.draft("RGB", (side_px, side_px))
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{name}: cannot decode the image: {error}", allowed=", ".join(FORMATS), fix="run clipcurate verify"
        ) from None
