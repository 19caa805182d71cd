"""Forgetting: nothing of a sample is left anywhere, the rest is untouched, and a kill costs only another call."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
import pytest

from curation.engine.denylist import FORGET_PLAN_FILE, Denylist, check_no_interrupted_forget
from curation.engine.engine import run_stages
from curation.engine.fits import Fit
from curation.engine.intake import read_source
from curation.engine.stage import Columns, Drop, Field, IndexedStage, MapStage, PreviousIndex, Stage
from curation.forget.find import other_captions
from curation.forget.forget import ForgetPlan, complete_uids, plan_forget, run_forget
from curation.llm.interface import Answer
from curation.llm.journal import Journal, entry_of
from curation.sources.folder import FolderSource
from curation.stages.captions.rewrite_captions import RewriteCaptions
from curation.stages.hygiene.check_images import CheckImages
from curation.versions.numbering import VersionRequest, publish_version
from curation.versions.reuse import record_path
from data_manifests.absence import OriginalSample, search_traces
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, Manifest
from data_manifests.sample import Sample
from tests.data_manifests.built_versions import Given, picture
from training.batches.activation_cache import ActivationStore, forget_activations, text_name

ROOT = Path(__file__).resolve().parents[2]
NUM = 8
"""One of each colour: pictures of one colour share bytes."""


@dataclass(frozen=True)
class Neighbours(IndexedStage):
    """Names the two samples beside each, and quotes the first caption of the next."""

    name: ClassVar[str] = "neighbours"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (
        Field("beside", publish="sample"),
        Field("likeness", publish="sample"),
        Field("quoted", publish="sample", role="negatives"),
    )
    source: ClassVar[str] = "the test"

    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        return Fit()

    def results(self, columns: Columns, state: Fit) -> Iterator[dict[str, Any] | Drop]:
        uids = columns.uids
        texts = [sample.captions for batch in columns.batches() for sample in batch]
        record = {
            "caption": 0,
            "operation": "quote",
            "span_class": "caption",
            "type": "object",
            "edits": [],
            "rule": "t",
        }
        around = [(place - 1, (place + 1) % len(uids)) for place in range(len(uids))]
        yield from [
            {"beside": [uids[a], uids[b]], "likeness": [0.1, 0.2], "quoted": [{**record, "text": texts[b][0]}]}
            for a, b in around
        ]


@dataclass(frozen=True)
class Echo(MapStage):
    """A map stage behind the indexed stage: its rows, known by other samples' inputs, hold uids too."""

    name: ClassVar[str] = "echo"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("beside",)
    provides: ClassVar[tuple[Field, ...]] = (Field("echoed"),)
    source: ClassVar[str] = "the test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [{"echoed": ["again", *sample["beside"]]} for sample in samples]


STAGES: tuple[Stage, ...] = (CheckImages(), Given(), Neighbours(), Echo())


class World:
    """A workspace with versions, answers and caches, and the photographs outside of it."""

    def __init__(self, root: Path) -> None:
        self.photos, self.catalog = root / "photos", Catalog(root / "m", root / "w")
        self.uids: dict[int, str] = {}
        self.texts: dict[int, tuple[str, ...]] = {}

    def curate(self, numbers: Sequence[int], name: str = "toy", stages: Sequence[Stage] = STAGES) -> str:
        """Publish the next version of some pictures; return its number."""
        shutil.rmtree(self.photos, ignore_errors=True)
        self.photos.mkdir(parents=True)
        lines = []
        for number in numbers:
            item = picture(number)
            self.uids[number], self.texts[number] = item.draw(self.photos / f"{number}.png"), item.captions
            given = {"given_negatives": item.negatives, "cluster_id": item.cluster_id, "difficulty": item.difficulty}
            given["rewrites"] = [text.lower() for text in item.captions]
            row = {"file_name": f"{number}.png", "captions": item.captions, "split": "train", "given": given}
            lines.append(orjson.dumps(row))
        (self.photos / "captions.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        space = self.catalog.workspace
        forgotten = Denylist.load(self.catalog.manifests)
        snapshot = read_source(FolderSource(str(self.photos)), space / "intake", location="here", denylist=forgotten)
        done, _ = run_stages(list(stages), snapshot, space / "store")
        request = VersionRequest(
            name, {"name": "t", "paper": "none"}, {"kind": "folder", "name": "p", "licence": None}, 9_000
        )
        return publish_version(self.catalog, request, done, snapshot, space / "store").manifest.version

    def originals(self, *numbers: int) -> dict[str, OriginalSample | None]:
        """Return what was forgotten, read from outside of the workspace."""
        found: dict[str, OriginalSample | None] = {}
        for number in numbers:
            item = picture(number)
            uid = item.draw(self.photos.parent / "again.png")
            found[uid] = OriginalSample((self.photos.parent / "again.png").read_bytes(), item.captions)
        return found

    def places(self, *numbers: int) -> list[str]:
        """Return where anything of some pictures is left."""
        originals = self.originals(*numbers)
        others = other_captions(self.catalog, frozenset(originals))
        return search_traces([self.catalog.workspace, self.catalog.manifests], originals, others).places

    def forget(self, *numbers: int) -> Any:
        """Forget pictures."""
        todo = plan_forget(self.catalog, [self.uids[number] for number in numbers])
        return run_forget(self.catalog, todo, self.caches)

    def caches(self, uids: Sequence[str], texts: Sequence[str]) -> int:
        names = {*uids, *(text_name(text) for text in texts)}
        return forget_activations(self.catalog.workspace / "activations", names)

    def payloads(self, version: str) -> dict[str, dict[str, Any]]:
        """Return the sidecars' rows by uid."""
        opened = self.catalog.open(f"toy@{version}")
        shards = range(len(opened.manifest.body["shards"]))
        return {row["uid"]: row for shard in shards for row in opened.sidecar(shard).to_pylist()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.curate(range(NUM - 2))
    made.curate(range(NUM))
    return made


def test_nothing_is_left_and_the_rest_is_as_it_was(world: World) -> None:
    space = world.catalog.workspace
    cache = ActivationStore(space / "activations" / "image" / "trunk", ())
    cache.add([world.uids[3], world.uids[4]], np.ones((2, 4), np.float32))
    texts = [text_name(world.texts[3][0]), text_name("words of nobody")]
    ActivationStore(space / "activations" / "text" / "trunk", ()).add(texts, np.ones((2, 4), np.float32))
    (space / "benchmarks").mkdir()
    (space / "benchmarks" / "order-1.json").write_bytes(orjson.dumps([world.texts[3][0]]))
    fits = next((space / "store" / "given").iterdir()) / "fits" / "ab"
    fits.mkdir(parents=True)
    (fits / "words.json").write_bytes(orjson.dumps([world.texts[7][0].upper().replace(" ", "  ")]))
    (fits / "numbers.json").write_bytes(b"[1, 2]")
    before = world.payloads("1.1.0")
    assert len(world.places(3, 7)) > 20
    report = world.forget(3, 7)
    assert world.places(3, 7) == []
    assert report.removed == {"toy@1.0.0": "toy@2.0.0", "toy@1.1.0": "toy@3.0.0"}
    assert [path.name for path in fits.iterdir()] == ["numbers.json"]
    assert report.cached == 4 and report.snapshots == 2 and report.rows > 0 and report.purged > 0
    assert world.catalog.versions("toy") == ["2.0.0", "3.0.0"]
    gone = {world.uids[3], world.uids[7]}
    after = world.payloads("3.0.0")
    assert set(after) == set(before) - gone
    for uid, row in after.items():
        old = before[uid]
        kept = [place for place, other in enumerate(old["beside"]) if other not in gone]
        assert row["beside"] == [old["beside"][place] for place in kept]
        assert row["likeness"] == [old["likeness"][place] for place in kept]
        assert [item["text"] for item in row["negatives"]] == [
            item["text"] for item in old["negatives"] if item["text"] not in {world.texts[3][0], world.texts[7][0]}
        ]
        for name in ("captions", "sha256", "width", "cluster_id", "difficulty"):
            assert row[name] == old[name]
    new = world.catalog.open("toy@3")
    assert new.verify() == [] and world.catalog.open("toy@2").verify() == []
    body = new.manifest.body
    assert body["counts"]["dropped"]["forget"] == {"forgotten": 2} and body["counts"]["samples"] == NUM - 2
    assert body["parent"]["version"] == "2.0.0"
    assert body["parent"]["fingerprint"] == world.catalog.open("toy@2").manifest.fingerprint
    for row in new.index().to_pylist():
        assert row["num_negatives"] == len(after[row["uid"]]["negatives"])


def test_hashes_of_purged_samples_are_those_a_new_curation_gives(world: World) -> None:
    plain: tuple[Stage, ...] = (CheckImages(), Given())
    world.curate(range(NUM), "plain", plain)
    world.forget(5)
    kept = world.catalog.open("plain").index().drop_columns(["shard", "key"]).to_pylist()
    world.curate([number for number in range(NUM) if number != 5], "again", plain)
    rows = {row["uid"]: row for row in world.catalog.open("again").index().to_pylist()}
    assert len(kept) == NUM - 1
    for row in kept:
        assert {name: rows[row["uid"]][name] for name in row if name[:2] == "h_"} == {
            name: row[name] for name in row if name[:2] == "h_"
        }


def test_it_is_refused_from_then_on_without_its_name(world: World) -> None:
    world.forget(3)
    version = world.curate(range(NUM))
    assert world.catalog.open(f"toy@{version}").table("dropped.parquet").to_pylist() == [
        {"uid": "", "name": "", "stage": "intake", "reason": "forgotten", "detail": ""}
    ]
    assert world.places(3) == []
    listed = (world.catalog.manifests / "forgotten.json").read_text()
    assert world.uids[3] not in listed and "toy@1.0.0" in listed
    (world.catalog.manifests / "forgotten.json").write_text("[]")
    with pytest.raises(InputError, match="not a list of forgotten samples"):
        world.curate(range(NUM))


def test_words_that_another_sample_has_too_are_not_counted(world: World) -> None:
    todo = plan_forget(world.catalog, [world.uids[3]])
    assert todo.traces.captions == [world.texts[3][0]]  # the second caption is the same for all
    originals = world.originals(3)
    found = search_traces([world.catalog.workspace], originals, other_captions(world.catalog, frozenset(originals)))
    assert found.shared == ["One ball on a plain ground"]


def test_a_plan_changes_nothing(world: World) -> None:
    def all_bytes() -> dict[Path, bytes]:
        roots = (world.catalog.workspace, world.catalog.manifests)
        return {path: path.read_bytes() for root in roots for path in sorted(root.rglob("*")) if path.is_file()}

    before = all_bytes()
    todo = plan_forget(world.catalog, [world.uids[0]])
    assert todo.renewed == {"toy": [("1.0.0", "2.0.0"), ("1.1.0", "3.0.0")]} and len(todo.traces.rows) >= 2
    assert all_bytes() == before


def test_the_newest_version_stays_the_newest(world: World) -> None:
    last = world.curate([number for number in range(NUM) if number != 3])
    assert last == "2.0.0"
    world.forget(3)
    assert world.catalog.versions("toy") == ["3.0.0", "4.0.0", "5.0.0"]
    assert len(world.payloads("5.0.0")) == NUM - 1 and len(world.payloads("3.0.0")) == NUM - 3


def test_forgetting_all_that_there_is(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.curate([1, 2])
    report = world.forget(1, 2)
    assert report.removed == {"toy@1.0.0": None} and world.catalog.versions("toy") == []
    assert world.places(1, 2) == []
    with pytest.raises(InputError, match="no usable sample among 2 records; most often forgotten"):
        world.curate([1, 2])


def test_uids_must_be_known_and_unique(world: World) -> None:
    uid = world.uids[0]
    assert complete_uids(world.catalog, "toy", [uid[:12], uid]) == [uid]
    for wanted, said in (("ffffffffffff", "no sample has the uid"), ("", "no sample has the uid")):
        with pytest.raises(InputError, match=said):
            complete_uids(world.catalog, "toy", [wanted])
    twice = next(a[0] for a in world.uids.values() if sum(b[0] == a[0] for b in world.uids.values()) > 1)
    with pytest.raises(InputError, match="samples' uids start with"):
        complete_uids(world.catalog, "toy", [twice])


def test_shards_that_versions_share_are_written_anew_not_changed(tmp_path: Path) -> None:
    world, stages = World(tmp_path), (CheckImages(), Given())
    world.curate(range(NUM), stages=stages)
    number_of = {uid: number for number, uid in world.uids.items()}
    in_order = [number_of[uid] for uid in world.catalog.open("toy").index(["uid"])["uid"].to_pylist()]
    world.curate([number for number in range(NUM) if number != in_order[-1]], stages=stages)
    shard, other = (world.catalog.folder("toy", number) / "00000.tar" for number in ("1.0.0", "2.0.0"))
    assert shard.samefile(other)
    with shard.open("rb") as file:
        before = file.read()
        world.forget(in_order[0])
        file.seek(0)
        assert file.read() == before
    assert world.places(in_order[0]) == []
    assert not record_path(world.catalog, "toy").exists()


def test_answers_about_it_leave_the_journal(world: World) -> None:
    space = world.catalog.workspace
    stage = RewriteCaptions(max_draws=2)
    requests = stage.requests_to("some-model")
    journal = Journal(space / "answers.sqlite")

    def record(number: int, index: int, draw: int, text: str) -> None:
        request = requests.build(world.uids[number], index, world.texts[number][index], "laclip/coco", draw)
        journal.record([entry_of(request.key, request, Answer(text))])

    for number in (3, 4):
        record(number, 0, 0, f"A rewritten ball of picture {number}")
        record(number, 1, 1, f"Never used, of picture {number}")
    request = requests.build(world.uids[5], 0, "x", "laclip/coco", 0)
    journal.record([entry_of(request.key, request, Answer(f"as in: {world.texts[3][0]}"))])
    journal.close()
    about = {
        "name": stage.name,
        "fingerprint": "f",
        "requires": list(stage.required_fields()),
        "config": stage.config(),
    }
    (space / "store" / stage.name / "f").mkdir(parents=True)
    (space / "store" / stage.name / "f" / "stage.json").write_bytes(orjson.dumps(about))
    assert world.forget(3).answers == 3
    left = b"".join(path.read_bytes() for path in space.glob("answers.sqlite*"))
    assert b"of picture 4" in left and b"of picture 3" not in left and world.places(3) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from curation.forget.forget import run_forget, plan_forget
from data_manifests.manifest import Catalog, Manifest
from training.batches.activation_cache import forget_activations
left = int(sys.argv[4])
def progress(what):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
catalog = Catalog(Path(sys.argv[1]), Path(sys.argv[2]))
run_forget(catalog, plan_forget(catalog, [sys.argv[3]]), lambda uids, texts: 0, progress)
"""


@pytest.mark.parametrize("step", [2, 4])
def test_killed_in_the_middle_and_finished_by_the_next_call(world: World, step: int, tmp_path: Path) -> None:
    twin = World(tmp_path / "twin")
    twin.curate(range(NUM - 2))
    twin.curate(range(NUM))
    twin.forget(3)
    places = [str(world.catalog.manifests), str(world.catalog.workspace), world.uids[3], str(step)]
    child = subprocess.run([sys.executable, "-c", KILLED, *places], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match="forget was interrupted"):
        check_no_interrupted_forget(world.catalog.workspace)
    half = ForgetPlan.load(world.catalog.workspace)
    assert half is not None
    run_forget(world.catalog, half, world.caches)
    assert world.places(3) == [] and not (world.catalog.workspace / FORGET_PLAN_FILE).exists()
    for version in ("2.0.0", "3.0.0"):
        mine, theirs = (one.catalog.manifest_path("toy", version).read_bytes() for one in (world, twin))
        assert mine == theirs
    assert world.catalog.versions("toy") == ["2.0.0", "3.0.0"] and world.catalog.open("toy").verify() == []


def test_rows_of_a_folder_that_nobody_can_attribute_go_whole(world: World) -> None:
    for path in (world.catalog.workspace / "store").glob("*/*/stage.json"):
        path.unlink()
    for path in world.catalog.manifests.glob("toy/*.json"):
        body = orjson.loads(path.read_bytes())
        for stage in body.get("stages", ()):
            stage.pop("requires", None)
        Manifest.seal(body).save(path)
    world.forget(3)
    assert world.places(3) == [] and not list((world.catalog.workspace / "store").rglob("*.parquet"))
