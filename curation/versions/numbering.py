"""Versions: whether finished stages give a new dataset version, its number, and its publication."""

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
from curation.versions.publish import write_contents
from curation.versions.tables import VersionContents
from data_manifests.atomic_files import draft_folder, publish_folder
from data_manifests.croissant import croissant_bytes
from data_manifests.errors import InputError
from data_manifests.manifest import FORMAT, Catalog, Manifest, version_key
from data_manifests.seeds import canonical

LAYOUT_VERSION = 2
"""Increased when the same stage results are published as other bytes."""


@dataclass(frozen=True)
class VersionRequest:
    """What a version is made from, besides the stages' results.

    Attributes:
        name: The data set's name.
        recipe: The manifest's description of the recipe: name, paper.
        source: The manifest's description of the source.
        shard_bytes: Target size of a shard.
        bands: Bands of difficulty by which samples of a cluster are sorted; 0 sorts by difficulty itself.
    """

    name: str
    recipe: Mapping[str, Any]
    source: Mapping[str, Any]
    shard_bytes: int
    bands: int = 0


@dataclass(frozen=True)
class PublishedVersion:
    """A published version, whether it is new, and why it got its number."""

    manifest: Manifest
    created: bool
    why: str


@contextmanager
def dataset_lock(catalog: Catalog, name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Lock a data set, so that two runs cannot write it at once; the system releases the lock if this process dies.

    Raises:
        InputError: another run has locked it for longer than `wait_s`.
    """
    folder = catalog.workspace / "datasets" / name
    folder.mkdir(parents=True, exist_ok=True)
    pid_file = folder / ".lock.pid"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        pid = pid_file.read_text() if pid_file.is_file() else "unknown"
        raise InputError(
            f"data set '{name}' is being written by another run (process {pid})",
            allowed="one run per name at a time",
            fix="wait for it, give --wait SECONDS, or choose another --name",
        ) from None
    try:
        pid_file.write_text(str(os.getpid()))
        yield
    finally:
        pid_file.unlink(missing_ok=True)
        lock.release()


def build_id(request: VersionRequest, stages: Sequence[Stage], snapshot: Snapshot) -> str:
    """Return the hash of everything that determines a version's bytes."""
    parts = [LAYOUT_VERSION, request.recipe, request.source, request.shard_bytes, snapshot.content]
    parts += [[stage.fingerprint() for stage in stages], *([{"bands": request.bands}] if request.bands else [])]
    return blake3(canonical(parts)).hexdigest(length=16)


def up_to_date(
    catalog: Catalog, request: VersionRequest, stages: Sequence[Stage], snapshot: Snapshot
) -> Manifest | None:
    """Return the newest version's manifest if it was built from these inputs and its files are complete."""
    latest = catalog.latest(request.name)
    if latest is None or latest.body["build"] != build_id(request, stages, snapshot):
        return None
    return latest if has_files(catalog, latest) else None


def has_files(catalog: Catalog, manifest: Manifest) -> bool:
    """Return whether all files of a version are in the workspace, with the right sizes."""
    folder = catalog.folder(manifest.name, manifest.version)
    files = [(folder / str(record["name"]), record["bytes"]) for record in manifest.body["files"]]
    return all(path.is_file() and path.stat().st_size == size for path, size in files)


def publish_version(
    catalog: Catalog,
    request: VersionRequest,
    finished: Sequence[FinishedStage],
    snapshot: Snapshot,
    store: Path,
    progress: Callable[[int], None] | None = None,
) -> PublishedVersion:
    """Write the version's folder, rename it into place and then write its manifest.

    A reader finds a version only through its manifest, which is written last. If the newest version was built from the
    same inputs but its files are gone, they are restored under the same number.

    Raises:
        InputError: restored files would not have the fingerprint of their manifest.
        OSError: the disk is full, or the folder cannot be written; nothing is published.
    """
    with draft_folder(catalog.workspace / "datasets" / request.name, ".building") as draft:
        contents = write_contents(draft, finished, snapshot, store, request.shard_bytes, request.bands, progress)
        latest = catalog.latest(request.name)
        build = build_id(request, [item.stage for item in finished], snapshot)
        restored = latest if latest is not None and latest.body["build"] == build else None
        if restored is None:
            number, parent, why = _next_number(catalog, latest, draft, _corpus_columns(finished))
        else:
            number, parent = restored.version, restored.body["parent"]
            why = "files restored from the same inputs"
        body = {
            "format": FORMAT,
            "name": request.name,
            "version": number,
            "parent": parent,
            "build": build,
            "recipe": dict(request.recipe),
            "source": dict(request.source),
            "stages": [stage_record(item.stage) for item in finished],
        }
        manifest = seal_contents(contents, body)
        if restored is not None and manifest.fingerprint != restored.fingerprint:
            raise InputError(
                f"{request.name}@{number}: rebuilding from the same inputs gave fingerprint {manifest.fingerprint}, "
                f"its manifest has {restored.fingerprint}",
                allowed="the same library versions (constraints.txt) that built it",
                fix="install them, or publish under another --name",
            )
        publish_contents(catalog, contents, manifest)
    return PublishedVersion(manifest, restored is None, why)


def seal_contents(contents: VersionContents, body: Mapping[str, Any]) -> Manifest:
    """Add croissant.json to finished contents; return the manifest of `body` and the contents."""
    contents.add_bytes("croissant.json", croissant_bytes({**contents.to_json(), **body}))
    return Manifest.seal({**contents.to_json(), **body})


def publish_contents(catalog: Catalog, contents: VersionContents, manifest: Manifest) -> None:
    """Rename a version's folder into place, replacing one of that number, then write its manifest."""
    folder = catalog.folder(manifest.name, manifest.version)
    shutil.rmtree(folder, ignore_errors=True)
    publish_folder(contents.folder, folder)
    manifest.save(catalog.manifest_path(manifest.name, manifest.version))


def stage_record(stage: Stage) -> dict[str, Any]:
    """Return a manifest's record of a stage, from which one can find the model and the rule that made a text."""
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
    record = {"name": resource.describe(), "hash": resource.content_hash()}
    return record | ({"licences": list(resource.licences())} if isinstance(resource, Licensed) else {})


def _corpus_columns(finished: Sequence[FinishedStage]) -> frozenset[str]:
    """Return hash columns of corpus stages, which do not count as an edit: new neighbours do not change a sample."""
    stages = [item.stage for item in finished if isinstance(item.stage, CorpusStage)]
    return frozenset(f"h_{spec.name}" for stage in stages for spec in stage.provides if spec.role == "value")


def _next_number(
    catalog: Catalog, latest: Manifest | None, draft: Path, ignored: frozenset[str]
) -> tuple[str, dict[str, str] | None, str]:
    """Return the version number, its parent and the reason (Croissant's rule: repacked, extended, edited)."""
    if latest is None:
        return "1.0.0", None, "first version"
    parent = {"version": latest.version, "fingerprint": latest.fingerprint}
    major, minor, patch = version_key(latest.version)
    before = catalog.folder(latest.name, latest.version) / "index.parquet"
    if not before.is_file():
        return f"{major + 1}.0.0", parent, "edited (the parent's files are not here to compare with)"
    kind, why = _change(before, draft / "index.parquet", ignored)
    numbers = {"edited": (major + 1, 0, 0), "extended": (major, minor + 1, 0), "repacked": (major, minor, patch + 1)}
    return ".".join(map(str, numbers[kind])), parent, f"{kind}: {why}"


def _change(before: Path, after: Path, ignored: frozenset[str]) -> tuple[str, str]:
    """Return the kind of change between two indexes and its description, by their hash columns except the ignored."""
    import polars as pl

    old, new = pl.read_parquet(before), pl.read_parquet(after)
    hashes = [name for name in old.columns if name.startswith("h_") and name not in ignored]
    lost = sorted(set(hashes) - set(new.columns))
    removed = old.join(new, on="uid", how="anti").height
    added = new.join(old, on="uid", how="anti").height
    both = old.join(new, on="uid", how="inner", suffix="_new")
    shared = [name for name in hashes if name not in lost]
    edited = both.filter(pl.any_horizontal([pl.col(name) != pl.col(f"{name}_new") for name in shared])).height
    if removed or edited or lost:
        fields = f", {len(lost)} field(s) gone ({', '.join(lost)})" if lost else ""
        return "edited", f"{edited} sample(s) changed, {removed} removed, {added} added{fields}"
    gained = sorted({name for name in new.columns if name.startswith("h_")} - set(hashes) - ignored)
    if added or gained:
        return "extended", f"{added} sample(s) added" + (f", new field(s) {', '.join(gained)}" if gained else "")
    return "repacked", "same samples and texts, other order, clusters, shards or settings"
