"""Folders that cannot be used: one message, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_manifests.errors import InputError
from flows.cli.app import app
from flows.execution.disk import require_writable


@pytest.mark.parametrize("option", ["--workspace", "--manifests"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("file", "is a file"),
        ("file/below", "/file is a file"),
        ("dangling", "is a link to nothing"),
        ("loop", "is a link to nothing"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_folder_that_cannot_be(tmp_path: Path, option: str, name: str, expected: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    error = CliRunner().invoke(app, [option, str(tmp_path / name), "recipes"]).exception
    assert isinstance(error, InputError)
    assert f"{option} {tmp_path / name}" in str(error) and expected in str(error)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--manifests /proc/nowhere cannot be written"):
        require_writable("--manifests", Path("/proc/nowhere"))
    require_writable("--manifests", tmp_path / "new" / "folder")
    assert not any((tmp_path / "new" / "folder").iterdir())
