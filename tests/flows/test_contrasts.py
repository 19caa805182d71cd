"""What a version learned of its words: shown, suggested as a vocabulary, and changed by one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest

from flows.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


def run(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str, str]:
    """Run a command in a folder; return its exit code and what it printed."""
    where = ["--workspace", str(folder / "workspace"), "--manifests", str(folder / "manifests")]
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["clipcurate", *where, *words])
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def curate(capsys: pytest.CaptureFixture[str], folder: Path, recipe: str, *words: str) -> tuple[int, str, str]:
    given = ["--source", "scenes:40@5", "--name", "toy", "--no-prefect", "--workers", "1"]
    return run(capsys, folder, "curate", recipe, *given, *words)


def test_contrasts_are_shown_suggested_and_changed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert curate(capsys, tmp_path, "contrasts")[0] == 0
    code, text, _ = run(capsys, tmp_path, "show", "toy@1", "--contrasts", "--json")
    shown: dict[str, Any] = orjson.loads(text)
    assert code == 0 and shown["version"] == "toy@1.0.0"
    colours = next(one for one in shown["classes"] if "red" in one["members"])
    assert {"blue", "green"} <= colours["members"].keys()
    assert all(pair["evidence"] for one in shown["classes"] for pair in one["evidence"])
    assert colours["example"]["caption"] != colours["example"]["negative"]
    code, text, _ = run(capsys, tmp_path, "show", "toy@1", "--contrasts")
    assert code == 0 and colours["name"] in text

    path = tmp_path / "words.toml"
    assert run(capsys, tmp_path, "vocabulary", "suggest", "toy@1", "--out", str(path))[0] == 0
    content = tomllib.loads(path.read_text("utf-8"))
    assert [set(words) for words in content["classes"]] == [set(one["members"]) for one in shown["classes"]]
    code, _, message = run(capsys, tmp_path, "vocabulary", "suggest", "toy@1", "--out", str(path))
    assert code == 2 and "the file exists" in message

    path.write_text('keep = ["red"]\n', "utf-8")
    assert curate(capsys, tmp_path, "contrasts", "--vocabulary", str(path))[0] == 0
    after = orjson.loads(run(capsys, tmp_path, "show", "toy", "--contrasts", "--json")[1])
    assert not any("red" in one["members"] for one in after["classes"])


def test_contrasts_that_are_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert curate(capsys, tmp_path, "clip")[0] == 0
    code, _, message = run(capsys, tmp_path, "show", "toy@1", "--contrasts")
    assert code == 2 and "was made without mine_contrasts" in message
    code, _, message = run(capsys, tmp_path, "show", "toy@1", "--contrasts", "--negatives")
    assert code == 2 and "--contrasts with" in message
    code, _, message = curate(capsys, tmp_path, "contrasts", "--vocabulary", str(tmp_path / "none.toml"))
    assert code == 2 and "there is no such file" in message
