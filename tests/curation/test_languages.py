"""Captions in other languages than English: their words, their truth on scenes, and the negatives that are mined of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.blind.tokens import tokenise
from curation.contrasts.caption_words import as_written, split
from curation.engine.fits import Fit
from curation.entailment.plain_check import plain_rejection_reason
from curation.entailment.tokens import split_words
from curation.models.parser import SpacyParser, TokenParser, open_parser
from curation.sources import open_source
from curation.sources.scenes import BOOKS, ScenesSource, truth_in
from curation.sources.synthetic.phrase_book import Looks
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from curation.stages.negatives.mine_contrasts import MineContrasts
from curation.text.languages import ENGLISH, NAMES, CaptionLanguage, other_language
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.curation.listed_columns import ListedColumns
from tests.curation.test_negative_edge_cases import ODD

GERMAN, CHINESE = CaptionLanguage("de"), CaptionLanguage("zh")


@lru_cache(maxsize=8)
def mined(code: str, count: int, level: int = 1) -> tuple[Fit, Sequence[Sample], dict[str, dict[str, object]]]:
    """Return a fit on scenes, the scenes' samples with their gated negatives, and the scenes by uid."""
    language = CaptionLanguage(code)
    records = list(ScenesSource(f"{count}@3?level={level}&language={code}").records())
    worlds = {image_uid(one.image): one.attributes["scene"] for one in records}
    samples = [Sample(image_uid(one.image), one.name, ImageRef("a"), one.captions) for one in records]
    parsed = ParseCaptions(parser=open_parser(code)).process(samples)
    samples = sorted(map(added, samples, parsed), key=lambda one: one.uid)
    stage = MineContrasts(language=language)
    fit = stage.fit(ListedColumns(tuple(samples)))
    samples = list(map(added, samples, stage.apply(samples, fit)))
    gate = FindFalseNegatives(("mined_negatives",), language=language)
    return fit, list(map(added, samples, gate.process(samples))), worlds


def added(sample: Sample, result: object) -> Sample:
    assert isinstance(result, dict)
    return replace(sample, fields={**sample.fields, **result})


@pytest.mark.parametrize(("code", "count", "least"), [("de", 200, 4), ("zh", 200, 4), ("de", 40, 2), ("zh", 40, 2)])
def test_mined_negatives_are_false_and_sentences(code: str, count: int, least: int) -> None:
    """200 captions (40 scenes of five) and 1,000: nearly none true, nearly none with a wrong ending."""
    _, samples, worlds = mined(code, count)
    verdicts = Counter(
        truth_in(code, worlds[one.uid], record["text"]) for one in samples for record in one["true_negatives"]
    )
    total = verdicts.total()
    assert total >= least * 5 * count
    assert verdicts[True] <= 0.01 * total
    assert verdicts[None] <= 0.01 * total


def test_classes_of_german_keep_to_one_ending() -> None:
    classes = [{word for word, _, _ in one["members"]} for one in mined("de", 200)[0].values["classes"]]
    stems = ("rot", "gelb", "grün", "blau", "violett", "schwarz")
    for ending in ("er", "es", "en"):
        assert {stem + ending for stem in stems} in classes
    assert {"kreis", "stern"} in classes  # both masculine


def test_classes_of_chinese_are_of_signs() -> None:
    classes = [{word for word, _, _ in one["members"]} for one in mined("zh", 200)[0].values["classes"]]
    assert set("红黄绿蓝紫黑") in classes
    assert not any("的" in one or "在" in one for one in classes)


def test_negatives_of_chinese_have_no_spaces() -> None:
    texts = [record["text"] for one in mined("zh", 200, 3)[1] for record in one["true_negatives"]]
    assert any("三角" in text for text in texts)
    assert not any(" " in text for text in texts)


@pytest.mark.parametrize("code", sorted(BOOKS))
@pytest.mark.parametrize("level", [1, 2, 3])
def test_captions_of_scenes_are_true_and_different(code: str, level: int) -> None:
    source = ScenesSource(f"40@9?level={level}&language={code}")
    english = ScenesSource(f"40@9?level={level}")
    for one, same in zip(source.records(), english.records(), strict=True):
        assert one.image == same.image
        assert len(set(one.captions)) == 5
        assert all(truth_in(code, one.attributes["scene"], str(text)) is True for text in one.captions)
    assert source.signature() != english.signature()
    assert source.describe()["language"] == code


STAR = {"shape": "star", "colour": "red", "size": "large", "texture": "plain", "box": [0, 0, 9, 9]}
DIAMOND = {"shape": "diamond", "colour": "blue", "size": "small", "texture": "striped", "box": [20, 0, 29, 9]}
SCENE = {
    "objects": [STAR, DIAMOND],
    "relations": [[0, "left of", 1]],
    "background": {"scenery": "background", "colour": "grey", "texture": "plain"},
}


@pytest.mark.parametrize(
    ("code", "text", "verdict"),
    [
        ("de", "Ein großer roter Stern ist links von einer blauen Raute.", True),
        ("de", "rechts neben einem Stern befindet sich eine gestreifte blaue Raute", True),
        ("de", "ein roter Stern ist rechts von einer blauen Raute", False),
        ("de", "man sieht einen roten Stern, aber keinen Kreis", True),
        ("de", "ein Bild mit einem roten Stern und einer grünen Raute", False),
        ("de", "ein roter Stern auf einem grauen Hintergrund", True),
        ("de", "ein roter Raute ist links von einem Stern", None),
        ("de", "ein Stern ist links von eine blaue Raute", None),
        ("de", "man sieht ein roter Stern", None),
        ("zh", "一个红色的大星形在一个蓝色的菱形的左边。", True),
        ("zh", "一个红色的星形的右边有一个带条纹的菱形", True),
        ("zh", "一个红色的星形在一个蓝色的菱形的右边", False),
        ("zh", "图中有一个红色的星形\uff0c但没有圆形", True),
        ("zh", "灰色的背景上有一个绿色的星形", False),
        ("zh", "红色一个星形的在左边", None),
    ],
)
def test_truth_of_sentences(code: str, text: str, verdict: bool | None) -> None:
    assert truth_in(code, SCENE, text) is verdict


def test_a_language_spells_what_it_reads() -> None:
    for book in BOOKS.values():
        for table in book.tables.values():
            assert all(isinstance(looks, Looks) and words == words.strip() for words, looks in table.items())
        assert len(book.tables[book.kinds["a"][0]]) == 8 * 11 * 3 * 5


@pytest.mark.parametrize("options", ["language=en", "language=fr", "twins=yes&language=de", "language=de&language=zh"])
def test_options_of_scenes(options: str) -> None:
    if options == "language=en":
        assert open_source(f"scenes:10?{options}").signature() == open_source("scenes:10").signature()
        return
    with pytest.raises(InputError, match="scenes:10"):
        open_source(f"scenes:10?{options}")


def test_signs_are_words_for_all_who_split() -> None:
    text = "一个红色的cat 12号 X光片"
    expected = ["一", "个", "红", "色", "的", "cat", "12", "号", "x", "光", "片"]
    assert [word.text for word in split(text)] == expected
    assert tokenise(text) == expected
    assert split_words(text) == expected
    assert as_written("三 角 a b") == "三角 a b"


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_english_words_are_split_as_before(text: str) -> None:
    latin = "".join(char for char in text if ord(char) < 0x3000)
    assert all(part in latin.lower() for part in tokenise(latin))


def test_a_language_without_a_model_has_tokens_with_their_endings() -> None:
    parser = open_parser("de")
    assert isinstance(parser, TokenParser)
    (parse,) = parser.parse(["Ein roter Kreis, 3 Sterne."])
    assert parse["words"] == ["Ein", "roter", "Kreis", ",", "3", "Sterne", "."]
    assert parse["tags"] == ["ein", "-er", "-is", ".", "CD", "-ne", "."]
    assert parse["pos"] == ["X", "X", "X", "PUNCT", "NUM", "X", "PUNCT"]
    assert parse["starts"] == [0, 4, 10, 15, 17, 19, 25]
    assert parser.content_hash() != TokenParser("fr").content_hash()


def test_an_installed_model_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.models.parser.find_spec", lambda name: name if name == "de_core_news_md" else None)
    parser = open_parser("de")
    assert isinstance(parser, SpacyParser)
    assert parser.model == "de_core_news_md"


@pytest.mark.parametrize("code", ["de", "zh", "fi", "ru"])
def test_odd_captions_in_any_language(code: str) -> None:
    language = CaptionLanguage(code)
    texts = [text for text in ODD if text.strip()]
    samples = [Sample(image_uid(text.encode()), "a", ImageRef("a"), (text,)) for text in texts]
    samples = list(map(added, samples, ParseCaptions(parser=open_parser(code)).process(samples)))
    samples.sort(key=lambda one: one.uid)
    stage = MineContrasts(language=language)
    fit = stage.fit(ListedColumns(tuple(samples)))
    assert len(stage.apply(samples, fit)) == len(samples)


def test_codes_of_languages() -> None:
    assert CaptionLanguage.parse("en") == ENGLISH
    assert ENGLISH.is_english and not ENGLISH.inflects and not CHINESE.inflects and GERMAN.inflects
    for wrong, fix in (("german", "give de"), ("DE", "give de"), ("dee", "did you mean"), ("", "give the code")):
        with pytest.raises(InputError, match="no such language") as caught:
            CaptionLanguage.parse(wrong)
        assert fix in str(caught.value)
        assert "de German" in str(caught.value)
    hashes = {CaptionLanguage(code).content_hash() for code in NAMES}
    assert len(hashes) == len(NAMES)


def test_lists_of_languages() -> None:
    assert GERMAN.lists_say_exclude("roter", "blauer") and not GERMAN.lists_say_exclude("roter", "blaue")
    assert GERMAN.lists_say_exclude("links", "rechts") and not GERMAN.lists_say_exclude("links", "links")
    assert CHINESE.lists_say_exclude("左", "右") and not CHINESE.lists_say_exclude("左", "上")
    for code in NAMES:
        language = CaptionLanguage(code)
        if language.has_lists:
            assert language.negations and not language.negations & language.kept_words
    assert "ja" in CaptionLanguage("fi").kept_words and not CaptionLanguage("fi").negations


DE = ["Ein Hund und eine Katze sind auf der Wiese und es ist ein schöner Tag für die Kinder"] * 20
EN = ["A dog and a cat are on the grass and it is a nice day for the children of the town"] * 20
ZH = ["一只狗和一只猫在草地上\uff0c今天是个好天气"] * 20
TITLES = ["Nike Air Max 90 Schuhe Herren Weiß 42", "Sony Headphones WH-1000XM4 Black"] * 20


@pytest.mark.parametrize(
    ("captions", "code", "seen"),
    [
        (DE, "en", "German"), (ZH, "en", "Chinese signs"), (EN, "de", "English"), (EN, "zh", "Chinese signs"),
        (ZH, "de", "Chinese signs"), (DE, "de", ""), (EN, "en", ""), (ZH, "zh", ""), (TITLES, "en", ""), (TITLES, "de", ""),
        (EN, "fi", ""), ([], "en", ""), (["a"], "zh", ""),
    ],
)  # fmt: skip
def test_captions_that_are_plainly_in_another_language(captions: list[str], code: str, seen: str) -> None:
    found = other_language(captions, CaptionLanguage(code))
    assert seen in found
    assert bool(found) == bool(seen)


@pytest.mark.parametrize(
    ("text", "edits", "reason"),
    [
        ("ein blauer Hund ohne Leine", [[4, 9, 4, 10]], ""),
        ("ein roter Hund ohne Halsband", [[20, 25, 20, 28]], "possible"),
        ("Ein roter  Hund ohne Leine!", [[0, 3, 0, 3]], "same_text"),
        ("ein Hund ohne roter Leine", [[4, 14, 4, 13]], "same_meaning"),
        ("ein roter Dackel ohne Leine", [[10, 14, 10, 16]], "said_by_other_caption"),
        ("ein Hund ohne Leine", [[4, 10, 4, 4]], "possible"),
    ],
)
def test_the_gate_without_reading_sentences(text: str, edits: list[list[int]], reason: str) -> None:
    captions = ("ein roter Hund ohne Leine", "da läuft ein Dackel")
    assert plain_rejection_reason(captions, {"text": text, "edits": edits, "caption": 0}, GERMAN)[0] == reason
