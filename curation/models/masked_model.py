"""What fills a blank in a text: a small protocol, and a Hugging Face masked language model behind it."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from curation.models.model_folder import find_folder, hash_folder
from data_manifests.errors import InputError

_TOKENS_BESIDE = 62
"""Most tokens read on either side of a blank: what is further away says little, and models take 128 at least."""
_WEIGHTS = ("*.safetensors",)
_OTHERS = ("*.json", "*.txt", "*.model")
_ALLOWED = (
    "a folder, or hub name such as distilbert/distilroberta-base, of a masked language model with safetensors weights"
)


class Blank(NamedTuple):
    """A text with one word hidden."""

    before: str
    after: str


@runtime_checkable
class MaskedModel(Protocol):
    """A masked language model: a `Resource` that says which words fit a blank."""

    def content_hash(self) -> str:
        """Hash of what decides the fills."""

    def describe(self) -> str:
        """Name for people, no paths."""

    def fill(self, blanks: Sequence[Blank], top: int) -> list[list[str]]:
        """Return, for each blank, at most `top` whole words in lower case, likeliest first.

        The words for a blank depend on that blank alone.
        """


@dataclass(frozen=True, slots=True)
class TransformersMaskedModel:
    """A transformers masked language model.

    Each text is computed by itself, without padding, on one thread, so that its fills depend on no other. Only entries of the
    vocabulary that begin a word and are made of ASCII letters are fills: never a piece of a word. Weights are read from
    safetensors files alone, and no code of the model's repository is run.

    Attributes:
        model: A folder, or a name on the hub.
        revision: The hub's commit; main's by default. Folders have none.

    Raises (on use):
        InputError: there is no such model, or it is no masked one.
    """

    model: str
    revision: str = "main"

    def content_hash(self) -> str:
        """Return BLAKE3-128 over the model's files."""
        return _content_hash(str(_folder(self.model, self.revision)))

    def describe(self) -> str:
        """Return the model's name, a folder's without its path."""
        return Path(self.model).name if Path(self.model).is_dir() else self.model

    def fill(self, blanks: Sequence[Blank], top: int) -> list[list[str]]:
        """Return the likeliest words for each blank; none for a text that holds one of the model's own marks.

        Raises:
            InputError: the model cannot be loaded.
        """
        import torch

        loaded = _load(str(_folder(self.model, self.revision)))
        found: list[list[str]] = []
        torch.set_num_threads(1)
        with torch.inference_mode():
            for blank in blanks:
                ids, place = loaded.encode(blank)
                if place < 0:
                    found.append([])
                    continue
                logits = loaded.network(input_ids=torch.tensor([ids])).logits[0, place]
                found.append(loaded.likeliest(logits, top))
        return found


class _Loaded:
    """A network in evaluation mode, and what is read off its tokenizer once.

    Args:
        tokenizer: Has a mask.
        network: Its network.
    """

    def __init__(self, tokenizer: Any, network: Any) -> None:
        self.tokenizer, self.network = tokenizer, network
        self.mask = int(tokenizer.mask_token_id)
        around = tokenizer.encode(tokenizer.mask_token)
        at = around.index(self.mask)
        self.first, self.last = around[:at], around[at + 1 :]
        self.marks = [mark for mark in tokenizer.all_special_tokens if mark]
        self.word_of = _whole_words(tokenizer, int(network.config.vocab_size))
        self.allowed = sorted(self.word_of)

    def encode(self, blank: Blank) -> tuple[list[int], int]:
        """Return token ids and the blank's place among them; -1 when the text imitates a special token."""
        if any(mark in part for mark in self.marks for part in blank):
            return [], -1
        before, after = (
            self.tokenizer.encode(part, add_special_tokens=False) if part else [] for part in _parts(blank)
        )
        before = before[-_TOKENS_BESIDE:]
        ids = [*self.first, *before, self.mask, *after[:_TOKENS_BESIDE], *self.last]
        return ids, len(self.first) + len(before)

    def likeliest(self, logits: Any, top: int) -> list[str]:
        """Return the likeliest words; equal ones by number in the vocabulary, each word once."""
        import torch

        values = logits[torch.tensor(self.allowed)].double()
        order = torch.argsort(values, descending=True, stable=True)[: 2 * top].tolist()
        return list(dict.fromkeys(self.word_of[self.allowed[place]] for place in order))[:top]


def _parts(blank: Blank) -> tuple[str, str]:
    """Return the texts beside a blank: the space before it belongs to the word that is looked for."""
    return blank.before.rstrip(), blank.after


def _whole_words(tokenizer: Any, size: int) -> dict[int, str]:
    """Return the vocabulary's entries that are words: number -> word in lower case.

    Three ways to write vocabularies are told apart: a mark on what begins a word (two customs), or on what goes on.
    """
    entries = {number: str(entry) for entry, number in tokenizer.get_vocab().items() if number < size}
    begins = next((mark for mark in ("\u0120", "\u2581") if any(entry[:1] == mark for entry in entries.values())), "")
    words = {number: entry.removeprefix(begins) for number, entry in entries.items() if entry.startswith(begins)}
    special = set(tokenizer.all_special_ids)
    return {
        number: word.lower()
        for number, word in words.items()
        if number not in special and len(word) > 1 and word.isascii() and word.isalpha()
    }


def _folder(model: str, revision: str) -> Path:
    return find_folder("masked model", model, revision, (*_WEIGHTS, *_OTHERS), _ALLOWED)


@functools.lru_cache(maxsize=2)
def _content_hash(folder: str) -> str:
    return hash_folder(Path(folder), (*_WEIGHTS, *_OTHERS), "masked model")


@functools.lru_cache(maxsize=1)
def _load(folder: str) -> _Loaded:
    """Return a model ready for use.

    Raises:
        InputError: the folder holds no masked model, or one whose weights do not fill it.
    """
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    name = Path(folder).name
    try:
        network, report = AutoModelForMaskedLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"masked model '{name}' cannot be loaded ({type(error).__name__})", allowed=_ALLOWED, fix="check its files"
        ) from None
    if tokenizer.mask_token_id is None:
        raise InputError(
            f"masked model '{name}' has a tokenizer without a mask", allowed=_ALLOWED, fix="name another model"
        )
    if report["missing_keys"]:
        raise InputError(
            f"masked model '{name}' has no weights for {len(report['missing_keys'])} of its tensors, "
            f"such as {min(report['missing_keys'])}: it was not trained to fill blanks",
            allowed=_ALLOWED,
            fix="name another model",
        )
    return _Loaded(tokenizer, network.eval())
