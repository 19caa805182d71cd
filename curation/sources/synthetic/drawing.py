"""Images of scenes: every object is anti-aliased by supersampling, and has its own shade and tilt."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from curation.sources.synthetic.world import CANVAS_PX, pick

Colour = tuple[int, int, int]

_SCALE = 4  # objects are drawn this many times larger, then averaged down
_QUALITY = 92
_OUTLINE_PX = 1
_MAX_TILT_DEGREES = 9
_OBJECT_RGB: Mapping[str, Colour] = {
    "red": (214, 38, 40), "yellow": (252, 212, 40), "green": (40, 150, 60), "blue": (36, 84, 214),
    "purple": (128, 52, 176), "pink": (250, 128, 190), "brown": (124, 74, 36), "black": (26, 26, 28),
    "white": (248, 248, 246), "grey": (150, 151, 154),
}  # fmt: skip
_GROUND_RGB: Mapping[str, Colour] = {
    "red": (206, 92, 84), "yellow": (242, 222, 112), "green": (150, 206, 140), "blue": (132, 176, 234),
    "purple": (186, 150, 222), "pink": (250, 196, 212), "brown": (162, 124, 92), "black": (38, 38, 42),
    "white": (238, 238, 236), "grey": (182, 183, 186),
}  # fmt: skip
"""Paler than objects of the same colour name, so that all other objects stand out."""
_SKY_RGB: Colour = (150, 200, 244)
_LAND_RGB: Mapping[str, Colour] = {"meadow": (112, 178, 70), "desert": (232, 204, 136), "sea": (38, 112, 168)}


def draw_scene(scene: Mapping[str, Any], rng: np.random.Generator) -> bytes:
    """Return a JPEG of the scene, `CANVAS_PX` square, without chroma subsampling.

    What the scene does not specify (exact shade, tilt, direction of stripes, grain) is drawn from `rng`.
    """
    canvas = Image.fromarray(_background(scene["background"], rng))
    # Large objects first, so that an object inside a ring is on top of it.
    for item in sorted(scene["objects"], key=lambda item: item["box"][0] - item["box"][2]):
        _paint(canvas, item, rng)
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _paint(canvas: Image.Image, item: Mapping[str, Any], rng: np.random.Generator) -> None:
    """Draw one object: first its outline, then the fill over it."""
    x0, y0, x1, _ = item["box"]
    tilt = int(rng.integers(-_MAX_TILT_DEGREES, _MAX_TILT_DEGREES + 1))
    whole, inside = _masks(item["shape"], x1 - x0, tilt)
    shade = _shade(_OBJECT_RGB[item["colour"]], rng, spread=9)
    canvas.paste(_outline_of(shade), (x0, y0), whole)
    canvas.paste(_fill(item, shade, x1 - x0, rng), (x0, y0), inside)


@functools.lru_cache(maxsize=4096)
def _masks(shape: str, size_px: int, tilt: int) -> tuple[Image.Image, Image.Image]:
    """Return coverage masks of a shape with and without its outline, size_px square."""
    side = size_px * _SCALE
    whole, inside = (Image.new("L", (side, side)) for _ in range(2))
    width = _OUTLINE_PX * _SCALE
    if shape in ("circle", "ring"):
        for mask, inset in ((whole, 0), (inside, width)):
            draw = ImageDraw.Draw(mask)
            draw.ellipse((inset, inset, side - 1 - inset, side - 1 - inset), fill=255)
            if shape == "ring":
                hole = round(side * 0.19) - inset
                draw.ellipse((hole, hole, side - 1 - hole, side - 1 - hole), fill=0)
    else:
        corners = _corners(shape, side, tilt)
        ImageDraw.Draw(whole).polygon(corners, fill=255)
        inside = whole.copy()
        ImageDraw.Draw(inside).line([*corners, corners[0], corners[1]], fill=0, width=2 * width, joint="curve")
    return whole.reduce(_SCALE), inside.reduce(_SCALE)


def _corners(shape: str, side: int, tilt: int) -> list[tuple[int, int]]:
    """Return the polygon of a shape, turned by `tilt` degrees, in whole pixels of a side x side tile."""
    turn = math.radians(tilt)
    half = (side - 1) / 2
    points = []
    for x, y in _OUTLINES[shape]:
        across = x * math.cos(turn) - y * math.sin(turn)
        down = x * math.sin(turn) + y * math.cos(turn)
        points.append((round(half + half * across), round(half + half * down)))
    return points


def _fill(item: Mapping[str, Any], shade: Colour, size_px: int, rng: np.random.Generator) -> Image.Image:
    """Return the fill of an object as a square image: one shade, or two in the pattern of its texture."""
    fill = Image.new("RGB", (size_px, size_px), shade)
    direction = int(rng.integers(4))
    if item["texture"] != "plain":
        period = 8 if item["size"] == "large" else 6
        fill.paste(_second_shade(shade), (0, 0), _pattern(item["texture"], size_px, period, direction))
    return fill


@functools.lru_cache(maxsize=1024)
def _pattern(texture: str, size_px: int, period_px: int, direction: int) -> Image.Image:
    """Return the mask of the second shade: stripes in one of four directions, staggered dots, or a chessboard."""
    side, period = size_px * _SCALE, period_px * _SCALE
    # Measured from the centre, so that a pattern is symmetric.
    y, x = np.indices((side, side)) - side // 2
    if texture == "striped":
        along = (x, y, (x + y) * 5 // 7, (x - y) * 5 // 7)[direction]
        hit = (along + period // 4) % period < period // 2
    elif texture == "checked":
        hit = ((x // (period // 2 + 2)) + (y // (period // 2 + 2))) % 2 == 0
    else:
        row = (y + period // 2) // period
        across = (x + period // 2 + row % 2 * (period // 2)) % period - period // 2
        down = (y + period // 2) % period - period // 2
        hit = across**2 + down**2 < (0.31 * period) ** 2
    return Image.fromarray(np.where(hit, 255, 0).astype(np.uint8)).reduce(_SCALE)


def _background(background: Mapping[str, str], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return the background as uint8 [CANVAS_PX, CANVAS_PX, 3]."""
    side = CANVAS_PX
    if background["scenery"] in _LAND_RGB:
        horizon = int(rng.integers(round(side * 0.45), round(side * 0.65)))
        sky = np.array(_shade(_SKY_RGB, rng, spread=12)) + np.linspace(-10, 34, horizon)[:, None]
        land = (
            np.array(_shade(_LAND_RGB[background["scenery"]], rng, spread=12))
            + np.linspace(12, -20, side - horizon)[:, None]
        )
        picture = np.repeat(np.concatenate([sky, land])[:, None, :], side, axis=1)
        picture[horizon:] += rng.integers(-14, 15, size=(side - horizon, side, 1))
        return _to_bytes(picture)
    base = np.array(_shade(_GROUND_RGB[background["colour"]], rng, spread=9), dtype=np.float64)
    picture = np.tile(base, (side, side, 1))
    if background["texture"] == "shaded":
        ramp = np.linspace(-28, 28, side)[:: pick(rng, (1, -1))]
        picture += ramp[:, None, None] if rng.random() < 0.5 else ramp[None, :, None]
    elif background["texture"] == "grainy":
        picture += rng.integers(-30, 31, size=(side, side, 1))
    return _to_bytes(picture)


def _to_bytes(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    clipped: np.ndarray[Any, Any] = np.clip(picture, 0, 255).astype(np.uint8)
    return clipped


def _shade(colour: Colour, rng: np.random.Generator, spread: int) -> Colour:
    """Return a shade of the colour: lighter or darker, with hardly any change of hue (a tinted grey is not grey)."""
    lighter = int(rng.integers(-spread, spread + 1))
    tints = rng.integers(-4, 5, size=3)
    red, green, blue = (min(max(int(c + lighter + tint), 0), 255) for c, tint in zip(colour, tints, strict=True))
    return red, green, blue


def _mix(colour: Colour, other: int, share: float) -> Colour:
    red, green, blue = (round(c + (other - c) * share) for c in colour)
    return red, green, blue


def _light(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _second_shade(colour: Colour) -> Colour:
    """Return the other shade of a pattern: lighter, or darker where the colour itself is light.

    For black, grey and white the difference is small: otherwise a striped grey would look white or black.
    """
    light = _light(colour)
    if max(colour) - min(colour) <= 20:
        return _mix(colour, 255, 0.36) if light < 80 else _mix(colour, 0, 0.36 if light < 200 else 0.28)
    return _mix(colour, 0, 0.5) if light > 190 else _mix(colour, 255, 0.62)


def _outline_of(colour: Colour) -> Colour:
    return _mix(colour, 255, 0.45) if _light(colour) < 50 else _mix(colour, 0, 0.55)


def _star() -> list[tuple[float, float]]:
    turns = [(-math.pi / 2 + step * math.pi / 5, 1.0 if step % 2 == 0 else 0.45) for step in range(10)]
    return [(reach * math.cos(turn), reach * math.sin(turn)) for turn, reach in turns]


def _heart() -> list[tuple[float, float]]:
    steps = [step * 2 * math.pi / 60 for step in range(60)]
    return [
        (
            math.sin(t) ** 3 * 0.97,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16.5 - 0.14,
        )
        for t in steps
    ]


_ARM = 0.34  # half the width of a cross's arms
_OUTLINES: Mapping[str, list[tuple[float, float]]] = {
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": [(0.0, -0.93), (0.92, 0.72), (-0.92, 0.72)],
    "diamond": [(0.0, -0.99), (0.7, 0.0), (0.0, 0.99), (-0.7, 0.0)],
    "cross": [
        (-_ARM, -0.93), (_ARM, -0.93), (_ARM, -_ARM), (0.93, -_ARM), (0.93, _ARM), (_ARM, _ARM),
        (_ARM, 0.93), (-_ARM, 0.93), (-_ARM, _ARM), (-0.93, _ARM), (-0.93, -_ARM), (-_ARM, -_ARM),
    ],
    "star": _star(),
    "heart": _heart(),
}  # fmt: skip
"""Corners in a square from -1 to 1, y down."""
