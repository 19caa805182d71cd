"""Versions: whether finished stages give a new dataset version, its number, and its publication."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from blake3 import blake3

from curation.engine.fits import SHARE_NEW, FitPolicy, KeptFit
from curation.engine.intake import Snapshot
from curation.engine.replay import FinishedStage, Replay
from curation.engine.stage import FittedStage, IndexedStage, Licensed, Resource, Stage
from curation.engine.store import ALL_SAMPLES, Store
from curation.versions.layout import Layout
from curation.versions.publish import write_contents
from curation.versions.reuse import LAYOUT_VERSION, EarlierVersion, save_record
from curation.versions.tables import VersionContents, fit_file
from curation.versions.write_shards import ProcessMap
from data_manifests.atomic_files import draft_folder, publish_folder
from data_manifests.croissant import croissant_bytes
from data_manifests.errors import InputError
from data_manifests.manifest import FORMAT, Catalog, Manifest, version_key
from data_manifests.plugins import describe_origin, is_ours, origin_of
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class VersionRequest:
    """What a version is made from, besides the stages' results.

    Attributes:
        name: The data set's name.
        recipe: The manifest's description of the recipe: name, paper.
        source: The manifest's description of the source.
        shard_bytes: Target size of a shard.
        bands: Bands of difficulty by which samples of a cluster are sorted; 0 sorts by uid alone.
        fits: Requested fits: ``name@X.Y.Z`` and the fingerprint of its manifest; empty for the usual ones.
        refit: Stages that fit anew; ``*`` means all.
        origins: Where recipe and source come from if they are not ours. They determine no bytes, so they are no part of
            what tells whether a version is up to date.
        fresh: Whether results were computed again that the store had: they may be others.
    """

    name: str
    recipe: Mapping[str, Any]
    source: Mapping[str, Any]
    shard_bytes: int
    bands: int = 0
    fits: str = ""
    refit: frozenset[str] = frozenset()
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    fresh: bool = False

    @property
    def layout(self) -> Layout:
        """How its samples are ordered and divided into shards."""
        return Layout(self.shard_bytes, "cluster", self.bands)


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
    from filelock import FileLock, Timeout

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
    options: dict[str, Any] = {"bands": request.bands} if request.bands else {}
    options |= {"fits": request.fits} if request.fits else {}
    parts += [[stage.fingerprint() for stage in stages], *([options] if options else [])]
    return blake3(canonical(parts)).hexdigest(length=16)


def up_to_date(
    catalog: Catalog, request: VersionRequest, stages: Sequence[Stage], snapshot: Snapshot
) -> Manifest | None:
    """Return the newest version's manifest if it was built from these inputs and its files are complete.

    A version whose fits were learned on an earlier one is not up to date if a stage is to be fitted anew.
    """
    latest = catalog.latest(request.name)
    if latest is None or latest.body["build"] != build_id(request, stages, snapshot):
        return None
    of_others = {
        record["name"]
        for record in latest.body["stages"]
        if record.get("fit", {}).get("learned_on") not in (None, f"{latest.name}@{latest.version}")
    }
    if of_others & request.refit or (of_others and "*" in request.refit):
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
    samples: Replay | None = None,
    processes: ProcessMap = map,
) -> PublishedVersion:
    """Write the version's folder, rename it into place and then write its manifest.

    A reader finds a version through its manifest, which is written last. Missing files of the newest one are restored.

    Args:
        catalog: Where versions are.
        request: What else it is made from.
        finished: All stages, with where their results are.
        snapshot: The samples.
        store: The memo store.
        progress: Called with the number of samples written so far.
        samples: The samples after the stages, where one has them: the results are not looked up again.
        processes: As `write_contents` takes it.

    Raises:
        InputError: restored files would not have the fingerprint of their manifest.
        OSError: the disk is full, or the folder cannot be written; nothing is published.
    """
    latest = catalog.latest(request.name)
    with (
        draft_folder(catalog.workspace / "datasets" / request.name, ".building") as draft,
        TemporaryFile(dir=draft) as records,
        EarlierVersion.opened(catalog, latest) as before,
    ):
        samples = samples or Replay(snapshot, Store(store), ALL_SAMPLES, finished)
        contents = write_contents(draft, samples, request.layout, records, before, progress, processes)
        build = build_id(request, [item.stage for item in finished], snapshot)
        restored = _of_same_inputs(latest, build, finished)
        if restored is not None and request.fresh and _differs(contents, restored):
            restored = None
        if restored is not None and request.fresh and has_files(catalog, restored):
            return PublishedVersion(restored, created=False, why="computed again, and everything is as it was")
        number, parent, why = _number(catalog, latest, restored, draft, finished)
        body = {
            "format": FORMAT,
            "name": request.name,
            "version": number,
            "parent": parent,
            "build": build,
            "recipe": dict(request.recipe),
            "source": dict(request.source),
            **_origins(request, restored),
            "stages": _finished_records(finished, restored, f"{request.name}@{number}"),
        }
        manifest = seal_contents(contents, body)
        if restored is not None:
            _require_same(manifest, restored, finished)
        publish_contents(catalog, contents, manifest)
        save_record(catalog, manifest, records, contents.judged)
    return PublishedVersion(manifest, restored is None, why)


def _of_same_inputs(latest: Manifest | None, build: str, finished: Sequence[FinishedStage]) -> Manifest | None:
    """Return the newest version if it was made from the same inputs and fits."""
    is_same = latest is not None and latest.body["build"] == build and _same_fits(latest, finished)
    return latest if is_same else None


def _differs(contents: VersionContents, version: Manifest) -> bool:
    """Return whether contents, but for croissant.json, are others than those of a version."""
    body = {**version.body, "files": [file for file in version.body["files"] if file["name"] != "croissant.json"]}
    found = orjson.loads(canonical(contents.to_json()))  # as a manifest is read: lists, not tuples
    return any(body.get(name) != value for name, value in found.items())


def _origins(request: VersionRequest, restored: Manifest | None) -> dict[str, Any]:
    """Return the manifest's record of where recipe and source come from; nothing for ours. A restored version has its own."""
    if restored is not None:
        return {"origins": restored.body["origins"]} if "origins" in restored.body else {}
    found = {part: dict(origin) for part, origin in request.origins.items() if origin}
    return {"origins": found} if found else {}


def _require_same(rebuilt: Manifest, restored: Manifest, finished: Sequence[FinishedStage]) -> None:
    """Check that rebuilt files are those of a manifest.

    Raises:
        InputError: they are others; the message has the stages that came from elsewhere then.
    """
    if rebuilt.fingerprint != restored.fingerprint:
        moved = moved_stages(restored, [item.stage for item in finished])
        raise InputError(
            f"{restored.name}@{restored.version}: rebuilding from the same inputs gave fingerprint {rebuilt.fingerprint}, "
            f"its manifest has {restored.fingerprint}" + "".join(f"; {one}" for one in moved),
            allowed="the same library versions (constraints.txt) that built it"
            + (", and the same plug-ins" if moved else ""),
            fix="install them, or publish under another --name",
        )


def moved_stages(manifest: Manifest, stages: Sequence[Stage]) -> list[str]:
    """Return a sentence for each stage that comes from another package, version or file than the one that made a version."""
    before = {record["name"]: record.get("origin", {}) for record in manifest.body["stages"]}
    return [
        f"stage '{stage.name}' came from {describe_origin(before[stage.name])}, here it comes from {describe_origin(now)}"
        for stage in stages
        if stage.name in before and (now := stage_origin(stage)) != before[stage.name]
    ]


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
        "image_decoder": stage.image_decoder(),
        **({"origin": origin} if (origin := stage_origin(stage)) else {}),
    }


def stage_origin(stage: Stage) -> dict[str, str]:
    """Return where a stage's class comes from; empty for ours."""
    return {} if is_ours(type(stage)) else origin_of(type(stage).__module__)


def _resource(resource: Resource) -> dict[str, Any]:
    record = {"name": resource.describe(), "hash": resource.content_hash()}
    return record | ({"licences": list(resource.licences())} if isinstance(resource, Licensed) else {})


def _finished_records(finished: Sequence[FinishedStage], restored: Manifest | None, ref: str) -> list[dict[str, Any]]:
    """Return the records of stages that have run; a restored version has its own: its fits are kept now, whatever they were then."""
    return [_finished_record(item, ref) for item in finished] if restored is None else restored.body["stages"]


def _finished_record(item: FinishedStage, ref: str) -> dict[str, Any]:
    """Return a manifest's record of a stage that has run; `ref` is the version it is in."""
    if item.fit is None:
        return stage_record(item.stage)
    fit = {
        "hash": item.fit.hash,
        "file": fit_file(item.stage.name),
        "learned_on": item.fit.learned_on or ref,
        "samples": item.fit.num_samples,
        "why": item.fit.why,
        "checks": [check.to_json() for check in item.fit.checks],
    }
    if isinstance(item.stage, FittedStage) and item.stage.decisions:
        fit["learning"] = item.stage.learning_fingerprint()
    return {**stage_record(item.stage), "fit": fit}


def _fit_hashes(manifest: Manifest) -> dict[str, str]:
    """Return the hash of each stage's fit."""
    return {record["name"]: record["fit"]["hash"] for record in manifest.body["stages"] if "fit" in record}


def _same_fits(manifest: Manifest, finished: Sequence[FinishedStage]) -> bool:
    return _fit_hashes(manifest) == {item.stage.name: item.fit.hash for item in finished if item.fit is not None}


def kept_fits(catalog: Catalog, manifest: Manifest) -> dict[str, KeptFit]:
    """Return the fits of a version, by stage name."""
    folder = catalog.folder(manifest.name, manifest.version)
    return {
        record["name"]: KeptFit(
            record["fingerprint"],
            folder / record["fit"]["file"],
            record["fit"]["hash"],
            record["fit"]["learned_on"],
            record["fit"].get("learning", record["fingerprint"]),
            next((check["bound"] for check in record["fit"]["checks"] if check["measure"] == SHARE_NEW), 0.0),
        )
        for record in manifest.body["stages"]
        if record.get("fit", {"file": ""})["file"]
    }


def fit_policy(
    catalog: Catalog, manifest: Manifest, refit: frozenset[str] = frozenset(), *, given: bool = False
) -> FitPolicy:
    """Return that the fits of a version are kept; see `FitPolicy` for `refit` and `given`."""
    before = {record["name"]: record["fingerprint"] for record in manifest.body["stages"]}
    return FitPolicy(kept_fits(catalog, manifest), refit, given, before)


def _follows(latest: Manifest, finished: Sequence[FinishedStage]) -> tuple[list[str], frozenset[str]]:
    """Return which stages were fitted anew, and the hash columns that may differ though nobody changed the sample.

    These are the fields of indexed stages (a new neighbour does not change a sample), of stages with another fit than in
    the newest version, and of all stages that read such a field.
    """
    before = _fit_hashes(latest)
    refitted: list[str] = []
    moved: set[str] = set()
    columns: set[str] = set()
    for item in finished:
        stage, anew = item.stage, item.fit is not None and before.get(item.stage.name, item.fit.hash) != item.fit.hash
        refitted += [stage.name] if anew else []
        if anew or isinstance(stage, IndexedStage) or moved & set(stage.required_fields()):
            moved |= {spec.name for spec in stage.provides}
            columns |= {
                f"h_{spec.role if spec.role in ('negatives', 'views') else spec.name}" for spec in stage.provides
            }
    return refitted, frozenset(columns)


def _number(
    catalog: Catalog, latest: Manifest | None, restored: Manifest | None, draft: Path, finished: Sequence[FinishedStage]
) -> tuple[str, dict[str, str] | None, str]:
    """Return the version number, its parent and the reason; a restored version keeps its own."""
    if restored is None:
        return _next_number(catalog, latest, draft, finished)
    return restored.version, restored.body["parent"], "files restored from the same inputs"


def _next_number(
    catalog: Catalog, latest: Manifest | None, draft: Path, finished: Sequence[FinishedStage]
) -> tuple[str, dict[str, str] | None, str]:
    """Return the version number, its parent and the reason (Croissant's rule: repacked, extended, edited)."""
    if latest is None:
        return "1.0.0", None, "first version"
    parent = {"version": latest.version, "fingerprint": latest.fingerprint}
    major, minor, patch = version_key(latest.version)
    before = catalog.folder(latest.name, latest.version) / "index.parquet"
    if not before.is_file():
        return f"{major + 1}.0.0", parent, "edited (the parent's files are not here to compare with)"
    refitted, ignored = _follows(latest, finished)
    kind, why = _change(before, draft / "index.parquet", ignored)
    if refitted:
        kind = "extended" if kind == "repacked" else kind
        learned_on = {item.stage.name: item.fit.learned_on for item in finished if item.fit is not None}
        anew = [name for name in refitted if not learned_on[name]]
        given = [f"{name} ({learned_on[name]})" for name in refitted if learned_on[name]]
        why += f"; fitted anew: {', '.join(anew)}" if anew else ""
        why += f"; other fits than before: {', '.join(given)}" if given else ""
    numbers = {"edited": (major + 1, 0, 0), "extended": (major, minor + 1, 0), "repacked": (major, minor, patch + 1)}
    return ".".join(map(str, numbers[kind])), parent, f"{kind}: {why}"


def _change(before: Path, after: Path, ignored: frozenset[str]) -> tuple[str, str]:
    """Return the kind of change between two indexes and its description, by their hash columns except the ignored."""
    import pyarrow.compute as pc

    old, new = (_hash_columns(path) for path in (before, after))
    hashes = [name for name in old.column_names if name.startswith("h_") and name not in ignored]
    lost = sorted(set(hashes) - set(new.column_names))
    places = pc.index_in(
        new["uid"].cast("string"), value_set=old["uid"].cast("string").combine_chunks()
    ).combine_chunks()
    added = places.null_count
    removed = old.num_rows - (new.num_rows - added)
    earlier, later = old.take(places.drop_null()), new.filter(places.is_valid())
    differs = np.zeros(later.num_rows, np.bool_)
    for name in hashes:
        if name not in lost:
            differs |= pc.fill_null(pc.not_equal(earlier[name], later[name]), False).to_numpy()
    edited = int(differs.sum())
    if removed or edited or lost:
        fields = f", {len(lost)} field(s) gone ({', '.join(lost)})" if lost else ""
        return "edited", f"{edited} sample(s) changed, {removed} removed, {added} added{fields}"
    gained = sorted({name for name in new.column_names if name.startswith("h_")} - set(hashes) - ignored)
    if added or gained:
        return "extended", f"{added} sample(s) added" + (f", new field(s) {', '.join(gained)}" if gained else "")
    return "repacked", "same samples and texts, other order, clusters, shards or settings"


def _hash_columns(path: Path) -> pa.Table:
    """Return the columns of an index by which two versions are compared."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    return file.read([name for name in file.schema_arrow.names if name == "uid" or name.startswith("h_")])
