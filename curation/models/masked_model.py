"""Masked language models, which predict a hidden word: the protocol, and the adapter to Hugging Face transformers."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from blake3 import blake3

from data_manifests.errors import InputError
from data_manifests.hub_access import hub_problem

_MAX_CONTEXT_TOKENS = 62
"""Maximum tokens on either side of a blank: those further away matter little, and every model accepts 128."""
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
_ALLOWED = (
    "a folder, or hub name such as distilbert/distilroberta-base, of a masked language model with safetensors weights"
)


class Blank(NamedTuple):
    """A text with one word hidden."""

    before: str
    after: str


@runtime_checkable
class MaskedModel(Protocol):
    """A masked language model: a `Resource` that predicts the words for a blank."""

    def content_hash(self) -> str:
        """Return a hash of everything that determines the words."""

    def describe(self) -> str:
        """Return a name for people, without paths."""

    def fill(self, blanks: Sequence[Blank], top: int) -> list[list[str]]:
        """Return, for each blank, at most `top` whole words in lower case, most likely first.

        The words for a blank depend on that blank alone.
        """


@dataclass(frozen=True, slots=True)
class TransformersMaskedModel:
    """A transformers masked language model.

    Texts are computed one at a time, without padding, on one thread, so that the words do not depend on the batch. Only
    vocabulary entries that begin a word and consist of ASCII letters are returned, never a piece of a word. Weights are
    read from safetensors files only, and no code of the model's repository is run.

    Attributes:
        model: A folder, or a name on the hub.

    Raises (on use):
        InputError: there is no such model, or it is not a masked language model.
    """

    model: str

    @classmethod
    def parse(cls, text: str) -> TransformersMaskedModel:
        """Return the model of a folder, from then on by its absolute path, or of a name on the hub."""
        return cls(str(Path(text).absolute()) if Path(text).is_dir() else text)

    def content_hash(self) -> str:
        """Return BLAKE3-128 over the model's files."""
        return _content_hash(_folder(self.model))

    def describe(self) -> str:
        """Return the model's name; of a folder only the last part."""
        return Path(self.model).name if Path(self.model).is_dir() else self.model

    def fill(self, blanks: Sequence[Blank], top: int) -> list[list[str]]:
        """Return the most likely words for each blank; none for a text that contains one of the model's special tokens.

        Raises:
            InputError: the model cannot be loaded.
        """
        import torch

        loaded = _load(_folder(self.model))
        found: list[list[str]] = []
        torch.set_num_threads(1)
        with torch.inference_mode():
            for blank in blanks:
                ids, position = loaded.encode(blank)
                if position < 0:
                    found.append([])
                    continue
                logits = loaded.network(input_ids=torch.tensor([ids])).logits[0, position]
                found.append(loaded.most_likely(logits, top))
        return found


class _Loaded:
    """A network in evaluation mode, with tables computed once from its tokenizer.

    Args:
        tokenizer: A tokenizer with a mask token.
        network: Its network.
    """

    def __init__(self, tokenizer: Any, network: Any) -> None:
        self.tokenizer, self.network = tokenizer, network
        self.mask = int(tokenizer.mask_token_id)
        encoded = tokenizer.encode(tokenizer.mask_token)
        mask_position = encoded.index(self.mask)
        self.first, self.last = encoded[:mask_position], encoded[mask_position + 1 :]
        self.special_tokens = [token for token in tokenizer.all_special_tokens if token]
        self.word_of = _whole_words(tokenizer, int(network.config.vocab_size))
        self.allowed = sorted(self.word_of)

    def encode(self, blank: Blank) -> tuple[list[int], int]:
        """Return token ids and the blank's position among them; -1 when the text contains a special token."""
        if any(token in part for token in self.special_tokens for part in blank):
            return [], -1
        texts = (blank.before.rstrip(), blank.after)  # the space before a blank belongs to the word
        before, after = (self.tokenizer.encode(text, add_special_tokens=False) if text else [] for text in texts)
        before = before[-_MAX_CONTEXT_TOKENS:]
        ids = [*self.first, *before, self.mask, *after[:_MAX_CONTEXT_TOKENS], *self.last]
        return ids, len(self.first) + len(before)

    def most_likely(self, logits: Any, top: int) -> list[str]:
        """Return the most likely words, each once; ties in order of the vocabulary."""
        import torch

        values = logits[torch.tensor(self.allowed)].double()
        order = torch.argsort(values, descending=True, stable=True)[: 2 * top].tolist()
        return list(dict.fromkeys(self.word_of[self.allowed[index]] for index in order))[:top]


def _whole_words(tokenizer: Any, size: int) -> dict[int, str]:
    """Return the vocabulary's entries that are words: id -> word in lower case.

    Vocabularies mark either the entries that begin a word (with one of two characters) or those that continue one.
    """
    entries = {number: str(entry) for entry, number in tokenizer.get_vocab().items() if number < size}
    prefix = next((mark for mark in ("\u0120", "\u2581") if any(entry[:1] == mark for entry in entries.values())), "")
    words = {number: entry.removeprefix(prefix) for number, entry in entries.items() if entry.startswith(prefix)}
    special = set(tokenizer.all_special_ids)
    return {
        number: word.lower()
        for number, word in words.items()
        if number not in special and len(word) > 1 and word.isascii() and word.isalpha()
    }


def _unusable(name: str, problem: str, fix: str = "use --masked-model with another model") -> InputError:
    return InputError(f"masked model '{name}' {problem}", allowed=_ALLOWED, fix=fix)


def _folder(model: str) -> Path:
    """Return the folder with a model's files, downloaded from the hub if necessary.

    Raises:
        InputError: it is not a folder, and the hub has no such model or cannot be reached.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    unreached = hub_problem()
    try:
        return Path(snapshot_download(model, allow_patterns=list(_FILES)))
    except (OSError, ValueError, HFValidationError) as error:
        problem = f"is not a folder, and cannot be downloaded from the hub ({unreached or type(error).__name__})"
        raise _unusable(model, problem, "give a folder, or run once with network access") from None


@functools.lru_cache(maxsize=2)
def _content_hash(folder: Path) -> str:
    digest = blake3(b"masked model\n")
    for path in sorted((path for pattern in _FILES for path in folder.glob(pattern)), key=lambda path: path.name):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update_mmap(path)
    return digest.hexdigest(length=16)


@functools.lru_cache(maxsize=1)
def _load(folder: Path) -> _Loaded:
    """Load a model for inference.

    Raises:
        InputError: the folder contains no masked language model, or not all of its weights.
    """
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    try:
        network, report = AutoModelForMaskedLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        problem = f"cannot be loaded ({type(error).__name__})"
        raise _unusable(folder.name, problem, "check that its files are complete") from None
    if tokenizer.mask_token_id is None:
        raise _unusable(folder.name, "has a tokenizer without a mask token")
    if missing := report["missing_keys"]:
        problem = f"has no weights for {len(missing)} of its tensors, such as {min(missing)}"
        raise _unusable(folder.name, f"{problem}: it was not trained as a masked language model")
    return _Loaded(tokenizer, network.eval())
