"""Contrasts that are learned from captions with known classes, synonyms, noise, numbers and codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from curation.blind.judges import JUDGES, Pair, blind_accuracy
from curation.contrasts.caption_words import Phrases, are_forms_of_one_word, is_exchangeable, is_number, split
from curation.contrasts.decisions import shown_classes
from curation.contrasts.vocabulary import VocabularyFile
from curation.engine.fits import Fit
from curation.entailment.word_meanings import WordRelations
from curation.sources.scenes import ScenesSource
from curation.stages.negatives import mine_contrasts
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from curation.stages.negatives.mine_contrasts import MineContrasts
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.benchmarks.scene_truth import exactly_true
from tests.curation.fitted_stages import check_that_each_sample_is_by_itself
from tests.curation.listed_columns import ListedColumns
from tests.curation.negative_checks import parsed
from tests.curation.test_negative_edge_cases import ODD

SIDES, COLOURS, THINGS = (
    ("left", "right"),
    ("crimson", "teal", "ochre", "mauve"),
    ("knob", "lever", "dial", "gauge", "valve"),
)
SYNONYMS = {"lever": ("lever", "handle")}
NOISE = ("really", "truly", "clearly")
CLASSES = (SIDES, COLOURS, THINGS)


def number_of(draws: np.random.Generator, most: int) -> int:
    return int(draws.integers(most))


def captions_of(draws: np.random.Generator, num_captions: int) -> list[str]:
    """Return captions of one image: one machine, seen by several people who choose synonyms and noise as they like."""
    side, colour, thing = (words[number_of(draws, len(words))] for words in CLASSES)
    article = "an" if colour == "ochre" else "a"
    size = 2 + number_of(draws, 9)
    texts = []
    for _ in range(num_captions):
        names = SYNONYMS.get(thing, (thing,))
        name = names[number_of(draws, len(names))]
        noise = f"{NOISE[number_of(draws, 3)]} " if number_of(draws, 3) == 0 else ""
        texts.append(
            [
                f"{article.capitalize()} {colour} {name} on the {side} side of the panel",
                f"{noise}there is {article} {colour} {name} of {size} mm",
                f"The {side} side has {'a' if noise else article} {noise}{colour} {name} , model XK-{100 + number_of(draws, 900)}",
            ][number_of(draws, 3)]
        )
    return list(dict.fromkeys(texts))


def parse(caption: str) -> dict[str, Any]:
    words = split(caption)
    tag = {**dict.fromkeys(COLOURS, "ADJ"), **dict.fromkeys(THINGS, "NOUN")}
    return {
        "words": [caption[word.start : word.end] for word in words],
        "starts": [word.start for word in words],
        "pos": [tag.get(word.text, "X") for word in words],
    }


def sample_of(name: str, captions: Sequence[str]) -> Sample:
    uid = blake3(name.encode()).hexdigest(length=16)
    return Sample(uid, name, ImageRef("none"), tuple(captions), fields={"parses": [parse(text) for text in captions]})


@lru_cache(maxsize=2)
def machines(num_captions: int = 4) -> tuple[Sample, ...]:
    draws = np.random.default_rng(0)
    found = [sample_of(f"{number}", captions_of(draws, num_captions)) for number in range(500)]
    return tuple(sorted(found, key=lambda one: one.uid))


@lru_cache(maxsize=2)
def learned(num_captions: int = 4) -> Fit:
    return MineContrasts().fit(ListedColumns(machines(num_captions)))


def classes_of(fit: Fit) -> list[set[str]]:
    return [{word for word, _, _ in one["members"]} for one in fit.values["classes"]]


def made(
    fit: Fit, samples: Sequence[Sample], stage: MineContrasts | None = None
) -> list[tuple[Sample, Mapping[str, Any]]]:
    results = (stage or MineContrasts()).apply(samples, fit)
    return [
        (one, record)
        for one, result in zip(samples, results, strict=True)
        if isinstance(result, dict)
        for record in result["mined_negatives"]
    ]


def exchanges(pairs: Sequence[tuple[Sample, Mapping[str, Any]]]) -> Counter[tuple[str, str]]:
    """Return how often each word was exchanged for each other one."""
    found: Counter[tuple[str, str]] = Counter()
    for one, record in pairs:
        caption = one.captions[record["caption"]]
        start, end, new_start, new_end = record["edits"][-1]
        found[caption[start:end].lower(), record["text"][new_start:new_end].lower()] += 1
    return found


def test_exchanges_that_the_draw_is_against_fill_up_a_caption() -> None:
    fit, samples = learned(), machines()[:100]
    few, usual, many = (
        {(one.uid, record["text"]) for one, record in made(fit, samples, MineContrasts(at_least=least))}
        for least in (0, 8, 12)
    )
    assert few < usual < many


def test_classes_are_found_and_neither_synonyms_nor_noise_are_in_them() -> None:
    found = classes_of(learned())
    assert set(SIDES) in found
    assert set(COLOURS) in found
    (things,) = [words for words in found if "dial" in words]
    assert len(things & set(THINGS)) >= 4
    for words in found:
        assert not {"lever", "handle"} <= words
        assert words.isdisjoint(NOISE)


def test_one_caption_an_image_needs_evidence_in_the_text() -> None:
    fit = learned(1)
    evidence = {frozenset(pair[:2]): pair[2] for one in fit.values["classes"] for pair in one["contrasts"]}
    assert frozenset(SIDES) in evidence  # our lists say so
    assert all("kappa" not in text and "seldom" not in text for text in evidence.values())
    assert not any({"lever", "handle"} <= words for words in classes_of(fit))


def test_every_exchange_is_made_about_as_often_as_its_reverse() -> None:
    found = exchanges(made(learned(), machines()))
    checked = 0
    for (old, new), number in found.items():
        if new.isalpha() and number + found[new, old] >= 60:
            assert abs(number - found[new, old]) <= 3.5 * (number + found[new, old]) ** 0.5, (old, new)
            checked += 1
    assert checked >= 10


def test_text_alone_does_not_tell_captions_from_negatives() -> None:
    pairs = made(learned(), machines())
    judged = [Pair(one.uid, one.captions[record["caption"]], record["text"], record["type"]) for one, record in pairs]
    captions = [(one.uid, text) for one in machines() for text in one.captions]
    assert len(judged) > 2000
    for judge in JUDGES.values():
        assert blind_accuracy(judged[::4], judge, captions)["overall"] <= 0.55


def test_negatives_are_false_of_their_image() -> None:
    """A machine has one side, colour and kind, so that any other is false; synonyms of its kind are not."""
    pairs = made(learned(), machines())
    for one, record in pairs:
        start, end, new_start, new_end = record["edits"][-1]
        old, new = one.captions[record["caption"]][start:end].lower(), record["text"][new_start:new_end].lower()
        assert {old, new} != {"lever", "handle"}
        assert new not in " ".join(one.captions).lower().split()


def test_codes_and_function_words_stay_and_numbers_change_with_their_unit_only() -> None:
    found = exchanges(made(learned(), machines()))
    assert any(old.isdigit() for old, _ in found)
    for old, new in found:
        assert old.isdigit() == new.isdigit()
        assert not old.startswith("xk")
        assert old not in {"a", "the", "there", "of", "is"}
    (one,) = made(learned(), [sample_of("code", ["a teal dial of 5 mm , model 77"])])[:1]
    assert "77" in one[1]["text"]


def test_what_stands_behind_a_negation_stays() -> None:
    plain, denied = sample_of("1", ["A teal dial on the left side"]), sample_of("2", ["no teal dial on the left side"])
    assert made(learned(), [plain])
    assert not made(learned(), [denied])


def test_records_are_like_those_of_other_stages() -> None:
    pairs = made(learned(), machines()[:50])
    assert pairs
    for one, record in pairs:
        caption = one.captions[record["caption"]]
        start, end, new_start, new_end = record["edits"][-1]
        assert caption[:start].split()[:-1] == record["text"][:new_start].split()[:-1]
        assert caption[end:] == record["text"][new_end:]
        assert record["operation"] == "contrast" and record["span_class"] == record["type"]
        assert caption[start:end] in record["rule"] and record["text"][new_start:new_end] in record["rule"]
    texts = [record["text"].lower() for _, record in pairs]
    assert any("an ochre" in text for text in texts) and not any("a ochre" in text for text in texts)
    assert not any(f"an {word}" in text for text in texts for word in COLOURS if word != "ochre")
    assert max(Counter((one.uid, record["caption"]) for one, record in pairs).values()) <= MineContrasts().per_caption


def test_one_sample_is_by_itself(tmp_path: Path) -> None:
    samples = machines()
    check_that_each_sample_is_by_itself(MineContrasts(), samples[:300], samples[300:400], tmp_path)


def test_an_edited_caption_changes_one_sample() -> None:
    samples = list(machines()[:40])
    before = MineContrasts().apply(samples, learned())
    edited = sample_of(samples[7].name, ["A mauve valve on the right side of the panel"])
    after = MineContrasts().apply([*samples[:7], edited, *samples[8:]], learned())
    assert [place for place in range(40) if before[place] != after[place]] == [7]


def test_few_captions_give_an_empty_fit() -> None:
    for captions in ([], ["a"], ["plain words"], ["..."]):
        samples = [sample_of(text, [text]) for text in captions]
        fit = MineContrasts().fit(ListedColumns(samples))
        assert fit.values["classes"] == []
        assert MineContrasts().apply(samples, fit) == [{"mined_negatives": []} for _ in samples]


def write(folder: Path, text: str) -> str:
    path = folder / "vocabulary.toml"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_vocabulary_changes_what_it_names_alone(tmp_path: Path) -> None:
    path = write(
        tmp_path, 'classes = [["knob", "panel"]]\nsynonyms = [["crimson", "mauve"]]\nkeep = ["left"]\n# a comment\n'
    )
    stage = MineContrasts(vocabulary=VocabularyFile.open(path), per_caption=1000)
    assert stage.fingerprint() != MineContrasts(per_caption=1000).fingerprint()
    changed = stage.fit(ListedColumns(machines()))
    before, after = (exchanges(made(fit, machines(), stage)) for fit in (learned(), changed))
    for pair in before.keys() | after.keys():
        if {"knob", "panel", "left"}.isdisjoint(pair) and set(pair) != {"crimson", "mauve"}:
            # others take the room that the exchanges of a caption leave which are no more made
            assert after[pair] >= before[pair] - 5, pair
    kept = [words - {"knob", "panel"} for words in classes_of(learned())]
    shown = [{word for word, _, _ in one["members"]} for one in shown_classes(changed.values)]
    assert all(words - {"left"} in shown for words in kept if len(words - {"left"}) > 1)
    assert ("left", "right") in before and ("left", "right") not in after
    assert ("crimson", "mauve") in before and ("crimson", "mauve") not in after
    assert {"knob", "panel"} in shown


def test_a_vocabulary_that_changes_is_brought_into_the_fit(tmp_path: Path) -> None:
    """The fit is the one that would be learned with it, and with none again it is what it was."""
    columns = ListedColumns(machines())
    text = 'classes = [["crimson knob", "teal dial", "zzz"]]\nsynonyms = [["crimson", "mauve"]]\nkeep = ["left"]\n'
    stage = MineContrasts(vocabulary=VocabularyFile.open(write(tmp_path, text)))
    assert stage.learning_fingerprint() == MineContrasts().learning_fingerprint() != stage.fingerprint()
    amended = stage.amend(learned(), columns)
    assert amended.to_bytes() == stage.fit(columns).to_bytes() != learned().to_bytes()
    assert MineContrasts().amend(amended, columns).to_bytes() == learned().to_bytes()
    words = {"knob", "teal", "dial", "crimson", "mauve", "left"}
    for one, before, after in zip(
        machines(), stage.apply(machines(), learned()), stage.apply(machines(), amended), strict=True
    ):
        if before != after:  # then a named word is in a caption, or was or is in a negative
            assert isinstance(before, dict) and isinstance(after, dict)
            texts = [*one.captions, *(item["text"] for row in (before, after) for item in row["mined_negatives"])]
            assert not words.isdisjoint(" ".join(texts).lower().split())
    assert any("teal dial" in item["rule"] for _, item in made(amended, machines(), stage))
    shown = [{word for word, _, _ in one["members"]} for one in shown_classes(amended.values)]
    assert {"crimson knob", "teal dial"} in shown and not any("left" in words for words in shown)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("classes = [", 1, "not TOML"),
        ('keep = ["a"]\n\nclases = [["a", "b"]]', 3, "key 'clases'"),
        ('# x\nclasses = [["left"]]', 2, "a group of 1"),
        ('classes = "left right"', 1, "got 'left right'"),
        ('classes = [["a", 3]]', 1, "key 'classes'"),
        ('keep = ["the"]\nclasses = [["of", "to"],\n["the", "a"]]', 3, "is also in keep"),
        ('classes = [["red", "blue"],\n["green", "red"]]', 2, "is also in another class"),
        ('synonyms = [["big", "Big"]]', 1, "stands twice"),
        ('keep = [""]', 1, "got ''"),
        ('keep = ["one two three four five"]', 1, "got 'one two"),
    ],
)
def test_bad_vocabularies(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        VocabularyFile.open(write(tmp_path, text))
    assert message in str(caught.value)
    assert f"line {line}" in str(caught.value)


def test_a_vocabulary_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        VocabularyFile.open(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        VocabularyFile.open(str(tmp_path / "binary.toml"))


def test_who_a_person_is_and_what_a_person_does_exclude_nothing() -> None:
    same = partial(mine_contrasts._may_be_same, WordRelations())
    assert all(
        same(*pair) for pair in (("policeman", "man"), ("women", "skiers"), ("child", "player"), ("lady", "dancer"))
    )
    assert not any(same(*pair) for pair in (("man", "woman"), ("skier", "surfer"), ("dog", "man")))


def test_words() -> None:
    assert [word.text for word in split("T1-weighted 1.5 mm, X-ray 左の犬")] == [
        "t1-weighted", "1.5", "mm", ",", "x-ray", "左", "の", "犬",
    ]  # fmt: skip
    words = Phrases(["magnetic", "magnetic resonance imaging"]).split("Magnetic resonance  imaging of")
    assert [(word.text, word.start, word.end) for word in words] == [
        ("magnetic resonance imaging", 0, 27),
        ("of", 28, 30),
    ]
    assert [is_number(word) for word in ("5", "1.5", "1,000", "5mm", "x", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert [is_exchangeable(word) for word in ("left", "x", "t2", "5", "犬", "-")] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
    for one, other in (("dog", "dogs"), ("t-shirt", "tshirt"), ("radiograph", "radiography"), ("sagital", "sagittal")):
        assert are_forms_of_one_word(one, other)
    for one, other in (("left", "right"), ("over", "under"), ("anterior", "posterior"), ("men", "women")):
        assert not are_forms_of_one_word(one, other)


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="per_caption"):
        MineContrasts(per_caption=0)
    with pytest.raises(InputError, match="at_least"):
        MineContrasts(at_least=-1)
    few = replace(MineContrasts(), per_caption=1)
    assert max(Counter((one.uid, record["caption"]) for one, record in made(learned(), machines(), few)).values()) == 1


def test_on_scenes_whose_truth_is_known() -> None:
    """At most one negative in a hundred that passed the gate is true of its scene; print the figures."""
    records = list(ScenesSource("120@3").records())
    plain = [
        Sample(
            image_uid(one.name.encode()), one.name, ImageRef(one.name), tuple(one.captions), attributes=one.attributes
        )
        for one in records
    ]
    samples = sorted(parsed(plain), key=lambda one: one.uid)
    stage, gate = MineContrasts(), FindFalseNegatives(("mined_negatives",), None, "exactly")
    results = stage.apply(samples, stage.fit(ListedColumns(samples)))
    mined = [
        replace(one, fields={**one.fields, **found})
        for one, found in zip(samples, results, strict=True)
        if isinstance(found, dict)
    ]
    verdicts: Counter[bool | None] = Counter()
    for one, judged in zip(mined, gate.process(mined), strict=True):
        for record in judged["true_negatives"] if isinstance(judged, dict) else ():
            verdicts[exactly_true(one.attributes["scene"], record["text"])] += 1
    print(f"mined contrasts on scenes: {dict(verdicts)}")
    assert verdicts[False] > 1000
    assert verdicts[True] <= 0.01 * (verdicts[True] + verdicts[False])


def test_captions_that_no_one_planned_for() -> None:
    samples = [*machines()[:200], *(sample_of(f"odd {number}", [odd]) for number, odd in enumerate(ODD))]
    stage = MineContrasts()
    fit = stage.fit(ListedColumns(samples))
    rows = stage.apply(samples, fit)
    assert sum(len(row["mined_negatives"]) for row in rows if isinstance(row, dict)) > 200
    for sample, row in zip(samples[200:], rows[200:], strict=True):
        assert isinstance(row, dict)
        assert all(item["text"] not in sample.captions and item["text"].strip() for item in row["mined_negatives"])


@pytest.mark.parametrize(
    "corpus",
    [
        [["a star"]],
        [["a star"], ["a star"]],
        [["", "..."], ["a red star left of a blue ring"]],
        [["a red star left of a blue ring", "a red star to the left of a blue ring"]] * 30,
        [[f"a {colour} star left of a {other} ring"] for colour in COLOURS for other in COLOURS] * 3,
        [[f"a {colour} star", f"we see a {colour} star"] for colour in COLOURS] * 10,
        [[f"{size} mm", f"{size} cm"] for size in range(40)],
        [[colour, f"{colour} {other}"] for colour in COLOURS for other in COLOURS] * 5,
    ],
)
def test_corpora_that_teach_little_or_nothing(corpus: list[list[str]]) -> None:
    samples = [sample_of(f"sample {number}", captions) for number, captions in enumerate(corpus)]
    stage = MineContrasts()
    fit = stage.fit(ListedColumns(samples))
    for sample, row in zip(samples, stage.apply(samples, fit), strict=True):
        assert isinstance(row, dict)
        assert all(item["text"] not in sample.captions for item in row["mined_negatives"])
