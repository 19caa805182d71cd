"""``export dataset``: what Hugging Face's library and our own source read back is the version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.engine.intake import read_source
from curation.sources import open_source
from data_manifests.manifest import Catalog, DatasetVersion
from tests.flows.test_bad_input import Shell, picture, shell

__all__ = ["shell"]

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(shell: Shell) -> Command:
    return shell.said


@pytest.fixture
def version(command: Command, tmp_path: Path) -> DatasetVersion:
    """Curate pictures of three splits, and one of none, with a correction."""
    lines = ["file_name,caption,split,url"]
    for number, split in enumerate(("train", "dev", "test", "train", "")):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{number}.jpg").write_bytes(picture(number))
        lines += [f"{number}.jpg,{text} {number},{split},http://x/{number}" for text in ("a dog", "two dogs")]
    (tmp_path / "set" / "captions.csv").write_text("\n".join(lines))
    fixes = tmp_path / "fixes.jsonl"
    fixes.write_text('{"file": "0.jpg", "change": "a dog 0", "to": "a lynx", "author": "AL", "note": "seen"}\n')
    words = ("--source", f"folder:{tmp_path / 'set'}", "--name", "toy", "--no-prefect", "--workers", "1")
    for more in ((), ("--edits", str(fixes))):
        code, printed = command("curate", "clip", *words, *more)
        assert code == 0, printed
    return Catalog(tmp_path / "m", tmp_path / "w").open("toy")


def _samples(spec: str, root: Path) -> list[tuple[Any, ...]]:
    snapshot = read_source(open_source(spec), root / "intake", location="here")
    return [(sample.uid, sample.captions, sample.split) for sample in snapshot.samples()]


def test_a_version_comes_back_from_its_export_and_an_edit_is_in_its_lineage(
    command: Command, version: DatasetVersion, tmp_path: Path
) -> None:
    import datasets

    code, printed = command("export", "dataset", "toy", "--hf", str(tmp_path / "out"))
    assert code == 0 and "train 3, validation 1, test 1 rows" in printed, printed
    loaded = datasets.load_dataset(str(tmp_path / "out"), streaming=True)
    assert {name: len(list(rows)) for name, rows in loaded.items()} == {"train": 3, "validation": 1, "test": 1}
    first = next(iter(loaded["validation"]))
    assert first["image"].size == (64, 64)
    assert (first["captions"], first["url"]) == (["a dog 1", "two dogs 1"], "http://x/1")
    before = _samples(f"folder:{tmp_path / 'set'}", tmp_path)
    after = _samples(f"hf:{tmp_path / 'out'}", tmp_path)
    assert len(after) == 5
    changed = [pair for pair in zip(before, after, strict=True) if pair[0][:2] != pair[1][:2]]
    assert [(old[1], new[1]) for old, new in changed] == [(("a dog 0", "two dogs 0"), ("a lynx", "two dogs 0"))]
    card = (tmp_path / "out" / "README.md").read_text()
    for text in (
        "- n<1K",
        "  - split: validation\n    path: data/validation-*.parquet",
        "# toy@2.0.0",
        "## Known limits",
    ):
        assert text in card
    code, printed = command("show", "toy@2", changed[0][0][0])
    assert code == 0 and "edits by people" in printed and "seen" in printed and "a lynx" in printed
    code, printed = command("diff", "toy@1", "toy@2", "--json")
    assert code == 0 and json.loads(printed)["num_edited"] == 1
    code, printed = command("export", "dataset", "toy", "--hf", str(tmp_path / "out"))
    assert code == 2 and "exists already" in printed


def test_a_damaged_shard_leaves_nothing(command: Command, version: DatasetVersion, tmp_path: Path) -> None:
    shard = version.folder / "00000.tar"
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:-20_000])
    assert command("export", "dataset", "toy", "--hf", str(tmp_path / "exports" / "out"))[0] != 0
    assert list((tmp_path / "exports").iterdir()) == []
