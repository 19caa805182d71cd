"""What is printed of versions: the list of them, one version's manifest, its check, and the lineage of one sample."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.markup import escape

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.plugins import describe_origin
from data_manifests.shards import ShardReader
from flows.terminal.console import clean, out, print_json, print_table
from flows.terminal.curation import print_blind_accuracy, print_caption_negatives, print_drops

_EDIT_COLUMNS = ("action", "caption", "author", "note")


def list_datasets(catalog: Catalog, *, as_json: bool) -> None:
    """Print all data sets with their newest version; sizes are those of all versions whose files are in the workspace."""
    found = [_dataset(catalog, name) for name in catalog.names()]
    if as_json:
        print_json(found)
        return
    if not found:
        out.print(f"no data sets under {catalog.manifests}: clipcurate curate makes one", markup=False, soft_wrap=True)
    columns = ("name", "newest", ">versions", ">samples", "recipe", ">MiB", "made")
    keys = ("name", "version", "versions", "samples", "recipe", "bytes", "made")
    rows = ([item[key] for key in keys] for item in found)
    print_table(
        "data sets",
        columns,
        (
            (name, new, len(all_), f"{n:,}", recipe, f"{size / 2**20:,.1f}", made)
            for name, new, all_, n, recipe, size, made in rows
        ),
    )


def _dataset(catalog: Catalog, name: str) -> dict[str, Any]:
    versions = catalog.versions(name)
    manifest = Manifest.load(catalog.manifest_path(name, versions[-1]))
    folders = [catalog.folder(name, version) for version in versions]
    sizes = [path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {
        "name": name,
        "version": versions[-1],
        "versions": versions,
        "samples": manifest.num_samples,
        "recipe": manifest.body["recipe"]["name"],
        "bytes": sum(sizes),
        "made": _made(catalog, name, versions[-1]),
    }


def _made(catalog: Catalog, name: str, version: str) -> str:
    """Return when a version was made, in UTC: what its run record says, or its manifest's file where there is none."""
    record = catalog.manifests / name / f"{version}.run.json"
    if record.is_file():
        finished = datetime.fromisoformat(orjson.loads(record.read_bytes())["finished"])
    else:
        finished = datetime.fromtimestamp(catalog.manifest_path(name, version).stat().st_mtime, UTC)
    return finished.strftime("%Y-%m-%d %H:%M")


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
    rows = []
    for manifest, here in zip(manifests, present, strict=True):
        counts, recipe = manifest.body["counts"], manifest.body["recipe"]["name"]
        dropped = sum(sum(reasons.values()) for reasons in counts["dropped"].values())
        numbers = (counts["samples"], counts["negatives"], dropped)
        rows.append((manifest.version, recipe, *numbers, "here" if here else "elsewhere", manifest.fingerprint[:12]))
    print_table(name, ("version", "recipe", ">samples", ">negatives", ">dropped", "shards", "fingerprint"), rows)


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
    """Print a version's manifest."""
    body = version.manifest.body
    if as_json:
        print_json(body)
        return
    parent = version.manifest.parent_ref or "none"
    source = ", ".join(f"{key} {value}" for key, value in body["source"].items() if value is not None)
    out.print(
        f"[bold]{version.ref}[/bold] · recipe {body['recipe']['name']} · parent {parent} · {version.manifest.fingerprint}"
    )
    if (language := body["recipe"].get("language")) is not None:
        left_out = ", ".join(body["recipe"]["left_out"])
        out.print(
            f"language: {language}" + (f"; left out, because they know English only: {left_out}" if left_out else "")
        )
    out.print(escape(f"source: {source}"))
    rows = []
    for stage in body["stages"]:
        settings = ", ".join(f"{key}={value}" for key, value in stage["config"].items())
        models = ", ".join(f"{key}: {value['name']} ({value['hash'][:8]})" for key, value in stage["resources"].items())
        rows.append((stage["name"], stage["version"], stage["source"], settings, models, stage["fingerprint"][:12]))
    print_table("stages", ("stage", "version", "paper", "settings", "models", "fingerprint"), rows)
    _print_origins(body)
    fits = [(stage["name"], stage["fit"]) for stage in body["stages"] if "fit" in stage]
    columns = ("stage", "learned on", ">samples", "checks when it was kept", "hash")
    print_table("fits", columns, ((name, *_fit_cells(fit)) for name, fit in fits))
    counts = body["counts"]
    out.print(
        f"{counts['records']} records → {counts['samples']} samples, {counts['captions']} captions, "
        f"{counts.get('views', 0)} views, {counts['negatives']} negatives"
    )
    print_drops(version.manifest)
    print_caption_negatives(version.manifest)
    print_blind_accuracy(version.manifest)
    shards = (
        (shard["name"], shard["samples"], f"{shard['bytes'] / 2**20:.1f}", shard["sha256"]) for shard in body["shards"]
    )
    print_table("shards", ("shard", ">samples", ">MiB", "sha256"), shards)


def _print_origins(body: Mapping[str, Any]) -> None:
    """Print where recipe, source and stages come from that are not clipcurate's own."""
    origins = {**body.get("origins", {})}
    origins |= {f"stage {stage['name']}": stage["origin"] for stage in body["stages"] if "origin" in stage}
    if origins:
        listed = "; ".join(f"{name} from {describe_origin(origin)}" for name, origin in origins.items())
        out.print(f"plug-ins: {listed}", markup=False, highlight=False)


def _fit_cells(fit: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the table of fits says of one."""
    checks = "; ".join(
        f"{item['measure']}: {item['figure']:.4g}, at most {item['bound']:.4g}" for item in fit["checks"]
    )
    return fit["learned_on"], fit["samples"], checks, fit["hash"][:12]


def sample_lineage(version: DatasetVersion, uid: str) -> dict[str, Any]:
    """Return a sample as published, each text with the stage, rule and models that made it.

    Args:
        version: The data set version.
        uid: A uid or a unique beginning of one; or the name of the sample's picture in its source, with folders or without.

    Raises:
        InputError: no sample, or more than one, has such a uid or name; or it was dropped, with the reason.
    """
    index = version.index(["uid", "shard", "json_offset", "json_bytes", "image_offset", "image_bytes", "key"])
    rows = [row for row, value in enumerate(index["uid"].to_pylist()) if uid and value.startswith(uid)]
    rows = rows or _named(version, uid)
    if len(rows) != 1:
        raise _not_one(version, uid, [index["uid"][row].as_py() for row in rows[:5]])
    location = index.slice(rows[0], 1).to_pylist()[0]
    with ShardReader(version.folder) as reader:
        payload = orjson.loads(reader.read(location["shard"], location["json_offset"], location["json_bytes"]))
    stages = {stage["name"]: stage for stage in version.manifest.body["stages"]}
    made_by = {field["name"]: field["stage"] for field in version.manifest.body["fields"]}
    return {
        "version": version.ref,
        "place": location,
        "source": {**version.manifest.body["source"], "name": payload["name"]},
        "captions": [{"text": text, "from": "source"} for text in payload["captions"]],
        "edits": orjson.loads(payload["attributes"]).get("edits", []),
        "negatives": [{**record, "made_by": _stage_of(stages[record["source"]])} for record in payload["negatives"]],
        "views": [{**record, "made_by": _stage_of(stages[record["source"]])} for record in payload.get("views", [])],
        "fields": {
            name: {"value": payload[name], "made_by": _stage_of(stages[stage])}
            for name, stage in made_by.items()
            if name in payload and name not in ("negatives", "views")
        },
    }


def _named(version: DatasetVersion, text: str) -> list[int]:
    """Return the rows of the index whose picture has a name: the whole name before its end, as in ``FOLDER/0001.jpg``."""
    shards = range(len(version.manifest.body["shards"]))
    names = [name for shard in shards for name in version.sidecar(shard, ["name"])["name"].to_pylist()]
    same = [row for row, name in enumerate(names) if name == text]
    return same or [row for row, name in enumerate(names) if _ends_alike(name, text)]


def _ends_alike(name: str, text: str) -> bool:
    """Say whether one of two paths is the end of the other."""
    return f"/{name}".endswith(f"/{text}") or f"/{text}".endswith(f"/{name}")


def _stage_of(stage: dict[str, Any]) -> dict[str, Any]:
    return {key: stage[key] for key in ("name", "version", "fingerprint", "source", "config", "resources")}


def _not_one(version: DatasetVersion, uid: str, found: list[str]) -> InputError:
    if found:
        return InputError(f"{version.ref}: more than one sample is meant by '{uid}'", allowed=", ".join(found))
    import pyarrow.parquet as pq

    for row in pq.read_table(version.folder / "dropped.parquet").to_pylist():
        if uid and (uid == row["uid"] or _ends_alike(row["name"], uid)):
            return InputError(
                f"{version.ref}: {row['name']} was dropped by {row['stage']}: {row['reason']} {row['detail']}"
            )
    return InputError(
        f"{version.ref}: no sample with uid or file name '{uid}'",
        allowed=f"one of the {version.manifest.num_samples} uids in index.parquet, or a picture's name in its source",
    )


def print_sample(version: DatasetVersion, uid: str, *, as_json: bool) -> None:
    """Print a sample with the lineage of each text."""
    lineage = sample_lineage(version, uid)
    if as_json:
        print_json(lineage)
        return
    location, source = lineage["place"], lineage["source"]
    out.print(f"[bold]{location['uid']}[/bold] in {version.ref}")
    where = f"key {location['key']} in shard {location['shard']:05d}"
    out.print(_shown(f"source: {source['kind']} {source['name']} · {where}"))
    negatives, views = lineage["negatives"], lineage["views"]
    captions = [
        (number, _shown(caption["text"]), sum(item["caption"] == number for item in negatives))
        for number, caption in enumerate(lineage["captions"])
    ]
    print_table("captions (from the source)", (">#", "text", ">negatives"), captions)
    if lineage["edits"]:
        cells = [tuple(_shown(str(edit.get(key, ""))) for key in _EDIT_COLUMNS) for edit in lineage["edits"]]
        print_table("edits by people", _EDIT_COLUMNS, cells)
    columns = (">caption", "text", "kind", "rule", "stage", "fingerprint")
    print_table("views (made from captions)", columns, (_made_text(item, "kind") for item in views))
    columns = (">caption", "text", "type", "rule", "stage", "fingerprint")
    print_table("negatives", columns, (_made_text(item, "type") for item in negatives))
    fields = []
    for name, item in lineage["fields"].items():
        stage = item["made_by"]
        models = ", ".join(f"{value['name']} ({value['hash'][:8]})" for value in stage["resources"].values())
        fields.append((name, _shown(str(item["value"])), f"{stage['name']}/{stage['version']}", models))
    print_table("fields", ("field", "value", "stage", "models"), fields)


def _made_text(record: dict[str, Any], kind: str) -> tuple[str, ...]:
    """Return the cells of a view or a negative, with the stage that made it."""
    stage = record["made_by"]
    texts = map(_shown, (record["text"], record[kind], record["rule"]))
    return str(record["caption"]), *texts, f"{stage['name']}/{stage['version']}", stage["fingerprint"][:12]


def _shown(text: str) -> str:
    """Return foreign text without markup and control characters."""
    return escape(clean(text))
