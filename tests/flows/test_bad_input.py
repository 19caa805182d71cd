"""What users get wrong: each with its message, exit code 2 (or a named drop), and nothing half-written."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.versions.numbering import dataset_lock
from data_manifests.manifest import Catalog
from flows.cli.main import main


class Shell:
    """Runs the command line in this process, in a workspace of its own."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._monkeypatch, self._capsys = root, monkeypatch, capsys
        self.catalog = Catalog(root / "m", root / "w")

    def __call__(self, *words: str) -> tuple[int, str, str]:
        places = ["--workspace", str(self.root / "w"), "--manifests", str(self.root / "m")]
        self._monkeypatch.setattr(sys, "argv", ["clipcurate", *places, *words])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        printed = self._capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    def said(self, *words: str) -> tuple[int, str]:
        """Run the command line; return its exit code and all that it printed, errors last."""
        code, out, err = self(*words)
        return code, out + err

    def curate(self, source: str, *more: str) -> tuple[int, str, str]:
        return self("curate", "clip", "--source", source, "--name", "toy", "--no-prefect", "--workers", "1", *more)

    def dropped(self) -> set[tuple[str, str]]:
        """Return (name, reason) of the newest version's quarantine."""
        table = pq.read_table(self.catalog.open("toy").folder / "dropped.parquet")
        return set(zip(table["name"].to_pylist(), table["reason"].to_pylist(), strict=True))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(tmp_path, monkeypatch, capsys)


def picture(shade: int, kind: str = "JPEG", side_px: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((side_px, side_px), 10 + shade).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """Return a PNG whose header claims 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def folder(root: Path, images: dict[str, bytes], captions: dict[str, list[str]]) -> str:
    root.mkdir(exist_ok=True)
    for name, data in images.items():
        (root / name).write_bytes(data)
    lines = [orjson.dumps({"file_name": name, "captions": texts}) for name, texts in captions.items()]
    (root / "captions.jsonl").write_bytes(b"\n".join(lines))
    return f"folder:{root}"


@pytest.mark.parametrize(
    ("words", "said"),
    [((), "no recipe"), (("clip", "--recipe", "negclip"), "two recipes: clip, and --recipe negclip")],
)
def test_one_recipe(shell: Shell, words: tuple[str, ...], said: str) -> None:
    """The recipe is the first argument, or an option as in `train`."""
    rest = ("--source", "scenes:3@1", "--name", "toy")
    code, _, err = shell("plan", *words, *rest)
    assert code == 2 and said in err and "as the first argument or as --recipe" in err
    assert "plan: clip" in shell("plan", "--recipe", "clip", *rest)[1]


def test_missing_path(shell: Shell) -> None:
    code, _, err = shell.curate("folder:/nowhere/at/all")
    assert code == 2
    assert "/nowhere/at/all" in err
    assert not (shell.root / "m").exists()


def test_unknown_source_kind_suggests_the_nearest(shell: Shell) -> None:
    code, _, err = shell.curate("flikr:/data")
    assert code == 2
    assert "did you mean 'flickr'?" in err


def test_unknown_recipe_suggests_the_nearest(shell: Shell) -> None:
    code, _, err = shell("curate", "negclipp", "--source", "scenes:5", "--name", "toy", "--no-prefect")
    assert code == 2
    assert "did you mean 'negclip'?" in err


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("train.learning_rate=1", "no field 'learning_rate'"),
        ("stages.swap_word.seed=1", "did you mean 'swap_words'?"),
        ("stages.swap_words.seed=x", "is not of type int"),
        ("stages.swap_words", "stages"),
        ("train.lr", "has no '='"),
        ("planner=x", "planner.num_neighbours"),
    ],
)
def test_set_of_an_unknown_field_or_wrong_type(shell: Shell, setting: str, expected: str) -> None:
    words = ("curate", "negclip", "--source", "scenes:5", "--name", "toy", "--model", "tiny", "--no-prefect")
    code, _, err = shell(*words, "--set", setting)
    assert code == 2
    assert expected in err


def test_broken_samples_are_quarantined_by_name(shell: Shell, tmp_path: Path) -> None:
    images = {f"{n}.jpg": picture(n) for n in range(4)}
    images |= {"cut.jpg": picture(9)[:-400], "bomb.png": bomb(), "alone.jpg": picture(8), "blank.jpg": picture(7)}
    texts = {name: [f"caption of {name}"] for name in images if name != "alone.jpg"}
    source = folder(tmp_path / "data", images, texts | {"blank.jpg": [" "], "0.jpg": ["good", "  "]})
    code, out, _ = shell.curate(source)
    assert code == 0
    assert shell.dropped() == {
        ("cut.jpg", "truncated_image"),
        ("bomb.png", "too_many_pixels"),
        ("alone.jpg", "no_captions"),
        ("blank.jpg", "empty_caption"),
        ("blank.jpg", "no_captions"),
        ("0.jpg", "empty_caption"),
    }
    for reason in ("truncated_image", "too_many_pixels", "no_captions", "empty_caption"):
        assert reason in out
    assert shell.catalog.open("toy").manifest.num_samples == 4


def test_a_source_without_one_good_sample_is_refused(shell: Shell, tmp_path: Path) -> None:
    source = folder(tmp_path / "data", {"a.jpg": picture(1)}, {"a.jpg": [""]})
    code, _, err = shell.curate(source)
    assert code == 2
    assert "no usable sample" in err
    assert "a.jpg" in err


def test_hostile_tar(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (
            ("a.jpg", picture(1)),
            ("a.txt", b"first"),
            ("../../evil.jpg", picture(2)),
            ("../../evil.txt", b"escape"),
            ("b.jpg", picture(3)),
            ("b.txt", b"second"),
            ("a.jpg", picture(4)),
            ("a.txt", b"again"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    code, _, _ = shell.curate(f"webdataset:{path}")
    assert code == 0
    reasons = {reason for _, reason in shell.dropped()}
    assert reasons == {"unsafe_path"}
    assert shell.catalog.open("toy").manifest.num_samples == 3  # two images of one key
    assert not (tmp_path.parent / "evil.jpg").exists()


def test_second_run_on_the_same_name(shell: Shell) -> None:
    with dataset_lock(shell.catalog, "toy"):
        code, _, err = shell.curate("scenes:5")
    assert code == 2
    assert f"process {os.getpid()}" in err
    assert shell.curate("scenes:5")[0] == 0


@pytest.mark.parametrize(
    "command", [("verify", "toy@1"), ("show", "toy@1"), ("diff", "toy@1", "toy@1"), ("versions", "toy")]
)
def test_manifest_edited_by_hand(shell: Shell, command: tuple[str, ...]) -> None:
    shell.curate("scenes:5")
    path = shell.catalog.manifest_path("toy", "1.0.0")
    path.write_bytes(path.read_bytes().replace(b'"samples": 5', b'"samples": 6'))
    code, _, err = shell(*command)
    assert code == 2
    assert "edited by hand" in err


def test_verify_finds_one_changed_byte(shell: Shell) -> None:
    shell.curate("scenes:5")
    assert shell("verify", "toy@1")[0] == 0
    path = shell.catalog.folder("toy", "1.0.0") / "00000.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(bytes(data))
    code, out, _ = shell("verify", "toy@1")
    assert code == 1
    assert "00000.tar" in out


@pytest.mark.parametrize("ref", ["toy@9", "tou", "toy@x"])
def test_unknown_version(shell: Shell, ref: str) -> None:
    shell.curate("scenes:5")
    assert shell("show", ref)[0] == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 3 MiB, or skip where one may not be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here: " + mounted.stderr.decode().strip())
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_disk_full(shell: Shell, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{n}.png" for n in range(120)]
    images = {name: picture(number, "PNG", side_px=160) for number, name in enumerate(names)}
    source = folder(shell.root / "data", images, {name: ["x y"] for name in names})
    shell.root, shell.catalog = small_disk, Catalog(small_disk / "m", small_disk / "w")
    code, _, err = shell.curate(source, "--shard-mb", "1")
    assert code == 2
    assert "MiB free" in err or "disk full" in err
    monkeypatch.setattr(
        "curation.versions.write_shards.require_free_space", lambda *_: None
    )  # as if another process filled it meanwhile
    (small_disk / "filler").write_bytes(bytes(2_500_000))
    code, _, err = shell.curate(source, "--shard-mb", "1")
    assert code == 2
    assert "disk full" in err
    assert not list((small_disk / "m").rglob("*.json"))
    assert not list((small_disk / "w" / "datasets").rglob("*.tar"))
    (small_disk / "filler").unlink()
    assert shell.curate(source, "--limit", "20")[0] == 0


def test_only_what_will_be_written_needs_space(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with no room for all images is said, and refused only where the shards to be written do not fit."""
    names = [f"{n:02d}.png" for n in range(40)]
    captions = {name: ["x y"] for name in names}
    images = {name: picture(number, "PNG", side_px=160) for number, name in enumerate(names)}
    source, usage = folder(shell.root / "data", images, captions), shutil.disk_usage(shell.root)

    def leave(num_bytes: int) -> None:
        monkeypatch.setattr("data_manifests.disk_space.shutil.disk_usage", lambda _: usage._replace(free=num_bytes))

    all_bytes = sum(map(len, images.values()))
    leave(all_bytes - 1)
    code, _, err = shell.curate(source, "--shard-mb", "1")
    assert code == 2 and "the version fits only if most of its shards" in err and "MiB needed" in err
    leave(2 * all_bytes)
    code, _, err = shell.curate(source, "--shard-mb", "1")
    assert code == 0 and "the version fits only if" not in err
    num_shards = len(shell.catalog.open("toy").manifest.body["shards"])
    assert num_shards > 2
    folder(shell.root / "data", images, {**captions, names[7]: ["another word"]})
    leave(2 * all_bytes // num_shards)
    code, _, err = shell.curate(source, "--shard-mb", "1")
    assert code == 0 and "the version fits only if most of its shards" in err
    assert len(shell.catalog.versions("toy")) == 2


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_captions_that_the_model_cuts_are_counted_and_said(shell: Shell) -> None:
    source = shell.root / "long"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.jpg").write_bytes(picture(number))
    rows = [{"file_name": f"{n}.jpg", "captions": ["a dog " * 14 + "and " * (n + 1)]} for n in range(4)]
    (source / "captions.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    stages = ("--set", "stages.find_neighbours=null", "--set", "stages.swap_words=null")
    curate = "curate", "negclip", "--source", f"folder:{source}", "--name", "toy", "--model", "tiny", "--no-prefect"
    code, out, err = shell(*curate, "--workers", "1", *stages)
    assert code == 0 and "embed_samples: 2 captions cut to context" in out, out + err
    assert "warning: 2 of 4 captions (50.0%) have more tokens than tiny (random weights, seed 0) reads" in err
    code, out, err = shell("evaluate", "tiny", "--on", f"retrieval:folder:{source}")
    assert code == 0 and "2 of 4 texts have more than the 32 tokens that the model reads" in err
    assert re.search(r"num_texts_cut\W+2\b", out), out


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_a_version_without_a_negative_is_said_and_not_trained_on_with_negatives(shell: Shell) -> None:
    source = shell.root / "words"
    source.mkdir()
    rows = [{"file_name": f"{number}.jpg", "captions": ["hello " * (number + 1)]} for number in range(8)]
    for row in rows:
        (source / row["file_name"]).write_bytes(picture(int(row["file_name"][0])))
    (source / "captions.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    curate = "curate", "negclip", "--source", f"folder:{source}", "--name", "toy", "--model", "tiny", "--no-prefect"
    for _ in range(2):  # the second time nothing has changed
        code, _, err = shell(*curate, "--workers", "1")
        assert code == 0 and "warning: no caption got a negative" in err
    train = "train", "toy@1", "--model", "tiny", "--steps", "1", "--set", "train.batch_size=4"
    code, _, err = shell(*train, "--recipe", "negclip", "--out", str(shell.root / "run"))
    assert code == 2 and "recipe negclip trains with negatives, and no caption of the training split has one" in err
    assert "such as clip" in err and not (shell.root / "run").exists()
    code, _, err = shell(*curate[:1], "clip", *curate[2:], "--workers", "1")
    assert code == 0 and "warning" not in err, "a recipe without negatives owes none"


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (("--limit", "6"), ("--limit", "4"), "was made with --limit 6, now it is --limit 4"),
        ((), ("--limit", "4"), "was made with no --limit, now it is --limit 4"),
        (("--split", "train"), (), "was made with --split train, now it is no --split"),
        (
            ("--limit", "3", "--split", "train"),
            (),
            "with --limit 3 and --split train, now it is no --limit and no --split",
        ),
    ],
)
def test_another_limit_or_split_of_a_name_is_refused(
    shell: Shell, first: tuple[str, ...], then: tuple[str, ...], said: str
) -> None:
    job = ("clip", "--source", "scenes:12@1", "--name", "toy", "--workers", "1")
    assert shell("curate", *job, *first)[0] == 0
    assert shell("curate", *job, *first)[0] == 0
    code, _, err = shell("curate", *job, *then)
    assert code == 2 and said in err and "--yes" in err
    assert shell.catalog.versions("toy") == ["1.0.0"]
    code, _, err = shell("plan", *job, *then)
    assert code == 0 and said in err
    assert shell("curate", *job, *then, "--yes")[0] == 0
    assert shell("curate", *job, *then)[0] == 0
    assert len(shell.catalog.versions("toy")) == 2
