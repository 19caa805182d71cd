"""Published tests of texts in their own formats, with all images, some, and none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.evaluation.interface import EvalOptions
from flows.evaluation.registry import open_benchmark
from training.evaluate.benchmark_result import BenchmarkResult
from training.evaluate.features import TextEmbeddingCache, encode_texts
from training.evaluate.image_files import ImageFile, encode_image_files
from training.evaluate.triplets import text_only
from training.evaluate.winoground import WinogroundCase, winoground
from training.model.clip_model import ClipModel
from training.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")
DATA = Path(os.environ.get("CLIPCURATE_DATA", "../shared/data"))


@pytest.fixture(scope="module")
def model() -> ClipModel:
    return ModelSpec.parse("tiny").load()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        image = Image.new("RGB", (40, 30), (60 * number, 120, 30))
        image.paste((250, 60 * number, 200), (10, 0, 40, 20))
        image.save(folder / f"{number}.png")
    return folder


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(value))


def foil(number: int, file: str = "") -> dict[str, Any]:
    return {
        "filename": file or f"{number}.png",
        "caption": f"a dog near {number} cats",
        "caption2": f"{number} cats are close to a dog",
        "negative_caption": f"a cat near {number} dogs",
    }


def sugarcrepe(folder: Path) -> None:
    write(folder / "swap_obj.json", {str(number): foil(number) for number in range(3)})
    write(folder / "add_att.json", {str(number): foil(number, f"{number + 2}.png") for number in range(3)})


def sugarcrepe_pp(folder: Path) -> None:
    write(folder / "swap_obj.json", [{"id": number, **foil(number)} for number in range(3)])
    rows = "\n".join(f'{n},{n + 2}.png,"dogs, {n}",some dogs {n},cats {n}' for n in range(3))
    (folder / "swap_att.csv").write_text(f"id,filename,caption,caption2,negative_caption\n{rows}\n")


def aro(folder: Path, name: str, **more: Any) -> None:
    box = {"bbox_x": 10, "bbox_y": 0, "bbox_w": 30, "bbox_h": 20}
    texts = {"true_caption": "the dog is on the cat", "false_caption": "the cat is on the dog"}
    write(folder / name, [{"image_path": f"{n + 2}.png", **box, **texts, **more} for n in range(3)])


def aro_relation(folder: Path) -> None:
    aro(folder, "visual_genome_relation.json", relation_name="on")


def aro_attribute(folder: Path) -> None:
    aro(folder, "visual_genome_attribution.json", attributes=["white", "small"])


def valse(folder: Path) -> None:
    texts = {"caption": "There is a dog.", "foil": "There is no dog."}
    write(
        folder / "existence.json",
        {f"e{n}": {"image_file": f"{n}.png", **texts, "mturk": {"caption": n}} for n in range(4)},
    )
    write(
        folder / "relations.json",
        {f"r{n}": {"image_file": f"{n + 2}.png", **texts, "mturk": {"caption": 3}} for n in range(3)},
    )


def vl_checklist(folder: Path) -> None:
    write(
        folder / "Attribute" / "size.json",
        [[f"vg/{n + 2}.png", {"POS": [f"old {n}"], "NEG": [f"new {n}"]}] for n in range(3)],
    )
    write(folder / "state.json", [["1.png", {"POS": ["wet dog"], "NEG": ["dry dog"]}]])


Maker = Callable[[Path], None]
FORMATS: dict[str, tuple[Maker, dict[str, tuple[int, int]]]] = {
    "sugarcrepe": (sugarcrepe, {"swap_obj": (3, 0), "add_att": (3, 1)}),
    "sugarcrepe_pp": (sugarcrepe_pp, {"swap_obj": (3, 0), "swap_att": (3, 1)}),
    "aro_relation": (aro_relation, {"on": (3, 1)}),
    "aro_attribute": (aro_attribute, {"white_small": (3, 1)}),
    "valse": (valse, {"existence": (2, 0), "relations": (3, 1)}),
    "vl_checklist": (vl_checklist, {"Attribute_size": (3, 1), "state": (1, 0)}),
}
"""Kind -> what writes it, and by category how many cases count and how many of them have no image."""


def test_foils_that_the_model_reads_as_their_caption_are_ties_and_counted(
    tmp_path: Path, pictures: Path, model: ClipModel
) -> None:
    long = "dog " * 28
    texts = [("a dog", "A  DOG"), (long + "and a cat", long + "and a cow"), (long + "cat", long + "cow"), ("a", "b")]
    rows = {str(n): foil(n) | {"caption": right, "negative_caption": wrong} for n, (right, wrong) in enumerate(texts)}
    write(tmp_path / "set" / "swap_obj.json", rows)
    opened = open_benchmark(
        f"sugarcrepe:{tmp_path / 'set'}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path))
    )
    metrics = opened.run(model, lambda *_: None).metrics
    # 32 tokens: start, 28 dogs, two more words, end
    assert (metrics["num_equal_cases"], metrics["num_ties"], metrics["num_texts_cut"]) == (2, 2, 2)
    cut, equal = opened.notes
    assert "2 of 8 texts have more than the 32 tokens" in cut
    assert equal.startswith("2 of 4 cases: true and false text are equal in those tokens, a tie, which counts as wrong")


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_load_and_count(kind: str, tmp_path: Path, pictures: Path, model: ClipModel) -> None:
    make, expected = FORMATS[kind]
    make(tmp_path / "set")
    opened = open_benchmark(f"{kind}:{tmp_path / 'set'}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path)))
    result = opened.run(model, lambda *_: None)
    categories = result.metrics["categories"]
    assert {name: (entry["num_listed"], entry["num_missing"]) for name, entry in categories.items()} == expected
    assert all(entry["num_cases"] == entry["num_listed"] - entry["num_missing"] for entry in categories.values())
    assert (opened.num_samples, opened.num_refused) == (result.metrics["num_cases"], result.metrics["num_missing"])
    means_hold(result)
    for entry in categories.values():
        assert {"accuracy", "blind_ngram", "blind_length", "blind_text_tower"} <= set(entry)
    if kind == "valse":
        assert result.metrics["num_not_valid"] == 2
    if kind == "sugarcrepe_pp":
        assert {entry["num_tot_cases"] for entry in categories.values()} == {3}


def means_hold(result: BenchmarkResult) -> None:
    for name, items in result.cases.items():
        value: Any = result.metrics
        for part in name.split(".", 1) if name.startswith("tags") and name.count(".") == 1 else name.split("."):
            value = value[part]
        assert value == items.values.mean(), name
        assert len(set(items.ids)) == len(items.ids)
    for name, parts in result.means.items():
        assert result.metrics[name] == pytest.approx(np.mean([result.cases[part].values.mean() for part in parts]))


def test_sugarcrepe_equals_a_literal_scorer(tmp_path: Path, pictures: Path, model: ClipModel) -> None:
    sugarcrepe(tmp_path)
    result = open_benchmark(f"sugarcrepe:{tmp_path}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path))).run(
        model, lambda *_: None
    )
    for category in ("swap_obj", "add_att"):
        wins = []
        for record in orjson.loads((tmp_path / f"{category}.json").read_bytes()).values():
            if not (pictures / record["filename"]).is_file():
                continue
            image = encode_image_files(model, [ImageFile(pictures / record["filename"])])[0][0]
            texts = encode_texts(model, [record["caption"], record["negative_caption"]])
            true, false = (sum(float(a) * float(b) for a, b in zip(image, text, strict=True)) for text in texts)
            wins.append(float(true > false))
        assert result.cases[f"categories.{category}.accuracy"].values.tolist() == wins
        assert result.metrics["categories"][category]["accuracy"] == sum(wins) / len(wins)


@pytest.mark.parametrize("kind", FORMATS)
def test_without_images(kind: str, tmp_path: Path, model: ClipModel) -> None:
    make, expected = FORMATS[kind]
    make(tmp_path)
    with pytest.raises(InputError, match=r"none of its \d+ images"):
        open_benchmark(f"{kind}:{tmp_path}", EvalOptions(Catalog(tmp_path, tmp_path)))
    opened = open_benchmark(f"{kind}:{tmp_path}", EvalOptions(Catalog(tmp_path, tmp_path), blind=True))
    result = opened.run(model, lambda *_: None)
    assert opened.num_samples == sum(listed for listed, _ in expected.values())
    assert "accuracy" not in result.metrics
    assert {"blind_ngram", "blind_length", "blind_text_tower"} <= set(result.metrics)
    means_hold(result)


def test_boxes_are_cut_out(tmp_path: Path, pictures: Path, model: ClipModel) -> None:
    aro_relation(tmp_path)
    opened: Any = open_benchmark(f"aro_relation:{tmp_path}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path)))
    image, readable = opened._embed_images(model, None)
    assert readable.tolist() == [True, True, False]
    cut = Image.open(pictures / "2.png").convert("RGB").crop((10, 0, 40, 20))
    cut.save(tmp_path / "cut.png")
    assert np.array_equal(image[0], encode_image_files(model, [ImageFile(tmp_path / "cut.png")])[0][0])


def test_relations_that_hold_both_ways_are_no_part_of_the_mean(
    tmp_path: Path, pictures: Path, model: ClipModel
) -> None:
    aro_relation(tmp_path)
    rows = orjson.loads((tmp_path / "visual_genome_relation.json").read_bytes())
    write(tmp_path / "visual_genome_relation.json", [*rows, {**rows[0], "relation_name": "next to"}])
    result = open_benchmark(f"aro_relation:{tmp_path}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path))).run(
        model, lambda *_: None
    )
    assert set(result.metrics["categories"]) == {"on", "next to"}
    assert result.means["accuracy"] == ("categories.on.accuracy",)


def test_limit_gives_every_category_its_turn(tmp_path: Path, pictures: Path) -> None:
    sugarcrepe(tmp_path)
    opened: Any = open_benchmark(
        f"sugarcrepe:{tmp_path}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path), limit=3)
    )
    assert [one.case.category for one in opened.listed] == ["add_att", "swap_obj", "add_att"]


BROKEN: list[tuple[str, str, Any, str]] = [
    ("sugarcrepe", "swap_obj.json", {"0": {"filename": "0.png", "caption": "a"}}, "swap_obj.json 0: negative_caption"),
    ("sugarcrepe", "swap_obj.json", {"0": {**foil(0), "caption": " "}}, "caption is"),
    ("sugarcrepe", "swap_obj.json", {"0": {**foil(0), "filename": 3}}, "filename is 3"),
    ("sugarcrepe", "swap_obj.json", {"0": []}, "a record with named fields"),
    ("sugarcrepe", "swap_obj.json", "text", "an object of records"),
    ("sugarcrepe", "other.json", {}, "none of the benchmark's files"),
    ("sugarcrepe", "swap_obj.json", {}, "no case"),
    ("aro_relation", "visual_genome_relation.json", [{"image_path": "0.png"}], "bbox_x"),
    (
        "aro_attribute",
        "visual_genome_attribution.json",
        [{"bbox_x": 0, "bbox_y": 0, "bbox_w": 1, "bbox_h": 1}],
        "attributes",
    ),
    ("valse", "existence.json", {"0": {"caption": "a", "foil": "b", "image_file": "0.png"}}, "mturk"),
    ("vl_checklist", "size.json", {"0": []}, "a list of"),
    ("vl_checklist", "size.json", [["0.png", []]], "row 0"),
    ("vl_checklist", "size.json", [["0.png", {"POS": ["a"], "NEG": []}]], "NEG"),
]


@pytest.mark.parametrize(("kind", "name", "value", "told"), BROKEN)
def test_what_is_not_as_published_is_named(kind: str, name: str, value: Any, told: str, tmp_path: Path) -> None:
    write(tmp_path / name, value)
    with pytest.raises(InputError, match=told):
        open_benchmark(f"{kind}:{tmp_path}", EvalOptions(Catalog(tmp_path, tmp_path), blind=True))


def test_options_are_checked(tmp_path: Path, pictures: Path) -> None:
    sugarcrepe(tmp_path / "what?")
    for text, told in (
        (f"sugarcrepe:{tmp_path}?image={pictures}", "unknown option 'image'"),
        (f"sugarcrepe:{tmp_path / 'what?'}?images=", "without a value"),
        (f"sugarcrepe:{tmp_path / 'what?'}?images={tmp_path / 'none'}", "there is no folder"),
        ("sugarcrepe", "the source is empty"),
        (f"sugarcrep:{tmp_path}", "did you mean 'sugarcrepe'"),
    ):
        with pytest.raises(InputError, match=told):
            open_benchmark(text, EvalOptions(Catalog(tmp_path, tmp_path)))
    assert (
        open_benchmark(
            f"sugarcrepe:{tmp_path / 'what?'}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path))
        ).num_samples
        == 5
    )
    with pytest.raises(InputError, match="--blind"):
        open_benchmark("retrieval:scenes:3", EvalOptions(Catalog(tmp_path, tmp_path), blind=True))


def test_text_only_task_equals_the_literal_loop(tmp_path: Path, model: ClipModel) -> None:
    sugarcrepe_pp(tmp_path)
    opened: Any = open_benchmark(f"sugarcrepe_pp:{tmp_path}", EvalOptions(Catalog(tmp_path, tmp_path), blind=True))
    cases = [one.case for one in opened.listed]
    result = text_only(TextEmbeddingCache(model), cases)
    for category in ("swap_obj", "swap_att"):
        hits = []
        for case in cases:
            if case.category == category:
                one, two, wrong = encode_texts(model, [*case.right, *case.wrong]).astype(np.float64)
                hits.append(float((one * two).sum() > max((one * wrong).sum(), (two * wrong).sum())))
        assert result.cases[f"categories.{category}.tot_accuracy"].values.tolist() == hits


def test_winoground_scores() -> None:
    rng = np.random.default_rng(0)
    image, text = (rng.standard_normal((50, 2, 5)).astype(np.float32) for _ in range(2))
    text[0, 1] = text[0, 0]  # a tie is wrong
    quartets = [
        WinogroundCase(str(n), ("Object", "Both")[n % 2], ("a b", "b a"), (f"{n}a", f"{n}b")) for n in range(50)
    ]
    result = winoground(quartets, image, text, 60)
    for number in range(50):
        s = [
            [float(text[number, c].astype(np.float64) @ image[number, i].astype(np.float64)) for i in (0, 1)]
            for c in (0, 1)
        ]
        by_text = s[0][0] > s[1][0] and s[1][1] > s[0][1]
        by_image = s[0][0] > s[0][1] and s[1][1] > s[1][0]
        found = [result.cases[f"{name}_score"].values[number] for name in ("text", "image", "group")]
        assert found == [by_text, by_image, by_text and by_image]
    assert (result.metrics["num_missing"], result.metrics["tags"]["Both"]["num_cases"]) == (10, 25)
    means_hold(result)


def test_winoground_files(tmp_path: Path, pictures: Path, model: ClipModel) -> None:
    def line(number: int, images: tuple[str, str]) -> dict[str, Any]:
        told = {"caption_0": "a dog on a cat", "caption_1": "a cat on a dog", "collapsed_tag": "Object"}
        return {"id": number, **told, "image_0": images[0], "image_1": images[1]}

    rows = [line(0, ("0", "1")), line(1, ("2", "3.png")), line(2, ("3", "4"))]
    path = tmp_path / "examples.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    opened = open_benchmark(f"winoground:{tmp_path}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path)))
    result = opened.run(model, lambda *_: None)
    assert (opened.num_samples, opened.num_refused, result.metrics["num_listed"]) == (2, 1, 3)
    (pictures / "0.png").write_bytes(b"damaged")
    opened = open_benchmark(f"winoground:{tmp_path}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path)))
    assert opened.run(model, lambda *_: None).metrics["num_missing"] == 2
    for text, told in (
        ("{", "line 1"),
        ('{"id": 1}', "caption_0"),
        (orjson.dumps(line(0, ("", "1"))).decode(), "line 1"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            open_benchmark(f"winoground:{tmp_path}?images={pictures}", EvalOptions(Catalog(tmp_path, tmp_path)))


@pytest.mark.parametrize(
    ("kind", "folder", "sizes"),
    [
        ("sugarcrepe", "sugarcrepe", {
            "add_att": 692, "add_obj": 2062, "replace_att": 788, "replace_obj": 1652, "replace_rel": 1406, "swap_att": 666, "swap_obj": 245,
        }),
        ("valse", "valse", {"actant-swap": 949, "coreference-hard": 104, "existence": 505, "relations": 535}),
        ("vl_checklist", "vlchecklist", {"attribute_vg_size": 2695, "attribute_vg_state": 941}),
    ],
)  # fmt: skip
def test_real_files(kind: str, folder: str, sizes: dict[str, int], tmp_path: Path) -> None:
    source = DATA / folder
    if not source.is_dir():
        pytest.skip(f"no {source}: set CLIPCURATE_DATA")
    blind: Any = open_benchmark(f"{kind}:{source}", EvalOptions(Catalog(tmp_path, tmp_path), blind=True))
    counts: dict[str, int] = {}
    for one in blind.listed:
        counts[one.case.category] = counts.get(one.case.category, 0) + 1
    assert counts == sizes
    # a folder that holds pictures under some of the names
    wanted = {one.file for number, one in enumerate(blind.listed) if number % 50 == 0}
    for name in wanted:
        path = tmp_path / "some" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path, format="JPEG")
    opened = open_benchmark(f"{kind}:{source}?images={tmp_path / 'some'}", EvalOptions(Catalog(tmp_path, tmp_path)))
    assert opened.num_samples == sum(one.file in wanted for one in blind.listed) > 0
    assert opened.num_samples + opened.num_refused == len(blind.listed)
