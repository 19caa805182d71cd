"""A tiny masked language model with random weights and a real WordPiece vocabulary; and scripted models for the contract."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.llm.interface import Answer, CompletionRequest
from curation.models.masked_model import Blank

WORDS = [
    "a",
    "an",
    "the",
    "man",
    "woman",
    "boy",
    "girl",
    "dog",
    "cat",
    "horse",
    "bird",
    "ball",
    "hat",
    "shirt",
    "bench",
    "table",
    "street",
    "river",
    "red",
    "blue",
    "green",
    "black",
    "white",
    "small",
    "big",
    "wet",
    "young",
    "old",
    "runs",
    "jumps",
    "sits",
    "stands",
    "sleeps",
    "running",
    "jumping",
    "sitting",
    "standing",
    "sleeping",
    "on",
    "in",
    "under",
    "behind",
    "above",
    "dogs",
    "cats",
    "boys",
    "balls",
    "apple",
    "orange",
]


def write_masked_model(folder: Path, *, head: bool = True) -> None:
    """Save a BERT of one layer with random weights, and the WordPiece tokenizer of `WORDS`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    ]
    pieces += [letter for letter in "abcdefghijklmnopqrstuvwxyz.,'" if letter not in WORDS]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    marks = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": mark for name, mark in marks.items()}
    ).save_pretrained(folder)
    torch.manual_seed(1)
    sizes: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "initializer_range": 0.5,
    }  # fmt: skip
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=160, **sizes)
    (BertForMaskedLM(config) if head else BertModel(config)).save_pretrained(folder)


@dataclasses.dataclass(frozen=True)
class ListedFills:
    """Fills every blank with the same words: a masked model for tests that need no weights."""

    words: tuple[str, ...]

    def content_hash(self) -> str:
        return json.dumps(self.words)

    def describe(self) -> str:
        return "listed"

    def fill(self, blanks: Sequence[Blank], top: int) -> list[list[str]]:
        return [list(self.words[:top]) for _ in blanks]


@dataclasses.dataclass
class Replacing:
    """A language model that changes one word of its question, as told."""

    answer: Callable[[str], str]
    model: str = "replacing"

    def content_hash(self) -> str:
        return self.model

    def describe(self) -> str:
        return self.model

    @contextmanager
    def open(self) -> Iterator[Replacing]:
        self.waiting: list[CompletionRequest] = []
        yield self

    def submit(self, request: CompletionRequest) -> None:
        self.waiting.append(request)

    def outcomes(self) -> Iterator[tuple[CompletionRequest, Answer]]:
        while self.waiting:
            request = self.waiting.pop()
            text = str(request.body["prompt"]).rsplit("\n", 1)[-1].removesuffix(" =>")
            yield request, Answer(self.answer(text), "stop", 30, 10)


def other_colour(text: str) -> str:
    """Say "purple" for the first word "red", "blue" or "green" in a text."""
    words = text.split()
    at = next((place for place, word in enumerate(words) if word in ("red", "blue", "green", "black", "white")), -1)
    return " ".join("purple" if place == at else word for place, word in enumerate(words))
