"""Results as files: CLIP_benchmark's keys, and every case behind every number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import torch

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.evaluation.blind import read_blind_texts
from flows.evaluation.interface import EvalOptions
from flows.evaluation.results import Evaluation, write_clip_benchmark, write_items
from flows.evaluation.run import ResultFiles, print_results, run_evaluation
from tests.training.test_evaluate import made_features
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.evaluate.features import EvalFeatures
from training.evaluate.retrieval import retrieval
from training.evaluate.zero_shot import zero_shot


def topk_recall(scores: torch.Tensor, right: torch.Tensor, k: int) -> float:
    """Return the share of queries (rows) with a right item among torch's first k."""
    first = torch.topk(scores, k, dim=1).indices
    return right.gather(1, first).any(dim=1).double().mean().item()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_recall_equals_topk_where_nothing_ties(seed: int) -> None:
    features = made_features(60, ties=False, seed=seed)
    text, image = (torch.from_numpy(side).double() for side in (features.text, features.image))
    right = torch.from_numpy(features.text_owner)[:, None] == torch.arange(60)
    found = retrieval(features).metrics
    for k in (1, 5, 10):
        expected = {"text_to_image": topk_recall(text @ image.T, right, k),
                    "image_to_text": topk_recall(image @ text.T, right.T, k)}  # fmt: skip
        for way, value in expected.items():
            assert found[f"{way}_R@{k}"] == found["ties_in_order"][f"{way}_R@{k}"] == value


def literal(features: EvalFeatures) -> dict[str, float]:
    """Return recall with ties in order, and mean average precision with ties counted against, by sorting each query."""
    image, text, owner = features.image.astype(float), features.text.astype(float), features.text_owner
    scores = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in text] for one in image]
    made: dict[str, list[float]] = {}
    for way, rows in (
        ("image_to_text", scores),
        ("text_to_image", [list(column) for column in zip(*scores, strict=True)]),
    ):
        for query, row in enumerate(rows):
            right = [
                (owner[item] == query) if way == "image_to_text" else (owner[query] == item) for item in range(len(row))
            ]
            order = sorted(range(len(row)), key=lambda item: -row[item])  # keeps the order of equal ones
            for k in (1, 5, 10):
                made.setdefault(f"{way}_R@{k}", []).append(float(any(right[item] for item in order[:k])))
            strict = sorted(range(len(row)), key=lambda item: (-row[item], right[item]))  # wrong ones first
            hits, precision = 0, 0.0
            for place, item in enumerate(strict, start=1):
                if right[item]:
                    hits += 1
                    precision += hits / place
            made.setdefault(f"{way}_MAP", []).append(precision / hits)
    return {name: sum(values) / len(values) for name, values in made.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_ties_and_average_precision_equal_the_literal_sort(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluate.retrieval.CHUNK_IMAGES", 8)
    features = made_features(seed=seed)
    few = EvalFeatures(features.image[np.arange(37) % 5], features.text[np.arange(len(features.text)) % 7],
                       features.text_owner, features.uids, features.captions)  # fmt: skip
    features = few if seed else features  # nearly everything ties with something
    result, expected = retrieval(features), literal(features)
    for name, value in expected.items():
        if name.endswith("MAP"):
            assert result.metrics[name] == pytest.approx(value, abs=1e-14)
            assert result.metrics[name] == result.cases[name].values.mean()
        else:
            assert result.metrics["ties_in_order"][name] == value
    assert result.metrics["num_ties_text_to_image"] > 0


def outcomes() -> list[Evaluation]:
    rng = np.random.default_rng(0)
    image, classes = (rng.standard_normal((n, 4)).astype(np.float32) for n in (9, 6))
    shot = zero_shot(image, np.arange(9) % 6, classes, list("abcdef"), [f"{n}.png" for n in range(9)])
    pairs = BenchmarkResult(
        {"accuracy": 0.5, "categories": {"swap_obj": {"accuracy": 0.5, "num_cases": 2}, "gone": {"num_cases": 0}}},
        {"categories.swap_obj.accuracy": CaseValues(("0", "1"), ("x", "y"), np.array([1.0, 0.0]))},
    )
    sets = {"zero_shot:a/b c": shot, "retrieval:x": retrieval(made_features()), "sugarcrepe:s": pairs,
            "fairness:f": BenchmarkResult({"parity_gap": 0.1})}  # fmt: skip
    return [Evaluation(name, "a model", 9, 0, outcome) for name, outcome in sets.items()]


def test_clip_benchmark_files(tmp_path: Path) -> None:
    results = outcomes()
    files = write_clip_benchmark(tmp_path / "out", results, "ViT-B-32:openai")
    records = [orjson.loads(path.read_bytes()) for path in files]
    assert all(set(one) == {"dataset", "model", "pretrained", "task", "metrics", "language"} for one in records)
    assert [(one["dataset"], one["task"]) for one in records] == [
        ("zero_shot:a/b c", "zeroshot_classification"),
        ("retrieval:x", "zeroshot_retrieval"),
        ("sugarcrepe:s/swap_obj", "image_caption_selection"),
    ]
    assert {(one["model"], one["pretrained"], one["language"]) for one in records} == {("ViT-B-32", "openai", "en")}
    assert set(records[0]["metrics"]) == {"acc1", "acc5", "mean_per_class_recall"}
    assert records[0]["metrics"]["acc1"] == results[0].metrics["top1"]
    order = results[1].metrics["ties_in_order"]
    assert records[1]["metrics"]["image_retrieval_recall@5"] == order["text_to_image_R@5"]
    assert records[1]["metrics"]["text_retrieval_recall@1"] == order["image_to_text_R@1"]
    assert all(path.parent == tmp_path / "out" for path in files)


def test_items_as_parquet(tmp_path: Path) -> None:
    write_items(tmp_path / "items.parquet", outcomes())
    write_items(tmp_path / "again.parquet", outcomes())
    assert (tmp_path / "items.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    rows = pq.read_table(tmp_path / "items.parquet").to_pylist()
    own = [row for row in rows if row["metric"] == "categories.swap_obj.accuracy"]
    assert own == [
        {
            "on": "sugarcrepe:s",
            "model": "a model",
            "metric": own[0]["metric"],
            "id": name,
            "image": image,
            "value": value,
        }
        for name, image, value in (("0", "x", 1.0), ("1", "y", 0.0))
    ]
    top = [row["value"] for row in rows if row["metric"] == "top1"]
    assert np.mean(top) == outcomes()[0].metrics["top1"]


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_a_run_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.txt").write_text("a red circle\na blue square\n")
    catalog = Catalog(tmp_path, tmp_path / "w")
    options = EvalOptions(catalog, blind_texts=read_blind_texts(str(tmp_path / "texts.txt")))
    files = ResultFiles(items=tmp_path / "i.parquet", clip_benchmark=tmp_path / "cb")
    results = run_evaluation("tiny", ["scenes:6@5", "order:scenes:6@5"], options, files)
    assert len(list((tmp_path / "cb").iterdir())) == 1
    assert {row["on"] for row in pq.read_table(tmp_path / "i.parquet").to_pylist()} == {
        "scenes:6@5",
        "order:scenes:6@5",
    }
    for entry in results[0].metrics["foils"].values():
        assert {"accuracy", "blind_ngram", "blind_length", "blind_text_tower"} <= set(entry)
    scene_images = set(results[0].result.cases["image_to_text_R@1"].images)
    for name in results[0].result.means["foil_accuracy"]:
        images = results[0].result.cases[name].images
        assert set(images) <= scene_images, "a twin's cases go with its scene's"
        assert all(images.count(image) % 2 == 0 for image in images)
    kept = results[1].result
    assert kept.metrics["blind_ngram"] == kept.cases["blind_ngram"].values.mean()
    assert len(kept.cases["blind_ngram"].values) == kept.metrics["num_cases"]
    print_results(results)
    assert "blind" in capsys.readouterr().out
    alone = run_evaluation("tiny", ["scenes:6@5", "order:scenes:6@5"], EvalOptions(catalog, blind=True))
    for entry in (*results[0].metrics["foils"].values(), *alone[0].metrics["foils"].values()):
        assert {entry[f"blind_{judge}"] for judge in ("ngram", "length", "text_tower")} == {0.5}
    assert "image_to_text_R@1" not in alone[0].metrics
    assert alone[1].metrics["num_cases"] == kept.metrics["num_cases"]
    with pytest.raises(InputError, match="blind"):
        run_evaluation("tiny", ["retrieval:scenes:6@5"], EvalOptions(catalog, blind=True))
