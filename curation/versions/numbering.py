"""Versions: decide whether finished stages make a new dataset version, which number it gets, and publish it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from filelock import FileLock, Timeout

from curation.engine.intake import Snapshot
from curation.engine.replay import FinishedStage
from curation.engine.stage import CorpusStage, Licensed, Resource, Stage
from curation.versions.publish import VersionContents, write_contents
from data_manifests.atomic_files import draft_folder, publish_folder, write_atomically
from data_manifests.croissant import croissant_bytes
from data_manifests.errors import InputError
from data_manifests.manifest import FORMAT, Catalog, Manifest, version_key
from data_manifests.seeds import canonical
from data_manifests.shards import WrittenFile, sha256_file

LAYOUT_VERSION = 2
"""Raised when the same stage results are published as other bytes."""


@dataclass(frozen=True)
class VersionRequest:
    """What a version is made from, besides the stages' results.

    Attributes:
        name: Data set's name.
        recipe: What the manifest says of the recipe: name, paper.
        source: What the manifest says of the source.
        shard_bytes: Wished size of a shard.
        bands: Bands of difficulty that order samples inside a cluster; 0 orders by difficulty itself.
    """

    name: str
    recipe: Mapping[str, Any]
    source: Mapping[str, Any]
    shard_bytes: int
    bands: int = 0


@dataclass(frozen=True)
class PublishedVersion:
    """The outcome: the version, and whether it is new."""

    manifest: Manifest
    created: bool
    why: str


@contextmanager
def dataset_lock(catalog: Catalog, name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a data set's name, so that two runs cannot write it at once; freed by the system if this process dies.

    Raises:
        InputError: another run holds it, and still did after `wait_s`.
    """
    folder = catalog.workspace / "datasets" / name
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / ".lock.pid"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        pid = holder.read_text() if holder.is_file() else "unknown"
        raise InputError(
            f"data set '{name}' is being written by another run (process {pid})",
            allowed="one run per name at a time",
            fix="wait for it, give --wait SECONDS, or choose another --name",
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def build_id(request: VersionRequest, stages: Sequence[Stage], snapshot: Snapshot) -> str:
    """Return the hash of all that decides a version's bytes."""
    parts = [LAYOUT_VERSION, request.recipe, request.source, request.shard_bytes, snapshot.content]
    parts += [[stage.fingerprint() for stage in stages], *([{"bands": request.bands}] if request.bands else [])]
    return blake3(canonical(parts)).hexdigest(length=16)


def up_to_date(
    catalog: Catalog, request: VersionRequest, stages: Sequence[Stage], snapshot: Snapshot
) -> Manifest | None:
    """Return the newest version's manifest if these inputs would build it again and its files are all there."""
    latest = catalog.latest(request.name)
    if latest is None or latest.body["build"] != build_id(request, stages, snapshot):
        return None
    folder = catalog.folder(latest.name, latest.version)
    for record in latest.body["files"]:
        path = folder / record["name"]
        if not path.is_file() or path.stat().st_size != record["bytes"]:
            return None
    return latest


def publish_version(
    catalog: Catalog,
    request: VersionRequest,
    done: Sequence[FinishedStage],
    snapshot: Snapshot,
    store: Path,
    progress: Callable[[int], None] | None = None,
) -> PublishedVersion:
    """Write the version's folder, rename it into place and then write its manifest.

    A reader sees a version only through its manifest, which comes last. If the newest version was made
    from the same inputs but its files are gone, they are restored under the same number.

    Raises:
        OSError: no space, or the folder cannot be written; nothing is published.
    """
    with draft_folder(catalog.workspace / "datasets" / request.name, ".building") as draft:
        contents = write_contents(draft, done, snapshot, store, (request.shard_bytes, request.bands), progress)
        latest = catalog.latest(request.name)
        build = build_id(request, [item.stage for item in done], snapshot)
        restoring = latest is not None and latest.body["build"] == build
        number, parent, why = _number(catalog, latest, draft, _derived(done), restoring=restoring)
        body = _body(request, done, contents, build) | {"version": number, "parent": parent}
        croissant = croissant_bytes(body)
        write_atomically(draft / "croissant.json", croissant)
        contents.files.append(_file_record(draft / "croissant.json"))
        manifest = Manifest.seal(body | {"files": _files(contents)})
        if restoring and latest is not None and manifest.fingerprint != latest.fingerprint:
            raise InputError(
                f"{request.name}@{number}: rebuilding from the same inputs gave fingerprint {manifest.fingerprint}, "
                f"its manifest says {latest.fingerprint}",
                allowed="the same library versions (constraints.txt) that built it",
                fix="install them, or publish under another --name",
            )
        final = catalog.folder(request.name, number)
        shutil.rmtree(final, ignore_errors=True)
        publish_folder(draft, final)
    manifest.save(catalog.manifest_path(request.name, number))
    return PublishedVersion(manifest, not restoring, why)


def _files(contents: VersionContents) -> list[dict[str, Any]]:
    return sorted((item.to_json() for item in contents.files), key=lambda record: str(record["name"]))


def _file_record(path: Path) -> WrittenFile:
    return WrittenFile(path.name, path.stat().st_size, sha256_file(path))


def _body(
    request: VersionRequest, done: Sequence[FinishedStage], contents: VersionContents, build: str
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": request.name,
        "build": build,
        "recipe": dict(request.recipe),
        "source": dict(request.source),
        "stages": [stage_record(item.stage) for item in done],
        "shards": contents.shards,
        "files": _files(contents),
        "fields": contents.published,
        "counts": contents.counts,
        "statistics": contents.statistics,
    }


def stage_record(stage: Stage) -> dict[str, Any]:
    """Return what a manifest says of a stage: enough to say which model and rule made a text."""
    return {
        "name": stage.name,
        "version": stage.version,
        "fingerprint": stage.fingerprint(),
        "source": stage.source,
        "requires": list(stage.required_fields()),
        "provides": [spec.name for spec in stage.provides],
        "config": stage.config(),
        "resources": {name: _resource(resource) for name, resource in sorted(stage.resources().items())},
        "word_lists": dict(stage.word_lists()),
    }


def _resource(resource: Resource) -> dict[str, Any]:
    told = {"name": resource.describe(), "hash": resource.content_hash()}
    return told | ({"licences": list(resource.licences())} if isinstance(resource, Licensed) else {})


def _derived(done: Sequence[FinishedStage]) -> frozenset[str]:
    """Return index columns that tell how samples stand to each other: new neighbours are no edit of a sample."""
    stages = [item.stage for item in done if isinstance(item.stage, CorpusStage)]
    return frozenset(f"h_{spec.name}" for stage in stages for spec in stage.provides if spec.role == "value")


def _number(
    catalog: Catalog, latest: Manifest | None, working: Path, derived: frozenset[str], *, restoring: bool
) -> tuple[str, dict[str, str] | None, str]:
    """Return the version number, its parent and the reason (Croissant's rule: repacked, extended, edited)."""
    if latest is None:
        return "1.0.0", None, "first version"
    if restoring:
        return latest.version, latest.body["parent"], "files restored from the same inputs"
    parent = {"version": latest.version, "fingerprint": latest.fingerprint}
    major, minor, patch = version_key(latest.version)
    before = catalog.folder(latest.name, latest.version) / "index.parquet"
    if not before.is_file():
        return f"{major + 1}.0.0", parent, "edited (the parent's files are not here to compare with)"
    kind, why = _change(before, working / "index.parquet", derived)
    numbers = {"edited": (major + 1, 0, 0), "extended": (major, minor + 1, 0), "repacked": (major, minor, patch + 1)}
    return ".".join(map(str, numbers[kind])), parent, f"{kind}: {why}"


def _change(before: Path, after: Path, derived: frozenset[str]) -> tuple[str, str]:
    """Compare two indexes by their content columns, but for those `derived` from all samples together."""
    import polars as pl

    old, new = pl.read_parquet(before), pl.read_parquet(after)
    hashes = [name for name in old.columns if name.startswith("h_") and name not in derived]
    lost = sorted(set(hashes) - set(new.columns))
    removed = old.join(new, on="uid", how="anti").height
    added = new.join(old, on="uid", how="anti").height
    both = old.join(new, on="uid", how="inner", suffix="_new")
    shared = [name for name in hashes if name not in lost]
    edited = both.filter(pl.any_horizontal([pl.col(name) != pl.col(f"{name}_new") for name in shared])).height
    if removed or edited or lost:
        fields = f", {len(lost)} field(s) gone ({', '.join(lost)})" if lost else ""
        return "edited", f"{edited} sample(s) changed, {removed} removed, {added} added{fields}"
    gained = sorted({name for name in new.columns if name.startswith("h_")} - set(hashes) - derived)
    if added or gained:
        return "extended", f"{added} sample(s) added" + (f", new field(s) {', '.join(gained)}" if gained else "")
    return "repacked", "same samples and texts, other order, clusters, shards or settings"
