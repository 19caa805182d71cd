"""The section of a version's page with samples and their nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_manifests.manifest import DatasetVersion
from data_manifests.seeds import draw_seed
from data_manifests.sidecar_diff import Payload
from flows.pages.glossary import word
from flows.pages.html import Html, captioned, join, note, shorten, tag
from flows.pages.index_rows import IndexRows, read_rows
from flows.pages.thumbnails import Thumbnails

NUM_SAMPLES, MAX_NEIGHBOURS = 10, 8

_NEIGHBOURS = "image_neighbours"
_MAX_CHARS = 160


def draw_neighbours(version: DatasetVersion, rows: IndexRows, seed: int) -> list[Payload]:
    """Return some samples with their neighbours, as published; none if no stage found neighbours.

    Args:
        version: The version.
        rows: Columns uid, shard, json_offset and json_bytes of its index.
        seed: Picks the samples.

    Raises:
        InputError: a shard is missing, or does not hold what the index says.
    """
    if _NEIGHBOURS not in {field["name"] for field in version.manifest.body["fields"]}:
        return []
    total = len(rows["uid"])
    draw = np.random.default_rng(draw_seed(seed, "neighbours"))
    numbers = sorted(draw.choice(total, min(total, NUM_SAMPLES), replace=False).tolist())
    return read_rows(version, rows, numbers)


def neighbour_uids(samples: Sequence[Payload]) -> list[str]:
    """Return the uids whose pictures `neighbour_section` shows."""
    return [uid for sample in samples for uid in (sample["uid"], *(item["uid"] for item in _near(sample)))]


def neighbour_section(samples: Sequence[Payload], pictures: Thumbnails) -> Html:
    """Return each sample with its neighbours, nearest first; nothing if there are none."""
    if not samples:
        return Html("")
    remark = f"{len(samples)} samples at random; each is followed by its "
    parts = [note(remark, word("neighbours"), ", nearest first, with their ", word("similarity"), ".")]
    for sample in samples:
        caption = shorten(sample["caption"], _MAX_CHARS)
        own = captioned(pictures.picture(sample["uid"], caption), tag("b", "sample"))
        near = [
            captioned(pictures.picture(item["uid"], "a neighbour"), f"{item['similarity']:.3f}")
            for item in _near(sample)
        ]
        parts.append(tag("h3", caption, dir="auto"))
        parts.append(tag("div", own, *near, class_="sheet near", role="group", aria_label=f"Neighbours: {caption}"))
    return join(parts)


def _near(sample: Payload) -> Sequence[Mapping[str, Any]]:
    listed = sorted(sample[_NEIGHBOURS], key=lambda item: (-item["similarity"], item["uid"]))
    return listed[:MAX_NEIGHBOURS]
