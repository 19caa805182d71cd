"""What checking the output of stages costs, in one run: CPU seconds of encoding with checks, against encoding alone and against all.

Run: python -m tests.benchmarks.bench_outputs [RECIPE] [NUM_SCENES]
The stages of a recipe run over scenes; each batch of results is encoded with the checks, and once more without them.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.engine.engine import run_stages
from curation.engine.intake import read_source
from curation.engine.outputs import ResultEncoder
from curation.engine.stage import Drop
from curation.engine.store import StageResult
from curation.sources.scenes import ScenesSource
from data_manifests.sample import Sample
from flows.recipe import RecipeInputs, load_recipe


def main(recipe: str = "fsc_clip", count: str = "300") -> None:
    warnings.simplefilter("ignore")
    checked, bare = 0.0, 0.0
    encode_all = ResultEncoder.encode_all

    def timed(self: ResultEncoder, samples: Sequence[Sample], results: Any) -> list[StageResult]:
        nonlocal checked, bare
        started = time.process_time()
        found = encode_all(self, samples, results)
        checked += time.process_time() - started
        started = time.process_time()
        for result in results:
            if not isinstance(result, Drop):
                StageResult({field.name: field.encode(result[field.name]) for field in self._stage.provides})
        bare += time.process_time() - started
        return found

    ResultEncoder.encode_all = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        snapshot = read_source(ScenesSource(count), Path(folder) / "intake", location="here")
        stages = load_recipe(recipe, RecipeInputs(model="tiny", workspace=folder)).all_stages()
        started = time.process_time()
        run_stages(stages, snapshot, Path(folder) / "store")
        every = time.process_time() - started - bare
    print(f"{recipe}, {count} scenes: {every:.2f} s CPU; encoding with checks {checked:.3f} s, without {bare:.3f} s")
    print(f"checks: {checked / bare:.2f} times encoding alone, {100 * (checked - bare) / every:.2f} % of all stages")


if __name__ == "__main__":
    main(*sys.argv[1:])
