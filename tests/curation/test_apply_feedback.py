"""What a run learned about negatives decides which stay, and how hard they are said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.models.feedback_file import COLUMNS, FeedbackFile
from curation.stages.negatives.apply_feedback import ApplyFeedback
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample

Row = tuple[str, int, str, int, int, float | None, int]
"""uid, caption, text, drawn, gated, last margin, candidate."""


def write(path: Path, rows: list[Row]) -> FeedbackFile:
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {name: pa.array(list(values)) for name, values in zip((*COLUMNS, "candidate"), columns, strict=True)}
    )
    pq.write_table(table.replace_schema_metadata({"version": "a@1.0.0"}), path / "feedback.parquet")
    return FeedbackFile.open(str(path))


def negative(text: str, caption: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "text": text,
        "caption": caption,
        "operation": "swap",
        "rule": "r",
        "difficulty": 0.5,
        "scores": "{}",
    } | more


def judge(stage: ApplyFeedback, *records: dict[str, Any]) -> dict[str, Any]:
    sample = Sample("u", "n", ImageRef("p"), ("a", "b"), fields={"graded_negatives": list(records)})
    (result,) = stage.process([sample])
    assert isinstance(result, dict)
    return result


def told(
    text: str, drawn: int, gated: int, margin: float | None, caption: int = 0, candidate: int | None = None
) -> Row:
    return ("u", caption, text, drawn, gated, margin, drawn + gated if candidate is None else candidate)


def rivals(*margins: float) -> list[Row]:
    return [(f"other {number}", -1, "", 1, 0, margin, 0) for number, margin in enumerate(margins)]


def place(margin: float, margins: list[float]) -> float:
    """Share of the negatives that are easier, those as hard by half: the sum, one after the other."""
    return sum(1.0 if other > margin else 0.5 if other == margin else 0.0 for other in margins) / len(margins)


def test_learned_and_hopeless_ones_go_and_the_rest_is_graded_anew(tmp_path: Path) -> None:
    crowd = [-0.05 + 0.001 * number for number in range(100)]
    rows = [
        told("learned", 3, 0, 0.31),
        told("hopeless", 3, 0, -0.2),
        told("doubted", 1, 2, 0.0),
        told("rarely doubted", 0, 2, None, candidate=5),
        told("wrong at scale 100 by a loss of 4", 2, 1, -0.04),
        told("as clear as most rivals", 2, 0, 0.29),
        told("once", 1, 0, 0.31),
        *(("other", 0, str(number), 1, 0, margin, 1) for number, margin in enumerate(crowd)),
        *rivals(-0.1, 0.0, 0.1, 0.2, 0.3),
    ]
    names = [row[2] for row in rows[:7]] + ["never drawn"]
    stage = ApplyFeedback(feedback=write(tmp_path, rows), saturated_quantile=1.0)
    result = judge(stage, *(negative(name) for name in names))
    assert [(row["text"], row["reason"]) for row in result["feedback_rejected"]] == [
        ("learned", "saturated"), ("hopeless", "impossible"), ("doubted", "impossible"),
    ]  # fmt: skip
    kept = {record["text"]: record for record in result["feedback_negatives"]}
    assert list(kept) == [*names[3:6], "once", "never drawn"]
    margins = [*crowd, 0.31, -0.2, 0.0, -0.04, 0.29, 0.31]
    for text, margin in (("wrong at scale 100 by a loss of 4", -0.04), ("once", 0.31)):
        hard = place(margin, margins)
        assert kept[text]["difficulty"] == pytest.approx(0.25 + hard / 2, abs=1e-4)
        assert orjson.loads(kept[text]["scores"]) == {"feedback": round(hard, 4)}
    assert kept["never drawn"] == negative("never drawn") and kept["rarely doubted"] == negative("rarely doubted")


@pytest.mark.parametrize(("share", "limit"), [(0.0, 0.0), (0.5, 0.1), (0.75, 0.2), (0.9, 0.26), (1.0, 0.3)])
def test_saturated_is_what_is_clearer_than_a_quantile_of_rivals(tmp_path: Path, share: float, limit: float) -> None:
    names = ("below", "above", "hard")
    margins = (limit - 1e-6, limit + 1e-6, -0.01)
    rows = [told(name, 2, 0, margin) for name, margin in zip(names, margins, strict=True)]
    feedback = write(tmp_path, [*rows, *rivals(0.2, -0.1, 0.3, 0.0, 0.1)])
    stage = ApplyFeedback(feedback=feedback, saturated_quantile=share, impossible_quantile=1.0)
    result = judge(stage, *map(negative, names))
    assert [row["text"] for row in result["feedback_rejected"]] == ["above"]


@pytest.mark.parametrize(("share", "gone"), [(0.49, 5), (0.8, 2), (0.9, 1), (1.0, 0)])
def test_impossible_are_only_the_hardest_and_only_what_beats_its_caption(
    tmp_path: Path, share: float, gone: int
) -> None:
    names = [f"n{number}" for number in range(10)]
    rows = [told(name, 2, 0, 0.04 * number - 0.18) for number, name in enumerate(names)]
    stage = ApplyFeedback(feedback=write(tmp_path, [*rows, *rivals(9.0)]), impossible_quantile=share)
    assert [row["text"] for row in judge(stage, *map(negative, names))["feedback_rejected"]] == names[:gone]
    beaten = [told(name, 2, 0, 0.04 * number) for number, name in enumerate(names)]
    (tmp_path / "beaten").mkdir()
    stage = ApplyFeedback(feedback=write(tmp_path / "beaten", [*beaten, *rivals(9.0)]), impossible_quantile=share)
    assert judge(stage, *map(negative, names))["feedback_rejected"] == []


def test_files_of_earlier_runs_are_read(tmp_path: Path) -> None:
    rows = [told("doubted", 1, 2, 0.0), told("open", 2, 1, 0.0)]
    columns = list(zip(*rows, strict=True))[:-1]
    table = pa.table({name: pa.array(list(values)) for name, values in zip(COLUMNS, columns, strict=True)})
    pq.write_table(table, tmp_path / "feedback.parquet")
    result = judge(ApplyFeedback(feedback=FeedbackFile.open(str(tmp_path))), negative("doubted"), negative("open"))
    assert [row["text"] for row in result["feedback_rejected"]] == ["doubted"]


def test_a_caption_keeps_the_hardest_of_what_it_has_learned(tmp_path: Path) -> None:
    rows = [
        told("easy", 2, 0, 0.5),
        told("less", 2, 0, 0.4),
        told("far", 2, 0, 0.5, 1),
        told("false", 2, 0, -0.5, 1),
    ]
    stage = ApplyFeedback(feedback=write(tmp_path, [*rows, *rivals(0.1)]), impossible_quantile=0.8)
    result = judge(stage, negative("easy"), negative("less"), negative("false", 1))
    assert [record["text"] for record in result["feedback_negatives"]] == ["less"]
    assert {row["text"] for row in result["feedback_rejected"]} == {"easy", "false"}


def test_without_feedback_all_pass_unchanged() -> None:
    records = [negative("a"), negative("b", 1, difficulty=None)]
    assert judge(ApplyFeedback(), *records) == {"feedback_negatives": records, "feedback_rejected": []}


def test_the_fingerprint_is_of_the_files_content(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    rows = [told("learned", 3, 0, 0.3)]
    one, same = write(tmp_path / "x", rows), write(tmp_path / "y", rows)
    assert ApplyFeedback(feedback=one).fingerprint() == ApplyFeedback(feedback=same).fingerprint()
    assert one.describe() == "feedback on a@1.0.0"
    other = write(tmp_path / "y", [told("learned", 4, 0, 0.3)])
    assert ApplyFeedback(feedback=one).fingerprint() != ApplyFeedback(feedback=other).fingerprint()


def test_what_is_no_feedback_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"done\.json"):
        FeedbackFile.open(str(tmp_path))
    (tmp_path / "feedback.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match="not the feedback of a run"):
        FeedbackFile.open(str(tmp_path))
    pq.write_table(pa.table({"uid": ["a"]}), tmp_path / "feedback.parquet")
    with pytest.raises(InputError, match="not the feedback of a run"):
        FeedbackFile.open(str(tmp_path))
    for settings in ({"fields": ()}, {"trust": 2.0}, {"saturated_quantile": 5.0}, {"min_drawn": 0}):
        with pytest.raises(InputError, match="allowed"):
            ApplyFeedback(**settings)  # type: ignore[arg-type]
