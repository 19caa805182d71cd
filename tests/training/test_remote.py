"""Shards behind a URL: the batches of the disk, few requests, dropped connections borne, wrong answers named."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.shards import shard_name
from tests.training.conftest import MakeVersion, seal
from tests.training.test_data import CONFIG, equal, plan_for
from training.batches.batch import TextSampling
from training.batches.loader import PlannedBatches
from training.batches.remote_shards import (
    GAP_BYTES,
    RemoteShards,
    RemoteVersion,
    _digest,
    join_ranges,
    open_remote,
    open_url,
)
from training.hard_negatives import UniformNegatives
from training.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")

Answer = Callable[["Ranged", bytes, int, int], bytes | None]


class Ranged(SimpleHTTPRequestHandler):
    """Serves byte ranges; `answer` may send other bytes, or None to drop the connection."""

    protocol_version = "HTTP/1.1"
    answer: Answer = staticmethod(lambda self, data, first, end: data[first:end])
    seen: list[str] = []

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.seen.append(f"{self.path} {first}-{last + 1} {self.client_address[1]}")
        body = type(self).answer(self, data, first, last + 1)
        if body is None:
            self.close_connection = True
            return
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def remote(make_version: MakeVersion, tmp_path: Path) -> Iterator[tuple[DatasetVersion, RemoteVersion, type[Ranged]]]:
    version = make_version(24)
    version.manifest.save(tmp_path / "manifests" / "shapes" / "1.0.0.json")
    handler = type("Handler", (Ranged,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=version.folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        catalog = Catalog(tmp_path / "manifests", tmp_path / "workspace")
        yield version, open_remote(catalog, "shapes", f"http://127.0.0.1:{server.server_port}"), handler
        server.shutdown()


def patient(version: RemoteVersion, pauses: list[float]) -> RemoteShards:
    sizes = {record["name"]: record["bytes"] for record in version.manifest.body["files"]}
    return RemoteShards(version.url, sizes, pauses.append)


def a_member(version: DatasetVersion) -> tuple[int, int, int]:
    row = version.index().to_pylist()[3]
    return row["shard"], row["image_offset"], row["image_bytes"]


def test_batches_are_those_of_the_disk_in_few_requests(remote: Any) -> None:
    local, far, handler = remote
    with pytest.warns(UserWarning, match="random"):
        model = ModelSpec.parse("tiny").load()
    plan = plan_for(local)
    handler.seen.clear()
    near = PlannedBatches(local, plan, model, CONFIG, TextSampling(UniformNegatives(2)))
    batches = PlannedBatches(far, plan, model, CONFIG, TextSampling(UniformNegatives(2)))
    for one, two in zip(near, batches, strict=True):
        assert equal(one, two)
    ranges = [line for line in handler.seen if ".tar" in line]
    # two shards, and everything of a batch in a shard lies near: at most two requests for 12 reads
    assert len(ranges) <= 2 * plan.num_steps and len({line.split()[2] for line in ranges}) <= 4
    batches.close()


def test_ranges_are_joined_across_small_gaps_only() -> None:
    near = [(0, 1000, 100), (0, 2000, 50), (0, 2050 + 512 + GAP_BYTES, 10), (0, 900_000, 10), (1, 512, 7)]
    spans = [(shard, first, end, len(parts)) for shard, first, end, parts in join_ranges(near)]
    assert spans == [(0, 488, 2572 + GAP_BYTES, 3), (0, 899_488, 900_010, 1), (1, 0, 519, 1)]


def test_dropped_connections_are_borne_and_a_dead_server_is_named(remote: Any) -> None:
    local, far, handler = remote
    count = itertools.count()
    handler.answer = staticmethod(lambda self, data, a, b: None if next(count) % 3 else data[a:b])
    pauses: list[float] = []
    key = a_member(local)
    with patient(far, pauses) as shards:
        for _ in range(4):
            assert shards.read(*key) == (local.folder / "00000.tar").read_bytes()[key[1] : key[1] + key[2]]
    assert pauses and all(later in (0.1, 2 * pause) for pause, later in itertools.pairwise(pauses))
    handler.answer = staticmethod(lambda self, data, a, b: None)
    with pytest.raises(InputError, match=r"00000.tar: bytes \d+ to \d+: no right answer in 6 tries(.|\n)*--resume"):
        patient(far, pauses).read(*key)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda self, data, a, b: data[a + 512 : b + 512], "other bytes than these"),
        (lambda self, data, a, b: bytes(b - a), "other bytes than these"),
        (lambda self, data, a, b: data[a : b - 1], r"no right answer(.|\n)*bytes came back"),
        (lambda self, data, a, b: data, r"no right answer(.|\n)*bytes came back"),
    ],
)
def test_wrong_answers_are_refused(remote: Any, answer: Answer, message: str) -> None:
    local, far, handler = remote
    handler.answer = staticmethod(answer)
    with pytest.raises(InputError, match=message):
        patient(far, []).read(*a_member(local))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [(b"IDAT", b"IDAx", "its image has other bytes, with uid"), (b'{"uid":', b'["uid":', "its JSON cannot be read")],
)
def test_damaged_members_are_named(remote: Any, before: bytes, after: bytes, message: str) -> None:
    local, far, handler = remote
    handler.answer = staticmethod(lambda self, data, a, b: data.replace(before, after)[a:b])
    with pytest.raises(InputError, match=f"sample [0-9a-f]{{32}}: {message}"):
        list(PlannedBatches(far, plan_for(local), ModelSpec.parse("tiny").load(), CONFIG))


def with_tables(version: DatasetVersion) -> DatasetVersion:
    """Write the table beside each shard, as a curation does, into a version that has none."""
    rows = version.index().to_pylist()
    for shard, group in itertools.groupby(rows, lambda row: row["shard"]):
        data = (version.folder / shard_name(shard)).read_bytes()
        found = [orjson.loads(data[row["json_offset"] :][: row["json_bytes"]]) for row in group]
        pq.write_table(pa.Table.from_pylist(found), version.folder / f"{shard:05d}.parquet")
    return seal(version)


@pytest.mark.parametrize("tables", [True, False])
def test_a_changed_caption_is_refused_where_the_version_has_tables(tables: bool, remote: Any) -> None:
    local, far, handler = remote
    if tables:
        sealed = with_tables(local)
        far = replace(far, manifest=sealed.manifest, folder=sealed.folder)
    plan, model = plan_for(local), ModelSpec.parse("tiny").load()
    assert len(list(PlannedBatches(far, plan, model, CONFIG))) == plan.num_steps
    handler.answer = staticmethod(lambda self, data, a, b: data.replace(b"a red circle", b"a big circle")[a:b])
    if tables:
        with pytest.raises(
            InputError, match=r"sample [0-9a-f]{32}: its texts in http.*/0000.\.tar are not those of shapes@1"
        ):
            list(PlannedBatches(far, plan, model, CONFIG))
    else:
        assert len(list(PlannedBatches(far, plan, model, CONFIG))) == plan.num_steps


def test_another_versions_shards_are_refused(remote: Any, tmp_path: Path) -> None:
    local, far, _ = remote
    shard = local.folder / "00000.tar"
    shard.write_bytes(shard.read_bytes() + bytes(512))
    with pytest.raises(InputError, match=r"00000.tar: \d+ bytes, the manifest says \d+"):
        patient(far, []).read(*a_member(local))
    shard.unlink()
    with pytest.raises(InputError, match=r"00000.tar(.|\n)*holds 00000.tar"):
        patient(far, []).read(*a_member(local))
    index = local.folder / "index.parquet"
    data = bytearray(index.read_bytes())
    data[40] ^= 1
    index.write_bytes(data)
    with pytest.raises(InputError, match=r"index.parquet: sha256"):
        open_remote(Catalog(tmp_path / "manifests", tmp_path / "other"), "shapes", far.url)
    for url in ("ftp://x/y", "/folder", "s4://bucket"):
        with pytest.raises(InputError, match=r"https://"):
            open_url(url)


@pytest.mark.parametrize(
    "change",
    [
        {"captions": ["a cat"]},
        {"attribute_tags": "gender:male"},
        {"words": [{"caption": 0, "class": "NOUN", "word": "cat"}]},
        {"phrase_foils": [{"caption": 0, "scale": "word", "text": "dog", "foil": "bird"}]},
        {
            "views": [
                {
                    "text": "a dog, an animal",
                    "caption": 0,
                    "kind": "knowledge",
                    "rule": "/a/[/r/IsA/,/c/en/dog/,/c/en/cat/]",
                }
            ]
        },
        {"negatives": []},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_training_reads_of_a_sample_is_in_its_digest(change: dict[str, Any]) -> None:
    sample = {
        "captions": ["a dog"],
        "negatives": [{"text": "a cat", "caption": 0}],
        "views": [
            {
                "text": "a dog, an animal",
                "caption": 0,
                "kind": "knowledge",
                "rule": "/a/[/r/IsA/,/c/en/dog/,/c/en/animal/]",
            }
        ],
        "attribute_tags": "gender:female",
        "words": [{"caption": 0, "class": "NOUN", "word": "dog"}],
        "phrase_foils": [{"caption": 0, "scale": "word", "text": "dog", "foil": "cat"}],
    }
    assert _digest(sample | {"width": 3}) == _digest(sample) != _digest(sample | change)
