"""Delimited caption tables as spreadsheets, pandas and data set pages write them; every row is kept or named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.sources.reading.csv_rows import csv_rows
from curation.sources.reading.table_rows import BadRow, captions_of
from tests.curation.source_inputs import picture, put, read, refused

_CAPTIONS = {"0.jpg": ("a dog, running",), "1.jpg": ("a cat sleeps \u00e9",)}


def _folder(root: Path, table: str | bytes, *names: str) -> str:
    for shade, name in enumerate(names or ("0.jpg", "1.jpg")):
        put(root / name, picture(shade))
    put(root / "captions.csv", table)
    return f"folder:{root}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ", ", "| "])
@pytest.mark.parametrize("header", [("file_name", "caption"), ("filepath", "title"), ("Image", "Caption")])
def test_separator_encoding_and_header(separator: str, encoding: str, header: tuple[str, str], tmp_path: Path) -> None:
    rows = [header, *((name, f'"{texts[0]}"') for name, texts in _CAPTIONS.items())]
    table = "\r\n".join(map(separator.join, rows)).encode(encoding)
    records, rejected = read(_folder(tmp_path, table))
    assert {record.name: record.captions for record in records} == _CAPTIONS
    assert rejected == []


def test_first_line_of_excel_names_the_separator(tmp_path: Path) -> None:
    records, _ = read(_folder(tmp_path, "sep=;\nfile_name;caption;;\n0.jpg;a;;\n1.jpg;b\n"))
    assert [record.captions for record in records] == [("a",)]


def test_stray_quotes_cost_their_own_row_only(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(40)]
    rows = [f"{name},a dog number {name}" for name in names]
    rows[5], rows[30], rows[38] = '5.jpg,"a dog', '30.jpg,a screen of 5"', '38.jpg,"no end'
    rows[10] = '10.jpg,"two\nlines, one caption"'
    records, rejected = read(_folder(tmp_path, "\n".join(["file_name,caption", *rows]), *names))
    assert len(records) == len(names) - 2
    captions = {record.name: record.captions for record in records}
    assert captions["30.jpg"] == ('a screen of 5"',)
    assert captions["10.jpg"] == ("two lines, one caption",)
    assert rejected == [("5.jpg", "malformed_line"), ("38.jpg", "malformed_line")]


@settings(max_examples=60, deadline=None)
@given(
    separator=st.sampled_from(",;\t|"),
    captions=st.lists(st.text("ab \"',;|\t", min_size=1, max_size=12), min_size=1, max_size=12),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_every_row_is_kept_or_named(
    separator: str, captions: list[str], encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [f"file_name{separator}caption", *(f"{n}.jpg{separator}{text}" for n, text in enumerate(captions))]
    path = put(tmp_path_factory.mktemp("table") / "captions.csv", "\n".join(lines).encode(encoding))
    rows = list(csv_rows(path))
    assert [number for number, _ in rows] == list(range(2, len(captions) + 2))
    for (_, row), number in zip(rows, range(len(captions)), strict=True):
        name = row.text.split(separator)[0] if isinstance(row, BadRow) else row["file_name"]
        assert name == f"{number}.jpg"


@pytest.mark.parametrize(
    "header",
    [
        "image,caption,caption_1,caption_2",
        "image,caption_0,caption_1,caption_2",
        "image,caption,caption,caption",
        "file_name,caption1,caption2,caption10",
        "file_name,text,text.1,text.2",
        "file,Caption 1,Caption 2,Caption 3",
    ],
)
def test_numbered_and_repeated_caption_columns(header: str, tmp_path: Path) -> None:
    records, _ = read(_folder(tmp_path, f"{header}\n0.jpg,one,two,three\n1.jpg,one,,three\n"))
    assert [record.captions for record in records] == [("one", "two", "three"), ("one", "three")]
    assert all(record.attributes == {} for record in records)


def test_repeated_other_columns_keep_all_values(tmp_path: Path) -> None:
    records, _ = read(_folder(tmp_path, "file_name,caption,note,note\n0.jpg,one,x,y\n"))
    assert records[0].attributes == {"note": "x", "note.1": "y"}


def test_numbered_columns_of_parquet(tmp_path: Path) -> None:
    columns = {"image": [picture(1), picture(2)], "caption_1": ["b", "d"], "caption_0": ["a", "c"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    records, _ = read(f"parquet:{tmp_path}")
    assert [record.captions for record in records] == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ('["a dog", "a \\"big\\" cat"]', ("a dog", 'a "big" cat')),
        ("['a dog', 'a cat']", ("a dog", "a cat")),
        ("['a dog' 'a cat']", ("a dog", "a cat")),
        ("""["a dog's tail" 'a cat']""", ("a dog's tail", "a cat")),
        ('["a dog", null]', ("a dog", None)),
        ("['a dog', None]", ("a dog", None)),
        ('["a dog", 7, {"raw": "a cat"}]', ("a dog", 7, "a cat")),
        ("[Photo] a dog", ("[Photo] a dog",)),
        ("[1, 2]", ("[1, 2]",)),
    ],
)
def test_list_written_into_a_cell(cell: str, captions: tuple[object, ...]) -> None:
    assert captions_of({"caption": cell})[0] == captions


def test_a_broken_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="begins like a list"):
        captions_of({"caption": '["a dog", "a cat'})


def test_flickr30k_results_table(tmp_path: Path) -> None:
    lines = ["image_name| comment_number| comment", "1.jpg| 1| a second dog", '1.jpg| 0| a "first, dog', "1.jpg| 4   A"]
    put(tmp_path / "results.csv", "\n".join([*lines, '0.jpg| 0| "a cat', "0.jpg| 1| one more"]))
    for name in "01":
        put(tmp_path / "flickr30k_images" / f"{name}.jpg", picture())
    records, rejected = read(f"flickr:{tmp_path}")
    assert [record.captions for record in records] == [("one more",), ('a "first, dog', "a second dog")]
    assert rejected == [("1.jpg", "malformed_line"), ("0.jpg", "malformed_line")]


def test_a_picture_with_a_malformed_row_is_listed_once(tmp_path: Path) -> None:
    put(tmp_path / "captions.txt", "image,caption\n0.jpg,a dog\n1.jpg,a,b\n")
    for name in "01":
        put(tmp_path / "Images" / f"{name}.jpg", picture())
    assert read(f"flickr:{tmp_path}")[1] == [("1.jpg", "malformed_line")]
    assert read(_folder(tmp_path / "f", "image,caption\n0.jpg,a dog\n1.jpg,a,b\n"))[1] == [("1.jpg", "malformed_line")]


def test_kaggle_table_with_numbers(tmp_path: Path) -> None:
    put(tmp_path / "captions.txt", 'image_name,comment_number,comment\n1.jpg,1,"two, or more"\n1.jpg,0,"one"\n')
    put(tmp_path / "Images" / "1.jpg", picture())
    assert read(f"flickr:{tmp_path}")[0][0].captions == ("one", "two, or more")


def test_no_usable_row_says_why(tmp_path: Path) -> None:
    message = refused(_folder(tmp_path, "file_name,caption\n0.jpg,a,b\n1.jpg,c,d\n"))
    assert "no usable row; 2 times: 3 fields where the header has 2" in message
    assert "line 2: 0.jpg,a,b" in message
    assert "no usable row: it has no rows" in refused(_folder(tmp_path, "file_name,caption\n"))


def test_a_table_without_a_header_says_so(tmp_path: Path) -> None:
    assert "put a line above it that names the columns" in refused(_folder(tmp_path, "0.jpg,a dog\n1.jpg,a cat\n"))


def test_a_table_of_tabs_may_be_called_so(tmp_path: Path) -> None:
    spec = _folder(tmp_path, "file_name\tcaption\n0.jpg\ta dog, running\n1.jpg\ta cat\n")
    (tmp_path / "captions.csv").rename(tmp_path / "captions.tsv")
    assert [record.captions for record in read(spec)[0]] == [("a dog, running",), ("a cat",)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_lines_that_end_by_carriage_return(encoding: str, tmp_path: Path) -> None:
    table = 'file_name,caption\r0.jpg,"a dog, running"\r1.jpg,un \u00e9t\u00e9\r'.encode(encoding)
    records, rejected = read(_folder(tmp_path, table))
    assert [record.captions for record in records] == [("a dog, running",), ("un \u00e9t\u00e9",)]
    assert rejected == []
