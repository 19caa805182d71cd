"""What is printed of versions: the list of them, one version's manifest, its check, and the lineage of one sample."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson
from rich.markup import escape

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.shards import ShardReader
from flows.terminal.console import clean, out, print_json, table
from flows.terminal.curation import print_blind_accuracy, print_drops


def list_versions(catalog: Catalog, name: str, *, as_json: bool) -> None:
    """Print a data set's versions."""
    catalog.resolve(name)
    manifests = [Manifest.load(catalog.manifest_path(name, version)) for version in catalog.versions(name)]
    present = [catalog.folder(name, manifest.version).is_dir() for manifest in manifests]
    if as_json:
        print_json(
            [
                {
                    "version": manifest.version,
                    "fingerprint": manifest.fingerprint,
                    "parent": manifest.body["parent"],
                    "recipe": manifest.body["recipe"]["name"],
                    "counts": manifest.body["counts"],
                    "shards_here": here,
                }
                for manifest, here in zip(manifests, present, strict=True)
            ]
        )
        return
    rows = table(name, "version", "recipe", ">samples", ">negatives", ">dropped", "shards", "fingerprint")
    for manifest, here in zip(manifests, present, strict=True):
        counts = manifest.body["counts"]
        dropped = sum(sum(reasons.values()) for reasons in counts["dropped"].values())
        numbers = map(str, (counts["samples"], counts["negatives"], dropped))
        shards = "here" if here else "elsewhere"
        rows.add_row(manifest.version, manifest.body["recipe"]["name"], *numbers, shards, manifest.fingerprint[:12])
    out.print(rows)


def verify_version(catalog: Catalog, ref: str, *, as_json: bool) -> bool:
    """Hash a version's files again; return whether all are as the manifest says."""
    version = catalog.open(ref)
    started = time.perf_counter()
    wrong = version.verify()
    if as_json:
        print_json({"version": version.ref, "holds": not wrong, "wrong": wrong})
    elif wrong:
        print_damage(version, wrong)
    else:
        files = version.manifest.body["files"]
        size = sum(record["bytes"] for record in files) / 2**20
        out.print(f"{version.ref} is intact: {len(files)} files, {size:.1f} MiB, {time.perf_counter() - started:.1f} s")
    return not wrong


def print_damage(version: DatasetVersion, wrong: Sequence[str]) -> None:
    """Print which files of a version are not as its manifest says."""
    out.print(f"[red]{version.ref} is damaged:[/red]")
    for line in wrong:
        out.print(f"  {escape(line)}", soft_wrap=True)


def print_version(version: DatasetVersion, *, as_json: bool) -> None:
    """Print what the manifest says."""
    body = version.manifest.body
    if as_json:
        print_json(body)
        return
    parent = f"{body['parent'].get('name', body['name'])}@{body['parent']['version']}" if body["parent"] else "none"
    source = ", ".join(f"{key} {value}" for key, value in body["source"].items() if value is not None)
    out.print(
        f"[bold]{version.ref}[/bold] · recipe {body['recipe']['name']} · parent {parent} · {version.manifest.fingerprint}"
    )
    out.print(escape(f"source: {source}"))
    made = table("stages", "stage", "version", "paper", "settings", "models", "fingerprint")
    for stage in body["stages"]:
        settings = ", ".join(f"{key}={value}" for key, value in stage["config"].items())
        models = ", ".join(f"{key}: {value['name']} ({value['hash'][:8]})" for key, value in stage["resources"].items())
        made.add_row(stage["name"], str(stage["version"]), stage["source"], settings, models, stage["fingerprint"][:12])
    out.print(made)
    counts = body["counts"]
    out.print(
        f"{counts['records']} records → {counts['samples']} samples, {counts['captions']} captions, "
        f"{counts.get('views', 0)} views, {counts['negatives']} negatives"
    )
    print_drops(version.manifest)
    print_blind_accuracy(version.manifest)
    made = table("shards", "shard", ">samples", ">MiB", "sha256")
    for shard in body["shards"]:
        made.add_row(shard["name"], str(shard["samples"]), f"{shard['bytes'] / 2**20:.1f}", shard["sha256"])
    out.print(made)


def sample_lineage(version: DatasetVersion, uid: str) -> dict[str, Any]:
    """Return a sample as published, each text with the stage, rule and models that made it.

    Args:
        version: The data set version.
        uid: A uid or enough of its beginning to be unique.

    Raises:
        InputError: no sample, or more than one, begins like this; or it was dropped (the reason is told).
    """
    index = version.index(["uid", "shard", "json_offset", "json_bytes", "image_offset", "image_bytes", "key"])
    found = [place for place, value in enumerate(index["uid"].to_pylist()) if value.startswith(uid)]
    if len(found) != 1:
        raise _not_one(version, uid, [index["uid"][place].as_py() for place in found[:5]])
    row = index.slice(found[0], 1).to_pylist()[0]
    with ShardReader(version.folder) as reader:
        payload = orjson.loads(reader.read(row["shard"], row["json_offset"], row["json_bytes"]))
    stages = {stage["name"]: stage for stage in version.manifest.body["stages"]}
    made_by = {field["name"]: field["stage"] for field in version.manifest.body["fields"]}
    return {
        "version": version.ref,
        "place": row,
        "source": {**version.manifest.body["source"], "name": payload["name"]},
        "captions": [{"text": text, "from": "source"} for text in payload["captions"]],
        "negatives": [{**record, "made_by": _maker(stages[record["source"]])} for record in payload["negatives"]],
        "views": [{**record, "made_by": _maker(stages[record["source"]])} for record in payload.get("views", [])],
        "fields": {
            name: {"value": payload[name], "made_by": _maker(stages[stage])}
            for name, stage in made_by.items()
            if name in payload and name not in ("negatives", "views")
        },
    }


def _maker(stage: dict[str, Any]) -> dict[str, Any]:
    return {key: stage[key] for key in ("name", "version", "fingerprint", "source", "config", "resources")}


def _not_one(version: DatasetVersion, uid: str, found: list[str]) -> InputError:
    if found:
        return InputError(f"{version.ref}: more than one sample's uid begins with '{uid}'", allowed=", ".join(found))
    import pyarrow.parquet as pq

    for row in pq.read_table(version.folder / "dropped.parquet").to_pylist():
        if uid and uid in (row["uid"], row["name"]):
            return InputError(
                f"{version.ref}: {row['name']} was dropped by {row['stage']}: {row['reason']} {row['detail']}"
            )
    return InputError(
        f"{version.ref}: no sample with uid '{uid}'",
        allowed=f"one of the {version.manifest.num_samples} uids in index.parquet",
    )


def print_sample(version: DatasetVersion, uid: str, *, as_json: bool) -> None:
    """Print a sample with the lineage of each text."""
    lineage = sample_lineage(version, uid)
    if as_json:
        print_json(lineage)
        return
    place = lineage["place"]
    out.print(f"[bold]{place['uid']}[/bold] in {version.ref}")
    out.print(
        _shown(
            f"source: {lineage['source']['kind']} {lineage['source']['name']} · key {place['key']} in shard {place['shard']:05d}"
        )
    )
    made = table("captions (from the source)", ">#", "text", ">negatives")
    for number, caption in enumerate(lineage["captions"]):
        made.add_row(
            str(number), _shown(caption["text"]), str(sum(item["caption"] == number for item in lineage["negatives"]))
        )
    out.print(made)
    made = table("views (made from captions)", ">caption", "text", "kind", "rule", "stage", "fingerprint")
    for item in lineage["views"]:
        maker = item["made_by"]
        stage = f"{maker['name']}/{maker['version']}"
        told = (item["text"], item["kind"], item["rule"])
        made.add_row(str(item["caption"]), *map(_shown, told), stage, maker["fingerprint"][:12])
    if lineage["views"]:
        out.print(made)
    made = table("negatives", ">caption", "text", "type", "rule", "stage", "fingerprint")
    for item in lineage["negatives"]:
        maker = item["made_by"]
        made.add_row(
            str(item["caption"]),
            _shown(item["text"]),
            item["type"],
            _shown(item["rule"]),
            f"{maker['name']}/{maker['version']}",
            maker["fingerprint"][:12],
        )
    out.print(made)
    made = table("fields", "field", "value", "stage", "models")
    for name, item in lineage["fields"].items():
        maker = item["made_by"]
        models = ", ".join(f"{value['name']} ({value['hash'][:8]})" for value in maker["resources"].values())
        made.add_row(name, _shown(str(item["value"])), f"{maker['name']}/{maker['version']}", models)
    out.print(made)


def _shown(text: str) -> str:
    """Return a stranger's text so that it neither marks up nor steers the terminal."""
    return escape(clean(text))
