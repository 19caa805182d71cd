"""The section of a version's page that shows which pictures stand next to which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_manifests.manifest import DatasetVersion
from data_manifests.seeds import draw_seed
from data_manifests.sidecar_diff import read_payloads
from flows.pages.html import Html, join, tag
from flows.pages.thumbnails import Thumbnails

NUM_SAMPLES, MAX_NEIGHBOURS = 10, 8

_NEIGHBOURS = "image_neighbours"
_MAX_TEXT = 160


Rows = Mapping[str, list[Any]]
Sample = Mapping[str, Any]


def draw_neighbours(version: DatasetVersion, rows: Rows, seed: int) -> list[Sample]:
    """Return some samples that know their neighbours, as published; none if no stage found neighbours.

    Args:
        version: The version.
        rows: Columns uid, shard, json_offset and json_bytes of its index.
        seed: Picks the samples.

    Raises:
        InputError: a shard is missing, or does not hold what the index says.
    """
    if not _has(version, _NEIGHBOURS):
        return []
    import polars as pl

    total = len(rows["uid"])
    draw = np.random.default_rng(draw_seed(seed, "neighbours"))
    places = sorted(draw.choice(total, min(total, NUM_SAMPLES), replace=False).tolist())
    names = ("uid", "shard", "json_offset", "json_bytes")
    frame = pl.DataFrame({name: [rows[name][place] for place in places] for name in names})
    return list(read_payloads(version, frame).values())


def neighbour_uids(samples: Sequence[Sample]) -> list[str]:
    """Return the pictures that `neighbour_section` needs."""
    return [uid for sample in samples for uid in (sample["uid"], *(item["uid"] for item in _near(sample)))]


def neighbour_section(samples: Sequence[Sample], pictures: Thumbnails) -> Html:
    """Return each sample with its neighbours, nearest first; nothing when there are none."""
    if not samples:
        return Html("")
    told = f"{len(samples)} samples at random; each is followed by its neighbours, nearest first."
    parts = [tag("p", told, class_="soft")]
    for sample in samples:
        caption = _cut(sample["caption"])
        own = _pictured(sample["uid"], caption, tag("b", "sample"), pictures)
        near = [
            _pictured(item["uid"], f"neighbour {item['uid']}", f"{item['similarity']:.3f}", pictures)
            for item in _near(sample)
        ]
        parts.append(tag("h3", caption, dir="auto"))
        parts.append(tag("div", own, *near, class_="sheet near", role="group", aria_label=f"Neighbours: {caption}"))
    return join(parts)


def _near(sample: Sample) -> Sequence[Mapping[str, Any]]:
    listed = sorted(sample[_NEIGHBOURS], key=lambda item: (-item["similarity"], item["uid"]))
    return listed[:MAX_NEIGHBOURS]


def _pictured(uid: str, what: str, below: object, pictures: Thumbnails) -> Html:
    return tag("figure", pictures.picture(uid, what), tag("figcaption", below))


def _has(version: DatasetVersion, name: str) -> bool:
    return any(field["name"] == name for field in version.manifest.body["fields"])


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"
