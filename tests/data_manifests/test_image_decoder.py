"""The one decoder: the picture that people see, against a reference made by hand with Pillow, or a named reason."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from data_manifests import image_decoder
from data_manifests.errors import InputError
from data_manifests.image_decoder import (
    MAX_PIXELS,
    REASONS,
    ImageFacts,
    UnusableImageError,
    decode_grey,
    decode_image,
    examine_image,
)

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")
"""As outside of tests, where the decoder's own filter holds."""

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MODES = ("1", "L", "LA", "P", "P one colour", "P alphas", "RGB", "RGB one colour", "RGBA", "I;16", "I;16 one colour")


def noise(size: tuple[int, int], channels: int, seed: int) -> np.ndarray[Any, Any]:
    """Few levels, so that single colours occur more than once."""
    return np.random.default_rng(seed).integers(0, 6, (size[1], size[0], channels), dtype=np.uint8) * 51


def encoded(image: Image.Image, kind: str, orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(file := io.BytesIO(), kind, exif=exif, **options)
    return file.getvalue()


def on_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return flat


def png_and_reference(mode: str, size: tuple[int, int], seed: int) -> tuple[Image.Image, dict[str, Any], Image.Image]:
    """Return an image to save as PNG, options of that, and what must be seen."""
    base, pixels = mode.split(maxsplit=1)[0], noise(size, 4, seed)
    rgba, first = Image.fromarray(pixels), pixels[0, 0]
    if base == "I;16":
        values = pixels[:, :, 0].astype(np.uint16) * 256 + 7
        grey = Image.fromarray(pixels[:, :, 0]).convert("RGB")
        if "one" not in mode:
            return Image.fromarray(values), {}, grey
        grey.paste("white", mask=Image.fromarray(((values == values[0, 0]) * 255).astype(np.uint8)))
        return Image.fromarray(values), {"transparency": int(values[0, 0])}, grey
    if base == "P":
        image = rgba.convert("RGB").quantize(16)
        if mode == "P":
            return image, {}, image.convert("RGB")
        alphas = bytes(range(0, 256, 16)) if "alphas" in mode else b"\xff" * image.getpixel((0, 0)) + b"\0"
        seen = image.copy()
        seen.info["transparency"] = alphas
        return image, {"transparency": alphas}, on_white(seen.convert("RGBA"))
    if mode == "RGB one colour":
        alpha = np.where((pixels[:, :, :3] == first[:3]).all(axis=2), 0, 255).astype(np.uint8)
        rgba.putalpha(Image.fromarray(alpha))
        return rgba.convert("RGB"), {"transparency": tuple(map(int, first[:3]))}, on_white(rgba)
    image = rgba.convert(base)
    return image, {}, on_white(image.convert("RGBA")) if base in ("LA", "RGBA") else image.convert("RGB")


def upright(image: Image.Image, orientation: int) -> Image.Image:
    image.getexif()[0x0112] = orientation
    turned = ImageOps.exif_transpose(image)
    assert turned is not None
    return turned


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode == "RGB" and one.size == other.size and one.tobytes() == other.tobytes()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(MODES), SIZES, st.integers(1, 8), st.integers(0, 99))
def test_a_png_of_any_mode_is_seen_as_people_see_it(
    mode: str, size: tuple[int, int], orientation: int, seed: int
) -> None:
    image, options, reference = png_and_reference(mode, size, seed)
    data = encoded(image, "PNG", orientation, **options)
    seen = upright(reference, orientation)
    assert same(decode_image(data, "it"), seen)
    assert np.array_equal(decode_grey(data, "it", 128), np.asarray(seen.convert("L")))
    facts = examine_image(data, "it")
    assert (facts.width, facts.height, facts.extension) == (*seen.size, "png")
    with Image.open(io.BytesIO(data)) as file:
        assert facts.shown_differently == (not same(file.convert("RGB"), seen))


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([("JPEG", "jpg"), ("MPO", "jpg"), ("PNG", "png"), ("WEBP", "webp")]),
    st.sampled_from(["L", "RGB", "RGBA", "CMYK"]),
    SIZES,
    st.integers(1, 8),
)
def test_every_format_is_seen_upright_and_by_its_first_frame(
    kind: tuple[str, str], mode: str, size: tuple[int, int], orientation: int
) -> None:
    unfit = {"jpg": ("RGBA",), "png": ("CMYK",), "webp": ("L", "CMYK")}[kind[1]]
    image = Image.fromarray(noise(size, 4, 1)).convert("RGB" if mode in unfit else mode)
    second = {} if kind[0] == "JPEG" else {"save_all": True, "append_images": [Image.new(image.mode, image.size)]}
    data = encoded(image, kind[0], orientation, **second, **({"lossless": True} if kind[1] == "webp" else {}))
    with Image.open(io.BytesIO(data)) as file:
        first = on_white(file.convert("RGBA")) if image.mode == "RGBA" else file.convert("RGB")
    seen = upright(first, orientation)
    assert same(decode_image(data, "it"), seen)
    assert examine_image(data, "it").extension == kind[1]
    assert decode_grey(data, "it", 128).shape == seen.size[::-1]


def test_a_jpeg_is_decoded_reduced_where_that_is_asked_for() -> None:
    data = encoded(Image.fromarray(noise((400, 320), 3, 2)), "JPEG", 6)
    assert decode_image(data, "it", side_px=75).size == (80, 100)
    assert decode_grey(data, "it", 75).shape == (100, 80)


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "MPO"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
    st.booleans(),
)
@example("JPEG", [], 0.3, False)
@example("PNG", [], 0.0, False)
def test_damaged_bytes_are_a_picture_or_a_named_reason(
    kind: str, changes: list[tuple[float, int]], end: float, whole: bool
) -> None:
    image = Image.fromarray(noise((16, 9), 3, 3))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    second = {"save_all": True, "append_images": [image]} if kind in ("WEBP", "MPO") else {}
    data = bytearray(encoded(image, kind, 6, icc_profile=profile, **second))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    given_bytes = bytes(data if whole else data[: int(end * len(data))])
    for decode in (decode_image, examine_image, lambda data, name: decode_grey(data, name, 128)):
        refused = None
        try:
            decode(given_bytes, "picture 7")
        except UnusableImageError as error:
            refused = error
        assert refused is None or (refused.reason in REASONS and refused.detail and "picture 7" in str(refused))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "row", "key", "seen"),
    [
        (1, b"\x40", 1, [0, 255, 0, 0]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (4, b"\x01\x23", 2, [0, 17, 255, 51]),
        (8, b"\0\1\2\3", 2, [0, 1, 255, 3]),
        (16, b"\0\0\1\0\1\1\2\0", 256, [0, 255, 1, 2]),
    ],
)
def test_a_transparent_grey_is_found_at_any_depth(depth: int, row: bytes, key: int, seen: list[int]) -> None:
    data = png(4, 1, depth, 0, b"\0" + row, chunk(b"tRNS", struct.pack(">H", key)))
    assert np.asarray(decode_image(data, "it"))[0, :, 0].tolist() == seen


def test_sixteen_bits_a_channel_keep_the_upper_eight() -> None:
    pixels = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x2000, 0x4000, 0x6000)
    data = png(2, 1, 16, 2, b"\0" + pixels, chunk(b"tRNS", struct.pack(">3H", 0x2000, 0x4000, 0x6000)))
    assert np.asarray(decode_image(data, "it")).tolist() == [[[0x12, 0x56, 0x9A], [255, 255, 255]]]


def swapped_profile() -> bytes:
    """An sRGB profile whose red and green have changed places."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = [data.index(name) for name in (b"rXYZ", b"gXYZ")]
    red, green = (data[place + 4 : place + 12] for place in places)
    data[places[0] + 4 : places[0] + 12], data[places[1] + 4 : places[1] + 12] = green, red
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_colour_profile_is_converted_to_srgb_unless_it_is_srgb_or_damaged(kind: str) -> None:
    image = Image.fromarray(noise((16, 9), 3, 3))
    srgb = ImageCms.createProfile("sRGB")
    own = ImageCms.ImageCmsProfile(srgb).tobytes()
    for profile, changed in ((own, False), (own[:90], False), (b"no profile", False), (swapped_profile(), True)):
        data = encoded(image, kind, icc_profile=profile)
        with Image.open(io.BytesIO(data)) as file:
            plain = file.convert("RGB")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile if changed else own))
        seen = ImageCms.profileToProfile(plain, source, srgb, outputMode="RGB") if changed else plain
        assert same(decode_image(data, "it"), seen)
        assert not same(seen, plain) == changed == examine_image(data, "it").shown_differently
        assert decode_grey(data, "it", 128).tobytes() == seen.convert("L").tobytes() or kind == "JPEG"


def grey_profile(gamma: float) -> bytes:
    """The least that is a profile of grey pictures: a white point and a curve."""
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 14)
    body = tags + b"XYZ \0\0\0\0" + white + b"curv" + struct.pack(">IIHH", 0, 1, round(gamma * 256), 0)
    head = struct.pack(">I4sI", 128 + len(body), b"lcms", 0x02400000) + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    return (head + bytes(28) + white).ljust(128, b"\0") + body


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_profile_of_grey_pictures_is_converted_to_srgb(mode: str) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    light = (grey / 255) ** 1.8
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    found = np.asarray(decode_image(encoded(image, "PNG", icc_profile=grey_profile(1.8)), "it")).astype(float)
    assert np.abs(found - expected[:, :, None]).max() < 2 < np.abs(expected - grey).max()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(2**31 - 1, 1, 8, 0, b"\0"), "too_many_pixels"),
        (png(65000, 65000, 8, 6, b"\0"), "too_many_pixels"),
        (png(9, 9, 8, 0, b"\0"), "truncated_image"),
        (png(9, 9, 8, 0, b"\0" * 90, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**21)))), "unreadable_image"),
        (b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff", "too_many_pixels"),
        (b"\xff\xd8\xff\xe0", "unreadable_image"),
        (b"", "unreadable_image"),
        (b"<html>not found</html>", "unsupported_format"),
    ],
)
def test_bytes_that_are_no_picture_have_a_named_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnusableImageError) as caught:
        examine_image(data, "picture 7")
    assert caught.value.reason == reason
    assert "picture 7" in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_too_little_memory_is_no_reason_to_drop_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("data_manifests.image_decoder._open", fail)
    with pytest.raises(InputError, match="picture 7: too little memory") as caught:
        decode_image(b"", "picture 7")
    assert not isinstance(caught.value, UnusableImageError)


def plain_jpeg(size: tuple[int, int], seed: int, mode: str = "RGB", **options: Any) -> bytes:
    image = Image.fromarray(noise(size, 3, seed)).convert(mode)
    image.save(file := io.BytesIO(), "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes, max_pixels: int) -> ImageFacts | tuple[str, str]:
    """Return what `examine_image` finds where it may not take the short way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_decoder, "_size_of_sound_jpeg", lambda *_: None)
        return found_in(data, max_pixels)


def found_in(data: bytes, max_pixels: int) -> ImageFacts | tuple[str, str]:
    try:
        return examine_image(data, "x", max_pixels)
    except UnusableImageError as error:
        return error.reason, error.detail


@settings(max_examples=150, deadline=None)
@given(
    size=SIZES,
    seed=st.integers(0, 5),
    mode=st.sampled_from(["RGB", "L"]),
    options=st.fixed_dictionaries({"progressive": st.booleans(), "quality": st.sampled_from([40, 95]), "restart_marker_blocks": st.sampled_from([0, 2])}),
    cut=st.none() | st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
    max_pixels=st.sampled_from([64, 2**26]),
)  # fmt: skip
def test_the_short_way_for_plain_jpegs_finds_what_pillow_finds(
    *, size: tuple[int, int], seed: int, mode: str, options: Any, cut: float | None, changes: Any, max_pixels: int
) -> None:
    data = bytearray(plain_jpeg(size, seed, mode, **options))
    for place, value in changes:
        data[int(place * len(data))] = value
    data = data[: int(cut * len(data))] if cut is not None else data
    assert found_in(bytes(data), max_pixels) == by_pillow(bytes(data), max_pixels)


def test_the_short_way_is_for_jpegs_that_nothing_turns_or_recolours() -> None:
    def is_short(data: bytes, max_pixels: int = MAX_PIXELS) -> bool:
        return image_decoder._size_of_sound_jpeg(data, max_pixels) is not None

    exif = Image.Exif()
    exif[0x0112] = 1
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert is_short(plain_jpeg((9, 7), 0)) and is_short(plain_jpeg((9, 7), 0, "L", progressive=True, comment="by hand"))
    assert not is_short(plain_jpeg((9, 7), 0), 62)
    for options in ({"exif": exif}, {"icc_profile": profile}):
        assert not is_short(plain_jpeg((9, 7), 0, **options))
    assert not is_short(plain_jpeg((9, 7), 0, "CMYK"))
    assert not is_short(plain_jpeg((9, 7), 0)[:-9]) and not is_short(b"\xff\xd8\xff") and not is_short(b"")
