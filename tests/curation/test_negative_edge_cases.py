"""All operations over captions that no one planned for, over made and real ones; the golden text; truth on scenes."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.engine.stage import MapStage
from curation.sources.scenes import ScenesSource
from curation.sources.synthetic.grammar import truth
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.curation.negative_checks import check, made, operations, parsed, sample
from tests.curation.negative_golden_captions import CAPTIONS

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/negatives.txt"
"""Written anew with CLIPCURATE_WRITE_GOLDEN=1; read the difference before committing it."""
DATA = Path(os.environ.get("CLIPCURATE_DATA", ROOT / "../shared/data"))
STAGES = operations()
BY_NAME = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)

ODD = [
    "Sunset",
    "sunset .",
    "dog",
    "",
    " ",
    ".",
    "...",
    "!!! ??? ---",
    "A red car , a blue house and the tall tree .",
    "🐶",
    "🐶 A dog 🐶 chases a cat 🐱 .",
    "A dog👍 and a cat👍 run",
    " ".join(["A small dog runs behind a big cat and"] * 25),
    "word " * 200,
    "A LITTLE GIRL IN A RED DRESS KICKS A BALL OVER THE FENCE",
    "A gIrL kIcKs a BaLL",
    "3 dogs and 12 cats",
    "2 men at 10 am in 2012 with 3.5 apples and 1,000 balls",
    "A well-dressed man in a t-shirt with a half-eaten ice-cream",
    "A 5-year-old boy on a red-and-white two-wheeler",
    "The man's dog 's tail and the boys' ball",
    "A dog and a dog",
    "A dog , a dog and a dog .",
    "A red ball and a red ball next to a red ball",
    "Ein Hund jagt eine Katze über die Wiese .",
    "Un perro persigue a un gato",
    "一只狗在草地上奔跑",
    "Собака бежит за кошкой .",
    "كلب يجري",
    "<b>A dog</b> &amp; a <i>cat</i> on <a href='x'>grass</a>",
    '{"text": "a dog"} [a](b) **bold** $x_1$ \\n',
    "A dog\tand\na\r\ncat  run",
    "A\x00dog\x07 chases\x1b[31m a cat\u200b .",
    "A dog\u00a0chases\u2003a\u00a0cat",
    "\ufeffA dog chases a cat .",
    "A\u0301 dog cha\u0301ses a caf\u00e9 cat",
    "ǆungla ß ﬁsh İstanbul dog",
    "a a a the the an an",
    "and or but not",
    "is is was were running running",
    "in on at under over behind left right",
    "left left right right of of the the",
    "dog-cat/man_woman@home #dog A.B.C.",
    "A dog.A cat.A man runs.",
    "\"A dog\" ( a cat ) ' a man '",
    "No dog , not a cat , without a man and never a ball .",
    "one one two two three dogs",
    "An a an hour unicorn apple",
    "x" * 3000,
    "https://example.com/a_dog.jpg?x=1",
]  # fmt: skip


def test_there_are_operations() -> None:
    assert {stage.name for stage in STAGES} >= {
        "bind_attributes", "change_numbers", "invert_relations", "negate_captions", "replace_words", "swap_roles",
    }  # fmt: skip


@lru_cache(maxsize=1)
def odd_samples() -> list[Sample]:
    return parsed([sample(caption) for caption in ODD] + [sample(*ODD[:5]), sample(*ODD[8:14])])


@BY_NAME
def test_odd_captions(stage: MapStage) -> None:
    for one in odd_samples():
        check(stage, one, made(stage, one))


@BY_NAME
def test_alone_in_a_batch_and_reversed(stage: MapStage) -> None:
    samples = odd_samples()
    together = stage.process(samples)
    assert stage.process(samples[::-1])[::-1] == together
    assert [stage.process([one])[0] for one in samples] == together
    assert pickle.loads(pickle.dumps(stage)).process(samples) == together


WORDS = [
    "a", "an", "A", "the", "two", "3", "dog", "dogs", "apple", "man", "woman", "Women", "star", "ring", "his", "her", "him", "red", "old",
    "young", "is", "are", "was", "running", "runs", "chases", "wearing", "holds", "hat", "ball", "in", "on", "under", "left", "of", "to",
    "next", "front", "behind", "over", "and", "with", "not", ",", ".", "-", "'s", "BIG", "🐶", "there", "that", "by", "chased", "bench",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=14), min_size=1, max_size=3))
def test_invariants_over_made_captions(words: list[list[str]]) -> None:
    (one,) = parsed([sample(*(" ".join(caption) for caption in words))])
    for stage in STAGES:
        check(stage, one, made(stage, one))


def test_golden() -> None:
    assert len(CAPTIONS) == len(set(CAPTIONS)) == 50
    samples = parsed([sample(caption) for caption in CAPTIONS])
    lines = []
    for one in samples:
        lines.append(orjson.dumps(one.captions[0]).decode())
        for stage in STAGES:
            records = made(stage, one)
            check(stage, one, records)
            lines += [
                f"    {record['operation']}/{record['span_class']} {record['type']}: {orjson.dumps(record['text']).decode()}\n"
                f"        {record['rule']} {record['edits']} {record['tokens']}"
                for record in records
            ]
    text = "\n".join(lines) + "\n"
    if os.environ.get("CLIPCURATE_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), "outputs changed: raise the stage's version, then write it anew"


def flickr(count: int) -> list[Sample]:
    path = DATA / "flickr8k/Flickr8k.token.txt"
    if not path.is_file():
        pytest.skip(f"{path} is absent: set CLIPCURATE_DATA to a folder with flickr8k/Flickr8k.token.txt")
    captions: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition("\t")
        captions.setdefault(name.partition("#")[0], []).append(caption)
    return parsed([sample(*texts) for texts in list(captions.values())[:count]])


def test_invariants_and_coverage_over_real_captions() -> None:
    samples = flickr(150)
    num_captions = sum(len(one.captions) for one in samples)
    reached: Counter[tuple[int, int]] = Counter()
    for stage in STAGES:
        per_stage = set()
        for number, one in enumerate(samples):
            records = made(stage, one)
            check(stage, one, records)
            per_stage |= {(number, record["caption"]) for record in records}
            reached.update((number, record["caption"]) for record in records)
        print(f"{stage.name}: {len(per_stage) / num_captions:.3f} of captions have a negative")
    some, three = (sum(count >= least for count in reached.values()) / num_captions for least in (1, 3))
    print(f"{some:.3f} of captions have at least one, {three:.3f} at least three")
    assert some > 0.95
    assert three > 0.7


@lru_cache(maxsize=1)
def scenes() -> list[Sample]:
    records = list(ScenesSource("200@3").records())
    plain = [
        Sample(
            image_uid(record.name.encode()),
            record.name,
            ImageRef(record.name),
            tuple(record.captions),
            attributes=record.attributes,
        )
        for record in records
    ]
    return parsed(plain)


MOST_TRUE = {
    "replace_words": 0.12, "bind_attributes": 0.05, "swap_roles": 0.05, "invert_relations": 0.05, "swap_words": 0.5,
    "change_numbers": 0.5,
}  # fmt: skip
"""Bounds on the share of negatives that are true of their scene; what is left is for a later gate to find."""


@BY_NAME
def test_truth_on_scenes(stage: MapStage) -> None:
    """Print which share of an operation's negatives is true after all, of those that the oracle understands."""
    verdicts: Counter[tuple[str, bool | None]] = Counter()
    for one in scenes():
        for record in made(stage, one):
            name = f"{record['type']}/{record['span_class']}"
            verdicts[name, truth(one.attributes["scene"], record["text"])] += 1
    for name in sorted({name for name, _ in verdicts}):
        true, false, unknown = (verdicts[name, verdict] for verdict in (True, False, None))
        share = f"{true / (true + false):.3f} true" if true + false else "none judged"
        print(f"{stage.name} {name}: {share} ({true} true, {false} false, {unknown} no sentence of the grammar)")
    judged = sum(count for (_, verdict), count in verdicts.items() if verdict is not None)
    wrong = sum(count for (_, verdict), count in verdicts.items() if verdict)
    assert sum(verdicts.values()) > 0
    assert wrong <= MOST_TRUE.get(stage.name, 0.0) * max(judged, 1)


def all_records(samples: Sequence[Sample]) -> int:
    return sum(len(made(stage, one)) for stage in STAGES for one in samples)


def test_a_caption_longer_than_its_parse_is_made_from_what_was_parsed() -> None:
    caption = "A dog chases a cat . " + "The red ball lies there . " * 200
    (one,) = parsed([sample(caption)])
    assert sum(map(len, one["parses"][0]["words"])) < len(caption) - 1000
    assert all_records([one]) > 5
    for stage in STAGES:
        check(stage, one, made(stage, one))
