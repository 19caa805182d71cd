"""`evaluate`, with `--blend` and without: a sweep's ends are its two models; one image trunk sees each image once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.evaluation.interface import EvalOptions
from flows.evaluation.intervals import with_intervals
from flows.evaluation.run import ResultFiles, run_evaluation, run_sweep
from tests.flows.test_bad_input import Shell, shell
from training.evaluate import encoding_cache

__all__ = ["shell"]

ON = ("retrieval:scenes:6@5", "order:scenes:6@5")

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny")


def test_the_ends_of_a_sweep_are_the_two_models(tmp_path: Path) -> None:
    options = EvalOptions(Catalog(tmp_path, tmp_path))
    files = ResultFiles(json=tmp_path / "sweep.json", items=tmp_path / "sweep.parquet")
    swept = run_sweep("tiny@1", "tiny", (0.0, 0.5, 1.0), ON, options, files)
    assert [(item.share, item.on) for item in swept] == [(share, on) for share in (0.0, 0.5, 1.0) for on in ON]
    ends = {share: run_evaluation(name, ON, options) for share, name in ((0.0, "tiny"), (1.0, "tiny@1"))}
    found = {(item.share, item.on): item.metrics for item in swept}
    for share, results in ends.items():
        assert [found[share, on] for on in ON] == [item.metrics for item in results]
    assert found[0.5, ON[0]] not in (found[0.0, ON[0]], found[1.0, ON[0]])

    document = orjson.loads(files.json.read_bytes())
    assert (document["base"]["model"], document["split"]) == ("tiny (random weights, seed 0)", None)
    assert [(item["share"], item["on"]) for item in document["results"]] == list(found)
    measured = with_intervals(document["results"][2], files.items)["metrics"]["image_to_text_R@1"]
    assert measured["value"] == found[0.5, ON[0]]["image_to_text_R@1"]
    alone = pq.read_table(files.items, filters=[("share", "=", 0.5), ("metric", "=", "image_to_text_R@1")])
    assert alone.num_rows == 6 and np.mean(alone["value"].to_numpy()) == measured["value"]
    with pytest.raises(InputError, match="0 to 1"):
        run_sweep("tiny@1", "tiny", (1.5,), ON, options)


def test_a_sweep_refuses_what_it_cannot_write(shell: Shell) -> None:
    words = ("evaluate", "tiny@1", "--on", "scenes:6@5")
    code, _, err = shell(*words, "--blend", "tiny", "--clip-benchmark", str(shell.root / "cb"))
    assert code == 2 and "--json and --items with --blend" in err
    code, _, err = shell(*words, "--share", "0.5")
    assert code == 2 and "give the run's base as --blend" in err
    code, text, _ = shell(*words, "--blend", "tiny", "--share", "0.5", "--share", "1", "--json", str(shell.root / "s"))
    assert code == 0 and "foil_accuracy" in text and len(orjson.loads((shell.root / "s").read_bytes())["results"]) == 2


def test_models_of_one_image_trunk_look_at_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    read = encoding_cache._read

    def counted(images: Any) -> Any:
        looked.append(len(images))
        return read(images)

    monkeypatch.setattr(encoding_cache, "_read", counted)
    run_sweep("tiny", "tiny", (0.0, 0.5, 1.0), ON, EvalOptions(Catalog(tmp_path, tmp_path)))
    assert sum(looked) == 6, "three models of one trunk on two benchmarks of the same six images"
    run_evaluation("tiny", ON, EvalOptions(Catalog(tmp_path, tmp_path)))
    assert sum(looked) == 12, "and nothing is kept for the next command"
    with encoding_cache.shared_encodings(tmp_path):
        for _ in range(2):
            run_evaluation("tiny", ON, EvalOptions(Catalog(tmp_path, tmp_path)))
    assert sum(looked) == 18, "except inside a block that remembers"
