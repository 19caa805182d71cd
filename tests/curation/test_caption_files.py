"""A text file beside each image, and COCO's captions with images elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.sources import open_source
from data_manifests.errors import InputError
from tests.curation.source_inputs import coco, picture, put, read, refused


def test_the_lines_of_a_text_file_are_the_captions_of_the_image_beside_it(tmp_path: Path) -> None:
    for number, name in enumerate(("00000/0.jpg", "00000/1.png", "00001/2.jpg", "00001/3.jpg", "00001/4.jpg")):
        put(tmp_path / name, picture(number, "PNG" if name.endswith("png") else "JPEG"))
    put(tmp_path / "00000" / "0.txt", "a dog\r\n\r\nun caf\u00e9 \n".encode("utf-8-sig"))
    put(tmp_path / "00000" / "1.txt", "a cat")
    put(tmp_path / "00001" / "2.txt", " \n")
    put(tmp_path / "00001" / "4.txt", b"\xff\x81\xfe broken \x80")
    put(tmp_path / "00001" / "alone.txt", "no picture")
    records, rejected = read(f"folder:{tmp_path}")
    assert [(record.name, record.captions) for record in records] == [
        ("00000/0.jpg", ("a dog", "un caf\u00e9")),
        ("00000/1.png", ("a cat",)),
    ]
    assert rejected == [
        ("00001/2.jpg", "no_captions"),
        ("00001/3.jpg", "no_captions"),
        ("00001/4.jpg", "malformed_line"),
    ]
    before = open_source(f"folder:{tmp_path}").signature()
    put(tmp_path / "00000" / "1.txt", "a grey cat")
    assert open_source(f"folder:{tmp_path}").signature() != before


def test_a_text_file_may_not_be_a_link_out_of_the_folder(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "set" / f"{name}.jpg", picture(ord(name)))
    put(tmp_path / "set" / "a.txt", "a dog")
    (tmp_path / "set" / "b.txt").symlink_to(put(tmp_path / "private.txt", "a secret"))
    assert read(f"folder:{tmp_path / 'set'}")[1] == [("b.jpg", "unsafe_path")]
    assert len(read(f"folder:{tmp_path / 'set'}::{tmp_path}")[0]) == 2


def test_a_table_wins_over_text_files_and_options_need_one(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", picture())
    put(tmp_path / "a.txt", "of the file")
    assert "options name columns" in refused(f"folder:{tmp_path}?caption=words")
    assert "text files beside images have no split" in refused(f"folder:{tmp_path}", "train")
    put(tmp_path / "captions.csv", "file_name,words\na.jpg,of the table\n")
    assert read(f"folder:{tmp_path}?caption=words")[0][0].captions == ("of the table",)


def test_coco_with_images_in_a_folder_that_is_named(tmp_path: Path) -> None:
    put(tmp_path / "photos" / "a.jpg", picture(1))
    entries = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "../secret.jpg"}]
    file = put(tmp_path / "labels" / "captions.json", coco(entries, [(1, "a dog"), (2, "out")]))
    put(tmp_path / "secret.jpg", picture(2))
    assert "?images=DIR" in refused(f"coco:{file}")
    records, rejected = read(f"coco:{file}?images={tmp_path / 'photos'}")
    assert [(record.name, record.captions) for record in records] == [("a.jpg", ("a dog",))]
    assert rejected == [("../secret.jpg", "unsafe_path")]
    assert open_source(f"coco:{file}?images={tmp_path / 'photos'}").describe()["name"] == "captions.json"
    for query, message in (("images=gone", "no such folder"), ("image=x", "did you mean 'images'")):
        with pytest.raises(InputError, match=message):
            open_source(f"coco:{file}?{query}")
