"""Corrections laid over a source: they change what they name and nothing else, or end with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.engine.caption_edits import edited, read_edits
from curation.engine.denylist import Denylist
from curation.engine.intake import Snapshot, read_source
from curation.sources import open_source
from data_manifests.errors import InputError
from data_manifests.sample import Sample, image_uid
from tests.curation.source_inputs import picture, put


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Read a folder of six pictures, two captions each; two are called alike in two folders, one is rejected."""
    names = [*(f"{number}.jpg" for number in range(4)), "a/same.jpg", "b/same.jpg"]
    rows = [f"{name},{name} caption {number}" for name in names for number in (1, 2)]
    put(tmp_path / "set" / "captions.csv", "\n".join(["file_name,caption", *rows, "gone.jpg,lost"]))
    for number, name in enumerate(names):
        put(tmp_path / "set" / name, picture(number * 30))
    return read_source(open_source(f"folder:{tmp_path / 'set'}"), tmp_path / "intake", location="here")


def _with(snapshot: Snapshot, root: Path, *lines: dict[str, Any] | str) -> Snapshot:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return edited(snapshot, read_edits(put(root / "fix.jsonl", text)), root / "intake", Denylist())


def _by_name(snapshot: Snapshot) -> dict[str, Sample]:
    return {sample.name: sample for sample in snapshot.samples()}


def test_captions_are_changed_added_removed_and_samples_dropped(snapshot: Snapshot, tmp_path: Path) -> None:
    uid = image_uid(picture(30))
    lines: tuple[dict[str, Any], ...] = (
        {"file": "0.jpg", "change": "0.jpg caption 1", "to": " a  lynx ", "author": "AL", "note": "seen in the zoo"},
        {"uid": uid, "add": "a lynx asleep"},
        {"uid": uid, "remove": "1.jpg caption 2", "note": "wrong picture"},
        {"file": "2.jpg", "drop": True, "author": "BO", "note": "blurred"},
        {"file": "a/same.jpg", "add": "one"},
        {"file": "a/same.jpg", "change": "one", "to": "two"},
    )
    before, after = _by_name(snapshot), _by_name(_with(snapshot, tmp_path, *lines))
    assert before.keys() - after.keys() == {"2.jpg"}
    assert after["0.jpg"].captions == ("a lynx", "0.jpg caption 2")
    assert after["0.jpg"].attributes == {
        "edits": [{"action": "change", "caption": "a lynx", "author": "AL", "note": "seen in the zoo"}]
    }
    assert after["1.jpg"].captions == ("1.jpg caption 1", "a lynx asleep")
    assert [item["action"] for item in after["1.jpg"].attributes["edits"]] == ["add", "remove"]
    assert after["a/same.jpg"].captions[2:] == ("two",)
    for name in ("3.jpg", "b/same.jpg"):
        assert after[name] == before[name]
    found = _with(snapshot, tmp_path, *lines)
    assert ("2.jpg", "dropped_by_edit", "fix.jsonl:4: BO: blurred") in found.rejected
    assert set(snapshot.rejected) < set(found.rejected)
    assert "1.jpg caption 2" not in (found.folder / "samples.parquet").read_bytes().decode("latin-1")


def test_equal_edits_make_the_same_snapshot_and_others_another(snapshot: Snapshot, tmp_path: Path) -> None:
    line = {"file": "0.jpg", "change": "0.jpg caption 1", "to": "a lynx"}
    first = _with(snapshot, tmp_path, line)
    assert _with(snapshot, tmp_path, line).folder == first.folder
    for other in (line | {"note": "why"}, line | {"change": "0.jpg caption 2"}):
        assert _with(snapshot, tmp_path, other).content != first.content != snapshot.content


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"file": "9.jpg", "drop": True}, "fix.jsonl:2: no sample has the file '9.jpg'"),
        ({"file": "same.jpg", "drop": True}, r"no sample has the file 'same.jpg'(.|\n)*is it '[ab]/same.jpg'"),
        ({"file": "gone.jpg", "drop": True}, "it was left out: missing_image"),
        ({"uid": "0" * 32, "drop": True}, "no sample has the uid '0000"),
        ({"file": "0.jpg", "change": "0.jpg caption 9", "to": "x"}, r"no caption '0.jpg caption 9'(.|\n)*did you mean"),
        (
            {"file": "0.jpg", "change": "0.jpg caption 1", "to": "0.jpg caption 2"},
            "has the caption '0.jpg caption 2' already",
        ),
        ({"file": "0.jpg", "add": "0.jpg caption 1"}, "it has this caption already"),
        ({"file": "1.jpg", "add": "x"}, "fix.jsonl:2: 1.jpg: fix.jsonl:1 drops the sample"),
        ({"file": "0.jpg", "add": " \u200b"}, "'add' is no text that can be a caption"),
        ({"file": "0.jpg", "add": 7}, "'add' is not text"),
        ({"file": "0.jpg", "drop": "yes"}, "'drop' is not true"),
        ({"file": "0.jpg", "change": "x"}, "'to' belongs to 'change'"),
        ({"file": "0.jpg", "add": "x", "drop": True}, "it has add and drop"),
        ({"file": "0.jpg"}, "it needs one of change, add, remove, drop"),
        ({"add": "x"}, "it needs either 'uid' or 'file'"),
        ({"file": "0.jpg", "ad": "x"}, r"unknown key 'ad'; did you mean 'add'"),
        ("{broken", "fix.jsonl:2: not JSON"),
        ("[1]", "fix.jsonl:2: not a JSON object"),
    ],
)
def test_an_edit_that_fits_nothing_names_file_and_line(
    line: dict[str, Any] | str, message: str, snapshot: Snapshot, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        _with(snapshot, tmp_path, {"file": "1.jpg", "drop": True}, line)


def test_the_last_caption_cannot_be_removed(snapshot: Snapshot, tmp_path: Path) -> None:
    lines = [{"file": "0.jpg", "remove": f"0.jpg caption {number}"} for number in (1, 2)]
    with pytest.raises(InputError, match=r"fix.jsonl:2: 0.jpg: its last caption is removed: say drop instead"):
        _with(snapshot, tmp_path, *lines)


@pytest.mark.parametrize(("text", "message"), [("", "no line in it"), (None, "no such file")])
def test_no_edits_at_all(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        put(tmp_path / "fix.jsonl", text)
    with pytest.raises(InputError, match=message):
        read_edits(tmp_path / "fix.jsonl")
