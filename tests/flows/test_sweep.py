"""`evaluate`, with `--blend` and without: a sweep's ends are its two models; one image trunk sees each image once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.evaluation.interface import EvalOptions
from flows.evaluation.run import run_evaluation, run_sweep
from training.evaluate import image_cache

ON = ("retrieval:scenes:6@5", "order:scenes:6@5")

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny")


def test_the_ends_of_a_sweep_are_the_two_models(tmp_path: Path) -> None:
    swept = run_sweep("tiny@1", "tiny", (0.0, 0.5, 1.0), ON, EvalOptions(Catalog(tmp_path, tmp_path)))
    ends = {name: run_evaluation(name, ON, EvalOptions(Catalog(tmp_path, tmp_path))) for name in ("tiny", "tiny@1")}
    for place, by_share in enumerate(swept):
        assert list(by_share) == ["0", "0.5", "1"]
        assert by_share["0"].metrics == ends["tiny"][place].metrics
        assert by_share["1"].metrics == ends["tiny@1"][place].metrics
    assert swept[0]["0.5"].metrics not in (swept[0]["0"].metrics, swept[0]["1"].metrics)
    with pytest.raises(InputError, match="0 to 1"):
        run_sweep("tiny@1", "tiny", (1.5,), ON, EvalOptions(Catalog(tmp_path, tmp_path)))


def test_models_of_one_image_trunk_look_at_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    plain = image_cache._uncached

    def counted(model: Any) -> Any:
        trunk = plain(model)

        def count(images: Any, rows: int) -> Any:
            looked.append(len(images))
            return trunk(images, rows)

        return count

    monkeypatch.setattr(image_cache, "_uncached", counted)
    run_sweep("tiny", "tiny", (0.0, 0.5, 1.0), ON, EvalOptions(Catalog(tmp_path, tmp_path)))
    assert sum(looked) == 6, "three models of one trunk on two benchmarks of the same six images"
    run_evaluation("tiny", ON, EvalOptions(Catalog(tmp_path, tmp_path)))
    assert sum(looked) == 12, "and nothing is kept for the next command"
    with image_cache.shared_image_cache():
        for _ in range(2):
            run_evaluation("tiny", ON, EvalOptions(Catalog(tmp_path, tmp_path)))
    assert sum(looked) == 18, "except inside a block that remembers"
