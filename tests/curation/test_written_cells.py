"""What programs write into tables and beside them: missing values, lists as text, paths of other machines, other file kinds."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.intake import read_source
from curation.sources import Rejected, open_source
from data_manifests.image_decoder import UnusableImageError, decode_image
from tests.curation.source_inputs import pack, picture, put, read, records_of, refused


def table(
    folder: Path, *rows: str, header: str = "file_name,caption", names: tuple[str, ...] = ("a.jpg", "b.jpg")
) -> str:
    for shade, name in enumerate(names):
        put(folder / name, picture(shade))
    put(folder / "captions.csv", "\n".join([header, *rows]) + "\n")
    return f"folder:{folder}"


@pytest.mark.parametrize("written", ["nan", "NaN", "N/A", "None", "null", "NULL", "#N/A", "<NA>", "n/a"])
def test_a_missing_value_written_as_text_is_no_caption(written: str, tmp_path: Path) -> None:
    spec = table(tmp_path / "set", f"a.jpg,{written}", "a.jpg,a nan bread", f"b.jpg,{written}", "b.jpg,none of them")
    snapshot = read_source(open_source(spec), tmp_path / "out", location=spec)
    assert {sample.captions for sample in snapshot.samples()} == {("a nan bread",), ("none of them",)}
    assert [row[:2] for row in snapshot.rejected] == [("a.jpg", "empty_caption"), ("b.jpg", "empty_caption")]
    assert f"'{written}', as programs write an empty cell" in snapshot.rejected[0][2]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("('a dog', 'the dog')", ("a dog", "the dog")),
        ("('a dog',)", ("a dog",)),
        ("array(['a dog', \"the dog's\"], dtype=object)", ("a dog", "the dog's")),
        ("np.array(['a dog' 'the dog'])", ("a dog", "the dog")),
        ("array(['a dog',\n       'the dog'], dtype='<U7')", ("a dog", "the dog")),
        ("(a dog, the dog)", ("(a dog, the dog)",)),
        ("('a' as they say)", ("('a' as they say)",)),
        ("(not 'a') 'dog'", ("(not 'a') 'dog'",)),
        ("array of dogs (two)", ("array of dogs (two)",)),
    ],
)
def test_tuples_and_arrays_in_a_cell_are_lists(cell: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    quoted = cell.replace('"', '""')
    records, rejected = read(table(tmp_path, f'a.jpg,"{quoted}"', names=("a.jpg",)))
    assert [record.captions for record in records] == [expected]
    assert rejected == []


@pytest.mark.parametrize("header", [",file_name,caption", "Unnamed: 0,file_name,caption"])
def test_row_numbers_are_no_attributes(header: str, tmp_path: Path) -> None:
    records, _ = read(table(tmp_path, "0,a.jpg,a dog", "1,b.jpg,a cat", header=header))
    assert [dict(record.attributes) for record in records] == [{}, {}]


@pytest.mark.parametrize(
    "name", ["C:\\data\\b c.jpg", "D:/x/B C.jpg", "\\\\nas\\share\\b c.jpg", "/home/me/b c.jpg", "b%20c.jpg"]
)
def test_the_file_that_a_path_of_another_machine_may_mean_is_named(name: str, tmp_path: Path) -> None:
    spec = table(tmp_path / "set", "a.jpg,a dog", f"{name},a cat", names=("a.jpg", "b c.jpg"))
    snapshot = read_source(open_source(spec), tmp_path / "out", location=spec)
    detail = next(row[2] for row in snapshot.rejected if row[1] in ("unsafe_path", "missing_image"))
    assert detail.endswith("; is it b c.jpg?")


def test_half_an_emoji_costs_itself_only(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", picture())
    put(
        tmp_path / "captions.jsonl",
        r'{"file_name": "a.jpg", "captions": ["a dog \ud83d", "a \ud83d\udc15 runs", "\udc15 wags"]}',
    )
    records, rejected = read(f"folder:{tmp_path}")
    assert [[str(caption).strip() for caption in record.captions] for record in records] == [
        ["a dog", "a \U0001f415 runs", "wags"]
    ]
    assert rejected == []


def test_of_several_tables_deeper_down_the_training_one_is_named(tmp_path: Path) -> None:
    for part in ("test", "train"):
        put(tmp_path / part / f"{part}.jpg", picture())
        put(tmp_path / part / "metadata.jsonl", f'{{"file_name": "{part}.jpg", "text": "a dog"}}')
    message = refused(f"folder:{tmp_path}")
    assert (
        f"train/metadata.jsonl is deeper (one of 2; each is a source of its own): --source folder:{tmp_path}/train"
        in message
    )


def test_an_object_without_captions_is_named_as_that(tmp_path: Path) -> None:
    put(tmp_path / "set" / "a.jpg", picture(0))
    put(tmp_path / "set" / "b.jpg", picture(1))
    rows = [{"image": "a.jpg", "caption": "a dog"}, {"image": "b.jpg", "conversations": [{"value": "a cat"}]}]
    put(tmp_path / "set" / "captions.jsonl", "\n".join(map(json.dumps, rows)))
    spec = f"folder:{tmp_path / 'set'}"
    snapshot = read_source(open_source(spec), tmp_path / "out", location=spec)
    assert [row[:2] for row in snapshot.rejected] == [("b.jpg", "no_captions")]
    assert "none of captions, caption, text" in snapshot.rejected[0][2]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("labels.csv", b"file_name,caption\na.jpg,a dog\n", "if labels.csv has the captions: --source csv:"),
        ("captions.json", b'[{"file_name": "a.jpg", "caption": "a dog"}]', r"jq -c '\.\[\]' captions\.json > lines"),
        ("captions.csv.gz", gzip.compress(b"file_name,caption\n", mtime=0), "gunzip captions.csv.gz"),
        ("table.xlsx", b"PK\3\4", "save it as captions.csv"),
        ("photos.zip", b"PK\3\4", "unzip it"),
        (
            "captions.jsonl",
            b'[\n {"file_name": "a.jpg",\n  "caption": "a dog"}\n]\n',
            r"jq -c '\.\[\]' captions\.jsonl > lines",
        ),
    ],
)
def test_a_folder_without_a_table_says_what_may_be_one(file: str, content: bytes, words: str, tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", picture())
    put(tmp_path / file, content)
    assert words.replace("\\", "") in refused(f"folder:{tmp_path}")


def test_an_image_as_base64_text_is_named_as_that(tmp_path: Path) -> None:
    text = base64.b64encode(picture(3)).decode()
    pq.write_table(
        pa.table({"image": [text, f"data:image/jpeg;base64,{text}"], "txt": ["a", "b"]}), tmp_path / "0.parquet"
    )
    problems = [item for item in records_of(open_source(f"parquet:{tmp_path}")) if isinstance(item, Rejected)]
    assert [item.reason for item in problems] == ["unsupported_image"] * 2
    assert all("as base64 text" in item.detail and len(item.name) < 60 for item in problems)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b'{"error": "not found"}', "JSON"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"GIF89a\1\0", "GIF"),
        (b"MZ\x90\0", "not JPEG, PNG, WEBP"),
    ],
)
def test_what_lies_under_an_images_name_is_said(data: bytes, words: str) -> None:
    with pytest.raises(UnusableImageError, match=words) as caught:
        decode_image(data, "a.jpg", 1 << 20)
    assert caught.value.reason == "unsupported_format"


def test_what_a_sample_of_a_tar_has_instead_of_captions_is_said(tmp_path: Path) -> None:
    members = [("a.jpg", picture()), ("a.caption", b"a dog"), ("b.jpg", picture(1)), ("b.cls", b"3")]
    spec = f"webdataset:{pack(tmp_path / '0.tar', members)}"
    details = [item.detail for item in records_of(open_source(spec)) if isinstance(item, Rejected)]
    assert ["it has .caption" in details[0], "it has .cls" in details[1]] == [True, True]
