"""Tars written by hand: the same bytes every time, readable by others, and damage is found."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.errors import InputError
from data_manifests.shards import (
    KEYS_PER_SHARD,
    ShardMember,
    ShardReader,
    ShardWriter,
    WrittenFile,
    sample_key,
    sha256_file,
    shard_name,
    split_into_shards,
    tar_header,
)
from tests.data_manifests.tars import walk

FILES = [("000000000.jpg", b"\xff\xd8" + b"x" * 700), ("000000000.json", b"{}"), ("000000000.txt", b"a" * 512)]


def write(path: Path, files: list[tuple[str, bytes]]) -> tuple[list[ShardMember], WrittenFile]:
    with ShardWriter(path) as writer:
        members = [writer.add(name, data) for name, data in files]
        return members, writer.finish()


def test_bytes_never_change(tmp_path: Path) -> None:
    _, written = write(tmp_path / "00000.tar", FILES)
    # frozen: another value here means that every shard ever published would be rebuilt as other bytes
    assert written.sha256 == "3ebffc493962508cd34036010fc648486681faa4cf3fc9d0c9274f618a410f68"
    assert written.sha256 == hashlib.sha256((tmp_path / "00000.tar").read_bytes()).hexdigest()
    assert written.sha256 == sha256_file(tmp_path / "00000.tar")
    assert written.size_bytes == (tmp_path / "00000.tar").stat().st_size == 3 * 512 + 1024 + 512 + 512 + 1024


def test_tarfile_reads_it(tmp_path: Path) -> None:
    members, _ = write(tmp_path / "00000.tar", FILES)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        infos = tar.getmembers()
        contents = [(info.name, file.read()) for info in infos if (file := tar.extractfile(info))]
        assert contents == FILES
        assert [info.offset_data for info in infos] == [member.offset for member in members]
        assert {(info.mtime, info.uid, info.gid, info.mode, info.uname) for info in infos} == {(0, 0, 0, 0o644, "")}
        assert not tar.pax_headers


@given(st.binary(max_size=1500), st.text("abc./-_09", min_size=1, max_size=100))
@settings(max_examples=100, deadline=None)
def test_headers_are_those_of_tarfile(data: bytes, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    theirs = tarfile.TarInfo.frombuf(tar_header(name, len(data)), "ascii", "strict")
    assert (theirs.name.rstrip("/"), theirs.size) == (info.name.rstrip("/"), info.size)


def test_walker_finds_what_was_written(tmp_path: Path) -> None:
    members, written = write(tmp_path / "00000.tar", FILES)
    found, walker = walk(tmp_path / "00000.tar")
    assert found == members and walker.cut_off is None
    assert walker.position == written.size_bytes - 1024
    with ShardReader(tmp_path) as reader:
        read = [(member.name, reader.read(0, member.offset, member.size_bytes)) for member in members]
    assert read == FILES


def test_walker_reads_tars_of_others(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in FILES:
            (tmp_path / name).write_bytes(data)
            tar.add(tmp_path / name, arcname=name)
    with ShardReader(tmp_path) as reader:
        found = [(item.name, reader.read(0, *item[1:])) for item in walk(tmp_path / "00000.tar")[0]]
    assert found == FILES


def flip(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


@pytest.mark.parametrize(
    ("damage", "position", "cut_off"),
    [
        (flip, 0, None),
        (lambda data: data[:124] + b"9" + data[125:], 0, None),
        (lambda data: data[:1536] + flip(data[1536:]), 1536, None),
        (lambda data: data[:900], 0, "000000000.jpg"),
        (lambda data: data[:1536], 1536, None),
        (lambda data: data[:1700], 1536, None),
        (lambda _: b"", 0, None),
        (lambda data: data[:156] + b"2" + data[157:], 0, None),
    ],
)
def test_walker_stops_at_damage(
    tmp_path: Path, damage: Callable[[bytes], bytes], position: int, cut_off: str | None
) -> None:
    path = tmp_path / "00000.tar"
    write(path, FILES)
    path.write_bytes(damage(path.read_bytes()))
    _, reader = walk(path)
    assert (reader.position, reader.cut_off) == (position, cut_off)


def test_walker_stops_at_links_even_with_a_good_checksum(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo("000000000.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "../../secret"
        tar.addfile(link)
    members, reader = walk(tmp_path / "00000.tar")
    assert members == [] and reader.position == 0


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_reader_that_checks_finds_any_damage(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("shards")
    members, written = write(folder / "00000.tar", FILES)
    records = {written.name: written.to_json()}
    with ShardReader(folder, records) as reader:
        assert reader.read(0, members[0].offset, members[0].size_bytes) == FILES[0][1]
    damaged = bytearray((folder / "00000.tar").read_bytes())
    place = data.draw(st.integers(0, len(damaged) - 1), "place")
    if data.draw(st.booleans(), "cut"):
        del damaged[place:]
    else:
        damaged[place] ^= data.draw(st.integers(1, 255), "change")
    (folder / "copy").mkdir()
    (folder / "copy" / "00000.tar").write_bytes(damaged)
    with ShardReader(folder / "copy", records) as reader, pytest.raises(InputError, match=r"00000\.tar is damaged: "):
        reader.read(0, members[0].offset, members[0].size_bytes)


def test_reader_says_what_it_misses(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", FILES)
    with ShardReader(tmp_path) as reader:
        with pytest.raises(InputError, match=r"wanted 999999 bytes at 512, got \d+"):
            reader.read(0, 512, 999_999)
        with pytest.raises(InputError, match=r"00003\.tar: shard is missing"):
            reader.read(3, 0, 1)


def test_writer_never_overwrites(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", FILES)
    with pytest.raises(FileExistsError):
        ShardWriter(tmp_path / "00000.tar")


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 1), ("a", 8**11), ("a", -1)])
def test_header_refuses_what_does_not_fit(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        tar_header(name, size)


def test_names_are_img2datasets() -> None:
    assert (shard_name(7), sample_key(7, 42)) == ("00007.tar", "000070042")


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
@settings(deadline=None)
def test_shards_cover_all_samples_once(sizes: list[int], target: int) -> None:
    shards = split_into_shards(sizes, target)
    assert [place for first, end in shards for place in range(first, end)] == list(range(len(sizes)))
    assert all(end - first == 1 or sum(sizes[first:end]) <= target for first, end in shards)
    for first, end in shards[:-1]:
        assert sum(sizes[first : end + 1]) > target, f"sample {end} still fitted into the shard of {first}"


def test_shards_hold_no_more_than_their_keys_can_name() -> None:
    full = (0, KEYS_PER_SHARD)
    assert split_into_shards([0] * (KEYS_PER_SHARD + 1), 10) == [full, (KEYS_PER_SHARD, KEYS_PER_SHARD + 1)]
    assert split_into_shards([], 10) == []
