"""What `reshard`, `forget` and `verify --absent` do and print."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, Manifest
from data_manifests.sample import UID_HEX_CHARS
from flows.execution.run_record import write_run_record
from flows.terminal.console import counter, err, out, print_json, progress_bars
from flows.terminal.versions import print_damage

if TYPE_CHECKING:
    from curation.forget.forget import ForgetPlan, ForgetReport
    from curation.versions.layout import Layout
    from data_manifests.absence import AbsenceReport, OriginalSample


def run_reshard(
    catalog: Catalog,
    ref: str,
    layout: Layout,
    keep: Path | None,
    out_name: str | None,
    *,
    judge: bool,
    as_json: bool,
) -> None:
    """Publish a version in another layout and print the result.

    Args:
        catalog: Workspace and manifests.
        ref: The version.
        layout: Shard size, order, conditions and uids to keep.
        keep: File that those uids come from.
        out_name: Another data set's name.
        judge: Measure the blind accuracy of the remaining negatives again.
        as_json: Print only JSON.
    """
    from curation.versions.reshard import reshard

    started = time.perf_counter()
    with progress_bars() as bars:
        made = reshard(catalog, ref, layout, out_name, counter(bars, "copying"), judge=judge)
    body, seconds = made.manifest.body, round(time.perf_counter() - started, 3)
    if made.created:
        shape = {"shard_mb": layout.shard_bytes // 2**20, "order": layout.order, "bands": layout.bands}
        job = {"ref": ref, **shape, "where": list(layout.where)}
        job |= {"keep": str(keep) if keep else None, "out_name": out_name, "judge": judge}
        _write_record(catalog, made.manifest, "reshard", job, seconds, why=made.why)
    name = f"{made.manifest.name}@{made.manifest.version}"
    num_samples, num_kept = body["counts"]["samples"], len(layout.keep or ())
    if num_samples < num_kept and not layout.where:
        err.print(f"{num_kept - num_samples} of {num_kept} uids in {keep} are not in {ref}")
    if _has_blind_accuracy(catalog.open(ref).manifest) and not _has_blind_accuracy(made.manifest):
        err.print("the blind accuracy of a selection is not known; --judge measures it")
    if as_json:
        result = {"version": name, "created": made.created, "why": made.why, "counts": body["counts"]}
        print_json({**result, "fingerprint": made.manifest.fingerprint, "seconds": seconds})
        return
    size = sum(shard["bytes"] for shard in body["shards"]) / 2**20
    shards = f"{num_samples} samples, {size:.1f} MiB in {len(body['shards'])} shard(s)"
    out.print(f"[bold]{name}[/bold] {'made' if made.created else 'unchanged'} ({escape(made.why)}): {shards}")
    out.print(f"fingerprint {made.manifest.fingerprint} · {seconds:.1f} s")


def _write_record(
    catalog: Catalog, manifest: Manifest, command: str, job: dict[str, Any], seconds: float, **more: Any
) -> None:
    record = {"command": command, "job": job, "seconds": {command: seconds}, "stages": []}
    write_run_record(catalog, manifest, {**record, **more})


def _has_blind_accuracy(manifest: Manifest) -> bool:
    return "blind_accuracy" in manifest.body["statistics"].get("quality", {})


def run_forget(
    catalog: Catalog, name: str, uids: Sequence[str], file: Path | None, *, dry_run: bool, as_json: bool
) -> ForgetReport | None:
    """Finish an interrupted forget, then forget the given samples; return what was removed, None if nothing was asked for.

    Raises:
        InputError: a uid is unknown or not unique, or there is nothing to do.
    """
    from curation.forget.forget import ForgetPlan, complete_uids, plan_forget
    from curation.versions.layout import read_uids

    interrupted = ForgetPlan.load(catalog.workspace)
    if interrupted is not None and not dry_run:
        err.print("finishing an interrupted forget …")
        _carry_out(catalog, interrupted, as_json=as_json and not (uids or file))
    wanted = [*uids, *(sorted(read_uids(file)) if file else ())]
    if not wanted:
        if interrupted is None:
            raise InputError(f"forget {name}: no uid given", fix="give uids, or --file LIST")
        return None
    todo = plan_forget(catalog, complete_uids(catalog, name, wanted))
    if dry_run:
        _print_plan(todo, as_json=as_json)
        return None
    return _carry_out(catalog, todo, as_json=as_json)


def _carry_out(catalog: Catalog, todo: ForgetPlan, *, as_json: bool) -> ForgetReport:
    from curation.forget.forget import run_forget

    def forget_cached(uids: Sequence[str], texts: Sequence[str]) -> int:
        root = catalog.workspace / "activations"
        if not root.is_dir():
            return 0
        from training.batches.activation_cache import forget_activations, text_name

        return forget_activations(root, {*uids, *(text_name(text) for text in texts)})

    started = time.perf_counter()
    report = run_forget(catalog, todo, forget_cached, err.print)
    seconds = round(time.perf_counter() - started, 3)
    for new in filter(None, report.removed.values()):
        # only their number: a forgotten uid is written nowhere
        _write_record(catalog, catalog.open(new).manifest, "forget", {"forgotten": len(report.uids)}, seconds)
    _print_report(report, seconds, as_json=as_json)
    return report


def _print_plan(todo: ForgetPlan, *, as_json: bool) -> None:
    traces = todo.traces
    if as_json:
        print_json(asdict(todo))
        return
    out.print(f"would forget {len(traces.uids)} sample(s) with {len(traces.texts)} texts; nothing is changed yet")
    out.print(
        f"store: {sum(map(len, traces.rows.values()))} results and {len(traces.folders)} whole folders · "
        f"up to {len(traces.questions)} requests to a model · {len(traces.snapshots)} snapshots"
    )
    for name, pairs in todo.renewed.items():
        for old, new in pairs:
            out.print(f"{name}@{old} → {f'{name}@{new}' if new else 'removed, no sample is left'}")
    _print_elsewhere(todo.elsewhere)


def _print_report(report: ForgetReport, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(report), "seconds": seconds})
        return
    out.print(f"forgotten: {len(report.uids)} sample(s), {seconds:.1f} s")
    for old, new in report.removed.items():
        out.print(f"  {old} removed" + (f", renewed as {new}" if new else "; no sample was left"))
    out.print(
        f"  {report.rows} results, {report.answers} answers, {report.cached} cached values and {report.snapshots} "
        f"snapshot(s) removed; {report.purged} other sample(s) cleared of references to them"
    )
    _print_elsewhere(report.elsewhere)
    if report.left:
        out.print("[yellow]traces are left in these files[/yellow], for you to delete or to write again:")
        for path, command in report.left.items():
            out.print(f"  {path} (by {command})", markup=False, soft_wrap=True)
    out.print("not reached: copies outside this workspace, weights of trained models, the source itself")


def _print_elsewhere(versions: Sequence[str]) -> None:
    if versions:
        out.print(f"[yellow]not searched, their shards are not here:[/yellow] {', '.join(versions)}")


def prove_absent(
    catalog: Catalog, ref: str, uids: Sequence[str], source: str | None, also: Sequence[Path], *, as_json: bool
) -> bool:
    """Search workspace, manifests and other folders for traces of samples, check a version's files, and print what was found.

    Args:
        catalog: Workspace and manifests; all of both is searched.
        ref: The version whose files are checked.
        uids: Full uids.
        source: ``KIND:PATH`` that still has images and captions; without it only uids can be searched for.
        also: Files and folders to search besides.
        as_json: Print only JSON.

    Returns:
        Whether nothing was found and the version's files are what its manifest says.

    Raises:
        InputError: the version or source cannot be opened, a uid is incomplete, or the source lacks one; one of `also`
            does not exist.
    """
    from curation.forget.find import other_captions
    from data_manifests.absence import search_traces

    started = time.perf_counter()
    for uid in uids:
        if not re.fullmatch(rf"[0-9a-f]{{{UID_HEX_CHARS}}}", uid):
            raise InputError(f"--absent {uid!r} is not a uid", allowed=f"all {UID_HEX_CHARS} hex digits, in lower case")
    for path in also:
        if not path.exists():
            raise InputError(f"--also {path}: no such file or folder", fix="correct the path, or leave it out")
    version = catalog.open(ref)
    originals, names = _originals(source, uids, catalog.workspace) if source else (dict.fromkeys(uids), frozenset())
    roots = [catalog.workspace, catalog.manifests, *also]
    remaining = [other_captions(catalog, frozenset(uids)), _other_captions(source, names, catalog.workspace)]
    found = search_traces(roots, originals, chain.from_iterable(remaining))
    wrong = version.verify()
    seconds = time.perf_counter() - started
    if as_json:
        result = {"absent": not found.places, "version": version.ref, "holds": not wrong, "wrong": wrong}
        print_json({**result, **asdict(found), "seconds": round(seconds, 3)})
    else:
        _print_absence(found, len(uids), source, seconds)
        if wrong:
            print_damage(version, wrong)
        else:
            out.print(f"{version.ref} is intact")
    return not found.places and not wrong


def _originals(
    source: str, uids: Sequence[str], workspace: Path
) -> tuple[dict[str, OriginalSample | None], frozenset[str]]:
    """Return the image bytes and captions of samples from a source, read as intake reads them, and their names in it."""
    from curation.sources import open_source, read_batches
    from data_manifests.absence import OriginalSample
    from data_manifests.sample import ImageRef, image_uid

    found: dict[str, Any] = dict.fromkeys(uids)
    names = set()
    for batch in read_batches(open_source(source, workspace=workspace)):
        for row in batch.to_pylist():
            try:
                place = ImageRef(row["path"], row["offset"], row["size_bytes"]) if row["path"] else None
                data = place.read() if place else row["data"]
            except OSError:
                continue  # intake cannot have read it either
            if data is not None and (uid := image_uid(data)) in found:
                names.add(row["name"])
                before = found[uid].captions if found[uid] else ()
                found[uid] = OriginalSample(data, (*before, *row["captions"]))
    if missing := [uid for uid, original in found.items() if original is None]:
        raise InputError(f"--source {source}: no image with the uid {missing[0]}", fix="give the source that has it")
    return found, frozenset(names)


def _other_captions(source: str | None, names: frozenset[str], workspace: Path) -> Iterator[list[str]]:
    """Yield, in batches, the captions of a source's records with other names: what they say is no trace."""
    from curation.sources import open_source, read_batches

    for batch in read_batches(open_source(source, workspace=workspace)) if source else ():
        rows = zip(batch["name"].to_pylist(), batch["captions"].to_pylist(), strict=True)
        yield [text for name, captions in rows if name not in names for text in captions or ()]


def _print_absence(found: AbsenceReport, num_uids: int, source: str | None, seconds: float) -> None:
    sizes = f"{found.num_bytes / 2**20:.1f} MiB raw and {found.num_decoded_bytes / 2**20:.1f} MiB decoded"
    out.print(
        f"searched {found.num_files} files, {sizes}, for {found.num_sought} byte strings and runs of words, {seconds:.1f} s"
    )
    if source is None:
        out.print("searched for uids only: image bytes and captions are known with --source KIND:PATH")
    for text in found.shared:
        out.print(f"not counted, another sample has this caption: {escape(text)}")
    for text in found.too_short:
        out.print(f"not searched for, too short: {escape(text)}")
    if not found.places:
        out.print(f"[bold]absent[/bold]: nothing of {num_uids} sample(s) was found")
        return
    out.print(f"[red]not absent:[/red] {len(found.places)} place(s)")
    for place in found.places:
        out.print(f"  {escape(place)}", soft_wrap=True)
