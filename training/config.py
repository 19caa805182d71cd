"""The numbers of a training run. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from data_manifests.errors import InputError
from training.model import lora

Schedule = Literal["cosine", "constant"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bf16"]
_LATER: Mapping[str, object] = {"wise_ft": 1.0, "cache_gb": 10.0, "prompt_tokens": 4}
"""Fields that came later, with what was done before: runs and cells of comparisons made without them stay the same."""


@dataclass(frozen=True)
class TrainConfig:
    """The numbers of a training run. Two runs with equal values, data and model give equal bytes.

    Attributes:
        steps: Optimiser steps.
        batch_size: Samples a step.
        lr: Peak learning rate of AdamW.
        weight_decay: Decoupled decay; never on norms, biases and the logit scale.
        betas: AdamW's averaging rates.
        eps: AdamW's denominator floor.
        warmup_steps: Steps of linear warm-up from zero.
        schedule: ``cosine`` to zero at the last step, or ``constant`` after the warm-up.
        seed: Seed of every draw of the run.
        tune: ``lora`` adapters, ``full`` weights, the ``projection`` heads alone, ``prompt`` (context tokens before each text), or
            ``top:N``: the last N blocks of each tower and the heads. See `training.model.lora`.
        lora_rank: Rank of the adapters.
        lora_alpha: Adapters are scaled by alpha / rank.
        lora_dropout: Dropout on the adapters' inputs, 0 to below 1.
        lora_targets: ``image`` or ``text`` for one tower alone, or a full-match regular expression of the modules to
            adapt; empty for the model's own choice.
        lora_layers: Numbers of the layers to adapt; empty for all.
        prompt_tokens: Number of context tokens of ``prompt``.
        split: Only samples of this split are trained on, and those that have none.
        logit_scale_max: exp(logit_scale) is clamped to at most this.
        grad_clip: Largest gradient norm; 0 leaves gradients as they are.
        ignore_equal_captions: Do not push an image from a text that is its own caption to the model: the same tokens
            once cut to its context (label 0).
        checkpoint_every: Steps between checkpoints; a kill costs at most so many.
        num_threads: Torch threads. Sums depend on it in the last bit, so it is part of the config.
        max_image_px: Images with more pixels are refused.
        micro_batch_size: Most images or texts in the towers at a time, for batches beyond memory; 0 for all. Same
            gradients up to rounding, one more forward pass.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        precision: ``float32``, ``bf16`` (GPUs only), or ``auto`` for bf16 on a GPU and float32 on a CPU.
        wise_ft: Where on the line from the base to the tuned weights the model of the finished run stands: 1 is the
            tuned one, 0 the base. See `training.model.wise_ft`.
        cache_gb: Most gigabytes (10^9 bytes) that cached activations of frozen parts may take in the workspace; what needs
            more is computed at each step. Equal up to the order of sums, so that it is part of what a run is.
        fast_decode: Decode a JPEG at a half, quarter or eighth where that is still no smaller than the towers see.
            Other pixels than without it.
        readers: Threads that read and decode images. Changes no result, so a run may go on with another number.
    """

    steps: int = 500
    batch_size: int = 256
    lr: float = 5e-5
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    warmup_steps: int = 50
    schedule: Schedule = "cosine"
    seed: int = 0
    tune: str = "lora"
    lora_rank: int = 4
    lora_alpha: float = 4.0
    lora_dropout: float = 0.0
    lora_targets: str = ""
    lora_layers: tuple[int, ...] = ()
    prompt_tokens: int = 4
    split: str = "train"
    logit_scale_max: float = 100.0
    grad_clip: float = 1.0
    ignore_equal_captions: bool = True
    checkpoint_every: int = 50
    num_threads: int = 2
    max_image_px: int = 89_478_485
    micro_batch_size: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    wise_ft: float = 1.0
    cache_gb: float = 10.0
    fast_decode: bool = False
    readers: int = 2

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InputError: a value is out of range; the message names the field.
        """
        for name in (
            "steps",
            "lora_rank",
            "prompt_tokens",
            "checkpoint_every",
            "num_threads",
            "max_image_px",
            "readers",
        ):
            value = getattr(self, name)
            _check(name, value, isinstance(value, int) and value >= 1, "1 or more")
        _check("batch_size", self.batch_size, self.batch_size >= 2, "2 or more: a contrast needs another sample")
        for name in ("lr", "eps", "lora_alpha"):
            value = getattr(self, name)
            _check(name, value, math.isfinite(value) and value > 0, "a number above 0")
        for name in ("weight_decay", "grad_clip", "cache_gb"):
            value = getattr(self, name)
            _check(name, value, math.isfinite(value) and value >= 0, "0 or a number above it")
        in_range = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _check("betas", self.betas, in_range, "two of 0 .. <1")
        _check("warmup_steps", self.warmup_steps, self.warmup_steps >= 0, "0 or more")
        _check("wise_ft", self.wise_ft, 0 <= self.wise_ft <= 1, "0 to 1")
        _check("lora_dropout", self.lora_dropout, 0 <= self.lora_dropout < 1, "0 to below 1")
        _check("logit_scale_max", self.logit_scale_max, 1 <= self.logit_scale_max <= 1000, "1 to 1000")
        _check("micro_batch_size", self.micro_batch_size, self.micro_batch_size >= 0, "0 or more")
        _check("tune", self.tune, lora.is_tune(self.tune), lora.TUNE_HELP)
        for name, choices in (("schedule", Schedule), ("device", Device), ("precision", Precision)):
            value, allowed = getattr(self, name), get_args(choices)
            _check(name, value, value in allowed, ", ".join(allowed))
        _check("seed", self.seed, 0 <= self.seed < 2**63, "0 to 2^63 - 1")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; those in `_LATER` only where they say something."""
        values = dataclasses.asdict(self)
        for name, silent in _LATER.items():
            if values[name] == silent:
                del values[name]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _check(name: str, value: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise InputError(f"training option {name}={value!r}", allowed=allowed, fix=f"--set train.{name}=VALUE")
