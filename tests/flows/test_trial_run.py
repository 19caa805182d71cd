"""What `plan` says before a first run: times, disk and memory from a trial on a few images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from data_manifests.manifest import Catalog
from flows.cli.demo import write_photos
from flows.execution import trial_run
from flows.execution.jobs import CurateJob, prepare, run_job
from flows.execution.trial_run import StageTime, TrialRun, try_stages
from flows.terminal import curation
from tests.flows.test_contrasts import run


def job(folder: Path, recipe: str, count: int, **more: Any) -> CurateJob:
    places = {"workspace": str(folder / "workspace"), "manifests": str(folder / "manifests")}
    return CurateJob(recipe=recipe, source=f"scenes:{count}@5?level=1", name="toy", workers=1, **places, **more)


def tried(work: CurateJob) -> TrialRun:
    prepared = prepare(work)
    return try_stages(prepared.recipe.all_stages(), prepared.snapshot)


def test_times_are_lines_through_two_passes_and_starts_are_once() -> None:
    def passed(count: int, **times: float) -> Any:
        found = object.__new__(trial_run._Pass)
        found.count, found.times = count, times
        return found

    passes = [passed(8, a=5.0 + 0.8 + 0.4, b=0.0), passed(24, a=0.8 + 1.2, b=2.0), passed(104, a=0.8 + 5.2, b=2.1)]
    a, b = (trial_run._time_of(name, passes) for name in ("a", "b"))
    assert a.start_s == pytest.approx(5.8) and a.seconds_per_sample == pytest.approx(0.05), (
        "5 s to load, 0.8 s each run"
    )
    assert b.seconds_per_sample == pytest.approx(0.2 * 2.1 / 104), (
        "hardly more for 80 more: a fifth of the mean at least"
    )
    only = trial_run._time_of("a", passes[:1])
    assert only.start_s == 0.0 and only.seconds_per_sample == pytest.approx(6.2 / 8)
    assert StageTime(1.0, 0.5).seconds(100, 1) == 51.0 > StageTime(1.0, 0.5).seconds(100, 2) > 26.0


def test_a_trial_covers_all_stages_and_says_what_a_version_and_the_store_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_run, "BUDGET_S", 1e9)
    work = job(tmp_path, "ce_clip", 120)
    found = tried(work)
    assert set(found.stages) == {stage.name for stage in prepare(work).recipe.all_stages()}
    assert found.num_samples == 88 and found.peak_bytes > 2**26
    assert not (tmp_path / "workspace" / "store").exists() and not (tmp_path / "manifests").exists()
    version = run_job(work)
    folder = Catalog(tmp_path / "manifests", tmp_path / "workspace").folder("toy", version.manifest.version)
    images = prepare(work).snapshot.num_image_bytes()
    texts = (
        sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and not path.name.startswith("fit"))
        - images
    )
    store = sum(path.stat().st_size for path in (tmp_path / "workspace" / "store").rglob("*") if path.is_file())
    assert texts / 1.5 < 120 * found.text_bytes < texts * 1.5
    assert store / 1.5 < 120 * found.store_bytes < store * 1.5


def test_a_trial_takes_fewer_images_where_stages_are_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_run, "BUDGET_S", 0.0)
    assert tried(job(tmp_path, "clip", 120)).num_samples == trial_run.SECOND
    assert tried(job(tmp_path, "clip", 5)).num_samples == 5


def test_stages_that_ask_a_model_and_those_behind_them_are_not_tried(tmp_path: Path) -> None:
    asked = tried(job(tmp_path, "laclip", 30, llm="http://127.0.0.1:9/v1#nobody"))
    ruled = tried(job(tmp_path, "laclip", 30))
    assert "rewrite_captions" in ruled.stages and "rewrite_captions" not in asked.stages
    assert {"check_images", "parse_captions"} <= set(asked.stages)


def test_plan_tries_before_the_first_run_and_never_after_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 40, level=1)
    given = ["ce_clip", "--source", f"folder:{tmp_path / 'photos'}", "--name", "toy", "--workers", "1"]

    def plan(*more: str) -> dict[str, Any]:
        code, text, message = run(capsys, tmp_path, "plan", *given, "--json", *more)
        assert code == 0, message
        found: dict[str, Any] = orjson.loads(text)
        return found

    first = plan()
    assert first["samples_tried"] == 8 and first["peak_memory_bytes"] > 0
    assert first["seconds"] == pytest.approx(
        sum(stage["seconds"] for stage in first["stages"]) + first["publish_seconds"]
    )
    code, text, _ = run(capsys, tmp_path, "plan", *given)
    assert code == 0 and "trial on 8 images" in text and "MiB a process" in " ".join(text.split())
    large = plan("--samples", "4000000", "--workers", "4")
    assert large["samples"] == 4_000_000 and all(stage["compute"] == 4_000_000 for stage in large["stages"])
    assert large["disk_bytes"] > 50_000 * first["disk_bytes"] and large["seconds"] > 100 * first["seconds"]
    assert run(capsys, tmp_path, "curate", *given, "--no-prefect")[0] == 0
    again = plan()
    assert again["up_to_date"] == "toy@1.0.0" and again["samples_tried"] == 0 and again["seconds"] == 0
    other = plan("--set", "stages.swap_words.seed=1")
    assert other["samples_tried"] == 0 and other["seconds"] > 0, "the earlier run tells"


def test_hours_and_what_is_not_known_are_said() -> None:
    assert curation._duration(99.0) == "99.0 s" and curation._duration(600.0) == "10.0 min"
    assert curation._duration(36_000.0) == "10.0 h" and "asks a model" in curation._duration(None)
