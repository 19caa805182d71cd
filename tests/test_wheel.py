"""The wheel holds everything that the installed command needs, and that its messages point to."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("curation", "data_manifests", "flows", "training")
NOT_PACKAGED = {".md", ".pyc"}
"""READMEs and the lab book are for people who have the repository."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # a copy of what git tracks: an old build folder of this checkout must not fill the wheel
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "src" / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(folder / "src"),
    ]
    subprocess.run(command, check=True, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def packaged_files() -> set[str]:
    """Return where the files of the packages are in the wheel; `clipcurate` stands beside the four there."""
    command = ["git", "ls-files", "-z", *PACKAGES]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    names = [name for name in filter(None, listed.split("\0")) if (ROOT / name).is_file()]
    packaged = {name for name in names if Path(name).suffix not in NOT_PACKAGED and name != "training/results.json"}
    return {name.removeprefix("flows/python/") for name in packaged}


@pytest.mark.slow
def test_the_wheel_holds_every_file(wheel: Path) -> None:
    assert packaged_files() - set(zipfile.ZipFile(wheel).namelist()) == set()


@pytest.mark.slow
def test_the_wheel_mends_torchvision(wheel: Path, tmp_path: Path) -> None:
    """Unpacked on the path, as pip would, it lets a program import open_clip that never imports clipcurate."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    ran = subprocess.run([sys.executable, "-c", "import open_clip, sys; print('flows' in sys.modules); import clipcurate; print(clipcurate.InputError.__name__)"], env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=False)  # fmt: skip
    assert (ran.returncode, ran.stdout.split()) == (0, ["False", "InputError"]), ran.stderr


@pytest.mark.slow
def test_the_installed_command_finds_its_data(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import flows, sys; sys.argv[0] = 'clipcurate'; from flows.cli.main import main; main()"
    for words in (
        ["curate", "knowledge_clip", "--source", "scenes:12@1", "--name", "w", "--no-prefect", "--workers", "1"],
        ["show", "w@1", "--html", "page.html"],
        ["kg", "info", "seed", "dog"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_messages_point_only_to_files_that_are_installed() -> None:
    """No message sends a reader to a file of the repository, which someone with the wheel does not have."""
    pointing = re.compile(r"\b(README|CHANGELOG|LOG|docs/)\S*")
    found = []
    for name in PACKAGES:
        for path in (ROOT / name).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if not isinstance(node, ast.Constant) or id(node) in docs:
                    continue
                text = node.value
                if isinstance(text, str) and text != "README.md" and pointing.search(text):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text[:80]}")
    assert found == []
