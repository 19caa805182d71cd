"""A folder of images with one table, in each form that the table may have."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.sources import Rejected, open_source, read_batches
from data_manifests.errors import InputError
from tests.curation.source_inputs import bytes_of, picture, put, read, records_of, refused


def test_folder_jsonl(tmp_path: Path) -> None:
    rows = [
        {"file_name": "b.JPG", "caption": "b one", "split": "train", "licence": "CC0", "url": "http://b", "rank": 3},
        {"file_name": "images/a.webp", "captions": ["a one", "a two"], "split": "val"},
        {"file_name": "./b.JPG", "caption": ["b two", " "], "split": "train", "rank": 4},
        {"file_name": "c.png", "text": "c one"},
    ]
    put(tmp_path / "captions.jsonl", "\ufeff" + "\n\n".join(map(json.dumps, rows)))
    put(tmp_path / "b.JPG", picture(1))
    put(tmp_path / "images" / "a.webp", picture(2, "WEBP"))
    put(tmp_path / "images" / "c.png", picture(3, "PNG"))
    put(tmp_path / "images" / "left.jpg", picture(4))
    records, rejected = read(f"folder:{tmp_path}")
    assert [(r.name, r.split, r.captions) for r in records] == [
        ("b.JPG", "train", ("b one", "b two")),
        ("c.png", None, ("c one",)),
        ("images/a.webp", "dev", ("a one", "a two")),
    ]
    assert records[0].attributes == {"licence": "CC0", "url": "http://b", "rank": 3}
    assert bytes_of(records[1]) == picture(3, "PNG")
    assert rejected == [("images/left.jpg", "no_captions")]
    assert [r.name for r in read(f"folder:{tmp_path}", "dev")[0]] == ["images/a.webp"]
    assert read(f"folder:{tmp_path}", "dev")[1] == []
    assert open_source(f"folder:{tmp_path}").describe()["name"] == tmp_path.name


def test_folder_csv_and_parquet_tables_give_equal_records(tmp_path: Path) -> None:
    for name in ("csv", "parquet"):
        for image in "ab":
            put(tmp_path / name / f"{image}.png", picture(ord(image), "PNG"))
    table = 'filename,caption,license,note\nb.png,"two\n\nlines, one comma",CC-BY,\na.png,a1,,x\nb.png,b2,CC-BY,\n'
    put(tmp_path / "csv" / "metadata.csv", table)
    columns = {
        "filename": ["b.png", "a.png", "b.png"],
        "caption": ["two\n\nlines, one comma", "a1", "b2"],
        "license": ["CC-BY", None, "CC-BY"],
        "note": [None, "x", None],
        "raw": [b"1", b"2", b"3"],
    }
    pq.write_table(pa.table(columns), tmp_path / "parquet" / "captions.parquet")
    read_both = [read(f"folder:{tmp_path / name}") for name in ("csv", "parquet")]
    seen = [[(r.name, r.captions, r.attributes) for r in records] for records, _ in read_both]
    assert seen[0] == seen[1]
    assert seen[0] == [
        ("a.png", ("a1",), {"note": "x"}),
        ("b.png", ("two lines, one comma", "b2"), {"licence": "CC-BY"}),
    ]


def test_folder_csv_with_lists(tmp_path: Path) -> None:
    put(tmp_path / "captions.csv", 'image,captions\na.jpg,"[""one"", ""two""]"\nb.jpg,"[one"\nc.jpg,just one\n')
    for name in "abc":
        put(tmp_path / f"{name}.jpg", picture())
    records, rejected = read(f"folder:{tmp_path}")
    assert [(r.name, r.captions) for r in records] == [("a.jpg", ("one", "two")), ("c.jpg", ("just one",))]
    assert rejected == [("b.jpg", "malformed_line")]


def test_folder_names_rejected_entries(tmp_path: Path) -> None:
    put(tmp_path.parent / "out.jpg", picture())
    put(tmp_path / "images" / "a.jpg", picture())
    put(tmp_path / "empty.jpg", picture())
    (tmp_path / "link.jpg").symlink_to(tmp_path.parent / "out.jpg")
    deep = "[" * 40 + "]" * 40
    lines = [
        '{"file_name": "images/a.jpg", "caption": "one", "split": "train"}',
        '{"file_name": "images/a.jpg", "capt',
        '["images/a.jpg", "one"]',
        '{"file_name": "a.jpg", "caption": "the same file"}',
        '{"file_name": "images/a.jpg", "caption": "elsewhere", "split": "test"}',
        '{"file_name": "../out.jpg", "caption": "one"}',
        '{"file_name": "link.jpg", "caption": "one"}',
        '{"file_name": "gone.jpg", "caption": "one"}',
        '{"file_name": "x.gif", "caption": "one"}',
        '{"file_name": "empty.jpg", "captions": []}',
        '{"caption": "whose?"}',
        '{"file_name": "y.jpg", "caption": 7}',
        '{"file_name": "y.jpg", "caption": "one", "split": "monday"}',
        f'{{"file_name": "y.jpg", "caption": "one", "deep": {deep}}}',
        '{"file_name": "y.jpg", "caption": NaN}',
    ]
    put(tmp_path / "captions.jsonl", "\n".join(lines).encode() + b'\n{"file_name": "\xff.jpg", "caption": "one"}')
    records, rejected = read(f"folder:{tmp_path}")
    assert [(r.name, r.split, r.captions) for r in records] == [
        ("a.jpg", None, ("the same file",)),
        ("images/a.jpg", "test", ("elsewhere",)),
        ("images/a.jpg", "train", ("one",)),
    ]
    malformed = [(f"captions.jsonl:{line}", "malformed_line") for line in (11, 12, 13, 14, 16)]
    assert rejected == [
        ("images/a.jpg", "malformed_line"),
        ("images/a.jpg", "malformed_line"),
        *malformed,
        ("../out.jpg", "unsafe_path"),
        ("empty.jpg", "no_captions"),
        ("gone.jpg", "missing_image"),
        ("link.jpg", "unsafe_path"),
        ("x.gif", "unsupported_image"),
        ("y.jpg", "missing_image"),
    ]
    details = [item.detail for item in records_of(open_source(f"folder:{tmp_path}")) if isinstance(item, Rejected)]
    assert details[0].startswith("captions.jsonl:2: not JSON")


def test_folder_rejects_unreadable_tables(tmp_path: Path) -> None:
    put(tmp_path / "captions.jsonl", '{"img": "a.jpg", "caption": "one"}')
    message = refused(f"folder:{tmp_path}")
    assert "its columns: img, caption" in message
    assert "file_name, filename, file, image" in message
    put(tmp_path / "captions.jsonl", '{"file": "a.jpg", "words": "one"}')
    assert "no column for captions; its columns: file, words" in refused(f"folder:{tmp_path}")
    put(tmp_path / "captions.jsonl", "nothing\n")
    assert "no usable row" in refused(f"folder:{tmp_path}")
    put(tmp_path / "captions.csv", "file,caption\na.jpg,one\n")
    assert "2 captions files: captions.jsonl, captions.csv" in refused(f"folder:{tmp_path}")
    (tmp_path / "captions.jsonl").unlink()
    assert "no column 'split'" in refused(f"folder:{tmp_path}", "train")
    (tmp_path / "captions.csv").rename(tmp_path / "captions.parquet")
    assert "not a readable Parquet file" in refused(f"folder:{tmp_path}")
    (tmp_path / "captions.parquet").unlink()
    put(tmp_path / "captions.jsonl", '{"file": "a.jpg", "caption": "one"}')
    with pytest.raises(InputError, match="no column 'split'"):
        read(f"folder:{tmp_path}", "train")


def test_folder_signature_follows_table_and_images(tmp_path: Path) -> None:
    put(tmp_path / "captions.csv", "file,caption\na.jpg,one\n")
    put(tmp_path / "a.jpg", picture())
    signatures = [open_source(f"folder:{tmp_path}").signature() for _ in range(2)]
    put(tmp_path / "captions.csv", "file,caption\na.jpg,another\n")
    signatures.append(open_source(f"folder:{tmp_path}").signature())
    put(tmp_path / "b.jpg", picture())
    signatures.append(open_source(f"folder:{tmp_path}").signature())
    assert signatures[0] == signatures[1]
    assert len(set(signatures)) == 3


def test_a_line_that_is_too_long_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.sources.reading.table_rows.MAX_TEXT_BYTES", 100)
    put(tmp_path / "captions.jsonl", '{"file": "a.jpg", "caption": "one"}\n' + "x" * 200)
    with pytest.raises(InputError, match=r"captions.jsonl:2: the line is longer"):
        read(f"folder:{tmp_path}")


def test_a_table_that_is_sorted_in_pieces_gives_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"file_name": f"{n * 7 % 10}.jpg", "captions": [f"caption {n}", None, n], "rank": n} for n in range(40)]
    rows += [{"file_name": f"{n}.jpg", "captions": ["held out"], "split": "test"} for n in (3, 1)]
    put(tmp_path / "captions.jsonl", "\n".join(map(json.dumps, rows)))
    for number in range(10):
        put(tmp_path / f"{number}.jpg", picture(number))
    source = open_source(f"folder:{tmp_path}")
    at_once = list(read_batches(source))
    monkeypatch.setattr("curation.sources.reading.table_source.ROWS_PER_TABLE", 3)
    monkeypatch.setattr("curation.sources.reading.sorted_rows.MAX_PIECE_BYTES", 1)
    monkeypatch.setattr("curation.sources.reading.sorted_rows.MAX_MERGED_FILES", 4)
    assert list(read_batches(source)) == at_once
    first = at_once[0].to_pylist()[0]
    assert (first["name"], first["attributes"]) == ("0.jpg", b'{"rank":0}')
    assert first["captions"] == [f"caption {n}" for n in (0, 10, 20, 30)]
    assert [problem["detail"] for problem in first["problems"]][:3] == [
        "caption 2 of 12 is null",
        "caption 3 of 12 is 0, not text",
        "caption 5 of 12 is null",
    ]


def test_a_row_costs_no_memory_but_its_name(tmp_path: Path) -> None:
    def peak(num_rows: int) -> int:
        lines = (json.dumps({"file_name": f"{n:06d}.jpg", "captions": ["x" * 300]}) for n in range(num_rows))
        put(tmp_path / str(num_rows) / "captions.jsonl", "\n".join(lines))
        source = open_source(f"folder:{tmp_path / str(num_rows)}")
        next(read_batches(source))  # imports what reading needs
        tracemalloc.start()
        num_read = sum(len(batch) for batch in read_batches(source))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert num_read == num_rows
        return most

    few, many = peak(4000), peak(9000)  # both fill the buffers, which hold 1,024 rows
    assert (many - few) / 5000 < 300, "bytes of Python objects for each further row"
