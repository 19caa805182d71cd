"""Runs the notebook of docs/ in a kernel of its own, in a new folder.

Run: python -m tests.notebook [FILE] (``make notebook``) writes the notebook with what its cells print now, by default over itself.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "python.ipynb"
CELL_S = 300


def write_executed(path: Path) -> None:
    """Run all cells and write the notebook, without what they print on standard error (progress, with its times)."""
    book = nbformat.read(NOTEBOOK, 4)
    paths = os.pathsep.join((str(ROOT), str(ROOT / "flows" / "python")))
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(book, timeout=CELL_S, record_timing=False, resources={"metadata": {"path": folder}})
        client.execute(env={**os.environ, "PYTHONPATH": paths})
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [item for item in cell.outputs if item.get("name") != "stderr"]
    book.metadata = {key: book.metadata[key] for key in ("kernelspec",)} | {"language_info": {"name": "python"}}
    nbformat.write(book, path)


if __name__ == "__main__":
    write_executed(Path(sys.argv[1]) if sys.argv[1:] else NOTEBOOK)
