"""Changed copies of photographs, made to be found again."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageOps

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def cropped(picture: Image.Image, draw: random.Random) -> Image.Image:
    """Return a window without up to a tenth of the width and of the height."""
    width, height = picture.size

    def ends(length: int) -> tuple[int, int]:
        cut = draw.uniform(0.02, 0.1)
        before = draw.uniform(0, cut)
        return round(before * length), round((1 - cut + before) * length)

    (left, right), (top, bottom) = ends(width), ends(height)
    return picture.crop((left, top, right, bottom))


def resized(picture: Image.Image, draw: random.Random) -> Image.Image:
    """Return it at 30 to 80 % of its size."""
    share = draw.uniform(0.3, 0.8)
    return picture.resize((round(picture.width * share), round(picture.height * share)), Image.Resampling.BICUBIC)


KINDS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "crop": cropped,
    "jpeg40": lambda picture, draw: picture,
    "resize": resized,
    "flip": lambda picture, draw: ImageOps.mirror(picture),
    "typo": lambda picture, draw: picture,
    "all": lambda picture, draw: resized(cropped(ImageOps.mirror(picture), draw), draw),
}


def changed(data: bytes, kind: str, draw: random.Random) -> bytes:
    """Return a picture's changed copy as JPEG: quality 40 for ``jpeg40`` and ``all``, else 92."""
    with Image.open(io.BytesIO(data)) as picture:
        made = KINDS[kind](picture.convert("RGB"), draw)
    buffer = io.BytesIO()
    made.save(buffer, format="JPEG", quality=40 if kind in ("jpeg40", "all") else 92)
    return buffer.getvalue()


def with_typo(caption: str, draw: random.Random) -> str:
    """Return a caption with one letter lost, doubled, exchanged for another, or swapped with the next."""
    places = [at for at, letter in enumerate(caption[:-1]) if letter.isalpha() and caption[at + 1].isalpha()]
    if not places:
        return caption + "s"
    at = draw.choice(places)
    middle = draw.choice(["", caption[at] * 2, draw.choice(LETTERS), caption[at + 1] + caption[at]])
    return caption[:at] + middle + caption[at + (2 if len(middle) == 2 and middle[0] == caption[at + 1] else 1) :]


def plant(folder: Path, originals: Sequence[tuple[str, bytes, Sequence[str]]], seed: int) -> dict[str, str]:
    """Write changed copies as a ``folder:`` source, the kinds in turn.

    Captions are the originals', with a slip in each for ``typo`` and ``all``.

    Args:
        folder: An empty folder.
        originals: (name, encoded picture, captions).
        seed: Of the changes.

    Returns:
        The kind of each copy by its file's name, ``KIND-NAME.jpg``.
    """
    kinds: dict[str, str] = {}
    lines = []
    for at, (name, data, captions) in enumerate(originals):
        kind = list(KINDS)[at % len(KINDS)]
        draw = random.Random(f"{seed} {name}")
        file = f"{kind}-{Path(name).stem}.jpg"
        (folder / file).write_bytes(changed(data, kind, draw))
        texts = [with_typo(text, draw) if kind in ("typo", "all") else text for text in captions]
        lines.append(json.dumps({"file_name": file, "captions": texts}))
        kinds[file] = kind
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return kinds
