"""Searching for many strings at once finds what a plain search finds."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest

from data_manifests.absence import OriginalSample, image_labels, search_traces
from data_manifests.byte_search import BytePatterns
from tests.data_manifests.tars import walk


def plain(data: bytes, needles: list[bytes]) -> list[tuple[int, bytes]]:
    found = []
    for needle in needles:
        at = data.find(needle)
        while at >= 0:
            found.append((at, needle))
            at = data.find(needle, at + 1)
    return sorted(found)


@pytest.mark.parametrize("seed", range(6))
def test_finds_what_a_plain_search_finds(seed: int) -> None:
    rng = random.Random(seed)
    data = bytes(rng.choice(b"ab") for _ in range(3000))
    needles = list(
        {data[at : at + rng.randint(8, 40)] for at in rng.sample(range(2900), 40)} | {b"ababababc", b"a" * 7}
    )
    wanted = plain(data, [needle for needle in needles if len(needle) >= 8])
    assert sorted(BytePatterns(dict.fromkeys(needles, "x")).find(data)) == wanted
    assert len(wanted) >= 39


def test_pieces_of_a_large_file_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_manifests.absence._PIECE_BYTES", 100)
    monkeypatch.setattr("data_manifests.byte_search._CHUNK_BYTES", 64)
    uid = "0123456789abcdef0123456789abcdef"
    for at in range(60, 130, 7):
        (tmp_path / "file").write_bytes(b"." * at + uid.encode() + b"." * 50)
        assert [place for place in search_traces([tmp_path], {uid: None}, ()).places if f"byte {at}" in place]


def test_any_piece_of_a_picture_is_found_and_flat_ones_are_not_sought(tmp_path: Path) -> None:
    rng = random.Random(1)
    picture = b"\xff\xd8" + bytes(600) + b"\xff\xda" + rng.randbytes(4000) + bytes(2000)
    uid = "1f" * 16
    assert all(b"\0" * 20 not in block for block in image_labels(picture, uid))
    for start in (700, 1234, 3001):
        (tmp_path / "file").write_bytes(rng.randbytes(77) + picture[start : start + 64] + rng.randbytes(9))
        assert search_traces([tmp_path], {uid: OriginalSample(picture, ())}, ()).places
    (tmp_path / "file").write_bytes(picture[:604])
    assert not search_traces([tmp_path], {uid: OriginalSample(picture, ())}, ()).places


def test_a_tar_inside_a_tar_is_data(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("inner.txt", b"x" * 700), ("empty", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path = tmp_path / "outer.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("a.tar", inner.getvalue()), ("ä\nb.txt", b"ustar" * 200), ("c", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        assert walk(path)[0] == [(item.name, item.offset_data, item.size) for item in tar]


def test_hostile_tars_end_in_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(4):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 600
            tar.addfile(info, io.BytesIO(bytes(600)))
    good = path.read_bytes()
    rng = random.Random(2)
    for _ in range(300):
        data = bytearray(good[: rng.choice([len(good), rng.randrange(len(good))])])
        for _ in range(rng.randint(0, 3)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        found, _ = walk(path)
        assert len(found) <= 4 and all(offset + size <= len(data) for _, offset, size in found)
    path.write_bytes(b"")
    assert walk(path)[0] == []
