"""The notebook of docs/ runs from top to bottom, offline, and shows what its cells give."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.notebook import NOTEBOOK, ROOT


def shown(path: Path) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Return each code cell's source with the kinds of what it shows."""
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        ("".join(cell["source"]), [(item["output_type"], sorted(item.get("data", {}))) for item in cell["outputs"]])
        for cell in cells
        if cell["cell_type"] == "code"
    ]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    made = tmp_path / "made.ipynb"
    command = [sys.executable, "-m", "tests.notebook", str(made)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert shown(made) == shown(NOTEBOOK), "run: make notebook"


def test_the_notebook_as_committed_is_whole() -> None:
    """It was run, printed no error, and tells of no machine."""
    assert sum(bool(outputs) for _, outputs in shown(NOTEBOOK)) >= 9
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "site-packages" not in text and '"error"' not in text and str(Path.home()) + "/" not in text
