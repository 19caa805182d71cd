"""COCO captions: a folder, a single file, and malformed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.sources import open_source
from data_manifests.errors import InputError
from tests.curation.source_inputs import bytes_of, coco, picture, put, read, records_of, refused


def test_coco_folder(tmp_path: Path) -> None:
    train = [{"id": 2, "file_name": "b.jpg", "license": 4, "coco_url": "http://b"}, {"id": 1, "file_name": "a.jpg"}]
    put(tmp_path / "annotations" / "captions_train2017.json", coco(train, [(2, "b1"), (1, "a1"), (2, "b2\n")]))
    put(tmp_path / "annotations" / "captions_val2017.json", coco([{"id": 3, "file_name": "c.jpg"}], [(3, "c1")]))
    put(tmp_path / "annotations" / "instances_train2017.json", "{}")
    for name in ("train2017/a.jpg", "train2017/b.jpg", "images/val2017/c.jpg"):
        put(tmp_path / name, picture(len(name)))
    records, rejected = read(f"coco:{tmp_path}")
    assert rejected == []
    assert [(r.name, r.split, r.captions) for r in records] == [
        ("a.jpg", "train", ("a1",)),
        ("b.jpg", "train", ("b1", "b2")),
        ("c.jpg", "dev", ("c1",)),
    ]
    licence = {"licence": "Attribution License", "licence_url": "http://by"}
    assert records[1].attributes == {"image_id": 2, "url": "http://b", **licence}
    assert bytes_of(records[2]) == picture(len("images/val2017/c.jpg"))
    assert open_source(f"coco:{tmp_path}").describe() == {
        "kind": "coco",
        "name": tmp_path.name,
        "licence": "Attribution License",
        "split": None,
    }
    assert [r.name for r in read(f"coco:{tmp_path}", "dev")[0]] == ["c.jpg"]
    assert "captions_train2017.json, captions_val2017.json" in refused(f"coco:{tmp_path}", "test")
    before = [open_source(f"coco:{tmp_path}", split).signature() for split in (None, "train")]
    put(tmp_path / "images" / "val2017" / "c.jpg", picture() + b"!")
    after = [open_source(f"coco:{tmp_path}", split).signature() for split in (None, "train")]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("file", "image"), [("captions.json", "a.png"), ("annotations/captions_x.json", "images/a.png")]
)
def test_coco_file(file: str, image: str, tmp_path: Path) -> None:
    path = put(tmp_path / file, coco([{"id": 1, "file_name": "a.png"}], [(1, "one")]))
    put(tmp_path / image, picture(1, "PNG"))
    records, rejected = read(f"coco:{path}")
    assert ([(r.name, r.split, r.captions) for r in records], rejected) == ([("a.png", None, ("one",))], [])
    assert bytes_of(records[0]) == picture(1, "PNG")


def test_coco_names_rejected_entries(tmp_path: Path) -> None:
    put(tmp_path / "images" / "a.jpg", picture())
    put(tmp_path / "images" / "mute.jpg", picture())
    names = ["a.jpg", "a.jpg", "gone.jpg", "../a.jpg", "/a.jpg", "mute.jpg", "a.tiff"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    images += [{"id": 0, "file_name": "zero.jpg"}, {"id": "5", "file_name": 3}]
    notes = [(number, "text") for number in (0, 1, 2, 3, 4, 6)] + [(99, "whose?"), (0, None)]
    path = put(tmp_path / "captions.json", coco(images, notes))
    records, rejected = read(f"coco:{path}")
    assert [(r.name, r.captions) for r in records] == [("a.jpg", ("text", "text"))]
    assert rejected == [
        ("zero.jpg", "duplicate_key"),
        ("captions.json: images[8]", "malformed_entry"),
        ("captions.json: annotations[6]", "missing_image"),
        ("../a.jpg", "unsafe_path"),
        ("/a.jpg", "unsafe_path"),
        ("a.tiff", "unsupported_image"),
        ("gone.jpg", "missing_image"),
        ("mute.jpg", "no_captions"),
    ]


def test_coco_rejects_incomplete_layouts(tmp_path: Path) -> None:
    first = put(tmp_path / "annotations" / "captions_train2014.json", coco([], []))
    message = refused(f"coco:{tmp_path}")
    assert "train2014/, images/train2014/, images/" in message
    (tmp_path / "train2014").mkdir()
    open_source(f"coco:{tmp_path}")
    put(tmp_path / "annotations" / "captions_train2017.json", coco([], []))
    assert "two captions files for split train" in refused(f"coco:{tmp_path}")
    for content, message in (
        ('{"images": [', "not JSON"),
        ('{"images": [], "boxes": []}', "it has: boxes, images"),
        ('{"images": [], "annotations": [{"bbox": 1}]}', "no annotation has a 'caption'"),
    ):
        put(first, content)
        with pytest.raises(InputError, match=message):
            list(records_of(open_source(f"coco:{first}")))
