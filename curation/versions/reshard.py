"""A version made from another one: other shards, another order, or a part of its samples; nothing is encoded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blake3 import blake3

from curation.versions.layout import Layout
from curation.versions.numbering import PublishedVersion, dataset_lock, has_files, publish_contents, seal_contents
from curation.versions.repack import RepackPlan, write_repacked
from data_manifests.atomic_files import draft_folder
from data_manifests.manifest import Catalog, DatasetVersion, Manifest, check_name, version_key
from data_manifests.seeds import canonical

RESHARD_VERSION = 2
"""Increased when the same request gives other bytes."""


def reshard(
    catalog: Catalog,
    ref: str,
    layout: Layout,
    out_name: str | None = None,
    progress: Callable[[int], None] | None = None,
    *,
    judge: bool = False,
) -> PublishedVersion:
    """Publish a version in another layout.

    With all samples it is a PATCH of its version (the next free one of its X.Y); with samples left out a new MAJOR, as
    images are gone. Under another name it is that name's first version, or its next MAJOR.

    Args:
        catalog: Where versions are.
        ref: The version.
        layout: The new layout.
        out_name: Another data set to publish under.
        progress: Called with the number of samples written so far.
        judge: If samples are left out, measure the blind accuracy of the remaining negatives. It takes many times as long
            as the rest, and cannot be computed from that of all samples; without it, there is none.

    Raises:
        InputError: the version, layout or name cannot be used, or another run holds the name.
    """
    old = catalog.open(ref)
    name = check_name(out_name or old.manifest.name)
    index = old.index()
    rows = layout.rows(index, old.ref)
    derived = _describe(old, layout) | ({"judged": True} if judge else {})
    build = blake3(canonical([RESHARD_VERSION, derived])).hexdigest(length=16)
    with dataset_lock(catalog, name):
        if same := _same_build(catalog, name, build):
            why = f"nothing to do: {name}@{same.version} has this layout already"
            return PublishedVersion(same, created=False, why=why)
        number, why = _next_number(catalog, old, name, len(rows), index.num_rows)
        parent = {"version": old.manifest.version, "fingerprint": old.manifest.fingerprint}
        if name != old.manifest.name:
            parent["name"] = old.manifest.name
        body = {"name": name, "version": number, "parent": parent, "build": build, "derived": derived}
        plan = RepackPlan(rows, layout.shard_bytes, with_blind_accuracy=judge)
        manifest = publish_repacked(catalog, old, plan, body, progress)
    return PublishedVersion(manifest, created=True, why=why)


def publish_repacked(
    catalog: Catalog,
    old: DatasetVersion,
    plan: RepackPlan,
    changes: Mapping[str, Any],
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write a version made from another one, rename it into place and then write its manifest.

    Args:
        catalog: Where versions are.
        old: The version to take from.
        plan: What to take.
        changes: Entries of the manifest that differ from the old one's: at least name, version, parent and build.
        progress: Called with the number of samples written so far.
    """
    with draft_folder(catalog.workspace / "datasets" / str(changes["name"]), ".building") as draft:
        contents = write_repacked(draft, old, plan, progress)
        replaced = {"fingerprint", "derived", *contents.to_json()}
        kept = {key: value for key, value in old.manifest.body.items() if key not in replaced}
        kept["stages"] = [_without_fit(record, plan.lost_fits) for record in kept["stages"]]
        manifest = seal_contents(contents, kept | dict(changes))
        publish_contents(catalog, contents, manifest)
    return manifest


def _without_fit(record: dict[str, Any], lost: frozenset[str]) -> dict[str, Any]:
    """Return a stage's record that names no file if its fit is lost: the next run fits anew."""
    fit = record.get("fit")
    return record if fit is None or fit["hash"] not in lost else {**record, "fit": {**fit, "file": ""}}


def _describe(old: DatasetVersion, layout: Layout) -> dict[str, Any]:
    """Return the manifest's description of how the version is made."""
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
    """Return the version that was made by the same request, if its files are complete."""
    for version in reversed(catalog.versions(name)):
        manifest = Manifest.load(catalog.manifest_path(name, version))
        if manifest.body["build"] == build and has_files(catalog, manifest):
            return manifest
    return None


def _next_number(catalog: Catalog, old: DatasetVersion, name: str, kept: int, total: int) -> tuple[str, str]:
    """Return the new version's number and the reason (Croissant's rule: repacked, extended, edited)."""
    versions = [version_key(version) for version in catalog.versions(name)]
    if name == old.manifest.name and kept == total:
        major, minor, _ = version_key(old.manifest.version)
        patch = max(key[2] for key in versions if key[:2] == (major, minor)) + 1
        return f"{major}.{minor}.{patch}", "repacked: same samples and texts, other order or shards"
    share = f"{kept} of {total} samples of {old.ref}"
    return f"{max((key[0] for key in versions), default=0) + 1}.0.0", f"edited: {share}" if versions else share
