"""Croissant: the reference validator accepts it, and reads records and pictures by it."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import orjson
import pytest

from data_manifests.croissant import croissant_bytes
from data_manifests.manifest import DatasetVersion
from tests.data_manifests.built_versions import build, picture

pytestmark = [
    # of mlcroissant's and rdflib's own making
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    root = tmp_path_factory.mktemp("croissant")
    build(root, "drawn", [picture(number) for number in range(4)])
    return build(root, "drawn", [picture(number) for number in range(5)], shard_bytes=9000)


def dataset(version: DatasetVersion) -> Any:
    import mlcroissant

    return mlcroissant.Dataset(jsonld=version.folder / "croissant.json")


def document(version: DatasetVersion) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads((version.folder / "croissant.json").read_bytes())
    return read


def test_validator_finds_no_error(version: DatasetVersion, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        metadata = dataset(version).metadata
    assert not metadata.ctx.issues.errors
    # what nobody told is left out, and nothing else is amiss
    told = {issue.partition("Property ")[2] for issue in metadata.ctx.issues.warnings}
    assert told == {
        '"http://mlcommons.org/croissant/citeAs" is recommended, but does not exist.',
        '"https://schema.org/datePublished" is recommended, but does not exist.',
    }
    assert "not standard" not in caplog.text
    assert str(metadata.ctx.conforms_to.value).endswith("/1.1")
    assert (metadata.name, metadata.version, metadata.license) == ("drawn", version.manifest.version, ["CC0-1.0"])


def test_every_file_is_described_by_its_hash(version: DatasetVersion) -> None:
    objects = {item["@id"]: item for item in document(version)["distribution"] if item["@type"] == "cr:FileObject"}
    files = {item["name"]: item for item in version.manifest.body["files"] if item["name"] != "croissant.json"}
    assert set(objects) == set(files)
    assert len([name for name in objects if name.endswith(".tar")]) > 1
    for name, record in files.items():
        told = objects[name]
        assert (told["sha256"], told["contentSize"]) == (record["sha256"], f"{record['bytes']} B")
    images = next(item for item in document(version)["distribution"] if item["@id"] == "image-files")
    assert [item["@id"] for item in images["containedIn"]] == [item["name"] for item in version.manifest.body["shards"]]


def test_sample_records_are_read_from_the_folder(version: DatasetVersion) -> None:
    records = list(dataset(version).records("samples"))
    shards = range(len(version.manifest.body["shards"]))
    rows = [row for shard in shards for row in version.sidecar(shard).to_pylist()]
    assert len(records) == len(rows) == 5
    for record, row in zip(records, rows, strict=True):
        for name in ("uid", "key", "name", "split", "caption", "sha256"):
            assert record[f"samples/{name}"].decode() == row[name]
        assert [text.decode() for text in record["samples/captions"]] == row["captions"]
        assert (record["samples/width"], record["samples/cluster_id"]) == (row["width"], row["cluster_id"])
        assert record["samples/difficulty"] == row["difficulty"]
        (negative,) = record["samples/negatives"]
        assert negative["samples/negatives/text"].decode() == row["negatives"][0]["text"]
        assert negative["samples/negatives/caption"] == 0


def test_index_and_pictures_are_read_too(
    version: DatasetVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlcroissant._src.operation_graph.operations import extract

    # mlcroissant keeps what it unpacks in the home folder, by the tar's relative name alone
    monkeypatch.setattr(extract, "EXTRACT_PATH", extract.epath.Path(tmp_path))
    read = dataset(version)
    index = list(read.records("index"))
    assert [item["index/uid"].decode() for item in index] == version.index(["uid"])["uid"].to_pylist()
    pictures = {item["images/key"].decode(): item["images/content"] for item in read.records("images")}
    assert set(pictures) == {item["index/key"].decode() for item in index}
    assert {content.size for content in pictures.values()} == {(220, 160)}


def test_same_body_same_bytes_and_no_time_or_place_in_them(version: DatasetVersion) -> None:
    body = version.manifest.body
    files = [item for item in body["files"] if item["name"] != "croissant.json"]
    again = croissant_bytes({**{name: body[name] for name in sorted(body, reverse=True)}, "files": files})
    assert again == (version.folder / "croissant.json").read_bytes()
    assert str(version.folder).encode() not in again
    assert b"datePublished" not in again


def test_lineage_is_told(version: DatasetVersion) -> None:
    told = document(version)
    parent = version.manifest.body["parent"]
    assert told["prov:wasDerivedFrom"]["@id"] == f"urn:clipcurate:drawn:{parent['version']}:{parent['fingerprint']}"
    assert [item["prov:label"].partition(",")[0] for item in told["prov:wasGeneratedBy"]] == ["check_images", "given"]


def test_columns_of_later_stages_get_a_type(version: DatasetVersion) -> None:
    added = [
        {"name": "image_embedding", "stage": "embed_samples", "where": "sidecar"},
        {"name": "clip_score", "stage": "score", "where": "index"},
    ]
    body = {**version.manifest.body, "fields": added, "parent": None, "source": {"kind": "x", "name": "y"}}
    told = orjson.loads(croissant_bytes(body))
    fields = {item["@id"]: item for item in itertools.chain(*(records["field"] for records in told["recordSet"]))}
    assert fields["samples/image_embedding"]["arrayShape"] == "-1"
    assert fields["samples/clip_score"]["dataType"] == fields["index/clip_score"]["dataType"] == "cr:Float64"
    assert "index/image_embedding" not in fields
    assert "license" not in told
    assert "prov:wasDerivedFrom" not in told
