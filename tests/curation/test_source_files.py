"""Images as they lie on strangers' disks: other endings, accents, links, captions that show nothing."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from curation.engine.intake import Snapshot, read_source
from curation.sources import open_source
from data_manifests.errors import InputError
from tests.curation.source_inputs import picture, put, read


def _snapshot(spec: str, root: Path) -> Snapshot:
    return read_source(open_source(spec), root, location=spec)


def test_the_content_decides_not_the_ending(tmp_path: Path) -> None:
    images = {
        "a.jfif": picture(1),
        "b.jpe": picture(2),
        "c.JPEG": picture(3),
        "d.tmp": picture(4, "PNG"),
        "e": picture(5, "WEBP"),
        "f.gif": picture(6, "GIF"),
        "g.bmp": picture(7, "BMP"),
        "h.dat": b"no image",
    }
    for name, data in images.items():
        put(tmp_path / name, data)
    put(tmp_path / "captions.csv", "\n".join(["file_name,caption", *(f"{name},a dog" for name in images)]))
    records, rejected = read(f"folder:{tmp_path}")
    assert [record.name for record in records] == ["a.jfif", "b.jpe", "c.JPEG", "d.tmp", "e"]
    assert rejected == [(name, "unsupported_image") for name in ("f.gif", "g.bmp", "h.dat")]


@pytest.mark.parametrize(("table_form", "file_form"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_names_match_however_accents_are_composed(table_form: str, file_form: str, tmp_path: Path) -> None:
    name = "caf\u00e9/\u00fcber.jpg"
    put(tmp_path / unicodedata.normalize(file_form, name), picture())  # type: ignore[arg-type]
    put(tmp_path / "captions.csv", "file_name,caption\n" + unicodedata.normalize(table_form, name) + ",a dog\n")  # type: ignore[arg-type]
    records, rejected = read(f"folder:{tmp_path}")
    assert [record.captions for record in records] == [("a dog",)]
    assert rejected == []


def test_names_may_begin_with_the_folder_itself(tmp_path: Path) -> None:
    put(tmp_path / "photos" / "a.jpg", picture())
    put(tmp_path / "photos" / "captions.csv", "file_name,caption\nphotos/a.jpg,a dog\nother/a.jpg,a cat\n")
    records, rejected = read(f"folder:{tmp_path / 'photos'}")
    assert [record.captions for record in records] == [("a dog",)]
    assert rejected == [("other/a.jpg", "missing_image")]


def test_a_linked_image_folder_is_named_as_the_reason(tmp_path: Path) -> None:
    put(tmp_path / "disk" / "a.jpg", picture())
    put(tmp_path / "set" / "captions.csv", "file_name,caption\na.jpg,a dog\n")
    (tmp_path / "set" / "images").symlink_to(tmp_path / "disk")
    with pytest.raises(InputError, match="unsafe_path .1 times.*images is a link out of the folder"):
        _snapshot(f"folder:{tmp_path / 'set'}", tmp_path / "out")
    (tmp_path / "linked").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "images").unlink()
    (tmp_path / "disk").rename(tmp_path / "set" / "images")
    assert len(read(f"folder:{tmp_path / 'linked'}")[0]) == 1


@pytest.mark.parametrize(
    "blank", ["\u200b", "\u2060\ufeff", "\u00ad", "\u3164", "\u2800 \u115f", "\u200d\ufe0f", "\u0301", "\u202e\x07"]
)
def test_captions_that_show_nothing_are_empty(blank: str, tmp_path: Path) -> None:
    for shade, name in enumerate(("a.jpg", "b.jpg")):
        put(tmp_path / "set" / name, picture(shade))
    put(tmp_path / "set" / "captions.csv", f"file_name,caption\na.jpg,{blank}\na.jpg,a {blank}dog\nb.jpg,{blank}\n")
    snapshot = _snapshot(f"folder:{tmp_path / 'set'}", tmp_path / "out")
    assert [sample.captions for sample in snapshot.samples()] == [(" ".join(f"a {blank}dog".split()),)]
    assert [row[:2] for row in snapshot.rejected] == [
        ("a.jpg", "empty_caption"),
        ("b.jpg", "empty_caption"),
        ("b.jpg", "no_captions"),
    ]


def test_no_usable_sample_names_the_commonest_reason(tmp_path: Path) -> None:
    rows = ["x.gif,a", *(f"{number}.jpg,a dog" for number in range(5))]
    put(tmp_path / "set" / "captions.csv", "\n".join(["file_name,caption", *rows]))
    with pytest.raises(InputError, match=r"most often missing_image \(5 times\), for example 0.jpg"):
        _snapshot(f"folder:{tmp_path / 'set'}", tmp_path / "out")
