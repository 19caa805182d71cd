"""Difficulty of negatives: each score, how they combine, and what a bad setting says."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import orjson
import pytest

from curation.knowledge.open_graph import SeedGraph
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.grade_negatives import TYPE_PRIOR, GradeNegatives, edit_score
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.curation.test_find_false_negatives import LengthEncoder, LengthModel

CAPTION = "A small dog runs on grass ."


def record(text: str, edit: list[int], kind: str = "object") -> dict[str, Any]:
    return {"text": text, "caption": 0, "operation": "replace", "type": kind, "edits": [edit], "rule": "by hand"}


RECORDS = [
    record("A small cat runs on grass .", [8, 11, 8, 11]),
    record("A big dog runs on grass .", [2, 7, 2, 5], "attribute"),
    record("A small dog runs under grass .", [17, 19, 17, 22], "relation"),
    record("Three green whales sing .", [0, 27, 0, 25], "strange"),
]


def sample(*records: dict[str, Any]) -> Sample:
    one = Sample(image_uid(b"x"), "a.jpg", ImageRef("a.jpg"), (CAPTION,))
    (result,) = ParseCaptions().process([one])
    assert isinstance(result, dict)
    return one.adding(result | {"true_negatives": list(records)})


def graded(stage: GradeNegatives, one: Sample) -> list[dict[str, Any]]:
    (result,) = stage.process([one])
    assert isinstance(result, dict)
    records: list[dict[str, Any]] = result["graded_negatives"]
    return records


def test_records_are_passed_on_with_what_they_scored() -> None:
    found = graded(GradeNegatives(), sample(*RECORDS))
    assert [{key: item[key] for key in RECORDS[0]} for item in found] == RECORDS
    assert [orjson.loads(item["scores"]) for item in found] == [
        {"edit": 0.8571, "type": 0.3},
        {"edit": 0.8571, "type": 0.7},
        {"edit": 0.8571, "type": 0.9},
        {"edit": 0.0, "type": 0.5},
    ]
    assert [item["difficulty"] for item in found] == [0.5786, 0.7785, 0.8785, 0.25]
    assert graded(GradeNegatives(), sample()) == []


def test_what_others_scored_stays_and_does_not_count() -> None:
    told = {**RECORDS[0], "scores": '{"blind_words":-0.25,"edit":0.0}'}
    (item,) = graded(GradeNegatives(), sample(told))
    assert orjson.loads(item["scores"]) == {"blind_words": -0.25, "edit": 0.8571, "type": 0.3}
    assert item["difficulty"] == 0.5786


def test_weights_are_used() -> None:
    (item,) = graded(GradeNegatives(edit_weight=0, type_weight=3), sample(RECORDS[0]))
    assert item["difficulty"] == TYPE_PRIOR["object"]
    (item,) = graded(GradeNegatives(edit_weight=1, type_weight=3), sample(RECORDS[0]))
    assert item["difficulty"] == round((0.8571 + 3 * 0.3) / 4, 4)


def test_near_words_are_harder() -> None:
    stage = GradeNegatives(graph=SeedGraph())
    texts = ["A small cat runs on grass .", "A small tree runs on grass ."]
    near, far = graded(stage, sample(*(record(text, [8, 11, 8, text.index(" runs")]) for text in texts)))
    assert orjson.loads(near["scores"])["graph"] > orjson.loads(far["scores"])["graph"]
    assert near["difficulty"] > far["difficulty"]
    opposite = graded(stage, sample(record("A large dog runs on grass .", [2, 7, 2, 7], "attribute")))[0]
    assert orjson.loads(opposite["scores"])["graph"] == 1.0
    put_in = graded(stage, sample(record("A small dog not runs on grass .", [12, 12, 12, 16], "negation")))[0]
    assert "graph" not in orjson.loads(put_in["scores"])


def test_a_model_adds_what_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.models.encoder.open_encoder", lambda _: LengthEncoder())
    stage = GradeNegatives(model=LengthModel())
    assert "image" in stage.required_fields()
    same, shorter, longer, _ = (orjson.loads(item["scores"]) for item in graded(stage, sample(*RECORDS)))
    assert same["text"] == pytest.approx(1, abs=1e-3)
    assert same["image"] == 0.5
    assert shorter["image"] > 0.5 > longer["image"]
    gain = np.cos(25 / 40) - np.cos(27 / 40)
    assert shorter["image"] == pytest.approx(0.5 + 2 * gain, abs=2e-3)


def test_edit_score_takes_the_larger_share() -> None:
    assert edit_score("a b c d", {"text": "a x y z w d", "edits": [[2, 5, 2, 9]]}) == pytest.approx(1 - 4 / 6)
    assert edit_score("a b", {"text": "a", "edits": [[1, 3, 1, 1]]}) == 0.5
    assert edit_score("", {"text": "", "edits": []}) == 1.0


def test_deterministic_alone_and_in_a_batch() -> None:
    stage = pickle.loads(pickle.dumps(GradeNegatives(graph=SeedGraph())))
    one, other = sample(*RECORDS), sample(*RECORDS[:2])
    assert stage.process([one, other]) == [*stage.process([one]), *stage.process([other])]
    assert stage.superseded_fields() == ("true_negatives",)
    assert dataclasses.replace(stage, text_weight=1.0).fingerprint() != stage.fingerprint()


@pytest.mark.parametrize(
    "settings",
    [{"fields": ()}, {"fields": ("a", "a")}, {"text_weight": -1.0}, {"graph_weight": float("nan")},
     {"image_weight": float("inf")}, {"edit_weight": 0.0, "type_weight": 0.0}],
)  # fmt: skip
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="grade_negatives"):
        GradeNegatives(**settings)
