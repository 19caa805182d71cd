"""New photographs in a known data set: what `plan` says beforehand is what happens; and what goes out by `export`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.cli.demo import write_photos
from tests.flows.test_commands import Shell

NUM_BEFORE, NUM_NEW, NUM_MANY = 24, 2, 8
EVERY_PAIR = "first run (every pair compared: 24 samples are fewer than exact_below=50000)"
FITTED = ("cluster_embeddings", "order_difficulty")

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")


def test_new_photographs_cost_what_they_are_and_the_plan_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path, monkeypatch, capsys)
    photos = tmp_path / "photos"
    write_photos(photos, NUM_BEFORE + NUM_NEW + NUM_MANY)
    captions = photos / "captions.jsonl"
    lines = captions.read_text(encoding="utf-8").splitlines(keepends=True)
    job = ("negclip", "--source", f"folder:{photos}", "--name", "toy", "--model", "tiny", "--workers", "1")

    def plan(num: int, *more: str) -> dict[str, dict[str, object]]:
        captions.write_text("".join(lines[:num]), encoding="utf-8")
        return {stage["stage"]: stage for stage in shell.json("plan", *job, *more)["stages"]}

    def curate(*more: str) -> dict[str, int]:
        return {
            stage["stage"]: stage["computed"] for stage in shell.json("curate", *job, "--no-prefect", *more)["stages"]
        }

    first = plan(NUM_BEFORE)
    assert first["find_neighbours"]["why"] == EVERY_PAIR
    assert {stage["compute"] for stage in first.values()} == {NUM_BEFORE} == set(curate().values())

    few = plan(NUM_BEFORE + NUM_NEW)
    assert {(stage["compute"], stage["reuse"]) for stage in few.values()} == {(NUM_NEW, NUM_BEFORE)}
    assert few["find_neighbours"]["why"] == "2 sample(s) are new, edited or gone; only lists that have them change"
    for name in FITTED:
        assert str(few[name]["why"]).startswith(
            "keeps the fit: 7.7 % of the samples are new to the fit of toy@1.0.0; 2 "
        )
    assert curate() == {name: stage["compute"] for name, stage in few.items()}

    many = plan(NUM_BEFORE + NUM_NEW + NUM_MANY)
    # difficulty is computed inside clusters: until these are fitted, only the eight photographs are known to be new to it
    for name, share in zip(FITTED, ("29.4", "23.5"), strict=True):
        assert str(many[name]["why"]).startswith(
            f"fits anew, a MINOR version: {share} % of the samples are new to the fit of toy@1.0.0, more than 10 %; all"
        )
        assert many[name]["compute"] == 34
    kept = plan(NUM_BEFORE + NUM_NEW + NUM_MANY, "--fits", "toy@1.0.0")
    assert {kept[name]["compute"] for name in FITTED} == {NUM_MANY}
    assert str(kept["order_difficulty"]["why"]).startswith("applies the fit of toy@1.0.0; ")
    done = curate()
    assert done == {name: stage["compute"] for name, stage in many.items()}


def test_embeddings_go_out_with_a_row_for_each_photograph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path, monkeypatch, capsys)
    shell(
        "curate",
        "negclip",
        "--source",
        "scenes:9",
        "--name",
        "toy",
        "--model",
        "tiny",
        "--workers",
        "1",
        "--no-prefect",
    )
    out = tmp_path / "out"
    exported = shell.json("export", "embeddings", "toy@1", "--out", str(out))
    assert exported["rows"] == 9 == len(np.load(out / "img_emb" / "img_emb_0.npy"))
