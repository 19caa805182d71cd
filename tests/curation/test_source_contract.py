"""What every kind of source promises: splits that can be read again, alone, in other processes, with the same result."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine import intake
from curation.engine.denylist import Denylist
from curation.engine.intake import SplitMap, read_source
from curation.sources import (
    KINDS,
    SPLIT_PRIORITY,
    RecordSplit,
    SampleSource,
    SourceRecord,
    SourceSplit,
    open_source,
    read_batches,
    scenes,
)
from curation.sources.reading.record_batches import record_batches, record_schema, usable_captions
from data_manifests.errors import InputError
from data_manifests.sample import image_uid
from flows.execution.executors import process_map
from tests.curation.source_inputs import coco, flickr8k, pack, picture, put, sample


def a_coco(root: Path) -> str:
    """Three captions files, one with an annotation without an image."""
    for shade, (year, split) in enumerate((("2017", "train"), ("2017", "val"), ("2017", "test"))):
        put(root / f"{split}{year}" / "1.jpg", picture(shade))
        text = coco([{"id": 1, "file_name": "1.jpg"}], [(1, f"a {split} picture"), (2, "lost")])
        put(root / "annotations" / f"captions_{split}{year}.json", text)
    return f"coco:{root}"


def a_csv(root: Path) -> str:
    """open_clip's table, with rows that name the same picture, lead out or are none; the user names the columns."""
    rows = [f"{number % 40}.jpg\ttitle {number}\t\ttrain" for number in range(97)]
    put(root / "train.tsv", "\n".join(["picture\ttitle\tsubtitle\tfold", *rows, "../x.jpg\tlost\t\t", "0.jpg"]))
    for number in range(40):
        put(root / f"{number}.jpg", picture(number))
    return f"csv:{root}/train.tsv?image=picture&caption=title&caption=subtitle&split=fold"


def a_flickr(root: Path) -> str:
    """The official layout, and a table whose encoding is guessed."""
    flickr8k(root)
    with (root / "Flickr8k.token.txt").open("ab") as file:
        file.write("\na.jpg#7\tun caf\u00e9\na.jpg#8\t\n".encode("cp1252"))
    return f"flickr:{root}"


def a_folder(root: Path) -> str:
    """A table with good and bad rows, in no order."""
    rows = [f"{number % 40}.jpg,caption {number}" for number in range(97)]
    put(root / "captions.csv", "\n".join(["file_name,caption", *rows, "gone.jpg,lost", "0.jpg,", "no row"]))
    for number in range(43):
        put(root / f"{number}.jpg", picture(number))
    return f"folder:{root}"


def a_hf(root: Path) -> str:
    """What `save_to_disk` writes, with two of the library's splits, and rows without image or caption."""
    import datasets

    features = datasets.Features({"image": datasets.Image(), "caption": datasets.List(datasets.Value("string"))})
    parts = {}
    for number, name in enumerate(("train", "validation")):
        images = [{"bytes": picture(number + place), "path": None} for place in range(29)] + [None]
        captions = [["", "one", None] if place % 7 else [f"caption {place}"] for place in range(29)] + [["lost"]]
        parts[name] = datasets.Dataset.from_dict({"image": images, "caption": captions}, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(root))
    return f"hf:{root}"


def a_parquet(root: Path) -> str:
    """Three files of pictures' bytes; the same picture is in two of them."""
    root.mkdir()
    for number in range(3):
        images = [picture(number + place) for place in range(30)]
        captions = [["", "one", None] if place % 7 else [f"caption {place}"] for place in range(30)]
        pq.write_table(pa.table({"image": images, "captions": captions}), root / f"train-{number}.parquet")
    return f"parquet:{root}"


def a_visual_genome(root: Path) -> str:
    """Photographs in both folders, one that is missing, and an entry without regions."""
    regions = [{"phrase": f"thing {place}", "x": 0, "y": 0, "width": 9, "height": place + 1} for place in range(4)]
    entries = [{"id": key, "regions": regions[: key % 5]} for key in range(20)]
    put(root / "region_descriptions.json", orjson.dumps(entries))
    for key in range(19):
        put(root / f"VG_100K{'_2' * (key % 2)}" / f"{key}.jpg", picture(key))
    return f"visual_genome:{root}"


def a_webdataset(root: Path) -> str:
    """Three tars, one of which is cut short."""
    for number in range(3):
        members = [item for key in range(20) for item in sample(f"{key:02d}", f"{number} {key}")]
        path = pack(root / f"{number}.tar", members)
    path.write_bytes(path.read_bytes()[:9000])
    return f"webdataset:{root}"


INPUTS: Mapping[str, Callable[[Path], str]] = {
    "coco": a_coco,
    "csv": a_csv,
    "flickr": a_flickr,
    "folder": a_folder,
    "hf": a_hf,
    "parquet": a_parquet,
    "scenes": lambda _root: "scenes:25@4",
    "visual_genome": a_visual_genome,
    "webdataset": a_webdataset,
}
"""Kind -> what makes an input with all that its source can yield; a new kind needs one."""


@pytest.fixture(scope="module", params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleSource]:
    """Return a source of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SCENES_PER_SPLIT", 10)
        yield open_source(INPUTS[request.param](tmp_path_factory.mktemp("sources") / request.param))


@pytest.fixture(scope="module")
def processes() -> Iterator[SplitMap]:
    """Return what reads splits in two other processes."""
    with process_map(2) as found:
        yield found


def batches_of(source: SampleSource) -> list[list[pa.RecordBatch]]:
    """Return the batches of each split."""
    return [list(split.batches()) for split in source.splits()]


def test_every_kind_has_an_input() -> None:
    assert set(INPUTS) == set(KINDS)


def test_splits_are_read_again_alone_and_elsewhere_with_equal_batches(source: SampleSource) -> None:
    first = batches_of(source)
    assert any(first), "no batch was read"
    assert batches_of(source) == first
    assert [batch for split in first for batch in split] == list(read_batches(source))
    splits = list(enumerate(pickle.loads(pickle.dumps(source.splits()))))
    random.Random(3).shuffle(splits)
    for number, split in splits:
        assert list(split.batches()) == first[number]


def test_every_row_is_a_record_or_says_why_it_is_none(source: SampleSource) -> None:
    for batch in read_batches(source):
        assert batch.schema == record_schema()
        batch.validate(full=True)
        for row in batch.to_pylist():
            is_record = row["path"] is not None or row["data"] is not None
            if row["note"] is not None:
                assert not is_record
                assert row["problems"] is None
            elif is_record:
                assert row["name"]
                assert row["captions"]
                assert usable_captions(tuple(row["captions"])) == (row["captions"], [])
                assert isinstance(orjson.loads(row["attributes"]), dict)
                assert row["split"] in SPLIT_PRIORITY
            else:
                assert row["name"]
                assert row["problems"]
                assert row["captions"] is None


def test_other_processes_make_the_same_snapshot(
    source: SampleSource, processes: SplitMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def counting(work: Any, splits: Iterable[tuple[int, SourceSplit]]) -> Iterator[Any]:
        numbered = list(splits)
        given.extend(number for number, _ in numbered)
        return processes(work, numbered)

    contents = []
    for alone_s in (1e9, -1.0):
        monkeypatch.setattr(intake, "ALONE_S", alone_s)
        folder = read_source(source, tmp_path / "intake", location="here", processes=counting).folder
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
        shutil.rmtree(folder)
    assert contents[0] == contents[1]
    num_splits = len(source.splits())
    assert given == (list(range(num_splits)) if num_splits > 1 else [])


def test_a_killed_process_is_an_error_that_says_so() -> None:
    with process_map(2) as found, pytest.raises(InputError, match="a worker process was killed"):
        list(found(os._exit, [1, 1]))


def test_batches_are_bounded_in_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [SourceRecord(str(number), b"x", ("a dog",)) for number in range(5000)]
    sizes = [len(batch) for batch in record_batches(small)]
    assert sizes[:8] == [16, 32, 64, 128, 256, 512, 1024, 1024]
    assert sum(sizes) == 5000
    monkeypatch.setattr("curation.sources.reading.record_batches.MAX_BATCH_BYTES", 10_000)
    large = [SourceRecord(str(number), b"x" * 4000, ("a dog",)) for number in range(7)]
    assert [len(batch) for batch in record_batches(large)] == [3, 3, 1]


def test_a_limit_leaves_later_splits_unread(tmp_path: Path) -> None:
    def broken() -> list[SourceRecord]:
        raise AssertionError("it was read")

    class Parts:
        kind = "parts"

        def splits(self) -> list[RecordSplit]:
            first = [SourceRecord(str(number), picture(number), ("a dog",)) for number in range(3)]
            return [RecordSplit(lambda: first), RecordSplit(broken)]

        def signature(self) -> str:
            return "1"

        def describe(self) -> dict[str, Any]:
            return {"kind": self.kind}

    assert read_source(Parts(), tmp_path, location="here", limit=2).num_samples == 2
    with pytest.raises(AssertionError, match="it was read"):
        read_source(Parts(), tmp_path, location="here", limit=3)


def test_reading_may_stop_anywhere(source: SampleSource) -> None:
    for split in source.splits():
        batches = split.batches()
        next(batches, None)
        del batches  # a file that stayed open would be a warning, which is an error here


def test_forgotten_names_are_not_kept(tmp_path: Path) -> None:
    put(tmp_path / "set" / "captions.jsonl", '{"file_name": "her_name.jpg", "captions": ["one", null]}\n')
    for shade, name in enumerate(("her_name.jpg", "other.jpg")):
        put(tmp_path / "set" / name, picture(shade))
    with (tmp_path / "set" / "captions.jsonl").open("a") as file:
        file.write('{"file_name": "other.jpg", "captions": ["two", null]}\n')
    denylist = Denylist().adding([image_uid(picture(0))])
    found = read_source(open_source(f"folder:{tmp_path / 'set'}"), tmp_path / "in", location="here", denylist=denylist)
    assert found.rejected == (("", "forgotten", ""), ("other.jpg", "empty_caption", "caption 2 of 2 is null"))
    assert not any(b"her_name" in path.read_bytes() for path in found.folder.iterdir())
