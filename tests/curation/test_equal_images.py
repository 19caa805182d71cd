"""Equal images: their captions are united whatever lies between them, and every caption is kept or named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.intake import Snapshot, read_source
from curation.sources import open_source
from curation.sources.reading.table_rows import captions_of
from tests.curation.source_inputs import coco, pack, picture, put

A, B = picture(40), picture(80)


def snapshot(spec: str, root: Path, limit: int | None = None) -> Snapshot:
    """Return the snapshot of a source."""
    return read_source(open_source(spec), root / "intake", location=spec, limit=limit)


def captions(found: Snapshot) -> list[tuple[str, ...]]:
    """Return the captions of each sample, sorted."""
    return sorted(item.captions for item in found.samples())


def a_folder(root: Path) -> str:
    """Two files with equal bytes, and one that the table names in two ways."""
    put(root / "images" / "a.jpg", A), put(root / "b.jpg", B), put(root / "c.jpg", A)
    put(root / "captions.csv", "file_name,caption\na.jpg,one\nb.jpg,other\nc.jpg,two\nimages/a.jpg,three\n")
    return f"folder:{root}"


def a_flickr(root: Path) -> str:
    """Two files with equal bytes."""
    put(root / "images" / "a.jpg", A), put(root / "images" / "b.jpg", B), put(root / "images" / "c.jpg", A)
    put(root / "captions.txt", "image,caption\na.jpg,one\na.jpg,two\nb.jpg,other\nc.jpg,three\n")
    return f"flickr:{root}"


def a_coco(root: Path) -> str:
    """Two ids of one file, and a third file with equal bytes."""
    put(root / "images" / "a.jpg", A), put(root / "images" / "b.jpg", B), put(root / "images" / "c.jpg", A)
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("abca")]
    put(root / "captions.json", coco(images, [(2, "three"), (1, "other"), (3, "two"), (0, "one")]))
    return f"coco:{root}"


def a_parquet_of_bytes(root: Path) -> str:
    """One row per caption, in no order."""
    root.mkdir()
    pq.write_table(
        pa.table({"image": [A, B, A, A], "caption": ["one", "other", "two", "three"]}), root / "train-0.parquet"
    )
    return f"parquet:{root}"


def a_parquet_of_paths(root: Path) -> str:
    """One row per caption, in no order."""
    put(root / "a.jpg", A), put(root / "b.jpg", B)
    table = {"path": ["a.jpg", "b.jpg", "a.jpg", "a.jpg"], "caption": ["one", "other", "two", "three"]}
    pq.write_table(pa.table(table), root / "t.parquet")
    return f"parquet:{root}"


def a_webdataset(root: Path) -> str:
    """Equal images in two tars, and a key that comes twice."""
    pack(root / "0.tar", [("x.jpg", A), ("x.txt", b"one"), ("y.jpg", B), ("y.txt", b"other")])
    pack(
        root / "1.tar",
        [("x.jpg", A), ("x.txt", b"two"), ("z.jpg", B), ("z.txt", b"other"), ("x.jpg", A), ("x.txt", b"three")],
    )
    return f"webdataset:{root}"


@pytest.mark.parametrize(
    "make",
    [a_folder, a_flickr, a_coco, a_parquet_of_bytes, a_parquet_of_paths, a_webdataset],
    ids=lambda make: make.__name__,
)
def test_captions_of_equal_images_are_united(make: Callable[[Path], str], tmp_path: Path) -> None:
    found = snapshot(make(tmp_path / "set"), tmp_path)
    by_first = {item.captions[0]: item for item in found.samples()}
    assert sorted(by_first["one"].captions) == ["one", "three", "two"]
    assert by_first["other"].captions == ("other",)
    assert by_first["one"].image.read() == A
    assert {reason for _, reason, _ in found.rejected} <= {"duplicate_image"}
    assert found.num_records == found.num_samples + len(found.rejected)
    assert not list(found.folder.glob("*.arrow"))


def test_a_text_that_equal_images_share_is_kept_once(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "set" / f"{name}.jpg", A)
    put(tmp_path / "set" / "captions.csv", "file_name,caption\na.jpg,one\na.jpg,two\nb.jpg,two\nb.jpg,new\n")
    found = snapshot(f"folder:{tmp_path / 'set'}", tmp_path)
    assert captions(found) == [("one", "two", "new")]
    assert found.rejected == (("b.jpg", "duplicate_image", "same image as a.jpg: its 2 caption(s) are kept there"),)


@pytest.mark.parametrize("order", ["abcd", "dcba", "cabd"])
def test_an_image_in_several_splits_is_in_the_one_that_is_evaluated(order: str, tmp_path: Path) -> None:
    rows = {"a": ("train", ["one", "two"]), "b": ("test", ["three"]), "c": ("", ["four"]), "d": ("val", ["five"])}
    lines = [{"file_name": f"{name}.jpg", "split": rows[name][0], "captions": rows[name][1]} for name in order]
    put(tmp_path / "set" / "captions.jsonl", "\n".join(map(json.dumps, lines)))
    for name in order:
        put(tmp_path / "set" / f"{name}.jpg", A)
    found = snapshot(f"folder:{tmp_path / 'set'}", tmp_path)
    (only,) = found.samples()
    assert (only.name, only.split, set(only.captions)) == ("b.jpg", "test", {"three", "four"})
    assert found.rejected == (
        ("a.jpg", "split_conflict", "same image as b.jpg, which is in split test: 2 caption(s) lost"),
        ("c.jpg", "duplicate_image", "same image as b.jpg: its 1 caption(s) are kept there"),
        ("d.jpg", "split_conflict", "same image as b.jpg, which is in split test: 1 caption(s) lost"),
    )


def test_one_name_in_two_splits_follows_the_same_rule(tmp_path: Path) -> None:
    put(tmp_path / "set" / "a.jpg", A)
    put(
        tmp_path / "set" / "captions.csv",
        "file_name,caption,split\na.jpg,one,train\na.jpg,two,test\na.jpg,three,train\n",
    )
    found = snapshot(f"folder:{tmp_path / 'set'}", tmp_path)
    assert [(item.split, item.captions) for item in found.samples()] == [("test", ("two",))]
    assert [row[1:] for row in found.rejected] == [
        ("split_conflict", "same image as a.jpg, which is in split test: 2 caption(s) lost")
    ]


def test_equal_names_of_coco_splits_are_two_images(tmp_path: Path) -> None:
    for split, data in (("train", A), ("val", B)):
        put(tmp_path / "set" / f"{split}2017" / "1.jpg", data)
        text = coco([{"id": 1, "file_name": "1.jpg"}], [(1, split)])
        put(tmp_path / "set" / "annotations" / f"captions_{split}2017.json", text)
    assert captions(snapshot(f"coco:{tmp_path / 'set'}", tmp_path)) == [("train",), ("val",)]


def test_a_limit_still_takes_the_captions_that_follow_at_once(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows = {"image": [A, A, B, A], "caption": ["one", "two", "other", "too late"]}
    pq.write_table(pa.table(rows), tmp_path / "set" / "t.parquet")
    pack(tmp_path / "set" / "0.tar", [m for n in range(2) for m in ((f"{n}.jpg", A), (f"{n}.txt", b"%d" % n))])
    assert captions(snapshot(f"parquet:{tmp_path / 'set'}", tmp_path, 1)) == [("one", "two")]
    assert captions(snapshot(f"webdataset:{tmp_path / 'set'}", tmp_path, 1)) == [("0", "1")]


def test_more_rows_than_are_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"image": [picture(n % 7 * 30) for n in range(40)], "caption": [f"caption {n:02d}" for n in range(40)]}
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "set" / "t.parquet")
    whole = snapshot(f"parquet:{tmp_path / 'set'}", tmp_path / "whole")
    monkeypatch.setattr("curation.engine.intake._ROWS_PER_CHUNK", 3)
    pieces = snapshot(f"parquet:{tmp_path / 'set'}", tmp_path / "pieces")
    assert pieces.content == whole.content
    assert captions(pieces) == sorted(tuple(f"caption {n:02d}" for n in range(start, 40, 7)) for start in range(7))


def test_what_is_not_text_costs_itself_only(tmp_path: Path) -> None:
    lines = [
        '{"file_name": "a.jpg", "captions": ["one", 7, null, ["x"], " ", "two"]}',
        '{"file_name": "b.jpg", "caption": "short", "captions": ["long"], "text": "on a sign"}',
        '{"file_name": "c.jpg", "caption": 7}',
    ]
    put(tmp_path / "set" / "captions.jsonl", "\n".join(lines))
    for shade, name in enumerate("abc"):
        put(tmp_path / "set" / f"{name}.jpg", picture(shade * 30))
    found = snapshot(f"folder:{tmp_path / 'set'}", tmp_path)
    assert captions(found) == [("long", "short"), ("one", "two")]
    assert [item.attributes for item in found.samples() if "long" in item.captions] == [{"text": "on a sign"}]
    assert found.rejected == (
        ("a.jpg", "empty_caption", "caption 3 of 6 is null"),
        ("a.jpg", "empty_caption", "caption 5 of 6 is blank"),
        ("a.jpg", "malformed_caption", "caption 2 of 6 is 7, not text"),
        ("a.jpg", "malformed_caption", "caption 4 of 6 is ['x'], not text"),
        ("c.jpg", "malformed_line", "captions.jsonl:3: 'caption' is neither text nor a list of texts"),
    )


def test_objects_that_describe_a_caption() -> None:
    row = {"sentences": [{"raw": "a dog", "tokens": ["a", "dog"]}, {"text": "a cat"}]}
    assert captions_of(row, ("captions", "caption", "sentences"))[0] == ("a dog", "a cat")
    assert captions_of({"captions": {"raw": ["a", "b"], "sentid": [1, 2]}})[0] == ("a", "b")
