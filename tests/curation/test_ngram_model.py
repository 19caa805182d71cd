"""The n-gram model against a slow literal transcription, and that no text scores itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.blind import ngram_model
from curation.blind.ngram_model import BEGIN, END, UNKNOWN, Encoded, NgramModel, Vocabulary, WordClasses, tokenise

SIZE = 7
TEXTS = st.lists(st.lists(st.integers(UNKNOWN, SIZE - 1), max_size=6), min_size=1, max_size=12)


def encoded(texts: Sequence[Sequence[int]]) -> Encoded:
    lengths = np.array([len(text) for text in texts], np.int64)
    return Encoded(np.array([number for text in texts for number in text], np.int64), lengths)


class Literal:
    """Interpolated Kneser-Ney, written down as in Chen and Goodman 1999, equations 20 to 24."""

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self.follows: dict[tuple[int, ...], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for text in texts:
            row = [BEGIN, BEGIN, *text, END]
            for at in range(2, len(row)):
                self.follows[row[at - 2], row[at - 1]][row[at]] += 1
        self.trigrams = [(*context, word) for context in list(self.follows) for word in self.follows[context]]
        for _, middle, word in self.trigrams:
            self.follows[middle,][word] += 1
        for _, word in {(middle, word) for _, middle, word in self.trigrams}:
            self.follows[()][word] += 1

    def chance(self, context: tuple[int, ...], word: int) -> float:
        lower = self.chance(context[1:], word) if context else 1 / SIZE
        counts = self.follows.get(context)
        if not counts:
            return lower
        total = sum(counts.values())
        return max(counts.get(word, 0) - 0.75, 0) / total + 0.75 * len(counts) / total * lower

    def score(self, text: Sequence[int]) -> float:
        row = [BEGIN, BEGIN, *text, END]
        return sum(math.log(self.chance((row[at - 2], row[at - 1]), row[at])) for at in range(2, len(row)))


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.integers(2, 4))
def test_equals_the_literal_model_of_the_other_folds(
    learn: list[list[int]], ask: list[list[int]], num_folds: int
) -> None:
    folds = np.arange(len(learn)) % num_folds
    model = NgramModel.fit(encoded(learn), SIZE, folds, num_folds)
    for fold in range(num_folds):
        literal = Literal([text for text, where in zip(learn, folds, strict=True) if where != fold])
        got = model.score(encoded(ask), np.full(len(ask), fold))
        assert got.tolist() == pytest.approx([literal.score(text) for text in ask], abs=1e-9)
    literal = Literal(learn)
    assert model.score(encoded(ask)).tolist() == pytest.approx([literal.score(text) for text in ask], abs=1e-9)
    for context in [(), (3,), (BEGIN, BEGIN), (3, 4), (6, 6)]:
        assert sum(literal.chance(context, word) for word in range(SIZE)) == pytest.approx(1)


def test_a_text_does_not_score_itself() -> None:
    texts = ["a dog runs", "a dog sits", "two zebras wade", "a dog runs"]
    vocabulary = Vocabulary(texts)
    model = NgramModel.fit(vocabulary.encode(texts), len(vocabulary), np.array([0, 1, 2, 3]), 4)
    own = model.score(vocabulary.encode(texts), np.arange(4))
    seen = model.score(vocabulary.encode(texts))
    assert (own < seen).all()
    assert own[0] > own[2] + 2  # "a dog runs" is said of another image, the zebras are not


def test_scores_are_the_same_in_chunks_and_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a dog runs", "", "a cat sits on a mat .", "dog", "unheard of", "a dog"]
    vocabulary = Vocabulary(texts[:4])
    model = NgramModel.fit(vocabulary.encode(texts[:4]), len(vocabulary))
    whole = model.score(vocabulary.encode(texts))
    assert model.score(vocabulary.encode(texts[::-1])).tolist() == whole[::-1].tolist()
    monkeypatch.setattr(ngram_model, "_TEXTS_PER_CHUNK", 2)
    assert model.score(vocabulary.encode(texts)).tolist() == whole.tolist()
    assert model.score(vocabulary.encode([])).tolist() == []


def test_nothing_learned_finds_all_words_alike() -> None:
    model = NgramModel.fit(encoded([]), SIZE)
    assert model.score(encoded([[3, 4], []])).tolist() == pytest.approx([3 * math.log(1 / SIZE), math.log(1 / SIZE)])


def test_tokens() -> None:
    assert tokenise("A T-shirt, isn't it? \U0001f600 2,000") == [
        "a", "t-shirt", ",", "isn't", "it", "?", "\U0001f600", "2", ",", "000",
    ]  # fmt: skip
    assert tokenise(" \t\n") == []
    assert len(tokenise("word " * 100_000)) == 256


def test_numbers_of_words_depend_on_the_set_of_words_alone() -> None:
    texts = ["b a", "c c", "a d"]
    one, other = Vocabulary(texts), Vocabulary(reversed(texts))
    assert one.words == other.words == ("a", "b", "c", "d")
    assert one.encode(["d e A"]).ids.tolist() == [6, UNKNOWN, 3]


def test_a_word_has_one_class_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_model, "_KEPT_WORDS", 2)
    vocabulary = Vocabulary(["the the the a a dog cat runs swimming jumped quickly 12 boats ! tree"])
    classes = WordClasses(vocabulary, [(["Dog", "cat", "runs"], ["NN", "NN", "VBZ"]), (["runs"], ["NNS"])])
    names = ["the", "a", "dog", "cat", "runs", "swimming", "jumped", "quickly", "12", "boats", "!", "tree"]
    got = dict(zip(names, classes.encode(vocabulary.encode([" ".join(names)])).ids.tolist(), strict=True))
    assert got["dog"] == got["cat"] == got["tree"]  # a word without a tag counts as a noun
    assert got["runs"] == got["boats"]  # of two equally frequent tags, the first in the alphabet
    assert len({got[name] for name in ("the", "a", "dog", "runs", "swimming", "jumped", "quickly", "12", "!")}) == 9
    assert min(got.values()) > UNKNOWN
