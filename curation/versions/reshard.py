"""A version made from another one: other shards, another order, or a part of its samples; nothing is encoded anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from curation.versions.layout import Layout
from curation.versions.numbering import PublishedVersion, dataset_lock
from curation.versions.repack import RepackPlan, write_repacked
from curation.versions.tables import written
from data_manifests.atomic_files import draft_folder, publish_folder, write_atomically
from data_manifests.croissant import croissant_bytes
from data_manifests.manifest import Catalog, DatasetVersion, Manifest, check_name, version_key
from data_manifests.seeds import canonical

RESHARD_VERSION = 2
"""Raised when the same request gives other bytes."""


def reshard(
    catalog: Catalog,
    ref: str,
    layout: Layout,
    out_name: str | None = None,
    progress: Callable[[int], None] | None = None,
    *,
    judge: bool = False,
) -> PublishedVersion:
    """Publish a version laid out anew.

    With all samples kept it is a PATCH of the version it comes from (the next free one of its X.Y); with some left
    out a new MAJOR: images are gone. Under another name it is that name's first version, or its next MAJOR.

    Args:
        catalog: Where versions lie.
        ref: The version to lay out anew.
        layout: How.
        out_name: Another data set to publish under.
        progress: Called with the number of samples written so far.
        judge: Where samples are left out, ask judges that see no image about the negatives that stay. It takes many
            times as long as the rest, and a part's answer cannot be had from the whole's: else there is none.

    Raises:
        InputError: the version, layout or name cannot be used, or another run holds the name.
    """
    old = catalog.open(ref)
    name = check_name(out_name or old.manifest.name)
    index = old.index()
    rows = layout.rows(index, old.ref)
    told = _told(old, layout) | ({"judged": True} if judge else {})
    build = blake3(canonical([RESHARD_VERSION, told])).hexdigest(length=16)
    with dataset_lock(catalog, name):
        if there := _same_build(catalog, name, build):
            return PublishedVersion(
                there, created=False, why=f"nothing to do: {name}@{there.version} is laid out like this"
            )
        number, why = _number(catalog, old, name, len(rows), index.num_rows)
        parent = {"version": old.manifest.version, "fingerprint": old.manifest.fingerprint}
        if name != old.manifest.name:
            parent["name"] = old.manifest.name
        body = {"name": name, "version": number, "parent": parent, "build": build, "derived": told}
        manifest = publish_repacked(catalog, old, RepackPlan(rows, layout.shard_bytes, judged=judge), body, progress)
    return PublishedVersion(manifest, created=True, why=why)


def publish_repacked(
    catalog: Catalog,
    old: DatasetVersion,
    cut: RepackPlan,
    about: Mapping[str, Any],
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write a version that is cut from another one, rename it into place and then write its manifest.

    Args:
        catalog: Where versions lie.
        old: The version to take from.
        cut: What is taken.
        about: What its manifest says otherwise than the old one's: at least name, version, parent and build.
        progress: Called with the number of samples written so far.
    """
    name, number = str(about["name"]), str(about["version"])
    with draft_folder(catalog.workspace / "datasets" / name, ".building") as draft:
        contents = write_repacked(draft, old, cut, progress)
        kept = {key: value for key, value in old.manifest.body.items() if key not in ("fingerprint", "derived")}
        body = kept | {
            "shards": contents.shards,
            "files": _records(contents.files),
            "counts": contents.counts,
            "statistics": contents.statistics,
            **about,
        }
        write_atomically(draft / "croissant.json", croissant_bytes(body))
        contents.files.append(written(draft / "croissant.json"))
        manifest = Manifest.seal(body | {"files": _records(contents.files)})
        final = catalog.folder(name, number)
        shutil.rmtree(final, ignore_errors=True)
        publish_folder(draft, final)
    manifest.save(catalog.manifest_path(name, number))
    return manifest


def _records(files: list[Any]) -> list[dict[str, Any]]:
    return sorted((item.to_json() for item in files), key=lambda record: str(record["name"]))


def _told(old: DatasetVersion, layout: Layout) -> dict[str, Any]:
    """Return what the manifest says of how the version was made."""
    keep = blake3("".join(sorted(layout.keep)).encode()).hexdigest(length=16) if layout.keep is not None else None
    return {
        "by": "reshard",
        "from": {"name": old.manifest.name, "version": old.manifest.version, "fingerprint": old.manifest.fingerprint},
        "shard_bytes": layout.shard_bytes,
        "order": layout.order,
        "bands": layout.bands,
        "where": list(layout.where),
        "keep": keep,
    }


def _same_build(catalog: Catalog, name: str, build: str) -> Manifest | None:
    """Return the version that was made by the same request, if its files are all there."""
    for version in reversed(catalog.versions(name)):
        manifest = Manifest.load(catalog.manifest_path(name, version))
        folder = catalog.folder(name, version)
        if manifest.body["build"] == build and all(_there(folder, record) for record in manifest.body["files"]):
            return manifest
    return None


def _there(folder: Path, record: Mapping[str, Any]) -> bool:
    path = folder / str(record["name"])
    return path.is_file() and path.stat().st_size == record["bytes"]


def _number(catalog: Catalog, old: DatasetVersion, name: str, kept: int, total: int) -> tuple[str, str]:
    """Return the new version's number and the reason (Croissant's rule: repacked, extended, edited)."""
    versions = [version_key(version) for version in catalog.versions(name)]
    if name == old.manifest.name and kept == total:
        major, minor, _ = version_key(old.manifest.version)
        patch = max(key[2] for key in versions if key[:2] == (major, minor)) + 1
        return f"{major}.{minor}.{patch}", "repacked: same samples and texts, other order or shards"
    share = f"{kept} of {total} samples of {old.ref}"
    return f"{max((key[0] for key in versions), default=0) + 1}.0.0", f"edited: {share}" if versions else share
