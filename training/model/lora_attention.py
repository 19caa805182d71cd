"""Low-rank adapters on torch's fused attention that leave the frozen weights alone.

peft adapts `nn.MultiheadAttention` by adding the adapter to the weight before every forward pass and subtracting it
after. Rounding then moves the *frozen* weight a little at each step, so a resumed run cannot equal an
uninterrupted one; and the output projection gets its adapter twice (peft 0.21). Here the sum is a new tensor,
for q, k and v together as in CLIP-LoRA (Zanella and Ben Ayed 2024, arXiv:2405.18541), and the output projection's
adapter, which peft's format has, stays zero. Stock peft reads the result and computes the same.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora.layer import MultiheadAttention
from torch import nn


class FusedAttention(MultiheadAttention):
    """peft's adapter for `nn.MultiheadAttention`, computed without touching the weight."""

    def forward(self, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return what `nn.MultiheadAttention` returns, with adapted q, k and v."""
        if self.disable_adapters or self.merged:
            return super().forward(query, *args, **kwargs)
        weight: torch.Tensor = self.in_proj_weight
        for name in self.active_adapters:
            weight = weight + self.get_delta_weight(name)
        return torch.func.functional_call(self.base_layer, {"in_proj_weight": weight}, (query, *args), kwargs)


def register(config: LoraConfig) -> None:
    """Make peft use `FusedAttention` for the modules it would wrap with its own class."""
    config._register_custom_module({nn.MultiheadAttention: FusedAttention})  # noqa: SLF001 - documented, experimental


def freeze_output_adapters(model: nn.Module) -> None:
    """Keep the adapters of the output projections at zero."""
    for module in model.modules():
        if isinstance(module, FusedAttention):
            out_proj: Any = module.base_layer.out_proj
            out_proj.lora_A.requires_grad_(requires_grad=False)
            out_proj.lora_B.requires_grad_(requires_grad=False)
