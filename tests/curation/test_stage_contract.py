"""What every stage promises, checked for all of them: a new file in curation/stages is found by itself."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from blake3 import blake3

from curation.dedup.evaluation_sets import EvaluationSets
from curation.engine.engine import run_stages
from curation.engine.fits import Evidence, Fit, fit_path
from curation.engine.intake import Snapshot, read_source
from curation.engine.replay import EncodedSample, FinishedStage, WorkUnit, replay
from curation.engine.stage import Drop, FittedStage, IndexedStage, MapStage, PreviousIndex, Stage
from curation.engine.store import ALL_SAMPLES, Store
from curation.knowledge.open_graph import SeedGraph
from curation.llm.client import ServedModel
from curation.llm.interface import AsksModel, LanguageModel
from curation.sources.scenes import ScenesSource
from curation.stages import stage_classes
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import canonical
from tests.curation.blank_models import ListedFills, Replacing, other_colour
from tests.curation.listed_columns import ListedColumns
from tests.curation.llm_servers import MODEL as LLM
from tests.curation.llm_servers import Server
from training.model.spec import ModelSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "stage_outputs.txt"
"""A line per stage: hash of its outputs, or ``floats`` where their last bits depend on processor and library version."""
NUM_SCENES = 24
MODEL = ModelSpec.parse("tiny")
REQUIRED: dict[str, object] = {
    "KnowledgeGraph": SeedGraph(),
    "EncoderSpec": MODEL,
    "EvaluationSets": EvaluationSets(),
    "MaskedModel": ListedFills(("large", "small", "cat", "ring", "sits", "purple", "house", "star")),
    "LanguageModel | RuleWriter": Replacing(other_colour),
}
"""Type of an argument without a default -> a value."""
SETTINGS: dict[str, object] = {
    "sensitive": ("scene_background_scenery:meadow",),
    "columns": ("scene.background.scenery", "scene.background.colour"),
    "labels": ("scene_background_colour:*",),
    "max_draws": 1,
    "min_label_count": 2,
    "num_pairs": 5000,
    "ranks": (1, 2),
    "rules": ("s_clip_loss 50%",),
    "samples_per_cluster": 6,
    "start_field": "s_clip_loss",
    "temperature": 0.07,
}
"""Argument -> a value that exercises more than the default does on a few scenes; for any stage that accepts it."""


def build_stage(stage_class: type[Stage]) -> Stage:
    """Return a stage with its defaults, the values of `REQUIRED` and, where allowed, those of `SETTINGS`."""
    arguments = {item.name: item for item in dataclasses.fields(stage_class)}
    required = {
        name: REQUIRED[str(item.type)]
        for name, item in arguments.items()
        if item.default is item.default_factory is dataclasses.MISSING
    }
    chosen = {name: SETTINGS[name] for name in arguments if name in SETTINGS and name not in required}
    if getattr(stage_class, "fields", None) == ("swap_negatives",):
        chosen["fields"] = ("swap_negatives", "replace_negatives")
    try:
        return stage_class(**required, **chosen)
    except InputError:
        return stage_class(**required)


def in_order(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return stages so that each finds the fields it requires; among those that can run, stages that drop samples last."""
    waiting = sorted(stages, key=lambda stage: (bool(stage.drops), not stage.provides, stage.name))
    ordered: list[Stage] = []
    while waiting:
        missing = {field.name for stage in waiting for field in stage.provides}
        ready = next((stage for stage in waiting if missing.isdisjoint(stage.required_fields())), None)
        assert ready is not None, f"stages that wait for each other: {[stage.name for stage in waiting]}"
        waiting.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


CHAIN = in_order([build_stage(stage_class) for stage_class in stage_classes()])

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[FinishedStage], Snapshot, Path]:
    root = tmp_path_factory.mktemp("contract")
    snapshot = read_source(ScenesSource(str(NUM_SCENES)), root / "intake", location="here")
    done, _ = run_stages(CHAIN, snapshot, root / "store")
    return done, snapshot, root / "store"


def before(built: tuple[list[FinishedStage], Snapshot, Path], stage: Stage) -> list[EncodedSample]:
    """Return the samples as a stage meets them."""
    done, snapshot, store = built
    upstream = tuple(done[: [item.name for item in CHAIN].index(stage.name)])
    return replay(WorkUnit(stage, upstream, snapshot.folder, store, ALL_SAMPLES), stage.required_fields())


@pytest.mark.parametrize("stage", CHAIN, ids=lambda stage: stage.name)
def test_pickles_and_keeps_its_fingerprint(stage: Stage) -> None:
    again = pickle.loads(pickle.dumps(stage))
    assert again == stage
    assert again.fingerprint() == stage.fingerprint()
    canonical(stage.identity())  # JSON, or this raises


def other_value(stage: Stage, name: str, value: float) -> Stage:
    """Return the stage with another value of a number; the next one may not be allowed, as for shares."""
    for other in (value + 1, value - 1):
        try:
            return dataclasses.replace(stage, **{name: other})
        except InputError:
            continue
    return dataclasses.replace(stage, **{name: (value + 1) / 2})


@pytest.mark.parametrize("stage", CHAIN, ids=lambda stage: stage.name)
def test_every_setting_is_in_the_fingerprint(stage: Stage) -> None:
    switches = {item.name: True for item in dataclasses.fields(stage) if getattr(stage, item.name) is False}
    with contextlib.suppress(InputError):
        stage = dataclasses.replace(stage, **switches)  # some settings are allowed with their switch only
    for item in dataclasses.fields(stage):
        value = getattr(stage, item.name)
        if isinstance(value, int | float):
            changed = other_value(stage, item.name, value)
        elif isinstance(value, ModelSpec):
            changed = dataclasses.replace(stage, **{item.name: ModelSpec.parse("tiny@1")})
        else:
            continue
        assert changed.fingerprint() != stage.fingerprint(), item.name


@pytest.mark.parametrize(
    "stage", [item for item in CHAIN if isinstance(item, MapStage | FittedStage)], ids=lambda stage: stage.name
)
def test_a_sample_alone_in_a_batch_and_elsewhere_gives_the_same_bytes(
    stage: MapStage | FittedStage, built: tuple[list[FinishedStage], Snapshot, Path]
) -> None:
    samples = [item.sample for item in before(built, stage)]
    process = stage.process if isinstance(stage, MapStage) else partial(stage.apply, fit=fit_of(built, stage))

    def encoded(result: dict[str, object] | Drop) -> list[object]:
        if isinstance(result, Drop):
            assert result.reason in stage.drops
            return [result]
        assert set(result) == {item.name for item in stage.provides}
        return [item.encode(result[item.name]) for item in stage.provides]

    together = [encoded(result) for result in process(samples)]
    assert [encoded(result) for result in process(samples[::-1])][::-1] == together
    assert [encoded(process([sample])[0]) for sample in samples[:3]] == together[:3]


def fit_of(built: tuple[list[FinishedStage], Snapshot, Path], stage: Stage) -> Fit:
    """Return the fit that a stage learned."""
    done, _, store = built
    key = next(item.key for item in done if item.stage.name == stage.name)
    return Fit.load(fit_path(Store(store).folder(stage), key))


@pytest.mark.parametrize(
    "stage", [item for item in CHAIN if isinstance(item, FittedStage)], ids=lambda stage: stage.name
)
def test_a_fit_does_not_depend_on_batches_and_holds_for_what_it_was_learned_from(
    stage: FittedStage, built: tuple[list[FinishedStage], Snapshot, Path]
) -> None:
    samples = [item.sample for item in before(built, stage)]
    fit = fit_of(built, stage)
    for batch in (3, 100):
        again = stage.fit(ListedColumns(samples, batch))
        assert replace(again, num_samples=fit.num_samples, sketch=fit.sketch).to_bytes() == fit.to_bytes()
    results = [item for item in stage.apply(samples, fit) if isinstance(item, dict)]
    numbers = [item[spec.name] for item in results for spec in stage.provides if spec.role == "evidence"]
    sums = {
        name: sum(item[name] for item in numbers if name in item) for name in {key for item in numbers for key in item}
    }
    checks = stage.check(fit, Evidence(len(samples), len(samples) - len(results), sums))
    assert [check for check in checks if not check.holds] == []


@pytest.mark.parametrize(
    "stage", [item for item in CHAIN if isinstance(item, IndexedStage)], ids=lambda stage: stage.name
)
def test_an_index_that_was_brought_up_to_date_equals_a_new_one(
    stage: IndexedStage, built: tuple[list[FinishedStage], Snapshot, Path]
) -> None:
    samples = [item.sample for item in before(built, stage)]
    columns = ListedColumns(samples)
    uids = list(columns.uids)
    expected = stage.update(columns, None)
    results = list(stage.results(columns, expected))
    assert len(results) == len(samples)
    some = ListedColumns([sample for row, sample in enumerate(columns.samples) if row % 3])
    # of the samples that stay, every fifth counts as edited
    row_now = np.array([-1 if row % 5 == 0 else uids.index(uid) for row, uid in enumerate(some.uids)])
    grown = stage.update(columns, PreviousIndex(stage.update(some, None), some.uids, row_now))
    assert grown.to_bytes() == expected.to_bytes()
    part = stage.update(
        some,
        PreviousIndex(expected, uids, np.array([some.uids.index(uid) if uid in some.uids else -1 for uid in uids])),
    )
    assert part.to_bytes() == stage.update(some, None).to_bytes()
    assert list(stage.results(columns, grown)) == results


def undeclared(stages: Sequence[Stage]) -> list[str]:
    """Return the stages that ask a language model and do not say what, so that `forget` would leave the answers."""
    asking = [stage for stage in stages if any(isinstance(one, LanguageModel) for one in stage.resources().values())]
    return [stage.name for stage in asking if not isinstance(stage, AsksModel)]


def test_a_stage_that_asks_a_model_declares_every_question(
    built: tuple[list[FinishedStage], Snapshot, Path], tmp_path: Path
) -> None:
    assert undeclared(CHAIN) == []
    asking: list[Any] = [stage for stage in CHAIN if isinstance(stage, AsksModel)]
    assert {stage.name for stage in asking} >= {"ask_negatives", "rewrite_captions"}
    for stage in asking:
        path = tmp_path / f"{stage.name}.sqlite"
        samples = [item.sample for item in before(built, stage)][:2]
        with Server() as server:  # answers the question backwards, so that every draw is asked for
            writer = ServedModel(LLM, server.url, str(path), slots=4)
            dataclasses.replace(stage, writer=writer, max_draws=2).process(samples)
        config = orjson.loads(canonical({**stage.config(), "max_draws": 2, "a_setting_of_before": 1}))
        plain = [Snapshot.load(built[1].folder).samples()[place] for place in range(NUM_SCENES)]
        declared = set(stage.question_keys(config, LLM, [one for one in plain if one.uid in {x.uid for x in samples}]))
        with closing(sqlite3.connect(path)) as journal:
            recorded = {key for (key,) in journal.execute("SELECT lower(hex(key)) FROM outcomes")}
        assert len(recorded) > 10 and recorded <= declared


def test_a_stage_that_asks_in_silence_is_found() -> None:
    @dataclasses.dataclass(frozen=True)
    class AskInSilence(MapStage):
        name = "ask_in_silence"
        writer: LanguageModel

        def process(self, samples: Sequence[Sample]) -> list[dict[str, object] | Drop]:
            return []

    assert undeclared([*CHAIN, AskInSilence(Replacing(other_colour))]) == ["ask_in_silence"]


def output_line(built: tuple[list[FinishedStage], Snapshot, Path], stage: Stage) -> str:
    """Return a stage's line for the golden file."""
    done, snapshot, store = built
    place = [item.stage.name for item in done].index(stage.name)
    names = [spec.name for spec in stage.provides]
    held = replay(WorkUnit(stage, tuple(done[: place + 1]), snapshot.folder, store, ALL_SAMPLES), names)
    digest = blake3(b"".join(row.encoded[name] for row in held for name in names)).hexdigest(length=16)
    return f"{stage.name} version {stage.version}: {digest}"


@pytest.mark.parametrize("stage", CHAIN, ids=lambda stage: stage.name)
def test_outputs_only_change_with_the_version(stage: Stage, built: tuple[list[FinishedStage], Snapshot, Path]) -> None:
    lines = {line.split()[0].rstrip(":"): line for line in GOLDEN.read_text(encoding="utf-8").splitlines()}
    golden = lines.get(stage.name, "")
    if golden.endswith("floats"):
        pytest.skip("the last bits of its outputs depend on processor and library version")
    line = output_line(built, stage)
    if os.environ.get("CLIPCURATE_WRITE_GOLDEN"):
        lines[stage.name] = golden = line
        GOLDEN.write_text("".join(f"{lines[name]}\n" for name in sorted(lines)), encoding="utf-8")
    if not golden:
        pytest.skip(f"no line in {GOLDEN.name} yet: CLIPCURATE_WRITE_GOLDEN=1 pytest {Path(__file__).name} adds it")
    assert line == golden, (
        "a stage's output changed: raise its `version`, then run this test with CLIPCURATE_WRITE_GOLDEN=1"
    )
