"""Fitted and indexed stages: one edit changes one sample, fits are kept while they hold, and results do not depend on history."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from curation.engine.engine import StageReport, samples_after
from curation.engine.fits import Evidence, Fit, FitCheck, FitPolicy, Overlap, fit_hash, sketch_of
from curation.engine.intake import read_source
from curation.engine.replay import WorkUnit, replay
from curation.engine.stage import Columns, Drop, Field, FittedStage, IndexedStage, MapStage, PreviousIndex, Stage
from curation.engine.store import ALL_SAMPLES
from curation.forget.forget import plan_forget, run_forget
from curation.sources import SourceRecord
from curation.sources.scenes import ScenesSource
from curation.stages.hygiene.check_images import CheckImages
from curation.versions.layout import Layout
from curation.versions.numbering import VersionRequest, fit_policy, kept_fits, publish_version, up_to_date
from curation.versions.publish import DEFAULT_SHARD_BYTES
from curation.versions.reshard import reshard
from data_manifests.diff import diff_versions
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, Manifest
from data_manifests.sample import Sample
from flows.execution.executors import local_executor
from tests.curation.test_run import Listed

NUM_SCENES = 60


@dataclasses.dataclass(frozen=True)
class CompareLength(FittedStage):
    """Whether the first caption is longer than the mean of the data set; drops the very long ones."""

    name: ClassVar[str] = "compare_length"
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (
        Field("is_long", publish="sample"),
        Field("length_evidence", role="evidence"),
    )
    drops: ClassVar[tuple[str, ...]] = ("huge",)
    source: ClassVar[str] = "the test"
    batch_size: ClassVar[int] = 7

    def fit(self, columns: Columns) -> Fit:
        lengths = [len(sample.captions[0]) for batch in columns.batches() for sample in batch]
        return Fit({"mean": sum(lengths) / len(lengths)}, {"lengths": np.array(lengths[:3])})

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        lengths = [len(sample.captions[0]) for sample in samples]
        return [
            Drop("huge", str(number))
            if number > 1000
            else {"is_long": number > fit.values["mean"], "length_evidence": {"length": number}}
            for number in lengths
        ]

    def check(self, fit: Fit, evidence: Evidence) -> Sequence[FitCheck]:
        mean = evidence.sums["length"] / (evidence.num_samples - evidence.num_dropped)
        return [FitCheck("change of the mean length", round(abs(mean / fit.values["mean"] - 1), 6), 0.05)]


@dataclasses.dataclass(frozen=True)
class FindNext(IndexedStage):
    """The sample with the next uid, and how many characters its first caption has."""

    name: ClassVar[str] = "find_next"
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (Field("next", publish="sidecar"),)
    source: ClassVar[str] = "the test"

    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        lengths = np.zeros(columns.num_samples, np.int64)
        known = np.zeros(columns.num_samples, bool)
        if before is not None:
            stays = before.row_now >= 0
            lengths[before.row_now[stays]] = before.state.arrays["lengths"][stays]
            known[before.row_now[stays]] = True
        row = 0
        for batch in columns.batches():
            for sample in batch:
                lengths[row] = lengths[row] if known[row] else len(sample.captions[0])
                row += 1
        return Fit(arrays={"lengths": lengths})

    def results(self, columns: Columns, state: Fit) -> Iterator[dict[str, Any] | Drop]:
        for row in range(columns.num_samples):
            other = (row + 1) % columns.num_samples
            yield {"next": f"{columns.uids[other]} {state.arrays['lengths'][other]}"}


@dataclasses.dataclass(frozen=True)
class ShoutLong(MapStage):
    """A stage behind the others."""

    name: ClassVar[str] = "shout_long"
    requires: ClassVar[tuple[str, ...]] = ("captions", "is_long")
    provides: ClassVar[tuple[Field, ...]] = (Field("shout", publish="sample"),)
    source: ClassVar[str] = "the test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [{"shout": sample.captions[0].upper() if sample["is_long"] else ""} for sample in samples]


STAGES: tuple[Stage, ...] = (CheckImages(), CompareLength(), FindNext(), ShoutLong())
LENGTH = 1
NEW_CAPTION = "a rather long new caption of a scene"


@pytest.fixture(scope="module")
def records() -> list[SourceRecord]:
    return [item for item in ScenesSource(str(NUM_SCENES)).records() if isinstance(item, SourceRecord)]


class World:
    """A workspace in which one data set is curated again and again."""

    def __init__(self, root: Path, workers: int = 1) -> None:
        self.catalog, self.root, self.workers = Catalog(root / "m", root), root, workers
        self.stages = STAGES

    def run(
        self, records: Sequence[SourceRecord], fits: FitPolicy | None = None
    ) -> tuple[Manifest, list[StageReport], str]:
        source = Listed(records)
        snapshot = read_source(source, self.root / "intake", location="here")  # type: ignore[arg-type]
        latest = self.catalog.latest("toy")
        policy = fits or (fit_policy(self.catalog, latest) if latest else FitPolicy())
        with local_executor(self.workers) as runner:
            samples, reports = samples_after(self.stages, snapshot, self.root / "store", runner, fits=policy)
            done = samples.finished
        request = VersionRequest("toy", {"name": "toy", "paper": ""}, source.describe(), DEFAULT_SHARD_BYTES)
        self.snapshot, self.done = snapshot, done
        made = publish_version(self.catalog, request, done, snapshot, self.root / "store")
        assert up_to_date(self.catalog, request, self.stages, snapshot) is not None
        return made.manifest, reports, made.why

    def samples(self) -> list[Sample]:
        unit = WorkUnit(STAGES[-1], tuple(self.done), self.snapshot.folder, self.root / "store", ALL_SAMPLES)
        return [item.sample for item in replay(unit, ["is_long", "next", "shout"])]


def edited(records: Sequence[SourceRecord], *places: int, text: str = NEW_CAPTION) -> list[Any]:
    return [
        dataclasses.replace(item, captions=(text, *item.captions[1:])) if place in places else item
        for place, item in enumerate(records)
    ]


def members(catalog: Catalog, manifest: Manifest) -> dict[str, bytes]:
    """Return the bytes of the JSON of each sample."""
    version = catalog.open(f"{manifest.name}@{manifest.version}")
    index = version.index(["uid", "shard", "json_offset", "json_bytes"]).to_pylist()
    tars = {shard: (version.folder / f"{shard:05d}.tar").read_bytes() for shard in {row["shard"] for row in index}}
    return {
        row["uid"]: tars[row["shard"]][row["json_offset"] : row["json_offset"] + row["json_bytes"]] for row in index
    }


def test_one_edited_caption_computes_and_changes_one_sample(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    first, reports, _ = world.run(records)
    assert [report.num_computed for report in reports] == [NUM_SCENES] * 4
    before = members(world.catalog, first)
    second, reports, why = world.run(edited(records, 3))
    assert [report.num_computed for report in reports] == [0, 1, 1, 1]
    assert (second.version, why) == ("2.0.0", "edited: 1 sample(s) changed, 0 removed, 0 added")
    after = members(world.catalog, second)
    changed = {uid for uid in before if before[uid] != after[uid]}
    edit = next(sample.uid for sample in world.samples() if sample.captions[0] == NEW_CAPTION)
    uids = sorted(before)
    assert changed == {edit, uids[uids.index(edit) - 1]}  # the one before names the edited caption
    diff = diff_versions(world.catalog.open("toy@1.0.0"), world.catalog.open("toy@2.0.0"))
    assert (diff.num_edited, diff.num_followed) == (1, 1)
    assert [sample.uid for sample in diff.edited] == [edit]
    assert [(sample.uid, sample.fields) for sample in diff.followed] == [(uids[uids.index(edit) - 1], ("next",))]
    fit = second.body["stages"][LENGTH]["fit"]
    assert fit["learned_on"] == "toy@1.0.0"
    assert fit["hash"] == first.body["stages"][LENGTH]["fit"]["hash"]
    assert [check["measure"] for check in fit["checks"]] == [
        "share of samples new to the fit",
        "change of the mean length",
    ]
    assert fit["checks"][0] == {"measure": "share of samples new to the fit", "figure": round(1 / 60, 6), "bound": 0.1}
    assert second.body["files"] == [
        item for item in second.body["files"] if (tmp_path / "datasets/toy/2.0.0" / item["name"]).is_file()
    ]


def test_a_fit_that_no_longer_holds_is_learned_anew(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    first, *_ = world.run(records)
    manifest, reports, why = world.run(edited(records, *range(7)))  # 11.7 % of the samples
    assert reports[LENGTH].fit is not None and reports[LENGTH].fit.why.startswith(
        "share of samples new to the fit is 0.1167"
    )
    assert manifest.body["stages"][LENGTH]["fit"]["learned_on"] == "toy@2.0.0"
    assert "fitted anew: compare_length" in why
    long = edited(edited(records, *range(7)), 9, text="x" * 990)
    _, reports, _ = world.run(long)  # few samples, but the mean moves
    assert reports[LENGTH].fit is not None and reports[LENGTH].fit.why.startswith("change of the mean length")
    assert first.version == "1.0.0"


def test_a_refit_alone_is_a_minor_version(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    world.run(records)
    world.run(edited(records, 3))
    manifest, reports, why = world.run(edited(records, 3), FitPolicy({}, frozenset({"*"})))
    assert reports[LENGTH].fit is not None and reports[LENGTH].fit.why == "requested"
    assert manifest.version == "2.1.0"
    diff = diff_versions(world.catalog.open("toy@2.0.0"), world.catalog.open("toy@2.1.0"))
    assert diff.num_edited == 0
    assert why.endswith("fitted anew: compare_length")


def test_requested_fits_are_used_without_checks_and_must_exist(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    first, *_ = world.run(records)
    fits = kept_fits(world.catalog, first)
    manifest, reports, _ = world.run(edited(records, *range(30)), FitPolicy(fits, given=True))
    assert reports[LENGTH].fit is not None and reports[LENGTH].fit.learned_on == "toy@1.0.0"
    assert not all(check.holds for check in reports[LENGTH].fit.checks)
    assert manifest.body["stages"][LENGTH]["fit"]["hash"] == fits["compare_length"].hash
    with pytest.raises(InputError, match="'compare_length' has no fit there"):
        FitPolicy({}, given=True).of("compare_length", "")
    with pytest.raises(InputError, match="other settings"):
        FitPolicy(fits, given=True).of("compare_length", "another")
    shutil.rmtree(tmp_path / "store" / "compare_length")
    fits["compare_length"].path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="the fit is damaged"):
        world.run(records, FitPolicy(fits, given=True))
    _, reports, _ = world.run(edited(records, 1), FitPolicy(fits))
    assert (
        reports[LENGTH].fit is not None and reports[LENGTH].fit.why == "the fit of toy@1.0.0 is not in this workspace"
    )


def test_lost_files_of_a_version_with_fits_are_restored(tmp_path: Path, records: list[SourceRecord]) -> None:
    """Its fits were learned then and are kept now; its manifest stays as it is."""
    world = World(tmp_path)
    for _ in range(2):
        made, *_ = world.run(records)
        shutil.rmtree(tmp_path / "datasets" / "toy" / "1.0.0")
        restored, _, why = world.run(records)
        assert restored.body == made.body and why == "files restored from the same inputs"


def test_the_reason_tells_fits_that_were_given_from_fits_learned_anew(
    tmp_path: Path, records: list[SourceRecord]
) -> None:
    world = World(tmp_path)
    fits = kept_fits(world.catalog, world.run(records)[0])
    changed = edited(records, *range(30))
    assert "fitted anew: compare_length" in world.run(changed, FitPolicy(fits, frozenset({"*"})))[2]
    why = world.run(changed, FitPolicy(fits, given=True))[2]
    assert "other fits than before: compare_length (toy@1.0.0)" in why and "fitted anew" not in why


def test_grown_in_steps_equals_built_at_once_with_the_same_fits(tmp_path: Path, records: list[SourceRecord]) -> None:
    grown, at_once = World(tmp_path / "grown"), World(tmp_path / "at_once", workers=2)
    first, *_ = grown.run(records[:20])
    fits = FitPolicy(kept_fits(grown.catalog, first), given=True)
    for number in range(1, 5):
        rows = edited(records[: 20 + 10 * number], *range(number), text=f"another caption {'again ' * number}")
        last, *_ = grown.run(rows, fits)
    rows = rows[5:]  # some are removed
    last, *_ = grown.run(rows, fits)
    made, *_ = at_once.run(rows, fits)
    fields = [
        {sample.uid: (sample.captions, sample.fields) for sample in world.samples()} for world in (grown, at_once)
    ]
    assert fields[0] == fields[1]
    assert len(fields[0]) == 55
    hashes = [{item["name"]: item["sha256"] for item in body["files"]} for body in (last.body, made.body)]
    for file in hashes:
        del file["croissant.json"]  # it names the version
    assert hashes[0] == hashes[1]


def test_a_sample_that_a_fit_drops_is_counted(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    world.run(records)
    manifest, reports, _ = world.run(edited(records, 5, text="x" * 1500))
    assert (reports[LENGTH].evidence.num_samples, reports[LENGTH].evidence.num_dropped) == (NUM_SCENES, 1)
    assert manifest.body["counts"]["dropped"] == {"compare_length": {"huge": 1}}


def test_lost_results_are_found_missing_although_the_partition_was_complete(
    tmp_path: Path, records: list[SourceRecord]
) -> None:
    world = World(tmp_path)
    world.run(records)
    for path in (tmp_path / "store" / "check_images").glob("*/*.parquet"):
        path.unlink()
    _, reports, _ = world.run(edited(records, 3))
    assert reports[0].num_computed == NUM_SCENES


def test_a_fit_is_a_file_of_numbers_that_equal_fits_share(tmp_path: Path) -> None:
    fit = Fit(
        {"b": [1, "two"], "a": None}, {"y": np.arange(3.0), "x": np.eye(2, dtype=np.float16)}, 5, sketch_of([b"a" * 16])
    )
    again = Fit({"a": None, "b": [1, "two"]}, {"x": fit.arrays["x"], "y": fit.arrays["y"]}, 5, fit.sketch)
    assert fit.to_bytes() == again.to_bytes()
    (tmp_path / "fit").write_bytes(fit.to_bytes())
    read = Fit.load(tmp_path / "fit")
    assert (dict(read.values), read.num_samples) == ({"b": [1, "two"], "a": None}, 5)
    assert {name: array.tolist() for name, array in read.arrays.items()} == {"x": [[1, 0], [0, 1]], "y": [0, 1, 2]}
    assert fit_hash(read.to_bytes()) == fit_hash(fit.to_bytes())
    (tmp_path / "fit").write_bytes(fit.to_bytes()[:-9])
    with pytest.raises(InputError, match="missing or damaged"):
        Fit.load(tmp_path / "fit")


@pytest.mark.parametrize("num", [50, 20_000])
def test_the_share_of_new_samples_is_estimated_from_the_sketch(num: int) -> None:
    ids = [np.random.default_rng(number).bytes(16) for number in range(num + num // 4)]
    fit = Fit(sketch=sketch_of(ids[:num]), num_samples=num)
    assert Overlap.of(fit, ids[:num]).share_new == 0
    share = Overlap.of(fit, ids[num // 4 :]).share_new
    assert share == pytest.approx((num // 4) / num, abs=1e-9 if num < 4096 else 0.03)


def test_forgetting_a_sample_removes_the_fits_that_were_learned_from_it(
    tmp_path: Path, records: list[SourceRecord]
) -> None:
    world = World(tmp_path)
    first, *_ = world.run(records)
    forgotten = world.samples()[7]
    plan = plan_forget(world.catalog, [forgotten.uid])
    run_forget(world.catalog, plan, lambda _uids, _texts: 0)
    assert not list((tmp_path / "store").glob("compare_length/*/fits/*"))
    assert not list((tmp_path / "datasets").rglob("fit_*"))
    renewed = world.catalog.latest("toy")
    assert renewed is not None and renewed.body["stages"][LENGTH]["fit"]["file"] == ""
    assert renewed.version != first.version
    again = [item for item in records if item.name != forgotten.name]
    manifest, reports, why = world.run(again)
    assert reports[LENGTH].fit is not None and reports[LENGTH].fit.num_samples == NUM_SCENES - 1
    assert manifest.body["stages"][LENGTH]["fit"]["learned_on"] == f"toy@{manifest.version}"
    assert "fitted anew: compare_length" in why


def test_a_fit_of_other_samples_survives_forgetting(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    world.run(records[:-1])
    known = {sample.uid for sample in world.samples()}
    world.run(records)
    uid = next(sample.uid for sample in world.samples() if sample.uid not in known)
    run_forget(world.catalog, plan_forget(world.catalog, [uid]), lambda _uids, _texts: 0)
    assert len(list((tmp_path / "store").glob("compare_length/*/fits/*.safetensors"))) == 1
    latest = world.catalog.latest("toy")
    assert latest is not None and kept_fits(world.catalog, latest)["compare_length"].path.is_file()


def test_a_resharded_version_has_its_fits(tmp_path: Path, records: list[SourceRecord]) -> None:
    world = World(tmp_path)
    first, *_ = world.run(records)
    made = reshard(world.catalog, "toy@1.0.0", Layout(2**20, "uid"))
    fits = kept_fits(world.catalog, made.manifest)
    assert (
        fits["compare_length"].path.read_bytes() == kept_fits(world.catalog, first)["compare_length"].path.read_bytes()
    )
