"""What all file sources share: safe names, signatures, brace expansion, errors, repeatability."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.sources import Rejected, open_source, read_batches
from curation.sources.reading.files import clean_name, expand_braces, image_in, scan, signature_of
from data_manifests.errors import InputError
from tests.curation.source_inputs import coco, flickr8k, pack, picture, put, read, refused, sample


@pytest.mark.parametrize(
    "name", ["/etc/x.jpg", "../x.jpg", "a/../../x.jpg", "a\\..\\x.jpg", "C:\\x.jpg", "", "x\0.jpg"]
)
def test_unsafe_names_are_not_clean(name: str) -> None:
    assert clean_name(name) is None


def test_clean_names_are_normalised() -> None:
    assert {clean_name(name) for name in ("a/b.jpg", "./a//b.jpg", "a\\b.jpg")} == {"a/b.jpg"}
    assert clean_name("a..b/..c.jpg") == "a..b/..c.jpg"


def test_image_in_follows_links_only_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root / "real" / "a.jpg", picture(1))
    put(tmp_path / "secret.jpg", picture(2))
    put(tmp_path / "root_but_not" / "b.jpg", picture(2))
    (root / "inside.jpg").symlink_to("real/a.jpg")
    (root / "folder").symlink_to("real")
    (root / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "up").symlink_to(tmp_path)
    (root / "similar").symlink_to(tmp_path / "root_but_not")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "gone.jpg").symlink_to("nothing.jpg")
    (root / "d.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")

    def found(name: str) -> str | bytes:
        item = image_in(root.resolve(), name)
        return item.reason if isinstance(item, Rejected) else item.read()

    assert found("real/a.jpg") == found("inside.jpg") == found("folder/a.jpg") == picture(1)
    assert [found(name) for name in ("outside.jpg", "up/secret.jpg", "similar/b.jpg")] == ["unsafe_path"] * 3
    for name in ("loop.jpg", "gone.jpg", "d.jpg", "pipe.jpg", "no.jpg", "real/a.jpg/b.jpg", "n" * 300 + ".jpg"):
        assert found(name) == "missing_image"
    assert found("real/a.gif") == "unsupported_image"


def test_signature_changes_with_name_size_time_kind_and_split(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", b"1")
    put(tmp_path / "sub" / "b.jpg", b"1")
    put(tmp_path / ".hidden" / "c.jpg", b"1")
    files = list(scan(tmp_path))
    assert sorted(name for name, _, _ in files) == ["a.jpg", "sub/b.jpg"]
    signatures = [signature_of("folder", None, files), signature_of("flickr", None, files)]
    signatures.append(signature_of("folder", "train", files))
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    signatures.append(signature_of("folder", None, scan(tmp_path)))
    put(tmp_path / "a.jpg", b"12")
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    signatures.append(signature_of("folder", None, scan(tmp_path)))
    (tmp_path / "a.jpg").rename(tmp_path / "z.jpg")
    signatures.append(signature_of("folder", None, scan(tmp_path)))
    assert len(set(signatures)) == 6
    assert signature_of("folder", None, reversed(files)) == signature_of("folder", None, files)


def test_braces() -> None:
    assert expand_braces("p/{008..011}.tar") == ["p/008.tar", "p/009.tar", "p/010.tar", "p/011.tar"]
    assert expand_braces("{2..0}{a,b}") == ["2a", "1a", "0a", "2b", "1b", "0b"]
    assert expand_braces("{x}.tar") == ["{x}.tar"]
    with pytest.raises(InputError, match="braces expand to"):
        expand_braces("{0..999999999999}")
    with pytest.raises(InputError, match="braces expand to"):
        expand_braces("{0..9999}{0..9999}")


@pytest.mark.parametrize("kind", ["flickr", "coco", "folder", "parquet", "webdataset"])
def test_a_missing_path_and_an_unknown_split_are_rejected(kind: str, tmp_path: Path) -> None:
    assert "no such file or folder" in (message := refused(f"{kind}:{tmp_path}/gone")) or "does not exist" in message
    assert "gone" in message
    assert "allowed: train" in refused(f"{kind}:{tmp_path}", "weekday")


@pytest.mark.parametrize("kind", ["flickr", "coco", "folder", "parquet", "webdataset"])
def test_the_error_for_another_layout_lists_the_folder(kind: str, tmp_path: Path) -> None:
    put(tmp_path / "unrelated.bin")
    assert "the folder contains: unrelated.bin" in refused(f"{kind}:{tmp_path}")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("folder", "captions.csv"), ("flickr", "captions.txt"), ("webdataset", "0.tar"), ("parquet", "*")],
)
def test_a_path_that_is_not_utf_8_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    put(root / "images" / "a.jpg", picture()), put(root / "captions.csv", "x"), put(root / "captions.txt", "x")
    pack(root / "0.tar", sample("a", "one")), put(root / "0.parquet")
    spec = root if kind in ("folder", "flickr") else root / name
    message = refused(f"{kind}:{spec}")
    assert "caf\\xe9" in message
    assert "is not in UTF-8" in message
    message.encode()


def a_folder(root: Path) -> str:
    """Make a folder source."""
    put(root / "captions.csv", "file,caption\na.jpg,one\n")
    put(root / "a.jpg", picture())
    return f"folder:{root}"


def a_coco(root: Path) -> str:
    """Make a COCO source."""
    put(root / "a.jpg", picture())
    return f"coco:{put(root / 'captions.json', coco([{'id': 1, 'file_name': 'a.jpg'}], [(1, 'one')]))}"


def a_parquet(root: Path) -> str:
    """Make a Parquet source."""
    root.mkdir()
    pq.write_table(pa.table({"image": [picture()], "caption": ["one"]}), root / "t.parquet")
    return f"parquet:{root}"


@pytest.mark.parametrize(
    "make",
    [
        lambda root: f"flickr:{flickr8k(root)}",
        a_coco,
        a_folder,
        a_parquet,
        lambda root: f"webdataset:{pack(root / '0.tar', sample('a', 'one'))}",
    ],
    ids=["flickr", "coco", "folder", "parquet", "webdataset"],
)
def test_every_source_is_repeatable_and_publishes_no_path(make: Callable[[Path], str], tmp_path: Path) -> None:
    first, moved = make(tmp_path / "name"), make(tmp_path / "other")
    source = open_source(first)
    assert [*read_batches(source)] == [*read_batches(source)] == [*read_batches(open_source(first))]
    assert source.signature() == open_source(first).signature()
    assert {"kind", "name", "licence", "split"} <= source.describe().keys()
    assert str(tmp_path) not in repr(source.describe())
    assert [(r.name, r.captions) for r in read(first)[0]] == [(r.name, r.captions) for r in read(moved)[0]]
