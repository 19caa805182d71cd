"""Advice on a source: by measured comparisons of its size and by what its captions give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from data_manifests.caption_negatives import CaptionNegatives
from flows.cli.demo import write_photos
from flows.execution import advise
from flows.execution.advise import Difference, MeasuredData, MeasuredRow, SourceFigures, advice_for
from flows.recipe_finding import own_recipe_names
from tests.benchmarks.keep_measured import kept
from tests.curation.source_inputs import picture, put
from tests.flows.test_contrasts import run


def row(recipe: str, *gaps: float, found: bool = True, failed: bool = False) -> MeasuredRow:
    differences = tuple(Difference(f"test {n}", gap, gap - 1, gap + 1, told_apart=found) for n, gap in enumerate(gaps))
    return MeasuredRow(recipe, differences, failed, 1.0, 2.0)


def measured(num_samples: int, *rows: MeasuredRow, captions: float = 5) -> MeasuredData:
    return MeasuredData("pictures", num_samples, captions, "10 steps", 1, rows)


def source(num_samples: int, captions: float = 5, **negatives: float) -> SourceFigures:
    """Return figures of a source; each recipe gives every caption as many negatives, or none to some."""
    found = {
        name: CaptionNegatives({0: 100 - round(100 * mean % 100), 1: round(100 * mean % 100)} if mean < 1 else {round(mean): 100})
        for name, mean in negatives.items()
    }  # fmt: skip
    return SourceFigures(num_samples, round(num_samples * captions), {}, 9, 0.0, 100, found)


def test_the_nearest_comparison_decides_by_ratio_and_by_captions_per_image() -> None:
    small, large = measured(500, row("negclip", 3)), measured(6000, row("ahnm", 3))
    one = measured(500, row("laclip", 3), captions=1)
    for num_samples, captions, expected in (
        (60, 5, "negclip"),
        (1600, 5, "negclip"),
        (1800, 5, "ahnm"),
        (500, 1.2, "laclip"),
    ):
        assert advice_for(source(num_samples, captions), [large, small, one]).first == expected


def test_a_row_needs_a_gain_that_is_found_no_loss_that_is_found_and_the_gate() -> None:
    figures = source(500)
    for refused in (row("a", 9, found=False), row("a", 9, -2), row("a", 9, failed=True)):
        advice = advice_for(figures, [measured(500, refused, row("b", 2))])
        assert advice.first == "b", refused
    nothing = advice_for(figures, [measured(500, row("a", 9, -2), row("b", 0.5, found=False))])
    assert (nothing.first, nothing.next_to_try) == ("clip", ("b",)), "b lost nothing: worth a comparison"
    best = advice_for(figures, [measured(500, row("a", 2, 2), row("b", 3), row("c on d", 5))])
    assert (best.first, best.next_to_try) == ("c on d", ("a", "b"))


def test_one_gain_among_many_differences_is_chance() -> None:
    alone = measured(500, row("a", 1.2))
    among = measured(500, row("a", 1.2), *(row(f"b{number}", *[0.0] * 5, found=False) for number in range(4)))
    large = measured(500, row("a", 1.6), *among.rows[1:])
    assert [advice_for(source(500), [one]).first for one in (alone, among, large)] == ["a", "clip", "a"]
    hurt = measured(500, row("a", 1.6, -1.2), *among.rows[1:])
    assert advice_for(source(500), [hurt]).first == "clip", "a loss counts however many differences there are"


def test_a_row_whose_negatives_these_captions_do_not_give_is_not_advised() -> None:
    comparison = [measured(500, row("negclip", 9), row("ce_clip on fsc_clip", 5), row("laclip", 2))]
    assert advice_for(source(500, negclip=0.4, fsc_clip=3), comparison).first == "ce_clip on fsc_clip"
    poor = advice_for(source(500, negclip=0.4, fsc_clip=0.2), comparison)
    assert poor.first == "laclip", "it has no negatives of its own"
    assert [remark.split()[0] for remark in poor.remarks] == ["negclip", "fsc_clip"]


def test_other_numbers_of_captions_are_said() -> None:
    told = [len(advice_for(source(500, captions), [measured(500, row("a", 1))]).remarks) for captions in (5, 3, 2, 1)]
    assert told == [0, 0, 1, 1]


def test_what_else_matters_is_said() -> None:
    figures = replace(source(60), share_equal=0.3, people={"male": 30, "female": 12})
    remarks = advice_for(figures, [measured(500, row("a", 1))]).remarks
    assert [
        any(word in remark for remark in remarks) for word in ("500 images", "30% of the captions", "12 with women")
    ] == [True] * 3
    even = replace(figures, num_samples=600, num_captions=3000, share_equal=0.01, people={"male": 30, "female": 20})
    assert advice_for(even, [measured(500, row("a", 1))]).remarks == ()


def test_what_is_kept_of_a_comparison() -> None:
    def number(on: str, metric: str, value: float, **more: object) -> dict[str, object]:
        gap = {"value": value, "low": value - 0.01, "high": value + 0.01, "told_apart": True}
        return {"on": on, "metric": metric, "to_control": gap, **more}

    same = {"failed": False, "share": 0.5}
    document = {
        "title": "tiny: 5 steps",
        "seeds": [0, 1],
        "cells": [{"row": name, "train_s": seconds} for name, seconds in (("clip", 2), ("clip", 4), ("mix", 6))],
        "rows": [
            {"name": "pretrained"},
            {"name": "clip", "recipe": "clip", "data": "clip", "num_samples": 40, "numbers": [], **same},
            {
                "name": "mix", "recipe": "ce_clip", "data": "fsc_clip", "num_samples": 40, **same,
                "numbers": [number("foils:flickr:/d", "accuracy", 0.0213), number("foils:flickr:/d", "both_ways", 0.5)],
            },
        ],
    }  # fmt: skip
    found = MeasuredData.from_json(orjson.loads(orjson.dumps(kept(document, "photographs", 5))))
    assert (found.num_samples, found.num_seeds, found.budget) == (40, 2, "tiny: 5 steps")
    (mix,) = found.rows
    assert (mix.recipe, mix.data_recipe, mix.times_longer) == ("ce_clip on fsc_clip", "fsc_clip", 2.0)
    assert mix.differences == (Difference("foils", 2.1, 1.1, 3.1, told_apart=True),)


def test_all_that_was_measured_names_recipes_that_exist() -> None:
    names = set(own_recipe_names())
    for one in MeasuredData.load_all():
        assert one.rows and all({*row.recipe.split(" on ")} <= names for row in one.rows)
        assert all(row.differences for row in one.rows)


def test_the_command_reads_a_source_and_says_what_to_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = measured(40, row("negclip", 3), row("contrasts", 2))
    monkeypatch.setattr(advise.MeasuredData, "load_all", lambda: [comparison])
    write_photos(tmp_path / "photos", 30, level=1)
    given = ("advise", "--source", f"folder:{tmp_path / 'photos'}")
    code, text, _ = run(capsys, tmp_path, *given, "--json")
    found = orjson.loads(text)
    assert code == 0 and found["source"]["samples"] == 30
    assert set(found["source"]["negatives_per_caption"]) == {"contrasts", "negclip"}
    assert found["first"] == "negclip" and found["next_to_try"] == ["contrasts"]
    code, text, _ = run(capsys, tmp_path, *given)
    words = " ".join(text.split())
    assert code == 0 and "run first: negclip" in words and "compare clip negclip contrasts" in words
    assert not list((tmp_path / "manifests").glob("*")), "nothing is published"


def test_captions_that_give_no_negatives_and_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"file_name": f"{n}.png", "captions": [f"#{n * 7919}"]} for n in range(12)]
    for n in range(12):
        put(tmp_path / "codes" / f"{n}.png", picture(n))
    (tmp_path / "codes" / "captions.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    code, text, _ = run(capsys, tmp_path, "advise", "--source", f"folder:{tmp_path / 'codes'}", "--json")
    found = orjson.loads(text)
    assert code == 0 and found["first"] == "clip"
    assert all(one["mean"] == 0 for one in found["source"]["negatives_per_caption"].values())
    code, _, message = run(capsys, tmp_path, "advise", "--source", "folder:/no/such")
    assert code == 2 and "/no/such" in message
