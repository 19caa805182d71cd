"""Rows of a snapshot by uid: the same as of the whole table, whatever row groups they lie in."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.snapshot_rows import SnapshotRows, open_rows
from data_manifests.sample import ImageFiles, ImageRef

UIDS = [f"{number * 7919 % 65536:04x}" for number in range(1, 400)]
UIDS.sort()


def table(uids: list[str]) -> pa.Table:
    return pa.table({"uid": pa.array(uids, pa.string()), "place": list(range(len(uids)))})


@pytest.mark.parametrize("size", [1, 37, 1000])
def test_rows_of_a_span_and_of_uids_are_those_of_the_whole_table(tmp_path: Path, size: int) -> None:
    pq.write_table(table(UIDS), tmp_path / "samples.parquet", row_group_size=size)
    rows = SnapshotRows(tmp_path / "samples.parquet")
    for low, end in (("", "g"), ("3", "4"), (UIDS[36], UIDS[37]), (UIDS[36], UIDS[38]), ("1", "g"), ("zz", "zzz")):
        found = [uid for part in rows.between(low, end) for uid in part["uid"].to_pylist()]
        assert found == [uid for uid in UIDS if low <= uid < end]
    wanted = UIDS[5:300:11]
    found = [place for part in rows.of(wanted) for place in part["place"].to_pylist()]
    assert [UIDS[place] for place in found] == wanted
    assert list(rows.of([])) == []


def test_a_file_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    pq.write_table(table(UIDS), path)
    assert sum(map(len, open_rows(path).between("", "g"))) == len(UIDS)
    pq.write_table(table([]), tmp_path / "new")
    (tmp_path / "new").rename(path)
    assert list(open_rows(path).between("", "g")) == []


def test_images_of_many_files_are_read_as_one_by_one_and_a_cut_file_is_an_error(tmp_path: Path) -> None:
    refs = []
    for number in range(300):
        (tmp_path / str(number)).write_bytes(bytes([number % 256]) * 20)
        refs.append(ImageRef(str(tmp_path / str(number)), number % 10, 10))
    with ImageFiles() as files:
        assert [files.read(ref) for ref in refs] == [ref.read() for ref in refs]
        assert files.read(ImageRef(str(tmp_path / "3"))) == b"\3" * 20
        with pytest.raises(OSError, match="wanted 10 bytes"):
            files.read(ImageRef(str(tmp_path / "3"), 15, 10))
        with pytest.raises(FileNotFoundError):
            files.read(ImageRef(str(tmp_path / "none"), 0, 10))
