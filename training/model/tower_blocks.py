"""Towers as a row of blocks: what `top:N` trains, and where a frozen prefix ends.

A tower runs its entry (patch or token embedding, stem), its blocks one after the other, and its exit (last norm,
pooling); what comes out is the trunk's activations, which the head projects. A *cut* is the number of blocks before it:

```
inputs → entry → block 0 … block cut-1 │ block cut … block n-1 → exit → head
                        prefix         │             rest
```

`leave(run(enter(x), 0, n))` is what the trunk computes of x, whatever the tower.

Activations at a cut: of images what the next block reads, [n, tokens, width] or [n, channels, height, width]; of texts
[n, length, width + 1], whose last channel is 1 at a text's own tokens and 0 at padding, so that no mask travels apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from training.model.two_tower import ImageTower, TextTower


class TowerBlocks(ABC):
    """The blocks of one tower.

    Args:
        module: `ClipModel.module`.
        names: Each block's name in it, in the order in which they run.
        exits: Beginnings of the names of what stands between the last block and the head.
    """

    uncut_because = ""
    """Why the rest cannot be computed from the activations at a cut, for people; empty if it can."""

    def __init__(self, module: nn.Module, names: Sequence[str], exits: Sequence[str]) -> None:
        self.names, self._exits = tuple(names), tuple(exits)
        self._blocks: list[Any] = [module.get_submodule(name) for name in names]

    @property
    def can_cut(self) -> bool:
        """Whether the rest can be computed from the activations at a cut."""
        return not self.uncut_because

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.names)

    def position(self, name: str) -> int:
        """Return the number of the block that a parameter or module of the trunk is in; -1 before the first, the number of blocks after the last."""
        for number, block in enumerate(self.names):
            if name.startswith(f"{block}."):
                return number
        return len(self) if name.startswith(self._exits) else -1

    @abstractmethod
    def enter(self, inputs: Tensor) -> Tensor:
        """Return what the first block reads of pixels [n, 3, size, size] or token ids [n, length]."""

    def run(self, activations: Tensor, first: int, last: int) -> Tensor:
        """Return what block `last` reads (or the exit), of what block `first` reads."""
        for block in self._blocks[first:last]:
            activations = block(activations)
        return activations

    @abstractmethod
    def leave(self, activations: Tensor) -> Tensor:
        """Return the trunk's activations of what the last block computes."""


class _OpenClipVit(TowerBlocks):
    """open_clip's own vision transformer."""

    def __init__(self, module: nn.Module, visual: VisionTransformer) -> None:
        names = [f"visual.transformer.resblocks.{number}" for number in range(len(visual.transformer.resblocks))]
        super().__init__(module, names, ("visual.ln_post", "visual.attn_pool"))
        self._visual: Any = visual

    def enter(self, inputs: Tensor) -> Tensor:
        return cast("Tensor", self._visual._embeds(inputs))  # noqa: SLF001 - open_clip offers no public way

    def leave(self, activations: Tensor) -> Tensor:
        return cast("Tensor", self._visual._pool(activations)[0])  # noqa: SLF001 - as above


class _ModifiedResNet(TowerBlocks):
    """open_clip's own ResNet."""

    def __init__(self, module: nn.Module, visual: ModifiedResNet) -> None:
        super().__init__(module, [f"visual.layer{number}" for number in range(1, 5)], ("visual.attnpool",))
        self._visual: Any = visual

    def enter(self, inputs: Tensor) -> Tensor:
        return cast("Tensor", self._visual.stem(inputs))

    def leave(self, activations: Tensor) -> Tensor:
        return cast("Tensor", self._visual.attnpool(activations))


_TIMM_HEADS = ("head", "fc", "classifier", "global_pool", "head_drop", "fc_norm", "attn_pool")


class _TimmVit(TowerBlocks):
    """timm's vision transformer."""

    def __init__(self, module: nn.Module, visual: Any) -> None:
        names = [f"visual.trunk.blocks.{number}" for number in range(len(visual.trunk.blocks))]
        super().__init__(module, names, [f"visual.trunk.{name}" for name in ("norm.", *_TIMM_HEADS)])
        self._visual, self._trunk = visual, visual.trunk

    def enter(self, inputs: Tensor) -> Tensor:
        trunk = self._trunk
        # timm offers no public way to stop before the first block
        embedded = trunk._pos_embed(trunk.patch_embed(inputs))  # noqa: SLF001
        return cast("Tensor", trunk.norm_pre(trunk.patch_drop(embedded)))

    def leave(self, activations: Tensor) -> Tensor:
        return _timm_exit(self._visual, self._trunk.norm(activations))


class _TimmChain(TowerBlocks):
    """A convolutional tower of timm: modules that run one after the other."""

    def __init__(
        self, module: nn.Module, visual: Any, entry: Sequence[str], blocks: Sequence[str], last: Sequence[str]
    ) -> None:
        exits = [f"visual.trunk.{name}" for name in (*last, *_TIMM_HEADS)]
        if len(blocks) == 1:
            blocks = [f"{blocks[0]}.{number}" for number in range(len(visual.trunk.get_submodule(blocks[0])))]
        super().__init__(module, [f"visual.trunk.{name}" for name in blocks], exits)
        self._visual = visual
        self._entry = [visual.trunk.get_submodule(name) for name in entry]
        self._last = [visual.trunk.get_submodule(name) for name in last]

    def enter(self, inputs: Tensor) -> Tensor:
        return _chain(self._entry, inputs)

    def leave(self, activations: Tensor) -> Tensor:
        return _timm_exit(self._visual, _chain(self._last, activations))


def _chain(modules: Sequence[Any], activations: Tensor) -> Tensor:
    for module in modules:
        activations = module(activations)
    return activations


def _timm_exit(visual: Any, features: Tensor) -> Tensor:
    """Return the trunk's activations of a timm model's features: pooled, unless the tower pools them in its head."""
    if getattr(visual, "pool", None) is not None:
        return features
    return cast("Tensor", visual.trunk.forward_head(features))


def image_blocks(module: nn.Module) -> TowerBlocks | None:
    """Return the blocks of a model's image tower; None for an architecture whose blocks are not known.

    Convolutional towers have their stages as blocks.
    """
    visual = cast("Any", module).visual
    if isinstance(visual, VisionTransformer):
        return _OpenClipVit(module, visual)
    if isinstance(visual, ModifiedResNet):
        return _ModifiedResNet(module, visual)
    return _timm_blocks(module, visual) if isinstance(visual, (ImageTower, TimmModel)) else None


def _timm_blocks(module: nn.Module, visual: Any) -> TowerBlocks | None:
    """Return the blocks of a tower of timm, which is imported only where there is one."""
    from timm.models.convnext import ConvNeXt
    from timm.models.efficientnet import EfficientNet
    from timm.models.resnet import ResNet
    from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

    if isinstance(visual.trunk, TimmVisionTransformer):
        return _TimmVit(module, visual)
    # convolutional towers: entry, blocks (or the list of them), and what follows before pooling
    chains: tuple[tuple[type[nn.Module], tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
        (EfficientNet, ("conv_stem", "bn1"), ("blocks",), ("conv_head", "bn2")),
        (ResNet, ("conv1", "bn1", "act1", "maxpool"), ("layer1", "layer2", "layer3", "layer4"), ()),
        (ConvNeXt, ("stem",), ("stages",), ("norm_pre",)),
    )
    for kind, entry, names, last in chains:
        if isinstance(visual.trunk, kind):
            return _TimmChain(module, visual, entry, names, last)
    return None


EmbedTokens = Callable[[Tensor], tuple[Tensor, Tensor | None]]
FindEnd = Callable[[Tensor], Tensor | None]


class _CausalText(TowerBlocks):
    """open_clip's own text transformer, which pools at a text's end mark and reads nothing behind it."""

    def __init__(self, module: nn.Module, text: Any, embed: EmbedTokens, end: FindEnd) -> None:
        prefix = "" if isinstance(text, CLIP) else "text."
        names = [f"{prefix}transformer.resblocks.{number}" for number in range(len(text.transformer.resblocks))]
        super().__init__(module, names, (f"{prefix}ln_final",))
        self._text, self._embed, self._end = text, embed, end
        ends = end(torch.zeros((1, 1), dtype=torch.long)) is not None
        if not ends or getattr(text, "use_pad_mask", False):
            self.uncut_because = "this text transformer is not causal or is not pooled at a text's end mark"

    def enter(self, inputs: Tensor) -> Tensor:
        hidden, _ = self._embed(inputs)
        end = cast("Tensor", self._end(inputs))
        return _with_mask(hidden, torch.arange(inputs.shape[1], device=inputs.device) <= end[:, None])

    def run(self, activations: Tensor, first: int, last: int) -> Tensor:
        hidden, used = activations[..., :-1], activations[..., -1]
        length = hidden.shape[1]
        mask = self._text.attn_mask[:length, :length]
        for block in self._blocks[first:last]:
            hidden = block(hidden, attn_mask=mask)
        return _with_mask(hidden, used)

    def leave(self, activations: Tensor) -> Tensor:
        last = activations[..., -1].sum(dim=1).long() - 1
        ends = activations[torch.arange(len(activations), device=activations.device), last, :-1]
        return cast("Tensor", self._text.ln_final(ends))


class _HuggingFaceText(TowerBlocks):
    """BERT, DistilBERT and their like."""

    def __init__(self, module: nn.Module, text: Any, layers: str) -> None:
        count = len(text.get_submodule(layers))
        super().__init__(module, [f"text.{layers}.{number}" for number in range(count)], ("text.transformer.pooler",))
        self._text = text
        if not isinstance(text, TextTower):
            self.uncut_because = "this text tower is open_clip's adapter of a Hugging Face encoder"

    def enter(self, inputs: Tensor) -> Tensor:
        hidden = self._text.transformer.embeddings(input_ids=inputs)
        return _with_mask(hidden, inputs != self._text.pad_id)

    def run(self, activations: Tensor, first: int, last: int) -> Tensor:
        hidden, used = activations[..., :-1], activations[..., -1]
        # the library leaves out a mask that hides nothing, and then a text's bits would depend on its neighbours
        mask = ((1 - used) * torch.finfo(hidden.dtype).min)[:, None, None, :]
        for block in self._blocks[first:last]:
            hidden = block(hidden, mask)
        return _with_mask(hidden, used)

    def leave(self, activations: Tensor) -> Tensor:
        return cast("Tensor", self._text.pool(activations[..., :-1], activations[..., -1] > 0))


def text_blocks(module: nn.Module, embed: EmbedTokens, end: FindEnd) -> TowerBlocks | None:
    """Return the blocks of a model's text tower; None for an architecture whose blocks are not known.

    Args:
        module: `ClipModel.module`.
        embed: `ClipModel.native_text_embeddings`.
        end: `ClipModel.causal_end`.
    """
    text = module if isinstance(module, CLIP) else cast("Any", module).text
    if isinstance(text, (CLIP, TextTransformer)):
        return _CausalText(module, text, embed, end)
    if isinstance(text, (TextTower, HFTextEncoder)):
        for stack in ("encoder", "transformer"):
            if hasattr(getattr(text.transformer, stack, None), "layer"):
                return _HuggingFaceText(module, text, f"transformer.{stack}.layer")
    return None


def _with_mask(hidden: Tensor, used: Tensor) -> Tensor:
    """Return activations [n, length, width] with one more channel that says which positions are used."""
    return torch.cat([hidden, used[..., None].to(hidden.dtype)], dim=-1)
