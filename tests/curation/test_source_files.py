"""Images as they lie on strangers' disks: other endings, accents, links, captions that show nothing."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.intake import Snapshot, read_source
from curation.sources import open_source
from data_manifests.errors import InputError
from tests.curation.source_inputs import pack, picture, put, read, refused, sample


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


def test_tar_members_that_are_not_adjacent_are_joined(tmp_path: Path) -> None:
    images = [(f"{number}.jpg", picture(number)) for number in range(3)]
    texts = [(f"{number}.txt", f"photo {number}".encode()) for number in range(3)]
    for name, members in (("a", [*images, *texts]), ("b", [*texts, *images]), ("c", [*images, *texts[:2]])):
        pack(tmp_path / name / "0.tar", members)
    expected = {f"0.tar/{number}": (f"photo {number}",) for number in range(3)}
    for name in "ab":
        records, rejected = read(f"webdataset:{tmp_path / name}")
        assert {record.name: record.captions for record in records} == expected
        assert rejected == []
    records, rejected = read(f"webdataset:{tmp_path / 'c'}")
    assert len(records) == 2
    assert rejected == [("0.tar/2", "no_captions")]


@pytest.mark.parametrize("seed", range(8))
def test_tar_members_in_any_order_are_the_same_samples(seed: int, tmp_path: Path) -> None:
    keys = ["0", "1", "2", "22.05", "22.06", "a/b.c"]
    members = [member for key in keys for member in sample(key, f"photo {key}")]
    masks = [(f"{key}.seg.png", picture(9, "PNG")) for key in "012"]
    expected = {f"0.tar/{key}": (f"photo {key}",) for key in keys}
    random.Random(seed).shuffle(shuffled := [*members, *masks])
    for number, packed in enumerate((members, shuffled)):
        records, rejected = read(f"webdataset:{pack(tmp_path / str(number) / '0.tar', packed)}")
        assert rejected == []
        assert {record.name: record.captions for record in records} == expected
        assert {record.attributes["url"] for record in records} == {f"http://{key}" for key in keys}


def test_a_json_that_comes_late_belongs_to_its_image_and_a_second_pair_is_a_second_sample(tmp_path: Path) -> None:
    first, text, late = ("a.jpg", picture(0)), ("a.txt", b"one"), ("a.json", b'{"captions": ["uno", "ein"]}')
    other = [("b.jpg", picture(1)), ("b.txt", b"two")]
    records, rejected = read(f"webdataset:{pack(tmp_path / '0.tar', [first, text, *other, late])}")
    assert rejected == []
    assert [record.captions for record in records] == [("two",), ("one", "uno", "ein")]
    again = [("a.jpg", picture(2)), ("a.txt", b"three")]
    records, rejected = read(f"webdataset:{pack(tmp_path / '1.tar', [first, text, *other, *again])}")
    assert rejected == []
    assert sorted(record.captions for record in records) == [("one",), ("three",), ("two",)]
    records, rejected = read(f"webdataset:{pack(tmp_path / '2.tar', [first, text, *other, ('a.txt', b'four')])}")
    assert rejected == [("2.tar/a.txt", "duplicate_key")]
    assert sorted(record.captions for record in records) == [("one",), ("two",)]


def test_samples_with_dots_beside_one_without_are_read(tmp_path: Path) -> None:
    members = [*sample("a", "one"), *sample("a.crop", "two"), ("a.seg.png", picture(3, "PNG"))]
    records, rejected = read(f"webdataset:{pack(tmp_path / '0.tar', members)}")
    assert [(record.name, record.captions) for record in records] == [("0.tar/a", ("one",)), ("0.tar/a.crop", ("two",))]
    assert rejected == []


@pytest.mark.parametrize("adjacent", [True, False])
def test_tar_keys_with_dots(adjacent: bool, tmp_path: Path) -> None:
    keys = ["22.05", "22.06", "track 2.0 (clean)", "photo.final", "plain"]
    members = [member for key in keys for member in sample(key, f"photo {key}")]
    members = members if adjacent else sorted(members, key=lambda member: str(member[0]).rpartition(".")[2])  # type: ignore[index]
    records, rejected = read(f"webdataset:{pack(tmp_path / '0.tar', members)}")
    assert rejected == []
    assert {record.name: record.captions for record in records} == {f"0.tar/{key}": (f"photo {key}",) for key in keys}
    assert {record.attributes["url"] for record in records} == {f"http://{key}" for key in keys}


def test_members_with_two_endings_stay_with_their_image(tmp_path: Path) -> None:
    members = [*sample("a", "one"), ("a.seg.png", picture(3, "PNG")), *sample("b", "two"), ("b.seg.png", b"")]
    records, rejected = read(f"webdataset:{pack(tmp_path / '0.tar', members)}")
    assert [(record.name, record.captions) for record in records] == [("0.tar/a", ("one",)), ("0.tar/b", ("two",))]
    assert rejected == []


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_with_one_row_per_caption(struct: bool, tmp_path: Path) -> None:
    data = [picture(number // 5) for number in range(15)]
    images = [{"bytes": item, "path": f"{n // 5}.jpg"} for n, item in enumerate(data)] if struct else data
    columns = {"image": images, "caption": [f"caption {number}" for number in range(15)]}
    pq.write_table(pa.table(columns), tmp_path / "train-0.parquet")
    records, rejected = read(f"parquet:{tmp_path}")
    assert [record.captions for record in records] == [
        tuple(f"caption {number}" for number in range(start, start + 5)) for start in (0, 5, 10)
    ]
    assert rejected == []


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_a_table_of_links_says_to_download_them(kind: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"URL": ["http://x/1.jpg"], "TEXT": ["a dog"]}), tmp_path / "captions.parquet")
    assert "'URL' has only links: download the images with img2dataset first" in refused(f"{kind}:{tmp_path}")


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("captions.txt", "flickr"),
        ("annotations/captions_val.json", "coco"),
        ("0.parquet", "parquet"),
        ("0.tar", "webdataset"),
    ],
)
def test_a_folder_of_another_layout_names_the_kind(file: str, kind: str, tmp_path: Path) -> None:
    put(tmp_path / "0.jpg", picture())
    put(tmp_path / file)
    assert f"is what another kind reads: --source {kind}:{tmp_path}" in refused(f"folder:{tmp_path}")


def test_a_name_in_other_capitals_is_pointed_at(tmp_path: Path) -> None:
    put(tmp_path / "set" / "IMG_0.JPG", picture())
    put(tmp_path / "set" / "captions.csv", "file_name,caption\nimg_0.jpg,a dog\n")
    with pytest.raises(InputError, match=r"missing_image .1 times.*is it IMG_0.JPG"):
        _snapshot(f"folder:{tmp_path / 'set'}", tmp_path / "out")
