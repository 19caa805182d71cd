"""Zero-shot classification: against a literal loop, and over folders of generated images."""

from __future__ import annotations

import functools
import operator
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.evaluation.interface import EvalOptions
from flows.evaluation.registry import open_benchmark
from flows.evaluation.run import run_evaluation
from training.evaluate.image_files import ImageFile, ImageFinder, encode_image_files
from training.evaluate.zero_shot import TEMPLATES, class_embeddings, fill, zero_shot
from training.model.clip_model import ClipModel
from training.model.spec import ModelSpec


@pytest.fixture(scope="module")
def model() -> ClipModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ModelSpec.parse("tiny").load()


def unit(rng: np.random.Generator, rows: int, dim: int = 7) -> Any:
    made = rng.standard_normal((rows, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def literal(image: Any, label: Any, classes: Any, k: int) -> list[float]:
    """Count by hand: right when fewer than k other classes score at least as high as the own one."""
    found = []
    for row, own in zip(image, label, strict=True):
        scores = [sum(float(a) * float(b) for a, b in zip(row, other, strict=True)) for other in classes]
        above = sum(score >= scores[own] for place, score in enumerate(scores) if place != own)
        found.append(float(above < k))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_literal_loop_to_the_last_digit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, classes, label = unit(rng, 60), unit(rng, 9), rng.integers(0, 8, 60)
    classes[3] = classes[5]  # ties, counted as wrong
    ids = [f"{number}.png" for number in range(60)]
    result = zero_shot(image, label, classes, [f"class {number}" for number in range(9)], ids)
    first, five = literal(image, label, classes, 1), literal(image, label, classes, 5)
    assert result.cases["top1"].values.tolist() == first
    assert result.cases["top5"].values.tolist() == five
    assert result.metrics["top1"] == sum(first) / 60
    assert result.metrics["top5"] == sum(five) / 60
    own = [[right for right, mine in zip(first, label, strict=True) if mine == place] for place in range(8)]
    assert result.metrics["mean_per_class"] == np.mean([sum(part) / len(part) for part in own])
    assert result.metrics["num_ties"] >= sum(mine in {3, 5} for mine in label)
    assert "class 8" not in result.metrics["classes"]
    for name, items in result.cases.items():
        assert functools.reduce(operator.getitem, name.split("."), result.metrics) == items.values.mean()


def test_a_model_that_says_one_thing_finds_nothing() -> None:
    flat = np.ones((6, 4), dtype=np.float32)
    result = zero_shot(flat, np.arange(6), flat, list("abcdef"), list("uvwxyz")).metrics
    assert (result["top1"], result["top5"], result["num_ties"]) == (0.0, 0.0, 6)
    assert "top5" not in zero_shot(flat[:2], np.arange(2), flat[:2], ["a", "b"], ["u", "v"]).metrics
    with pytest.raises(InputError, match="1 classes"):
        zero_shot(flat, np.zeros(6, dtype=np.int64), flat[:1], ["a"], list("uvwxyz"))


def test_class_embeddings_are_means_of_templates(model: ClipModel) -> None:
    from training.evaluate.features import encode_texts

    found = class_embeddings(model, [["dog", "hound"], ["cat"]])
    texts = [fill(template, name) for name in ("dog", "hound") for template in TEMPLATES]
    mean = np.mean([encode_texts(model, [text])[0].astype(np.float64) for text in texts], axis=0)
    assert np.array_equal(found[0], (mean / np.linalg.norm(mean)).astype(np.float32))
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert fill("a {c} by a {}", "dog") == "a dog by a dog"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, colour in enumerate(("red", "green", "blue_sky")):
        (tmp_path / "set" / colour).mkdir(parents=True)
        for number in range(3 + place):
            shade = [30 + number, 30, 30]
            shade[place] = 220
            Image.new("RGB", (20, 20), tuple(shade)).save(tmp_path / "set" / colour / f"{number}.png")
    (tmp_path / "set" / "red" / "notes.txt").write_text("not an image")
    return tmp_path / "set"


def test_a_folder_of_classes(folder: Path, model: ClipModel, tmp_path: Path) -> None:
    (folder / "green" / "0.png").write_bytes(b"no image")
    opened = open_benchmark(f"zero_shot:{folder}", EvalOptions(Catalog(tmp_path, tmp_path)))
    result = opened.run(model, lambda *_: None)
    assert (opened.num_samples, opened.num_refused) == (11, 1)
    assert {name: entry["num_images"] for name, entry in result.metrics["classes"].items()} == {
        "blue_sky": 5, "green": 3, "red": 3,
    }  # fmt: skip
    limited: Any = open_benchmark(f"zero_shot:{folder}", EvalOptions(Catalog(tmp_path, tmp_path), limit=4))
    assert limited.ids == ["blue_sky/0.png", "blue_sky/1.png", "green/0.png", "red/0.png"]
    assert limited.names == [["blue sky"], ["green"], ["red"]]


def test_names_and_templates_beside_it(folder: Path, tmp_path: Path) -> None:
    (folder / "classes.txt").write_text("sky\nmeadow\n\nrose\n")
    (folder / "templates.txt").write_text("the colour of a {}\n")
    opened: Any = open_benchmark(f"zero_shot:{folder}", EvalOptions(Catalog(tmp_path, tmp_path)))
    assert opened.names == [["sky"], ["meadow"], ["rose"]]
    assert opened.templates == ("the colour of a {}",)
    (folder / "classes.json").write_text('{"red": ["rose", "blood"], "green": "meadow", "blue_sky": "sky"}')
    opened = open_benchmark(f"zero_shot:{folder}", EvalOptions(Catalog(tmp_path, tmp_path)))
    assert opened.names == [["sky"], ["meadow"], ["rose", "blood"]]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("classes.txt", "sky\nrose\n", "2 names for 3 subfolders"),
        ("classes.json", '{"red": "rose"}', "no name for the folder 'blue_sky'"),
        ("classes.json", '{"red": 3, "green": "a", "blue_sky": "b"}', "'red' is 3"),
        ("classes.json", "[1]", "list"),
        ("classes.json", "{", "not JSON"),
        ("templates.txt", "a {}\na photo\n", "line 2"),
        ("templates.txt", "\n", "no template"),
    ],
)
def test_what_does_not_fit_is_named(folder: Path, tmp_path: Path, name: str, text: str, told: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=told):
        open_benchmark(f"zero_shot:{folder}", EvalOptions(Catalog(tmp_path, tmp_path)))


def test_folders_without_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    for where in (folder / "red", folder / "nowhere"):
        with pytest.raises(InputError, match=r"subfolders|no folder"):
            open_benchmark(f"zero_shot:{where}", EvalOptions(Catalog(tmp_path, tmp_path)))


def test_pictures_are_cut_and_counted(folder: Path, model: ClipModel) -> None:
    half = Image.new("RGB", (40, 20), (220, 30, 30))
    half.paste((30, 220, 30), (20, 0, 40, 20))
    half.save(folder / "half.png")
    asked = [
        ImageFile(folder / "half.png", (20, 0, 40, 20)),
        ImageFile(folder / "none.png"),
        ImageFile(folder / "green" / "0.png"),
        ImageFile(folder / "half.png", (20, 0, 20, 20)),
        ImageFile(folder / "half.png"),
    ]
    found, readable = encode_image_files(model, asked)
    assert readable.tolist() == [True, False, True, False, True]
    assert np.array_equal(found[0], found[2])  # the same flat green
    assert not np.array_equal(found[0], found[4])
    assert not found[1].any()


def test_names_are_found_and_cannot_lead_out(folder: Path) -> None:
    (folder / "red" / "only.png").write_bytes(b"x")
    pictures = ImageFinder(folder)
    assert pictures.find("red/0.png") == folder / "red" / "0.png"
    assert pictures.find("only.png") == pictures.find("elsewhere/only.png") == folder / "red" / "only.png"
    assert pictures.find("2.png") is None  # three classes have one
    assert ImageFinder(folder / "green", ("", ".png")).find("1") == folder / "green" / "1.png"
    for name in ("../set/red/0.png", str(folder / "red" / "0.png"), "", "red", "red/9.png", "red\\..\\..\\x", "\0"):
        assert pictures.find(name) is None


def test_folders_that_are_no_classes_are_left_out_and_named(folder: Path, model: ClipModel, tmp_path: Path) -> None:
    picture = (folder / "red" / "0.png").read_bytes()
    for name in ("__MACOSX/._0.png", "__MACOSX/1.png", ".cache/0.png", "red/.checkpoints/0.png", "red/._0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture)
    (folder / "empty").mkdir()
    (folder / "docs").mkdir()
    (folder / "docs" / "readme.md").write_text("no image")
    (folder / "red" / "x.gif").write_bytes(b"GIF89a")
    (folder / "red" / "broken.png").write_bytes(picture[:40])
    opened: Any = open_benchmark(f"zero_shot:{folder}", EvalOptions(Catalog(tmp_path, tmp_path)))
    assert opened.classes == ["blue_sky", "green", "red"]
    opened.run(model, lambda *_: None)
    assert (opened.num_samples, opened.num_refused) == (12, 1)
    folders, files, unreadable = opened.notes
    assert folders.endswith(": .cache, __MACOSX, docs, empty")
    assert files.endswith(": red/notes.txt, red/x.gif")
    assert unreadable.endswith(": red/broken.png")


@pytest.mark.filterwarnings("ignore:model .tiny.")
def test_evaluate_says_what_it_leaves_out(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "__MACOSX").mkdir()
    run_evaluation("tiny", [f"zero_shot:{folder}"], EvalOptions(Catalog(tmp_path, tmp_path)))
    assert "no classes (hidden, __MACOSX or without an image): __MACOSX" in capsys.readouterr().err
