"""A file or folder appears whole or not at all: with an error in the middle, on a full disk, and after a kill."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_manifests.atomic_files import (
    DRAFT_PREFIX,
    draft_folder,
    open_atomically,
    publish_file,
    publish_folder,
    write_atomically,
    write_table_atomically,
)


def _full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_file_is_written_in_a_folder_that_is_made_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_full_disk_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")
    monkeypatch.setattr("os.fsync", _full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_error_in_the_block_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    write_atomically(path, b"old")

    def interrupted() -> None:
        with open_atomically(path) as file:
            file.write(b"half a line")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from data_manifests.atomic_files import open_atomically\n"
        "with open_atomically(Path(sys.argv[1])) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    others = [other for other in tmp_path.iterdir() if other != path]
    assert [other.read_bytes() for other in others] == [b"new"]
    assert others[0].name.startswith(DRAFT_PREFIX)


def test_file_and_folder_are_flushed_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, path, events = tmp_path / "draft", tmp_path / "file", []
    draft.write_bytes(b"whole")
    flush, replace = os.fsync, os.replace

    def record_flush(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        flush(descriptor)

    def record_rename(old: Path, new: Path) -> None:
        events.append("rename")
        replace(old, new)

    monkeypatch.setattr("os.fsync", record_flush)
    monkeypatch.setattr("os.replace", record_rename)
    publish_file(draft, path)
    assert events == ["file", "rename", "folder"]


def test_equal_tables_give_equal_files(tmp_path: Path) -> None:
    table = pa.table({"uid": ["a", "b"], "value": [1.0, 2.0]})
    for name in ("one.parquet", "two.parquet"):
        write_table_atomically(tmp_path / name, table, write_page_checksum=True)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert pq.read_table(tmp_path / "one.parquet").equals(table)
    assert pq.ParquetFile(tmp_path / "one.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("name", [None, ".building"])
def test_folder_is_published_whole(tmp_path: Path, name: str | None) -> None:
    final = tmp_path / "versions" / "1.0.0"
    with draft_folder(final.parent, name) as draft:
        (draft / "file").write_bytes(b"whole")
        assert not final.exists()
        publish_folder(draft, final)
    assert (final / "file").read_bytes() == b"whole"
    assert list(final.parent.iterdir()) == [final]


def test_error_in_the_block_removes_the_draft_folder(tmp_path: Path) -> None:
    def interrupted() -> None:
        with draft_folder(tmp_path, ".building") as draft:
            (draft / "file").write_bytes(b"half")
            _full_disk(0)

    with pytest.raises(OSError, match="No space"):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_draft_folder_of_a_killed_run_is_emptied(tmp_path: Path) -> None:
    (tmp_path / ".building").mkdir()
    (tmp_path / ".building" / "half").write_bytes(b"half")
    with draft_folder(tmp_path, ".building") as draft:
        assert not list(draft.iterdir())


def test_published_folder_never_replaces_files(tmp_path: Path) -> None:
    final = tmp_path / "final"
    final.mkdir()
    (final / "precious").write_bytes(b"kept")
    with pytest.raises(OSError, match="not empty"), draft_folder(tmp_path) as draft:
        publish_folder(draft, final)
    assert (final / "precious").read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [final]
