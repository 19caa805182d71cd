"""What a run learned about negatives decides which stay, and how hard they are said to be."""

from __future__ import annotations

import math
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

Row = tuple[str, int, str, int, int, float | None, float | None, float | None]


def write(path: Path, rows: list[Row]) -> FeedbackFile:
    columns = list(zip(*rows, strict=True))
    table = pa.table({name: pa.array(list(values)) for name, values in zip(COLUMNS, columns, strict=True)})
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


def told(text: str, drawn: int, gated: int, loss: float | None, caption: int = 0) -> Row:
    return ("u", caption, text, drawn, gated, None if loss is None else 0.1, loss, loss)


def test_learned_and_hopeless_ones_go_and_the_rest_is_graded_anew(tmp_path: Path) -> None:
    rows = [
        told("learned", 3, 0, 0.01),
        told("hopeless", 3, 0, 4.0),
        told("doubted", 1, 2, 0.7),
        told("open", 2, 1, 0.7),
        told("once", 1, 0, 0.01),
        ("other", 0, "open", 9, 0, 0.1, 0.001, 0.001),
        ("u", -1, "", 9, 0, 0.1, 0.001, 0.001),
    ]
    names = ["learned", "hopeless", "doubted", "open", "once", "never drawn"]
    result = judge(ApplyFeedback(feedback=write(tmp_path, rows)), *(negative(name) for name in names))
    assert [(row["text"], row["reason"]) for row in result["feedback_rejected"]] == [
        ("learned", "saturated"), ("hopeless", "impossible"), ("doubted", "impossible"),
    ]  # fmt: skip
    kept = {record["text"]: record for record in result["feedback_negatives"]}
    assert list(kept) == ["open", "once", "never drawn"]
    taken = 1 - math.exp(-0.7)
    assert kept["open"]["difficulty"] == pytest.approx(0.25 + taken / 2, abs=1e-4)
    assert orjson.loads(kept["open"]["scores"]) == {"feedback": round(taken, 4)}
    assert kept["never drawn"] == negative("never drawn")


def test_a_caption_keeps_the_hardest_of_what_it_has_learned(tmp_path: Path) -> None:
    rows = [
        told("easy", 2, 0, 0.001),
        told("less", 2, 0, 0.01),
        told("far", 2, 0, 0.001, 1),
        told("false", 2, 0, 9.0, 1),
    ]
    stage = ApplyFeedback(feedback=write(tmp_path, rows))
    result = judge(stage, negative("easy"), negative("less"), negative("false", 1))
    assert [record["text"] for record in result["feedback_negatives"]] == ["less"]
    assert {row["text"] for row in result["feedback_rejected"]} == {"easy", "false"}


def test_without_feedback_all_pass_unchanged() -> None:
    records = [negative("a"), negative("b", 1, difficulty=None)]
    assert judge(ApplyFeedback(), *records) == {"feedback_negatives": records, "feedback_rejected": []}


def test_the_fingerprint_is_of_the_files_content(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    rows = [told("learned", 3, 0, 0.01)]
    one, same = write(tmp_path / "x", rows), write(tmp_path / "y", rows)
    assert ApplyFeedback(feedback=one).fingerprint() == ApplyFeedback(feedback=same).fingerprint()
    assert one.describe() == "feedback on a@1.0.0"
    other = write(tmp_path / "y", [told("learned", 4, 0, 0.01)])
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
    for settings in ({"fields": ()}, {"trust": 2.0}, {"saturated_loss": 5.0}, {"min_drawn": 0}):
        with pytest.raises(InputError, match="allowed"):
            ApplyFeedback(**settings)  # type: ignore[arg-type]
