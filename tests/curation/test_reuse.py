"""A version takes from the one before it what stays the same; its bytes are those of writing everything."""

from __future__ import annotations

import errno
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from curation.blind.judges import PairSample
from curation.engine.stage import Drop, Field, MapStage
from curation.stages.hygiene.check_images import CheckImages
from curation.versions import publish, tables, write_shards
from curation.versions.layout import Layout
from curation.versions.reshard import reshard
from curation.versions.reuse import record_path
from curation.versions.write_shards import ProcessMap
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.sample import Sample
from tests.data_manifests.built_versions import Picture, build, negative, picture

STEPS = 5
NUM = 36
NEGATIVES = 12


@dataclass(frozen=True)
class Everything(MapStage):
    """Adds a field of every kind that is published or counted, from the sample's attributes."""

    name: ClassVar[str] = "everything"
    requires: ClassVar[tuple[str, ...]] = ("attributes", "captions", "uid")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("own_negatives", publish="sample", role="negatives"),
        Field("rewrite", publish="sample", role="views"),
        Field("refused", role="rejects"),
        Field("spent", role="usage"),
        Field("bound", role="finding"),
        Field("cluster_id", publish="index"),
        Field("difficulty", publish="index"),
        Field("share", publish="index"),
        Field("mixed", publish="sample"),
        Field("nested", publish="sidecar"),
        Field("image_vector", "array", "sidecar"),
        Field("text_vectors", "array", "sidecar"),
    )
    drops: ClassVar[tuple[str, ...]] = ("unwanted",)
    source: ClassVar[str] = "the test"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [self._result(sample) for sample in samples]

    def _result(self, sample: Sample) -> dict[str, Any] | Drop:
        given, number = sample.attributes["given"], sample.attributes["seed"]
        if number % 7 == 6:
            return Drop("unwanted", f"seed {number}")
        draw = np.random.default_rng([number, int(sample.uid[:8], 16)])
        reasons = ["clumsy", "true"][: number % 3]
        return {
            "own_negatives": given["given_negatives"] * (number % NEGATIVES + 2),
            "rewrite": [{"text": f"view {number}", "caption": 0, "family": "rule", "rule": ""}] * (number % 2),
            "refused": [
                {"reason": why, "text": f"refused {number}", "caption": 0, "rule": "", "detail": ""} for why in reasons
            ],
            "spent": {"tokens": number},
            "bound": 0.5,
            "cluster_id": given["cluster_id"],
            "difficulty": given["difficulty"],
            # columns whose type depends on all values, of the index or of a shard
            "share": [None, 1, 2.5][number % 3],
            "mixed": [None, 1, 2.5][number % 3],
            "nested": [{"a": number}, None, {"b": [], "a": "x"}][number % 3],
            "image_vector": draw.random(4),
            "text_vectors": draw.random((len(sample.captions), 4)),
        }


STAGES = (CheckImages(), Everything())


def made(root: Path, pictures: Sequence[Picture], processes: ProcessMap = map) -> DatasetVersion:
    return build(root, "toy", pictures, STAGES, processes=processes)


def elsewhere(work: Callable[[Any], Any], values: Iterable[Any]) -> Iterator[Any]:
    """Call a function as another process would: it has copies of everything."""
    for value in values:
        here, there = pickle.loads(pickle.dumps((work, value)))
        yield pickle.loads(pickle.dumps(here(there)))


def seeded(number: int, seed: int, **fields: Any) -> Picture:
    return picture(number, extra={"seed": seed}, **fields)


def first_pictures() -> list[Picture]:
    return [seeded(number, number) for number in range(NUM)]


def changed(pictures: Sequence[Picture], draw: np.random.Generator) -> list[Picture]:
    """Return the pictures with one step of changes: edits, other clusters, new ones, removed ones."""
    result = list(pictures)
    kind = draw.integers(4)
    for place in draw.choice(len(result), 1 + int(draw.integers(3)), replace=False).tolist():
        old, seed = result[place], int(draw.integers(60))
        if kind == 0:
            result[place] = seeded(old.number, seed)
        elif kind == 1:
            text = f"A ball with {seed} stripes"
            edit = negative(0, text, 2, 6, "cube")
            result[place] = replace(old, captions=(text, old.captions[0]), negatives=(edit,))
        elif kind == 2:
            result[place] = replace(old, cluster_id=(old.cluster_id + 1) % 3)
        else:
            result.append(seeded(100 + seed, seed))
    if kind == 3:
        result.pop(int(draw.integers(NUM - 4)))
    return list({item.number: item for item in result}.values())


def files(version: DatasetVersion) -> dict[str, bytes]:
    """Return the bytes of a version's files, except the description, which has the version's number."""
    return {path.name: path.read_bytes() for path in version.folder.iterdir() if path.name != "croissant.json"}


def described(version: DatasetVersion) -> Mapping[str, Any]:
    return {name: version.manifest.body[name] for name in ("shards", "counts", "statistics", "fields")}


@pytest.mark.parametrize("seed", range(2))
def test_a_version_made_from_an_earlier_one_has_the_bytes_of_writing_everything(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_REJECTS_IN_MEMORY", 7)
    monkeypatch.setattr(publish, "SAMPLES_PER_SPAN", 9)
    for module in (publish, write_shards):
        monkeypatch.setattr(module, "FEW_SAMPLES", 0)
    draw, pictures = np.random.default_rng(seed), first_pictures()
    made(tmp_path / "steps", pictures)
    for step in range(STEPS):
        pictures = changed(pictures, draw)
        grown = made(tmp_path / "steps", pictures, elsewhere if step % 2 else map)
        fresh = made(tmp_path / f"fresh-{step}", pictures, map if step % 2 else elsewhere)
        assert files(grown) == files(fresh)
        assert described(grown) == described(fresh)
        assert grown.verify() == []
        assert "blind_accuracy" in grown.manifest.body["statistics"]["quality"]


def test_one_edit_writes_one_shard_and_links_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = first_pictures()
    before = made(tmp_path, pictures)
    written: list[str] = []
    encode = write_shards._write_sample

    def count(writer: Any, sample: Any, data: bytes, key: str) -> Any:
        written.append(key)
        return encode(writer, sample, data, key)

    monkeypatch.setattr(write_shards, "_write_sample", count)
    pictures[3] = replace(pictures[3], captions=("Another text", pictures[3].captions[1]), negatives=())
    after = made(tmp_path, pictures)
    assert len(written) == 1
    same = [name for name in files(after) if (after.folder / name).samefile(before.folder / name)]
    shards = {shard["name"] for shard in after.manifest.body["shards"]}
    assert len(shards) > 3
    assert {name for name in same if name.endswith(".tar")} == shards - {f"{int(written[0][:5]):05d}.tar"}
    assert len(same) == 3 * (len(shards) - 1)
    assert after.verify() == before.verify() == []


def test_without_links_shards_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    before = made(tmp_path, first_pictures())
    after = made(tmp_path, [*first_pictures()[1:], seeded(200, 1, cluster_id=2)])
    assert files(after) == files(made(tmp_path / "fresh", [*first_pictures()[1:], seeded(200, 1, cluster_id=2)]))
    assert not any((after.folder / name).samefile(before.folder / name) for name in files(before))


def test_pairs_are_judged_again_only_when_a_judged_one_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    accuracy = PairSample.accuracy

    def count(pairs: PairSample) -> Any:
        judged.append(1)
        return accuracy(pairs)

    monkeypatch.setattr(PairSample, "accuracy", count)
    pictures = first_pictures()
    first = made(tmp_path, pictures)
    pictures[0] = replace(pictures[0], cluster_id=2)
    second = made(tmp_path, pictures)
    assert judged == [1]
    assert first.manifest.body["statistics"]["quality"] == second.manifest.body["statistics"]["quality"]
    pictures[5] = seeded(5, 12)
    made(tmp_path, pictures)
    assert judged == [1, 1]


@pytest.mark.parametrize("spoil", ["record", "file", "reshard", "removed"])
def test_everything_is_written_when_the_earlier_version_does_not_fit(tmp_path: Path, spoil: str) -> None:
    before = made(tmp_path, first_pictures())
    catalog = Catalog(tmp_path / "manifests", tmp_path)
    if spoil == "record":
        record_path(catalog, "toy").unlink()
    elif spoil == "file":
        shard = before.folder / "00001.tar"
        shard.write_bytes(bytes(shard.stat().st_size))
    elif spoil == "reshard":
        reshard(catalog, "toy", Layout(30_000))
    else:
        shutil.rmtree(before.folder)
    pictures = [seeded(0, 20), *first_pictures()[1:]]
    after, fresh = made(tmp_path, pictures), made(tmp_path / "fresh", pictures)
    assert files(after) == files(fresh)
    assert after.verify() == []


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    made(tmp_path, first_pictures())
    path = record_path(Catalog(tmp_path / "manifests", tmp_path), "toy")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match="reusable: damaged"):
        made(tmp_path, [seeded(0, 20), *first_pictures()[1:]])
