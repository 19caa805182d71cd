"""Forgetting: removes samples from store, answers, caches, snapshots and all versions, and denies them from then on.

The plan is written to ``forgetting.json`` in the workspace before anything is removed, every step may be repeated, and the
plan is deleted last: a killed forget is finished by the next call. Nothing here asks for confirmation.

All data sets of a workspace are searched, because an image that stays in one of them is not forgotten.
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
from curation.engine.fits import fit_path
from curation.forget.find import Traces, find_traces, local_versions
from curation.forget.remove import purge_answers, purge_feedback, purge_files, purge_store, samples_mentioning
from curation.sources.reading.fetch import FOLDER as FETCHED
from curation.versions.numbering import dataset_lock
from curation.versions.repack import RepackPlan
from curation.versions.reshard import publish_repacked
from curation.versions.reuse import record_path
from data_manifests.absence import files_mentioning
from data_manifests.atomic_files import DRAFT_PREFIX, sync_folder, write_atomically
from data_manifests.data_card import card_path
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest, version_key
from data_manifests.outputs import recorded_outputs
from data_manifests.sample import UID_HEX_CHARS
from data_manifests.seeds import canonical

CleanCaches = Callable[[Sequence[str], Sequence[str]], int]
"""Removes uids and texts from caches that curation does not know; returns the number of removed entries."""


@dataclass
class ForgetPlan:
    """What to remove and renew.

    Attributes:
        traces: What to remove.
        renewed: For each data set, versions and their replacements: (old, new or None), oldest first.
        elsewhere: Versions whose shards are not in this workspace and so cannot be searched.
    """

    traces: Traces
    renewed: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, workspace: Path) -> ForgetPlan | None:
        """Return the plan of an interrupted forget, or None."""
        path = workspace / FORGET_PLAN_FILE
        if not path.is_file():
            return None
        body = orjson.loads(path.read_bytes())
        renewed = {name: [(old, new) for old, new in pairs] for name, pairs in body["renewed"].items()}
        return cls(Traces(**body["traces"]), renewed, body["elsewhere"])

    def save(self, workspace: Path) -> None:
        """Write the plan into the workspace."""
        write_atomically(workspace / FORGET_PLAN_FILE, canonical(asdict(self)))


@dataclass
class ForgetReport:
    """What was removed.

    Attributes:
        uids: Forgotten samples.
        removed: Removed version -> its replacement.
        rows: Results removed from the store.
        answers: Answers removed from the journal.
        cached: Entries removed from caches.
        snapshots: Snapshots of sources removed; the next run reads the source again.
        purged: Samples that stay and had references to a forgotten one.
        elsewhere: Versions that could not be searched.
        left: Runs, pages and exports that have traces -> the command that wrote each.
    """

    uids: list[str]
    removed: dict[str, str | None] = field(default_factory=dict)
    rows: int = 0
    answers: int = 0
    cached: int = 0
    snapshots: int = 0
    purged: int = 0
    elsewhere: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def complete_uids(catalog: Catalog, name: str, prefixes: Sequence[str]) -> list[str]:
    """Return the full uids with these prefixes.

    Raises:
        InputError: no sample of the data set has a uid with a prefix, or more than one has.
    """
    catalog.resolve(name)
    known: set[str] = set()
    for version in local_versions(catalog):
        if version.manifest.name == name:
            known.update(version.index(["uid"])["uid"].to_pylist())
            known.update(version.table("dropped.parquet", ["uid"])["uid"].to_pylist())
    known.discard("")
    found = set()
    for prefix in prefixes:
        matching = sorted(uid for uid in known if prefix and uid.startswith(prefix.lower()))
        if not matching:
            raise InputError(
                f"{name}: no sample has the uid '{prefix}' in the versions that are here",
                allowed=f"a uid of {UID_HEX_CHARS} hex digits, or a unique prefix",
                fix="look it up in the index.parquet of a version",
            )
        if len(matching) > 1:
            raise InputError(
                f"{name}: {len(matching)} samples' uids start with '{prefix}' in the versions that are here",
                allowed=", ".join(matching[:5]),
                fix="give more digits",
            )
        found.add(matching[0])
    return sorted(found)


def plan_forget(catalog: Catalog, uids: Sequence[str]) -> ForgetPlan:
    """Find what to remove and which versions to renew; nothing is changed.

    Args:
        catalog: Where versions are.
        uids: Full uids.
    """
    plan = ForgetPlan(find_traces(catalog, uids))
    needles, forgotten = plan.traces.needles(), frozenset(uids)
    for name in catalog.names():
        local, affected = [], []
        for number in catalog.versions(name):
            folder = catalog.folder(name, number)
            if not (folder / "index.parquet").is_file():
                plan.elsewhere.append(f"{name}@{number}")
                continue
            local.append(number)
            version = DatasetVersion(Manifest.load(catalog.manifest_path(name, number)), folder)
            if _is_listed(version, forgotten, plan.traces.names) or samples_mentioning(version, forgotten, needles):
                affected.append(number)
        if affected:
            # newer versions are renewed too: the newest must stay the newest
            plan.renewed[name] = _replacements(catalog, name, local[local.index(affected[0]) :], forgotten)
    return plan


def _replacements(
    catalog: Catalog, name: str, old: Sequence[str], forgotten: frozenset[str]
) -> list[tuple[str, str | None]]:
    """Return the replacement of each version: the next MAJOR, or None if no sample is left."""
    pairs: list[tuple[str, str | None]] = []
    major = version_key(catalog.versions(name)[-1])[0] + 1
    for version in old:
        uids = catalog.open(f"{name}@{version}").index(["uid"])["uid"].to_pylist()
        is_empty = forgotten.issuperset(uids)
        pairs.append((version, None if is_empty else f"{major}.0.0"))
        major += not is_empty
    return pairs


def _is_listed(version: DatasetVersion, uids: frozenset[str], names: Sequence[str]) -> bool:
    """Return whether a version's tables have one of the samples, by uid or name."""
    tables = [version.index(["uid"]), version.table("dropped.parquet")]
    if (version.folder / "rejected.parquet").is_file():
        tables.append(version.table("rejected.parquet", ["uid"]))
    if any(not uids.isdisjoint(table["uid"].to_pylist()) for table in tables):
        return True
    texts = "\n".join(text for row in tables[1].to_pylist() for text in (row["name"], row["detail"]))
    return any(name in texts for name in names)


def run_forget(
    catalog: Catalog, plan: ForgetPlan, clean_caches: CleanCaches, progress: Callable[[str], None] = lambda _: None
) -> ForgetReport:
    """Carry out a plan; after a kill, carry out the saved plan again.

    Args:
        catalog: Where versions are.
        plan: From `plan_forget`, or `ForgetPlan.load`.
        clean_caches: Cleans caches that curation does not know.
        progress: Called with a description of each step.

    Raises:
        InputError: another run has locked a data set, or a file cannot be used; call again afterwards.
    """
    workspace, traces = catalog.workspace, plan.traces
    report = ForgetReport(traces.uids, elsewhere=plan.elsewhere)
    with ExitStack() as locks:
        names = sorted({*catalog.names(), *plan.renewed})
        for name in names:
            locks.enter_context(dataset_lock(catalog, name))
        plan.save(workspace)
        for name in names:
            record_path(catalog, name).unlink(missing_ok=True)  # it has hashes of the samples
        Denylist.load(catalog.manifests).adding(traces.uids).save(catalog.manifests)
        progress("memo store")
        report.rows = purge_store(workspace / "store", traces)
        progress("answers and caches")
        report.answers = purge_answers(workspace / "answers.sqlite", traces)
        report.cached = clean_caches(traces.uids, traces.texts) + purge_files(workspace, traces)
        for name in sorted(plan.renewed, key=lambda name: (_has_renewed_parent(catalog, plan, name), name)):
            shutil.rmtree(workspace / "datasets" / name / ".building", ignore_errors=True)
            for old, new in plan.renewed[name]:
                progress(f"{name}@{old} → {new or 'nothing is left'}")
                report.purged += _renew(catalog, plan, name, old, new)
                report.removed[f"{name}@{old}"] = f"{name}@{new}" if new else None
        snapshots = [workspace / "intake" / name for name in traces.snapshots]
        for folder in [*snapshots, *(workspace / "intake").glob(f"{DRAFT_PREFIX}*")]:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(workspace / FETCHED, ignore_errors=True)  # copies of sources; what is not forgotten is fetched again
        report.snapshots = len(snapshots)
        for path, command in recorded_outputs(workspace):
            progress(f"{path}, by {command}")
            report.rows += purge_feedback(path, traces)
            report.left |= dict.fromkeys(map(str, files_mentioning(path, traces.needles())), command)
        (workspace / FORGET_PLAN_FILE).unlink()
        sync_folder(workspace)
    return report


def _has_renewed_parent(catalog: Catalog, plan: ForgetPlan, name: str) -> bool:
    """Return whether a data set was made from another one that is renewed, and so must be renewed first."""
    for version in catalog.versions(name):
        parent = Manifest.load(catalog.manifest_path(name, version)).body["parent"]
        if parent and parent.get("name", name) != name:
            return parent["name"] in plan.renewed
    return False


def _renew(catalog: Catalog, plan: ForgetPlan, name: str, old: str, new: str | None) -> int:
    """Publish a version without the samples, then remove the old one; return how many other samples were redacted."""
    old_path, purged = catalog.manifest_path(name, old), 0
    if new is not None and not catalog.manifest_path(name, new).is_file():
        version = catalog.open(f"{name}@{old}")
        forgotten = frozenset(plan.traces.uids)
        stays = np.array([uid not in forgotten for uid in version.index(["uid"])["uid"].to_pylist()], dtype=bool)
        replaced = samples_mentioning(version, forgotten, plan.traces.needles())
        purged = len(replaced)
        body = version.manifest.body
        repack = RepackPlan(
            np.flatnonzero(stays).astype(np.int64),
            max(shard["bytes"] for shard in body["shards"]),
            replaced,
            forgotten | frozenset(plan.traces.names),
            plan.traces.needles(),
            int((~stays).sum()),
            lost_fits=frozenset(plan.traces.fits) | _unknown_fits(version, workspace=catalog.workspace),
        )
        changes = {
            "name": name,
            "version": new,
            "parent": _parent(catalog, plan, name, body["parent"]),
            "build": blake3(canonical(["forget", new, body["recipe"], body["source"]])).hexdigest(length=16),
        }
        publish_repacked(catalog, version, repack, changes)
    removed: Mapping[str, str | None] = {f"{name}@{old}": f"{name}@{new}" if new else None}
    Denylist.load(catalog.manifests).adding(removed=removed).save(catalog.manifests)
    old_path.unlink(missing_ok=True)  # without its manifest, a folder is not a version
    old_path.with_name(f"{old}.run.json").unlink(missing_ok=True)
    card_path(old_path).unlink(missing_ok=True)
    shutil.rmtree(catalog.folder(name, old), ignore_errors=True)
    return purged


def _unknown_fits(version: DatasetVersion, workspace: Path) -> frozenset[str]:
    """Return a version's fits that the store does not have: whether they were learned from a sample cannot be told."""
    fits = [(record, record["fit"]["hash"]) for record in version.manifest.body["stages"] if "fit" in record]
    return frozenset(
        name
        for record, name in fits
        if not fit_path(workspace / "store" / record["name"] / record["fingerprint"], name).is_file()
    )


def _parent(catalog: Catalog, plan: ForgetPlan, name: str, parent: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the parent of a renewed version: the replacement of its old parent, if there is one."""
    if parent is None:
        return None
    parent_name = str(parent.get("name", name))
    renewed = dict(plan.renewed.get(parent_name, []))
    if parent["version"] not in renewed:
        known = parent["version"] in catalog.versions(parent_name)
        return dict(parent) if known else None
    version = renewed[parent["version"]]
    path = catalog.manifest_path(parent_name, str(version))
    if version is None or not path.is_file():
        return None
    return {**parent, "version": version, "fingerprint": Manifest.load(path).fingerprint}
