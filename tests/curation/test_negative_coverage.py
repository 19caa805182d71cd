"""No generator of negatives escapes the hard captions; the same records whatever the workers and batches."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from curation.engine.engine import run_stages
from curation.engine.intake import Snapshot, read_source
from curation.engine.replay import WorkUnit, replay
from curation.engine.stage import MapStage, Stage
from curation.engine.store import ALL_SAMPLES, partitions
from curation.sources.scenes import ScenesSource
from curation.stages import stage_classes
from curation.stages.hygiene.check_images import CheckImages
from curation.stages.negatives.negate_captions import NegateCaptions
from curation.stages.negatives.swap_words import SwapWords
from data_manifests.sample import Sample
from flows.execution.executors import local_executor
from flows.recipe import load_recipe
from tests.curation.negative_checks import operations, parsed, sample
from tests.curation.negative_golden_captions import CAPTIONS
from tests.curation.test_negative_edge_cases import ODD, odd_samples
from tests.curation.test_run import Listed

GOLDEN = Path(__file__).parents[1] / "golden/negatives_swap.txt"
"""Of `swap_words`, whose records are older than the others'; the others' is negatives.txt. Written anew the same way."""

CASES: dict[str, Callable[[str], object]] = {
    "no verb": lambda text: text == "A red car , a blue house and the tall tree .",
    "one word": lambda text: len(text.split()) == 1 and text.isalpha(),
    "nothing": lambda text: not text.strip(),
    "emoji": lambda text: "\N{DOG FACE}" in text,
    "200 words": lambda text: len(text.split()) >= 200 and len(set(text.split())) > 5,
    "200 times the same word": lambda text: len(text.split()) == 200 and len(set(text.split())) == 1,
    "upper case": lambda text: len(text.split()) > 3 and text.isupper(),
    "numbers": re.compile(r"\d+ \w+s\b").search,
    "hyphens": re.compile(r"\w-\w+ \w").search,
    "possessives": re.compile(r"\w's? ?'s |\w's \w|s' \w").search,
    "repeated nouns": lambda text: text == "A dog and a dog",
    "another language, Latin letters": lambda text: "Hund" in text,
    "another script": re.compile(r"[\u0400-\u04ff]+ ").search,
    "a script without spaces": re.compile(r"[\u4e00-\u9fff]{4}").search,
    "from right to left": re.compile(r"[\u0600-\u06ff]").search,
    "markup": re.compile(r"<\w+[^>]*>.*</\w+>").search,
    "control characters": re.compile(r"[\x00-\x08\x1b]").search,
}


@pytest.mark.parametrize("case", CASES)
def test_the_hard_captions_hold_every_case(case: str) -> None:
    assert any(CASES[case](text) for text in ODD)


def generators() -> list[type[Stage]]:
    """Return every stage that makes negatives; those that pass on what others made say what they consume."""
    found = stage_classes()
    made = [item for item in found if any(spec.role == "negatives" for spec in item.provides)]
    return [item for item in made if item.superseded_fields is Stage.superseded_fields]


@pytest.mark.parametrize("stage", generators(), ids=lambda stage: stage.name)
def test_every_generator_meets_the_hard_captions(stage: type[Stage]) -> None:
    """Those that need no more than captions and parses meet them by discovery; others in a test of their own."""
    if stage is SwapWords or stage.name in {item.name for item in operations()}:
        return
    own = Path(__file__).parent / f"test_{stage.name}.py"
    assert own.is_file(), f"{stage.name} needs more than captions and parses: give it a test file of its own"
    told = f"{own.name}: import ODD from tests.curation.test_negative_edge_cases and run {stage.name} over it"
    assert re.search(r"\bODD\b|\bodd_samples\b", own.read_text(encoding="utf-8")), told


def swapped(one: Sample) -> list[dict[str, Any]]:
    (result,) = SwapWords().process([one])
    assert isinstance(result, dict)
    records: list[dict[str, Any]] = result["swap_negatives"]
    return records


def test_swaps_over_hard_captions() -> None:
    num_records = 0
    for one in odd_samples():
        records = swapped(one)
        num_records += len(records)
        said = {" ".join(caption.casefold().split()) for caption in one.captions}
        assert orjson.loads(orjson.dumps(records)) == records
        for record in records:
            caption, text, done = one.captions[record["caption"]], "", 0
            for start, end, new_start, new_end in record["edits"]:
                assert done <= start <= end <= len(caption)
                text += caption[done:start]
                assert len(text) == new_start
                text += record["text"][new_start:new_end]
                done = end
            assert text + caption[done:] == record["text"]
            assert " ".join(record["text"].casefold().split()) not in said
    assert num_records > 20
    assert [swapped(one) for one in odd_samples()[::-1]][::-1] == [swapped(one) for one in odd_samples()]


def test_golden_swaps_of_fifty_captions() -> None:
    lines = []
    for one in parsed([sample(caption) for caption in CAPTIONS]):
        lines.append(orjson.dumps(one.captions[0]).decode())
        for record in swapped(one):
            text = orjson.dumps(record["text"]).decode()
            lines.append(
                f"    {record['span_class']} {record['type']}: {text}\n        {record['rule']} {record['edits']}"
            )
    text = "\n".join(lines) + "\n"
    if os.environ.get("CLIPCURATE_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), "outputs changed: raise the stage's version, then write it anew"


def chain() -> list[Stage]:
    recipe = load_recipe("fsc_clip").all_stages()
    place = [stage.name for stage in recipe].index("find_false_negatives")
    return [*recipe[:place], NegateCaptions(), *recipe[place:]]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Return pictures of scenes, each with four captions that people wrote, some of them odd."""
    texts = [text for text in (*CAPTIONS, *ODD[10:16], *ODD[16:24]) if text.strip()]
    records = [
        dataclasses.replace(record, captions=tuple(texts[4 * place : 4 * place + 4]))  # type: ignore[type-var]
        for place, record in enumerate(list(ScenesSource("12").records()))
    ]
    return read_source(Listed(records), tmp_path_factory.mktemp("intake"), location="here")  # type: ignore[arg-type]


def outputs(snapshot: Snapshot, store: Path, workers: int) -> dict[str, bytes]:
    """Return what every stage wrote, as bytes."""
    with local_executor(workers) as runner:
        done, _ = run_stages(chain(), snapshot, store, runner)
    found = {}
    for place, item in enumerate(done):
        names = [spec.name for spec in item.stage.provides]
        held = replay(WorkUnit(item.stage, tuple(done[: place + 1]), snapshot.folder, store, ALL_SAMPLES), names)
        found[item.stage.name] = b"".join(row.encoded[name] for row in held for name in names)
    return found


@pytest.mark.slow
def test_workers_batches_and_partitions_change_nothing(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = outputs(snapshot, tmp_path / "one", workers=1)
    assert list(one) == [stage.name for stage in chain()]
    assert isinstance(chain()[0], CheckImages) and len(one["grade_negatives"]) > 1000
    with monkeypatch.context() as patch:
        patch.setattr(MapStage, "batch_size", 4)
        assert outputs(snapshot, tmp_path / "small", workers=1) == one, "batches of 4"
    parts = partitions(snapshot.num_samples, 3)
    assert len(parts) == 4
    monkeypatch.setattr("curation.engine.engine.partitions", lambda _: parts)
    assert outputs(snapshot, tmp_path / "two", workers=2) == one, "two workers, four partitions"
