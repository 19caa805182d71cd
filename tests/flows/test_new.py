"""Templates of stages and recipes: what they write passes its own tests at once, and nothing is overwritten."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.flows.test_bad_input import Shell, shell

__all__ = ["shell"]


@pytest.mark.slow
def test_what_is_written_passes_its_own_tests(shell: Shell) -> None:
    folder = shell.root / "mine"
    for kind, name in (("stage", "odd_words2"), ("recipe", "odd_clip_")):
        code, out, err = shell("new", kind, name, "--out", str(folder))
        assert code == 0, err
        assert (
            f"wrote {folder / name}.py and {folder}/test_{name}.py" in out and f"pytest {folder}/test_{name}.py" in out
        )
    assert "class OddWords2(MapStage):" in (folder / "odd_words2.py").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr
    linted = ("ruff", "check", "--config", str(ROOT / "pyproject.toml"), "--ignore", "D,INP001,S", str(folder))
    done = subprocess.run([sys.executable, "-m", *linted], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    code, out, err = shell("recipes", str(folder / "odd_words2.py"))
    assert code == 0 and "odd_words2_clip" in out, err


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py"])
def test_nothing_is_overwritten(shell: Shell, there: str) -> None:
    (shell.root / there).write_text("precious", encoding="utf-8")
    for kind in ("stage", "recipe"):
        code, _, err = shell("new", kind, "mine", "--out", str(shell.root))
        assert code == 2 and f"{there} exists already" in err
    assert [path.name for path in shell.root.iterdir()] == [there]
    assert (shell.root / there).read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("stage", "My-Stage", "small letters"),
        ("stage", "class", "no word of Python"),
        ("stage", "../stage", "small letters"),
        ("recipe", "test_mine", "not test_"),
        ("recipe", "", "small letters"),
        ("stage", "swap_words", "there is a stage of this name"),
        ("recipe", "negclip", "there is a recipe of this name"),
        ("stage", "json", "Python has a module of this name"),
    ],
)
def test_names_are_checked(shell: Shell, kind: str, name: str, expected: str) -> None:
    code, _, err = shell("new", kind, name, "--out", str(shell.root / "mine"))
    assert code == 2 and expected in err, err
    assert not (shell.root / "mine").exists()
