"""Manifests: sealed, found by reference, and proof against edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from data_manifests.errors import InputError
from data_manifests.manifest import FORMAT, Catalog, Manifest, body_fingerprint, check_name
from tests.data_manifests.built_versions import build, picture


def body(name: str = "birds", version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    return {"format": FORMAT, "name": name, "version": version, "counts": {"samples": 3}, **more}


def catalog(root: Path, *versions: str) -> Catalog:
    made = Catalog(root / "manifests", root)
    for version in versions:
        Manifest.seal(body(version=version)).save(made.manifest_path("birds", version))
    return made


def test_seal_depends_on_content_and_on_nothing_else() -> None:
    one, other = Manifest.seal(body(a=1, b=2)), Manifest.seal(dict(reversed(body(a=1, b=2).items())))
    assert one.fingerprint == other.fingerprint == body_fingerprint(one.body)
    assert one.to_bytes() == other.to_bytes()
    assert Manifest.seal(body(a=1, b=3)).fingerprint != one.fingerprint
    assert Manifest.seal(one.body).fingerprint == one.fingerprint


def test_saved_manifest_comes_back(tmp_path: Path) -> None:
    sealed = Manifest.seal(body(text="caf\u00e9"))
    sealed.save(tmp_path / "deep" / "1.0.0.json")
    loaded = Manifest.load(tmp_path / "deep" / "1.0.0.json")
    assert loaded == sealed
    assert (loaded.name, loaded.version, loaded.num_samples) == ("birds", "1.0.0", 3)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["1.0.0.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(b'"samples": 3', b'"samples": 4'), "edited by hand"),
        (lambda text: text.replace(b"{", b"{,", 1), "not JSON"),
        (lambda text: text.replace(FORMAT.encode(), b"clipcurate/9"), "manifest format is 'clipcurate/9'"),
        (lambda _: b"[]", "manifest format is 'list'"),
    ],
)
def test_hand_edited_manifest_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "1.0.0.json"
    Manifest.seal(body()).save(path)
    changed = change(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(InputError, match=said) as caught:
        Manifest.load(path)
    assert str(path) in str(caught.value)


def test_white_space_is_no_edit(tmp_path: Path) -> None:
    path = tmp_path / "1.0.0.json"
    sealed = Manifest.seal(body())
    path.write_bytes(orjson.dumps(sealed.body))
    assert Manifest.load(path) == sealed


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("birds", "2.10.0"),
        ("birds@2", "2.10.0"),
        ("birds@2.9", "2.9.1"),
        ("birds@1.0.0", "1.0.0"),
        ("birds@1", "1.0.0"),
    ],
)
def test_reference_means_the_newest_that_fits(tmp_path: Path, reference: str, found: str) -> None:
    made = catalog(tmp_path, "2.9.1", "2.10.0", "1.0.0", "2.9.0")
    assert made.resolve(reference) == ("birds", found)
    latest = made.latest("birds")
    assert latest is not None
    assert latest.version == "2.10.0"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("birds@3", "no such version"),
        ("birds@2.1", "no such version"),
        ("birds@1.0.0.0", "not a dataset version"),
        ("birds@v1", "not a dataset version"),
        ("birds@", "not a dataset version"),
        ("../birds", "not a dataset version"),
        ("brids", "did you mean 'birds'"),
        ("", "not a dataset version"),
    ],
)
def test_references_that_mean_nothing(tmp_path: Path, reference: str, said: str) -> None:
    made = catalog(tmp_path, "1.0.0", "2.10.0")
    with pytest.raises(InputError) as caught:
        made.resolve(reference)
    assert said in str(caught.value)


def test_other_files_are_no_versions(tmp_path: Path) -> None:
    made = catalog(tmp_path, "1.0.0")
    (made.manifests / "birds" / "1.0.0.run.json").write_text("{}")
    (made.manifests / "birds" / "notes.json").write_text("{}")
    (made.manifests / "empty").mkdir()
    assert made.versions("birds") == ["1.0.0"]
    assert made.names() == ["birds"]
    assert made.latest("empty") is None


def test_open_without_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its shards are not"):
        catalog(tmp_path, "1.0.0").open("birds")


@pytest.mark.parametrize("name", ["", "Birds", "a/b", "..", "-a", "x" * 65, "caf\u00e9", "a b"])
def test_names_that_cannot_be_folders(name: str) -> None:
    with pytest.raises(InputError, match="cannot name a data set"):
        check_name(name)
    assert check_name("a.b_c-9") == "a.b_c-9"


def test_verify_finds_every_changed_byte(tmp_path: Path) -> None:
    version = build(tmp_path, "drawn", [picture(number) for number in range(3)])
    assert version.verify() == []
    shard = version.folder / "00000.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    (version.folder / "sizes.json").unlink()
    (version.folder / "00000.parquet").write_bytes(b"short")
    (version.folder / "stray.txt").write_text("?")
    wrong = version.verify()
    assert [line.partition(":")[0] for line in wrong] == ["00000.parquet", "00000.tar", "sizes.json", "stray.txt"]
    assert "sha256" in wrong[1]
    assert [line.partition(": ")[2] for line in wrong[2:]] == ["missing", "not in the manifest"]
    assert "5 bytes, manifest says" in wrong[0]


def test_missing_file_of_a_version(tmp_path: Path) -> None:
    version = build(tmp_path, "drawn", [picture(1)])
    (version.folder / "index.parquet").unlink()
    with pytest.raises(InputError, match=r"index\.parquet: file of drawn@1\.0\.0 is missing"):
        version.index()
