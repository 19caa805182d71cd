"""Forgetting: samples leave store, answers, caches, snapshots and every version, and are refused from then on.

What is to be done is written down before anything is removed (``forgetting.json`` in the workspace), every step may be
done twice, and the note goes last: killed at any moment, the next call finishes. Nothing here asks.

A photograph that stays in another data set of the same workspace is not forgotten, so all of them are treated.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from blake3 import blake3

from curation.engine.denylist import FORGET_PLAN_FILE, Denylist
from curation.forget.find import Traces, find_traces, local_versions
from curation.forget.remove import purge_answers, purge_benchmarks, purge_store, samples_mentioning
from curation.versions.numbering import dataset_lock
from curation.versions.repack import RepackPlan
from curation.versions.reshard import publish_repacked
from data_manifests.atomic_files import DRAFT_PREFIX, sync_folder, write_atomically
from data_manifests.data_card import card_path
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest, version_key
from data_manifests.sample import UID_HEX_CHARS
from data_manifests.seeds import canonical

CleanCaches = Callable[[Sequence[str], Sequence[str]], int]
"""Takes uids and texts out of caches that others keep in the workspace; returns how many entries went."""


@dataclass
class ForgetPlan:
    """What is to be done, as written down before it is.

    Attributes:
        traces: What goes.
        renewed: For each data set, versions and what takes their place: [old, new or None], oldest first.
        elsewhere: Versions whose shards are not in this workspace, so that nobody can look into them.
    """

    traces: Traces
    renewed: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, workspace: Path) -> ForgetPlan | None:
        """Return what an interrupted forget wrote down, or None."""
        path = workspace / FORGET_PLAN_FILE
        if not path.is_file():
            return None
        body = orjson.loads(path.read_bytes())
        renewed = {name: [(old, new) for old, new in pairs] for name, pairs in body["renewed"].items()}
        return cls(Traces(**body["traces"]), renewed, body["elsewhere"])

    def save(self, workspace: Path) -> None:
        """Write it down."""
        write_atomically(workspace / FORGET_PLAN_FILE, canonical(asdict(self)))


@dataclass
class ForgetReport:
    """What was done.

    Attributes:
        uids: Samples forgotten.
        removed: Version that went -> what took its place.
        rows: Results that left the store.
        answers: Answers that left the journal.
        cached: Entries that left caches.
        snapshots: Snapshots of sources removed; the next run reads the source again.
        purged: Samples that stay but named a forgotten one.
        elsewhere: Versions that could not be looked into.
    """

    uids: list[str]
    removed: dict[str, str | None] = field(default_factory=dict)
    rows: int = 0
    answers: int = 0
    cached: int = 0
    snapshots: int = 0
    purged: int = 0
    elsewhere: list[str] = field(default_factory=list)


def complete_uids(catalog: Catalog, name: str, wanted: Sequence[str]) -> list[str]:
    """Return the full uids that beginnings stand for.

    Raises:
        InputError: no sample of the data set begins like this, or more than one.
    """
    catalog.resolve(name)
    known: set[str] = set()
    for version in local_versions(catalog):
        if version.manifest.name == name:
            known.update(version.index(["uid"])["uid"].to_pylist())
            known.update(version.table("dropped.parquet", ["uid"])["uid"].to_pylist())
    known.discard("")
    found = []
    for text in wanted:
        fitting = sorted(uid for uid in known if text and uid.startswith(text.lower()))
        if len(fitting) != 1:
            many = f"{len(fitting)} samples' uids begin with '{text}'" if fitting else f"no sample has the uid '{text}'"
            raise InputError(
                f"{name}: {many} in the versions that are here",
                allowed=", ".join(fitting[:5]) or f"a uid of {UID_HEX_CHARS} hex digits, or its unique beginning",
                fix="clipcurate show NAME@VER lists none: look into index.parquet"
                if not fitting
                else "give more digits",
            )
        found += fitting
    return sorted(set(found))


def plan_forget(catalog: Catalog, uids: Sequence[str]) -> ForgetPlan:
    """Find what would go and which versions would be renewed; nothing is changed.

    Args:
        catalog: Where versions lie.
        uids: Full uids.
    """
    traces = find_traces(catalog, uids)
    todo = ForgetPlan(traces)
    needles, wanted = traces.needles(), frozenset(uids)
    for name in catalog.names():
        versions, affected = catalog.versions(name), []
        for version in versions:
            folder = catalog.folder(name, version)
            if not (folder / "index.parquet").is_file():
                todo.elsewhere.append(f"{name}@{version}")
                continue
            here = DatasetVersion(Manifest.load(catalog.manifest_path(name, version)), folder)
            if _lists(here, wanted, traces.names) or samples_mentioning(here, wanted, needles):
                affected.append(version)
        if affected:
            # younger versions are renewed too: the newest must stay the newest
            here_now = [version for version in versions if f"{name}@{version}" not in todo.elsewhere]
            old = here_now[here_now.index(affected[0]) :]
            first = version_key(versions[-1])[0] + 1
            todo.renewed[name] = _numbered(catalog, name, old, first, wanted)
    return todo


def _numbered(
    catalog: Catalog, name: str, old: Sequence[str], first: int, uids: frozenset[str]
) -> list[tuple[str, str | None]]:
    """Return what takes the place of each version: the next MAJOR, or nothing where no sample is left."""
    pairs: list[tuple[str, str | None]] = []
    for version in old:
        held = catalog.open(f"{name}@{version}").index(["uid"])["uid"].to_pylist()
        number = first + sum(new is not None for _, new in pairs)
        pairs.append((version, None if uids.issuperset(held) else f"{number}.0.0"))
    return pairs


def _lists(version: DatasetVersion, uids: frozenset[str], names: Sequence[str]) -> bool:
    """Whether a version's tables name one of the samples."""
    tables = [version.index(["uid"]), version.table("dropped.parquet")]
    if (version.folder / "rejected.parquet").is_file():
        tables.append(version.table("rejected.parquet", ["uid"]))
    if any(uids.intersection(table["uid"].to_pylist()) for table in tables):
        return True
    told = "\n".join(detail for row in tables[1].to_pylist() for detail in (row["name"], row["detail"]))
    return any(name in told for name in names)


def run_forget(
    catalog: Catalog, todo: ForgetPlan, caches: CleanCaches, progress: Callable[[str], None] = lambda _: None
) -> ForgetReport:
    """Do what was planned; after a kill, do it again from what was written down.

    Args:
        catalog: Where versions lie.
        todo: What `plan_forget` found, or `ForgetPlan.load` read.
        caches: Removes from caches that curation does not know.
        progress: Is told what is being done.

    Raises:
        InputError: another run holds a data set, or a file cannot be used; call again afterwards.
    """
    workspace, traces = catalog.workspace, todo.traces
    report = ForgetReport(traces.uids, elsewhere=todo.elsewhere)
    with ExitStack() as held:
        for name in sorted({*catalog.names(), *todo.renewed}):
            held.enter_context(dataset_lock(catalog, name))
        todo.save(workspace)
        Denylist.load(catalog.manifests).adding(traces.uids).save(catalog.manifests)
        progress("memo store")
        report.rows = purge_store(workspace / "store", traces)
        progress("answers and caches")
        report.answers = purge_answers(workspace / "answers.sqlite", traces)
        report.cached = caches(traces.uids, traces.texts) + purge_benchmarks(workspace, traces)
        for name in sorted(todo.renewed, key=lambda name: (_grown_from_another(catalog, todo, name), name)):
            shutil.rmtree(workspace / "datasets" / name / ".building", ignore_errors=True)
            for old, new in todo.renewed[name]:
                progress(f"{name}@{old} → {new or 'nothing is left'}")
                report.purged += _renew(catalog, todo, name, old, new)
                report.removed[f"{name}@{old}"] = f"{name}@{new}" if new else None
        for snapshot in traces.snapshots:
            shutil.rmtree(workspace / "intake" / snapshot, ignore_errors=True)
        for half in (workspace / "intake").glob(f"{DRAFT_PREFIX}*"):
            shutil.rmtree(half, ignore_errors=True)
        report.snapshots = len(traces.snapshots)
        (workspace / FORGET_PLAN_FILE).unlink()
        sync_folder(workspace)
    return report


def _grown_from_another(catalog: Catalog, todo: ForgetPlan, name: str) -> bool:
    """Whether a data set was cut from another one, whose new versions must then be there first."""
    for version in catalog.versions(name):
        parent = Manifest.load(catalog.manifest_path(name, version)).body["parent"]
        if parent and parent.get("name", name) != name:
            return parent["name"] in todo.renewed
    return False


def _renew(catalog: Catalog, todo: ForgetPlan, name: str, old: str, new: str | None) -> int:
    """Publish a version without the samples, then remove the old one; return how many others were purged."""
    old_path, purged = catalog.manifest_path(name, old), 0
    if new is not None and not catalog.manifest_path(name, new).is_file():
        version = catalog.open(f"{name}@{old}")
        index, gone = version.index(["uid"]), frozenset(todo.traces.uids)
        stays = np.array([uid not in gone for uid in index["uid"].to_pylist()], dtype=bool)
        replaced = samples_mentioning(version, gone, todo.traces.needles())
        purged = len(replaced)
        body = version.manifest.body
        cut = RepackPlan(
            np.flatnonzero(stays).astype(np.int64),
            max(shard["bytes"] for shard in body["shards"]),
            replaced,
            gone | frozenset(todo.traces.names),
            int((~stays).sum()),
        )
        about = {
            "name": name,
            "version": new,
            "parent": _parent(catalog, todo, name, body["parent"]),
            "build": blake3(canonical(["forget", new, body["recipe"], body["source"]])).hexdigest(length=16),
        }
        publish_repacked(catalog, version, cut, about)
    removed: Mapping[str, str | None] = {f"{name}@{old}": f"{name}@{new}" if new else None}
    Denylist.load(catalog.manifests).adding(removed=removed).save(catalog.manifests)
    old_path.unlink(missing_ok=True)  # without its manifest, a folder is no version
    old_path.with_name(f"{old}.run.json").unlink(missing_ok=True)
    card_path(old_path).unlink(missing_ok=True)
    shutil.rmtree(catalog.folder(name, old), ignore_errors=True)
    return purged


def _parent(catalog: Catalog, todo: ForgetPlan, name: str, parent: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the lineage of a renewed version: its parent's successor, if there is one."""
    if parent is None:
        return None
    whose = str(parent.get("name", name))
    renewed = dict(todo.renewed.get(whose, []))
    if parent["version"] not in renewed:
        known = parent["version"] in catalog.versions(whose)
        return dict(parent) if known else None
    version = renewed[parent["version"]]
    path = catalog.manifest_path(whose, str(version))
    if version is None or not path.is_file():
        return None
    return {**parent, "version": version, "fingerprint": Manifest.load(path).fingerprint}
