"""Published classification sets and faces as their archives unpack, made small here; and pickles that would run something."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import IMAGENET_CLASSNAMES
from PIL import Image

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.evaluation.benchmarks.fairness import FairnessBenchmark
from flows.evaluation.benchmarks.zero_shot import ZeroShotBenchmark
from flows.evaluation.class_names import class_set_names, load_class_names
from flows.evaluation.interface import EvalOptions
from flows.evaluation.registry import open_benchmark
from tests.training.test_model_export import _export as make_export
from tests.training.test_model_export import _run as make_run
from training.model.spec import ModelSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)


def opened(folder: Path, text: str = "", split: str | None = None, limit: int | None = None) -> ZeroShotBenchmark:
    options = EvalOptions(Catalog(folder / "manifests", folder / "workspace"), split, limit)
    found = open_benchmark(f"zero_shot:{folder}{text}", options)
    assert isinstance(found, ZeroShotBenchmark)
    return found


def binary(labels: list[int], coarse: int | None = None) -> bytes:
    marks = b"" if coarse is None else bytes([coarse])
    return b"".join(marks + bytes([label]) + PIXELS[row].tobytes() for row, label in enumerate(labels))


def pickled(labels: list[int], key: str = "labels", protocol: int = 2, **more: Any) -> bytes:
    data = PIXELS[: len(labels)].reshape(len(labels), -1)
    return pickle.dumps({"data": data, key: labels, "filenames": ["a.png"] * len(labels), **more}, protocol=protocol)


def python2_pickle(labels: list[int], key: str) -> bytes:
    """Return what Python 2 wrote of a dictionary of an array and labels, as in the published archives: its texts are bytes."""

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR("
    dtype += number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR("
    array += number(1) + b"(" + number(len(labels)) + number(3072) + b"t" + dtype + b"I00\n"
    array += text(PIXELS[: len(labels)].tobytes()) + b"tb"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    names = b"](" + b"".join(text(b"a.png") for _ in labels) + b"e"
    parts = text(b"data") + array + text(key.encode()) + listed + text(b"filenames") + names
    return b"\x80\x02}(" + parts + b"u."


def write_cifar(folder: Path, name: str, labels: list[int], *, train: bool = False) -> None:
    """Write the test file, and where wanted the training files, of a version of CIFAR."""
    ten = name.startswith("cifar-10-")
    marks = {"coarse": None if ten else 7}
    content = (
        binary(labels, **marks)
        if name.endswith(("bin", "binary"))
        else python2_pickle(labels, "labels" if ten else "fine_labels")
    )
    (folder / name).mkdir(parents=True)
    ending = ".bin" if name.endswith(("bin", "binary")) else ""
    tests, trains = (["test_batch"], [f"data_batch_{n}" for n in range(1, 6)]) if ten else (["test"], ["train"])
    for file in [*tests, *(trains if train else [])]:
        (folder / name / f"{file}{ending}").write_bytes(content)


@pytest.mark.parametrize(
    "name", ["cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python"]
)
def test_cifar_in_its_own_files(tmp_path: Path, name: str) -> None:
    labels = [3, 0, 9, 3]
    write_cifar(tmp_path, name, labels, train=True)
    found, inside = opened(tmp_path), opened(tmp_path / name)
    classes = list(load_class_names("cifar10" if "-10-" in name else "cifar100").classes)
    assert found.classes == [classes[label] for label in (0, 3, 9)]
    assert [found.classes[label] for label in found.labels] == [classes[label] for label in labels]
    assert inside.labels == found.labels and inside.ids == found.ids
    assert all("{}" in template for template in found.templates) and len(found.templates) == 18
    for row, file in enumerate(found.files):
        assert np.array_equal(np.asarray(file.read()), PIXELS[row].transpose(1, 2, 0))
    times = 5 if "-10-" in name else 1
    assert len(opened(tmp_path, split="train").files) == times * len(labels)
    assert opened(tmp_path, limit=3).labels == [1, 0, 2], "one of each class first, by the images' names"


class RunsSomething:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar-10-batches-py", [1, 2])
    file, marker = tmp_path / "cifar-10-batches-py" / "test_batch", tmp_path / "marker"
    for protocol in range(5):  # with 5 an array names a function of its own, which is refused before
        file.write_bytes(pickled([1, 2], protocol=protocol, more=RunsSomething(marker)))
        with pytest.raises(
            InputError, match=r"test_batch: not a file of CIFAR's Python version: it names (posix|os|nt)\.mkdir"
        ):
            opened(tmp_path)
        assert not marker.exists()
    file.write_bytes(pickled([1, 2], more=np.dtype))
    assert opened(tmp_path).labels == [0, 1], "the control: without it the file opens"


HOSTILE: list[Any] = [
    b"", b"no pickle", b"\x80\x02cbuiltins\neval\n.", b"cnumpy\nload\n(S'x'\ntR.", b"Pid\n.", b"(lp0\ng7\n.",
    pickle.dumps([1, 2]), pickle.dumps({"data": 3, "labels": [1]}), pickle.dumps({b"labels": [1, 2]}), pickled([1, 77]),
    pickled([-1, 2]), pickle.dumps({"data": PIXELS[:1].reshape(1, -1), "labels": [1, 2]}, 2),
    pickle.dumps({"data": np.zeros((2, 3072)), "labels": [1, 2]}, 2), pickle.dumps({"data": np.array([None, "x"]), "labels": [1, 2]}, 2),
    pickle.dumps({"data": np.asfortranarray(PIXELS[:2].reshape(2, -1)), "labels": [1, 2]}, 2), pickled([1, 2])[:2000],
    pickle.dumps({"data": PIXELS[:2].reshape(2, -1), "labels": [True, False]}, 2),
    pickle.dumps({"data": PIXELS[:2].reshape(2, -1), "labels": ["ünïcode", "“"]}, 2), b"(" * 100_000, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_damaged_and_hostile_pickles_are_refused_by_name(tmp_path: Path, number: int) -> None:
    write_cifar(tmp_path, "cifar-10-batches-py", [1, 2])
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(HOSTILE[number])
    with pytest.raises(InputError, match="test_batch"):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 3072, binary([1, 2])[:-1], binary([1, 10])])
def test_damaged_binary_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    write_cifar(tmp_path, "cifar-10-batches-bin", [1, 2])
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"test_batch\.bin"):
        opened(tmp_path)


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS[seed % len(PIXELS)].transpose(1, 2, 0)).save(path)


def test_food_101_and_pets_by_their_lists(tmp_path: Path) -> None:
    food, pets = tmp_path / "food-101", tmp_path / "oxford-iiit-pet"
    for name in ("apple_pie/1", "apple_pie/2", "creme_brulee/3", "sushi/4"):
        picture(food / "images" / f"{name}.jpg")
    (food / "meta").mkdir()
    (food / "meta" / "test.txt").write_text("apple_pie/2\ncreme_brulee/3\n")
    (food / "meta" / "train.txt").write_text("apple_pie/1\nsushi/4\n")
    found = opened(food)
    assert found.names == [["apple pie"], ["crème brûlée"]] and found.ids == ["apple_pie/2.jpg", "creme_brulee/3.jpg"]
    assert found.templates == ("a photo of {}, a type of food.",)
    assert opened(food, split="train").names == [["apple pie"], ["sushi"]]
    for name in ("Abyssinian_1", "great_pyrenees_12"):
        picture(pets / "images" / f"{name}.jpg")
    (pets / "annotations").mkdir()
    (pets / "annotations" / "test.txt").write_text("# a remark\nAbyssinian_1 1 1 1\ngreat_pyrenees_12 20 2 12\n")
    assert opened(pets).names == [["Abyssinian cat"], ["Great Pyrenees dog"]]
    for line in ("../../secret_1 1 1 1", "unicorn_3 1 1 1", "Abyssinian 1 1 1"):
        (pets / "annotations" / "test.txt").write_text(f"Abyssinian_1 1 1 1\n{line}\n")
        with pytest.raises(InputError, match=r"test\.txt entry 2"):
            opened(pets)


def test_caltech_101_and_imagenet_by_their_folders(tmp_path: Path) -> None:
    caltech = tmp_path / "caltech101" / "101_ObjectCategories"
    for name in ("BACKGROUND_Google", "Faces_easy", "water_lilly"):
        picture(caltech / name / "image_0001.jpg")
    assert opened(tmp_path).names == [["face"], ["water lily"]]
    for name in ("n01440764", "n01443537", "n15075141"):
        picture(tmp_path / "imagenet" / "val" / name / "one.JPEG")
    expected = [[IMAGENET_CLASSNAMES[0]], [IMAGENET_CLASSNAMES[1]], [IMAGENET_CLASSNAMES[-1]]]
    whole, part = opened(tmp_path / "imagenet"), opened(tmp_path / "imagenet" / "val")
    assert whole.names == part.names == expected and len(part.templates) == 80
    (tmp_path / "imagenet" / "val" / "classes.txt").write_text("one\ntwo\nthree\n")
    assert opened(tmp_path / "imagenet" / "val").names == [["one"], ["two"], ["three"]], (
        "a folder's own names come first"
    )


def test_names_for_other_folders(tmp_path: Path) -> None:
    for name in ("Lawn mower", "maple-tree", "sea"):
        picture(tmp_path / name / "1.png")
    assert opened(tmp_path, "?classes=cifar100").names == [["lawn mower"], ["maple tree"], ["sea"]]
    with pytest.raises(InputError, match=r"'Lawn mower' is no class of cifar10 \(3 of 3 are not\)"):
        opened(tmp_path, "?classes=cifar10")
    with pytest.raises(InputError, match="allowed: caltech101, cifar10, cifar100, food101, pets, imagenet"):
        opened(tmp_path, "?classes=cifar")
    assert opened(tmp_path).names == [["Lawn mower"], ["maple-tree"], ["sea"]]


def test_the_sets_are_whole() -> None:
    sizes = {name: len(load_class_names(name).classes) for name in class_set_names()}
    assert sizes == {"caltech101": 101, "cifar10": 10, "cifar100": 100, "food101": 101, "pets": 37, "imagenet": 1000}
    for name in class_set_names():
        known = load_class_names(name)
        assert all(text.strip() == text and text for text in known.classes.values())
        assert all("{}" in template for template in known.templates)
        if name != "imagenet":  # "crane" and "maillot" are two classes each there
            assert len(set(known.classes.values())) == len(known.classes)


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_cifar_from_end_to_end(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar-10-batches-py", [3, 0, 9, 3, 5, 5])
    found = opened(tmp_path)
    result = found.run(ModelSpec.parse("tiny").load(), lambda *_: None)
    assert result.metrics["num_images"] == 6 and result.metrics["num_classes"] == 4
    assert found.num_samples == 6 and "cifar10: 4 classes" in found.new_notes()[0]


def faces(folder: Path, by: str = "gender", split: str | None = None) -> FairnessBenchmark:
    options = EvalOptions(Catalog(folder / "manifests", folder / "workspace"), split)
    found = open_benchmark(f"fairness:{folder}?by={by}", options)
    assert isinstance(found, FairnessBenchmark)
    return found


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_utkface_by_its_names(tmp_path: Path) -> None:
    for row in range(42):
        picture(tmp_path / "part1" / f"{30 + row}_{row % 2}_{row % 5}_2017011{row:04}.jpg.chip.jpg", row)
    picture(tmp_path / "part1" / "61_1_20170109150557335.jpg.chip.jpg")  # the archive has such names, too
    found = faces(tmp_path)
    groups = found.groups()
    assert groups.names == ("female", "male") and np.bincount(groups.of_image).tolist() == [21, 21]
    assert groups.of_image.tolist() == [1 - row % 2 for row in range(42)] and not groups.no_people.any()
    result = found.run(ModelSpec.parse("tiny").load(), lambda *_: None)
    assert "parity_gap" in str(result.metrics)
    with pytest.raises(InputError, match=r"(?s)'asian': 8.*'indian': 8.*two groups or more of 20"):
        faces(tmp_path, "ethnicity").groups()
    ages = [dict(face.groups)["age"] for face in found.faces]
    assert ages[:30] == ["adult"] * 30 and ages[30:] == ["old"] * 12


def test_fairface_by_its_table(tmp_path: Path) -> None:
    rows = ["file,age,gender,race,service_test"]
    for row in range(40):
        picture(tmp_path / "val" / f"{row}.jpg", row)
        rows.append(f"val/{row}.jpg,{('0-2', '3-9', 'more than 70', '20-29')[row % 4]},{('Male', 'Female')[row % 2]},"
                    f"{('East Asian', 'Latino_Hispanic')[row // 20]},True")  # fmt: skip
    table = tmp_path / "fairface_label_val.csv"
    table.write_text("\n".join(rows))
    assert faces(tmp_path, "ethnicity").groups().names == ("east_asian", "latino_hispanic")
    assert [face.groups["age"] for face in faces(tmp_path).faces if face.name == "val/2.jpg"] == ["old"]
    with pytest.raises(InputError, match="a folder without faces"):
        faces(tmp_path, split="train")
    for line in ("../x.jpg,20-29,Male,White,True", "val/1.jpg,young,Male,White,True", ",20-29,Male,White,True"):
        table.write_text("\n".join([rows[0], line]))
        with pytest.raises(InputError, match=r"fairface_label_val\.csv line 2"):
            faces(tmp_path)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns a, b"):
        faces(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")
def test_open_clips_own_loop_gets_our_numbers_of_an_exported_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classifier and its loop over a loader, with the export as its model: top-1 and top-5 as `evaluate` has them."""

    def hits(logits: torch.Tensor, target: torch.Tensor, topk: tuple[int, ...]) -> list[float]:
        right = logits.topk(max(topk)).indices == target[:, None]
        return [float(right[:, :count].sum()) for count in topk]

    # its own counts the same, but makes a number of an array of one, which NumPy refuses by now
    monkeypatch.setattr("open_clip_train.zero_shot.accuracy", hits)
    import open_clip
    from open_clip_train.zero_shot import run as run_zero_shot
    from torch.utils.data import DataLoader

    folder = tmp_path / "pictures"
    for number, name in enumerate(("red_bus", "dog", "house", "lake", "Bäume", "tower", "lamp")):
        for picture_number in range(9):
            (folder / name).mkdir(parents=True, exist_ok=True)
            picture(folder / name / f"{picture_number}.png", seed=100 * number + picture_number)
    benchmark = opened(folder)
    tuned, ours = make_run(tmp_path, "tiny")
    found = benchmark.run(ours, lambda *_: None).metrics

    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{make_export(tuned, 'open_clip')}")
    theirs.eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'open_clip'}")
    templates = [lambda name, text=text: text.replace("{c}", name).replace("{}", name) for text in benchmark.templates]
    classifier = open_clip.build_zero_shot_classifier(
        theirs, tokenize, [names[0] for names in benchmark.names], templates
    )
    pixels = [preprocess(Image.open(folder / name).convert("RGB")) for name in benchmark.ids]
    args = SimpleNamespace(device="cpu", precision="fp32", batch_size=16)
    top1, top5 = run_zero_shot(theirs, classifier, DataLoader([*zip(pixels, benchmark.labels, strict=True)], 16), args)
    assert (found["top1"], found["top5"]) == pytest.approx((top1, top5), abs=1e-4)
    assert 0 < top1 < top5 < 1, "pictures that tell models apart"
