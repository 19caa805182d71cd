"""What the benchmark of noise plants is true, and what it counts is what there is to count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.sources.scenes import ScenesSource
from curation.sources.synthetic.grammar import truth
from data_manifests.run_files import FEEDBACK_FILE
from data_manifests.sample import ImageRef, Sample
from flows.recipe import load_recipe
from tests.benchmarks.bench_noise import Found, PlantTrueNegatives, judge_pairs, own_gate, with_planted


def samples(level: int, count: int) -> list[Sample]:
    found = []
    for number, record in enumerate(ScenesSource(f"{count}@9?level={level}").records()):
        own: list[dict[str, Any]] = [
            {"text": f"false {caption} {place}", "caption": caption, "source": "swap_words", "difficulty": 0.5}
            for caption in range(5) for place in range(4)
        ]  # fmt: skip
        fields = {"graded_negatives": own}
        found.append(
            Sample(f"{number:032x}", record.name, ImageRef("p"), record.captions, None, record.attributes, fields)
        )
    return found


@pytest.mark.parametrize("level", [1, 2, 3])
def test_planted_negatives_are_true_new_and_as_many_as_asked(level: int) -> None:
    given = samples(level, 40)
    stage = PlantTrueNegatives(("graded_negatives",), level=level, share=0.1)
    results = [result["planted_negatives"] for result in stage.process(given) if isinstance(result, dict)]
    planted = 0
    for sample, records in zip(given, results, strict=True):
        assert len(records) == 20
        texts = [record["text"] for record in records]
        assert len(set(texts)) == 20 and not {*texts} & {*sample.captions}
        for before, record in zip(sample["graded_negatives"], records, strict=True):
            if record == before:
                continue
            planted += 1
            assert truth(sample.attributes["scene"], record["text"]) is True
            assert (record["caption"], record["source"]) == (before["caption"], "swap_words")
    assert 55 <= planted <= 105, "a tenth of 800, give or take three standard deviations"
    assert stage.process(given[3:4])[0] == {"planted_negatives": results[3]}


def test_planting_takes_the_place_of_what_a_recipe_leaves() -> None:
    stages = with_planted(load_recipe("ahnm").all_stages(), 1, 0.1)
    last = stages[-1]
    assert isinstance(last, PlantTrueNegatives) and last.fields == ("feedback_negatives",)
    (sample,) = samples(1, 1)
    fields = {"swap_negatives": [{"text": f"false {place}", "caption": 0} for place in range(2)]}
    (found,) = PlantTrueNegatives(share=0.5).process([replace(sample, fields=fields)])
    assert isinstance(found, dict)
    assert [record["source"] for record in found["planted_negatives"]] == ["swap_words"] * 2, "publishing asks for it"
    assert with_planted(load_recipe("clip").all_stages(), 1, 0.1) == load_recipe("clip").all_stages()


def test_the_gate_of_own_negatives_is_counted_by_steps(tmp_path: Path) -> None:
    sample = samples(1, 1)[0]
    true, false = sample.captions[0], "A picture of nothing."
    rows = [(sample.uid, 0, true, 10, 7), (sample.uid, 1, false, 20, 3), (sample.uid, -1, "", 0, 0)]
    names = ("uid", "caption", "text", "candidate", "gated")
    pq.write_table(
        pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), tmp_path / FEEDBACK_FILE
    )
    found = own_gate(tmp_path, {sample.uid: sample.attributes["scene"]})
    assert found == Found(left_out=10, true=10, both=7, all=30)
    assert str(found).startswith("precision 0.700, recall 0.700 (10 of 30 are true")


def test_the_gate_of_pairs_is_counted_without_equal_captions() -> None:
    left_out = np.array([[True, True, False], [False, True, True], [True, False, True]])
    true = {(0, "b"), (2, "a"), (2, "b")}
    found = judge_pairs(left_out, [0, 1, 2], ["a", "b", "b"], lambda row, text: (row, text) in true)
    assert found == Found(left_out=2, true=3, both=2, all=4)
    assert found + Found(1, 1, 0, 2) == Found(3, 4, 2, 6)
