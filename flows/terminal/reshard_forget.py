"""What `reshard`, `forget` and `verify --absent` do and print."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, Manifest
from data_manifests.sample import UID_HEX_CHARS
from flows.execution.run_record import write_run_record
from flows.terminal.console import counter, err, out, print_json, progress_bars

if TYPE_CHECKING:
    from curation.forget.forget import ForgetPlan, ForgetReport
    from data_manifests.absence import AbsenceReport, OriginalSample


def run_reshard(
    catalog: Catalog,
    ref: str,
    shape: tuple[int, str, int],
    where: tuple[str, ...],
    keep: Path | None,
    out_name: str | None,
    *,
    judge: bool,
    as_json: bool,
) -> None:
    """Lay a version out anew and print the outcome.

    Args:
        catalog: Where versions lie.
        ref: The version.
        shape: MiB of a shard, order, bands.
        where: Conditions.
        keep: File of uids.
        out_name: Another data set's name.
        judge: Measure again how well text alone tells the negatives that stay.
        as_json: Print only JSON.
    """
    from curation.versions.layout import Layout, read_uids
    from curation.versions.reshard import reshard

    started = time.perf_counter()
    shard_mb, order, bands = shape
    kept = read_uids(keep) if keep else None
    with progress_bars() as bars:
        layout = Layout(shard_mb * 2**20, order, bands, where, kept)
        made = reshard(catalog, ref, layout, out_name, counter(bars, "copying"), judge=judge)
    body, seconds = made.manifest.body, time.perf_counter() - started
    if made.created:
        job: dict[str, Any] = {"ref": ref, "shard_mb": shard_mb, "order": order, "bands": bands, "where": list(where)}
        job |= {"keep": str(keep) if keep else None, "out_name": out_name, "judge": judge}
        record = {"command": "reshard", "job": job, "seconds": {"reshard": round(seconds, 3)}, "stages": []}
        write_run_record(catalog, made.manifest, {**record, "why": made.why})
    name = f"{made.manifest.name}@{made.manifest.version}"
    if kept is not None and body["counts"]["samples"] < len(kept) and not where:
        err.print(f"{len(kept) - body['counts']['samples']} of {len(kept)} uids in {keep} are not in {ref}")
    if _judged(catalog.open(ref).manifest) and not _judged(made.manifest):
        err.print("how well text alone tells its negatives is not known of a part; --judge measures it")
    if as_json:
        told: dict[str, Any] = {"version": name, "created": made.created, "why": made.why, "counts": body["counts"]}
        print_json({**told, "fingerprint": made.manifest.fingerprint, "seconds": round(seconds, 3)})
        return
    size = sum(shard["bytes"] for shard in body["shards"]) / 2**20
    shards = f"{body['counts']['samples']} samples, {size:.1f} MiB in {len(body['shards'])} shard(s)"
    out.print(f"[bold]{name}[/bold] {'made' if made.created else 'unchanged'} ({escape(made.why)}): {shards}")
    out.print(f"fingerprint {made.manifest.fingerprint} · {seconds:.1f} s")


def _judged(manifest: Manifest) -> bool:
    return "blind_accuracy" in manifest.body["statistics"].get("quality", {})


def run_forget(
    catalog: Catalog, name: str, uids: Sequence[str], file: Path | None, *, dry_run: bool, as_json: bool
) -> None:
    """Finish an interrupted forget, then forget what is asked for.

    Raises:
        InputError: an uid is unknown or not unique, or there is nothing to do.
    """
    from curation.forget.forget import ForgetPlan, complete_uids, plan_forget
    from curation.versions.layout import read_uids

    half = ForgetPlan.load(catalog.workspace)
    if half is not None and not dry_run:
        err.print("finishing a forget that was interrupted …")
        _carry_out(catalog, half, as_json=as_json and not (uids or file))
    wanted = [*uids, *(sorted(read_uids(file)) if file else ())]
    if not wanted:
        if half is None:
            raise InputError(f"forget {name}: no uid given", fix="give uids, or --file LIST")
        return
    todo = plan_forget(catalog, complete_uids(catalog, name, wanted))
    if dry_run:
        _print_plan(todo, as_json=as_json)
    else:
        _carry_out(catalog, todo, as_json=as_json)


def _carry_out(catalog: Catalog, todo: ForgetPlan, *, as_json: bool) -> None:
    from curation.forget.forget import run_forget

    def caches(uids: Sequence[str], texts: Sequence[str]) -> int:
        root = catalog.workspace / "activations"
        if not root.is_dir():
            return 0
        from training.batches.activation_cache import forget_activations, text_name

        return forget_activations(root, {*uids, *(text_name(text) for text in texts)})

    started = time.perf_counter()
    report = run_forget(catalog, todo, caches, err.print)
    seconds = time.perf_counter() - started
    for new in filter(None, report.removed.values()):
        # how many, never who: what is forgotten is named nowhere
        job = {"forgotten": len(report.uids)}
        told = {"command": "forget", "job": job, "seconds": {"forget": round(seconds, 3)}, "stages": []}
        write_run_record(catalog, catalog.open(new).manifest, told)
    _print_report(report, seconds, as_json=as_json)


def _print_plan(todo: ForgetPlan, *, as_json: bool) -> None:
    traces = todo.traces
    if as_json:
        print_json(asdict(todo))
        return
    out.print(f"would forget {len(traces.uids)} sample(s) with {len(traces.texts)} texts; nothing is changed yet")
    out.print(
        f"store: {sum(map(len, traces.rows.values()))} results and {len(traces.folders)} whole folders · "
        f"up to {len(traces.questions)} questions to a model · {len(traces.snapshots)} snapshots"
    )
    for name, pairs in todo.renewed.items():
        for old, new in pairs:
            out.print(f"{name}@{old} → {f'{name}@{new}' if new else 'nothing is left of it'}")
    _print_elsewhere(todo.elsewhere)


def _print_report(report: ForgetReport, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(report), "seconds": round(seconds, 3)})
        return
    out.print(f"forgotten: {len(report.uids)} sample(s), {seconds:.1f} s")
    for old, new in report.removed.items():
        out.print(f"  {old} removed" + (f", renewed as {new}" if new else "; nothing was left of it"))
    out.print(
        f"  {report.rows} results, {report.answers} answers, {report.cached} cached values and {report.snapshots} "
        f"snapshot(s) removed; {report.purged} other sample(s) purged of them"
    )
    _print_elsewhere(report.elsewhere)
    out.print("not reached: copies outside this workspace, weights of trained models, the source itself")


def _print_elsewhere(versions: Sequence[str]) -> None:
    if versions:
        out.print(f"[yellow]cannot be looked into, shards are not here:[/yellow] {', '.join(versions)}")


def prove_absent(catalog: Catalog, ref: str, uids: Sequence[str], source: str | None, *, as_json: bool) -> bool:
    """Search everything left for samples, check a version's files, and print what was found.

    Args:
        catalog: Where versions lie; all of workspace and manifests is searched.
        ref: The version whose files must hold.
        uids: Full uids.
        source: ``KIND:PATH`` of pictures with captions that still have them; without it only uids can be sought.
        as_json: Print only JSON.

    Returns:
        Whether nothing was found and the version's files are what its manifest says.

    Raises:
        InputError: the version or source cannot be opened, an uid is not whole, or the source lacks one.
    """
    from curation.forget.find import other_captions
    from data_manifests.absence import search_traces

    started = time.perf_counter()
    for uid in uids:
        if not re.fullmatch(rf"[0-9a-f]{{{UID_HEX_CHARS}}}", uid):
            raise InputError(f"--absent {uid!r} is no uid", allowed=f"all {UID_HEX_CHARS} hex digits, in lower case")
    version = catalog.open(ref)
    originals = _originals(source, uids) if source else dict.fromkeys(uids)
    found = search_traces([catalog.workspace, catalog.manifests], originals, other_captions(catalog, frozenset(uids)))
    wrong = version.verify()
    seconds = time.perf_counter() - started
    if as_json:
        told = {"absent": not found.places, "version": version.ref, "holds": not wrong, "wrong": wrong}
        print_json({**told, **asdict(found), "seconds": round(seconds, 3)})
    else:
        _print_absence(found, len(uids), source, seconds)
        out.print(f"[red]{version.ref} does not hold:[/red]" if wrong else f"{version.ref} holds")
        for line in wrong:
            out.print(f"  {escape(line)}", soft_wrap=True)
    return not found.places and not wrong


def _originals(source: str, uids: Sequence[str]) -> dict[str, OriginalSample | None]:
    """Read pictures and captions from a source, the way intake reads them."""
    from curation.sources import Rejected, open_source
    from data_manifests.absence import OriginalSample
    from data_manifests.sample import image_uid

    found: dict[str, Any] = dict.fromkeys(uids)
    for record in open_source(source).records():
        if isinstance(record, Rejected):
            continue
        try:
            data = record.image if isinstance(record.image, bytes) else record.image.read()
        except OSError:
            continue  # it is no picture that could have been taken in
        if (uid := image_uid(data)) in found:
            texts = (" ".join(text.split()) for text in record.captions)
            found[uid] = OriginalSample(data, tuple(text for text in texts if text))
    if missing := [uid for uid, original in found.items() if original is None]:
        raise InputError(f"--source {source}: no picture with the uid {missing[0]}", fix="give the source that has it")
    return found


def _print_absence(found: AbsenceReport, num_uids: int, source: str | None, seconds: float) -> None:
    sizes = f"{found.num_bytes / 2**20:.1f} MiB raw and {found.num_decoded_bytes / 2**20:.1f} MiB decoded"
    out.print(f"searched {found.num_files} files, {sizes}, for {found.num_sought} byte strings, {seconds:.1f} s")
    if source is None:
        out.print("only uids were sought: pictures and words are known only with --source KIND:PATH")
    for text in found.shared:
        out.print(f"not counted, another sample's caption has these words: {escape(text)}")
    for text in found.too_short:
        out.print(f"not searched, too short to tell: {escape(text)}")
    if not found.places:
        out.print(f"[bold]absent[/bold]: nothing of {num_uids} sample(s) was found")
        return
    out.print(f"[red]not absent:[/red] {len(found.places)} place(s)")
    for place in found.places:
        out.print(f"  {escape(place)}", soft_wrap=True)
