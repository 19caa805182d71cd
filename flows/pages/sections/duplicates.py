"""The section of a version's page on duplicates and leaks: kept groups side by side, dropped samples by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from data_manifests.manifest import DatasetVersion
from data_manifests.shards import ShardReader
from flows.pages.html import Html, captioned, join, note, table, tag
from flows.pages.thumbnails import Thumbnails

MAX_GROUPS, MAX_MEMBERS, MAX_DROPPED = 24, 6, 48

_KEPT = re.compile(r"like ([0-9a-f]{32})")
_UID = re.compile(r"\b[0-9a-f]{32}\b")
_PLACE = ("uid", "shard", "json_offset", "json_bytes", "duplicate_group")


def duplicates_section(version: DatasetVersion) -> Html:
    """Return groups that were kept, near-duplicates that were dropped, and leaks; nothing if there are none.

    The pictures of dropped samples are not in the version: their name and the evidence are next to the kept one.

    Raises:
        InputError: a file of the version is missing or damaged.
    """
    groups = _groups(version)
    dropped = _dropped(version)
    near = [row for row in dropped if row["reason"] == "near_duplicate"]
    leaks = [row for row in dropped if row["reason"] == "leak"]
    shown = [row["uid"] for members in groups[:MAX_GROUPS] for row in members[:MAX_MEMBERS]]
    shown += [uid for row in near[:MAX_DROPPED] if (uid := _kept(row["detail"]))]
    parts: list[Html] = []
    with Thumbnails(version, shown) as pictures, ShardReader(version.folder) as reader:
        if groups:
            parts.append(tag("h3", f"{len(groups):,} group(s) of pictures that show the same, all kept"))
            parts += [_group(members, pictures, reader) for members in groups[:MAX_GROUPS]]
        if near:
            parts.append(tag("h3", f"{len(near):,} near-duplicate(s) dropped, with the sample that was kept"))
            cells = []
            for row in near[:MAX_DROPPED]:
                picture = (
                    pictures.picture(uid, f"kept instead of {row['name']}") if (uid := _kept(row["detail"])) else ""
                )
                cells.append((picture, *_name_and_detail(row)))
            parts.append(table(("kept", "dropped", "evidence"), cells))
    if leaks:
        parts.append(tag("h3", f"{len(leaks):,} sample(s) dropped that are in an evaluation set"))
        rows = map(_name_and_detail, leaks[:MAX_DROPPED])
        parts.append(table(("dropped", "evaluation item, and evidence"), rows))
    for what, number in (("groups", len(groups) - MAX_GROUPS), ("near-duplicates", len(near) - MAX_DROPPED)):
        if number > 0:
            parts.append(note(f"{number:,} more {what} are not shown here."))
    if len(leaks) > MAX_DROPPED:
        parts.append(note(f"{len(leaks) - MAX_DROPPED:,} more leaks are in dropped.parquet."))
    return join(parts)


def _groups(version: DatasetVersion) -> list[list[Mapping[str, Any]]]:
    """Return the rows of each group with two or more members in the version, largest first."""
    index = version.index()
    if "duplicate_group" not in index.column_names:
        return []
    members: dict[str, list[Mapping[str, Any]]] = {}
    for row in index.select(list(_PLACE)).to_pylist():
        if row["duplicate_group"]:
            members.setdefault(row["duplicate_group"], []).append(row)
    found = [sorted(rows, key=lambda row: str(row["uid"])) for rows in members.values() if len(rows) > 1]
    return sorted(found, key=lambda rows: (-len(rows), rows[0]["duplicate_group"]))


def _dropped(version: DatasetVersion) -> list[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    path = version.folder / "dropped.parquet"
    if not path.is_file():
        return []
    return list(pq.read_table(path).to_pylist())


def _kept(detail: str) -> str:
    found = _KEPT.match(detail)
    return found[1] if found else ""


def _name_and_detail(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["name"], _UID.sub("another sample", _KEPT.sub("like the kept one", row["detail"]))


def _group(members: Sequence[Mapping[str, Any]], pictures: Thumbnails, reader: ShardReader) -> Html:
    """Return a group's pictures side by side, each with its match and the evidence."""
    cells = []
    for row in members[:MAX_MEMBERS]:
        sample = orjson.loads(reader.read(row["shard"], row["json_offset"], row["json_bytes"]))
        match = sample.get("duplicate_match") or {}
        facts = [f"found by {' and '.join(match.get('by', []))}"] if match.get("uid") else []
        facts += [f"{match['bits']} of 64 bits differ"] if match.get("bits") is not None else []
        facts += [f"cosine {match['similarity']:.4f}"] if match.get("similarity") is not None else []
        facts += [f"agreement {match['agreement']:.3f}"] if match.get("agreement") is not None else []
        caption = ": ".join(filter(None, [sample["name"], ", ".join(facts)]))
        cells.append(captioned(pictures.picture(row["uid"], sample["name"]), caption))
    rest = note(f"and {len(members) - MAX_MEMBERS:,} more") if len(members) > MAX_MEMBERS else ""
    return tag("div", *cells, rest, class_="cards")
