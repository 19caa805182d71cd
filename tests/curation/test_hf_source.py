"""What Hugging Face's `datasets` reads and writes: saved data sets, imagefolders, parquet, and a hub that is away."""

from __future__ import annotations

import builtins
import json
import time
from pathlib import Path
from typing import Any

import datasets
import pytest

from curation.sources import hf, open_source
from data_manifests.errors import InputError
from tests.curation.source_inputs import bytes_of, picture, put, read, refused

Captions = dict[bytes, tuple[object, ...]]


def _rows(count: int = 5, **more: Any) -> datasets.Dataset:
    kinds = {
        "image": datasets.Image(),
        "caption": datasets.Value("string"),
        "kind": datasets.ClassLabel(names=["cat", "dog"]),
    }
    columns = {
        "image": [{"bytes": picture(number), "path": None} for number in range(count)],
        "caption": [f"caption {number}" for number in range(count)],
        "kind": [number % 2 for number in range(count)],
    }
    return datasets.Dataset.from_dict(columns | more, features=datasets.Features(kinds))


def _imagefolder(root: Path) -> Path:
    for split in ("train", "test"):
        lines = [{"file_name": f"{number}.jpg", "text": f"{split} {number}", "extra": number} for number in range(3)]
        put(root / split / "metadata.jsonl", "\n".join(map(json.dumps, lines)))
        for number in range(3):
            put(root / split / f"{number}.jpg", picture(number + 10 * (split == "test")))
    return root


@pytest.mark.parametrize("form", ["dict", "one", "parquet"])
def test_saved_data_sets_and_parquet(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "ROWS_PER_SPLIT", 2)
    saved = tmp_path / "saved"
    if form == "dict":
        datasets.DatasetDict({"train": _rows(), "validation": _rows(2)}).save_to_disk(str(saved))
    elif form == "one":
        _rows().save_to_disk(str(saved))
    else:
        saved.mkdir()
        _rows().to_parquet(str(saved / "train-00000-of-00001.parquet"))
    records, rejected = read(f"hf:{saved}")
    train = [record for record in records if record.split != "dev"]
    assert [(record.captions, bytes_of(record)) for record in train] == [
        ((f"caption {number}",), picture(number)) for number in range(5)
    ]
    assert [record.attributes["kind"] for record in train] == ["cat", "dog", "cat", "dog", "cat"]
    assert len({record.name for record in records}) == len(records)
    assert rejected == []
    if form == "dict":
        assert len(read(f"hf:{saved}", "dev")[0]) == 2
        assert "it has train, validation" in refused(f"hf:{saved}", "test")
    assert len(open_source(f"hf:{saved}").splits()) == {"dict": 4, "one": 3, "parquet": 1}[form]


def test_an_imagefolder_is_read_where_it_lies(tmp_path: Path) -> None:
    root = _imagefolder(tmp_path / "photos")
    (root / "train" / "2.jpg").unlink()
    (root / "train" / "2.jpg").symlink_to(put(tmp_path / "private.jpg", picture(99)))
    records, rejected = read(f"hf:{root}")
    assert [(record.name, record.split, record.captions) for record in records] == [
        ("train/0.jpg", "train", ("train 0",)),
        ("train/1.jpg", "train", ("train 1",)),
        *((f"test/{number}.jpg", "test", (f"test {number}",)) for number in range(3)),
    ]
    assert rejected == [("2.jpg", "unsafe_path")]
    assert records[1].attributes == {"extra": 1}
    assert records[0].image != bytes_of(records[0])
    assert {record.split for record in read(f"hf:{root}", "test")[0]} == {"test"}


def test_columns_of_ones_own_and_a_column_of_splits(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict(
        {
            "photo": [{"bytes": picture(number), "path": f"{number}.jpg"} for number in range(2)],
            "title": ["a shoe", "a hat"],
            "more": ["of leather", ""],
            "fold": ["test", "train"],
        }
    ).cast_column("photo", datasets.Image())
    table.save_to_disk(str(tmp_path / "saved"))
    spec = f"hf:{tmp_path / 'saved'}?image=photo&caption=title&caption=more&split=fold"
    records, _ = read(spec)
    assert [(record.captions, record.split) for record in records] == [
        (("a shoe", "of leather"), "test"),
        (("a hat",), "train"),
    ]
    assert records[0].attributes == {"file_name": "0.jpg"}
    assert [record.captions for record in read(spec, "test")[0]] == [("a shoe", "of leather")]
    assert "no column 'titel' (caption=)" in refused(f"hf:{tmp_path / 'saved'}?caption=titel")


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    root = _imagefolder(tmp_path / "photos")
    before = open_source(f"hf:{root}").signature()
    assert len(read(f"hf:{root}")[0]) == 6
    put(root / "test" / "metadata.jsonl", '{"file_name": "0.jpg", "text": "new words", "extra": 7}\n')
    assert open_source(f"hf:{root}").signature() != before
    assert ("new words",) in {record.captions for record in read(f"hf:{root}")[0]}


def test_what_cannot_be_opened_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such folder" in refused(f"hf:{tmp_path}/gone")
    put(tmp_path / "empty" / "notes.bin", "x")
    assert "the datasets library cannot open it" in refused(f"hf:{tmp_path}/empty")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    assert "save_to_disk" in refused("hf:someone/something")
    assert time.monotonic() - start < 10


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ImportError("No module named 'datasets'")
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r"pip install 'clipcurate\[hf\]'"):
        open_source(f"hf:{tmp_path}")
