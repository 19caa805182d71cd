"""DataComp's subset files, read the way its tools write them; selection end to end on drawn scenes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_manifests.manifest import Catalog
from flows.cli.datacomp_uids import uid_array
from flows.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")


@given(st.lists(st.integers(0, 2**128 - 1), unique=True))
def test_uids_are_sorted_pairs_of_halves(numbers: list[int]) -> None:
    uids = [f"{number:032x}" for number in numbers]
    got = uid_array(uids)
    theirs = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], np.dtype("u8,u8"))
    theirs.sort()
    assert got.dtype == theirs.dtype
    assert got.tobytes() == theirs.tobytes()
    assert [f"{int(upper):016x}{int(lower):016x}" for upper, lower in got] == sorted(uids)


def test_select_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> int:
        places = ["--workspace", str(tmp_path / "w"), "--manifests", str(tmp_path / "m")]
        monkeypatch.setattr(sys, "argv", ["clipcurate", *places, *words])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0)

    job = ("--source", "scenes:50", "--model", "tiny", "--workers", "1", "--no-prefect")
    assert run("curate", "s_clip_loss", *job, "--name", "picked") == 0
    control = "stages.keep_top.at_random=true"
    assert run("curate", "s_clip_loss", *job, "--name", "drawn", "--set", control) == 0
    catalog = Catalog(tmp_path / "m", tmp_path / "w")
    picked, drawn = catalog.open("picked"), catalog.open("drawn")
    assert picked.manifest.num_samples == drawn.manifest.num_samples == 10
    assert picked.manifest.body["counts"]["dropped"]["keep_top"] == {"low_norm_sim": 5, "low_s_clip_loss": 35}
    index = picked.index(["uid", "clip_score", "s_clip_loss", "norm_sim"]).to_pydict()
    assert min(index["norm_sim"]) > 0

    target = f"stages.score_target.target=version:{drawn.folder}"
    assert run("curate", "s_clip_loss", *job, "--name", "near", "--set", target) == 0
    near = catalog.open("near").index(["norm_sim"]).column(0).to_pylist()
    assert max(near) <= 1.0

    capsys.readouterr()
    assert run("export", "uids", "picked@1", "--out", str(tmp_path / "picked.npy"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["uids"] == 10
    uids = np.load(tmp_path / "picked.npy", allow_pickle=False)
    assert [f"{int(upper):016x}{int(lower):016x}" for upper, lower in uids] == sorted(index["uid"])
    assert run("export", "uids", "picked@1", "--out", str(tmp_path / "picked.txt")) == 2
    assert "ends in .npy" in capsys.readouterr().err


def test_fff_leaves_its_thresholds_in_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.false_negative_gate import thresholds_of

    words = (
        "curate",
        "fff",
        "--source",
        "scenes:40",
        "--model",
        "tiny",
        "--workers",
        "1",
        "--no-prefect",
        "--name",
        "f",
    )
    places = ("--workspace", str(tmp_path / "w"), "--manifests", str(tmp_path / "m"))
    monkeypatch.setattr(sys, "argv", ["clipcurate", *places, *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    sure, doubtful = thresholds_of(Catalog(tmp_path / "m", tmp_path / "w").open("f").manifest.body["statistics"])
    assert sure.t2i >= doubtful.t2i
    assert sure.t2t >= doubtful.t2t
