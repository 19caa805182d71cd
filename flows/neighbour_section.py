"""The sections of a version's page that show which pictures stand next to which: neighbours and near-duplicates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.stage import draw_seed
from data_manifests.manifest import DatasetVersion
from data_manifests.sidecar_diff import read_payloads
from flows.pages import Html, join, table, tag
from flows.thumbnails import Thumbnails

NUM_SAMPLES, MAX_NEIGHBOURS = 10, 8
NUM_GROUPS, GROUP_PICTURES, NUM_DROPPED = 10, 6, 30

_NEIGHBOURS, _GROUP = "image_neighbours", "duplicate_group"
_REASONS = ("near_duplicate", "leak")
"""Why a sample was dropped that is too much like another one."""

_UID = re.compile(r"\b[0-9a-f]{32}\b")
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
        parts.append(tag("div", own, *near, class_="sheet", role="group", aria_label=f"Neighbours: {caption}"))
    return join(parts)


def _near(sample: Sample) -> Sequence[Mapping[str, Any]]:
    listed = sorted(sample[_NEIGHBOURS], key=lambda item: (-item["similarity"], item["uid"]))
    return listed[:MAX_NEIGHBOURS]


@dataclass(frozen=True)
class Duplicates:
    """Pictures that are nearly the same.

    Attributes:
        groups: Some groups of samples that stayed: number of members, and uids of those shown.
        num_groups: How many there are.
        dropped: Some that were dropped: (name, by, reason, detail).
        num_dropped: How many there are.
    """

    groups: Sequence[tuple[int, Sequence[str]]]
    num_groups: int
    dropped: Sequence[tuple[str, str, str, str]]
    num_dropped: int

    @property
    def uids(self) -> list[str]:
        """The pictures that are needed."""
        named = [uid for row in self.dropped for uid in _UID.findall(row[3])[:1]]
        return [uid for _, uids in self.groups for uid in uids] + named


def draw_duplicates(version: DatasetVersion, seed: int) -> Duplicates:
    """Choose groups of near-duplicates that stayed, and samples that were dropped as near-duplicates or leaks.

    Raises:
        InputError: a sidecar or the list of drops is missing.
    """
    groups = _groups(version)
    many = sorted((sorted(uids) for uids in groups.values() if len(uids) > 1), key=lambda uids: (-len(uids), uids))
    dropped = _dropped(version)
    draw = np.random.default_rng(draw_seed(seed, "duplicates"))
    chosen = sorted(draw.choice(len(many), min(len(many), NUM_GROUPS), replace=False).tolist()) if many else []
    lost = sorted(draw.choice(len(dropped), min(len(dropped), NUM_DROPPED), replace=False).tolist()) if dropped else []
    shown = [(len(many[place]), many[place][:GROUP_PICTURES]) for place in chosen]
    return Duplicates(shown, len(many), [dropped[place] for place in lost], len(dropped))


def _groups(version: DatasetVersion) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if _has(version, _GROUP):
        for shard in range(len(version.manifest.body["shards"])):
            columns = version.sidecar(shard, ["uid", _GROUP])
            for uid, group in zip(columns["uid"].to_pylist(), columns[_GROUP].to_pylist(), strict=True):
                if group:
                    found.setdefault(group, []).append(uid)
    return found


def _dropped(version: DatasetVersion) -> list[tuple[str, str, str, str]]:
    dropped = version.manifest.body["counts"]["dropped"]
    if not any(reason in reasons for reasons in dropped.values() for reason in _REASONS):
        return []
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = pq.read_table(version.folder / "dropped.parquet", columns=["name", "stage", "reason", "detail"])
    kept = rows.filter(pc.is_in(rows["reason"], value_set=pa.array(_REASONS))).to_pylist()
    return [(row["name"], row["stage"], row["reason"], row["detail"]) for row in kept]


def duplicate_section(found: Duplicates, pictures: Thumbnails) -> Html:
    """Return contact sheets of groups that stayed, and what was dropped beside what stayed for it."""
    parts: list[Html] = []
    if found.groups:
        told = f"{len(found.groups):,} of {found.num_groups:,} groups of pictures that are nearly the same."
        parts.append(tag("p", told, class_="soft"))
    for size, uids in found.groups:
        shown = [pictures.picture(uid, f"sample {uid}") for uid in uids]
        parts.append(tag("h3", f"{size:,} alike"))
        parts.append(tag("div", *shown, class_="sheet", role="group", aria_label=f"{size} alike"))
    rows = []
    for name, stage, reason, detail in found.dropped:
        stayed = _UID.search(detail)
        picture = pictures.picture(stayed[0], f"sample {stayed[0]}") if stayed else ""
        rows.append((_cut(name), f"{stage}: {reason}", _cut(detail), picture))
    if rows:
        parts.append(tag("p", f"{len(rows):,} of {found.num_dropped:,} dropped for being like another.", class_="soft"))
    parts.append(table(("dropped", "why", "detail", "the one it is like"), rows))
    return join(parts)


def _pictured(uid: str, what: str, below: object, pictures: Thumbnails) -> Html:
    return tag("figure", pictures.picture(uid, what), tag("figcaption", below))


def _has(version: DatasetVersion, name: str) -> bool:
    return any(field["name"] == name for field in version.manifest.body["fields"])


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"
