"""Learned context tokens before each text (CoOp): what `prompt` tuning trains.

A text is read as start mark, context, its own tokens, end mark. Context token k has the id -1 - k, which no vocabulary has, so that
whatever works on ids (equal texts, tries, padding, pooling at the largest id) works on such texts, too; only the table of word
vectors knows that these ids are parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from training.model.clip_model import ClipModel

CONTEXT = "context"
"""Name of the parameter in the table of word vectors."""

_NAMES = (f"token_embedding.{CONTEXT}", f"word_embeddings.{CONTEXT}")

STARTING_TEXT = "a photo of a"
"""The context tokens start as the word vectors of this text, as often as they are needed."""


class ContextEmbedding(nn.Embedding):
    """A table of word vectors with the vectors of context tokens beside it.

    Args:
        table: The word vectors; shared, not copied.
        context: Vectors of the context tokens [M, width].

    Source: Zhou et al. 2022 (CoOp), section 3.2, arXiv 2109.01134: unified context.
    Differs: before captions as before class names; starts from words, where the paper's default is random; the logit scale is
        trained, too, as in every tuning here.
    """

    def __init__(self, table: nn.Embedding, context: Tensor) -> None:
        super().__init__(
            table.num_embeddings, table.embedding_dim, padding_idx=table.padding_idx, _weight=table.weight.detach()
        )
        self.weight.requires_grad = table.weight.requires_grad
        self.context = nn.Parameter(context)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors [..., width] of token ids; negative ones are context tokens."""
        words = F.embedding(tokens.clamp_min(0), self.weight, self.padding_idx)
        learned = F.embedding((-1 - tokens).clamp_min(0), self.context)
        return torch.where((tokens < 0)[..., None], learned, words)


@dataclass(frozen=True)
class ContextTokenizer:
    """A tokenizer that puts context tokens after the start mark; texts are cut to what is left of the context length.

    Attributes:
        inner: The model's own tokenizer.
        num_tokens: Number of context tokens.
        context_length: Most tokens of a text, all included.
    """

    inner: Callable[..., Tensor]
    num_tokens: int
    context_length: int

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor:
        """Return int64 ids [n, context_length]."""
        ids = self.inner(texts, context_length=(context_length or self.context_length) - self.num_tokens)
        context = -1 - torch.arange(self.num_tokens, dtype=ids.dtype)
        return torch.cat([ids[:, :1], context.expand(len(ids), -1), ids[:, 1:]], dim=1)


def context_of(model: ClipModel) -> nn.Parameter | None:
    """Return the model's context vectors [M, width]; None for a model without."""
    table = _word_vectors(model)[1]
    return table.context if isinstance(table, ContextEmbedding) else None


def add_context(model: ClipModel, num_tokens: int) -> nn.Parameter:
    """Put context tokens before every text that the model reads, in place; they start as `STARTING_TEXT`. Return them.

    Raises:
        InputError: a tower without word vectors or start mark, or a context length that leaves the texts less than half.
    """
    name, table = _word_vectors(model)
    if not name:
        raise InputError(
            "tuning 'prompt': the word vectors of this model's text tower are not known",
            allowed="open_clip's own text transformer, BERT and DistilBERT",
            fix="--tune lora, full or projection",
        )
    if num_tokens > model.context_length // 2:
        raise InputError(
            f"tuning 'prompt': {num_tokens} context tokens in a context of {model.context_length}",
            allowed=f"1 to {model.context_length // 2}: texts need the rest",
            fix="--set train.prompt_tokens=NUMBER",
        )
    starts = model.tokenize(["a", "dog"])[:, 0]
    if starts[0] != starts[1]:
        raise InputError(
            "tuning 'prompt': this model's texts have no start mark that context tokens could follow",
            allowed="open_clip's own text transformer, BERT and DistilBERT",
            fix="--tune lora, full or projection",
        )
    parent, _, own = name.rpartition(".")
    context = ContextEmbedding(table, _starting_vectors(model, table, num_tokens))
    setattr(model.module.get_submodule(parent), own, context)
    model.tokenizer = ContextTokenizer(model.tokenizer, num_tokens, model.context_length)
    return context.context


def match_context(teacher: ClipModel, model: ClipModel) -> None:
    """Give a model before tuning the context with which the tuning of `model` began, in place, so that it reads the same tokens."""
    context = context_of(model)
    if context is not None and context_of(teacher) is None:
        add_context(teacher, len(context))


def stored_context(tensors: Mapping[str, Tensor]) -> int:
    """Return how many context tokens a run's tensors have; 0 for none."""
    return next((len(value) for name, value in tensors.items() if name.endswith(_NAMES)), 0)


def starting_context(model: ClipModel) -> dict[str, Tensor]:
    """Return the context vectors with which the tuning of a model began, by name; empty for a model without."""
    name, table = _word_vectors(model)
    if not isinstance(table, ContextEmbedding):
        return {}
    return {f"{name}.{CONTEXT}": _starting_vectors(model, table, len(table.context))}


def _starting_vectors(model: ClipModel, table: nn.Embedding, num_tokens: int) -> Tensor:
    tokenizer: Any = model.tokenizer
    plain = tokenizer.inner if isinstance(tokenizer, ContextTokenizer) else tokenizer
    empty, words = plain(["", STARTING_TEXT])
    marks = set(empty.tolist())
    ids = [token for token in words.tolist() if token not in marks]
    return table.weight.detach()[torch.tensor([ids[at % len(ids)] for at in range(num_tokens)])].clone()


def _word_vectors(model: ClipModel) -> tuple[str, nn.Embedding]:
    """Return the name in the module, and the table, of the text tower's word vectors; an empty name where they are not known."""
    text = model.text_tower
    if isinstance(text, (CLIP, TextTransformer)):
        table = text.token_embedding
    else:
        table = text.transformer.get_input_embeddings() if hasattr(text, "transformer") else None
    name = next((name for name, module in model.module.named_modules() if module is table), "")
    return name, table
