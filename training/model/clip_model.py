"""An image tower and a text tower with a common embedding space, and how a training step encodes with them.

Callers hand in pixels and token ids and get unit-norm features. What makes that fast or small stays in here:

- *Frozen prefixes.* A tower is cut where training begins, so that what lies before the cut is computed once and cached.
- *Each distinct text once.* Equal rows of tokens go through the trunk together; gradients add up at the gather.
- *Lengths.* Texts are grouped so that short ones are not padded to the longest of the batch.
- *Shared prefixes.* In a causal tower a position depends only on what stands before it, so the texts of a batch become
  tries: "a red cube" and "a red ball" cost four positions, not six. Each position attends to its own prefix only.
- *Chunks.* With gradient caching a batch that does not fit into memory goes through in parts, with equal gradients.

All are exact up to the order of sums. Where dropout is active in the trunk, equal texts must not share its draws, so
there only the lengths are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from blake3 import blake3
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer, text_global_pool
from torch import Tensor, nn

from data_manifests.errors import InputError
from data_manifests.seeds import canonical
from training.model import checkpoint_files
from training.model.tower_blocks import TowerBlocks, image_blocks, text_blocks
from training.model.two_tower import ImageTower, TextTower

if TYPE_CHECKING:
    from peft import PeftModel
    from PIL import Image

GROUPS = ("image_trunk", "image_head", "text_trunk", "text_head", "logit_scale")
"""Groups of a model's parameters; see `ClipModel` for where trunk and head are cut."""

LENGTH_BUCKET_TOKENS = 8
"""Texts are padded to a multiple of this many tokens: the bucket depends on the text alone."""

GROUP_TOKENS = 64
"""What one more pass costs besides its tokens, in tokens; only the speed depends on it."""

TRIE_POSITIONS = 48
"""Positions in a row of tries, unless one text alone is longer."""


@dataclass
class ClipModel:
    """An image tower and a text tower with a common embedding space.

    `encode_image(x) == normalise(image_head(image_trunk(x)))`, and the same for text, always. Where the head begins:
    in two-tower assemblies with the attention pool or the projection, in timm or Hugging Face towers with their
    projection (`head`/`proj`), in open_clip's own ViT and text transformer with their projection matrix; every other
    tower has the whole tower as trunk and the identity as head.

    `image_trunk(x) == image_trunk_from(image_prefix(x))` up to rounding: the prefix is the part before the first trained
    block (see `tower_blocks`), or the whole trunk. It is how the trainer caches what is frozen.

    Attributes:
        module: `open_clip.CLIP` or `open_clip.CustomTextCLIP`; tuning changes it in place.
        preprocess: PIL image to float tensor [3, image_size_px, image_size_px]: open_clip's validation transform.
        tokenizer: Texts, and a context length if it is another one, to int64 token ids [n, context_length], padded with `pad_id`.
        image_size_px: Side of the square the image tower sees.
        context_length: Most tokens a text may have, special tokens included.
        embed_dim: Width of the common space.
        pad_id: The token that fills a text up.
        config: JSON values from which the architecture (not the weights) is rebuilt; see `training/model/model_configs`.
        seed: Seed of whatever was drawn at random.
        hub: (architecture, tag) of weights from the hub, or empty.
        public: Those of `GROUPS` that lie unchanged in public files the config or `hub` names.
        tune: How `lora.apply_tuning` has prepared the model; empty before.
        cuts: Number of blocks in the prefix of the `image` and the `text` tower; a tower that is not there has its whole trunk as prefix.
            -1: not even the entry, so that the prefix are the inputs themselves.
        peft: The `peft.PeftModel` around the model while it has adapters.
    """

    module: torch.nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[..., Tensor]
    image_size_px: int
    context_length: int
    embed_dim: int
    pad_id: int
    config: dict[str, Any]
    seed: int = 0
    hub: tuple[str, ...] = ()
    public: frozenset[str] = frozenset()
    tune: str = ""
    cuts: dict[str, int] = field(default_factory=dict)
    peft: PeftModel | None = None
    _kept_in_eval: list[nn.Module] = field(default_factory=list, init=False, repr=False)

    @property
    def text_tower(self) -> Any:
        """The module that holds the text tower's parts: an open_clip.CLIP keeps them on itself."""
        return self.module if isinstance(self.module, CLIP) else cast("Any", self.module).text

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.module.parameters()).device

    @property
    def logit_scale(self) -> Tensor:
        """The factor from similarities to logits: exp of the learned parameter, a scalar."""
        return cast("Tensor", self.module.logit_scale).exp()

    def train(self) -> None:
        """Put the trained parts in training mode and leave the rest in eval mode.

        A module trains when a parameter in it does; one without parameters (dropout) follows the module it is in. So
        frozen batch normalisation keeps its statistics, and a frozen prefix computes what its cached activations say.
        With `top:N` batch normalisation keeps its statistics in the trained blocks, too: see `lora`.
        """
        _set_mode(self.module, parent=True)
        for module in self._kept_in_eval:
            module.training = False

    def eval(self) -> None:
        """Put everything in eval mode."""
        self.module.eval()

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return int64 token ids [n, context_length]; longer texts are cut."""
        if not texts:
            return torch.zeros((0, self.context_length), dtype=torch.long)
        return self.tokenizer(list(texts))

    def is_cut(self, texts: Sequence[str], tokens: Tensor) -> Tensor:
        """Return which texts have more tokens than the context, so that the model does not read their ends, bool [n].

        Args:
            texts: The texts.
            tokens: What `tokenize` makes of them.
        """
        # two equal tokens at the end are padding; only other texts are worth tokenising with room for one token more
        full = (tokens[:, -1] != self.pad_id) | (tokens[:, -1] != tokens[:, -2])
        rows = torch.nonzero(full)[:, 0]
        if len(rows):
            longer = self.tokenizer([texts[row] for row in rows.tolist()], context_length=self.context_length + 1)
            full[rows] = (longer[:, :-1] != tokens[rows]).any(dim=1) | (longer[:, -1] != self.pad_id)
        return full

    def padded_lengths(self, tokens: Tensor, bucket: int = LENGTH_BUCKET_TOKENS) -> Tensor:
        """Return int64 [n]: to how many tokens each text must be padded, a multiple of `bucket` that it alone decides.

        A tower that reads padding always needs the whole context.
        """
        context = tokens.shape[1]
        if isinstance(self.text_tower, (TextTower, HFTextEncoder)):
            used = (tokens != self.pad_id).sum(dim=1)
        elif (end := self.causal_end(tokens)) is not None:
            used = end + 1
        else:
            used = torch.full_like(tokens[:, 0], context)
        return ((used + bucket - 1) // bucket * bucket).clamp(min=bucket, max=context)

    def trim(self, tokens: Tensor) -> Tensor:
        """Return the tokens without the columns that every text of the batch leaves to padding.

        Same features up to rounding, several times faster. Group texts by `padded_lengths` where bits matter.
        """
        return tokens[:, : int(self.padded_lengths(tokens).max())] if len(tokens) else tokens

    def blocks(self, side: str) -> TowerBlocks:
        """Return the blocks of the `image` or `text` tower.

        Raises:
            InputError: they are not known.
        """
        found = self._known_blocks(side)
        if found is None:
            tower = cast("Any", self.module).visual if side == "image" else self.text_tower
            kind = type(getattr(tower, "trunk", tower) if side == "image" else getattr(tower, "transformer", tower))
            raise InputError(
                f"the blocks of this model's {side} tower ({kind.__name__}) are not known",
                allowed="ViT, ResNet, EfficientNet and ConvNeXt; CLIP's text transformer, BERT and DistilBERT",
                fix="--tune lora, full, projection or prompt",
            )
        return found

    def image_trunk(self, pixels: Tensor) -> Tensor:
        """Return activations [n, width] of pixels [n, 3, size, size]; constant while the trunk is frozen.

        Where an attention pool follows: the feature map or tokens that it reads.
        """
        visual, pixels = cast("Any", self.module).visual, self._channels_last(pixels)
        if isinstance(visual, ImageTower):
            return visual.activations(pixels)
        if isinstance(visual, TimmModel):
            return cast("Tensor", visual.trunk(pixels))
        if isinstance(visual, VisionTransformer):
            # open_clip offers no public way to stop before the projection
            pooled, _ = visual._pool(visual.transformer(visual._embeds(pixels)))  # noqa: SLF001
            return cast("Tensor", pooled)
        return cast("Tensor", visual(pixels))

    def image_head(self, activations: Tensor) -> Tensor:
        """Return features [n, embed_dim], not normalised, of activations [n, width]."""
        visual = cast("Any", self.module).visual
        if isinstance(visual, ImageTower):
            return cast("Tensor", visual.head(visual.pooled(activations)))
        if isinstance(visual, TimmModel):
            return cast("Tensor", visual.head(activations))
        return _project(activations, visual.proj) if isinstance(visual, VisionTransformer) else activations

    def image_prefix(self, pixels: Tensor) -> Tensor:
        """Return what the image tower's prefix computes of pixels [n, 3, size, size]."""
        if "image" not in self.cuts:
            return self.image_trunk(pixels)
        if self.cuts["image"] < 0:
            return pixels
        blocks = self.blocks("image")
        return blocks.run(blocks.enter(self._channels_last(pixels)), 0, self.cuts["image"])

    def image_trunk_from(self, activations: Tensor) -> Tensor:
        """Return what `image_trunk` returns, of what `image_prefix` returned."""
        if "image" not in self.cuts:
            return activations
        if self.cuts["image"] < 0:
            return self.image_trunk(activations)
        blocks = self.blocks("image")
        last = blocks.run(self._channels_last(activations), self.cuts["image"], len(blocks))
        return blocks.leave(last)

    def _channels_last(self, images: Tensor) -> Tensor:
        """Return pixels or a feature map with channels innermost where that is faster.

        Not for one image alone, whose stored activations and embeddings keep their bits.
        """
        if len(images) > 1 and images.ndim == 4 and _has_convolutions(cast("Any", self.module).visual):
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def text_trunk(self, tokens: Tensor) -> Tensor:
        """Return activations [n, width] of token ids [n, length], length at most context_length."""
        text = self.text_tower
        if isinstance(text, TextTower):
            return text.trunk(tokens)
        if isinstance(text, HFTextEncoder):
            mask = (tokens != text.config.pad_token_id).long()
            return cast("Tensor", text.pooler(text.transformer(input_ids=tokens, attention_mask=mask), mask))
        if (hidden := self.native_text_hidden(tokens)) is not None:
            pool_type = text.text_pool_type if isinstance(text, CLIP) else text.pool_type
            return cast("Tensor", text_global_pool(hidden, tokens, pool_type, eos_token_id=self._native_eos_id()))
        return cast("Tensor", text(tokens))

    def text_head(self, activations: Tensor) -> Tensor:
        """Return features [n, embed_dim], not normalised, of activations [n, width]."""
        text = self.text_tower
        if isinstance(text, TextTower):
            return cast("Tensor", text.head(activations))
        if isinstance(text, HFTextEncoder):
            return cast("Tensor", text.proj(activations))
        return _project(activations, text.text_projection) if _is_native(text) else activations

    def text_prefix(self, tokens: Tensor) -> Tensor:
        """Return what the text tower's prefix computes of token ids [n, length]; see `tower_blocks` for its shape."""
        if "text" not in self.cuts:
            return self.text_trunk(tokens)
        blocks = self.blocks("text")
        return blocks.run(blocks.enter(tokens), 0, self.cuts["text"])

    def text_trunk_from(self, activations: Tensor) -> Tensor:
        """Return what `text_trunk` returns, of what `text_prefix` returned; one pass for each group of lengths."""
        if "text" not in self.cuts:
            return activations
        rows, sizes = _by_length(activations[..., -1].sum(dim=1).long())
        parts = [self.text_rest(activations[row, :size]) for row, size in zip(rows, sizes, strict=True)]
        return torch.cat(parts)[torch.cat(rows).argsort()]

    def text_rest(self, activations: Tensor) -> Tensor:
        """Return the same in one pass, so that the bits do not depend on the lengths of the others."""
        if "text" not in self.cuts:
            return activations
        blocks = self.blocks("text")
        return blocks.leave(blocks.run(activations, self.cuts["text"], len(blocks)))

    def native_text_embeddings(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what the blocks of open_clip's own text transformer read [n, length, width], and its mask."""
        text, length = self.text_tower, tokens.shape[1]
        if isinstance(text, CLIP):
            hidden, mask = text.token_embedding(tokens) + text.positional_embedding[:length], text.attn_mask
        else:
            hidden, mask = text._embeds(tokens)  # noqa: SLF001 - open_clip offers no public way
        return hidden, None if mask is None else mask[:length, :length]

    def native_text_hidden(self, tokens: Tensor) -> Tensor | None:
        """Return what open_clip's own text transformer computes per position [n, length, width]; None for others."""
        text = self.text_tower
        if not _is_native(text):
            return None
        hidden, mask = self.native_text_embeddings(tokens)
        return cast("Tensor", text.ln_final(text.transformer(hidden, attn_mask=mask)))

    def _native_eos_id(self) -> int | None:
        """Return the token that ends a text in open_clip's own text transformer, where its pooling needs one."""
        text = self.text_tower
        return cast("int | None", text.text_eos_id if isinstance(text, CLIP) else text.eos_id)

    def causal_end(self, tokens: Tensor) -> Tensor | None:
        """Return the position that a causal tower pools at [n], after which it reads nothing; None for other towers."""
        text = self.text_tower
        native = isinstance(text, (CLIP, TextTransformer))
        if not native or text.attn_mask is None or getattr(text, "cls_emb", None) is not None:
            return None
        kind = text.text_pool_type if isinstance(text, CLIP) else text.pool_type
        if kind == "argmax":
            return tokens.argmax(dim=1)
        ends = torch.eq(tokens, self._native_eos_id() or 0)
        return ends.int().argmax(dim=1) if kind == "eos" else None

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return unit-norm embeddings [n, embed_dim] of pixels [n, 3, size, size]."""
        return F.normalize(self.image_head(self.image_trunk(pixels)), dim=-1)

    def encode_text(self, tokens: Tensor, *, deduplicate: bool = False) -> Tensor:
        """Return unit-norm embeddings [n, embed_dim] of token ids [n, length].

        Args:
            tokens: The texts.
            deduplicate: Skip repeated work, see the module's docstring: equal up to the order of sums, several times
                faster. Off where the bits of a text's embedding must not depend on the other texts.
        """
        activations = self._distinct_text_activations(tokens) if deduplicate else self.text_trunk(tokens)
        return F.normalize(self.text_head(activations), dim=-1)

    def _known_blocks(self, side: str) -> TowerBlocks | None:
        if side == "image":
            return image_blocks(self.module)
        return text_blocks(self.module, self.native_text_embeddings, self.causal_end)

    def cut_at_first_trained(self, *, keep_statistics: bool) -> None:
        """Let each tower's prefix end where training begins: at its first trained block, or after a frozen trunk.

        Args:
            keep_statistics: Trained batch normalisation keeps its statistics.
        """
        self.cuts = {}
        modules = dict(self.module.named_modules())
        norms = nn.modules.batchnorm._BatchNorm if keep_statistics else ()  # noqa: SLF001 - all its kinds
        kept = [name for name, module in modules.items() if isinstance(module, norms)]
        for side in ("image", "text"):
            found = self._known_blocks(side)
            trained = [] if found is None else [found.position(name) for name in self._trained(side)]
            if found is None or not found.can_cut or min(trained, default=0) < 1:
                continue
            cut = self.cuts[side] = min(trained)
            # what has no parameters, such as dropout of patches, would follow the tower around it, which is trained in part
            bare = [name for name, module in modules.items() if not any(True for _ in module.parameters())]
            kept += [name for name in bare if self._in_trunk(side, name) and found.position(name) < cut]
        self._kept_in_eval = [modules[name] for name in kept]

    def cut_at_first_changed(self, names: Collection[str]) -> None:
        """Let each tower's prefix end before the first of some tensors, for models that differ in these alone.

        Args:
            names: Their names in the module.
        """
        self.cuts = {}
        for side, least in (("image", -1), ("text", 1)):
            inside = [name for name in names if self._in_trunk(side, name)]
            found = self._known_blocks(side)
            known = found is not None and found.can_cut
            # what a text transformer reads of its tokens before its first block costs nothing
            cut = min((found.position(name) if found is not None and known else -1 for name in inside), default=-2)
            if cut >= least:
                self.cuts[side] = cut

    def why_uncut(self, side: str) -> str:
        """Return why a tower with frozen first blocks has no prefix that could be cached, for people; else an empty text."""
        found, trained = self._known_blocks(side), self._trained(side)
        if found is None or not trained or min(map(found.position, trained)) < 1:
            return ""
        return found.uncut_because

    def prefix_frozen(self, side: str) -> bool:
        """Return whether the `image` or `text` tower's prefix is not trained, so that its activations may be cached."""
        return side in self.cuts or not self._trained(side)

    def _trained(self, side: str) -> list[str]:
        """Return the names of the trained parameters of a trunk."""
        return [
            name
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad and self._in_trunk(side, name)
        ]

    def _in_trunk(self, side: str, name: str) -> bool:
        """Return whether a parameter, buffer or module belongs to a tower's trunk."""
        return group_of(self.module, name) == f"{side}_trunk"

    def tower_hash(self, side: str) -> str:
        """Return a hash (hex) of all that decides a tower's features: its weights, and how inputs are prepared.

        Models that share a tower, such as a base and its LoRA runs on the other one, share the hash.
        """
        state = self.module.state_dict()
        groups = (f"{side}_trunk", f"{side}_head")
        return self._hash_of({key: state[key] for key in state if group_of(self.module, key) in groups}, None)

    def prefix_hash(self, side: str) -> str:
        """Return the same for the activations of a prefix."""
        state, cut = self.module.state_dict(), self.cuts.get(side)
        part = {key: state[key] for key in state if self._in_trunk(side, key)}
        if cut is not None:
            # the inputs themselves depend on no weight, and are all that an unknown tower can be cut at
            blocks = self.blocks(side) if cut >= 0 else None
            part = {key: part[key] for key in part if blocks is not None and blocks.position(key) < cut}
        return self._hash_of(part, cut)

    def _hash_of(self, part: dict[str, Tensor], cut: int | None) -> str:
        about = canonical(self.config) + (b"" if cut is None else canonical(["cut", cut]))
        return blake3(checkpoint_files.state_hash(part).encode() + about).hexdigest(length=16)

    def has_dropout(self, *groups: str) -> bool:
        """Return whether dropout is active in some of `GROUPS`, so that equal texts give different features."""
        for name, module in self.module.named_modules():
            rate = getattr(module, "p", 0.0) if isinstance(module, nn.Dropout) else getattr(module, "dropout", 0.0)
            active = module.training and isinstance(rate, float) and rate > 0
            if active and group_of(self.module, name) in groups:
                return True
        return False

    def _distinct_text_activations(self, tokens: Tensor) -> Tensor:
        """Return activations [n, width] of token ids [n, length], with no work done twice."""
        if len(tokens) < 2:
            return self.text_trunk(tokens)
        if self.has_dropout("text_trunk"):
            return self._activations_by_length(tokens)
        distinct, back = torch.unique(tokens, dim=0, return_inverse=True)
        ends = self.causal_end(distinct)
        if ends is not None and not getattr(self.text_tower, "use_pad_mask", False):
            return self._activations_by_tries(distinct, ends)[back]
        return self._activations_by_length(distinct)[back]

    def _activations_by_length(self, tokens: Tensor) -> Tensor:
        """Return activations [n, width], one pass for each group of lengths."""
        if not isinstance(self.text_tower, (TextTower, HFTextEncoder)) and self.causal_end(tokens) is None:
            return self.text_trunk(tokens)
        rows, sizes = _by_length(self.padded_lengths(tokens, bucket=1))
        parts = [self.text_trunk(tokens[row, :size]) for row, size in zip(rows, sizes, strict=True)]
        return torch.cat(parts)[torch.cat(rows).argsort()]

    def _activations_by_tries(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Return activations [n, width] of a causal tower."""
        device, text = tokens.device, self.text_tower
        tries = Tries.of([row[: end + 1] for row, end in zip(tokens.tolist(), ends.tolist(), strict=True)])
        hidden = text.token_embedding(tries.tokens.to(device)) + text.positional_embedding[tries.position.to(device)]
        heads = text.transformer.resblocks[0].attn.num_heads
        mask = torch.zeros(tries.visible.shape, dtype=hidden.dtype).masked_fill_(~tries.visible, float("-inf"))
        # torch's attention takes one mask for each head of each row
        hidden = text.transformer(hidden, attn_mask=mask.to(device).repeat_interleave(heads, dim=0))
        # the norm works position by position: only those that are read need it
        return cast("Tensor", text.ln_final(hidden[tries.row.to(device), tries.end.to(device)]))


def group_of(module: nn.Module, name: str) -> str:
    """Return which of `GROUPS` a parameter or buffer of `ClipModel.module` belongs to, by its name in it."""
    if name in ("logit_scale", "logit_bias"):
        return "logit_scale"
    if name.startswith("visual."):
        visual = cast("Any", module).visual
        parts = {ImageTower: ("head.", "pool."), TimmModel: ("head.",), VisionTransformer: ("proj",)}
        named = name.removeprefix("visual.").startswith(parts.get(type(visual), ()))
        return "image_head" if named else "image_trunk"
    if isinstance(module, CLIP):
        return "text_head" if name.startswith("text_projection") else "text_trunk"
    heads = {TextTower: "head.", HFTextEncoder: "proj.", TextTransformer: "text_projection"}
    head = heads.get(type(cast("Any", module).text))
    return "text_head" if head and name.startswith(f"text.{head}") else "text_trunk"


def _is_native(text: Any) -> bool:
    """Return whether a text tower is open_clip's own transformer with a projection matrix of its own."""
    return isinstance(text, CLIP) or (
        isinstance(text, TextTransformer) and text.cls_emb is None and not text.use_pad_mask
    )


def _by_length(lengths: Tensor) -> tuple[list[Tensor], list[int]]:
    """Return the rows of texts of these lengths [n] in groups, and to how many tokens each group is padded."""
    sizes = group_lengths(lengths.tolist())
    which = torch.bucketize(lengths, torch.tensor(sizes, device=lengths.device))
    return [torch.nonzero(which == group)[:, 0] for group in range(len(sizes))], sizes


def _has_convolutions(visual: nn.Module) -> bool:
    """Return whether a tower has more convolutions than the patch embedding: those are faster with channels innermost."""
    return len(list(islice((module for module in visual.modules() if isinstance(module, nn.Conv2d)), 2))) > 1


def _project(activations: Tensor, projection: Any) -> Tensor:
    if projection is None:
        return activations
    return cast("Tensor", projection(activations) if isinstance(projection, nn.Module) else activations @ projection)


def _set_mode(module: nn.Module, parent: bool) -> None:
    parameters = list(module.parameters())
    module.training = any(parameter.requires_grad for parameter in parameters) if parameters else parent
    for child in module.children():
        _set_mode(child, module.training)


EncodeFunction = Callable[[Tensor], tuple[Tensor, ...]]
"""Inputs [n, ...] to outputs, each [n, ...]: a function of each input alone."""


@dataclass
class StepEncoder:
    """Encodes the images and texts of one training step: inputs in, unit-norm features out.

    With `micro_batch_size` (gradient caching) features are computed first without a graph, the loss is taken on the full
    batch, and `backward` computes each chunk again, from the same random state, with the graph that its share of the
    gradient runs back through. That costs one more forward pass and keeps the graph of one chunk instead of the batch's.

    Attributes:
        model: What encodes.
        micro_batch_size: Most images, or most texts, at a time; 0 for all.
        bf16: Compute in bfloat16 where that is safe (autocast); features are float32 again.

    Source: Gao et al. 2021 (GradCache, arXiv 2101.06983), section 3.2.
    Differs: any objective over features, patches and tokens; texts share one list of chunks whatever they are for.
    """

    model: ClipModel
    micro_batch_size: int = 0
    bf16: bool = False
    _cached: list[tuple[EncodeFunction, Tensor, list[_RandomState], tuple[Tensor, ...]]] = field(
        default_factory=list, init=False
    )

    def encode_image(self, inputs: Tensor, *, cached: bool) -> Tensor:
        """Return unit-norm features [n, d] of pixels, or (`cached`) of a frozen prefix's activations of them."""
        model = self.model

        def encode(part: Tensor) -> tuple[Tensor, ...]:
            trunk = model.image_trunk_from(part) if cached else model.image_trunk(part)
            return (F.normalize(model.image_head(trunk), dim=-1),)

        (features,) = self.run(encode, inputs)
        return features

    def encode_text(self, inputs: Tensor, *, cached: bool) -> Tensor:
        """Return unit-norm features [n, d] of token ids, or (`cached`) of a frozen prefix's activations of them."""
        model = self.model

        def encode(part: Tensor) -> tuple[Tensor, ...]:
            if not cached:
                return (model.encode_text(part, deduplicate=True),)
            return (F.normalize(model.text_head(model.text_trunk_from(part)), dim=-1),)

        (features,) = self.run(encode, inputs)
        return features

    def encode_text_with_and_without_dropout(self, inputs: Tensor, *, cached: bool) -> tuple[Tensor, Tensor]:
        """Return features of texts, and the same without the head's dropout and without gradient.

        The trunk, which must have no dropout, runs once.
        """
        model = self.model

        def encode(part: Tensor) -> tuple[Tensor, Tensor]:
            trunk = model.text_trunk_from if cached else model._distinct_text_activations  # noqa: SLF001 - same file
            activations = trunk(part)
            model.eval()
            with torch.no_grad():
                plain = model.text_head(activations)
            model.train()
            return F.normalize(model.text_head(activations), dim=-1), F.normalize(plain, dim=-1)

        features, plain = self.run(encode, inputs)
        return features, plain

    def run(self, encode: EncodeFunction, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return `encode(inputs)`, in chunks if set so; gradients then reach the model by `backward`.

        Args:
            encode: A function of each input alone; `backward` calls it again where chunks are used.
            inputs: Pixels, tokens or activations [n, ...].
        """
        if not self.micro_batch_size or not torch.is_grad_enabled():
            return self._chunked(encode, inputs, [])
        states: list[_RandomState] = []
        with torch.no_grad():
            outputs = self._chunked(encode, inputs, states)
        leaves = tuple(value.requires_grad_() if value.is_floating_point() else value for value in outputs)
        self._cached.append((encode, inputs, states, leaves))
        return leaves

    def backward(self) -> None:
        """Run the gradients that the loss left on features back through the model; does nothing without chunks."""
        before = _RandomState.now() if self._cached else None
        for encode, inputs, states, leaves in self._cached:
            parts = [None if leaf.grad is None else torch.split(leaf.grad, self.micro_batch_size) for leaf in leaves]
            chunks = zip(torch.split(inputs, self.micro_batch_size), states, strict=True)
            for number, (chunk, state) in enumerate(chunks):
                state.restore()
                pairs = [
                    (value, part[number])
                    for value, part in zip(self._autocast(encode, chunk), parts, strict=True)
                    if part is not None and value.requires_grad
                ]
                if pairs:
                    torch.autograd.backward(*map(list, zip(*pairs, strict=True)))  # type: ignore[arg-type]
        self._cached.clear()
        if before is not None:
            before.restore()

    def _chunked(self, encode: EncodeFunction, inputs: Tensor, states: list[_RandomState]) -> tuple[Tensor, ...]:
        if not self.micro_batch_size or not len(inputs):
            return self._autocast(encode, inputs)
        outputs: list[tuple[Tensor, ...]] = []
        for chunk in torch.split(inputs, self.micro_batch_size):
            states.append(_RandomState.now())
            outputs.append(self._autocast(encode, chunk))
        return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))

    def _autocast(self, encode: EncodeFunction, inputs: Tensor) -> tuple[Tensor, ...]:
        if not self.bf16:
            return encode(inputs)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            outputs = encode(inputs)
        return tuple(value.float() if value.is_floating_point() else value for value in outputs)


@dataclass(frozen=True)
class _RandomState:
    """The state of torch's global generators."""

    cpu: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls) -> _RandomState:
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


def group_lengths(lengths: Sequence[int], cost: int = GROUP_TOKENS) -> list[int]:
    """Return the lengths to pad to, ascending, that minimise positions to compute plus `cost` for each group.

    Args:
        lengths: Each text's own length; it is padded to the first returned one that is at least as long.
        cost: What a group costs besides, in positions.
    """
    sizes = sorted(set(lengths))
    below = [sum(length <= size for length in lengths) for size in sizes]
    best: list[tuple[int, list[int]]] = [(0, [])]
    for last, size in enumerate(sizes):
        options = [
            (best[first][0] + (below[last] - (below[first - 1] if first else 0)) * size + cost, first)
            for first in range(last + 1)
        ]
        total, first = min(options)
        best.append((total, [*best[first][1], size]))
    return best[-1][1]


@dataclass(frozen=True)
class Tries:
    """Texts as tries (prefix trees), several to a row. R rows of L positions, n texts.

    Attributes:
        tokens: The token at each position of a row, int64 [R, L]; 0 where unused.
        position: Its position in its text, int64 [R, L].
        visible: True where the row's position may attend to the column's, bool [R, L, L].
        row: The row of each text, int64 [n].
        end: Where in the row the text ends, int64 [n].
    """

    tokens: Tensor
    position: Tensor
    visible: Tensor
    row: Tensor
    end: Tensor

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], positions: int = TRIE_POSITIONS) -> Tries:
        """Lay texts out; neighbours in alphabetical order share a row while it has room.

        Args:
            texts: Token ids, none empty.
            positions: A row takes no further text that would make it longer.
        """
        rows: list[_TrieRow] = []
        row, end = [0] * len(texts), [0] * len(texts)
        for number in sorted(range(len(texts)), key=lambda number: tuple(texts[number])):
            if not rows or rows[-1].length_with(texts[number]) > positions:
                rows.append(_TrieRow())
            row[number], end[number] = len(rows) - 1, rows[-1].add(texts[number])
        size = max(len(filled.tokens) for filled in rows)
        visible = torch.eye(size, dtype=torch.bool).repeat(len(rows), 1, 1)
        seen = visible.numpy()  # the same memory: numpy writes small blocks with less overhead
        for number, filled in enumerate(rows):
            for known, path in filled.paths:
                seen[number, path[known] :][: len(path) - known, path] |= np.tri(
                    len(path) - known, len(path), known, bool
                )
        tokens = torch.tensor([filled.tokens + [0] * (size - len(filled.tokens)) for filled in rows])
        position = torch.tensor([filled.depths + [0] * (size - len(filled.depths)) for filled in rows])
        return cls(tokens, position, visible, torch.tensor(row), torch.tensor(end))


class _TrieRow:
    """One row of tries while it is filled, in alphabetical order: a text shares with its predecessor all that it shares.

    Attributes:
        tokens: The token at each position.
        depths: Its position in its text.
        paths: For each text, how many positions it shares, and all its positions; those of its own follow each other.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.paths: list[tuple[int, list[int]]] = []
        self._last: Sequence[int] = ()

    def length_with(self, text: Sequence[int]) -> int:
        """Return how many positions the row would have with this text."""
        return len(self.tokens) + len(text) - self._known(text)

    def add(self, text: Sequence[int]) -> int:
        """Add a text; return the position at which it ends."""
        known = self._known(text)
        before: list[int] = self.paths[-1][1] if self.paths else []
        path: list[int] = [*before[:known], *range(len(self.tokens), len(self.tokens) + len(text) - known)]
        if known < len(text):
            self.paths.append((known, path))
            self._last = text
        self.tokens += text[known:]
        self.depths += range(known, len(text))
        return path[-1]

    def _known(self, text: Sequence[int]) -> int:
        pairs = zip(self._last, text, strict=False)
        return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(self._last), len(text)))
