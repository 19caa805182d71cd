"""``csv:FILE``: tables as open_clip, spreadsheets and shops write them, beside their pictures or far from them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.sources import Note, Rejected, open_source
from data_manifests.errors import InputError
from tests.curation.source_inputs import bytes_of, pack, picture, put, read, records_of, refused, sample


def _table(root: Path, text: str | bytes, name: str = "train.csv", pictures: int = 3) -> str:
    for number in range(pictures):
        put(root / f"{number}.jpg", picture(number * 40))
    return f"csv:{put(root / name, text)}"


def _captions(spec: str) -> dict[str, tuple[object, ...]]:
    return {record.name: record.captions for record in read(spec)[0]}


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_table_of_open_clip_needs_no_options(encoding: str, end: str, separator: str, tmp_path: Path) -> None:
    rows = [("filepath", "title"), ("0.jpg", "un caf\u00e9"), ("1.jpg", '"two\nlines"'), ("0.jpg", "a dog")]
    text = end.join(separator.join(row) for row in rows) + end
    spec = _table(tmp_path, text.encode(encoding), "train.txt")
    assert _captions(spec) == {"0.jpg": ("un caf\u00e9", "a dog"), "1.jpg": ("two lines",)}
    notes = [item.text for item in records_of(open_source(spec)) if isinstance(item, Note)]
    assert len(notes) == (encoding == "cp1252")


@pytest.mark.parametrize("form", ["csv", "folder", "parquet"])
def test_columns_of_ones_own(form: str, tmp_path: Path) -> None:
    names = ("caption", "picture", "product_title", "subtitle", "fold", "image")
    rows = [("no", "0.jpg", "a shoe", "red & new", "train", "9.jpg"), ("no", "1.jpg", "a hat", "", "val", "9.jpg")]
    rows += [("no", "2.jpg", "a bag", "of leather", "neither", "9.jpg")]
    table = "\n".join(";".join(row) for row in (names, *rows))
    spec = _table(tmp_path, table, "captions.csv" if form == "folder" else "x.csv")
    if form == "parquet":
        pq.write_table(
            pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), tmp_path / "x.parquet"
        )
    spec = {"csv": spec, "folder": f"folder:{tmp_path}", "parquet": f"parquet:{tmp_path}/x.parquet"}[form]
    query = "?image=picture&caption=product_title&caption=subtitle&split=fold"
    records = list(records_of(open_source(f"{spec}{query}")))
    kept = {record.name: record for record in records if not isinstance(record, (Rejected, Note))}
    assert [(r.captions, r.split) for r in kept.values()] == [(("a shoe", "red & new"), "train"), (("a hat",), "dev")]
    assert all(record.attributes == {"caption": "no", "image": "9.jpg"} for record in kept.values())
    bad = next(record for record in records if isinstance(record, Rejected))
    assert bad.reason == "malformed_line" and "fold 'neither' is none of train" in bad.detail
    assert [r.name for r in records_of(open_source(f"{spec}{query}", "dev")) if not isinstance(r, Rejected)] == [
        "1.jpg"
    ]
    assert (
        open_source(f"{spec}{query}").signature() != open_source(f"{spec}?image=picture&caption=subtitle").signature()
    )
    assert open_source(f"{spec}{query}").describe()["name"] in {"x.csv", tmp_path.name, "x.parquet"}


def test_keys_of_ones_own_in_the_json_of_a_tar(tmp_path: Path) -> None:
    members = [
        *sample("a", "of the txt", alt="a shoe", more="red", fold="test"),
        *sample("b", "of the txt", alt="a hat", more="", fold="train"),
        *sample("c", "of the txt"),
    ]
    spec = f"webdataset:{pack(tmp_path / '0.tar', members)}?caption=alt&caption=more&split=fold"
    records, rejected = read(spec)
    assert [(record.captions, record.split) for record in records] == [
        (("a shoe", "red"), "test"),
        (("a hat",), "train"),
    ]
    assert set(records[0].attributes) == {"url", "caption"}
    assert rejected == [("0.tar/c", "no_captions")]
    assert [record.captions for record in read(spec, "train")[0]] == [("a hat",)]
    assert "unknown option 'image'" in refused(f"webdataset:{tmp_path}/0.tar?image=jpg")


def test_names_of_columns_may_have_any_sign(tmp_path: Path) -> None:
    spec = _table(tmp_path, "the file|a&b=c?\n0.jpg|a dog\n")
    assert _captions(f"{spec}?image=the file&caption=a%26b=c%3F") == {"0.jpg": ("a dog",)}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "image=pictur",
            r"train.csv: no column 'pictur' \(image=\); its columns: picture, words(.|\n)*did you mean 'picture'",
        ),
        ("caption=words&captoin=x", r"unknown option 'captoin'(.|\n)*did you mean 'caption'"),
        ("image=picture&image=words", "image is given twice"),
        ("caption=words&caption=words", "caption is given twice"),
        ("image=", "image has no value"),
        ("image=picture&caption=picture", "column 'picture' is named for two things"),
        ("image=picture", "no column for captions; its columns: picture, words"),
    ],
)
def test_a_wrong_query_says_what_is_wrong(query: str, message: str, tmp_path: Path) -> None:
    spec = _table(tmp_path, "picture,words\n0.jpg,a dog\n")
    with pytest.raises(InputError, match=message):
        open_source(f"{spec}?{query}")


def test_a_split_needs_its_column(tmp_path: Path) -> None:
    spec = _table(tmp_path, "filepath,title,fold\n0.jpg,a dog,test\n")
    assert "?split=COLUMN" in refused(spec, "test")
    assert [record.split for record in read(f"{spec}?split=fold", "test")[0]] == ["test"]


def test_what_cannot_be_used_is_named_with_its_line(tmp_path: Path) -> None:
    put(tmp_path / "secret.jpg", picture(7))
    lines = ["filepath,title", "0.jpg,a dog", "../secret.jpg,out", "gone.jpg,lost", "1.jpg,", "2.jpg,a,b,c", "only"]
    lines += ["filepath,title", f"{tmp_path}/secret.jpg,absolute", f"0.jpg,{'x' * 200_000}", "x.bmp,a picture"]
    spec = _table(tmp_path / "set", "\n".join(lines))
    records, rejected = read(spec)
    assert [(record.name, record.captions) for record in records] == [("0.jpg", ("a dog",))]
    assert sorted(rejected) == [
        ("../secret.jpg", "unsafe_path"),
        ("0.jpg", "malformed_line"),
        ("1.jpg", "empty_caption"),
        ("1.jpg", "no_captions"),
        ("2.jpg", "malformed_line"),
        ("gone.jpg", "missing_image"),
        ("secret.jpg", "unsafe_path"),
        ("train.csv:7", "malformed_line"),
        ("train.csv:8", "malformed_line"),
        ("x.bmp", "unsupported_image"),
    ]
    details = {(item.name, item.detail) for item in records_of(open_source(spec)) if isinstance(item, Rejected)}
    assert ("train.csv:8", "train.csv:8: the header again") in details
    assert any("csv:FILE::FOLDER" in detail for name, detail in details if name == "secret.jpg")


def test_pictures_elsewhere_are_read_from_folders_that_the_user_names(tmp_path: Path) -> None:
    for place in ("a", "b"):
        put(tmp_path / place / "same.jpg", picture(ord(place)))
    put(tmp_path / "b" / "sub" / "two.jpg", picture(2))
    (tmp_path / "link").symlink_to(tmp_path / "b")
    rows = [f"{tmp_path}/b/same.jpg\tfrom b", f"{tmp_path}/link/sub/two.jpg\ttwo", "sub/two.jpg\trelative"]
    spec = _table(tmp_path / "lists", "\n".join(["filepath\ttitle", *rows, f"{tmp_path}/a/../b/../secret.jpg\tout"]))
    assert [reason for _, reason in read(spec)[1]] == ["unsafe_path", "unsafe_path", "unsafe_path", "missing_image"]
    records, rejected = read(f"{spec}::{tmp_path / 'a'}::{tmp_path / 'link'}")
    assert sorted((record.name, record.captions, bytes_of(record)) for record in records) == [
        ("same.jpg", ("from b",), picture(ord("b"))),
        ("sub/two.jpg", ("relative",), picture(2)),
        ("sub/two.jpg", ("two",), picture(2)),
    ]
    assert rejected == [("secret.jpg", "unsafe_path")]


def test_links_stay_in_the_folder(tmp_path: Path) -> None:
    spec = _table(tmp_path / "set", "filepath,title\nout.jpg,a dog\n0.jpg,a cat\n")
    (tmp_path / "set" / "out.jpg").symlink_to(put(tmp_path / "disk" / "out.jpg", picture(9)))
    assert read(spec)[1] == [("out.jpg", "unsafe_path")]
    assert read(f"{spec}::{tmp_path / 'disk'}")[1] == []


def test_only_the_named_pictures_are_looked_at(tmp_path: Path) -> None:
    spec = _table(tmp_path, "filepath,title\n0.jpg,a dog\n0.jpg,a cat\n")
    before = open_source(spec).signature()
    put(tmp_path / "2.jpg", picture(5))
    assert open_source(spec).signature() == before
    put(tmp_path / "0.jpg", picture(5) + b"!")
    assert open_source(spec).signature() != before


@pytest.mark.parametrize("text", ["", "filepath,title\n", "\ufefffilepath,title\r\n\r\n"])
def test_a_table_without_rows_says_so(text: str, tmp_path: Path) -> None:
    assert "no usable row: it has no rows" in refused(_table(tmp_path, text))


def test_what_is_no_table_says_what_to_do(tmp_path: Path) -> None:
    spec = _table(tmp_path, "filepath,title\n0.jpg,a dog\n")
    assert f"--source {spec}" in refused(f"csv:{tmp_path}")
    assert f"--source {spec}" in refused(f"folder:{tmp_path}")
    assert "no such file" in refused(f"{spec}x")
    put(tmp_path / "x.parquet", "")
    assert "--source parquet:" in refused(f"csv:{tmp_path}/x.parquet")
    put(tmp_path / "other.csv.gz", "")
    assert "gunzip" in refused(f"csv:{tmp_path}/other.csv.gz")


def test_a_line_without_an_end_stops_with_file_and_line(tmp_path: Path) -> None:
    spec = _table(tmp_path, b"filepath,title\n0.jpg,a dog\n1.jpg," + b"x" * (17 << 20))
    with pytest.raises(InputError, match=r"train\.csv:3: the line is longer than 16 MiB"):
        list(records_of(open_source(spec)))
