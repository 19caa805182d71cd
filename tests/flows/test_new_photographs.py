"""New photographs in a known data set: what `plan` says beforehand is what happens; and what goes out by `export`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.cli.demo import write_photos
from tests.flows.test_commands import Shell

NUM_BEFORE, NUM_NEW = 24, 2
EVERY_PAIR = "every pair compared: 26 samples are fewer than exact_below=50000"

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")


def test_new_ones_cost_what_they_are_and_corpus_stages_say_why_they_do_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path, monkeypatch, capsys)
    photos = tmp_path / "photos"
    write_photos(photos, NUM_BEFORE + NUM_NEW)
    captions = photos / "captions.jsonl"
    lines = captions.read_text(encoding="utf-8").splitlines(keepends=True)
    captions.write_text("".join(lines[:-NUM_NEW]), encoding="utf-8")
    job = ("negclip", "--source", f"folder:{photos}", "--name", "toy", "--model", "tiny", "--workers", "1")
    shell("curate", *job, "--no-prefect")

    captions.write_text("".join(lines), encoding="utf-8")
    planned = {stage["stage"]: stage for stage in shell.json("plan", *job)["stages"]}
    for name in ("check_images", "parse_captions", "swap_words", "embed_samples"):
        assert (planned[name]["compute"], planned[name]["reuse"]) == (NUM_NEW, NUM_BEFORE)
    compared = "compares all samples with each other, so 26 are done again: toy@1.0.0 has 24"
    assert planned["find_neighbours"]["why"] == f"{compared} ({EVERY_PAIR})"
    assert planned["cluster_embeddings"]["why"].startswith(f"{compared} (1 clusters by k-means")
    assert planned["order_difficulty"]["why"] == compared

    done = shell.json("curate", *job, "--no-prefect")
    assert {stage["stage"]: stage["computed"] for stage in done["stages"]} == {
        name: stage["compute"] for name, stage in planned.items()
    }
    out = tmp_path / "out"
    told = shell.json(
        "export", "embeddings", "toy@2" if done["version"].startswith("toy@2") else "toy@1", "--out", str(out)
    )
    assert told["rows"] == NUM_BEFORE + NUM_NEW == len(np.load(out / "img_emb" / "img_emb_0.npy"))
