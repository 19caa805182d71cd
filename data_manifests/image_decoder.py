"""The one decoder: from a stranger's bytes to the picture that people see, or to a named reason why there is none.

Checks, hashes, embeddings, training, evaluation and pages all decode here, so that a picture looks the same to each:
upright, transparent parts white, eight bits a channel, sRGB, the first frame. An ordinary photograph (an 8-bit RGB or grey
JPEG, PNG or WebP) has the pixels that ``Image.open(file).convert("RGB")`` gives it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform
    from PIL.ImageFile import ImageFile

DECODER_VERSION = 1
"""Increased whenever a picture may come out with other pixels; part of the identity of all that is computed from pixels."""

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""Pillow's name of a format -> the extension of the tar member. The first bytes decide; a phone's MPO is a JPEG."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".jfif", ".jpe")
"""Endings by which image files are found in a folder."""

REASONS = ("truncated_image", "unreadable_image", "too_many_pixels", "unsupported_format")
"""Why a picture cannot be used."""

MAX_PIXELS = 64 * 2**20
"""Most pixels of a picture, unless the caller says otherwise."""

_NO_IMAGES = {
    b"version https://git-lfs": " but a pointer of Git LFS: run git lfs pull where the files come from",
    b"<!doctype html": " but a web page: the download failed",
    b"<html": " but a web page: the download failed",
    b"<?xml": " but XML, perhaps SVG",
    b"<svg": " but SVG",
    b"{": " but JSON: the download failed",
    b"%pdf": " but PDF",
    b"pk\3\4": " but an archive: unzip it",
    b"\0\0\0\x0cjp  ": " but JPEG 2000",
    b"gif8": " but GIF",
    b"bm": " but BMP",
    b"ii*\0": " but TIFF, or a camera's raw file",
    b"mm\0*": " but TIFF, or a camera's raw file",
    b"ftyp": " but HEIC, AVIF or a film: convert it",
}
"""Beginnings, in small letters, of what often lies under an image's name -> what it is, for the reason."""

_SRGB_TOLERANCE = 2
"""A colour profile that moves no colour further than this, of 255, is taken for sRGB, and the pixels stay as they are."""

_JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
"""Markers of a frame: baseline, extended, progressive; all with Huffman coding."""

_JPEG_TABLES = (0xC4, 0xDB, 0xDD, 0xFE)
"""Markers of Huffman and quantisation tables, of the restart interval, and of comments."""

# what Pillow warns of (an odd EXIF block, an odd animation) is decided here and would be a line of noise for each picture
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnusableImageError(InputError):
    """A picture that cannot be used.

    Args:
        name: What the message calls it.
        reason: One of `REASONS`.
        detail: What was found, without paths: it is published with drops.
    """

    def __init__(self, name: str, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        if reason == "too_many_pixels":
            super().__init__(f"{name}: {detail}", fix="leave this image out; training: --set train.max_image_px=VALUE")
        else:
            allowed = f"a whole {', '.join(FORMATS)}"
            super().__init__(f"{name}: cannot decode the image: {detail}", allowed=allowed, fix="leave this image out")


@dataclass(frozen=True)
class ImageFacts:
    """What a picture is.

    Attributes:
        width: Its width in pixels, upright.
        height: Its height.
        extension: ``jpg``, ``png`` or ``webp``.
        shown_differently: Whether ``Image.open(file).convert("RGB")``, as other readers decode, shows other pixels: turned
            on its side, with colours that transparency hides, white instead of 16-bit grey, or in another colour space.
    """

    width: int
    height: int
    extension: str
    shown_differently: bool


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS, side_px: int = 0) -> Image:
    """Return a picture as people see it, in mode RGB.

    Args:
        data: The file.
        name: What messages call it.
        max_pixels: Most pixels, before any reduction.
        side_px: Decode a JPEG at the smallest of 1, 1/2, 1/4 and 1/8 that leaves both sides at least so long; 0 always
            decodes it whole.

    Raises:
        UnusableImageError: not a JPEG, PNG or WebP, damaged, cut off, or of more than `max_pixels` pixels.
    """
    return _Picture(data, name, max_pixels).shown(side_px)


def decode_grey(data: bytes, name: str, side_px: int) -> NDArray[Any]:
    """Return a picture in grey, uint8 [height, width]; see `decode_image`.

    An ordinary JPEG is decoded as its grey plane alone, at the smallest scale that leaves both sides at least `side_px`.
    """
    picture = _Picture(data, name, MAX_PIXELS)
    grey = picture.grey_plane(side_px)
    return np.asarray(picture.shown().convert("L") if grey is None else grey)


def examine_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode a picture whole and return what it is.

    Raises:
        UnusableImageError: see `decode_image`.
    """
    if (size := _size_of_sound_jpeg(data, max_pixels)) is not None:
        return ImageFacts(*size, FORMATS["JPEG"], shown_differently=False)
    picture = _Picture(data, name, max_pixels)
    shown = picture.shown()
    return ImageFacts(shown.width, shown.height, FORMATS[picture.format], picture.differs_from_plain(shown))


class _Picture:
    """A file of which the header is read, and nothing decoded yet."""

    def __init__(self, data: bytes, name: str, max_pixels: int) -> None:
        self._data, self._name = data, name
        with _refusing(name):
            self._file = _open(data, name)
            self.format = str(self._file.format)
            width, height = self._file.size
            if width * height > max_pixels:
                detail = f"{width}x{height}, at most {max_pixels} pixels"
                raise UnusableImageError(name, "too_many_pixels", detail)
            if not width * height:
                raise UnusableImageError(name, "unreadable_image", f"{width}x{height} pixels")
            self._stored_as = str(self._file.tile[0].args) if self.format == "PNG" else ""

    def shown(self, side_px: int = 0) -> Image:
        """Return the first frame as people see it: in sRGB, on white, upright."""
        with _refusing(self._name):
            if side_px:
                self._file.draft("RGB", (side_px, side_px))
            self._file.load()
            colours, alpha = self._colours_and_alpha()
            transform = self._to_srgb(colours.mode)
            if transform is not None:
                colours = transform.apply(colours)
            if colours.mode != "RGB":
                colours = colours.convert("RGB")
            if alpha is not None:
                colours.paste((255, 255, 255), mask=_inverted(alpha))
            return self._upright(colours)

    def grey_plane(self, side_px: int) -> Image | None:
        """Return an upright JPEG's grey plane, reduced; None where the picture as people see it may have another grey."""
        import simplejpeg
        from PIL import Image

        with _refusing(self._name):
            if self.format != "JPEG" or self._file.mode == "CMYK" or self._to_srgb(self._file.mode) is not None:
                return None
            try:
                grey = simplejpeg.decode_jpeg(
                    self._data, colorspace="GRAY", min_height=side_px, min_width=side_px, min_factor=1
                )
            except ValueError:  # it is stricter than Pillow, which decides what is damaged
                return None
            return self._upright(Image.fromarray(grey[:, :, 0]))

    def differs_from_plain(self, shown: Image) -> bool:
        """Return whether a plain conversion to RGB of the decoded picture shows other pixels."""
        from PIL import ImageChops

        if shown is self._file:
            return False
        # a palette with transparency would be converted with a warning, to the same colours
        plain = self._file.convert("RGBA").convert("RGB") if self._file.mode == "P" else self._file.convert("RGB")
        return plain.size != shown.size or ImageChops.difference(plain, shown).getbbox() is not None

    def _colours_and_alpha(self) -> tuple[Image, Image | None]:
        """Return the colours in mode L, RGB or CMYK, and how opaque each pixel is (mode L; None if all are)."""
        file, transparent = self._file, self._file.info.get("transparency")
        if file.mode == "I;16":  # a plain conversion cuts off everything brighter than 255 of 65,535
            values = np.asarray(file)
            alpha = None if transparent is None else _from_bytes(np.where(values == transparent, 0, 255))
            return _from_bytes(values >> 8), alpha
        if not file.has_transparency_data:
            return (
                file if file.mode in ("L", "RGB", "CMYK") else file.convert("L" if file.mode == "1" else "RGB")
            ), None
        if file.mode in ("L", "RGB"):
            file.info["transparency"] = self._transparent_colour(transparent)
        coloured = file.convert("RGBA")
        return coloured.convert("L" if file.mode in ("1", "L", "LA") else "RGB"), coloured.getchannel("A")

    def _transparent_colour(self, value: Any) -> Any:
        """Return a PNG's transparent colour in eight bits, as its pixels are decoded; Pillow keeps the file's number."""
        if isinstance(value, tuple):
            return tuple(part >> 8 if self._stored_as == "RGB;16B" else part & 255 for part in value)
        if self._stored_as in ("L;2", "L;4"):
            most = 3 if self._stored_as == "L;2" else 15
            return (value & most) * (255 // most)
        return value & 255

    def _to_srgb(self, mode: str) -> ImageCmsTransform | None:
        """Return the conversion that the picture's colour profile asks for; None if there is nothing to do."""
        profile = self._file.info.get("icc_profile")
        return _srgb_transform(profile, mode) if profile else None

    def _upright(self, image: Image) -> Image:
        """Return an image of this file turned as its EXIF block says; a block that cannot be read says nothing."""
        from PIL.ExifTags import Base
        from PIL.Image import Transpose

        turns = {
            2: Transpose.FLIP_LEFT_RIGHT,
            3: Transpose.ROTATE_180,
            4: Transpose.FLIP_TOP_BOTTOM,
            5: Transpose.TRANSPOSE,
            6: Transpose.ROTATE_270,
            7: Transpose.TRANSVERSE,
            8: Transpose.ROTATE_90,
        }
        try:
            turn = turns.get(self._file.getexif().get(Base.Orientation, 1))
        except Exception:  # noqa: BLE001 - as browsers do: the pixels are whole, only the note on how to hold them is not
            turn = None
        return image if turn is None else image.transpose(turn)


def _size_of_sound_jpeg(data: bytes, max_pixels: int) -> tuple[int, int] | None:
    """Return width and height of a JPEG without a fault in it, and without anything that could turn or recolour it.

    None says nothing: Pillow then decides. Most images of the web are of this kind, and are checked several times as fast.
    """
    import simplejpeg

    if (size := _size_of_plain_jpeg(data)) is None or not 0 < size[0] * size[1] <= max_pixels:
        return None
    try:
        # every coefficient is read, whatever planes are wanted; strict: what libjpeg only warns of is an error
        grey = simplejpeg.decode_jpeg(data, colorspace="GRAY", fastdct=True, strict=True)
    except ValueError:
        return None
    return size if grey.shape[:2] == size[::-1] else None


def _size_of_plain_jpeg(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG from its header; None if it has a segment that is not listed here, such as EXIF.

    Those are the JFIF block (or none), tables, one frame of eight bits with one or three channels, and comments.
    """
    size, place = None, 2
    while data[:2] == b"\xff\xd8" and place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xDA:
            return size
        if marker in _JPEG_FRAMES and size is None and length >= 11 and data[place + 4] == 8 and data[place + 9] in (1, 3):
            size = int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(data[place + 5 : place + 7], "big")
        elif marker not in _JPEG_TABLES and not (marker == 0xE0 and data[place + 4 : place + 8] == b"JFIF"):
            return None
        place += 2 + length
    return None


def _open(data: bytes, name: str) -> ImageFile:
    """Return a file opened by the class of its format.

    `Image.open` would add what is not wanted: another format for the same first bytes (MPO), and limits of its own.
    """
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    if data.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(BytesIO(data))
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile(BytesIO(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile(BytesIO(data))
    if not data:
        raise UnusableImageError(name, "unreadable_image", "the file is empty")
    start = data[:64].lstrip().lower()
    starts = (start, data[4:8])  # of ISO's media files, the first four bytes are a length
    what = next(
        (what for beginning, what in _NO_IMAGES.items() if any(one.startswith(beginning) for one in starts)), ""
    )
    raise UnusableImageError(name, "unsupported_format", f"not {', '.join(FORMATS)}{what}")


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn whatever a stranger's bytes make a parser raise into the reason why the picture cannot be used.

    Raises:
        UnusableImageError: the bytes cannot be decoded.
        InputError: too little memory. The picture's size is checked before, so it is not to blame, and must not be dropped.
    """
    from PIL import Image

    try:
        yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{name}: too little memory to decode it", fix="free memory, or use fewer workers") from None
    except Image.DecompressionBombError as error:
        raise UnusableImageError(name, "too_many_pixels", str(error)) from None
    except Exception as error:  # noqa: BLE001 - parsers of foreign bytes raise anything: KeyError, struct.error, ...
        detail = (isinstance(error, (OSError, SyntaxError, ValueError)) and str(error)) or repr(error)
        reason = "truncated_image" if "truncated" in detail.lower() else "unreadable_image"
        raise UnusableImageError(name, reason, detail) from None


def _from_bytes(values: NDArray[Any]) -> Image:
    from PIL import Image

    return Image.fromarray(values.astype(np.uint8))


def _inverted(alpha: Image) -> Image:
    from PIL import ImageChops

    return ImageChops.invert(alpha)


@functools.lru_cache(maxsize=4)
def _srgb_transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """Return the conversion of images of a mode (L, RGB, CMYK) from a colour profile to sRGB.

    None where the profile is damaged or is for another mode, or where it changes hardly anything: a profile that is sRGB in
    other words would otherwise change the last bits of most photographs.
    """
    from PIL import Image, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "CMYK":
            return transform
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        colours = np.stack(np.meshgrid(*[levels] * len(mode), indexing="ij"), axis=-1).reshape(1, -1, len(mode))
        changed = np.asarray(transform.apply(Image.fromarray(colours.squeeze(2) if mode == "L" else colours)))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    return transform if np.abs(changed.astype(int) - colours).max() > _SRGB_TOLERANCE else None
