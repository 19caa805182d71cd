"""A pretrained classifier as a judge of texts: how grammatical or plausible one reads, whatever it is about."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.models.model_folder import find_folder, hash_folder
from data_manifests.errors import InputError

_MAX_TOKENS = 128
_DECIMALS = 5
_WEIGHTS = ("*.safetensors",)
_OTHERS = ("*.json", "*.txt", "*.model")
_ALLOWED = "a folder, or hub name in this machine's cache, of a sequence classifier with safetensors weights"


@dataclass(frozen=True, slots=True)
class TextClassifier:
    """A transformers sequence classifier; a text's score is the log odds of one label.

    Each text is computed by itself, so that its score does not depend on others. Weights are read from safetensors
    files alone and no code of the model's repository is run.

    Attributes:
        model: A folder, or a name on the hub such as a classifier of linguistic acceptability.
        label: Number of the label that means "reads well".
        revision: The hub's commit; main's by default. Folders have none.

    Raises (on use):
        InputError: there is no such model, or it has not this label.
    """

    model: str
    label: int = 1
    revision: str = "main"

    def content_hash(self) -> str:
        """Return BLAKE3-128 over the model's files and the label."""
        return _content_hash(str(_folder(self.model, self.revision)), self.label)

    def describe(self) -> str:
        """Return the model's name, a folder's without its path."""
        return f"{Path(self.model).name if Path(self.model).is_dir() else self.model} label {self.label}"

    def score(self, texts: Sequence[str]) -> list[float]:
        """Return the log odds of the label for each text.

        Raises:
            InputError: the model cannot be loaded.
        """
        import torch

        tokenizer, network = _load(str(_folder(self.model, self.revision)), self.label)
        scores = []
        with torch.inference_mode():
            for text in texts:
                tokens = tokenizer(text, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
                chances = network(**tokens).logits[0].double().log_softmax(dim=0)
                others = torch.cat([chances[: self.label], chances[self.label + 1 :]]).logsumexp(dim=0)
                scores.append(round(float(chances[self.label] - others), _DECIMALS))
        return scores


def _folder(model: str, revision: str) -> Path:
    return find_folder("text classifier", model, revision, (*_WEIGHTS, *_OTHERS), _ALLOWED)


@functools.lru_cache(maxsize=2)
def _content_hash(folder: str, label: int) -> str:
    return hash_folder(Path(folder), (*_WEIGHTS, *_OTHERS), f"label {label}")


@functools.lru_cache(maxsize=1)
def _load(folder: str, label: int) -> tuple[Any, Any]:
    """Return tokenizer and network, in evaluation mode.

    Raises:
        InputError: the folder holds no such model, or its model has not this label.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    name = Path(folder).name
    try:
        network = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"text classifier '{name}' cannot be loaded ({type(error).__name__})",
            allowed=_ALLOWED,
            fix="check its files",
        ) from None
    num_labels = int(network.config.num_labels)
    if not 0 <= label < num_labels or num_labels < 2:
        raise InputError(
            f"text classifier '{name}' has {num_labels} labels, asked for number {label}",
            allowed=f"a classifier with two labels or more; here 0 .. {num_labels - 1}",
            fix="name the label that means 'reads well'",
        )
    return tokenizer, network.eval()
