"""Comparisons: cells are run once and go on after a kill, controls are there, the gate fails, bad input is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.cli.compare import CompareOptions
from flows.comparison.cells import Cell, CellResult, FinishedCell
from flows.comparison.job import CompareJob
from flows.comparison.statistics import ComparisonGate, best_blind_scores, compare_rows, headline_metrics
from flows.comparison.table import markdown_table, terminal_table
from flows.comparison.variants import Variant, read_seeds
from flows.recipe import load_recipe, recipe_names
from flows.terminal.console import out
from tests.flows.test_bad_input import Shell, shell
from training.checkpoint import save_checkpoint
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.train import Trainer

__all__ = ["shell"]
pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")

SMALL: tuple[str, ...] = ("--source", "scenes:24@3", "--model", "tiny", "--on", "scenes:20@1", "--workers", "1")
SMALL += ("--set", "train.batch_size=6", "--set", "train.num_threads=1", "--set", "train.checkpoint_every=1")


def compare(shell: Shell, *words: str) -> tuple[int, str, str]:
    return shell("compare", *words, "--out", str(shell.root / "out"))


def document(shell: Shell) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((shell.root / "out" / "comparison.json").read_bytes())
    return found


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.fixture
def steps_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that every training step adds its number to."""
    real, made = Trainer.make_step, []

    def make_step(self: Trainer, batch: Any) -> dict[str, Any]:
        made.append(batch.step)
        return real(self, batch)

    monkeypatch.setattr(Trainer, "make_step", make_step)
    return made


def test_killed_then_finished_then_reused(shell: Shell, steps_made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("efficient_cl", *SMALL, "--steps", "3", "--seeds", "0", "--variant", "slow=clip:train.lr=1e-6")

    def kill_at_second(run: Path, state: Any) -> None:
        save_checkpoint(run, state)
        if state["step"] == 2 and "slow" in str(run):
            raise Killed

    monkeypatch.setattr("training.checkpoint.save_checkpoint", kill_at_second)
    with pytest.raises(Killed):
        compare(shell, *words)
    assert steps_made == [0, 1, 2, 0, 1, 2, 0, 1]
    monkeypatch.setattr("training.checkpoint.save_checkpoint", save_checkpoint)

    steps_made.clear()
    code, text, err = compare(shell, *words)
    assert code == 0 and steps_made == [2], "the killed cell goes on, the finished ones are left alone"
    assert "1 of 3 cells to run" in err and "[1/1] slow seed 0" in err and "min left" in err
    assert [row["name"] for row in document(shell)["rows"]] == ["pretrained", "clip", "efficient_cl", "slow"]
    assert all(name in text for name in ("pretrained", "clip", "efficient_cl", "slow", "foils")), text

    steps_made.clear()
    before = (shell.root / "out" / "comparison.json").read_bytes()
    code, _, err = compare(shell, *words)
    assert code == 0 and not steps_made and "0 of 3 cells to run" in err
    assert (shell.root / "out" / "comparison.json").read_bytes() == before

    found = document(shell)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["slow"]["manifest"] == rows["clip"]["manifest"], "what only trains otherwise shares a version"
    assert rows["efficient_cl"]["manifest"]["ref"] == "out-efficient_cl@1.0.0"
    assert rows["slow"]["settings"] == ["train.lr=1e-6"]
    numbers = {number["metric"]: number for number in rows["efficient_cl"]["numbers"]}
    assert set(numbers) == {"image_to_text_R@1", "text_to_image_R@1", "foil_accuracy"}
    assert {"value", "low", "high", "to_control", "to_pretrained"} < set(numbers["foil_accuracy"])
    assert "to_control" not in rows["clip"]["numbers"][0]
    assert len(found["cells"]) == 4 and all(cell["results"]["scenes:20@1"]["num_samples"] for cell in found["cells"])
    assert found["seeds"] == [0] and len(found["model"]["hash"]) == 32

    table = (shell.root / "out" / "table.md").read_text()
    assert table.startswith("| row | samples | scenes R@1 image→text |") and "| slow | " in table


def test_a_plan_runs_nothing_and_knows_the_pace(shell: Shell, steps_made: list[int]) -> None:
    words = (*SMALL, "--steps", "2", "--variant", "same=clip:")
    code, text, _ = compare(shell, *words, "--seeds", "0", "--plan")
    assert code == 0 and "to be curated" in text and "3 cells to run, not known yet minutes" in text
    assert not steps_made and not (shell.root / "out").exists()
    assert compare(shell, *words, "--seeds", "0")[0] == 0
    assert steps_made == [0, 1], "rows that are equal but for their names share a cell"
    rows = {row["name"]: row for row in document(shell)["rows"]}
    assert rows["same"]["numbers"][0]["value"] == rows["clip"]["numbers"][0]["value"]
    code, _, err = compare(shell, *words[:-2], "--variant", "other=clip:", "--seeds", "0", "--limit-on", "10")
    assert code == 0 and len(steps_made) == 2 and "1 of 2 cells to run" in err, "only evaluated again, and once"
    assert "[1/1] clip seed 0" in err and "other seed 0" not in err
    assert [row["name"] for row in document(shell)["rows"]] == ["pretrained", "clip", "other"]
    code, text, _ = compare(shell, *words, "--seeds", "0,1", "--plan", "--json")
    found = orjson.loads(text)
    planned = {row["name"]: (row["num_run"], row["num_reused"], row["seconds"] is None) for row in found["rows"]}
    assert planned == {"pretrained": (0, 1, False), "clip": (1, 1, False), "same": (1, 1, False)}
    assert found["seconds"] > 0 and found["rows"][1]["version"] == "out-clip@1.0.0"


def test_a_cell_that_cannot_be_trained_leaves_the_others(shell: Shell, steps_made: list[int]) -> None:
    words = (*SMALL, "--steps", "1", "--seeds", "0", "--variant", "wild=clip:train.max_image_px=10")
    code, _, err = compare(shell, *words)
    assert code == 1 and "[2/2] wild seed 0: " in err
    rows = {row["name"]: row for row in document(shell)["rows"]}
    assert "pixels" in rows["wild"]["faults"]["wild seed 0"] and rows["clip"]["numbers"] and not rows["wild"]["numbers"]
    assert "did not run: " in (shell.root / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("negclipp", *SMALL, "--steps", "1"), "did you mean 'negclip'?"),
        (SMALL, "no recipe"),
        (("clip", "--source", "scenes:9", "--model", "tiny", "--steps", "1"), "--on scenes:500@1"),
        (("clip", *SMALL, "--steps", "1", "--name", "toy"), "--name and --source"),
        (("clip", "--on", "scenes:9", "--model", "tiny", "--steps", "1"), "neither --name nor --source"),
        (("clip", "--name", "toy@7", "--on", "scenes:9", "--model", "tiny", "--steps", "1"), "toy"),
        (("clip", *SMALL), "no --steps"),
        (("clip", *SMALL, "--steps", "1", "--seeds", "0,one"), "--seeds '0,one'"),
        (("clip", *SMALL, "--steps", "1", "--seeds", "1,1"), "is given twice"),
        (("clip", *SMALL, "--steps", "1", "--set", "train.seed=3"), "give --seeds"),
        (("clip", *SMALL, "--steps", "1", "--variant", "clip=clip:train.lr=1"), "another row has this name"),
        (("clip", *SMALL, "--steps", "1", "--variant", "x=clip:lr"), "'lr' has no '='"),
        (("clip", *SMALL, "--steps", "1", "--variant", "x=clip:train.rate=1"), "row 'x': --set train.rate=1"),
        (("clip", *SMALL, "--steps", "1", "--variant", "x=clip:objectives.info_nce=null"), "row 'x': recipe 'clip'"),
        (("clip", *SMALL, "--steps", "1", "--feedback", "nowhere"), "none of these recipes uses it"),
        (("clip", *SMALL, "--steps", "1", "--on", "scens:9"), "did you mean 'scenes'?"),
    ],
)
def test_bad_input_ends_with_2(shell: Shell, words: tuple[str, ...], said: str) -> None:
    code, _, err = compare(shell, *(words if words is not SMALL else (*words, "--steps", "1")))
    assert said in err, err
    assert code == 2
    assert not (shell.root / "out").exists() and not (shell.root / "m").exists()


def test_a_stage_cannot_be_set_on_what_is_curated(shell: Shell) -> None:
    words = ("--name", "toy", "--on", "scenes:9", "--model", "tiny", "--steps", "1")
    code, _, err = compare(shell, "negclip", *words, "--variant", "x=negclip:stages.swap_words.seed=1")
    assert code == 2 and "row 'x' sets a stage, but --name toy" in err


def finished(row: str, seed: int | None, recall: float, zero_shot: float, order: float) -> FinishedCell:
    """Return a cell with so many right of 1,000 images."""
    values = {"retrieval:a": ("image_to_text_R@1", recall), "zero_shot:b": ("top1", zero_shot)}
    values["order:c"] = ("order_accuracy", order)
    results = {}
    for on, (metric, value) in values.items():
        right = (np.arange(1000) < round(1000 * value)).astype(np.float64)
        names = tuple(f"i{place}" for place in range(1000))
        blind = {"blind_ngram": 0.21, "blind_length": 0.25} if on.startswith("order") else {}
        outcome = BenchmarkResult({metric: value, **blind}, {metric: CaseValues(names, names, right)})
        results[on] = CellResult({"seconds": 1}, outcome, Path(on))
    return FinishedCell(Cell(row, seed, {}, Path(), None, ""), results)


def test_the_gate_fails_what_loses_too_much() -> None:
    cells = [
        finished("pretrained", None, 0.50, 0.60, 0.3),
        *(finished("clip", seed, 0.49, 0.599, 0.3) for seed in (0, 1)),
        *(finished("fine", seed, 0.471, 0.585, 0.9) for seed in (0, 1)),
        *(finished("forgets", seed, 0.50, value, 0.95) for seed, value in ((0, 0.57), (1, 0.58))),
        *(finished("misses", seed, 0.46, 0.60, 0.95) for seed in (0, 1)),
    ]
    names = ["pretrained", "clip", "fine", "forgets", "misses"]
    on = ("retrieval:a", "zero_shot:b", "order:c")
    rows = {row.name: row for row in compare_rows(cells, names, on, ComparisonGate())}
    assert {name for name, row in rows.items() if row.failed} == {"forgets", "misses"}
    assert rows["forgets"].lost == [("zero_shot:b", "top1", -2.5)]
    assert rows["misses"].lost == [("retrieval:a", "image_to_text_R@1", -4.0)]
    order = rows["fine"].numbers["order:c", "order_accuracy"]
    assert order.to_control is not None and order.to_control.is_significant and abs(order.to_control.value - 0.6) < 1e-9
    assert order.to_pretrained is not None and len(order.to_control.mcnemar) == 2
    text = markdown_table(list(rows.values()), {"clip": 7000}, best_blind_scores(cells))
    assert "| **forgets** | - |" in text and "**failed**: zero-shot top-1 -2.5" in text and "+60.0▲" in text
    assert text.splitlines()[-3] == "| *best blind judge* | - |  |  | 25.0 (length) |  |"
    with out.capture() as caught:
        out.print(terminal_table("t", list(rows.values()), {}, best_blind_scores(cells)))
    assert "failed" in caught.get()
    assert not any(row.failed for row in compare_rows(cells, names, on, ComparisonGate(3.0, 5.0)))


def test_a_loss_of_just_what_is_allowed_passes() -> None:
    """0.392 - 0.362 is 3.0000000000000027 points to a computer."""
    cells = [finished("pretrained", None, 0.392, 0.6, 0.3), finished("clip", 0, 0.362, 0.6, 0.3)]
    assert 100 * (0.392 - 0.362) > 3
    assert not compare_rows(cells, ["pretrained", "clip"], ("retrieval:a", "zero_shot:b", "order:c"), ComparisonGate())[
        1
    ].failed


def test_cells_of_different_cases_are_refused_by_name() -> None:
    one, other = finished("clip", 0, 0.5, 0.5, 0.5), finished("x", 0, 0.5, 0.5, 0.5)
    kept = other.results["order:c"].result.cases["order_accuracy"]
    changed = CaseValues(("another", *kept.ids[1:]), kept.images, kept.values)
    other.results["order:c"] = CellResult({}, BenchmarkResult({}, {"order_accuracy": changed}), Path())
    with pytest.raises(
        InputError, match="order:c order_accuracy: the cells were evaluated on different data: .*another"
    ):
        compare_rows([one, other], ["clip", "x"], ("order:c",), ComparisonGate())


def test_seeds_pair_only_where_both_rows_have_them() -> None:
    cells = [finished("clip", seed, 0.5, 0.6, 0.3) for seed in (0, 1)] + [finished("x", 0, 0.5, 0.6, 0.4)]
    rows = {row.name: row for row in compare_rows(cells, ["pretrained", "clip", "x"], ("order:c",), ComparisonGate())}
    number = rows["x"].numbers["order:c", "order_accuracy"]
    assert rows["x"].seeds == (0,) and number.to_pretrained is None and not rows["pretrained"].numbers
    assert number.to_control is not None and number.to_control.is_significant


def test_headlines_of_kinds_nobody_has_listed() -> None:
    one = CaseValues(("a",), ("a",), np.ones(1))
    outcome = BenchmarkResult({}, {"x": one, "y": one}, {"blind_length": ("x",), "macro": ("x", "y")})
    assert headline_metrics("new:thing", outcome) == ("macro",)
    assert headline_metrics("new:thing", BenchmarkResult({}, {"x": one, "y": one})) == ("x",)
    assert headline_metrics("order:thing", BenchmarkResult({}, {"order_accuracy": one, "y": one})) == (
        "order_accuracy",
    )


def test_null_takes_parts_out() -> None:
    recipe = load_recipe("fsc_clip", settings=("objectives.local_contrast=null", "stages.grade_negatives=null"))
    assert [objective.name for objective in recipe.objectives] == ["info_nce", "negative_contrast"]
    assert "grade_negatives" not in [stage.name for stage in recipe.stages]
    recipe = load_recipe("ahnm", settings=("gate=null", "views=null"))
    assert recipe.gate is None and recipe.views is None and recipe.negatives is not None


def test_variants_and_seeds_as_text() -> None:
    found = Variant.parse("free=ahnm:gate=null; stages.swap_words.seed=3 ;")
    assert found == Variant("free", "ahnm", ("gate=null", "stages.swap_words.seed=3"))
    assert found.data_settings == ("stages.swap_words.seed=3",)
    assert read_seeds("0, 12,3") == (0, 12, 3)


def smoke_job(catalog: Catalog, **options: Any) -> CompareJob:
    return CompareOptions(**options).with_smoke_defaults().compare_job(catalog, smoke=True)


def test_a_smoke_test_has_every_recipe_that_can_run_in_it(tmp_path: Path) -> None:
    job = smoke_job(Catalog(tmp_path, tmp_path))
    needing = {name for name in recipe_names() if load_recipe(name).needs_llm}
    assert needing == {"triplet_clip"} and {row.recipe for row in job.rows} == {*recipe_names()} - needing
    rows = smoke_job(Catalog(tmp_path, tmp_path), llm="http://127.0.0.1:1/v1#any").rows
    assert {row.recipe for row in rows} == {*recipe_names()}


def test_a_smoke_test_on_scenes_balances_what_scenes_have(tmp_path: Path) -> None:
    job = smoke_job(Catalog(tmp_path, tmp_path), recipes=["m4"])
    assert job.curation.source == "scenes:160@3"
    row = job.rows[1]
    assert row.name == row.recipe == "m4" and row.data_settings == load_recipe("m4").scene_settings
    load_recipe(row.recipe, settings=row.settings)
    own = smoke_job(Catalog(tmp_path, tmp_path), recipes=["m4"], source="folder:photographs")
    assert [row.settings for row in own.rows] == [(), ()]
