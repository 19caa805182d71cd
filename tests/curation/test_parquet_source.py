"""Parquet with bytes, structs or paths, and damage."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.sources import open_source
from tests.curation.source_inputs import bytes_of, picture, put, read, refused


def test_parquet_of_hugging_face_rows(tmp_path: Path) -> None:
    table = {
        "image": [
            {"bytes": picture(1), "path": "a.jpg"},
            {"bytes": None, "path": "b.png"},
            {"bytes": None, "path": None},
        ],
        "captions": [["one", "two"], ["three"], ["four"]],
        "caption": ["two", "more", None],
        "score": [0.5, float("nan"), 1.0],
        "mask": [b"raw"] * 3,
        "box": [[1, 2], [], None],
    }
    pq.write_table(pa.table(table), tmp_path / "train-00000-of-00001.parquet", row_group_size=2)
    put(tmp_path / "b.png", picture(2, "PNG"))
    records, rejected = read(f"parquet:{tmp_path}")
    first = "train-00000-of-00001.parquet"
    assert [(r.name, r.split, r.captions) for r in records] == [
        (f"{first}#0", "train", ("one", "two")),
        ("b.png", "train", ("three", "more")),
    ]
    assert [bytes_of(r) for r in records] == [picture(1), picture(2, "PNG")]
    assert [r.attributes for r in records] == [{"score": 0.5, "box": [1, 2], "file_name": "a.jpg"}, {"box": []}]
    assert rejected == [(f"{first}#2", "missing_image")]
    before = open_source(f"parquet:{tmp_path}").signature()
    put(tmp_path / "b.png", picture(2, "PNG") + b"!")
    assert open_source(f"parquet:{tmp_path}").signature() != before


def test_parquet_of_bytes_in_several_files(tmp_path: Path) -> None:
    for number in (1, 0):
        table = {"jpg": [picture(number)], "text": [f"text {number}"], "split": ["test" if number else "train"]}
        pq.write_table(pa.table(table), tmp_path / f"{number}.parquet")
    for spec in (tmp_path, f"{tmp_path}/*.parquet", f"{tmp_path}/{{0..1}}.parquet"):
        records, rejected = read(f"parquet:{spec}")
        assert [(r.name, r.captions) for r in records] == [("0.parquet#0", ("text 0",)), ("1.parquet#0", ("text 1",))]
        assert [bytes_of(r) for r in records] == [picture(0), picture(1)]
        assert rejected == []
    assert [r.captions for r in read(f"parquet:{tmp_path}", "test")[0]] == [("text 1",)]
    assert open_source(f"parquet:{tmp_path}/0.parquet").describe()["name"] == "0.parquet"


def test_parquet_of_paths_groups_adjacent_rows_and_rejects_by_name(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "sub" / f"{name}.jpg", picture(ord(name)))
    paths = ["a.jpg", "a.jpg", "b.jpg", "a.jpg", "../x.jpg", "gone.jpg", "b.gif", "", "b.jpg"]
    captions = ["a1", "a2", "b1", "a3", "x", "y", "z", "w", None]
    pq.write_table(pa.table({"image_path": paths, "caption": captions}), tmp_path / "sub" / "t.parquet")
    pq.write_table(pa.table({"jpg": [b"1"], "caption": [""]}), tmp_path / "u.parquet")
    records, rejected = read(f"parquet:{tmp_path}")
    assert [(r.name, r.captions) for r in records] == [
        ("sub/a.jpg", ("a1", "a2")),
        ("sub/b.jpg", ("b1",)),
        ("sub/a.jpg", ("a3",)),
    ]
    assert bytes_of(records[1]) == picture(ord("b"))
    assert rejected == [
        ("../x.jpg", "unsafe_path"),
        ("gone.jpg", "missing_image"),
        ("b.gif", "unsupported_image"),
        ("sub/t.parquet#7", "missing_image"),
        ("sub/b.jpg", "no_captions"),
        ("u.parquet#0", "empty_caption"),
        ("u.parquet#0", "no_captions"),
    ]


def test_a_damaged_row_group_is_rejected_by_name(tmp_path: Path) -> None:
    table = pa.table({"jpg": [os.urandom(400) for _ in range(6)], "caption": [f"caption {n}" for n in range(6)]})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=2, compression="snappy", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    records, rejected = read(f"parquet:{path}")
    assert [r.captions[0] for r in records] == ["caption 0", "caption 1", "caption 4", "caption 5"]
    assert rejected == [("t.parquet#2", "unreadable_rows")]


def test_parquet_rejects_unusable_files(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"picture": [b"1"], "caption": ["x"]}), path)
    assert "no column for the image; its columns: picture, caption" in refused(f"parquet:{path}")
    pq.write_table(pa.table({"image": [b"1"], "words": ["x"]}), path)
    assert "no column for captions; its columns: image, words" in refused(f"parquet:{path}")
    pq.write_table(pa.table({"image": [b"1"], "caption": ["x"]}), path)
    assert "no column 'split'" in refused(f"parquet:{path}", "train")
    put(path, path.read_bytes()[:-5])
    assert "not a readable Parquet file" in refused(f"parquet:{path}")
    put(path, "")
    assert "not a readable Parquet file" in refused(f"parquet:{path}")
