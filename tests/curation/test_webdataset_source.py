"""WebDataset tars: layouts, captions, paths, and samples that cannot be used."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from curation.sources import SourceRecord, open_source
from curation.sources.scenes import ScenesSource
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef
from flows.execution.jobs import CurateJob, run_job
from tests.curation.source_inputs import Member, bytes_of, pack, picture, read, refused, sample, special


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_webdataset_of_img2dataset_in_every_tar_format(form: int, tmp_path: Path) -> None:
    keys = ["000000000", "folder/b", "schöne_bilder"]
    if form != tarfile.USTAR_FORMAT:
        keys.append("d" * 90 + "/" + "k" * 120)
    path = pack(tmp_path / "0.tar", [item for key in keys for item in sample(key, f"caption of {key}")], form)
    records, rejected = read(f"webdataset:{path}")
    assert rejected == []
    assert [r.name for r in records] == [f"0.tar/{key}" for key in keys]
    for record, key in zip(records, keys, strict=True):
        assert record.captions == (f"caption of {key}",)
        assert bytes_of(record) == picture(len(key))
        assert record.attributes == {"url": f"http://{key}"}
        assert isinstance(record.image, ImageRef)
        assert record.image.path == str(path)


def test_webdataset_captions_from_text_json_or_both(tmp_path: Path) -> None:
    image = picture()
    members: list[Member] = [
        ("a.jpg", image),
        ("a.txt", b"only text\n"),
        ("b.png", picture(1, "PNG")),
        ("b.json", b'{"caption": "only json", "license": "CC0", "split": "test"}'),
        *sample("c", "first", captions=["first", "second"], caption_1="second", attributes={"scene": {"n": 1}}),
        ("d.txt", b"text before image"),
        ("d.WEBP", picture(2, "WEBP")),
        ("d.json", b'{"captions": ["other"], "caption": null}'),
        ("d.cls", b"3"),
        ("__meta__", b""),
        ("._d.jpg", b"apple"),
        ("e.jpg", image),
        ("e.txt", b""),
        *[("f.jpg", image), ("f.txt", b" json too \n"), ("f.json", b'{"caption": "json too"}')],
        *[("g.jpg", image), ("g.txt", b" "), ("g.json", b'{"caption": "json only"}')],
    ]
    records, rejected = read(f"webdataset:{pack(tmp_path / '0.tar', members)}")
    assert rejected == [("0.tar/e", "empty_caption"), ("0.tar/e", "no_captions")]
    assert [r.captions for r in records] == [
        ("only text",),
        ("only json",),
        ("first", "second"),
        ("text before image", "other"),
        ("json too",),
        ("json only",),
    ]
    assert [r.attributes for r in records[1:3]] == [{"licence": "CC0"}, {"scene": {"n": 1}, "url": "http://c"}]
    assert [r.split for r in records] == [None, "test", None, None, None, None]
    assert [r.name for r in read(f"webdataset:{tmp_path}", "test")[0]] == ["0.tar/b"]
    with pytest.raises(InputError, match="no JSON in"):
        read(f"webdataset:{pack(tmp_path / 'no.tar', sample('x', 'y'))}", "test")


def test_webdataset_paths(tmp_path: Path) -> None:
    for folder, number in (("p", 0), ("p", 1), ("q", 0)):
        pack(tmp_path / folder / f"0000{number}.tar", sample(f"{folder}{number}", "text"))
    pack(tmp_path / "p" / "00002.tar", [])

    def names(path: str) -> list[str]:
        return [r.name for r in read(f"webdataset:{path}")[0]]

    assert names(f"{tmp_path}/p") == names(f"{tmp_path}/p/{{00000..00002}}.tar") == ["00000.tar/p0", "00001.tar/p1"]
    joined = f"{tmp_path}/q/00000.tar::{tmp_path}/p/{{00001,00000}}.tar"
    assert names(joined) == ["q/00000.tar/q0", "p/00001.tar/p1", "p/00000.tar/p0"]
    assert names(f"{tmp_path}/p/*1.tar") == ["00001.tar/p1"]
    assert "is given twice" in refused(f"webdataset:{tmp_path}/p::{tmp_path}/p/00000.tar")
    assert "no such file" in refused(f"webdataset:{tmp_path}/p/{{00000..00007}}.tar")
    assert "neither a path nor a URL" in refused("webdataset:pipe:cat x.tar")
    assert "no URL is read here" in refused("webdataset:s3://bucket/x.tar")
    before = open_source(f"webdataset:{tmp_path}/p").signature()
    pack(tmp_path / "p" / "00002.tar", sample("new", "text"))
    assert open_source(f"webdataset:{tmp_path}/p").signature() != before


def test_webdataset_rejects_hostile_members_by_name(tmp_path: Path) -> None:
    members: list[Member] = [
        special("./", tarfile.DIRTYPE),
        special("folder/", tarfile.DIRTYPE),
        ("../up.jpg", b"1"),
        ("/etc/abs.jpg", b"1"),
        special("a/../../dir", tarfile.DIRTYPE),
        special("soft.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard.jpg", tarfile.LNKTYPE, "ok.jpg"),
        special("dev.jpg", tarfile.CHRTYPE),
        special("disk.jpg", tarfile.BLKTYPE),
        special("pipe.jpg", tarfile.FIFOTYPE),
        special("odd.jpg", b"Z"),
        ("ok.jpg", picture()),
        ("ok.pyd", b"\x80\x04."),
        ("ok.scores.PKL", b"\x80\x04."),
        ("ok.txt", b"fine"),
        ("ok.pth", b"\x80\x04."),
    ]
    records, rejected = read(f"webdataset:{pack(tmp_path / '0.tar', members)}")
    assert [(r.name, r.captions) for r in records] == [("0.tar/ok", ("fine",))]
    unsafe = ("../up.jpg", "/etc/abs.jpg", "a/../../dir", "soft.jpg", "hard.jpg", "dev.jpg", "disk.jpg", "pipe.jpg")
    assert rejected == [
        *((f"0.tar/{name}", "unsafe_path") for name in unsafe),
        *((f"0.tar/{name}", "unsafe_member") for name in ("odd.jpg", "ok.pyd", "ok.scores.PKL", "ok.pth")),
    ]


def test_webdataset_rejects_samples_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.sources.webdataset.MAX_TEXT_BYTES", 2000)
    image, deep = picture(), b'{"caption": "x", "deep": ' + b"[" * 40 + b"]" * 40 + b"}"
    members: list[Member] = [
        ("mute.jpg", image),
        *[("two.jpg", image), ("two.jpeg", image), ("two.txt", b"x")],
        *[("twice.jpg", image), ("twice.jpg", image), ("twice.txt", b"x")],
        *[("lost.jpg", image), ("between.txt", b"x"), ("lost.txt", b"x"), ("lost.json", b"{}")],
        *[("my.photo.jpg", image), ("my.txt", b"x")],
        *[("big.jpg", image), ("big.txt", b"x" * 2001)],
        *[("latin.jpg", image), ("latin.txt", b"sch\xf6n")],
        *[("cut.jpg", image), ("cut.json", b'{"caption": "x"')],
        *[("list.jpg", image), ("list.json", b'["x"]')],
        *[("number.jpg", image), ("number.json", b'{"caption": 5}')],
        *[("deep.jpg", image), ("deep.json", deep)],
        *[("null.jpg", image), ("null.json", b'{"caption": null}')],
        *sample("good", "x"),
    ]
    records, rejected = read(f"webdataset:{pack(tmp_path / '0.tar', members)}")
    assert [r.name for r in records] == ["0.tar/twice", "0.tar/lost", "0.tar/good"]
    assert sorted(rejected) == sorted(_REJECTED)


_REJECTED = [
    ("0.tar/mute", "no_captions"),
    ("0.tar/two", "ambiguous_image"),
    ("0.tar/twice.jpg", "duplicate_key"),
    ("0.tar/between", "missing_image"),
    ("0.tar/my", "missing_image"),
    ("0.tar/big", "oversized_member"),
    ("0.tar/latin", "malformed_text"),
    ("0.tar/cut", "malformed_text"),
    ("0.tar/list", "malformed_text"),
    ("0.tar/number", "malformed_text"),
    ("0.tar/deep", "malformed_text"),
    ("0.tar/null", "no_captions"),
]


def test_our_own_shards_come_back_with_captions_and_attributes(tmp_path: Path) -> None:
    workspace, manifests = str(tmp_path), str(tmp_path / "m")
    job = CurateJob(
        recipe="clip", source="scenes:12", name="scenes", workspace=workspace, manifests=manifests, workers=1
    )
    run_job(job)
    drawn = {item.name: item for item in ScenesSource("12").records() if isinstance(item, SourceRecord)}
    again, rejected = read(f"webdataset:{tmp_path / 'datasets' / 'scenes' / '1.0.0' / '00000.tar'}")
    assert rejected == []
    assert len(again) == len(drawn)
    by_bytes = {bytes_of(item): item for item in again}
    for scene in drawn.values():
        assert isinstance(scene.image, bytes)
        assert by_bytes[scene.image].captions == scene.captions
        assert by_bytes[scene.image].attributes["scene"] == scene.attributes["scene"]
