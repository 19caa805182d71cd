"""JSON as Python, pandas and annotation tools write it: byte order marks, NaN, nulls, text ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.sources.reading.table_rows import json_object
from tests.curation.source_inputs import picture, put, read


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_json_in_other_encodings(encoding: str) -> None:
    assert json_object('{"caption": "é", "n": 1}'.encode(encoding)) == {"caption": "é", "n": 1}


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_of_python_are_null(constant: str) -> None:
    assert json_object(f'{{"a": {constant}, "b": [{constant}, 1.5]}}') == {"a": None, "b": [None, 1.5]}


@pytest.mark.parametrize("text", ['{"a": NaN', '{"a": NaN, "b": "\\ud80"}', "NaN", '{"a": NaN, "b": ' + "[" * 5000])
def test_broken_json_with_constants_is_still_named(text: str) -> None:
    assert isinstance(json_object(text), str)


def test_jsonl_nan_null_and_blank(tmp_path: Path) -> None:
    lines = [
        '{"file_name": "0.jpg", "caption": "a dog", "score": NaN, "rank": 2}',
        '{"file_name": "1.jpg", "caption": NaN}',
        '{"file_name": "2.jpg", "caption": null}',
        '{"file_name": "3.jpg", "captions": ["a", null, "b"]}',
        '{"file_name": "4.jpg", "captions": []}',
    ]
    put(tmp_path / "captions.jsonl", "\n".join(lines).encode("utf-16"))
    for number in range(5):
        put(tmp_path / f"{number}.jpg", picture(number))
    records, rejected = read(f"folder:{tmp_path}")
    assert [(r.name, r.captions) for r in records] == [("0.jpg", ("a dog",)), ("3.jpg", ("a", "b"))]
    assert records[0].attributes == {"rank": 2}
    assert rejected == [(f"{number}.jpg", "no_captions") for number in (1, 2, 4)]


def _coco(root: Path, content: dict[str, Any], encoding: str = "utf-8") -> str:
    put(root / "annotations" / "captions_train2017.json", json.dumps(content).encode(encoding))
    for number in range(3):
        put(root / "train2017" / f"{number}.jpg", picture(number))
    return f"coco:{root}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("image_ids", [(0, 1, 2), ("0", "1", "2"), ("a", "b", "c"), (0.0, 1.0, 2.0)])
@pytest.mark.parametrize("annotation_ids", [int, str, None])
@pytest.mark.parametrize("folder", ["", "train2017/", "coco/train2017/", "./train2017/"])
def test_coco_ids_and_folders(
    image_ids: tuple[Any, ...], annotation_ids: type | None, folder: str, encoding: str, tmp_path: Path
) -> None:
    names = [f"{folder}{number}.jpg" for number in range(3)]
    images = [{"id": i, "file_name": name, "score": float("nan")} for i, name in zip(image_ids, names, strict=True)]
    as_written = annotation_ids if annotation_ids and image_ids != ("a", "b", "c") else (lambda value: value)
    notes = [{"id": n, "image_id": as_written(i), "caption": f"photo {i}"} for n, i in enumerate(image_ids)]
    if any(isinstance(note["image_id"], str) and "." in note["image_id"] for note in notes):
        pytest.skip("the text of a float is no id")
    records, rejected = read(_coco(tmp_path / "coco", {"images": images, "annotations": notes}, encoding))
    assert [r.captions for r in records] == [(f"photo {i}",) for i in image_ids]
    assert rejected == []


def test_coco_null_caption_costs_itself_only(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": True, "file_name": "2.jpg"}, {"id": None, "file_name": "3.jpg"}]
    notes = [{"image_id": 1, "caption": text} for text in ("a", None, ["b", "c"])]
    records, rejected = read(_coco(tmp_path, {"images": images, "annotations": notes}))
    assert [r.captions for r in records] == [("a", "b", "c")]
    assert [reason for _, reason in rejected] == ["malformed_entry"] * 2


def test_the_first_object_need_not_have_every_key(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"{number}.jpg", picture(number * 40))
    lines = [{"file_name": "0.jpg"}, {"file_name": "1.jpg", "title": "a dog"}, {"file_name": "2.jpg", "title": "a cat"}]
    put(tmp_path / "metadata.jsonl", "\n".join(map(json.dumps, lines)))
    records, rejected = read(f"folder:{tmp_path}")
    assert [record.captions for record in records] == [("a dog",), ("a cat",)]
    assert rejected == [("0.jpg", "no_captions")]
