"""Links out of a source's folder, and data sets in folders of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.sources import open_source
from tests.curation.source_inputs import coco, picture, put, read, records_of, refused


def _make(kind: str, root: Path) -> str:
    """Make a data set of two pictures, with its photographs in ``images``."""
    for number in range(2):
        put(root / "images" / f"{number}.jpg", picture(number * 40))
    rows = [(f"{number}.jpg", f"photo {number}") for number in range(2)]
    if kind == "coco":
        images = [{"id": number, "file_name": name} for number, (name, _) in enumerate(rows)]
        put(root / "captions.json", coco(images, [(number, text) for number, (_, text) in enumerate(rows)]))
    else:
        table = "\n".join([("image,caption"), *(f"{name},{text}" for name, text in rows)])
        put(root / ("captions.csv" if kind == "folder" else "captions.txt"), table)
    return f"{kind}:{root}"


_CAPTIONS = [("photo 0",), ("photo 1",)]


@pytest.mark.parametrize("kind", ["folder", "flickr", "coco"])
def test_a_linked_folder_is_used_when_its_target_is_named(kind: str, tmp_path: Path) -> None:
    spec = _make(kind, tmp_path / "set")
    (tmp_path / "set" / "images").rename(tmp_path / "disk")
    (tmp_path / "set" / "images").symlink_to(tmp_path / "disk")
    put(tmp_path / "disk" / "extra.jpg", picture(200))
    named = f"{spec}::{tmp_path / 'disk'}"
    records, rejected = read(named)
    assert [record.captions for record in records] == _CAPTIONS
    assert rejected == ([] if kind == "coco" else [(f"{'images/' * (kind == 'folder')}extra.jpg", "no_captions")])
    assert open_source(named).describe()["name"] == "set"
    before = open_source(named).signature()
    put(tmp_path / "disk" / "0.jpg", picture(90))
    assert open_source(named).signature() != before
    assert "is not a folder" in refused(f"{spec}::{tmp_path / 'gone'}")
    for unnamed in (spec, f"{spec}::{tmp_path / 'set'}"):
        if kind == "folder":
            assert read(unnamed) == ([], [("0.jpg", "unsafe_path"), ("1.jpg", "unsafe_path")])
        else:
            assert f"--source {kind}:{tmp_path / 'set'}::{tmp_path / 'disk'}" in refused(unnamed)


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    spec = _make("folder", tmp_path / "set")
    for place in ("disk", "secret"):
        put(tmp_path / place / "p.jpg", picture(120))
    (tmp_path / "set" / "a").symlink_to(tmp_path / "disk")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "secret")
    (tmp_path / "disk" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    put(tmp_path / "set" / "captions.csv", "image,caption\na/p.jpg,x\nb/p.jpg,x\na/out/p.jpg,x\na/loop/p.jpg,y\n")
    records, rejected = read(f"{spec}::{tmp_path / 'disk'}")
    assert [record.name for record in records] == ["a/loop/p.jpg", "a/p.jpg"]
    assert rejected[:2] == [("a/out/p.jpg", "unsafe_path"), ("b/p.jpg", "unsafe_path")]
    (tmp_path / "set" / "a").unlink()
    (tmp_path / "set" / "a").symlink_to("/etc")
    put(tmp_path / "set" / "captions.csv", "image,caption\na/passwd,x\na/hostname,x\n")
    assert {reason for _, reason in read(f"{spec}::{tmp_path / 'disk'}")[1]} == {"unsafe_path", "no_captions"}


@pytest.mark.parametrize("kind", ["folder", "flickr", "coco"])
def test_a_folder_with_only_a_folder_stands_for_it(kind: str, tmp_path: Path) -> None:
    _make(kind, tmp_path / "top" / "a" / "b")
    put(tmp_path / "top" / "__MACOSX" / "._x")
    put(tmp_path / "top" / ".DS_Store")
    records, rejected = read(f"{kind}:{tmp_path / 'top'}")
    assert ([record.captions for record in records], rejected) == (_CAPTIONS, [])
    put(tmp_path / "top" / "archive.zip")
    assert f"--source {kind}:{tmp_path / 'top' / 'a' / 'b'}" in refused(f"{kind}:{tmp_path / 'top'}")


@pytest.mark.parametrize("kind", ["flickr", "coco"])
def test_photographs_one_folder_deeper(kind: str, tmp_path: Path) -> None:
    spec = _make(kind, tmp_path)
    (tmp_path / "images").rename(tmp_path / "deep")
    (tmp_path / "images").mkdir()
    put(tmp_path / "images" / "readme.md")
    (tmp_path / "deep").rename(tmp_path / "images" / "images")
    assert [record.captions for record in read(spec)[0]] == _CAPTIONS


def test_a_missing_image_that_is_elsewhere_is_pointed_at(tmp_path: Path) -> None:
    spec = _make("folder", tmp_path)
    (tmp_path / "images").rename(tmp_path / "photos")
    details = [item.detail for item in records_of(open_source(spec)) if hasattr(item, "detail")]
    assert details[0] == "No such file or directory; is it photos/0.jpg?"


def test_a_link_to_nothing_is_named_as_that(tmp_path: Path) -> None:
    spec = _make("folder", tmp_path / "set")
    (tmp_path / "set" / "images").rename(tmp_path / "set" / "photos")
    (tmp_path / "set" / "images").symlink_to(tmp_path / "gone")
    details = [item.detail for item in records_of(open_source(spec)) if hasattr(item, "detail")]
    assert details[0].startswith("images is a link to something that is not there")
    (tmp_path / "set" / "captions.csv").rename(tmp_path / "set" / "captions.txt")
    message = refused(f"flickr:{tmp_path / 'set'}")
    assert "no folder with the photographs" in message
    assert "images (a link to something that is not there)" in message
