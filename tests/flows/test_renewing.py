"""The commands that lay versions out anew, forget samples and prove them absent: what they print, and how they end."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from curation.versions.layout import difficulty_band
from data_manifests.manifest import Catalog, Manifest
from data_manifests.sample import image_uid
from flows.cli.main import main
from flows.execution.prefect_summary import change_markdown
from tests.data_manifests.built_versions import Picture, build, picture

NUM = 12
SOURCE = "photos-0"


@dataclass(frozen=True)
class Noise(Picture):
    """A picture that has no bytes in common with the others."""

    def draw(self, path: Path) -> str:
        pixels = np.random.default_rng(self.number).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return image_uid(path.read_bytes())


def noise(number: int) -> Picture:
    """Return such a picture; its captions, cluster and difficulty are those of `picture`."""
    return Noise(**vars(picture(number, f"A striped ball , number {number} .", "One ball on a plain ground")))


class Shell:
    """Runs the command line in this process, in a workspace of its own."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._monkeypatch, self._capsys = root, monkeypatch, capsys
        self.workspace = root / "w"
        self.workspace.mkdir()
        self.catalog = Catalog(self.workspace / "manifests", self.workspace)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        places = ["--workspace", str(self.workspace), "--manifests", str(self.catalog.manifests)]
        self._monkeypatch.setattr(sys, "argv", ["clipcurate", *places, *words])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        printed = self._capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    def json(self, *words: str, code: int = 0) -> Any:
        ended, out, err = self(*words, "--json")
        assert ended == code, err
        return json.loads(out)

    def record(self, ref: str) -> Any:
        """Return the run record beside a version's manifest."""
        name, version = ref.split("@")
        return orjson.loads((self.catalog.manifests / name / f"{version}.run.json").read_bytes())


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    made = Shell(tmp_path, monkeypatch, capsys)
    build(made.workspace, "toy", [noise(number) for number in range(NUM)])
    # a source outside of the workspace still has the pictures: what is forgotten here is not gone from there
    (made.workspace / SOURCE).rename(tmp_path / SOURCE)
    return made


def test_reshard_says_what_it_made_and_leaves_a_record(shell: Shell) -> None:
    made = shell.json("reshard", "toy@1", "--shard-mb", "1", "--order", "cluster", "--bands", "3")
    assert (made["version"], made["created"], made["counts"]["samples"]) == ("toy@1.0.1", True, NUM)
    record = shell.record("toy@1.0.1")
    assert record["command"] == "reshard" and record["job"]["bands"] == 3 and record["job"]["ref"] == "toy@1"
    assert record["seconds"]["reshard"] == made["seconds"] > 0
    rows = shell.catalog.open("toy").index().to_pylist()
    placed = [(row["cluster_id"], difficulty_band(row["difficulty"], 3), row["uid"]) for row in rows]
    assert placed == sorted(placed)
    assert shell.json("show", "toy@1.0.1")["version"] == "1.0.1"
    code, out, _ = shell("reshard", "toy@1.0.1", "--shard-mb", "1", "--where", "cluster_id<1", "--out-name", "part")
    assert code == 0 and "part@1.0.0 made (4 of 12 samples of toy@1.0.1)" in out
    again = shell("reshard", "toy@1.0.1", "--shard-mb", "1", "--where", "cluster_id<1", "--out-name", "part")
    assert again[0] == 0 and "unchanged (nothing to do" in again[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reshard", "toy@7"), "toy@1.0.0"),
        (("reshard", "toy", "--order", "clutser"), "did you mean 'cluster'?"),
        (("reshard", "toy", "--bands", "3"), "give --order cluster"),
        (("reshard", "toy", "--where", "dificulty<1"), "did you mean 'difficulty'?"),
        (("reshard", "toy", "--keep", "none.txt"), "none.txt: no such file"),
        (("forget", "toy"), "no uid given"),
        (("forget", "toy", "zz"), "no sample has the uid 'zz'"),
        (("verify", "toy", "--absent", "12ab"), "all 32 hex digits"),
        (("verify", "nothing", "--absent", "ab" * 16), "nothing"),
        (("curate", "clip", "--source", "scenes:3", "--name", "x", "--bands", "3"), "computes no difficulty"),
    ],
)
def test_what_cannot_be_done_is_said(shell: Shell, words: tuple[str, ...], said: str) -> None:
    code, _, err = shell(*words)
    assert code == 2 and said in err, err


def test_forget_then_absent_then_damaged(shell: Shell) -> None:
    uid = shell.catalog.open("toy").index(["uid"])["uid"][3].as_py()
    shell.json("reshard", "toy", "--shard-mb", "1", "--out-name", "copy")
    there = shell.json("verify", "toy", "--absent", uid, code=1)
    assert there["holds"] and not there["absent"] and any(".tar" in place for place in there["places"])
    planned = shell.json("forget", "toy", uid[:9], "--dry-run")
    assert planned["renewed"] == {"copy": [["1.0.0", "2.0.0"]], "toy": [["1.0.0", "2.0.0"]]}
    assert shell.catalog.versions("toy") == ["1.0.0"]

    code, out, err = shell("forget", "toy", uid[:9])
    assert code == 0 and "toy@1.0.0 removed, renewed as toy@2.0.0" in out, err
    for ref in ("toy@2.0.0", "copy@2.0.0"):
        record = shell.record(ref)
        assert (record["command"], record["job"]) == ("forget", {"forgotten": 1})
    assert not list(shell.catalog.manifests.glob("*/1.0.0*"))

    source = f"folder:{shell.root / SOURCE}"
    code, out, err = shell("verify", "toy", "--absent", uid, "--source", source)
    assert code == 0 and "absent: nothing of 1 sample(s) was found" in out and "toy@2.0.0 is intact" in out, out + err
    code, _, err = shell("verify", "toy", "--absent", "ab" * 16, "--source", source)
    assert code == 2 and "no image with the uid" in err

    shard = shell.catalog.open("toy").folder / "00000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(bytes(data))
    found = shell.json("verify", "toy", "--absent", uid, code=1)
    assert found["absent"] and not found["holds"] and found["wrong"][0].startswith("00000.tar: sha256")
    code, out, _ = shell("verify", "toy", "--absent", uid)
    assert code == 1 and "toy@2.0.0 is damaged" in out


def test_forgotten_samples_do_not_come_back(shell: Shell) -> None:
    uid = shell.catalog.open("toy").index(["uid"])["uid"][0].as_py()
    assert shell("forget", "toy", uid)[0] == 0
    job = (
        "curate",
        "clip",
        "--source",
        f"folder:{shell.root / SOURCE}",
        "--name",
        "toy",
        "--no-prefect",
        "--workers",
        "1",
    )
    made = shell.json(*job)
    assert made["counts"]["dropped"]["intake"] == {"forgotten": 1} and made["counts"]["samples"] == NUM - 1
    # a record that no stage ran for is no rate of a stage, and no reason to fail
    assert shell.json("plan", *job[1:6])["up_to_date"] == made["version"]


def test_changes_of_a_version_cut_from_another_data_set(shell: Shell) -> None:
    shell.json("reshard", "toy", "--where", "cluster_id<1", "--out-name", "part")
    path = shell.catalog.manifest_path("part", "1.0.0")
    told = change_markdown(shell.catalog, Manifest.load(path))
    assert (
        "Against toy@1.0.0" in told and "8 sample(s) removed" in told and "clipcurate diff toy@1.0.0 part@1.0.0" in told
    )
    shell.catalog.manifest_path("toy", "1.0.0").unlink()
    assert "4 samples" in change_markdown(shell.catalog, Manifest.load(path))


@pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")
def test_curate_lays_bands_of_difficulty_inside_clusters(shell: Shell) -> None:
    job: tuple[str, ...] = (
        "curate",
        "negclip",
        "--source",
        "scenes:30",
        "--name",
        "drawn",
        "--model",
        "tiny",
        "--no-prefect",
    )
    job += ("--workers", "1", "--set", "stages.cluster_embeddings.samples_per_cluster=10")
    plain = shell.json(*job)
    rows = shell.catalog.open("drawn").index().to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["cluster_id"], row["uid"]))
    banded = shell.json(*job, "--bands", "3")
    assert banded["version"] == "drawn@1.0.1" and "repacked" in banded["why"]
    new = shell.catalog.open("drawn").index().to_pylist()
    assert new == sorted(new, key=lambda row: (row["cluster_id"], difficulty_band(row["difficulty"], 3), row["uid"]))
    assert [row["uid"] for row in new] != [row["uid"] for row in rows]
    assert shell.json("plan", *job[1:6], *job[9:], "--model", "tiny", "--bands", "3")["up_to_date"] == "drawn@1.0.1"
    same = shell.json("reshard", "drawn@1.0.0", "--order", "cluster", "--bands", "3", "--out-name", "other")
    assert same["counts"] == banded["counts"] and plain["fingerprint"] != banded["fingerprint"]
    tar = "00000.tar"
    assert (shell.catalog.open("other").folder / tar).read_bytes() == (
        shell.catalog.open("drawn").folder / tar
    ).read_bytes()
