"""Swapped negatives: golden text, the traps, invariants over made and over real captions."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.models.parser import CaptionParse
from curation.stages.captions.parse_captions import ParseCaptions, verb_phrases
from curation.stages.negatives.swap_words import TYPE_OF_CLASS, SwapWords
from curation.text.articles import article_for
from data_manifests.sample import ImageRef, Sample, image_uid

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/swap_words.txt"
"""Written anew with CLIPCURATE_WRITE_GOLDEN=1; read the difference before committing it."""
DATA = Path(os.environ.get("CLIPCURATE_DATA", ROOT / "../shared/data"))

GOLDEN_CAPTIONS = [
    "A brown dog chases a white cat across the wet lawn .",
    "A man and a woman share an umbrella .",
    "A dog and a dog .",
    "An orange ball lies beside a green apple on an old table .",
    "Small children are slowly climbing rocks while tall parents eagerly watch birds .",
    "Dogs chase cats .",
    "dogs chase cats",
    "Two young boys in striped shirts throw three red balls .",
    "I photograph my sister while Anna paints a bridge .",
    "Paris is full of tourists and pigeons .",
    "A skier in a T-shirt waves a flag at an x-ray machine .",
    "The woman holds the man's hat .",
    "A unicorn and an eagle stand near a university .",
    "A boy runs . A girl swims in a lake .",
    "The tired old farmer was being followed by a very small lamb .",
    "A horse has been gently led out and is now calmly eating hay .",
    "An 8-year-old girl and a 10-year-old boy wave .",
    "Three swimmers race .",
    "Sunset .",
    "a big red bus next to a small yellow car",
    "A waiter carries plates and glasses to guests at round tables .",
    "People wearing helmets stand around a climber who is tying an orange rope .",
    "A GIRL KICKS A BALL",
    "a  woman   sells flowers\tand fruit",
    "The cyclist in the yellow jersey quickly passes the slower rider in the blue jersey .",
    "A kitten sleeps on a keyboard, a mouse, and an open book.",
]


def sample(*captions: str) -> Sample:
    return Sample(image_uid(" ".join(captions).encode()), "a.jpg", ImageRef("a.jpg"), captions)


def parsed(samples: Sequence[Sample]) -> list[Sample]:
    results = ParseCaptions().process(samples)
    return [one.adding(result) for one, result in zip(samples, results, strict=True) if isinstance(result, dict)]


def swapped(samples: Sequence[Sample], seed: int = 0) -> list[dict[str, Any]]:
    results = SwapWords(seed=seed).process(samples)
    assert len(results) == len(samples)
    return [result for result in results if isinstance(result, dict)]


def fake_parse(caption: str) -> CaptionParse:
    """Read words written as ``text/TAG/POS``; a run of DET, ADJ and NOUN is a noun phrase."""
    words, tags, pos = (
        list(column) for column in zip(*(part.rsplit("/", 2) for part in caption.split(" ")), strict=True)
    )
    starts = [sum(len(word) + 1 for word in words[:token]) for token in range(len(words))]
    runs = itertools.groupby(range(len(words)), lambda token: pos[token] in ("DET", "ADJ", "NOUN"))
    chunks = [(run[0], run[-1] + 1) for inside, run in ((key, list(group)) for key, group in runs) if inside]
    lists: dict[str, Any] = {"words": words, "starts": starts, "lemmas": words, "tags": tags, "pos": pos}
    spans = {"noun_phrases": [list(chunk) for chunk in chunks], "verb_phrases": verb_phrases(pos), "triplets": []}
    return {**lists, **spans, "deps": [""] * len(words), "heads": [0] * len(words)}  # type: ignore[typeddict-item]


def by_class(caption: str, *others: str, seed: int = 0) -> dict[str, str]:
    """Return span class -> negative of the first caption of an image, with the real parser."""
    (result,) = swapped(parsed([sample(caption, *others)]), seed)
    return {record["span_class"]: record["text"] for record in result["swap_negatives"] if record["caption"] == 0}


def check_invariants(one: Sample, result: dict[str, Any]) -> None:
    """Check what must hold for every sample, whatever its captions."""
    negatives, valid = result["swap_negatives"], result["swap_valid"]
    assert len(valid) == len(one.captions)
    made = {(record["caption"], record["span_class"]) for record in negatives}
    assert len(made) == len(negatives)
    assert made == {(i, name) for i, mask in enumerate(valid) for name, is_valid in mask.items() if is_valid}
    assert all(list(mask) == list(TYPE_OF_CLASS) for mask in valid)
    plain_captions = {" ".join(caption.casefold().split()) for caption in one.captions}
    plain = [(record["caption"], " ".join(record["text"].casefold().split())) for record in negatives]
    assert len(set(plain)) == len(plain)
    assert not plain_captions & {text for _, text in plain}
    for record in negatives:
        check_edits(one.captions[record["caption"]], record)
        assert record["type"] == TYPE_OF_CLASS[record["span_class"]]
        assert record["operation"] == "swap"
    assert orjson.loads(orjson.dumps(result)) == result


def check_edits(caption: str, record: dict[str, Any]) -> None:
    """Check that the edits alone make the negative, and that they are the two spans and articles."""
    text, done, done_new, spans = "", 0, 0, []
    for start, end, new_start, new_end in record["edits"]:
        assert done <= start < end <= len(caption)
        assert caption[done:start] == record["text"][done_new:new_start]
        old, new = caption[start:end], record["text"][new_start:new_end]
        assert old != new
        text += caption[done:start] + new
        done, done_new = end, new_end
        if {old.lower(), new.lower()} != {"a", "an"}:
            spans.append((old, new))
    assert text + caption[done:] == record["text"]
    (old_one, new_one), (old_other, new_other) = spans
    assert (old_one.casefold(), old_other.casefold()) == (new_other.casefold(), new_one.casefold())
    assert record["rule"] == f"swap {record['span_class'].replace('_', ' ')} '{old_one}' <-> '{old_other}'"


def test_golden() -> None:
    samples = parsed([sample(caption) for caption in GOLDEN_CAPTIONS])
    lines = []
    for one, result in zip(samples, swapped(samples), strict=True):
        check_invariants(one, result)
        lines.append(orjson.dumps(one.captions[0]).decode())
        lines += [
            f"    {record['rule']}\n        {orjson.dumps(record['text']).decode()} {record['type']} {record['edits']}"
            for record in result["swap_negatives"]
        ]
    text = "\n".join(lines) + "\n"
    if os.environ.get("CLIPCURATE_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), "outputs changed: raise SwapWords.version, then write it anew"


def test_equal_words_are_not_swapped() -> None:
    for caption in ("A dog and a dog .", "a dog and a Dog", "The big dog and the big dog"):
        (result,) = swapped(parsed([sample(caption)]))
        assert result["swap_negatives"] == []
        assert result["swap_valid"] == [dict.fromkeys(TYPE_OF_CLASS, False)]


def test_words_that_name_one_thing_together_do_not_change_places() -> None:
    assert "noun" not in by_class("Post-operative chest radiograph.")
    assert "adjective" not in by_class("A big red bus.")
    assert by_class("A big red bus near a car.").get("noun") == "A big red car near a bus."
    for seed in range(9):  # across two things they do
        swapped_text = by_class("A chest radiograph of a man.", seed=seed)["noun"]
        assert swapped_text in ("A man radiograph of a chest.", "A chest man of a radiograph."), swapped_text


def test_words_inside_words_are_left_alone() -> None:
    assert by_class("a man helps a woman")["noun"] == "a woman helps a man"
    assert by_class("a cat watches a caterpillar")["noun"] == "a caterpillar watches a cat"
    assert by_class("a man in a T-shirt") == {}


def test_marks_that_are_tagged_as_words_are_not_swapped() -> None:
    one = sample("dog * run").adding({"parses": [fake_parse("dog/NN/NOUN */NN/NOUN run/VBP/VERB")]})
    assert swapped([one])[0]["swap_negatives"] == []


def test_case_stays_at_the_beginning_of_the_sentence() -> None:
    assert by_class("Children play with balls .")["plural_noun"] == "Balls play with children ."
    assert by_class("children play with balls .")["plural_noun"] == "balls play with children ."
    assert by_class("A black dog and the white cat")["noun_chunk"] == "The white cat and a black dog"
    assert by_class("A boy runs . Girls play with balls .")["plural_noun"] == "A boy runs . Balls play with girls ."


def test_names_and_inner_capitals_keep_their_case() -> None:
    one = sample("BBQs near trees")
    parse = fake_parse("BBQs/NNS/NOUN near/IN/ADP trees/NNS/NOUN")
    (result,) = swapped([one.adding({"parses": [parse]})])
    assert result["swap_negatives"][0]["text"] == "Trees near BBQs"
    one = sample("Red balls near Rome")
    parse = fake_parse("Red/JJ/ADJ balls/NNS/X near/IN/ADP Rome/NNP/ADJ")
    (result,) = swapped([one.adding({"parses": [parse]})])
    assert [record["text"] for record in result["swap_negatives"]] == ["Rome balls near red"]
    one = sample("Rome balls near red")
    parse = fake_parse("Rome/NNP/ADJ balls/NNS/X near/IN/ADP red/JJ/ADJ")
    (result,) = swapped([one.adding({"parses": [parse]})])
    assert [record["text"] for record in result["swap_negatives"]] == ["Red balls near Rome"]


def test_articles_follow_the_word_that_comes_after_them() -> None:
    assert by_class("A dog and an apple .")["noun"] == "An apple and a dog ."
    assert by_class("An orange cat and a blue bird .")["adjective"] == "A blue cat and an orange bird ."
    (result,) = swapped(parsed([sample("A dog and an apple .")]))
    assert result["swap_negatives"][0]["edits"] == [[0, 1, 0, 2], [2, 5, 3, 8], [10, 12, 13, 14], [13, 18, 15, 18]]


@pytest.mark.parametrize(
    ("text", "article"),
    [
        ("apple", "an"), ("dog", "a"), ("Orange cat", "an"), ("hour", "an"), ("horse", "a"), ("honest man", "an"),
        ("unicorn", "a"), ("uninteresting book", "an"), ("umbrella", "an"), ("used car", "a"), ("usher", "an"),
        ("one-eyed cat", "a"), ("only child", "an"), ("8-year-old", "an"), ("80", "an"), ("11", "an"), ("110", "a"),
        ("18", "an"), ("3", "a"), ("SUV", "an"), ("UFO", "a"), ("x-ray", "an"), ("European", "a"), ("empty", "an"), ("utensil", "a"),
    ],
)  # fmt: skip
def test_article_for(text: str, article: str) -> None:
    assert article_for(text) == article


def test_other_captions_of_the_image_are_never_negatives() -> None:
    caption, other = "a dog beside a cat", "A cat  beside a dog"
    assert by_class(caption) == {"noun": "a cat beside a dog"}
    assert by_class(caption, other) == {}


def test_a_class_does_not_repeat_what_another_has_made() -> None:
    negatives = by_class("a black dog beside a black cat")
    assert negatives == {"noun_chunk": "a black cat beside a black dog"}


def test_only_noun_chunks_of_three_tokens_or_more_are_swapped() -> None:
    assert "noun_chunk" not in by_class("a dog beside the cats")
    assert by_class("a small dog beside the white cats")["noun_chunk"] == "the white cats beside a small dog"


def test_a_draw_depends_on_seed_uid_caption_and_class_alone() -> None:
    captions = GOLDEN_CAPTIONS[:6]
    samples = parsed([sample(*captions), *(sample(caption) for caption in captions)])
    together = swapped(samples)
    assert [swapped([one])[0] for one in samples] == together
    assert swapped(samples[::-1])[::-1] == together
    stage = SwapWords(seed=3)
    assert pickle.loads(pickle.dumps(stage)).process(samples) == stage.process(samples)
    assert swapped(samples, seed=3) != together
    assert stage.fingerprint() != SwapWords().fingerprint()
    texts = {tuple(record["text"] for record in swapped(samples, seed)[4]["swap_negatives"]) for seed in range(20)}
    assert len(texts) > 3


def test_every_pair_is_drawn_about_equally_often() -> None:
    parse = fake_parse("ants/NNS/NOUN ,/,/PUNCT bees/NNS/NOUN ,/,/PUNCT cows/NNS/NOUN")
    one = sample("ants , bees , cows").adding({"parses": [parse]})
    drawn = [swapped([one], seed)[0]["swap_negatives"][0]["text"] for seed in range(300)]
    counts = {text: drawn.count(text) for text in set(drawn)}
    assert set(counts) == {"bees , ants , cows", "cows , bees , ants", "ants , cows , bees"}
    assert min(counts.values()) > 70


LEXICON = [
    "a/DT/DET", "an/DT/DET", "A/DT/DET", "the/DT/DET", "dog/NN/NOUN", "Dog/NN/NOUN", "apple/NN/NOUN", "man/NN/NOUN",
    "woman/NN/NOUN", "dogs/NNS/NOUN", "Owls/NNS/NOUN", "red/JJ/ADJ", "old/JJ/ADJ", "Old/JJ/ADJ", "runs/VBZ/VERB",
    "eating/VBG/VERB", "is/VBZ/AUX", "slowly/RB/ADV", "up/RB/ADV", "./././PUNCT", "and/CC/CCONJ", "I/PRP/PRON",
    "Anna/NNP/PROPN", "ǆungla/NN/NOUN", "ß/NN/NOUN", "-/NN/NOUN",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.sampled_from(LEXICON), min_size=1, max_size=12), min_size=1, max_size=3), st.integers(0, 9))
def test_invariants_over_made_captions(made: list[list[str]], seed: int) -> None:
    parses = [fake_parse(" ".join(words)) for words in made]
    captions = [" ".join(parse["words"]) for parse in parses]
    one = sample(*captions).adding({"parses": parses})
    check_invariants(one, swapped([one], seed)[0])


@lru_cache(maxsize=1)
def real_samples() -> list[Sample]:
    """Return 200 real images' captions, five each, parsed."""
    path = DATA / "flickr8k/Flickr8k.token.txt"
    if not path.is_file():
        pytest.skip(f"{path} is absent: set CLIPCURATE_DATA to a folder with flickr8k/Flickr8k.token.txt")
    captions: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition("\t")
        captions.setdefault(name.partition("#")[0], []).append(caption)
    return parsed([sample(*texts) for texts in list(captions.values())[:200]])


def test_invariants_and_coverage_over_real_captions() -> None:
    samples = real_samples()
    results = swapped(samples)
    for one, result in zip(samples, results, strict=True):
        check_invariants(one, result)
    masks = [mask for result in results for mask in result["swap_valid"]]
    assert len(masks) == 1000
    share = {name: sum(mask[name] for mask in masks) / len(masks) for name in TYPE_OF_CLASS}
    print("coverage:", share, "any:", sum(any(mask.values()) for mask in masks) / len(masks))
    assert share["noun"] > 0.8
    assert all(0.15 < share[name] < 0.5 for name in ("noun_chunk", "verb_phrase", "adjective"))
    assert 0.05 < share["plural_noun"] < 0.3
    assert 0 < share["adverb"] < 0.05
    assert sum(any(mask.values()) for mask in masks) > 900
