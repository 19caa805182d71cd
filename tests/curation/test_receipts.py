"""Receipts: unchanged samples are not read again, and what receipts say never outlives the results they were made from."""

from __future__ import annotations

import dataclasses
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from curation.engine import engine, receipts, replay
from curation.engine.engine import Events, UnitReport, run_stages, samples_after
from curation.engine.fits import FitPolicy
from curation.engine.intake import Snapshot, read_source
from curation.engine.receipts import RECEIPTS_FOLDER
from curation.engine.replay import FinishedStage, Replay
from curation.engine.stage import Drop, Field, MapStage, Stage
from curation.engine.store import ALL_SAMPLES, Partition, Store, partitions
from curation.forget.forget import plan_forget, run_forget
from curation.sources import SourceRecord
from curation.sources.scenes import ScenesSource
from curation.stages.hygiene.check_images import CheckImages
from curation.versions.numbering import VersionRequest, kept_fits, publish_version
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.sample import Sample
from tests.curation.test_fits import NEW_CAPTION, NUM_SCENES, STAGES, World, edited
from tests.curation.test_run import Listed

ANSWERS = ["first"]
"""What the model of `AskModel` says now."""


@dataclasses.dataclass(frozen=True)
class AskModel(MapStage):
    """A stage whose results may differ when they are computed again: a language model answered anew."""

    name: ClassVar[str] = "ask_model"
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (Field("answer", publish="sample"),)
    drops: ClassVar[tuple[str, ...]] = ("silent",)
    source: ClassVar[str] = "the test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [
            Drop("silent", sample.captions[0][:9]) if "silent" in sample.captions[0] else {"answer": ANSWERS[0]}
            for sample in samples
        ]


@dataclasses.dataclass(frozen=True)
class QuoteAnswer(MapStage):
    """A stage behind it."""

    name: ClassVar[str] = "quote_answer"
    requires: ClassVar[tuple[str, ...]] = ("answer",)
    provides: ClassVar[tuple[Field, ...]] = (Field("quoted", publish="sample"),)
    source: ClassVar[str] = "the test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [{"quoted": f"'{sample['answer']}'"} for sample in samples]


ASKING: tuple[Stage, ...] = (CheckImages(), AskModel(), QuoteAnswer())


@pytest.fixture(scope="module")
def records() -> list[SourceRecord]:
    return [item for item in ScenesSource(str(NUM_SCENES)).records() if isinstance(item, SourceRecord)]


def read(records: Sequence[SourceRecord], root: Path) -> Snapshot:
    return read_source(Listed(records), root / "intake", location="here")  # type: ignore[arg-type]


def ask(records: Sequence[SourceRecord], root: Path) -> tuple[list[int], Replay]:
    """Run the stages that ask; return how many samples each computed, and the samples after them."""
    snapshot = read(records, root)
    done, reports = run_stages(ASKING, snapshot, root / "store")
    return [report.num_computed for report in reports], Replay(snapshot, Store(root / "store"), ALL_SAMPLES, done)


def test_what_a_run_knows_is_published_without_being_looked_up_again(
    tmp_path: Path, records: list[SourceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = VersionRequest("toy", {"name": "test", "paper": "none"}, {"kind": "list"}, 2**20)
    silent = dataclasses.replace(records[5], captions=("silent one",))
    made: dict[str, list[str]] = {"handed over": [], "looked up": []}
    looked_up: set[str] = set()

    def noted(folder: Path, partition: Partition) -> Any:
        looked_up.add(folder.parent.name)
        return receipts.read_receipts(folder, partition)

    for how, fingerprints in made.items():
        root = tmp_path / how
        for texts in ([*records[:5], silent, *records[6:]], edited(records, 3)):
            samples, _ = samples_after(ASKING, snapshot := read(texts, root), root / "store")
            assert len(samples.dropped_uids()) == (texts[5] is silent)
            looked_up.clear()
            with monkeypatch.context() as patch:
                patch.setattr(replay, "read_receipts", noted)
                given = samples if how == "handed over" else None
                published = publish_version(
                    Catalog(root / "m", root), request, samples.finished, snapshot, root / "store", samples=given
                )
            assert looked_up == (
                {"quote_answer"} if given else {stage.name for stage in ASKING}
            )  # nobody asked the last one
            fingerprints.append(published.manifest.fingerprint)
    assert made["handed over"] == made["looked up"]
    assert len(set(made["looked up"])) == 2


def test_only_the_edited_sample_is_read(
    tmp_path: Path, records: list[SourceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(records, tmp_path)
    asked: list[str] = []
    whole = Snapshot.samples_of

    def noted(snapshot: Snapshot, uids: Sequence[str]) -> list[Sample]:
        asked.extend(uids)
        return whole(snapshot, uids)

    monkeypatch.setattr(Snapshot, "samples_of", noted)
    computed, samples = ask(edited(records, 3), tmp_path)
    assert computed == [0, 1, 0]  # the answer is the same, so what quotes it is
    edit = next(item.uid for item in read(edited(records, 3), tmp_path).samples() if item.captions[0] == NEW_CAPTION)
    assert set(asked) == {edit}
    assert len(samples.uids) == NUM_SCENES


def test_results_without_receipts_are_found_again(tmp_path: Path, records: list[SourceRecord]) -> None:
    world, again = World(tmp_path / "kept"), World(tmp_path / "lost")
    for each in (world, again):
        each.run(records)
    for folder in (tmp_path / "lost/store").rglob(RECEIPTS_FOLDER):
        shutil.rmtree(folder)
    made = []
    for each in (world, again):
        manifest, reports, _ = each.run(edited(records, 3))
        assert [report.num_computed for report in reports] == [0, 1, 1, 1]
        made.append(manifest.fingerprint)
    assert made[0] == made[1]
    # as in a workspace of an earlier release
    for folder in (tmp_path / "lost/store").rglob(RECEIPTS_FOLDER):
        shutil.rmtree(folder)
    done, reports = run_stages(STAGES, again.snapshot, tmp_path / "lost/store")
    assert [report.num_computed for report in reports] == [0, NUM_SCENES, 0, 0]  # learned anew, with the same results
    assert len(list((tmp_path / "lost/store").rglob(f"{RECEIPTS_FOLDER}/*.arrow"))) == 6
    assert done[0] == FinishedStage(STAGES[0])


def test_a_result_that_comes_out_otherwise_reaches_the_stages_behind(
    tmp_path: Path, records: list[SourceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(records, tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "ANSWERS", ["second"])
    computed, samples = ask(records, tmp_path)
    assert computed == [0, 0, 0]
    for path in (tmp_path / "store/ask_model").glob("*/*.parquet"):
        path.unlink()
    computed, samples = ask(records, tmp_path)
    assert computed == [0, NUM_SCENES, 1]  # all have one answer, which is one input
    assert {item.sample["quoted"] for item in samples.encoded(["quoted"])} == {"'second'"}


def test_a_damaged_file_of_receipts_is_named(tmp_path: Path, records: list[SourceRecord]) -> None:
    ask(records, tmp_path)
    (path,) = (tmp_path / "store/ask_model").rglob("*.arrow")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=f"{path.name}: file of receipts is damaged"):
        ask(records, tmp_path)
    path.unlink()
    assert ask(records, tmp_path)[0] == [0, 0, 0]


def test_receipts_of_many_edits_are_merged(
    tmp_path: Path, records: list[SourceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "_MOST_SMALL_FILES", 3)
    ask(records, tmp_path)
    texts = list(records)
    for number in range(6):
        texts = edited(texts, number, text=f"Caption {number} of an edit")
        computed, samples = ask(texts, tmp_path)
        assert computed == [0, 1, 0]
        assert len(samples.uids) == NUM_SCENES
    (folder,) = (tmp_path / "store" / "ask_model").glob(f"*/{RECEIPTS_FOLDER}")
    assert 1 <= len(list(folder.iterdir())) <= 3
    assert ask(texts, tmp_path)[0] == ask(records, tmp_path)[0] == [0, 0, 0]


def test_keys_differ_exactly_where_a_value_does(tmp_path: Path, records: list[SourceRecord]) -> None:
    changed = edited(records, 3)
    changed[5] = dataclasses.replace(changed[5], name="another name")
    found = []
    for number, rows in enumerate((records, changed)):
        _, samples = ask(rows, tmp_path / str(number))
        fields = {name: samples.keys((name,)) for name in ("uid", "captions", "name", "split", "answer", "image_info")}
        named = {item.uid: item.source.name for item in samples.encoded(())}
        found.append({name: dict(zip(samples.uids, keys, strict=True)) for name, keys in fields.items()} | {"": named})
    differ = {name: [uid for uid in found[0][name] if found[0][name][uid] != found[1][name][uid]] for name in found[0]}
    assert {name: len(uids) for name, uids in differ.items()} == {
        "uid": 0,
        "captions": 1,
        "name": 1,
        "split": 0,
        "answer": 0,
        "image_info": 0,
        "": 1,
    }
    assert differ["name"] == differ[""]
    assert len(set(found[0]["captions"].values())) > 1
    assert samples.keys(("captions", "name")) != samples.keys(("name", "captions"))


def by_partition(replayed: Replay, records: Sequence[SourceRecord], root: Path) -> list[bytes]:
    """Return the keys of all samples' answers, read partition by partition."""
    done = [FinishedStage(stage) for stage in ASKING]
    parts = [Replay(read(records, root), Store(root / "store"), part, done) for part in partitions(NUM_SCENES, 7)]
    assert len(parts) > 1
    assert [uid for part in parts for uid in part.uids] == replayed.uids
    return [key for part in parts for key in part.keys(("answer", "quoted"))]


def test_samples_of_two_partitions_with_the_same_input_have_both_a_result(
    tmp_path: Path, records: list[SourceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "partitions", lambda number: partitions(number, 7))
    monkeypatch.setattr(engine, "_FEW_LACKING", 1)
    ask(records, tmp_path)
    for place in range(1, NUM_SCENES, 5):
        rows = list(records)
        rows[place] = dataclasses.replace(rows[place], captions=rows[0].captions)
        _, samples = ask(rows, tmp_path)
        assert by_partition(samples, rows, tmp_path) == samples.keys(("answer", "quoted"))


def test_dropped_samples_are_left_out_and_named(tmp_path: Path, records: list[SourceRecord]) -> None:
    silent = edited(records, 2, 7, text="silent night")
    computed, samples = ask(silent, tmp_path)
    assert computed == [NUM_SCENES, NUM_SCENES, 1]  # all have one answer, which is one input
    drops = [(stage.name, sample.captions[0], drop) for stage, sample, drop in samples.drops()]
    assert drops == [("ask_model", "silent night", Drop("silent", "silent ni"))] * 2
    assert len(samples.uids) == samples.num_samples == NUM_SCENES - 2
    assert sorted(samples.dropped_uids()) == sorted(sample.uid for _, sample, _ in samples.drops())
    assert by_partition(samples, silent, tmp_path) == samples.keys(("answer", "quoted"))


def test_any_history_ends_in_the_same_samples(tmp_path: Path, records: list[SourceRecord]) -> None:
    draw, world = random.Random(0), World(tmp_path / "history")
    rows: list[Any] = list(records[:40])
    first, *_ = world.run(rows)
    fits = FitPolicy(kept_fits(world.catalog, first), given=True)
    for step in range(6):
        text = f"caption of step {step} {'x' * draw.choice([9, 1200])}"
        rows = edited(rows, *draw.sample(range(len(rows)), 3), text=text)
        rows = [*rows[:step], *rows[step + 1 :], records[40 + step]]
        for path in draw.sample(sorted((tmp_path / "history/store").rglob(f"*{draw.choice(['parquet', 'arrow'])}")), 2):
            path.unlink()
        world.run(rows, fits)
    fresh = World(tmp_path / "fresh")
    fresh.run(rows, fits)
    found = [{sample.uid: (sample.captions, sample.fields) for sample in each.samples()} for each in (world, fresh)]
    assert found[0] == found[1]
    assert 25 < len(found[0]) < 40  # some captions are so long that their samples are dropped


def test_partitions_in_which_few_samples_lack_a_result_are_one_unit(
    tmp_path: Path, records: list[SourceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "partitions", lambda number: partitions(number, 4))
    monkeypatch.setattr(engine, "_FEW_LACKING", 9)
    reports: list[UnitReport] = []
    events = Events(unit_done=lambda _, report: reports.append(report))
    done, _ = run_stages(ASKING[:1], read(records, tmp_path), tmp_path / "store", events=events)
    reused, *computed = (report.num_computed for report in reports)
    assert (reused, sum(computed)) == (0, NUM_SCENES)
    assert 9 <= min(computed[:-1]) <= max(computed) < 9 + 12
    assert (
        len(Replay(read(records, tmp_path), Store(tmp_path / "store"), ALL_SAMPLES, done).keys(("image_info",))) == 60
    )
    reports.clear()
    run_stages(ASKING[:1], read(records, tmp_path), tmp_path / "store", events=events)
    assert [(report.num_computed, report.num_reused) for report in reports] == [(0, NUM_SCENES)]


def test_forgetting_removes_all_receipts(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    world.run(records)
    assert list((tmp_path / "store").rglob("*.arrow"))
    run_forget(world.catalog, plan_forget(world.catalog, [world.samples()[7].uid]), lambda _uids, _texts: 0)
    assert not list((tmp_path / "store").rglob("*.arrow"))
