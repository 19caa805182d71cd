"""`clipcurate datasets`, and `show NAME FILE.jpg`."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from flows.cli.demo import write_photos
from tests.flows.test_bad_input import Shell, shell

__all__ = ["shell"]  # a fixture


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which two pictures in folders have one name, and one is broken."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "b", 6)
    table = folder / "b" / "captions.jsonl"
    captions = [orjson.loads(line)["captions"] for line in table.read_bytes().splitlines()]
    table.unlink()
    names = sorted(path.name for path in (folder / "b").glob("*.jpg"))
    (folder / "a").mkdir()
    (folder / "b" / names[3]).rename(folder / "a" / "only.jpg")
    (folder / "b" / names[5]).rename(folder / "a" / names[0])
    (folder / "b" / names[4]).write_bytes(b"no picture")
    listed = [f"b/{name}" for name in (*names[:3], names[4])] + ["a/only.jpg", f"a/{names[0]}"]
    lines = [{"file_name": name, "captions": texts} for name, texts in zip(listed, captions, strict=True)]
    (folder / "captions.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    (folder / "names.txt").write_text("\n".join(names))
    return folder


def test_a_sample_is_shown_by_its_pictures_name(shell: Shell, photos: Path) -> None:
    names = (photos / "names.txt").read_text().splitlines()
    code, _, err = shell.curate(f"folder:{photos}")
    assert code == 0, err
    code, out, err = shell("show", "toy", "only.jpg", "--json")
    assert code == 0, err
    shown = orjson.loads(out)
    assert shown["source"]["name"] == "a/only.jpg"
    uid = shown["place"]["uid"]
    for text in ("a/only.jpg", str(photos / "a" / "only.jpg"), uid, uid[:12]):
        code, out, err = shell("show", "toy", text, "--json")
        assert orjson.loads(out) == shown, err
    code, said = shell.said("show", "toy", names[0])
    assert code == 2
    assert "more than one sample is meant" in said
    assert orjson.loads(shell("show", "toy", f"b/{names[0]}", "--json")[1])["source"]["name"] == f"b/{names[0]}"
    code, said = shell.said("show", "toy", names[4])
    assert code == 2
    assert f"b/{names[4]} was dropped by" in said
    for text in ("nly.jpg", "none.jpg", ""):
        code, said = shell.said("show", "toy", text)
        assert code == 2
        assert f"no sample with uid or file name '{text}'" in said


def test_data_sets_are_listed(shell: Shell) -> None:
    code, out, _ = shell("datasets", "--json")
    assert (code, orjson.loads(out)) == (0, [])
    assert "no data sets under" in shell.said("datasets")[1]
    assert shell.curate("scenes:4")[0] == 0
    assert shell.curate("scenes:6@1")[0] == 0
    assert shell("curate", "clip", "--source", "scenes:5", "--name", "second", "--no-prefect", "--workers", "1")[0] == 0
    toy, second = sorted(orjson.loads(shell("datasets", "--json")[1]), key=lambda item: item["name"], reverse=True)
    assert (toy["name"], toy["version"], toy["versions"][0], len(toy["versions"])) == (
        "toy",
        toy["versions"][1],
        "1.0.0",
        2,
    )
    assert (toy["samples"], second["samples"], second["recipe"], second["version"]) == (6, 5, "clip", "1.0.0")
    files = [path for path in (shell.root / "w" / "datasets" / "toy").glob("*.*.*/**/*") if path.is_file()]
    assert toy["bytes"] == sum(path.stat().st_size for path in files)
    age = datetime.now(UTC) - datetime.strptime(toy["made"], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert -60 < age.total_seconds() < 3600
    printed = shell("datasets")[1]
    assert "second" in printed
    assert toy["made"] in printed
    shutil.rmtree(shell.root / "w" / "datasets" / "toy")
    (shell.root / "m" / "toy" / f"{toy['version']}.run.json").unlink()
    assert orjson.loads(shell("datasets", "--json")[1])[1]["bytes"] == 0
