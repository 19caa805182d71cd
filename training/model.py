"""What a model is called, what it is (by content), and its two towers ready for use.

A *model spec* is what the user types after `--model`:

| spec | what it is |
| --- | --- |
| `ViT-B-32:openai` | an open_clip architecture with weights from the hub |
| `tiny`, `tiny@3`, `ViT-B-32` | a bare name: random weights from a seed (0, or the one after `@`), with a warning |
| `lite0_minilm` | a shipped two-tower config whose towers are pretrained and whose projections are random |
| `path/to/config.json` | the same for a config file of your own |
| `path/to/folder` | a run of our trainer, or an open_clip folder (`open_clip_config.json` and weights) |
| `ViT-B-32:file.safetensors` | a checkpoint file of a named architecture (`.pt`, `.pth`, `.bin`, `.safetensors`) |

This module imports neither torch nor open_clip until a model is loaded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blake3 import blake3

from data_manifests.errors import InputError, nearest
from training import weights

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from PIL import Image
    from torch import Tensor

Kind = Literal["random", "hub", "config", "checkpoint", "open_clip_dir", "run"]
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
OPEN_CLIP_FILE = "open_clip_config.json"
LENGTH_BUCKET_TOKENS = 8
"""Texts are padded to a multiple of this many tokens: the bucket depends on the text alone."""


@dataclass
class Towers:
    """An image tower and a text tower with a common embedding space.

    `encode_image(x) == normalise(image_head(image_trunk(x)))`, and the same for text, always: the two
    halves are how the trainer caches what a frozen trunk computes. Where the cut lies:
    two-tower assemblies and timm or Hugging Face towers cut before their projection head (`head`/`proj`);
    open_clip's own ViT and text transformer before their projection matrix; every other tower has
    the whole tower as trunk and the identity as head.

    Attributes:
        model: `open_clip.CLIP` or `open_clip.CustomTextCLIP`; tuning changes it in place.
        preprocess: PIL image to float tensor [3, image_size_px, image_size_px]: open_clip's validation transform.
        tokenizer: Texts to int64 token ids [n, context_length], padded with `pad_id`.
        image_size_px: Side of the square the image tower sees.
        context_length: Most tokens a text may have, special tokens included.
        embed_dim: Width of the common space.
        pad_id: The token that fills a text up.
        config: JSON values from which the architecture (not the weights) is rebuilt; see `training/models`.
        seed: Seed of whatever was drawn at random.
        hub: (architecture, tag) of weights from the hub, or empty.
        public: Groups of tensors (see `towers.GROUPS`) that lie unchanged in public files the config or `hub` names.
        tune: How `lora.apply_tuning` has prepared the model; empty before.
        peft: The `peft.PeftModel` around the model while it has adapters.
    """

    model: torch.nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[[list[str]], Tensor]
    image_size_px: int
    context_length: int
    embed_dim: int
    pad_id: int
    config: dict[str, Any]
    seed: int = 0
    hub: tuple[str, ...] = ()
    public: frozenset[str] = frozenset()
    tune: str = ""
    peft: PeftModel | None = None

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return int64 token ids [n, context_length]; longer texts are cut."""
        import torch

        if not texts:
            return torch.zeros((0, self.context_length), dtype=torch.long)
        return self.tokenizer(list(texts))

    def padded_lengths(self, tokens: Tensor) -> Tensor:
        """Return int64 [n]: to how many tokens each text must be padded, a multiple of 8 that it alone decides.

        Towers that read padding always ask for the whole context.
        """
        from training import towers

        return towers.padded_lengths(self.model, tokens, pad_id=self.pad_id, bucket=LENGTH_BUCKET_TOKENS)

    def trim(self, tokens: Tensor) -> Tensor:
        """Return the tokens without the columns that every text of the batch leaves to padding.

        Same features up to rounding, several times faster. Group texts by `padded_lengths` where bits matter.
        """
        return tokens[:, : int(self.padded_lengths(tokens).max())] if len(tokens) else tokens

    def image_trunk(self, pixels: Tensor) -> Tensor:
        """Return activations [n, width] of pixels [n, 3, size, size]; constant while the trunk is frozen."""
        from training import towers

        return towers.image_trunk(self.model, pixels)

    def image_head(self, activations: Tensor) -> Tensor:
        """Return features [n, embed_dim], not normalised, of activations [n, width]."""
        from training import towers

        return towers.image_head(self.model, activations)

    def text_trunk(self, tokens: Tensor) -> Tensor:
        """Return activations [n, width] of token ids [n, length], length at most context_length."""
        from training import towers

        return towers.text_trunk(self.model, tokens)

    def text_head(self, activations: Tensor) -> Tensor:
        """Return features [n, embed_dim], not normalised, of activations [n, width]."""
        from training import towers

        return towers.text_head(self.model, activations)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return unit-norm embeddings [n, embed_dim] of pixels [n, 3, size, size]."""
        import torch.nn.functional as F  # noqa: N812 - the name everyone knows

        return F.normalize(self.image_head(self.image_trunk(pixels)), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unit-norm embeddings [n, embed_dim] of token ids [n, length]."""
        import torch.nn.functional as F  # noqa: N812

        return F.normalize(self.text_head(self.text_trunk(tokens)), dim=-1)

    def image_trunk_frozen(self) -> bool:
        """Say whether no parameter of the image trunk is trained, so that its activations may be cached."""
        return self._frozen("image")

    def text_trunk_frozen(self) -> bool:
        """Say whether no parameter of the text trunk is trained."""
        return self._frozen("text")

    def _frozen(self, side: str) -> bool:
        from training import towers

        return not any(p.requires_grad for p in towers.trunk_parameters(self.model, side))

    def trunk_hash(self, side: str) -> str:
        """Return a hash (hex) of all that decides a trunk's activations: its weights, and how inputs are prepared.

        Models that share a trunk, such as a base and its LoRA runs on the other tower, share the hash.
        """
        from training import towers

        state = self.model.state_dict()
        held = {key: state[key] for key in state if towers.group_of(self.model, key) == f"{side}_trunk"}
        return blake3(weights.state_hash(held).encode() + weights.canonical(self.config)).hexdigest(length=16)


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model spec: light, picklable, comparable; nothing is loaded yet.

    Attributes:
        text: What the user typed.
        kind: Which of the table's rows it is.
        name: Architecture or config name (for people and for open_clip).
        path: File or folder, absolute; empty for `random` and `hub`.
        tag: The hub's name for the weights; empty otherwise.
        seed: Seed of whatever is drawn at random.
    """

    text: str
    kind: Kind
    name: str
    path: str = ""
    tag: str = ""
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Return the spec that a text names.

        Raises:
            InputError: no such config, architecture, file or folder; the nearest known name is suggested.
        """
        head, _, seed_text = text.rpartition("@")
        base, seed = (head, int(seed_text)) if head and seed_text.isdecimal() else (text, 0)
        # a known name wins over a folder of that name in the current folder: `./tiny` names the folder
        if base in weights.known_names():
            return cls(text, "random", base, seed=seed)
        path = Path(text).expanduser()
        if text and path.is_dir():
            return cls(text, _folder_kind(path), path.resolve().name, str(path.resolve()))
        if base.endswith(".json"):
            return cls(text, "config", Path(base).stem, _existing(base), seed=seed)
        name, colon, rest = text.partition(":")
        if colon and name in weights.known_names():
            if rest.endswith(CHECKPOINT_SUFFIXES) or "/" in rest:
                return cls(text, "checkpoint", name, _existing(rest))
            if name in weights.shipped_names():
                raise InputError(
                    f"model '{text}': '{name}' is a config of this project; the hub has no weights '{rest}' for it",
                    allowed=f"'{name}', '{name}@SEED' or '{name}:FILE' with {', '.join(CHECKPOINT_SUFFIXES)}",
                )
            return cls(text, "hub", name, tag=rest)
        raise _unknown(text, name if colon else base)

    def content_hash(self) -> str:
        """Return BLAKE3-128 (hex) of what the model is: config and weights, or config and seed; never where it lies.

        Cheap: files are hashed, nothing is built. Only hub weights are loaded for it, once per process.

        Raises:
            InputError: a file is missing, or the hub cannot be reached.
        """
        return _content_hash(self)

    def describe(self) -> str:
        """Return a name for people and manifests: no folder of this machine."""
        if self.kind == "hub":
            return f"{self.name}:{self.tag}"
        if self.kind in ("random", "config"):
            config = weights.read_config(self)
            drawn = "random projections" if weights.is_pretrained(config) else "random weights"
            return f"{self.name} ({drawn}, seed {self.seed})"
        if self.kind == "checkpoint":
            return f"{self.name}:{Path(self.path).name}"
        if self.kind == "run":
            about = weights.read_json(Path(self.path) / weights.RUN_FILE)
            return f"{about['base']} + {about['tune']}"
        return f"open_clip folder {self.content_hash()[:12]}"

    def load(self) -> Towers:
        """Build the model: eval mode, CPU, float32, every parameter trainable until `lora.apply_tuning` decides.

        Warns:
            UserWarning: some or all weights are random.

        Raises:
            InputError: weights are missing, damaged, of another architecture, or cannot be fetched.
        """
        from training import assemble

        return assemble.load(self)


def _folder_kind(path: Path) -> Kind:
    if (path / weights.RUN_FILE).is_file():
        return "run"
    if (path / OPEN_CLIP_FILE).is_file():
        return "open_clip_dir"
    raise InputError(
        f"model folder {path}: neither '{weights.RUN_FILE}' nor '{OPEN_CLIP_FILE}' is in it",
        allowed="a run folder, or an open_clip folder",
        fix="check that the training run has ended",
    )


def _existing(text: str) -> str:
    path = Path(text).expanduser()
    if not path.is_file():
        raise InputError(f"model file {text}: no such file", fix="check the path")
    return str(path.resolve())


def _unknown(text: str, name: str) -> InputError:
    allowed = f"{', '.join(weights.shipped_names())}, an open_clip name such as ViT-B-32[:PRETRAINED], or a path"
    fix = nearest(name, weights.known_names()) or "see the table in training/README.md"
    return InputError(f"model '{text}': no config, architecture, file or folder of that name", allowed=allowed, fix=fix)


def _content_hash(spec: ModelSpec) -> str:
    if spec.kind == "run":
        from training import runs

        return runs.run_hash(Path(spec.path))
    config = weights.read_config(spec)
    if spec.kind == "hub" or weights.uses_hub(config):
        return _hub_hash(spec)
    if spec.kind in ("open_clip_dir", "checkpoint"):
        path = weights.find_checkpoint(Path(spec.path)) if spec.kind == "open_clip_dir" else Path(spec.path)
        identity: dict[str, Any] = {"config": config, "file": weights.file_hash(path)}
    else:
        identity = weights.random_identity(config, spec.seed)
    return blake3(weights.canonical(identity)).hexdigest(length=16)


@functools.lru_cache(maxsize=8)
def _hub_hash(spec: ModelSpec) -> str:
    identity = {"config": weights.read_config(spec), "state": weights.state_hash(spec.load().model)}
    return blake3(weights.canonical(identity)).hexdigest(length=16)
