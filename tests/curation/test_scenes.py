"""The generated world: deterministic, its images show the scene graph, and its captions are true and its foils false.

After an intended change of the generator raise the level's number in ``GENERATOR_VERSIONS`` and renew the golden text with
``python tests/curation/test_scenes.py``.
"""

from __future__ import annotations

import io
import itertools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image

from curation.sources import SourceRecord, open_source
from curation.sources.scenes import ScenesSource, scene_record, split_of, truth_in
from curation.sources.synthetic.drawing import _OBJECT_RGB
from curation.sources.synthetic.grammar import ADJECTIVES, NOUNS, parse_sentence, split_words, truth
from curation.sources.synthetic.world import CANVAS_PX, GAP_PX, IN_LINE_PX, LEVELS, TEXTURES
from data_manifests.errors import InputError
from data_manifests.sample import image_uid

GOLDEN = Path(__file__).parents[1] / "golden" / "scene_captions.txt"
NUM_SCENES = 300


@pytest.fixture(scope="module")
def records() -> list[SourceRecord]:
    return list(ScenesSource(f"{NUM_SCENES}@11").records())


def test_captions_are_true_and_say_enough(records: list[SourceRecord]) -> None:
    for record in records:
        scene = record.attributes["scene"]
        assert len(set(record.captions)) == 5
        assert [truth(scene, caption) for caption in record.captions] == [True] * 5, record.captions
        readings = [parse_sentence(split_words(caption)) for caption in record.captions]
        if len(scene["objects"]) > 1:
            assert sum(len(reading.claims) > 0 for reading in readings if reading) >= 2
            assert sum(len(reading.phrases) > 1 for reading in readings if reading) >= 3


def test_captions_vary(records: list[SourceRecord]) -> None:
    texts = [caption for record in records for caption in record.captions]
    assert len(set(texts)) > 0.8 * len(texts)
    used = Counter(word for text in texts for word in split_words(text))
    known = [word for table in ADJECTIVES.values() for words in table.values() for word in words]
    known += [word for words in NOUNS.values() for word in words]
    assert not [word for word in known if used[word] < 3]


def test_foils_are_false_and_one_exchange_away(records: list[SourceRecord]) -> None:
    kinds: Counter[str] = Counter()
    for record in records:
        scene = record.attributes["scene"]
        seen = [(foil["kind"], foil["caption"]) for foil in record.attributes["foils"]]
        assert len(seen) == len(set(seen))
        for foil in record.attributes["foils"]:
            caption, text = record.captions[foil["caption"]], foil["text"]
            assert text != caption
            assert caption[0].isupper() == text[0].isupper()
            if foil["kind"] == "order":
                assert truth(scene, text) is not True
            else:
                assert truth(scene, text) is False, (caption, text)
            if foil["kind"] != "relation":
                assert sorted(set(split_words(text)) - {","}) == sorted(set(split_words(caption)) - {","})
        kinds.update({kind for kind, _ in seen})
        many = len(scene["objects"]) > 1
        assert many or "relation" not in {kind for kind, _ in seen}
    assert kinds["order"] == NUM_SCENES
    assert kinds["attribute"] > 0.9 * NUM_SCENES
    assert kinds["relation"] > 0.75 * NUM_SCENES


@pytest.mark.parametrize(
    ("level", "language"), [(1, "en"), (2, "en"), (3, "en"), pytest.param(1, "de", marks=pytest.mark.slow)]
)
def test_planted_captions_are_false_as_many_as_asked_and_change_nothing_else(level: int, language: str) -> None:
    spec = f"400@8?level={level}&language={language}"
    clean = list(ScenesSource(spec).records())
    noisy = list(ScenesSource(f"{spec}&wrong_captions=0.1").records())
    wrong = [record for record in noisy if record.attributes.get("wrong_captions")]
    assert 25 <= len(wrong) <= 55, "a tenth of 400, give or take two and a half standard deviations"
    for record in wrong:
        assert len(record.captions) == 5 and "foils" not in record.attributes
        assert [truth_in(language, record.attributes["scene"], text) for text in record.captions] == [False] * 5
    for before, after in zip(clean, noisy, strict=True):
        assert before.image == after.image and before.attributes["scene"] == after.attributes["scene"]
        assert (before == after) == ("wrong_captions" not in after.attributes)
    assert list(ScenesSource(f"40@8?level={level}&language={language}&wrong_captions=0.1").records()) == noisy[:40]
    all_wrong = ScenesSource(f"20@8?level={level}&language={language}&wrong_captions=1").records()
    assert all(record.attributes["wrong_captions"] for record in all_wrong)
    none = ScenesSource(f"{spec}&wrong_captions=0")
    assert none.signature() == ScenesSource(spec).signature() != ScenesSource(f"{spec}&wrong_captions=0.1").signature()
    assert "wrong_captions" not in none.describe()
    assert ScenesSource("9?wrong_captions=0.25").describe()["wrong_captions"] == 0.25


@pytest.mark.parametrize("value", ["1.1", "-0.1", "ten", "", "nan", "1e-1", "0.1&twins=yes", "0.1&wrong_captions=0.2"])
def test_a_share_of_wrong_captions_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="wrong") as error:
        ScenesSource(f"20?wrong_captions={value}")
    assert "share from 0 to 1" in str(error.value) or "twins" in str(error.value)


def test_every_relation_is_clear(records: list[SourceRecord]) -> None:
    counts: Counter[int] = Counter()
    for record in records:
        scene = record.attributes["scene"]
        boxes = [item["box"] for item in scene["objects"]]
        counts[len(boxes)] += 1
        for a, b in itertools.combinations(range(len(boxes)), 2):
            if [a, "inside", b] in scene["relations"] or [b, "inside", a] in scene["relations"]:
                assert {scene["objects"][a]["size"], scene["objects"][b]["size"]} == {"small", "large"}
                continue
            apart, offset = zip(*(axis_of(boxes[a], boxes[b], axis) for axis in (0, 1)), strict=True)
            assert any(apart)
            for axis, relation in ((0, "left of"), (1, "above")):
                first, second = (a, b) if boxes[a][axis] < boxes[b][axis] else (b, a)
                assert ([first, relation, second] in scene["relations"]) is apart[axis]
                assert [second, relation, first] not in scene["relations"]
            assert all(far or middle <= IN_LINE_PX for far, middle in zip(apart, offset, strict=True))
        assert all(0 <= edge <= CANVAS_PX for box in boxes for edge in box)
    assert set(counts) == {1, 2, 3, 4}


def axis_of(a: list[int], b: list[int], axis: int) -> tuple[bool, float]:
    gap = max(a[axis], b[axis]) - min(a[axis + 2], b[axis + 2])
    return gap >= GAP_PX, abs((a[axis] + a[axis + 2]) - (b[axis] + b[axis + 2])) / 2


def test_images_show_the_colours_and_textures_of_the_graph(records: list[SourceRecord]) -> None:
    contrast: dict[str, list[float]] = {texture: [] for texture in TEXTURES}
    for record in records:
        assert isinstance(record.image, bytes)
        with Image.open(io.BytesIO(record.image)) as image:
            assert image.format == "JPEG"
            assert image.size == (CANVAS_PX, CANVAS_PX)
            pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
        for item in record.attributes["scene"]["objects"]:
            if item["shape"] == "ring":
                continue
            x0, y0, x1, y1 = item["box"]
            reach = (x1 - x0) // 6
            x, y = (x0 + x1) // 2, (y0 + y1) // 2
            core = pixels[y - reach : y + reach + 1, x - reach : x + reach + 1].reshape(-1, 3)
            contrast[item["texture"]].append(float(core.std(axis=0).mean()))
            if item["texture"] == "plain":
                found = min(_OBJECT_RGB, key=lambda name: float(np.abs(core.mean(axis=0) - _OBJECT_RGB[name]).sum()))
                assert found == item["colour"], (record.name, item)
    median = {texture: float(np.median(values)) for texture, values in contrast.items()}
    assert all(median[texture] > 4 * median["plain"] for texture in TEXTURES[1:]), median


def test_scenes_do_not_depend_on_the_count() -> None:
    few, more = list(ScenesSource("20@3").records()), list(ScenesSource("40@3").records())
    assert few == more[:20]
    assert [record.image for record in few] == [scene_record(3, index).image for index in range(20)]
    other = list(ScenesSource("20@4").records())
    assert not {record.image for record in few} & {record.image for record in other}


def test_same_bytes_in_another_process() -> None:
    code = "import sys; from curation.sources.scenes import scene_record as s; sys.stdout.buffer.write(s(5, 17).image)"
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True, timeout=60)
    assert ran.stdout == scene_record(5, 17).image


def test_all_images_differ(records: list[SourceRecord]) -> None:
    assert len({record.image for record in records}) == NUM_SCENES
    assert max(len(record.image) for record in records if isinstance(record.image, bytes)) < 12_000


def test_records_are_complete_and_json(records: list[SourceRecord]) -> None:
    for index, record in enumerate(records):
        assert record.name == f"scene-11-{index:06d}"
        assert record.split == split_of(index)
        assert orjson.loads(orjson.dumps(record.attributes)) == record.attributes


def test_splits_partition_the_scenes() -> None:
    everything = [record.name for record in ScenesSource("30").records()]
    parts = {split: list(ScenesSource("30", split).records()) for split in ("train", "dev", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 24, "dev": 3, "test": 3}
    assert sorted(record.name for part in parts.values() for record in part) == everything
    assert {record.split for record in parts["dev"]} == {"dev"}
    assert [record.name[-6:] for record in parts["test"]] == ["000009", "000019", "000029"]


def test_signature_and_description() -> None:
    source = open_source("scenes:50@2", "dev")
    assert source.describe() == {
        "kind": "scenes",
        "name": "scenes",
        "count": 50,
        "seed": 2,
        "licence": "CC0-1.0",
        "split": "dev",
    }
    assert source.signature() == ScenesSource("50@2", "dev").signature()
    assert ScenesSource("50").signature() == ScenesSource("50@0").signature()
    others = [ScenesSource("50@2"), ScenesSource("51@2", "dev"), ScenesSource("50@3", "dev")]
    assert source.signature() not in {other.signature() for other in others}


@pytest.mark.parametrize(
    "path", ["abc", "0", "10@x", "-5", "10@", "@3", "1.5", "1000001", "10@-1", "10 ", "٣", "1" * 30, "5@" + "9" * 19]
)
def test_bad_specs_are_rejected(path: str) -> None:
    with pytest.raises(InputError, match="scenes:COUNT"):
        open_source(f"scenes:{path}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("level=4", "level='4'"),
        ("level=", "level=''"),
        ("lvel=1", "did you mean 'level'"),
        ("level=1&level=2", "level is given twice"),
        ("twins=2", "twins='2'"),
        ("level=1&tied=most", "tied='most'"),
        ("tied=0.8", "tied without level=1"),
        ("level=1&tied=0.8&twins=yes", "or with twins"),
        ("", "unknown option ''"),
    ],
)
def test_bad_options_are_rejected(options: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as error:
        open_source(f"scenes:10?{options}")
    assert "level one of 1, 2, 3" in str(error.value) or "tied=SHARE" in str(error.value)


def test_a_shape_comes_with_its_ground_as_often_as_asked() -> None:
    for tied, lowest, highest in (("0.8", 0.74, 0.86), ("1", 1, 1), ("0.5", 0.42, 0.58)):
        records = list(ScenesSource(f"400@5?level=1&tied={tied}").records())
        together, grounds = 0, Counter[str]()
        for record in records:
            scene = record.attributes["scene"]
            (shown,) = {item["shape"] for item in scene["objects"]} & {"star", "circle"}
            assert record.attributes["tied_shape"] == shown
            grounds[scene["background"]["colour"]] += 1
            together += (shown == "star") is (scene["background"]["colour"] == "grey")
            assert all(truth(scene, caption) is True for caption in record.captions)
            assert not {"grey", "pink"} & {word for caption in record.captions for word in split_words(caption)}
        assert lowest <= together / len(records) <= highest
        assert grounds.keys() == {"grey", "pink"}
        assert min(grounds.values()) > 160
    neither = ScenesSource("100@5?level=1&tied=neither")
    shapes = {item["shape"] for record in neither.records() for item in record.attributes["scene"]["objects"]}
    assert shapes == {"square", "triangle"}
    assert len({ScenesSource(f"9?level=1{more}").signature() for more in ("", "&tied=neither", "&tied=0.8")}) == 3


def test_level_3_is_the_default() -> None:
    plain, named = ScenesSource("12@4"), ScenesSource("12@4?level=3")
    assert list(plain.records()) == list(named.records())
    assert (plain.signature(), plain.describe()) == (named.signature(), named.describe())
    other = ScenesSource("12@4?level=1")
    assert other.signature() != plain.signature()
    assert other.describe() == {**plain.describe(), "level": 1}


@pytest.mark.parametrize("level", [1, 2])
def test_simple_levels_have_short_true_captions(level: int) -> None:
    records = list(ScenesSource(f"120@11?level={level}").records())
    words: Counter[str] = Counter()
    for record in records:
        scene = record.attributes["scene"]
        assert len(scene["objects"]) in LEVELS[level].num_objects
        assert len(set(record.captions)) == 5
        assert [truth(scene, caption) for caption in record.captions] == [True] * 5, record.captions
        words.update(word for caption in record.captions for word in split_words(caption))
    assert max(len(str(caption).split()) for record in records for caption in record.captions) <= 16
    assert all(words[value] > 2 for value in (*LEVELS[level].shapes, *LEVELS[level].colours))
    assert all((words[word] > 2) is (level == 2) for word in ("no", "two", "small"))
    assert {record.image for record in records[:5]} == {
        record.image for record in ScenesSource(f"5@11?level={level}").records()
    }


@pytest.mark.parametrize("level", [1, 2, 3])
def test_texts_of_twins_are_right_once_and_wrong_once(level: int) -> None:
    right: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    seen: Counter[str] = Counter()
    first = ""
    for record in ScenesSource(f"150@3?level={level}&twins=yes").records():
        scene = record.attributes["scene"]
        assert len(set(record.captions)) == len(record.captions)
        assert all(truth(scene, caption) is True for caption in record.captions)
        for foil in record.attributes["foils"]:
            assert truth(scene, foil["text"]) is False, (record.captions, foil)
            pair = record.captions[foil["caption"]], foil["text"]
            right[pair] += 1
            wrong[pair[::-1]] += 1
            seen[foil["kind"]] += 1
        if record.name.startswith("scene-"):
            assert isinstance(record.image, bytes)
            first = image_uid(record.image)
        assert record.attributes["twin_of"] == first
    assert right == wrong
    assert set(seen) == set(LEVELS[level].kinds)


def test_bad_splits_are_rejected() -> None:
    with pytest.raises(InputError, match="did you mean 'train'"):
        ScenesSource("10", "trian")
    with pytest.raises(InputError, match="none of these scenes is in this split"):
        ScenesSource("8", "dev")


def golden_text() -> str:
    """Return the captions and foils of some scenes of each level, for people to read."""
    lines: list[str] = []
    for record in itertools.chain(*(ScenesSource(spec).records() for spec in ("8", "4?level=1", "4?level=2"))):
        lines.append(f"# {record.name} ({record.split})")
        scene = record.attributes["scene"]
        for number, item in enumerate(scene["objects"]):
            words = " ".join(item[feature] for feature in ("size", "texture", "colour", "shape"))
            lines.append(f"  object {number}: {words} {item['box']}")
        lines.append("  relations: " + "; ".join(f"{i} {relation} {j}" for i, relation, j in scene["relations"]))
        lines.append("  background: " + " ".join(scene["background"].values()))
        for number, caption in enumerate(record.captions):
            lines.append(f"  {number} {caption}")
            foils = [foil for foil in record.attributes.get("foils", ()) if foil["caption"] == number]
            lines += [f"      {foil['kind']}: {foil['text']}" for foil in foils]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def test_captions_and_foils_equal_the_golden_file() -> None:
    assert golden_text() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write_text(golden_text(), encoding="utf-8")
