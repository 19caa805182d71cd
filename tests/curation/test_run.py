"""The engine on real scenes: incremental, independent of partitions and workers, safe against kills."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curation.engine.engine import StageReport, infrequent_garbage_collection, run_stages
from curation.engine.intake import Snapshot, read_source
from curation.engine.replay import FinishedStage
from curation.engine.stage import Drop, Field, MapStage, Stage, check_order
from curation.sources import RecordSplit, Rejected, SourceRecord
from curation.sources.scenes import ScenesSource
from curation.stages.hygiene.check_images import CheckImages
from curation.versions.numbering import PublishedVersion, VersionRequest, dataset_lock, publish_version, up_to_date
from curation.versions.publish import DEFAULT_SHARD_BYTES
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.sample import Sample
from flows.execution.executors import local_executor

NUM_SCENES = 60


@dataclasses.dataclass(frozen=True)
class CountWords(MapStage):
    """A stage cheap enough to run often, with a drop of its own."""

    name = "count_words"
    version = 1
    requires = ("captions",)
    provides = (Field("num_words", publish="sample"),)
    drops = ("too_short",)
    source = "test"
    batch_size = 7
    least: int = 1

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        counts = [sum(len(text.split()) for text in sample.captions) for sample in samples]
        return [Drop("too_short", f"{n} words") if n < self.least else {"num_words": n} for n in counts]


class Listed:
    """A source from a list of records."""

    kind = "listed"

    def __init__(self, records: Sequence[SourceRecord | Rejected]) -> None:
        self._records = records

    def splits(self) -> list[RecordSplit]:
        return [RecordSplit(lambda: self._records)]

    def signature(self) -> str:
        return str([(item.name, getattr(item, "captions", "")) for item in self._records])

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": "listed", "licence": "CC0-1.0", "split": None}


STAGES: tuple[Stage, ...] = (CheckImages(), CountWords())


@pytest.fixture(scope="module")
def records() -> list[SourceRecord]:
    return [item for item in ScenesSource(str(NUM_SCENES)).records() if isinstance(item, SourceRecord)]


def build(
    root: Path, records: Sequence[SourceRecord | Rejected], stages: Sequence[Stage] = STAGES, workers: int = 1
) -> tuple[PublishedVersion, list[StageReport], Snapshot, list[FinishedStage]]:
    source = Listed(records)
    snapshot = read_source(source, root / "intake", location="here")
    with local_executor(workers) as runner:
        done, reports = run_stages(stages, snapshot, root / "store", runner)
    request = VersionRequest("toy", {"name": "toy", "paper": ""}, source.describe(), DEFAULT_SHARD_BYTES)
    return publish_version(Catalog(root / "m", root), request, done, snapshot, root / "store"), reports, snapshot, done


def edited(records: Sequence[SourceRecord], place: int) -> list[SourceRecord]:
    changed = dataclasses.replace(records[place], captions=("a new text", *records[place].captions[1:]))
    return [*records[:place], changed, *records[place + 1 :]]


def test_one_edited_caption_redoes_one_sample(tmp_path: Path, records: list[SourceRecord]) -> None:
    first, reports, *_ = build(tmp_path, records)
    assert [report.num_computed for report in reports] == [NUM_SCENES, NUM_SCENES]
    second, reports, *_ = build(tmp_path, edited(records, 3))
    assert [(report.num_computed, report.num_reused) for report in reports] == [(0, NUM_SCENES), (1, NUM_SCENES - 1)]
    assert (first.manifest.version, second.manifest.version) == ("1.0.0", "2.0.0")
    assert second.why == "edited: 1 sample(s) changed, 0 removed, 0 added"
    assert second.manifest.body["parent"] == {"version": "1.0.0", "fingerprint": first.manifest.fingerprint}


def test_an_incremental_build_equals_a_fresh_one(tmp_path: Path, records: list[SourceRecord]) -> None:
    build(tmp_path / "a", records)
    incremental = build(tmp_path / "a", edited(records, 3))[0]
    fresh = build(tmp_path / "b", edited(records, 3))[0]
    assert incremental.manifest.body["shards"] == fresh.manifest.body["shards"]
    same = {"version", "parent", "fingerprint", "files"}  # the fresh one is a first version
    assert {k: v for k, v in incremental.manifest.body.items() if k not in same} == {
        k: v for k, v in fresh.manifest.body.items() if k not in same
    }


def test_two_workers_and_another_order_give_the_same_bytes(tmp_path: Path, records: list[SourceRecord]) -> None:
    one = build(tmp_path / "a", records)[0]
    two = build(tmp_path / "b", records[::-1], stages=(CheckImages(),), workers=2)[0]
    again = build(tmp_path / "c", records, stages=(CheckImages(),))[0]
    assert two.manifest.fingerprint == again.manifest.fingerprint
    assert one.manifest.fingerprint != again.manifest.fingerprint


def test_more_samples_extend_and_fewer_edit(tmp_path: Path, records: list[SourceRecord]) -> None:
    build(tmp_path, records[:40])
    assert build(tmp_path, records)[0].manifest.version == "1.1.0"
    assert build(tmp_path, records[:50])[0].manifest.version == "2.0.0"


def test_drops_and_refusals_are_on_record(tmp_path: Path, records: list[SourceRecord]) -> None:
    broken: list[SourceRecord | Rejected] = [
        SourceRecord(
            "cut.jpg", records[0].image[:2000] if isinstance(records[0].image, bytes) else b"", ("a cut image",)
        ),
        SourceRecord("none.jpg", b"GIF89a", ("no image",)),
        SourceRecord("blank.jpg", records[1].image, ("  ",)),
        dataclasses.replace(records[2], name="twin.jpg"),
        Rejected("gone.jpg", "missing_image", "not there"),
    ]
    shortest = min(sum(len(str(text).split()) for text in record.captions) for record in records)
    published, *_ = build(tmp_path, [*records, *broken], stages=(CheckImages(), CountWords(least=shortest + 1)))
    counts = published.manifest.body["counts"]
    dropped = counts["dropped"]
    assert dropped["intake"] == {"duplicate_image": 1, "empty_caption": 1, "missing_image": 1, "no_captions": 1}
    assert dropped["check_images"] == {"truncated_image": 1, "unsupported_format": 1}
    assert dropped["count_words"]["too_short"] > 0
    lost = sum(sum(reasons.values()) for reasons in dropped.values()) - dropped["intake"]["empty_caption"]
    assert counts["samples"] + lost == counts["records"]


def test_unchanged_inputs_are_up_to_date_until_a_file_is_lost(tmp_path: Path, records: list[SourceRecord]) -> None:
    published, _, snapshot, done = build(tmp_path, records)
    catalog = Catalog(tmp_path / "m", tmp_path)
    request = VersionRequest("toy", {"name": "toy", "paper": ""}, Listed(records).describe(), DEFAULT_SHARD_BYTES)
    assert up_to_date(catalog, request, STAGES, snapshot) is not None
    (catalog.folder("toy", "1.0.0") / "00000.tar").unlink()
    assert up_to_date(catalog, request, STAGES, snapshot) is None
    restored = publish_version(catalog, request, done, snapshot, tmp_path / "store")
    assert not restored.created
    assert restored.manifest.fingerprint == published.manifest.fingerprint
    assert catalog.open("toy").verify() == []


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "m", tmp_path)
    with dataset_lock(catalog, "toy"), pytest.raises(InputError, match=str(os.getpid())), dataset_lock(catalog, "toy"):
        pass


def test_stages_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="already does"):
        check_order([CountWords(), CountWords(least=2)])


_VICTIM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.curation import test_run
from curation.sources import SourceRecord
from curation.sources.scenes import ScenesSource
records = [item for item in ScenesSource(str(test_run.NUM_SCENES)).records() if isinstance(item, SourceRecord)]
print("ready", flush=True)
test_run.build(Path(sys.argv[1]), records)
"""


def test_kills_cost_nothing_but_time(tmp_path: Path, records: list[SourceRecord]) -> None:
    whole = build(tmp_path / "whole", records)[0]
    command = [sys.executable, "-c", _VICTIM, str(tmp_path / "killed"), str(Path(__file__).parents[2])]
    for delay_s in (0.02, 0.1, 0.3):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
    rest = build(tmp_path / "killed", records)[0]
    assert rest.manifest.fingerprint == whole.manifest.fingerprint
    assert Catalog(tmp_path / "killed" / "m", tmp_path / "killed").open("toy").verify() == []


def test_the_cycle_collector_is_as_before_after_work_that_fails() -> None:
    before, during = gc.get_threshold(), []

    def work() -> None:
        with infrequent_garbage_collection():
            during.append(gc.get_threshold()[0])
            raise KeyError("a stage")

    with pytest.raises(KeyError):
        work()
    assert during[0] > before[0]
    assert gc.get_threshold() == before
