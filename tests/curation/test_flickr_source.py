"""Flickr8k and Flickr30k in each of their layouts, and the real Flickr8k if it is available."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from curation.sources import Rejected, open_source
from data_manifests.errors import InputError
from tests.curation.source_inputs import bytes_of, flickr8k, picture, put, read, records_of, refused

FLICKR8K = Path(os.environ.get("CLIPCURATE_DATA", Path(__file__).parents[2] / "../shared/data")) / "flickr8k"


@pytest.mark.parametrize("folder", ["images", "Flicker8k_Dataset"])
def test_flickr_reads_the_union_of_the_lists_sorted_by_name(folder: str, tmp_path: Path) -> None:
    root = flickr8k(tmp_path / "flickr8k", folder)
    records, rejected = read(f"flickr:{root}")
    assert rejected == []
    assert [(r.name, r.split) for r in records] == [("a.jpg", "train"), ("b.jpg", "train"), ("c.jpg", "dev")]
    assert records[0].captions == ("a caption 0 .", "a caption 1 .")
    assert bytes_of(records[2]) == picture(2)
    assert open_source(f"flickr:{root}/").describe() == {
        "kind": "flickr",
        "name": "flickr8k",
        "licence": "research use only (Hodosh et al. 2013)",
        "split": None,
    }


def test_flickr_split_selects_and_a_missing_list_is_named(tmp_path: Path) -> None:
    root = flickr8k(tmp_path)
    assert [r.name for r in read(f"flickr:{root}", "val")[0]] == ["c.jpg"]
    assert open_source(f"flickr:{root}", "val").describe()["split"] == "dev"
    message = refused(f"flickr:{root}", "test")
    assert "Flickr_8k.testImages.txt" in message
    assert "Flickr_8k.devImages.txt" in message


def test_flickr_names_rejected_entries_of_the_selected_lists(tmp_path: Path) -> None:
    root = flickr8k(tmp_path)
    put(tmp_path.parent / "x.jpg", picture())
    with (root / "Flickr8k.token.txt").open("a") as file:
        file.write(
            "\ngone.jpg#0\tone\n../x.jpg#0\ttwo\na.jpg#1\tagain\nb.jpg.1#0\tfive\nno tab at all\nu.jpg.1#0\tsix\n"
        )
        file.write("blank.jpg#0\t\n")
    put(root / "images" / "blank.jpg", picture(9))
    with (root / "Flickr_8k.trainImages.txt").open("a") as file:
        file.write("gone.jpg\n../x.jpg\nsilent.jpg\nc.jpg\nblank.jpg\n")
    records, rejected = read(f"flickr:{root}")
    assert rejected == [
        ("c.jpg", "split_conflict"),
        ("b.jpg", "malformed_line"),
        ("Flickr8k.token.txt:13", "malformed_line"),
        ("../x.jpg", "unsafe_path"),
        ("blank.jpg", "empty_caption"),
        ("blank.jpg", "no_captions"),
        ("gone.jpg", "missing_image"),
        ("silent.jpg", "no_captions"),
    ]
    splits = {"a.jpg": "train", "b.jpg": "train", "c.jpg": "dev"}
    assert {r.name: r.split for r in records} == splits
    assert records[0].captions == ("a caption 0 .", "a caption 1 .", "again")
    details = [item.detail for item in records_of(open_source(f"flickr:{root}")) if isinstance(item, Rejected)]
    assert details[1] == "Flickr8k.token.txt:12: b.jpg.1#0\N{REPLACEMENT CHARACTER}five"
    records, rejected = read(f"flickr:{root}", "dev")
    assert [r.name for r in records] == ["c.jpg"]
    assert rejected == [("c.jpg", "split_conflict"), ("Flickr8k.token.txt:13", "malformed_line")]


def test_flickr_without_lists_takes_all(tmp_path: Path) -> None:
    root = flickr8k(tmp_path)
    for name in ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt"):
        (root / name).unlink()
    put(root / "images" / "extra.jpg", picture())
    records, rejected = read(f"flickr:{root}")
    assert [(r.name, r.split) for r in records] == [(f"{name}.jpg", None) for name in "abcu"]
    assert rejected == [("extra.jpg", "no_captions")]
    assert "no list of any split" in refused(f"flickr:{root}", "train")


def test_flickr_kaggle_table(tmp_path: Path) -> None:
    put(tmp_path / "Images" / "a.jpg", picture())
    rows = ['a.jpg,"A dog , running ."', 'a.jpg,A "big" dog', "a.jpg,one,two", 'a.jpg,"one" two', "b.txt,no picture"]
    text = "\n".join(["image,caption", *rows])
    put(tmp_path / "captions.txt", text)
    records, rejected = read(f"flickr:{tmp_path}")
    assert [r.captions for r in records] == [("A dog , running .", 'A "big" dog')]
    assert rejected == [
        ("a.jpg", "malformed_line"),
        ("a.jpg", "malformed_line"),
        ("captions.txt:6", "malformed_line"),
    ]
    put(tmp_path / "captions.txt", "photo;words\na.jpg;A dog\n")
    with pytest.raises(InputError, match="photo, words"):
        read(f"flickr:{tmp_path}")


def test_flickr_karpathy_file_gives_captions_and_splits(tmp_path: Path) -> None:
    images = [
        {"filename": f"{name}.jpg", "split": split, "sentences": [{"raw": f"{name} one."}, {"raw": f"{name} two."}]}
        for name, split in (("a", "train"), ("b", "val"), ("c", "test"))
    ]
    put(tmp_path / "dataset_flickr30k.json", json.dumps({"images": images, "dataset": "flickr30k"}))
    for name in "abc":
        put(tmp_path / "flickr30k_images" / f"{name}.jpg", picture())
    records, rejected = read(f"flickr:{tmp_path}")
    assert rejected == []
    assert [(r.name, r.split) for r in records] == [("a.jpg", "train"), ("b.jpg", "dev"), ("c.jpg", "test")]
    assert records[1].captions == ("b one.", "b two.")
    assert open_source(f"flickr:{tmp_path}").describe()["licence"] == "research use only (Young et al. 2014)"
    put(tmp_path / "results_20130124.token", "b.jpg#0\tfrom the token file\n")
    assert [r.captions for r in read(f"flickr:{tmp_path}", "dev")[0]] == [("from the token file",)]


def test_a_malformed_entry_of_karpathys_file_costs_itself_only(tmp_path: Path) -> None:
    images = [
        {"filename": "a.jpg", "split": "train", "sentences": ["plain", {"raw": "a"}, {"raw": None}, 7]},
        {"filename": "b.jpg", "split": "monday", "sentences": [{"raw": "b"}]},
        {"filename": "c.jpg", "split": "test"},
        {"split": "test", "sentences": []},
    ]
    put(tmp_path / "dataset_flickr8k.json", json.dumps({"images": images}))
    for name in "abc":
        put(tmp_path / "images" / f"{name}.jpg", picture())
    records, rejected = read(f"flickr:{tmp_path}")
    assert [(r.name, r.captions) for r in records] == [("a.jpg", ("plain", "a"))]
    malformed = ("b.jpg", "c.jpg", "dataset_flickr8k.json: images[3]")
    assert rejected == [(name, "malformed_entry") for name in malformed]
    put(tmp_path / "dataset_flickr8k.json", json.dumps({"pictures": images}))
    with pytest.raises(InputError, match="no list 'images'"):
        read(f"flickr:{tmp_path}")


def test_flickr_rejects_an_image_folder_linked_from_elsewhere(tmp_path: Path) -> None:
    root = flickr8k(tmp_path / "root")
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    assert "is a link to a place outside" in refused(f"flickr:{root}")


@pytest.mark.skipif(not FLICKR8K.is_dir(), reason=f"no Flickr8k at {FLICKR8K} (set CLIPCURATE_DATA)")
def test_flickr_on_the_real_data() -> None:
    source = open_source(f"flickr:{FLICKR8K}")
    records, rejected = read(f"flickr:{FLICKR8K}")
    assert rejected == []
    assert len(records) == 7000
    assert {len(r.captions) for r in records} == {5}
    assert [r.name for r in records] == sorted(r.name for r in records)
    assert [len(read(f"flickr:{FLICKR8K}", split)[0]) for split in ("train", "dev")] == [6000, 1000]
    assert records[0].captions[1] == "A girl going into a wooden building ."
    assert bytes_of(records[0])[:2] == b"\xff\xd8"
    start = time.perf_counter()
    assert source.signature() == open_source(f"flickr:{FLICKR8K}").signature()
    assert time.perf_counter() - start < 2.0  # 0.06 s on an idle machine
