"""The commands a user strings together, on a folder of generated photographs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from flows.cli.demo import edit_one_caption, write_photos
from flows.cli.main import main

NUM_SCENES = 40

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")

MAKERS = {
    "swap_words",
    "replace_words",
    "bind_attributes",
    "swap_roles",
    "invert_relations",
    "change_numbers",
    "mine_contrasts",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "photos"
    write_photos(folder, NUM_SCENES)
    return folder


class Shell:
    def __init__(self, root: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self.places = ["--workspace", str(root / "w"), "--manifests", str(root / "m")]
        self._capsys = capsys

    def __call__(self, *words: str) -> str:
        """Run a command that must succeed; return what it printed."""
        self._capsys.readouterr()
        self._patch.setattr(sys, "argv", ["clipcurate", *self.places, *words])
        with pytest.raises(SystemExit) as left:
            main()
        printed = self._capsys.readouterr()
        assert not left.value.code, printed.err
        return printed.out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_curate_edit_curate_diff(shell: Shell, photos: Path, tmp_path: Path) -> None:
    job = ("ahnm", "--source", f"folder:{photos}", "--name", "toy", "--model", "tiny", "--workers", "1")
    planned = shell.json("plan", *job)
    assert planned["up_to_date"] is None
    assert {stage["compute"] for stage in planned["stages"]} == {NUM_SCENES}
    first = shell.json("curate", *job, "--no-prefect")
    assert first["version"] == "toy@1.0.0"
    assert {stage["computed"] for stage in first["stages"]} == {NUM_SCENES}

    again = shell.json("curate", *job, "--no-prefect")
    assert (again["created"], again["stages"]) == (False, [])
    assert shell.json("plan", *job)["up_to_date"] == "toy@1.0.0"

    table = photos / "captions.jsonl"
    kept = table.read_bytes()
    edit_one_caption(table)
    try:
        planned = shell.json("plan", *job)
        assert [stage["compute"] for stage in planned["stages"][:7]] == [0, 0, 1, 1, 1, 1, 1]
        assert "edited" in planned["stages"][2]["why"]
        second = shell.json("curate", *job, "--no-prefect")
    finally:
        table.write_bytes(kept)
    computed = {stage["stage"]: stage["computed"] for stage in second["stages"]}
    assert second["version"] == "toy@2.0.0"
    per_sample = (
        "check_images",
        "hash_images",
        "parse_captions",
        "link_concepts",
        "expand_knowledge",
        "rewrite_captions",
        "swap_words",
    )
    assert [computed[name] for name in per_sample] == [0, 0, 1, 1, 1, 1, 1]
    assert computed["cluster_embeddings"] == 0  # its inputs, the images, are the same

    found = shell.json("diff", "toy@1", "toy@2")
    assert (found["num_added"], found["num_removed"]) == (0, 0)
    # others whose neighbours by caption, or whose share in the balance of negatives, have changed are told too
    (uid,) = [item["uid"] for item in found["edited"] if item["captions"]]
    many = {name for name in found["edited_fields"] if found["edited_fields"][name] > 1}
    assert many <= {"text_neighbours", "negatives"}
    shown = shell("diff", "toy@1", "toy@2", "--html", str(tmp_path / "diff.html"))
    assert uid in shown
    assert "shiny" in shown
    assert uid in (tmp_path / "diff.html").read_text()
    lineage = shell.json("show", "toy@2", uid[:10])
    assert "shiny" in lineage["captions"][0]["text"]
    assert {item["made_by"]["name"] for item in lineage["negatives"]} <= MAKERS
    assert {item["made_by"]["name"] for item in lineage["views"]} <= {
        "expand_knowledge",
        "rewrite_captions",
        "change_numbers",
    }
    assert lineage["fields"]["cluster_id"]["made_by"]["name"] == "cluster_embeddings"


def test_train_evaluate_and_resume(shell: Shell, tmp_path: Path) -> None:
    shell("curate", "clip", "--source", "scenes:60", "--name", "toy", "--no-prefect", "--workers", "1")
    run = tmp_path / "run"
    words = ("train", "toy@1", "--recipe", "clip", "--model", "tiny", "--out", str(run), "--steps", "3")
    settings = ("--set", "train.batch_size=16", "--set", "train.num_threads=1")
    made = shell.json(*words, *settings)
    assert made["steps"] == 3
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert shell.json(*words, *settings, "--resume") == made
    results = tmp_path / "results.json"
    printed = shell("evaluate", str(run), "--on", "scenes:20@5", "--on", "order:scenes:20@5", "--json", str(results))
    assert "image_to_text_R@1" in printed
    kept = orjson.loads(results.read_bytes())
    assert [item["on"] for item in kept["results"]] == ["scenes:20@5", "order:scenes:20@5"]
    assert kept["results"][0]["num_samples"] == 20


def test_recipes_versions_and_show_print_only_json(shell: Shell) -> None:
    assert {"clip", "negclip", "ahnm"} <= {recipe["name"] for recipe in shell.json("recipes")}
    shell("curate", "clip", "--source", "scenes:12", "--name", "toy", "--no-prefect", "--workers", "1")
    assert [item["version"] for item in shell.json("versions", "toy")] == ["1.0.0"]
    assert shell.json("show", "toy")["counts"]["samples"] == 12
    assert shell.json("verify", "toy@1.0")["holds"] is True


def test_doctor_finds_this_machine_fit(shell: Shell) -> None:
    checks = {item["check"]: item for item in shell.json("doctor")}
    assert checks["spaCy parser"]["holds"]
    assert checks["torch and open_clip"]["holds"]
