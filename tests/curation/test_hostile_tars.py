"""Truncated, damaged and malicious tars, and the walk over their headers."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.sources.reading.tar_walk import TarError, TarMember, walk, walk_from
from data_manifests.tar_index import PlainTarReader
from tests.curation.source_inputs import bytes_of, pack, picture, put, read, refused, sample, special


def test_webdataset_cut_anywhere_gives_the_whole_samples_before_it(tmp_path: Path) -> None:
    whole = pack(tmp_path / "0.tar", [item for key in "abc" for item in sample(key, key)]).read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512
    starts = [whole.index(f"{key}.jpg\0".encode()) for key in "bc"]
    for cut in (*range(0, end + 512, 97), *range(0, end + 512, 512)):
        path = put(tmp_path / "cut.tar", whole[:cut])
        records, rejected = read(f"webdataset:{path}")
        assert [r.captions[0] for r in records] == [k for k, at in zip("ab", starts, strict=True) if cut >= at + 512]
        assert rejected == [("cut.tar", "truncated_archive")]
    for cut in (end + 512, end + 1024, end + 1500):
        path = put(tmp_path / "cut.tar", whole[:cut])
        records, rejected = read(f"webdataset:{path}")
        assert ([r.captions[0] for r in records], rejected) == (["a", "b", "c"], [])


def test_webdataset_damage_ends_only_that_tar(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "0.tar", [item for key in "abc" for item in sample(key, key)]).read_bytes())
    pack(tmp_path / "1.tar", sample("d", "d"))
    data[data.index(b"c.jpg\0") + 124] ^= 1
    put(tmp_path / "0.tar", bytes(data))
    records, rejected = read(f"webdataset:{tmp_path}")
    assert [r.captions[0] for r in records] == ["a", "d"]
    assert rejected == [("0.tar", "corrupt_archive")]
    put(tmp_path / "0.tar", (tmp_path / "1.tar").read_bytes() * 2)
    records, rejected = read(f"webdataset:{tmp_path}/0.tar")
    assert ([r.captions[0] for r in records], rejected) == (["d"], [("0.tar", "trailing_data")])


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    """Return an extended header with these raw records."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(records)
    return info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(-(-len(records) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (pax(b"9 size=-1\n"), "corrupt_archive"),
        (pax(b"22 size=9999999999999\n"), "truncated_archive"),
        (pax(b"99 path=x\n"), "corrupt_archive"),
        (pax(b"0 path=x\n"), "corrupt_archive"),
        (pax(b"junk"), "corrupt_archive"),
        (pax(b"10 path=x\n", b"g"), "corrupt_archive"),
        (pax(b"1048600 comment=" + b"x" * 1048583 + b"\n"), "corrupt_archive"),
        (pax(b"24 GNU.sparse.major=1.0\n".replace(b"24", b"25")), "corrupt_archive"),
        (pax(b"24 GNU.sparse.major=1.0\n"), "unsafe_member"),
        (pax(b"5011 path=" + b"x" * 5000 + b"\n"), "unsafe_path"),
        (pax(b"20 path=../../x.jpg\n"), "unsafe_path"),
        (pax(b"10 path=x\n", b"L"), None),
    ],
)
def test_webdataset_hostile_extended_headers(header: bytes, reason: str | None, tmp_path: Path) -> None:
    whole = pack(tmp_path / "0.tar", [("a.jpg", picture()), ("a.txt", b"x"), *sample("b", "y")]).read_bytes()
    put(tmp_path / "0.tar", header + whole)
    rejected = read(f"webdataset:{tmp_path}/0.tar")[1]
    assert (rejected[0][1] if rejected else None) == (reason or "missing_image")


def test_a_link_has_no_data_whatever_its_size_says(tmp_path: Path) -> None:
    link = special("link.jpg", tarfile.SYMTYPE, "a.jpg")
    link.size = 1024
    records, rejected = read(f"webdataset:{pack(tmp_path / '0.tar', [link, *sample('a', 'one')])}")
    assert [r.name for r in records] == ["0.tar/a"]
    assert rejected == [("0.tar/link.jpg", "unsafe_path")]


def test_webdataset_rejects_compressed_tars(tmp_path: Path) -> None:
    plain = pack(tmp_path / "plain" / "0.tar", sample("a", "b"))
    for name, mode in (("0.tar.gz", "w:gz"), ("1.tar", "w:gz"), ("2.tar", "w:bz2"), ("3.tar", "w:xz")):
        with tarfile.open(tmp_path / name, mode) as tar:  # type: ignore[call-overload]
            tar.add(plain, "x")
        assert "decompress it, for example with gunzip" in refused(f"webdataset:{tmp_path / name}")
    assert "0.tar.gz is a compressed" in refused(f"webdataset:{tmp_path}")


def test_walk_agrees_with_the_standard_library(tmp_path: Path) -> None:
    members = [item for number in range(20) for item in sample(f"d{number}/" + "n" * number * 9, "text")]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = pack(tmp_path / "0.tar", members, form)
        with tarfile.open(path) as tar, path.open("rb") as file:
            expected = [(info.name, info.offset_data, info.size) for info in tar]
            assert [(m.name, m.offset, m.size_bytes) for m in walk(file)] == expected


def test_webdataset_groups_like_webdataset(tmp_path: Path) -> None:
    tariterators = pytest.importorskip("webdataset.tariterators")
    members = [item for key in ("a", "x/b", "x.y/c", "./d") for item in sample(key, key)]
    path = pack(tmp_path / "0.tar", members)
    with path.open("rb") as file:
        theirs = list(tariterators.group_by_keys(tariterators.tar_file_expander([{"url": "0.tar", "stream": file}])))
    records, _ = read(f"webdataset:{path}")
    assert [r.name for r in records] == ["0.tar/" + entry["__key__"].removeprefix("./") for entry in theirs]
    assert [bytes_of(r) for r in records] == [entry["jpg"] for entry in theirs]


def outcome(members: Iterator[TarMember]) -> list[TarMember | str]:
    """Return the members, and behind them what ended the walk."""
    found: list[TarMember | str] = []
    try:
        found += members
    except TarError as error:
        found.append(str(error))
    return found


def both(path: Path) -> list[TarMember | str]:
    """Walk in both ways, which must agree."""
    with path.open("rb") as file:
        fast, slow = outcome(walk(file)), outcome(walk_from(file, 0))
    assert fast == slow
    return fast


def resealed(header: bytes) -> bytes:
    """Return a header with the checksum it ought to have."""
    return header[:148] + b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 0x20) + header[156:]


def test_the_fast_walk_and_the_slow_one_agree_on_damaged_archives(tmp_path: Path) -> None:
    rng = random.Random(3)
    members = [
        ("p" * 90 + "/" + "n" * 60 + ".txt", b"x"),
        *(i for key in "abcdef" for i in sample(key, key)),
        ("\u00e9", b""),
    ]
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        whole = pack(tmp_path / "0.tar", members[:: rng.choice((1, -1))], form).read_bytes()
        for _ in range(150):
            data = bytearray(whole[: rng.choice((len(whole), rng.randrange(len(whole))))])
            for at in (rng.randrange(len(data)) for _ in range(rng.randrange(4) if data else 0)):
                data[at if rng.random() < 0.3 else min(at, at // 512 * 512 + at % 160)] = rng.randrange(
                    256
                )  # most in headers
            both(put(tmp_path / "cut.tar", bytes(data)))


@pytest.mark.parametrize(
    "size", [b"-0000001000", b"0o000000010", b"0_000000010", b" 0000000010", b"+0000000010", b"77777777777"]
)
def test_malformed_sizes_are_rejected(size: bytes, tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "0.tar", [item for key in "abc" for item in sample(key, key)]).read_bytes())
    at = data.index(b"b.jpg\0")
    data[at : at + 512] = resealed(bytes(data[at : at + 124] + size + data[at + 135 : at + 512]))
    both(put(tmp_path / "0.tar", bytes(data)))
    with (tmp_path / "0.tar").open("rb") as file:
        plain = PlainTarReader(file.fileno())
        assert [name for part in plain for name in part.names] == ["a.jpg", "a.txt", "a.json"]
        assert plain.position == at


def test_the_fast_walk_goes_all_the_way_on_plain_archives_and_stops_at_the_first_other_member(tmp_path: Path) -> None:
    members = [(f"{number:05d}.txt", b"x" * (number % 3000)) for number in range(2500)]
    path = pack(tmp_path / "0.tar", members)
    assert [(item.name, item.size_bytes) for item in both(path)] == [(name, len(data)) for name, data in members]
    for odd in (special("link", tarfile.SYMTYPE, "a"), ("l" * 120 + "/x", b""), special("old", tarfile.AREGTYPE)):
        with pack(path, [*members[:1500], odd, *members[1500:]]).open("rb") as file:
            plain = PlainTarReader(file.fileno())
            assert sum(len(part.names) for part in plain) == 1500
        assert len(both(path)) == 2501
