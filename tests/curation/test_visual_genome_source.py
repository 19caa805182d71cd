"""Visual Genome as a source: whole photographs and cut-out regions, malformed entries, hostile names."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curation.sources import open_source
from data_manifests.errors import InputError
from tests.curation.source_inputs import bytes_of, picture, put, read, refused


def region(key: int, phrase: object, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"region_id": key, "phrase": phrase, "x": x, "y": y, "width": width, "height": height, "image_id": 1}


def photograph(width: int = 100, height: int = 80) -> bytes:
    """Return a picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    image.save(file := io.BytesIO(), "JPEG", quality=95)
    return file.getvalue()


def genome(root: Path, entries: list[Any]) -> Path:
    put(root / "region_descriptions.json", json.dumps(entries))
    return root


def test_photographs_have_the_phrases_of_their_largest_regions(tmp_path: Path) -> None:
    regions = [
        region(7, "a dog", 0, 0, 20, 10),
        region(8, "the whole yard", 0, 0, 100, 80),
        region(9, "a tree", 50, 0, 20, 10),
        region(6, "the whole yard", 0, 0, 99, 80),
    ]
    genome(tmp_path, [{"id": 1, "regions": regions}, {"id": 2, "regions": [region(1, "b", 0, 0, 5, 5)]}])
    put(
        tmp_path / "image_data.json",
        json.dumps([{"image_id": 1, "url": "https://x/1.jpg", "width": 100}, {"id": 2}, 3]),
    )
    put(tmp_path / "VG_100K" / "1.jpg", photograph())
    put(tmp_path / "VG_100K_2" / "2.jpg", picture(3))
    records, rejected = read(f"visual_genome:{tmp_path}")
    assert rejected == []
    assert [(one.name, one.captions) for one in records] == [
        ("VG_100K/1.jpg", ("the whole yard", "a dog", "a tree")),
        ("VG_100K_2/2.jpg", ("b",)),
    ]
    assert [dict(one.attributes) for one in records] == [{"image_id": "1", "url": "https://x/1.jpg"}, {"image_id": "2"}]
    assert bytes_of(records[0]) == photograph()
    (one, _), _ = read(f"visual_genome:{tmp_path}?most=1")
    assert one.captions == ("the whole yard",)
    assert "CC BY 4.0" in open_source(f"visual_genome:{tmp_path}").describe()["licence"]
    before = open_source(f"visual_genome:{tmp_path}").signature()
    put(tmp_path / "VG_100K_2" / "2.jpg", picture(4) + b"!")
    assert open_source(f"visual_genome:{tmp_path}").signature() != before
    assert open_source(f"visual_genome:{tmp_path}?pairs=regions").signature() != before


def test_regions_are_pictures_of_their_own(tmp_path: Path) -> None:
    regions = [
        region(1, "a blue wall", 50, 0, 60, 80),
        region(2, "a red wall", 0, 20, 40, 60),
        region(3, "a dot", 0, 0, 8, 8),
        region(4, "elsewhere", 500, 500, 90, 90),
    ]
    genome(tmp_path, [{"id": 1, "regions": regions}, {"id": 2, "regions": [region(1, "b", 0, 0, 50, 50)]}])
    put(tmp_path / "1.jpg", photograph())
    put(tmp_path / "2.jpg", b"\xff\xd8\xff broken")
    records, rejected = read(f"visual_genome:{tmp_path}?pairs=regions")
    assert rejected == [("1.jpg#4", "small_region"), ("1.jpg#3", "small_region"), ("2.jpg", "unreadable_image")]
    assert [(one.name, one.captions, one.attributes["box"]) for one in records] == [
        ("1.jpg#1", ("a blue wall",), [50, 0, 60, 80]),
        ("1.jpg#2", ("a red wall",), [0, 20, 40, 60]),
    ]
    seen = [Image.open(io.BytesIO(bytes_of(one))) for one in records]
    assert [image.size for image in seen] == [(50, 80), (40, 60)], "what is beyond the picture is cut off"
    reds = [image.resize((1, 1)).getpixel((0, 0))[0] for image in seen]  # type: ignore[index]
    assert reds[0] < 10 and reds[1] > 240


def test_unusable_entries_are_named(tmp_path: Path) -> None:
    good = region(1, "a cat", 0, 0, 9, 9)
    entries = [
        {
            "id": 1,
            "regions": [good, {"phrase": "no box"}, region(2, None, 0, 0, 8, 8), region(3, ["x"], 0, 0, 7, 7), 5],
        },
        {"id": True, "regions": [good]},
        {"id": 3, "regions": "none"},
        {"id": "../../1", "regions": [good]},
        {"id": 9, "regions": [good]},
        {"id": 4, "regions": []},
        "text",
    ]
    for key in (1, 4):
        put(tmp_path / "images" / f"{key}.jpg", picture(key))
    records, rejected = read(f"visual_genome:{genome(tmp_path, entries)}")
    assert [(one.name, one.captions) for one in records] == [("images/1.jpg", ("a cat",))]
    assert rejected == [
        *[("region_descriptions.json: item 1", "malformed_entry")] * 2,
        ("region_descriptions.json: item 2", "malformed_entry"),
        ("region_descriptions.json: item 3", "malformed_entry"),
        ("VG_100K/../../1.jpg", "unsafe_path"),
        ("9.jpg", "missing_image"),
        ("images/4.jpg", "no_captions"),
        ("region_descriptions.json: item 7", "malformed_entry"),
    ]


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "unzip region_descriptions.json.zip" in refused(f"visual_genome:{tmp_path}")
    genome(tmp_path / "deep" / "er", [])
    put(tmp_path / "deep" / "x.txt")
    assert f"visual_genome:{tmp_path}/deep/er" in refused(f"visual_genome:{tmp_path}/deep")
    root = genome(tmp_path / "ok", [])
    assert "no splits" in refused(f"visual_genome:{root}", "train")
    for wrong in ("pairs=all", "most=0", "most=-3", "most=many", "size=3"):
        assert wrong.partition("=")[0] in refused(f"visual_genome:{root}?{wrong}")
    put(root / "region_descriptions.json", '[{"id": 1, ')
    with pytest.raises(InputError, match="cut short"):
        read(f"visual_genome:{root}")
