"""Winoground: two images and two captions with the same words; which caption belongs to which image?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from data_manifests.errors import InputError
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.evaluate.small_files import read_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCORES = ("text_score", "image_score", "group_score")
CHANCE = {"text_score": 0.25, "image_score": 0.25, "group_score": 1 / 6}


@dataclass(frozen=True)
class WinogroundCase:
    """Two captions and two images; caption 0 is of image 0.

    Attributes:
        id: Unique name of the case.
        tag: Its kind (``Object``, ``Relation``, ``Both``), or empty.
        captions: Two texts.
        images: Names of two images.
    """

    id: str
    tag: str
    captions: tuple[str, str]
    images: tuple[str, str]


def read_winoground(path: Path) -> list[WinogroundCase]:
    """Read ``examples.jsonl``: id, caption_0, caption_1, image_0, image_1, and collapsed_tag or tag if there is one.

    Raises:
        InputError: the file is missing, or a line is not such a record.
    """
    found = []
    for number, line in read_lines(path):
        try:
            record = orjson.loads(line)
            texts = [record[name] for name in ("caption_0", "caption_1", "image_0", "image_1")]
            name, tag = record.get("id", number), record.get("collapsed_tag") or record.get("tag") or ""
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path.name} line {number}: {error!r}", allowed=read_winoground.__doc__ or "") from None
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise InputError(f"{path.name} line {number}: {texts!r}"[:300], allowed="two captions, two names of images")
        found.append(WinogroundCase(str(name), str(tag).replace(".", "_"), (texts[0], texts[1]), (texts[2], texts[3])))
    if len({case.id for case in found}) < len(found):
        raise InputError(f"{path.name}: two cases with the same id")
    return found


def winoground(
    cases: Sequence[WinogroundCase], image: NDArray[np.float32], text: NDArray[np.float32], num_listed: int
) -> BenchmarkResult:
    """Return text, image and group scores; ties count as wrong.

    There are no blind judges: each caption is the right one once, so they would score 0.

    Args:
        cases: The cases [n].
        image: Unit-norm embeddings of their images [n, 2, d].
        text: Unit-norm embeddings of their captions [n, 2, d].
        num_listed: Cases in the benchmark's file.

    Returns:
        Metrics `text_score`, `image_score`, `group_score`, `num_cases`, `num_listed`, `num_missing`, `chance`, and `tags`: the
        scores by tag.

    Source: Thrush et al. 2022 (Winoground), section 4, equations 1 to 3 (arXiv:2204.03162).

    Raises:
        InputError: no case.
    """
    if not cases:
        raise InputError("winoground: no case with both images", fix="check ?images=DIR")
    scores = (text.astype(np.float64)[:, :, None] * image.astype(np.float64)[:, None]).sum(axis=-1)  # [n, text, image]
    own, other = (scores[:, 0, 0], scores[:, 1, 1]), (scores[:, 1, 0], scores[:, 0, 1])
    by_text = (own[0] > other[0]) & (own[1] > other[1])
    by_image = (own[0] > other[1]) & (own[1] > other[0])
    hits = dict(zip(SCORES, (by_text, by_image, by_text & by_image), strict=True))
    tags: dict[str, Any] = {}
    items: dict[str, CaseValues] = {}
    kinds = np.array([case.tag for case in cases])
    groups = {"": np.arange(len(cases)), **{tag: np.flatnonzero(kinds == tag) for tag in sorted(set(kinds) - {""})}}
    for tag, rows in groups.items():
        ids = tuple(cases[row].id for row in rows.tolist())
        images = tuple(cases[row].images[0] for row in rows.tolist())
        for name, of_all in hits.items():
            items[f"tags.{tag}.{name}" if tag else name] = CaseValues(ids, images, of_all[rows].astype(np.float64))
        entry = {name: float(of_all[rows].mean()) for name, of_all in hits.items()}
        if tag:
            tags[tag] = {**entry, "num_cases": len(rows)}
        else:
            overall = entry
    counts = {"num_cases": len(cases), "num_listed": num_listed, "num_missing": num_listed - len(cases)}
    return BenchmarkResult({**overall, **counts, "chance": CHANCE, **({"tags": tags} if tags else {})}, items)
