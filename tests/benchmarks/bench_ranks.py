"""One rank against two on the same global batches: samples a second and how far the weights come apart.

    python -m tests.benchmarks.bench_ranks [STEPS]

Each rank computes on one thread. Wall time per step from the run's own log; on a busy machine compare with care.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

from data_manifests.manifest import DatasetVersion, Manifest
from tests.training.conftest import write_version
from tests.training.test_ranks import describe, furthest, weights_of
from tests.training.two_ranks import CONFIG, PARTS, TINY
from training.log import read_lines
from training.train import train

BATCH = 32


def child(folder: Path, run: str, steps: int) -> None:
    """Train, as one rank of several or alone."""
    warnings.simplefilter("ignore")
    version = DatasetVersion(Manifest.load(folder / "manifest.json"), Path((folder / "folder.txt").read_text()))
    train(version, PARTS, TINY, replace(CONFIG, steps=steps, batch_size=BATCH), folder / run)


def main(steps: int) -> None:
    """Run both and print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        describe(write_version(folder, 64), folder)
        for ranks in (1, 2):
            launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
            part = ["-m", "tests.benchmarks.bench_ranks", "--child", str(folder), f"ranks-{ranks}", str(steps)]
            subprocess.run([sys.executable, *launch, *part], check=True, capture_output=True)
            took = [line["step_s"] for line in read_lines(folder / f"ranks-{ranks}" / "log.jsonl")][3:]
            print(f"{ranks} ranks: {BATCH / statistics.median(took):.1f} samples/s (median of {len(took)} steps)")
        print(f"weights apart by {furthest(*(weights_of(folder / f'ranks-{ranks}') for ranks in (1, 2))):.1e}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
