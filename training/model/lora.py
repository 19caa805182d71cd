"""Which parameters are trained: `lora` (adapters by peft), `full` (everything), `projection` (the heads alone), `prompt` or `top:N`.

| model | `lora` adapts | `projection` trains | `top:N` trains, of each tower |
| --- | --- | --- | --- |
| open_clip's own ViT and text transformer | attention (q, k, v together) and MLP layers | the projection matrices | the last N blocks, the last norm, the projection matrix |
| timm ViT | attention and MLP layers | the tower's head | the last N blocks, the last norm, the head |
| BERT, DistilBERT | attention and MLP layers | the tower's head | the last N layers and the head |
| convolutional image towers | nothing: the trunk stays frozen | the tower's head | the last N stages, what follows them, the head |

The logit scale is trained always. `lora` also trains the heads of a two-tower assembly, which start random; the
pretrained projection matrices of an open_clip model stay as they are, for their trunks were trained against them.
An attention pool is part of the tower's head.

`prompt` trains context tokens that come before every text, and nothing else but the logit scale; see `context_tokens`.

`top:N` leaves the statistics of batch normalisation as they are (scales and shifts are trained): a few hundred steps of
small batches would only blur them, and so each image is computed alone, in chunks and on several ranks, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_manifests.errors import InputError
from training.model.checkpoint_files import library_errors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.model.clip_model import ClipModel

TUNES = ("lora", "full", "projection", "prompt")
TUNE_HELP = "lora, full, projection, prompt (context tokens before each text) or top:N (the last N blocks of each tower and the heads)"

# open_clip's attention is one fused module: peft must be given `attn` as a whole, for an adapter on its `out_proj`
# is never called. A bare `attn` or `proj` would in turn hit timm's Attention and patch embedding.
NATIVE_BLOCK = r"resblocks\.\d+\.(attn|mlp\.c_fc|mlp\.c_proj)"
TARGETS: Mapping[str, tuple[str, ...]] = {
    "image": (
        rf"visual\.transformer\.{NATIVE_BLOCK}",
        r"visual\.trunk\.blocks\.\d+\.(attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)",
    ),
    "text": (
        rf"(text\.)?transformer\.{NATIVE_BLOCK}",
        r"text\.transformer\.encoder\.layer\.\d+\.(attention\.self\.(query|key|value)|((attention\.)?output|intermediate)\.dense)",
        r"text\.transformer\.transformer\.layer\.\d+\.(attention\.(q_lin|k_lin|v_lin|out_lin)|ffn\.(lin1|lin2))",
    ),
}


@dataclass(frozen=True)
class FreezeReport:
    """What a tuning trains.

    Attributes:
        tune: The tuning.
        groups: (trained, all) numbers of parameters by group: image_trunk, image_head, text_trunk, text_head,
            logit_scale. Adapters count in the trunk they adapt.
        targets: The regular expression of the adapted modules; empty without adapters.
        blocks: With `top:N`, (trained, all) numbers of blocks by tower.
    """

    tune: str
    groups: Mapping[str, tuple[int, int]]
    targets: str = ""
    blocks: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def trainable(self) -> int:
        """Number of trained parameters."""
        return sum(trained for trained, _ in self.groups.values())

    @property
    def total(self) -> int:
        """Number of parameters."""
        return sum(count for _, count in self.groups.values())

    def lines(self) -> list[str]:
        """Return one line per group, for people."""
        share = 100 * self.trainable / self.total
        head = f"tuning '{self.tune}': {self.trainable:,} of {self.total:,} parameters trained ({share:.2f} %)"
        rows = [f"  {name:<12} {trained:>12,} of {count:>12,}" for name, (trained, count) in self.groups.items()]
        blocks = [
            f"  {side} tower: the last {trained} of {count} blocks" for side, (trained, count) in self.blocks.items()
        ]
        return [head, *rows, *blocks]


def apply_tuning(
    model: ClipModel,
    tune: str,
    *,
    rank: int = 4,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: str | None = None,
    layers: Sequence[int] | None = None,
    prompt_tokens: int = 4,
) -> FreezeReport:
    """Decide what is trained; changes `model.module` in place. At first the model computes what it did before.

    With `prompt` it computes at first what it did of texts with the starting context before them.

    Args:
        model: A freshly loaded model.
        tune: `lora`, `full`, `projection`, `prompt` or `top:N`.
        rank: Rank of the adapters.
        alpha: Adapters are scaled by alpha / rank; the rank when None.
        dropout: Dropout on the adapters' inputs; peft ignores it on open_clip's fused attention.
        targets: `image` or `text` for one tower alone, or a full-match regular expression of module names; None for
            the config's `lora` entry, else the table above.
        layers: Numbers of the layers to adapt; None for all.
        prompt_tokens: With `prompt`, how many context tokens; a model that has some is tuned on with those.

    Adapters are drawn from torch's global generator: seed it first.

    Raises:
        InputError: an unknown tuning, a second tuning of one model, no module that matches, no head to train, or more
            blocks than a tower has.
    """
    if not is_tune(tune):
        raise InputError(f"tuning '{tune}'", allowed=TUNE_HELP)
    if model.tune:
        raise InputError(f"the model is tuned already ('{model.tune}')", fix="load it again")
    chosen = ""
    blocks: dict[str, tuple[int, int]] = {}
    if tune == "full":
        model.module.requires_grad_(requires_grad=True)
    elif is_top(tune):
        blocks = _train_top(model, tune)
    else:
        model.module.requires_grad_(requires_grad=False)
        if tune == "prompt":
            _train_context(model, prompt_tokens)
        if tune == "lora":
            chosen = _choose_targets(model, targets, layers)
            model.peft = _adapt(model.module, chosen, rank, rank if alpha is None else alpha, dropout)
        _train_heads(model, tune)
    model.tune = tune
    model.cut_at_first_trained(keep_statistics=is_top(tune))
    return FreezeReport(tune, _count(model.module), chosen, blocks)


def is_tune(tune: str) -> bool:
    """Return whether a text names a tuning; how many blocks there are for `top:N` shows when the model is loaded."""
    return tune in TUNES or (
        is_top(tune) and re.fullmatch(r"[1-9]\d{0,3}", tune.removeprefix("top:"), re.ASCII) is not None
    )


def is_top(tune: str) -> bool:
    """Return whether a tuning is `top:N`."""
    return tune.startswith("top:")


def _train_top(model: ClipModel, tune: str) -> dict[str, tuple[int, int]]:
    """Train the last blocks, what follows them, the heads and the logit scale; return (trained, all) blocks by tower."""
    from training.model.clip_model import group_of

    number = int(tune.removeprefix("top:"))
    towers = {f"{side}_trunk": model.blocks(side) for side in ("image", "text")}
    counts = {side.removesuffix("_trunk"): len(blocks) for side, blocks in towers.items()}
    if number > min(counts.values()):
        raise InputError(
            f"tuning '{tune}': the image tower has {counts['image']} blocks, the text tower {counts['text']}",
            allowed=f"top:1 to top:{min(counts.values())}",
            fix=f"--tune top:{min(counts.values())}, or --tune full",
        )
    for name, parameter in model.module.named_parameters():
        blocks = towers.get(group_of(model.module, name))
        parameter.requires_grad = blocks is None or blocks.position(name) >= len(blocks) - number
    return {side: (number, count) for side, count in counts.items()}


def _choose_targets(model: ClipModel, targets: str | None, layers: Sequence[int] | None) -> str:
    """Return one full-match regular expression of the modules to adapt."""
    names = [name for name, _ in model.module.named_modules()]
    own = model.config.get("lora") or {}
    if targets in (None, "image", "text"):
        patterns = []
        for side in TARGETS if targets is None else (targets,):
            known = [own[side]] if own.get(side) else [] if side in own else TARGETS[str(side)]
            patterns += [pattern for pattern in known if any(re.fullmatch(pattern, name) for name in names)]
    else:
        patterns = [str(targets)]
    if layers is not None:
        numbers = "|".join(str(number) for number in layers)
        patterns = [pattern.replace(r"\d+", f"({numbers})") for pattern in patterns]
    chosen = "|".join(patterns) if len(patterns) == 1 else "|".join(f"({pattern})" for pattern in patterns)
    try:
        matched = [name for name in names if chosen and re.fullmatch(chosen, name)]
    except re.error as error:
        raise InputError(
            f"LoRA targets '{targets}': {error}", allowed="image, text, or a regular expression"
        ) from error
    if not matched:
        raise InputError(
            f"LoRA targets '{targets or 'by default'}', layers {list(layers or []) or 'all'}: no module matches",
            allowed="a full-match regular expression such as " + TARGETS["text"][0],
            fix="use --tune projection for towers without attention or linear layers",
        )
    return chosen


def _adapt(model: nn.Module, targets: str, rank: int, alpha: float, dropout: float) -> Any:
    from peft import LoraConfig, get_peft_model

    from training.model import lora_attention

    # peft's type says int, its arithmetic is plain division
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)  # type: ignore[arg-type]
    lora_attention.register(config)
    with library_errors(f"LoRA targets '{targets}': peft refuses them", "leave the targets out", ValueError, TypeError):
        adapted = get_peft_model(model, config)
    lora_attention.freeze_output_adapters(model)
    return adapted


def _train_context(model: ClipModel, num_tokens: int) -> None:
    from training.model.context_tokens import add_context, context_of

    context = context_of(model)
    if context is not None and len(context) != num_tokens:
        raise InputError(
            f"tuning 'prompt' with {num_tokens} context tokens: the model has {len(context)} already",
            fix=f"--set train.prompt_tokens={len(context)}",
        )
    (add_context(model, num_tokens) if context is None else context).requires_grad = True


def _train_heads(model: ClipModel, tune: str) -> None:
    from training.model.clip_model import group_of

    heads = tune == "projection" or (tune == "lora" and model.config.get("kind") == "two_tower")
    wanted = {"logit_scale"} | ({"image_head", "text_head"} if heads else set())
    found = set()
    for name, parameter in model.module.named_parameters():
        if group_of(model.module, name) in wanted:
            found.add(group_of(model.module, name))
            parameter.requires_grad = True
    if tune == "projection" and not found & {"image_head", "text_head"}:
        raise InputError("tuning 'projection': this architecture has no projection apart from its towers",
                         allowed="lora, full")  # fmt: skip


def _count(model: nn.Module) -> dict[str, tuple[int, int]]:
    from training.model.clip_model import GROUPS, group_of

    counts = {group: [0, 0] for group in GROUPS}
    for name, parameter in model.named_parameters():
        count = counts[group_of(model, name)]
        count[0] += parameter.numel() * parameter.requires_grad
        count[1] += parameter.numel()
    return {group: (count[0], count[1]) for group, count in counts.items() if count[1]}


def trainable_parameters(model: ClipModel) -> list[tuple[str, nn.Parameter]]:
    """Return the trained parameters with their names, in the model's order."""
    return [(name, parameter) for name, parameter in model.module.named_parameters() if parameter.requires_grad]


def changing(model: ClipModel) -> dict[str, Tensor]:
    """Return trained parameters, and the buffers (running statistics) that training changes with them."""
    state: dict[str, Tensor] = dict(trainable_parameters(model))
    for prefix, module in model.module.named_modules():
        own = [] if is_top(model.tune) else list(module.parameters(recurse=False))
        if any(parameter.requires_grad for parameter in own):
            state |= {f"{prefix}.{name}".lstrip("."): value for name, value in module.named_buffers(recurse=False)}
    kept = model.module.state_dict().keys()
    return {name: value for name, value in state.items() if name in kept}


def trainable_state(model: ClipModel) -> dict[str, Tensor]:
    """Return a copy of all that training changes in the model, by name; what a checkpoint needs."""
    return {name: value.detach().clone() for name, value in changing(model).items()}


def load_trainable_state(model: ClipModel, state: Mapping[str, Tensor]) -> None:
    """Put back what `trainable_state` returned, on a model tuned the same way.

    Raises:
        InputError: other names or shapes: the model or its tuning differs.
    """
    import torch

    mine = changing(model)
    odd = sorted(mine.keys() ^ state.keys()) or [name for name in mine if mine[name].shape != state[name].shape]
    if odd:
        raise InputError(
            f"checkpoint: tensor '{odd[0]}' does not fit this model and tuning ({len(odd)} do not)",
            fix="resume with the model, tuning and rank the run was started with",
        )
    with torch.no_grad():
        for name, value in mine.items():
            value.copy_(state[name])
