from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.engine.stage import Drop, Field
from curation.engine.store import (
    PREFIXES,
    Partition,
    StageResult,
    Store,
    files_of,
    find_results,
    input_id,
    partitions,
    read_results,
    write_parquet,
)
from curation.stages.hygiene.check_images import CheckImages
from data_manifests.errors import InputError


@given(st.integers(1, 3_000_000))
def test_partitions_cover_every_uid_once(num_samples: int) -> None:
    parts = partitions(num_samples)
    assert parts[0].first == 0
    assert parts[-1].last == PREFIXES - 1
    assert all(before.last + 1 == after.first for before, after in pairwise(parts))


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(1, 20_000))
def test_bounds_enclose_the_uids_with_the_prefixes(uid: str, num_samples: int) -> None:
    for part in partitions(num_samples):
        low, end = part.bounds()
        assert (part.first <= int(uid[:3], 16) <= part.last) == (low <= uid < end)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_json_fields_come_back_equal(value: object) -> None:
    field = Field("x")
    assert field.decode(field.encode(value)) == value


def test_input_id_tells_field_borders_apart() -> None:
    stage = CheckImages()
    assert input_id(stage, {"image": b"ab"}) != input_id(stage, {"image": b"a"})
    assert input_id(stage, {"image": b"ab", "captions": b"1"}) == input_id(stage, {"image": b"ab", "captions": b"2"})


def test_rows_come_back_with_drops(tmp_path: Path) -> None:
    store, part = Store(tmp_path), Partition(0, 255)
    rows = {bytes(16): StageResult({"a": b"1", "b": b"2"}), b"x" * 16: StageResult({}, Drop("broken", "why"))}
    path = store.publish(tmp_path / "stage", part, rows, ["a", "b"])
    assert files_of(tmp_path / "stage", part) == [path]
    assert files_of(tmp_path / "stage", Partition(256, 300)) == []
    ids = [b"x" * 16, bytes(16)]
    assert find_results([path], [*ids, b"y" * 16]) == dict.fromkeys(ids, path.name)
    assert read_results(path, ids, ["a", "b"]) == [rows[key] for key in ids]
    assert read_results(path, ids[1:], ["b"]) == [StageResult({"b": b"2"})]
    with pytest.raises(LookupError, match="lacks 1 of 2 results"):
        read_results(path, [bytes(16), b"y" * 16], ["a"])


def test_doing_a_batch_twice_leaves_one_file(tmp_path: Path) -> None:
    store, rows = Store(tmp_path), {bytes(16): StageResult({"a": b"1"})}
    first = store.publish(tmp_path, Partition(0, 1), rows, ["a"]).read_bytes()
    assert store.publish(tmp_path, Partition(0, 1), rows, ["a"]).read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 1


def test_a_flipped_bit_is_noticed_and_named(tmp_path: Path) -> None:
    store, part = Store(tmp_path), Partition(0, 1)
    path = store.publish(
        tmp_path, part, {bytes([n]) * 16: StageResult({"a": bytes([n] * 100)}) for n in range(50)}, ["a"]
    )
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=path.name):
        read_results(path, [bytes(16)], ["a"])


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        write_parquet(tmp_path / "x.parquet", object())
    assert list(tmp_path.iterdir()) == []
