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
from flows.comparison.cells import Benchmarks, BenchmarkSplit, Cell, CellResult, FinishedCell
from flows.comparison.job import CompareJob
from flows.comparison.metrics import headline_metrics
from flows.comparison.rows import Comparison, ComparisonGate
from flows.comparison.shares import SHARES, ImageSides
from flows.comparison.statistics import compare_rows
from flows.comparison.table import describe_dominance, markdown_table, terminal_table
from flows.comparison.variants import Variant, read_seeds
from flows.evaluation import run as evaluation
from flows.recipe import load_recipe
from flows.recipe_finding import own_recipe_names
from flows.terminal.console import out
from tests.flows.test_bad_input import Shell, shell
from training.checkpoint import save_checkpoint
from training.evaluate import encoding_cache
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.train import Trainer

__all__ = ["shell"]
pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")

SMALL: tuple[str, ...] = ("--source", "scenes:24@3", "--model", "tiny", "--on", "scenes:20@1", "--workers", "1")
SMALL += ("--set", "train.batch_size=6", "--set", "train.num_threads=1", "--set", "train.checkpoint_every=1")


ONLY_ORDER = ("clip", "--source", "scenes:24@3", "--model", "tiny", "--on", "order:scenes:20@1")


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
    assert table.startswith("| row | share | samples | scenes R@1 image→text |") and "| slow | " in table
    assert "loses at most 1 point(s)" in table and found["rule"]["choose_on"] == [{"on": "scenes:20@1", "split": None}]


def test_a_killed_evaluation_goes_on_and_frozen_images_are_encoded_once(
    shell: Shell, steps_made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made, looked = evaluation._evaluated, list[int](), list[str]()

    def count_images(images: Any) -> Any:
        looked.extend(image.key for image in images)
        return read(images)

    def evaluate(*given: Any) -> Any:
        made.append(1)
        if len(made) == 14:
            raise Killed
        return real(*given)

    read = encoding_cache._read
    monkeypatch.setattr(encoding_cache, "_read", count_images)
    monkeypatch.setattr(evaluation, "_evaluated", evaluate)
    words = ("negclip", *SMALL, "--steps", "2", "--seeds", "0", "--set", "train.lora_targets=text")
    words += ("--set", "train.lr=0.05", "--set", "train.warmup_steps=0")
    with pytest.raises(Killed):
        compare(shell, *words)
    assert len(looked) == len(set(looked)) >= 20, (
        "the image tower is frozen: the other shares and rows find its activations"
    )
    assert compare(shell, *words, "--plan", "--json")[0] == 0
    code, _, err = compare(shell, *words)
    assert code == 0 and len(made) == 14 + 8 and "1 of 2 cells to run, 8 evaluations" in err
    assert steps_made == [0, 1, 0, 1], "13 evaluations were finished, and no training is repeated"
    found = document(shell)
    row = found["rows"][2]
    assert [point["share"] for point in row["curve"]] == list(SHARES) and row["share"] in SHARES
    reported = next(point for point in row["curve"] if point["share"] == row["share"])
    assert [item["value"] for item in reported["numbers"]] == [item["value"] for item in row["numbers"]]
    base = [item["value"] for item in found["rows"][0]["numbers"]]
    assert [item["value"] for item in row["curve"][0]["numbers"]] == base
    assert len({str(point["numbers"]) for point in row["curve"]}) > 2, "shares differ"


def test_a_plan_runs_nothing_and_knows_the_pace(shell: Shell, steps_made: list[int]) -> None:
    words = (*SMALL, "--steps", "2", "--variant", "same=clip:")
    code, text, _ = compare(shell, *words, "--seeds", "0", "--plan")
    assert code == 0 and "to be curated" in text and "3 cells to run, 21 evaluations, not known yet minutes" in text
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
    assert [row["num_evaluations"] for row in found["rows"]] == [0, 10, 10], "one seed is new: shares 0.1 to 1"
    for path in (shell.root / "out" / "cells").glob("clip-*/scenes-*-*.json"):
        path.unlink()
    code, text, _ = compare(shell, *words, "--seeds", "0", "--plan", "--json")
    assert [row["num_evaluations"] for row in orjson.loads(text)["rows"]] == [0, 9, 9], (
        "the evaluations of an older comparison, which had the tuned weights only, are found again"
    )
    assert found["seconds"] > 0 and found["rows"][1]["version"] == "out-clip@1.0.0"


@pytest.mark.slow
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
        (("clip", *SMALL, "--steps", "1", "--variant", "x=clip on fsc_clp"), "fsc_clp"),
        (("clip", *SMALL, "--steps", "1", "--feedback", "nowhere"), "none of these recipes uses it"),
        (("clip", *SMALL, "--steps", "1", "--on", "scens:9"), "did you mean 'scenes'?"),
        (("clip", *SMALL, "--steps", "1", "--choose-on", "scens:9"), "--choose-on 'scens:9': unknown kind"),
        (("clip", *SMALL, "--steps", "1", "--choose-on", "order:scenes:9"), "neither retrieval nor zero-shot"),
        ((*ONLY_ORDER, "--steps", "1"), "no --on measures retrieval or zero-shot"),
        (
            ("clip", *SMALL, "--steps", "1", "--variant", "x=clip:train.wise_ft=0.7"),
            "row 'x' ends at train.wise_ft=0.7",
        ),
    ],
)
def test_bad_input_ends_with_2(shell: Shell, words: tuple[str, ...], said: str) -> None:
    code, _, err = compare(shell, *(words if words is not SMALL else (*words, "--steps", "1")))
    assert said in err, err
    assert code == 2
    assert not (shell.root / "out").exists() and not (shell.root / "m").exists()


@pytest.mark.slow
def test_a_row_is_trained_by_one_recipe_on_the_data_of_another(shell: Shell) -> None:
    words = ("clip", *SMALL, "--steps", "1", "--seeds", "0", "--variant", "mixed=efficient_cl on negclip")
    code, _, err = compare(shell, *words)
    assert code == 0, err
    row = next(row for row in document(shell)["rows"] if row["name"] == "mixed")
    assert (row["recipe"], row["data"], row["manifest"]["ref"]) == ("efficient_cl", "negclip", "out-negclip@1.0.0")
    page = shell.root / "page.html"
    code, _, err = shell("report", str(shell.root / "out"), "--html", str(page))
    assert code == 0 and "efficient_cl on negclip" in page.read_text(), err
    words = ("--name", "out-clip", *SMALL[2:], "--steps", "1", "--seeds", "0", "--variant", "mixed=clip on negclip")
    code, _, err = shell("compare", *words, "--out", str(shell.root / "other"))
    assert code == 2 and "asks for data of negclip, but --name out-clip is curated already" in err, err


def test_a_stage_cannot_be_set_on_what_is_curated(shell: Shell) -> None:
    words = ("--name", "toy", "--on", "scenes:9", "--model", "tiny", "--steps", "1")
    code, _, err = compare(shell, "negclip", *words, "--variant", "x=negclip:stages.swap_words.seed=1")
    assert code == 2 and "row 'x' sets a stage, but --name toy" in err


GATE = ComparisonGate()
CHOOSER, REPORTED = "retrieval:chooses", ("retrieval:a", "zero_shot:b", "foils:c")


def cases_of(name: str, value: float) -> CaseValues:
    """Return so many right of 1,000 images."""
    names = tuple(f"{name}{place}" for place in range(1000))
    return CaseValues(names, names, (np.arange(1000) < round(1000 * value)).astype(np.float64))


def result_of(on: str, metric: str, cases: CaseValues) -> CellResult:
    blind = {"blind_ngram": 0.21, "blind_length": 0.25} if on.startswith("foils") else {}
    kept = {name: CaseValues(cases.ids, cases.images, np.full(1000, value)) for name, value in blind.items()}
    return CellResult({"seconds": 1}, BenchmarkResult({metric: 0.0, **blind}, {metric: cases, **kept}), Path(on))


def finished(
    row: str, seed: int | None, recall: float, zero_shot: float, foils: float, lost: float = 0.0
) -> FinishedCell:
    """Return a cell that has these figures at every share, and loses up to `lost` on the images that choose."""
    values = {
        "retrieval:a": ("image_to_text_R@1", recall),
        "zero_shot:b": ("top1", zero_shot),
        "foils:c": ("accuracy", foils),
    }
    reported = {on: result_of(on, metric, cases_of(on, value)) for on, (metric, value) in values.items()}
    results = {}
    for share in (1.0,) if seed is None else SHARES[1:]:
        recalls = {name: cases_of("c", 0.5 - share * lost) for name in ("image_to_text_R@1", "text_to_image_R@1")}
        choosing = CellResult({"seconds": 1}, BenchmarkResult({}, recalls), Path())
        results[share] = {BenchmarkSplit(on, None): result for on, result in {**reported, CHOOSER: choosing}.items()}
    return FinishedCell(Cell(row, seed, {}, Path(), None, "", ""), results)


def compared(
    cells: list[FinishedCell],
    gate: ComparisonGate = GATE,
    on: tuple[str, ...] = REPORTED,
    points: float = 1,
) -> Comparison:
    benchmarks = Benchmarks(on, None, (CHOOSER,), None, None, Catalog(Path(), Path()))
    return compare_rows(cells, list(dict.fromkeys(cell.cell.row for cell in cells)), benchmarks, gate, points)


PRETRAINED_CELL = finished("pretrained", None, 0.50, 0.60, 0.3)


def test_the_gate_fails_what_loses_too_much() -> None:
    cells = [
        PRETRAINED_CELL,
        *(finished("clip", seed, 0.49, 0.599, 0.3) for seed in (0, 1)),
        *(finished("fine", seed, 0.471, 0.585, 0.9) for seed in (0, 1)),
        *(finished("forgets", seed, 0.50, value, 0.95) for seed, value in ((0, 0.57), (1, 0.58))),
        *(finished("misses", seed, 0.46, 0.60, 0.95) for seed in (0, 1)),
    ]
    comparison = compared(cells)
    rows = {row.name: row for row in comparison.rows}
    assert {name for name, row in rows.items() if row.failed} == {"forgets", "misses"}
    assert rows["forgets"].lost == [("zero_shot:b", "top1", -2.5)]
    assert rows["misses"].lost == [("retrieval:a", "image_to_text_R@1", -4.0)]
    foils = rows["fine"].numbers["foils:c", "accuracy"]
    assert foils.to_control is not None and foils.to_control.is_significant and abs(foils.to_control.value - 0.6) < 1e-9
    assert foils.to_pretrained is not None and len(foils.to_control.mcnemar) == 2
    text = markdown_table(comparison, {"clip": 7000})
    assert "| **forgets** | 1 | - |" in text and "**failed**: zero-shot top-1 -2.5" in text and "+60.0▲" in text
    assert text.splitlines()[-3] == "| *best blind judge* |  | - |  |  | 25.0 (length) |  |"
    with out.capture() as caught:
        out.print(terminal_table("t", comparison, {}))
    assert "failed" in caught.get() and "share" in caught.get()
    assert not any(row.failed for row in compared(cells, ComparisonGate(3.0, 5.0)).rows)


def test_each_row_is_reported_at_the_largest_share_that_loses_what_is_allowed() -> None:
    """Foils gain at every share and do not choose; 0.03 lost at the tuned weights are 0.9 points at 0.3, 1.2 at 0.4."""
    cells = [PRETRAINED_CELL, finished("clip", 0, 0.5, 0.6, 0.3), finished("x", 0, 0.5, 0.6, 0.9, lost=0.03)]
    cells.append(finished("x", 1, 0.5, 0.6, 0.9, lost=0.03))
    shares = {row.name: row.share for row in compared(cells).rows}
    assert shares == {"pretrained": None, "clip": 1.0, "x": 0.3}
    assert compared(cells, points=2).rows[2].share == 0.6 and compared(cells, points=0).rows[2].share == 0.0
    curve = compared(cells).rows[2].curve
    assert [point.kept for point in curve] == [True] * 4 + [False] * 7
    assert curve[-1].lost == 3.0 and [point.share for point in curve] == list(SHARES)
    at_base = compared(cells, points=0).rows[2].numbers["foils:c", "accuracy"]
    assert at_base.to_pretrained is not None and at_base.to_pretrained.value == 0, "share 0 is the pretrained model"


def test_an_image_either_chooses_or_is_reported() -> None:
    retrieval, foils, others = cases_of("c", 0.5), cases_of("c", 0.5), cases_of("x", 0.5)
    sides = ImageSides.divide([retrieval], [retrieval, foils, others])
    assert not sides.choosing & sides.reported and sides.choosing | sides.reported == {
        *retrieval.images,
        *others.images,
    }
    assert 400 < len(sides.choosing) < 600 and sides.reported > {*others.images}
    apart = ImageSides.divide([retrieval], [others])
    assert apart == ImageSides(frozenset(retrieval.images), frozenset(others.images))


def test_no_image_left_to_report_is_said() -> None:
    one = CaseValues(("a",), ("a",), np.ones(1))
    record: dict[float, Any] = {1.0: {}}
    for on, metric in ((CHOOSER, "image_to_text_R@1"), ("retrieval:a", "image_to_text_R@1")):
        cases = {metric: one, "text_to_image_R@1": one}
        record[1.0][BenchmarkSplit(on, None)] = CellResult({}, BenchmarkResult({}, cases), Path())
    with pytest.raises(InputError, match=r"(?s)no image is left that may .*--choose-split"):
        compared([FinishedCell(Cell("pretrained", None, {}, Path(), None, "", ""), record)], on=("retrieval:a",))


def test_who_dominates_whom() -> None:
    cells = [PRETRAINED_CELL]
    for row, figures in {"clip": (0.5, 0.6, 0.3), "better": (0.5, 0.6, 0.5), "forgets": (0.4, 0.6, 0.6)}.items():
        cells += [finished(row, seed, *figures) for seed in (0, 1)]
    found = compared(cells, ComparisonGate(50, 50))
    assert [(pair.row, pair.over) for pair in found.dominance] == [("better", "pretrained"), ("better", "clip")]
    assert found.dominance[0].higher == (("foils:c", "accuracy"),)
    text = "\n".join(describe_dominance(found))
    assert "better dominates pretrained (foils accuracy), clip (foils accuracy)." in text
    for cell in cells:
        for results in cell.results.values():
            results[BenchmarkSplit("foils:c", None)].result.metrics.update(headline=False, no_headline="99 cases only")
    found = compared(cells)
    assert not found.dominance and [role.reason for role in found.metrics] == ["", "", "99 cases only"]
    why, nobody = describe_dominance(found)
    assert why == "foils accuracy °: no headline, 99 cases only." and "so no row can dominate another" in nobody


def test_a_loss_of_just_what_is_allowed_passes() -> None:
    """0.392 - 0.362 is 3.0000000000000027 points to a computer."""
    cells = [finished("pretrained", None, 0.392, 0.6, 0.3), finished("clip", 0, 0.362, 0.6, 0.3)]
    assert 100 * (0.392 - 0.362) > 3
    assert not compared(cells).rows[1].failed


def test_cells_of_different_cases_are_refused_by_name() -> None:
    other = finished("clip", 0, 0.5, 0.5, 0.5)
    kept = cases_of("foils:c", 0.5)
    changed = result_of("foils:c", "accuracy", CaseValues(("another", *kept.ids[1:]), kept.images, kept.values))
    other.results[0.5] = {**other.results[0.5], BenchmarkSplit("foils:c", None): changed}
    with pytest.raises(InputError, match="foils:c accuracy: the cells were evaluated on different data: .*another"):
        compared([PRETRAINED_CELL, other])


def test_seeds_pair_only_where_both_rows_have_them() -> None:
    cells = [finished("clip", seed, 0.5, 0.6, 0.3) for seed in (0, 1)] + [finished("x", 0, 0.5, 0.6, 0.4)]
    rows = {row.name: row for row in compared([PRETRAINED_CELL, *cells]).rows}
    number = rows["x"].numbers["foils:c", "accuracy"]
    assert rows["x"].seeds == (0,) and number.to_control is not None and number.to_control.is_significant
    assert number.to_control.mcnemar


def test_headlines_of_kinds_nobody_has_listed() -> None:
    assert headline_metrics("new:thing", ("blind_length", "macro"), ("x", "y")) == ("macro",)
    assert headline_metrics("new:thing", (), ("x", "y")) == ("x",)
    assert headline_metrics("order:thing", (), ("order_accuracy", "y")) == ("order_accuracy",)


def test_null_takes_parts_out() -> None:
    recipe = load_recipe("fsc_clip", settings=("objectives.local_contrast=null", "stages.grade_negatives=null"))
    assert [objective.name for objective in recipe.objectives] == ["info_nce", "negative_contrast"]
    assert "grade_negatives" not in [stage.name for stage in recipe.stages]
    recipe = load_recipe("ahnm", settings=("gate=null", "views=null"))
    assert recipe.gate is None and recipe.views is None and recipe.negatives is not None


def test_variants_and_seeds_as_text() -> None:
    found = Variant.parse("free=ahnm:gate=null; stages.swap_words.seed=3 ;")
    assert found == Variant("free", "ahnm", ("gate=null", "stages.swap_words.seed=3"))
    assert found.data_settings == ("stages.swap_words.seed=3",) and found.curated_by == "ahnm"
    mixed = Variant.parse("mixed=ce_clip on fsc_clip:negatives.choose=2")
    assert mixed == Variant("mixed", "ce_clip", ("negatives.choose=2",), "fsc_clip") and mixed.curated_by == "fsc_clip"
    assert Variant.parse("same=ce_clip on ce_clip") == Variant("same", "ce_clip")
    assert read_seeds("0, 12,3") == (0, 12, 3)


def smoke_job(catalog: Catalog, **options: Any) -> CompareJob:
    return CompareOptions(**options).with_smoke_defaults().request(catalog, "clipcurate compare", smoke=True).job()


def test_a_smoke_test_has_every_recipe_that_can_run_in_it(tmp_path: Path) -> None:
    job = smoke_job(Catalog(tmp_path, tmp_path))
    needing = {name for name in own_recipe_names() if load_recipe(name).needs_llm}
    assert needing == {"tda_sp", "triplet_clip"} and {row.recipe for row in job.rows} == {*own_recipe_names()} - needing
    rows = smoke_job(Catalog(tmp_path, tmp_path), llm="http://127.0.0.1:1/v1#any").rows
    assert {row.recipe for row in rows} == {*own_recipe_names()}


def test_a_smoke_test_on_scenes_balances_what_scenes_have(tmp_path: Path) -> None:
    job = smoke_job(Catalog(tmp_path, tmp_path), recipes=["m4"])
    assert job.curation.source == "scenes:160@3"
    row = job.rows[1]
    assert row.name == row.recipe == "m4" and row.data_settings == load_recipe("m4").scene_settings
    load_recipe(row.recipe, settings=row.settings)
    own = smoke_job(Catalog(tmp_path, tmp_path), recipes=["m4"], source="folder:photographs")
    assert [row.settings for row in own.rows] == [(), ()]
