"""What a stage gives is checked where it gives it: the error names the stage, the sample, what was got and what is allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.engine.engine import run_stages
from curation.engine.fits import Fit
from curation.engine.intake import read_source
from curation.engine.outputs import ResultEncoder
from curation.engine.stage import Columns, Drop, Field, FittedStage, IndexedStage, MapStage, PreviousIndex
from curation.sources.scenes import ScenesSource
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample
from tests.curation.few_samples import uids_of

NEGATIVE = {"text": "a dog", "caption": 0, "operation": "swap", "span_class": "noun"}
VIEW = {"text": "a cat", "caption": 1, "family": "rules"}
GOOD: dict[str, Any] = {
    "number": 0.5,
    "vector": np.ones(3),
    "false": [NEGATIVE],
    "true": [VIEW],
    "lost": [{"reason": "clumsy", "caption": 0}],
    "used": {"tokens": 3},
    "seen": {"words": 1.5},
    "place": {"x": [1, None]},
    "column": [0.5, 1, None],
}


@dataclasses.dataclass(frozen=True)
class Given(MapStage):
    """Gives whatever it is told to."""

    name = "given"
    requires = ("captions",)
    provides = (
        Field("number", publish="index"),
        Field("vector", "array"),
        Field("false", role="negatives"),
        Field("true", role="views"),
        Field("lost", role="rejects"),
        Field("used", role="usage"),
        Field("seen", role="evidence"),
        Field("place"),
        Field("column", publish="sample"),
    )
    drops = ("bad",)
    source = "test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [GOOD for _ in samples]


def check(results: Any, num_samples: int = 1) -> list[Any]:
    samples = [Sample(uid, "x", ImageRef("x"), ("a cat", "a dog")) for uid in uids_of(num_samples)]
    return list(ResultEncoder(Given()).encode_all(samples, results))


@pytest.mark.parametrize("values", [([1], None), ([], [2.5]), ({"x": 1}, "a"), ("a", {"x": 1}), ([["a"], []], [[]])])
def test_what_fits_a_column_is_taken(values: tuple[Any, Any]) -> None:
    assert len(check([GOOD | {"column": value} for value in values], 2)) == 2


def test_what_is_declared_is_taken() -> None:
    found = check([GOOD, Drop("bad", "why")], 2)
    assert found[0].values["number"] == b"0.5" and found[1].drop == Drop("bad", "why")
    assert Given().provides[1].decode(found[0].values["vector"]).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("changed", "problem", "allowed"),
    [
        ({"number": [1]}, "field 'number'", "a number or a short text"),
        ({"number": float("nan")}, "number is not a finite number", "or None"),
        ({"number": np.float32("inf")}, "number is not a finite number", "or None"),
        ({"vector": [1, float("nan")]}, "number 1 is nan", "finite numbers"),
        ({"vector": [1e6]}, "number 0 is inf", "at most 65504"),
        ({"vector": ["x"]}, "field 'vector'", "an array of numbers"),
        ({"vector": np.ones((1, 1, 1))}, "1 or 2 dimensions", "an array of numbers"),
        ({"vector": [[1, 2], [3]]}, "field 'vector'", "an array of numbers"),
        ({"place": {"x": {1, 2}}}, "not JSON serializable", "JSON values"),
        ({"place": {1: 2}}, "field 'place'", "texts as keys"),
        ({"place": "\ud800"}, "field 'place'", "JSON values"),
        ({"place": {"x": [0.5, {"y": -float("inf")}]}}, "place.x[1].y is not a finite number", "or None"),
        ({"place": np.array([1.0, np.nan])}, "place is not a finite number", "or None"),
        ({"false": NEGATIVE}, "field 'false'", "a list of records (negatives)"),
        ({"false": ["a dog"]}, "record 0 is 'a dog' (str)", "a dictionary"),
        ({"false": [NEGATIVE | {"text": None}]}, "'text' of record 0 is None", "a text"),
        ({"false": [NEGATIVE, NEGATIVE | {"text": ""}]}, "'text' of record 1 is ''", "with something in it"),
        ({"false": [{"text": "a", "caption": 0, "operation": "swap"}]}, "'span_class' of record 0", "a text"),
        ({"false": [NEGATIVE | {"caption": 2}]}, "'caption' of record 0 is 2", "from 0 to 1"),
        ({"false": [NEGATIVE | {"caption": "0"}]}, "'caption' of record 0 is '0'", "from 0 to 1"),
        ({"false": [NEGATIVE | {"caption": True}]}, "'caption' of record 0 is True", "from 0 to 1"),
        ({"true": [VIEW | {"text": 3}]}, "'text' of record 0 is 3 (int)", "a text"),
        ({"true": [VIEW | {"family": None}]}, "'family' of record 0", "a text"),
        ({"lost": [{"caption": 0}]}, "'reason' of record 0 is None", "a text"),
        ({"false": [NEGATIVE | {"scores": {"a": 1}}]}, "'scores' of record 0", "a text, or left out"),
        ({"false": [NEGATIVE | {"difficulty": "0.5"}]}, "'difficulty' of record 0", "a number from 0 to 1"),
        ({"lost": [{"reason": "x", "caption": 0, "detail": 3}]}, "'detail' of record 0", "a text"),
        ({"column": [1, "a"]}, "field 'column'", "items are all numbers"),
        ({"column": [[1], ["a"]]}, "field 'column'", "items are all numbers"),
        ({"used": {"tokens": "3"}}, "field 'used'", "finite numbers by name"),
        ({"seen": {"words": float("nan")}}, "field 'seen'", "finite numbers"),
    ],
)
def test_a_field_that_is_something_else_is_refused(changed: dict[str, Any], problem: str, allowed: str) -> None:
    with pytest.raises(InputError) as error:
        check([GOOD | changed])
    said = str(error.value)
    assert "stage 'given' (test_stage_outputs.py" in said and uids_of(1)[0] in said
    assert problem in said and allowed in error.value.allowed


@pytest.mark.parametrize(
    ("results", "problem", "allowed"),
    [
        ([GOOD], "gave 1 results for 2 samples", "one result for each sample"),
        ([GOOD] * 3, "gave 3 results for 2 samples", "one result for each sample"),
        (None, "gave None (NoneType) for 2 samples", "a list"),
        (GOOD, "(dict) for 2 samples", "a list"),
        ([GOOD, None], "gave None (NoneType) for", "a dictionary of its fields, or a Drop"),
        ([GOOD, {"number": 1}], "gave the fields number for", "exactly those that it declares"),
        ([GOOD, GOOD | {"uid": "0"}], "place, seen, true, uid, used", "exactly those that it declares"),
        ([GOOD, Drop("worse")], "dropped", "a reason that it declares in drops (bad)"),
        ([GOOD, GOOD | {"column": ["a"]}], "lists of texts, lists of numbers before", "values of one kind"),
        ([GOOD, GOOD | {"column": 3}], "numbers, lists of numbers before", "values of one kind"),
        ([GOOD, GOOD | {"number": True}], "true or false, numbers before", "values of one kind"),
        ([GOOD, GOOD | {"vector": np.ones(4)}], "4 numbers each, 3 before", "vectors of one length"),
    ],
)
def test_results_that_do_not_fit_their_samples_are_refused(results: Any, problem: str, allowed: str) -> None:
    with pytest.raises(InputError) as error:
        check(results, 2)
    assert problem in str(error.value) and allowed in error.value.allowed


@dataclasses.dataclass(frozen=True)
class Numbered(IndexedStage):
    """Gives each sample a number; too few or too many of them when told to."""

    name = "numbered"
    requires = ("captions",)
    provides = (Field("number"),)
    source = "test"
    more: int = 0

    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        return Fit({"count": columns.num_samples})

    def results(self, columns: Columns, state: Fit) -> Any:
        return ({"number": number} for number in range(state.values["count"] + self.more))


@dataclasses.dataclass(frozen=True)
class Learning(FittedStage):
    """Learns what is no fit."""

    name = "learning"
    requires = ("captions",)
    provides = (Field("number"),)
    source = "test"

    def fit(self, columns: Columns) -> Any:
        return {"mean": 1}

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        return [{"number": 1} for _ in samples]


@dataclasses.dataclass(frozen=True)
class Raising(MapStage):
    """Raises for a sample."""

    name = "raising"
    requires = ("captions",)
    provides = (Field("number"),)
    source = "test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [{"number": 1 // 0} for _ in samples]


@dataclasses.dataclass(frozen=True)
class Stateless(Numbered):
    """Has no state."""

    name = "stateless"

    def update(self, columns: Columns, before: PreviousIndex | None) -> Any:
        return None


def test_the_engine_checks_stages_of_all_kinds(tmp_path: Path) -> None:
    snapshot = read_source(ScenesSource("6"), tmp_path / "intake", location="here")
    run: Callable[[Any], Any] = lambda stage: run_stages([stage], snapshot, tmp_path / "store")  # noqa: E731
    with pytest.raises(InputError, match="stage 'numbered' .* gave no result for"):
        run(Numbered(more=-1))
    with pytest.raises(InputError, match="stage 'numbered' .* gave more results than there are samples"):
        run(Numbered(more=1))
    with pytest.raises(InputError, match="stage 'learning' learned {'mean': 1}"):
        run(Learning())
    with pytest.raises(InputError, match="stage 'stateless' learned None"):
        run(Stateless())
    with pytest.raises(ZeroDivisionError) as error:
        run(Raising())
    assert "raised by stage 'raising' for 6 samples from" in error.value.__notes__[0]
