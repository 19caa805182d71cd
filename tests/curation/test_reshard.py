"""Versions laid out anew: the same bytes in other places, and a selection is an honest version of its own."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from curation.versions.layout import Layout, read_uids
from curation.versions.reshard import reshard
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.shards import ShardReader, ShardWriter
from data_manifests.tar_copy import SampleRanges, key_digits, rename
from tests.data_manifests.built_versions import build, negative, picture

NUM = 24
MIB = 2**20


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    made = build(tmp_path_factory.mktemp("reshard"), "toy", [picture(number) for number in range(NUM)])
    assert len(made.manifest.body["shards"]) > 2
    return made


@pytest.fixture
def catalog(old: DatasetVersion) -> Catalog:
    root = old.folder.parent.parent.parent
    return Catalog(root / "manifests", root)


def contents(version: DatasetVersion) -> dict[str, tuple[bytes, dict[str, object], bytes]]:
    """Return image, JSON without its key, and text by uid, found through the index."""
    found = {}
    with ShardReader(version.folder) as reader:
        for row in version.index().to_pylist():
            image, meta, text = (
                reader.read(row["shard"], row[f"{name}_offset"], row[f"{name}_bytes"])
                for name in ("image", "json", "text")
            )
            payload = orjson.loads(meta)
            assert payload.pop("key") == row["key"] and payload["uid"] == row["uid"]
            found[row["uid"]] = (image, payload, text)
    return found


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_other_shards_hold_the_same_payloads(old: DatasetVersion, catalog: Catalog) -> None:
    made = reshard(catalog, old.ref, Layout(9_000))
    new = catalog.open(f"toy@{made.manifest.version}")
    assert made.created and made.manifest.version == "1.0.1" and new.verify() == []
    assert len(made.manifest.body["shards"]) > len(old.manifest.body["shards"])
    assert contents(new) == contents(old)
    assert new.index(["uid"]).equals(old.index(["uid"]))
    assert made.manifest.body["parent"] == {"version": "1.0.0", "fingerprint": old.manifest.fingerprint}
    assert made.manifest.body["statistics"] == old.manifest.body["statistics"]
    for shard in made.manifest.body["shards"]:
        path = new.folder / shard["name"]
        with tarfile.open(path) as tar:  # checks every header's checksum
            assert len(list(tar)) == 3 * shard["samples"]
        read = list(webdataset.WebDataset(str(path), shardshuffle=False))
        assert len(read) == shard["samples"]
        assert all(orjson.loads(item["json"])["key"] == item["__key__"] for item in read)
    again = reshard(catalog, old.ref, Layout(9_000))
    assert not again.created and again.manifest.version == "1.0.1"


def test_one_shard_equals_what_publish_would_have_written(
    old: DatasetVersion, catalog: Catalog, tmp_path: Path
) -> None:
    whole = build(tmp_path, "toy", [picture(number) for number in range(NUM)], shard_bytes=64 * MIB)
    made = reshard(catalog, old.ref, Layout(64 * MIB), "whole")
    new = catalog.open("whole")
    assert made.manifest.body["parent"]["name"] == "toy"
    for name in ("00000.tar", "00000.parquet", "index.parquet", "sizes.json", "dropped.parquet", "00000_stats.json"):
        assert (new.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    for name in ("counts", "statistics", "shards"):
        assert new.manifest.body[name] == whole.manifest.body[name]


def test_a_selection_is_a_major_version_that_lists_what_it_left_out(old: DatasetVersion, catalog: Catalog) -> None:
    made = reshard(catalog, old.ref, Layout(MIB, where=("difficulty>=0.1", "split==train", "cluster_id<2")), "some")
    new = catalog.open("some")
    index = old.index().to_pylist()
    wanted = [row["uid"] for row in index if row["difficulty"] >= 0.1 and row["cluster_id"] < 2]
    assert 0 < len(wanted) < NUM and new.index(["uid"])["uid"].to_pylist() == wanted
    assert new.verify() == []
    body = made.manifest.body
    assert body["counts"]["samples"] == len(wanted) and body["counts"]["negatives"] == len(wanted)
    assert body["counts"]["captions"] == 2 * len(wanted) == sum(body["statistics"]["caption_words"].values())
    assert body["counts"]["dropped"] == {"reshard": {"not_selected": NUM - len(wanted)}}
    left = new.table("dropped.parquet").to_pylist()
    assert {row["uid"] for row in left} == {row["uid"] for row in index} - set(wanted)
    assert all(row["name"].endswith(".png") for row in left)
    uids = catalog.workspace / "uids.txt"
    uids.write_text("\n".join(wanted[:3]))
    again = reshard(catalog, "some", Layout(MIB, keep=read_uids(uids)))
    assert again.manifest.version == "2.0.0" and again.why.startswith("edited: 3 of")


def test_orders(old: DatasetVersion, catalog: Catalog) -> None:
    rows = {row["uid"]: row for row in old.index().to_pylist()}

    def order(name: str, **more: int) -> list[str]:
        table = old.index()
        uids = table["uid"].to_pylist()
        shuffled = table.take(np.random.default_rng(5).permutation(len(uids)))  # the order does not depend on what was
        found = [shuffled["uid"][row].as_py() for row in Layout(MIB, name, **more).rows(shuffled, "toy").tolist()]
        assert sorted(found) == sorted(uids)
        return found

    assert order("uid") == sorted(rows)
    assert order("difficulty") == sorted(rows, key=lambda uid: (rows[uid]["difficulty"], uid))
    assert order("cluster") == old.index()["uid"].to_pylist()
    key = lambda uid: (rows[uid]["cluster_id"], min(int(rows[uid]["difficulty"] * 4), 3), uid)  # noqa: E731
    assert order("cluster", bands=4) == sorted(rows, key=key) != order("cluster")
    assert order("shuffle:1") == order("shuffle:1") != order("shuffle:2")


def test_lists_of_uids(tmp_path: Path) -> None:
    uids = ["00000000000000010000000000000002", "ff00000000000000000000000000000a"]
    (tmp_path / "a.txt").write_text("\n".join(uids) + "\n\n")
    pq.write_table(pa.table({"uid": uids}), tmp_path / "a.parquet")
    np.save(tmp_path / "a.npy", np.array([(1, 2), (0xFF << 56, 10)], dtype="u8,u8"))
    assert {read_uids(tmp_path / f"a.{kind}") for kind in ("txt", "parquet", "npy")} == {frozenset(uids)}


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda _: Layout(MIB, "clusters"), "--order 'clusters': did you mean 'cluster'?"),
        (lambda _: Layout(MIB, "uid", bands=3), "--bands 3 needs an order by difficulty"),
        (lambda v: Layout(MIB, where=("difficlty>1",)).rows(v.index(), v.ref), "did you mean 'difficulty'?"),
        (lambda v: Layout(MIB, where=("difficulty~1",)).rows(v.index(), v.ref), "not a condition"),
        (lambda v: Layout(MIB, where=("difficulty>easy",)).rows(v.index(), v.ref), "'easy' is not a number"),
        (lambda v: Layout(MIB, where=("difficulty>7",)).rows(v.index(), v.ref), f"none of {NUM} samples is selected"),
        (lambda v: read_uids(v.folder / "nothing.txt"), "no such file"),
        (lambda v: read_uids(v.folder / "sizes.json"), "sizes.json:1: "),
        (lambda v: read_uids(v.folder / "00000.tar"), "not text"),
    ],
)
def test_bad_input(old: DatasetVersion, work: Callable[[DatasetVersion], object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        work(old)
    assert said in str(caught.value)


def test_an_index_of_another_tar_is_refused_and_nothing_is_left(old: DatasetVersion, catalog: Catalog) -> None:
    made = reshard(catalog, old.ref, Layout(MIB), "broken")
    folder = catalog.folder("broken", "1.0.0")
    data = bytearray((folder / "00000.tar").read_bytes())
    data[0:9] = b"000000077"
    (folder / "00000.tar").write_bytes(data)
    with pytest.raises(InputError, match="another key is there"):
        reshard(catalog, "broken", Layout(9_000))
    assert catalog.versions("broken") == [made.manifest.version]
    assert not (folder.parent / ".building").exists() and not (folder.parent / "1.0.1").exists()


def test_only_the_key_at_the_top_is_renamed(tmp_path: Path) -> None:
    nested = orjson.dumps({"a": {"key": "000000000"}, "key": "000000000", "said": '"key":"000000000"'})
    with ShardWriter(tmp_path / "00000.tar") as writer:
        places = [
            writer.add(f"000000000.{kind}", data) for kind, data in (("jpg", b"x"), ("json", nested), ("txt", b"t"))
        ]
        writer.finish()
    row = {"shard": [0], "key": ["000000000"]}
    for name, member in zip(("image", "json", "text"), places, strict=True):
        row |= {f"{name}_offset": [member.offset], f"{name}_bytes": [member.size_bytes]}
    ranges = SampleRanges.of(pa.table(row), "toy")
    data = bytearray((tmp_path / "00000.tar").read_bytes()[: int(ranges.length[0])])
    rename(data, ranges, key_digits(3, 8)[7:], lambda row: "here")
    low = int(ranges.offsets[0, 1])
    assert orjson.loads(data[low : low + len(nested)]) == {**orjson.loads(nested), "key": "000030007"}


def test_manifests_of_a_repacked_version_are_readable(old: DatasetVersion, catalog: Catalog) -> None:
    made = reshard(catalog, old.ref, Layout(20_000, "shuffle:9"))
    loaded = Manifest.load(catalog.manifest_path("toy", made.manifest.version))
    assert loaded.body["derived"]["order"] == "shuffle:9" and loaded.num_samples == NUM


def test_of_a_part_blind_accuracy_is_measured_only_when_asked(tmp_path: Path) -> None:
    """What a stage found out of the whole stays with a part; how well text alone does on it must be asked anew."""
    caption = "A red ball lies on the green grass near a tree ."
    words = [negative(0, caption, 2, 5, f"word{number}") for number in range(30)]
    version = build(tmp_path, "toy", [picture(number, caption, negatives=tuple(words)) for number in range(12)])
    catalog = Catalog(tmp_path / "manifests", tmp_path)
    assert "blind_accuracy" in version.manifest.body["statistics"]["quality"]
    body = {key: value for key, value in version.manifest.body.items() if key != "fingerprint"}
    body["statistics"] = body["statistics"] | {
        "quality": body["statistics"]["quality"] | {"some_stage": {"limit": 0.5}}
    }
    Manifest.seal(body).save(catalog.manifest_path("toy", "1.0.0"))
    part, whole = Layout(MIB, where=("cluster_id<2",)), Layout(MIB)
    plain, judged = reshard(catalog, "toy", part, "plain"), reshard(catalog, "toy", part, "judged", judge=True)
    assert plain.manifest.body["statistics"]["quality"] == {"some_stage": {"limit": 0.5}}
    assert set(judged.manifest.body["statistics"]["quality"]) == {"some_stage", "blind_accuracy"}
    kept = reshard(catalog, "toy", whole, "whole").manifest.body["statistics"]["quality"]
    assert kept == body["statistics"]["quality"]
