"""Corrections by people, laid over what any source gave: captions changed, added or removed, samples left out.

A file of them is JSON Lines. A line names a sample by ``uid`` or by the source's ``file`` name, says one thing to do, and may
have an ``author`` and a ``note``, which travel with the sample:

```
{"file": "7.jpg", "change": "a cat", "to": "a lynx", "author": "AL", "note": "seen in the zoo"}
{"uid": "9f...", "add": "a lynx asleep"}
{"file": "8.jpg", "remove": "image not available"}
{"file": "9.jpg", "drop": true, "note": "a person asked"}
```

Lines take effect in order. One that fits nothing ends the run: a correction that is silently lost would be worse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from blake3 import blake3

from curation.engine.denylist import Denylist
from curation.engine.intake import Snapshot, is_usable, publish_snapshot, write_rows
from curation.engine.store import ALL_SAMPLES
from curation.sources.reading.files import shown
from curation.sources.reading.record_batches import usable_captions
from curation.sources.reading.table_rows import BadRow, jsonl_rows
from data_manifests.atomic_files import draft_folder, write_atomically
from data_manifests.errors import InputError, nearest
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
"""Increased when the same edits would give another snapshot."""
ACTIONS = ("change", "add", "remove", "drop")
FIELD = "edits"
"""The attribute of an edited sample that lists what was done to it."""
MAX_EDITS = 1_000_000

_KEYS = ("uid", "file", *ACTIONS, "to", "author", "note")
_EXAMPLE = '{"file": "7.jpg", "change": "a cat", "to": "a lynx", "author": "AL", "note": "why"}'


@dataclass(frozen=True)
class CaptionEdit:
    """One line of a file of edits.

    Attributes:
        where: File name and line, for messages.
        uid: The sample's uid; empty if it is named by its file.
        file: The source's name for it; empty if it is named by its uid.
        action: One of `ACTIONS`.
        caption: The caption that is changed, added or removed; empty for ``drop``.
        to: What it is changed to.
        told: Author and note, as far as given.
    """

    where: str
    uid: str
    file: str
    action: str
    caption: str
    to: str
    told: Mapping[str, str]

    def record(self) -> dict[str, str]:
        """Return what a sample's lineage keeps of it; not the old caption, which may be gone for good reason."""
        new = self.caption if self.action == "add" else self.to
        return {"action": self.action, **({"caption": new} if new else {}), **self.told}


def read_edits(path: Path) -> list[CaptionEdit]:
    """Read a file of edits.

    Raises:
        InputError: there is none, it is empty, or a line is not an edit; the message names the line.
    """
    if not path.is_file():
        raise InputError(f"--edits {path}: no such file", allowed="a JSON Lines file", fix="check the path")
    edits: list[CaptionEdit] = []
    for number, row in jsonl_rows(path):
        where = f"{path.name}:{number}"
        problem = row.problem if isinstance(row, BadRow) else _problem(row)
        if isinstance(row, BadRow) or problem:
            raise InputError(f"--edits {where}: {problem}", allowed=f"lines such as {_EXAMPLE}", fix="correct the line")
        if len(edits) >= MAX_EDITS:
            raise InputError(f"--edits {path}: more than {MAX_EDITS:,} lines", fix="correct the source itself")
        action = next(name for name in ACTIONS if name in row)
        caption = "" if action == "drop" else _clean(row[action])
        told = {name: row[name] for name in ("author", "note") if row.get(name)}
        edits.append(
            CaptionEdit(
                where, row.get("uid", ""), row.get("file", ""), action, caption, _clean(row.get("to", "")), told
            )
        )
    if not edits:
        raise InputError(f"--edits {path}: no line in it", allowed=f"lines such as {_EXAMPLE}", fix="leave --edits out")
    return edits


def _clean(text: str) -> str:
    """Return a caption as intake keeps it; empty if there is nothing to see in it."""
    return next(iter(usable_captions((text,))[0]), "")


def _problem(row: Mapping[str, Any]) -> str:
    """Return why an object is no edit; empty if it is one."""
    actions = [key for key in ACTIONS if key in row]
    odd = next((key for key in row if key not in _KEYS), "")
    hint = nearest(odd, _KEYS) if odd else ""
    not_text = next((key for key in row if key != "drop" and not isinstance(row[key], str)), "")
    captions = [key for key in (*ACTIONS[:3], "to") if key in row and key != not_text]
    blank = next((key for key in captions if not _clean(row[key])), "") if not not_text else ""
    checks = (
        (bool(odd), f"unknown key '{shown(odd, 40)}'" + (f"; {hint}" if hint else "")),
        (len([key for key in ("uid", "file") if key in row]) != 1, "it needs either 'uid' or 'file'"),
        (not actions, f"it needs one of {', '.join(ACTIONS)}"),
        (len(actions) > 1, f"it has {' and '.join(actions)}: a line says one thing"),
        (("to" in row) != (actions == ["change"]), "'to' belongs to 'change', which needs it"),
        (row.get("drop", True) is not True, "'drop' is not true"),
        (bool(not_text), f"'{not_text}' is not text"),
        (bool(blank), f"'{blank}' is no text that can be a caption"),
    )
    return next((text for holds, text in checks if holds), "")


def edited(snapshot: Snapshot, edits: list[CaptionEdit], root: Path, denylist: Denylist) -> Snapshot:
    """Return a snapshot with the edits made, or the one that was made of them before.

    Only samples that an edit names differ from the given snapshot's.

    Args:
        snapshot: What a source gave.
        edits: What is changed.
        root: Folder of snapshots.
        denylist: Forgotten samples, which are not in the snapshot.

    Raises:
        InputError: an edit fits no sample or none of its captions, or nothing is left; the message names the line.
    """
    identity = [[edit.uid, edit.file, edit.caption, edit.record()] for edit in edits]
    digest = blake3(canonical([VERSION, snapshot.folder.name, identity])).hexdigest(length=16)
    folder = root.absolute() / digest
    if is_usable(folder, denylist):
        return Snapshot.load(folder)
    by_uid = _by_uid(snapshot, edits)
    dropped: list[tuple[str, str, str]] = []
    with draft_folder(root) as draft:
        tables = (_changed(batch, by_uid, dropped) for batch in snapshot.batches(ALL_SAMPLES))
        num_samples, content = write_rows(draft / "samples.parquet", tables)
        if not num_samples:
            raise InputError(f"--edits {edits[-1].where}: every sample is dropped", allowed="edits that leave a sample")
        rejected = sorted([*snapshot.rejected, *dropped])
        content = blake3(canonical([content, rejected])).hexdigest(length=16)
        write_atomically(draft / "rejected.json", orjson.dumps(rejected))
        about = {"num_samples": num_samples, "num_records": snapshot.num_records, "content": content}
        write_atomically(draft / "about.json", orjson.dumps({**about, "notes": list(snapshot.notes)}))
        publish_snapshot(draft, folder, denylist)
    return Snapshot.load(folder)


def _by_uid(snapshot: Snapshot, edits: list[CaptionEdit]) -> dict[str, list[CaptionEdit]]:
    """Return the edits of each sample, in order.

    Raises:
        InputError: an edit fits no sample, or more than one.
    """
    wanted = {edit.file for edit in edits if edit.file}
    bases = {name.rpartition("/")[2].lower() for name in wanted}
    uids = {edit.uid for edit in edits if edit.uid}
    named: defaultdict[str, list[str]] = defaultdict(list)
    known, similar = set[str](), dict[str, str]()
    for uid, name in _uids_and_names(snapshot):
        if uid in uids:
            known.add(uid)
        if name in wanted:
            named[name].append(uid)
        elif name.rpartition("/")[2].lower() in bases:
            similar[name.rpartition("/")[2].lower()] = name
    found: defaultdict[str, list[CaptionEdit]] = defaultdict(list)
    for edit in edits:
        matches = named.get(edit.file, []) if edit.file else [edit.uid] if edit.uid in known else []
        if len(matches) != 1:
            raise _unfit(edit, matches, similar, snapshot)
        found[matches[0]].append(edit)
    return found


def _uids_and_names(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for batch in snapshot.batches(ALL_SAMPLES):
        yield from zip(batch["uid"].to_pylist(), batch["name"].to_pylist(), strict=True)


def _unfit(edit: CaptionEdit, matches: list[str], similar: Mapping[str, str], snapshot: Snapshot) -> InputError:
    """Return the error that an edit fits no sample, or several."""
    what = f"uid '{shown(edit.uid, 40)}'" if edit.uid else f"file '{shown(edit.file)}'"
    if matches:
        return InputError(
            f"--edits {edit.where}: {len(matches)} samples have the {what}",
            allowed="one sample a line",
            fix=f"name it by its uid: {', '.join(matches[:4])}",
        )
    lost = next((item for item in snapshot.rejected if edit.file and item[0] == edit.file), None)
    other = similar.get(edit.file.rpartition("/")[2].lower()) if edit.file else None
    fix = f"is it '{shown(other)}'?" if other else "correct the line; --split and --limit leave samples out, too"
    return InputError(
        f"--edits {edit.where}: no sample has the {what}"
        + (f"; it was left out: {lost[1]}, {lost[2]}" if lost else ""),
        allowed="a sample that the source gives",
        fix=fix,
    )


def _changed(
    batch: pa.RecordBatch, by_uid: Mapping[str, list[CaptionEdit]], dropped: list[tuple[str, str, str]]
) -> pa.Table:
    """Return a batch's rows with the edits made; samples that are left out are added to `dropped`."""
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    if by_uid.keys().isdisjoint(uids := batch["uid"].to_pylist()):
        return table
    rows = []
    for uid, row in zip(uids, table.to_pylist(), strict=True):
        kept = _edited_row(row, by_uid[uid]) if uid in by_uid else row
        if kept is None:
            last = by_uid[uid][-1]
            told = ": ".join(last.told[key] for key in ("author", "note") if key in last.told)
            dropped.append((row["name"], "dropped_by_edit", f"{last.where}{f': {shown(told)}' if told else ''}"))
        else:
            rows.append(kept)
    return pa.Table.from_pylist(rows, schema=table.schema)


def _edited_row(row: dict[str, Any], edits: list[CaptionEdit]) -> dict[str, Any] | None:
    """Return a sample's row after its edits; None if it is left out.

    Raises:
        InputError: an edit does not fit its captions.
    """
    captions = list(row["captions"])
    for number, edit in enumerate(edits):
        if edit.action == "drop":
            if number + 1 < len(edits):
                raise _misfit(edits[number + 1], row, captions, f"{edit.where} drops the sample")
            return None
        is_there = edit.caption in captions
        if is_there == (edit.action == "add"):
            problem = "it has this caption already" if is_there else f"it has no caption '{shown(edit.caption)}'"
            raise _misfit(edit, row, captions, problem)
        if edit.action == "add":
            captions.append(edit.caption)
        elif edit.action == "remove":
            captions.remove(edit.caption)
        elif edit.to in captions:
            raise _misfit(edit, row, captions, f"it has the caption '{shown(edit.to)}' already")
        else:
            captions[captions.index(edit.caption)] = edit.to
    if not captions:
        raise _misfit(edits[-1], row, captions, "its last caption is removed: say drop instead")
    attributes = orjson.loads(row["attributes"]) | {FIELD: [edit.record() for edit in edits]}
    return {**row, "captions": captions, "attributes": canonical(attributes)}


def _misfit(edit: CaptionEdit, row: Mapping[str, Any], captions: list[str], problem: str) -> InputError:
    close = nearest(edit.caption, captions) if edit.caption else ""
    return InputError(
        f"--edits {edit.where}: {shown(row['name'])}: {problem}",
        allowed=f"its captions: {'; '.join(shown(text) for text in captions[:8]) or 'none'}",
        fix=close or "correct the line",
    )
