"""Where and how a run computes: device, precision, deterministic algorithms, and what may not depend on the batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from training.config import Device, Precision, TrainConfig
    from training.model.clip_model import ClipModel


def choose_device(device: str, precision: str) -> tuple[Device, Precision]:
    """Return the device (cpu, cuda) and precision (float32, bf16) of a run.

    Args:
        device: `auto` takes a GPU where there is one.
        precision: `auto` takes bf16 on a GPU and float32 on a CPU.

    Raises:
        InputError: there is no such device, or bf16 on a CPU.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    chosen = ("cuda" if has_gpu else "cpu") if device == "auto" else device
    if chosen == "cuda" and not has_gpu:
        raise InputError(
            "training option device='cuda': torch finds no GPU", allowed="auto, cpu", fix="--set train.device=cpu"
        )
    if chosen == "cpu" and precision == "bf16":
        raise InputError(
            "training option precision='bf16' on a CPU: many times slower than float32",
            allowed="auto, float32",
            fix="--set train.precision=float32",
        )
    if precision == "auto":
        precision = "bf16" if chosen == "cuda" else "float32"
    return cast("Device", chosen), cast("Precision", precision)


def on_device(config: TrainConfig) -> TrainConfig:
    """Return the config with its device and precision decided, and make that device's sums deterministic.

    Raises:
        InputError: see `choose_device`.
    """
    device, precision = choose_device(config.device, config.precision)
    if device != "cpu":
        # without this workspace cuBLAS's sums are not deterministic; read at the first product
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return replace(config, device=device, precision=precision)


@contextmanager
def deterministic(num_threads: int) -> Iterator[None]:
    """Compute with deterministic algorithms and a fixed number of threads; restore both and torch's seed at the end.

    New tensors are not filled before they are written, as torch does in this mode to help find code that reads what nobody
    wrote: a sixth of the time of a step. The bits are the same.
    """
    import torch
    from torch.utils import deterministic as module

    settings = cast("Any", module)  # torch's properties of a module, which types do not know
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), settings.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        try:
            torch.use_deterministic_algorithms(True)
            settings.fill_uninitialized_memory = False
            torch.set_num_threads(num_threads)
            yield
        finally:
            torch.use_deterministic_algorithms(before[0])
            torch.set_num_threads(before[1])
            settings.fill_uninitialized_memory = before[2]


def check_batch_norm(model: ClipModel, config: TrainConfig, num_ranks: int) -> None:
    """Check that the model computes each input alone where a batch goes through in chunks or on several ranks.

    Args:
        model: In train mode.
        config: Says whether there are chunks.
        num_ranks: Processes that train together.

    Raises:
        InputError: batch normalisation is trained: its statistics would be those of a chunk or of a rank's slice.
    """
    from torch import nn

    if not config.micro_batch_size and num_ranks == 1:
        return
    for name, module in model.module.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:  # noqa: SLF001 - all its kinds
            option = f"micro_batch_size={config.micro_batch_size}" if config.micro_batch_size else f"{num_ranks} ranks"
            raise InputError(
                f"training with {option}: {name} normalises over the batch, so parts of it would change the result",
                allowed="models whose batch normalisation is frozen or absent",
                fix="--set train.tune=lora, or one rank and --set train.micro_batch_size=0",
            )
