"""Generated tables and tars: no traceback, and every caption is kept with its image or refused by name."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from curation.engine.intake import Snapshot, read_source
from curation.sources import open_source
from curation.sources.reading.record_batches import is_visible
from data_manifests.errors import InputError
from data_manifests.sample import image_uid
from tests.curation.source_inputs import coco, pack, picture, put, special

PICTURES = [picture(shade * 40) for shade in range(4)]
FILES = {f"{name}.jpg": PICTURES[number % 4] for number, name in enumerate("abcdef")}
"""Of six files, two have the bytes of others."""
UIDS = {name: image_uid(data) for name, data in FILES.items()}

_FAST = settings(max_examples=30, deadline=None, phases=[Phase.generate])  # shrinking took five minutes
_names = st.sampled_from([*FILES, "gone.jpg"])
_texts = st.text("ab \"',;|\t\u00e9\u2019[{", max_size=10).map(lambda text: f"{text} dog")
_captions = st.one_of(_texts, st.sampled_from(["", " ", "\u200b"]))
_no_lists = _captions.filter(lambda text: "[" not in text)
"""What begins like a list is read as one, or refused."""
_rows = st.lists(st.tuples(_names, st.lists(_captions, min_size=3, max_size=3)), min_size=1, max_size=12)


@contextmanager
def a_set(**files: bytes) -> Iterator[Path]:
    """Make a folder with the pictures and these tables."""
    with tempfile.TemporaryDirectory() as root:
        for name, data in {**FILES, **files}.items():
            put(Path(root) / "set" / name, data)
        yield Path(root)


def taken(spec: str, root: Path) -> Snapshot | None:
    """Return a source's snapshot, or None when it is refused as a whole."""
    try:
        return read_source(open_source(spec), root / "intake", location="here")
    except InputError:
        return None


def account(found: Snapshot | None, rows: list[tuple[str, list[str]]], table: str) -> None:
    """Check that each caption is with the sample of its image, or that its image or its row is refused by name."""
    kept = {sample.uid: sample.captions for sample in found.samples()} if found else {}
    assert all(is_visible(text) for captions in kept.values() for text in captions)
    given_texts: dict[str | None, set[str]] = defaultdict(set)
    for name, captions in rows:
        given_texts[UIDS.get(name)] |= {" ".join(text.split()) for text in captions}
    assert all(set(captions) <= given_texts[uid] for uid, captions in kept.items())
    if found is None:
        return
    named = {name for name, _, _ in found.rejected}
    malformed = {name for name, reason, _ in found.rejected if reason == "malformed_line"}
    for name, captions in rows:
        lost = {" ".join(text.split()) for text in captions if is_visible(text)} - set(kept.get(UIDS.get(name, ""), ()))
        if lost:
            assert name in malformed or name == "gone.jpg" or any(row.startswith(f"{table}:") for row in malformed)
            assert named
        if name == "gone.jpg" and lost:
            assert {"gone.jpg"} & named or malformed


@_FAST
@given(
    rows=_rows,
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    header=st.sampled_from(["caption,caption,caption", "caption_2,caption_0,caption_1", "caption,caption_1,caption_2"]),
    quoted=st.booleans(),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_delimited_tables(
    rows: list[tuple[str, list[str]]], separator: str, encoding: str, header: str, quoted: bool, line_end: str
) -> None:
    file = io.StringIO()
    if not quoted:
        rows = [(name, [text.replace(separator, "") for text in captions]) for name, captions in rows]
    lines = [["file_name", *header.split(",")], *([name, *captions] for name, captions in rows)]
    if quoted:
        csv.writer(file, delimiter=separator, lineterminator=line_end).writerows(lines)
    else:
        file.write(line_end.join(separator.join(line) for line in lines))
    with a_set(**{"captions.csv": file.getvalue().encode(encoding)}) as root:
        found = taken(f"folder:{root / 'set'}", root)
        account(found, rows, "captions.csv")
        if quoted and found:
            assert not any(reason == "malformed_line" for _, reason, _ in found.rejected if "[" not in file.getvalue())


NAN = [float("nan")]
_values = st.one_of(_captions, st.none(), st.integers(-3, 3), st.sampled_from(NAN), st.just({"raw": "a raw dog"}))


@_FAST
@given(
    rows=st.lists(st.tuples(_names, st.lists(_values, max_size=5)), min_size=1, max_size=10),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_json_lines(rows: list[tuple[str, list[Any]]], encoding: str) -> None:
    lines = [json.dumps({"file_name": name, "captions": values}, ensure_ascii=False) for name, values in rows]
    with a_set(**{"captions.jsonl": "\n".join(lines).encode(encoding)}) as root:
        found = taken(f"folder:{root / 'set'}", root)
        texts = [(name, [t for v in values if (t := text_of(v)) is not None]) for name, values in rows]
        account(found, texts, "captions.jsonl")
        if found is None:
            return
        reasons = [reason for _, reason, _ in found.rejected]
        usable = [
            (name, values)
            for name, values in rows
            if not values or any(text_of(v) or v is None or v in NAN or v == "" for v in values)
        ]
        assert reasons.count("malformed_line") == len(rows) - len(usable)
        numbers = sum(isinstance(value, int) for name, values in usable if name in FILES for value in values)
        assert reasons.count("malformed_caption") == numbers


def text_of(value: Any) -> str | None:
    """Return the text of a value of a list of captions."""
    value = value.get("raw") if isinstance(value, Mapping) else value
    return value if isinstance(value, str) else None


@_FAST
@given(rows=st.lists(st.tuples(st.sampled_from(list(FILES)), _no_lists), min_size=1, max_size=15), split=st.booleans())
def test_parquet_with_repeated_pictures(rows: list[tuple[str, str]], split: bool) -> None:
    table: dict[str, Any] = {"image": [FILES[name] for name, _ in rows], "caption": [text for _, text in rows]}
    splits = ["train" if len(text) % 2 else "test" for _, text in rows]
    with a_set() as root:
        pq.write_table(
            pa.table(table | ({"split": splits} if split else {})), root / "set" / "t.parquet", row_group_size=4
        )
        found = taken(f"parquet:{root / 'set'}", root)
        if found is None:
            assert not any(is_visible(text) for _, text in rows)
            return
        evaluated = {
            UIDS[name]
            for (name, text), part in zip(rows, splits, strict=True)
            if split and part == "test" and is_visible(text)
        }
        expected = defaultdict(set)
        for (name, text), part in zip(rows, splits, strict=True):
            if is_visible(text) and (part == "test" or UIDS[name] not in evaluated):
                expected[UIDS[name]].add(" ".join(text.split()))
        assert {sample.uid: set(sample.captions) for sample in found.samples()} == expected
        lost = sum(
            int(detail.split(": ")[1].split()[0]) for _, reason, detail in found.rejected if reason == "split_conflict"
        )
        visible = sum(is_visible(text) for _, text in rows)
        assert lost == visible - sum(
            is_visible(text) and (part == "test" or UIDS[name] not in evaluated)
            for (name, text), part in zip(rows, splits, strict=True)
        )


_keys = st.sampled_from(["a", "b", "x/c", "22.05", "22.06", "d.e.f", "../up", "/abs", "n" * 120])
_endings = st.sampled_from(["jpg", "txt", "json", "cls", "pyd"])
_members = st.lists(st.tuples(_keys, _endings, st.integers(0, 3)), min_size=1, max_size=16)


@_FAST
@given(
    members=_members,
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    link=st.booleans(),
)
def test_tars(members: list[tuple[str, str, int]], form: int, cut: float | None, link: bool) -> None:
    contents = [(f"{key}.{ending}", member_bytes(ending, key, number)) for key, ending, number in members]
    links = [special("link.jpg", tarfile.SYMTYPE, "/etc/hostname")] if link else []
    with a_set() as root:
        path = pack(root / "set" / "0.tar", [*links, *contents], form)
        if cut is not None:
            path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
        found = taken(f"webdataset:{path}", root)
        if found is None:
            return
        kept = {text for sample in found.samples() for text in sample.captions}
        named = " ".join(f"{name} {detail}" for name, _, detail in found.rejected)
        assert not any(name.startswith(("../", "/abs")) for name in (sample.name for sample in found.samples()))
        if "truncated_archive" in named or any(reason.endswith("_archive") for _, reason, _ in found.rejected):
            return
        for key, ending, number in members:
            if ending in ("txt", "json") and f"{key} {ending} {number}" not in kept:
                assert key[:80] in named, f"{key} {ending} {number}"


def member_bytes(ending: str, key: str, number: int) -> bytes:
    """Return a member's content."""
    text = f"{key} {ending} {number}"
    return {"jpg": PICTURES[number], "json": json.dumps({"caption": text}).encode()}.get(ending, text.encode())


@settings(_FAST, max_examples=6)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(list(FILES)), st.text("ab \u00e9'", max_size=6).map("{} dog".format)), min_size=1
    )
)
def test_all_kinds_agree(rows: list[tuple[str, str]]) -> None:
    expected = defaultdict(set)
    for name, text in rows:
        expected[UIDS[name]].add(" ".join(text.split()))
    table = "\n".join(["image,caption", *(f"{name},{text}" for name, text in rows)]).encode()
    ids = {name: number for number, name in enumerate(FILES)}
    images = [{"id": number, "file_name": name} for name, number in ids.items()]
    annotations = coco(images, [(ids[name], text) for name, text in rows]).encode()
    photos = {f"images/{name}": data for name, data in FILES.items()}
    with a_set(**{"captions.csv": table, "captions.txt": table, "captions.json": annotations, **photos}) as root:
        columns = {"path": [name for name, _ in rows], "caption": [text for _, text in rows]}
        pq.write_table(pa.table(columns), root / "set" / "t.parquet")
        members = [(f"{n}.jpg", FILES[name]) for n, (name, _) in enumerate(rows)]
        pack(root / "set" / "0.tar", [*members, *((f"{n}.txt", text.encode()) for n, (_, text) in enumerate(rows))])
        for kind in ("folder", "flickr", "coco", "parquet", "webdataset"):
            found = taken(f"{kind}:{root / 'set'}", root / kind)
            assert found
            assert {sample.uid: set(sample.captions) for sample in found.samples()} == expected, kind
