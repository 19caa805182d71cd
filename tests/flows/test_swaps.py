"""The test made of a source's own captions: kept, seeded, one foil of a kind, blind judges beside it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.sample import ImageRef, Sample
from flows.evaluation.interface import EvalOptions
from flows.evaluation.registry import open_benchmark
from flows.evaluation.swap_foils import draw_cases, swaps_test
from training.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")

CAPTIONS = (
    ("a black dog chases a white cat", "two animals run"),
    ("a man in a red shirt pushes a boy in a blue jacket", "a man pushes a boy"),
    ("a small girl in a green dress kicks a big yellow ball", "a girl plays"),
    ("a brown horse follows a grey horse", "two horses walk in a field"),
    ("a woman throws a ball to a dog", "a woman plays with her dog"),
    ("nothing to exchange",),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swaps") / "photos"
    folder.mkdir()
    lines = []
    for number, captions in enumerate(CAPTIONS):
        buffer = io.BytesIO()
        Image.new("RGB", (72, 72), (40 * number, 90, 200)).save(buffer, format="PNG")
        (folder / f"{number}.png").write_bytes(buffer.getvalue())
        lines.append(orjson.dumps({"file": f"{number}.png", "captions": list(captions)}))
    (folder / "captions.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder


@pytest.fixture(scope="module")
def opened(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_benchmark(
        f"swaps:folder:{photos}",
        EvalOptions(Catalog(tmp_path_factory.mktemp("swaps_w"), tmp_path_factory.mktemp("swaps_w"))),
    )


def test_foils_are_made_once_and_kept(opened: Any) -> None:
    workspace = opened.eval_options.catalog.workspace
    cases = swaps_test(opened.snapshot, opened.samples, workspace)
    made = {(case.category, case.right[0], case.wrong[0]) for case in cases}
    assert ("roles", "a black dog chases a white cat", "a white cat chases a black dog") in made
    assert ("attributes", "a black dog chases a white cat", "a white dog chases a black cat") in made
    assert len({(case.id, case.category) for case in cases}) == len(cases)
    (kept,) = (workspace / "benchmarks").glob("swaps-*.json")
    before = kept.read_bytes()
    assert swaps_test(opened.snapshot, opened.samples, workspace) == cases
    kept.unlink()
    assert swaps_test(opened.snapshot, opened.samples, workspace) == cases
    assert kept.read_bytes() == before
    kept.write_text('{"format": "clipcurate/swaps-test/1"}')
    with pytest.raises(InputError, match="not a swaps test"):
        swaps_test(opened.snapshot, opened.samples, workspace)
    kept.write_text('{"format": "other"}')
    with pytest.raises(InputError, match="format 'other'"):
        swaps_test(opened.snapshot, opened.samples, workspace)
    kept.write_bytes(before)


def test_one_foil_of_a_kind_for_each_caption() -> None:
    records = [
        {"text": f"foil {number}", "caption": 0, "operation": "bind", "span_class": "attribute"} for number in range(9)
    ]
    records += [{"text": "swapped", "caption": 0, "operation": "swap", "span_class": "noun"}]
    sample = Sample("0" * 32, "x", ImageRef("/none"), ("true",), None, {}, {"true_negatives": records})
    cases = draw_cases([sample], 0)
    assert [case.category for case in cases] == ["attributes", "noun"]
    assert {draw_cases([sample], seed)[0].wrong for seed in range(30)} > {cases[0].wrong}
    shuffled = Sample("0" * 32, "x", ImageRef("/none"), ("true",), None, {}, {"true_negatives": records[::-1]})
    assert draw_cases([shuffled], 0) == cases


def test_numbers_are_means_of_their_cases(opened: Any) -> None:
    model = ModelSpec.parse("tiny").load()
    result = opened.run(model, lambda *_: None)
    cases = swaps_test(opened.snapshot, opened.samples, opened.eval_options.catalog.workspace)
    assert result.metrics["num_cases"] == len(cases)
    for name, items in result.cases.items():
        value: Any = result.metrics
        for part in name.split("."):
            value = value[part]
        assert value == items.values.mean(), name
    for name, parts in result.means.items():
        assert result.metrics[name] == pytest.approx(
            sum(result.cases[part].values.mean() for part in parts) / len(parts)
        )
    for entry in result.metrics["categories"].values():
        assert {"accuracy", "blind_ngram", "blind_length", "blind_text_tower"} <= set(entry)


def test_nothing_to_exchange_is_told(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dull"
    folder.mkdir()
    (folder / "0.png").write_bytes((photos / "0.png").read_bytes())
    (folder / "captions.jsonl").write_text('{"file": "0.png", "captions": ["dogs"]}\n')
    opened = open_benchmark(f"swaps:folder:{folder}", EvalOptions(Catalog(tmp_path / "w", tmp_path / "w")))
    with pytest.raises(InputError, match="nothing to exchange"):
        opened.run(ModelSpec.parse("tiny").load(), lambda *_: None)
