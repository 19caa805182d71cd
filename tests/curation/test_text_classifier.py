"""A pretrained classifier of texts: each text by itself, known by its files, and told when it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.models.text_classifier import TextClassifier
from curation.stages.negatives.refine_negatives import RefineNegatives
from data_manifests.errors import InputError


def write_classifier(folder: Path) -> None:
    """Save a tiny classifier with random weights, and a tokenizer of letters."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz"])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "num_labels": 2,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    config = BertConfig(vocab_size=len(letters), max_position_embeddings=160, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)


def test_a_text_classifier_scores_each_text_by_itself(tmp_path: Path) -> None:
    write_classifier(tmp_path / "acceptable")
    model = TextClassifier(str(tmp_path / "acceptable"))
    texts = ["a dog runs", "dog a runs", "z" * 900, "!"]
    scores = model.score(texts)
    assert model.score(texts[::-1]) == scores[::-1]
    assert len(set(scores)) == 4
    other = TextClassifier(model.model, label=0)
    assert other.score(texts) == pytest.approx([-score for score in scores])
    assert other.content_hash() != model.content_hash()
    assert str(tmp_path) not in model.describe()
    assert RefineNegatives(model=model).identity()["resources"] == {"model": model.content_hash()}


def test_a_text_classifier_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        TextClassifier(str(tmp_path)).score(["a"])
    with pytest.raises(InputError, match="is no folder and cannot be had"):
        TextClassifier("no/such-model").content_hash()
    write_classifier(tmp_path / "two")
    with pytest.raises(InputError, match=r"has 2 labels, asked for number 2\n.*0 .. 1"):
        TextClassifier(str(tmp_path / "two"), label=2).score(["a"])
