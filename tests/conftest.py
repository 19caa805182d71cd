"""Real data set versions, built by the engine from generated scenes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(
        _name, "1"
    )  # test processes run side by side; threads that wait for each other only slow them

import training  # noqa: E402, F401 - makes torchvision importable beside a CPU torch

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data, or skip."""
    folder = Path(os.environ.get("CLIPCURATE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "flickr8k" / "Flickr8k.token.txt").is_file():
        pytest.skip(f"no real data at {folder}; set CLIPCURATE_DATA")
    return folder
