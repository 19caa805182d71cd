"""An image tower and a text tower with a common embedding space, ready for use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from blake3 import blake3
from torch import Tensor

from data_manifests.seeds import canonical
from training.model import checkpoint_files, two_tower

if TYPE_CHECKING:
    from peft import PeftModel
    from PIL import Image

LENGTH_BUCKET_TOKENS = 8
"""Texts are padded to a multiple of this many tokens: the bucket depends on the text alone."""


@dataclass
class ClipModel:
    """An image tower and a text tower with a common embedding space.

    `encode_image(x) == normalise(image_head(image_trunk(x)))`, and the same for text, always: the two
    halves are how the trainer caches what a frozen trunk computes. Where the cut lies:
    two-tower assemblies and timm or Hugging Face towers cut before their projection head (`head`/`proj`);
    open_clip's own ViT and text transformer before their projection matrix; every other tower has
    the whole tower as trunk and the identity as head.

    Attributes:
        module: `open_clip.CLIP` or `open_clip.CustomTextCLIP`; tuning changes it in place.
        preprocess: PIL image to float tensor [3, image_size_px, image_size_px]: open_clip's validation transform.
        tokenizer: Texts to int64 token ids [n, context_length], padded with `pad_id`.
        image_size_px: Side of the square the image tower sees.
        context_length: Most tokens a text may have, special tokens included.
        embed_dim: Width of the common space.
        pad_id: The token that fills a text up.
        config: JSON values from which the architecture (not the weights) is rebuilt; see `training/model/model_configs`.
        seed: Seed of whatever was drawn at random.
        hub: (architecture, tag) of weights from the hub, or empty.
        public: Groups of tensors (see `two_tower.GROUPS`) that lie unchanged in public files the config or `hub` names.
        tune: How `lora.apply_tuning` has prepared the model; empty before.
        peft: The `peft.PeftModel` around the model while it has adapters.
    """

    module: torch.nn.Module
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
        if not texts:
            return torch.zeros((0, self.context_length), dtype=torch.long)
        return self.tokenizer(list(texts))

    def padded_lengths(self, tokens: Tensor) -> Tensor:
        """Return int64 [n]: to how many tokens each text must be padded, a multiple of 8 that it alone decides.

        ClipModel that read padding always ask for the whole context.
        """
        return two_tower.padded_lengths(self.module, tokens, pad_id=self.pad_id, bucket=LENGTH_BUCKET_TOKENS)

    def trim(self, tokens: Tensor) -> Tensor:
        """Return the tokens without the columns that every text of the batch leaves to padding.

        Same features up to rounding, several times faster. Group texts by `padded_lengths` where bits matter.
        """
        return tokens[:, : int(self.padded_lengths(tokens).max())] if len(tokens) else tokens

    def image_trunk(self, pixels: Tensor) -> Tensor:
        """Return activations [n, width] of pixels [n, 3, size, size]; constant while the trunk is frozen."""
        return two_tower.image_trunk(self.module, pixels)

    def image_head(self, activations: Tensor) -> Tensor:
        """Return features [n, embed_dim], not normalised, of activations [n, width]."""
        return two_tower.image_head(self.module, activations)

    def text_trunk(self, tokens: Tensor) -> Tensor:
        """Return activations [n, width] of token ids [n, length], length at most context_length."""
        return two_tower.text_trunk(self.module, tokens)

    def text_head(self, activations: Tensor) -> Tensor:
        """Return features [n, embed_dim], not normalised, of activations [n, width]."""
        return two_tower.text_head(self.module, activations)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return unit-norm embeddings [n, embed_dim] of pixels [n, 3, size, size]."""
        return F.normalize(self.image_head(self.image_trunk(pixels)), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unit-norm embeddings [n, embed_dim] of token ids [n, length]."""
        return F.normalize(self.text_head(self.text_trunk(tokens)), dim=-1)

    def image_trunk_frozen(self) -> bool:
        """Say whether no parameter of the image trunk is trained, so that its activations may be cached."""
        return self._frozen("image")

    def text_trunk_frozen(self) -> bool:
        """Say whether no parameter of the text trunk is trained."""
        return self._frozen("text")

    def _frozen(self, side: str) -> bool:
        return not any(p.requires_grad for p in two_tower.trunk_parameters(self.module, side))

    def trunk_hash(self, side: str) -> str:
        """Return a hash (hex) of all that decides a trunk's activations: its weights, and how inputs are prepared.

        Models that share a trunk, such as a base and its LoRA runs on the other tower, share the hash.
        """
        state = self.module.state_dict()
        held = {key: state[key] for key in state if two_tower.group_of(self.module, key) == f"{side}_trunk"}
        return blake3(checkpoint_files.state_hash(held).encode() + canonical(self.config)).hexdigest(length=16)
