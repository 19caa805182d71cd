"""The n-gram model against a slow literal transcription, and that no text scores itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.blind import ngram_model, tokens
from curation.blind.ngram_model import NgramModel, TrigramCounts
from curation.blind.pair_features import TokenView, pair_features
from curation.blind.tokens import (
    BEGIN,
    END,
    UNKNOWN,
    Encoded,
    Vocabulary,
    WordClasses,
    hash_words,
    pad,
    pad_differences,
    read_words,
    tokenise,
)

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
    model = NgramModel.of(TrigramCounts.of(encoded(learn), SIZE, folds), SIZE, num_folds)
    for fold in range(num_folds):
        literal = Literal([text for text, where in zip(learn, folds, strict=True) if where != fold])
        got = model.score_read(pad(encoded(ask)), np.full(len(ask), fold))
        assert got.tolist() == pytest.approx([literal.score(text) for text in ask], abs=1e-9)
    literal = Literal(learn)
    assert model.score(encoded(ask)).tolist() == pytest.approx([literal.score(text) for text in ask], abs=1e-9)
    for context in [(), (3,), (BEGIN, BEGIN), (3, 4), (6, 6)]:
        assert sum(literal.chance(context, word) for word in range(SIZE)) == pytest.approx(1)


def test_a_text_does_not_score_itself() -> None:
    texts = ["a dog runs", "a dog sits", "two zebras wade", "a dog runs"]
    read = read_words(texts)
    vocabulary = Vocabulary.of(read)
    encoded = vocabulary.encode(read)
    model = NgramModel.of(TrigramCounts.of(encoded, len(vocabulary), np.arange(4)), len(vocabulary), 4)
    own = model.score_read(pad(encoded), np.arange(4))
    seen = model.score(encoded)
    assert (own < seen).all()
    assert own[0] > own[2] + 2  # "a dog runs" is said of another image, the zebras are not


def test_scores_are_the_same_in_chunks_and_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a dog runs", "", "a cat sits on a mat .", "dog", "unheard of", "a dog"]
    known = read_words(texts[:4])
    vocabulary = Vocabulary.of(known)
    model = NgramModel.fit(vocabulary.encode(known), len(vocabulary))
    whole = model.score(vocabulary.encode(read_words(texts)))
    assert model.score(vocabulary.encode(read_words(texts[::-1]))).tolist() == whole[::-1].tolist()
    monkeypatch.setattr(ngram_model, "_TEXTS_PER_CHUNK", 2)
    assert model.score(vocabulary.encode(read_words(texts))).tolist() == whole.tolist()
    assert model.score(vocabulary.encode(read_words([]))).tolist() == []


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
    one, other = Vocabulary.of(read_words(texts)), Vocabulary.of(read_words(reversed(texts)))
    assert one.hashes.tolist() == other.hashes.tolist() == sorted(hash_words(list("abcd")).tolist())
    d, unknown, a = one.encode(read_words(["d e A"])).ids.tolist()
    assert unknown == UNKNOWN
    assert (d, a) == tuple(one.numbers(hash_words(["d", "a"])).tolist())
    assert min(d, a) > UNKNOWN
    assert d != a


def test_a_word_has_one_class_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_KEPT_WORDS", 2)
    texts = read_words(["the the the a a dog cat runs swimming jumped quickly 12 boats ! tree"])
    vocabulary = Vocabulary.of(texts)
    tags = {"NN": hash_words(["dog", "cat"]), "VBZ": hash_words(["runs"]), "NNS": hash_words(["runs"])}
    classes = WordClasses.learn(vocabulary, texts, tags)
    names = ["the", "a", "dog", "cat", "runs", "swimming", "jumped", "quickly", "12", "boats", "!", "tree"]

    def classes_of(words: list[str]) -> list[int]:
        read = read_words([" ".join(words)])
        return classes.encode(vocabulary.encode(read).ids, read).ids.tolist()

    got = dict(zip(names, classes_of(names), strict=True))
    assert got["dog"] == got["cat"] == got["tree"]  # a word without a tag counts as a noun
    assert got["runs"] == got["boats"]  # of two equally frequent tags, the first in the alphabet
    assert len({got[name] for name in ("the", "a", "dog", "runs", "swimming", "jumped", "quickly", "12", "!")}) == 9
    assert min(got.values()) > UNKNOWN
    new = classes_of(["unheard", "singing", "hopped", "slowly", "cars", "7", "?"])
    assert new == [got[name] for name in ("tree", "swimming", "jumped", "quickly", "boats", "12", "!")]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.integers(UNKNOWN, SIZE - 1), max_size=6)] * 2), min_size=1, max_size=8), TEXTS)
def test_differences_of_pairs_are_those_of_whole_texts(pairs: list[tuple[list[int], list[int]]], learn: Any) -> None:
    sides = [encoded(side) for side in zip(*pairs, strict=True)]
    one, other = pad_differences(*sides)
    model = NgramModel.fit(encoded(learn), SIZE)
    without = np.full(len(pairs), model.num_folds)
    gaps = model.score_read(one, without) - model.score_read(other, without)
    assert gaps.tolist() == pytest.approx((model.score(sides[0]) - model.score(sides[1])).tolist(), abs=1e-9)
    dense = np.zeros((len(pairs), 0))
    expected = pair_features([TokenView(pad(sides[0]), pad(sides[1]), 4)], dense)
    assert abs(pair_features([TokenView(one, other, 4)], dense) - expected).sum() == 0
    same = [left == right for left, right in pairs]
    assert [not gap for gap, equal in zip(gaps.tolist(), same, strict=True) if equal] == [True] * sum(same)
