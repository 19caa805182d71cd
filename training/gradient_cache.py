"""How inputs go through the towers: all at once, or in chunks that a GPU or a small memory can bear, with equal gradients.

With chunks (gradient caching) features are computed first without a graph, the loss is taken on the full batch, and each
chunk is then computed again, from the same random state, with the graph that its share of the gradient runs back through.
That costs one more forward pass and keeps the graph of one chunk instead of that of the batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from data_manifests.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.config import Device, Precision, TrainConfig
    from training.model.clip_model import ClipModel

Encode = Callable[["Tensor"], tuple["Tensor", ...]]
"""Inputs [n, ...] to outputs, each [n, ...]."""


@dataclass
class Passes:
    """The passes of one step through the towers.

    Attributes:
        micro_batch_size: Most images, or most texts, at a time; 0 for all.
        bf16: Compute in bfloat16 where that is safe (autocast); features are float32 again.

    Source: Gao et al. 2021 (GradCache, arXiv 2101.06983), section 3.2.
    Differs: any objective over features, patches and tokens; texts share one list of chunks whatever they are for.
    """

    micro_batch_size: int = 0
    bf16: bool = False
    _kept: list[tuple[Encode, Tensor, list[_State], tuple[Tensor, ...]]] = field(default_factory=list)

    def run(self, encode: Encode, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what `encode` makes of inputs; gradients reach the model by `backward`.

        Args:
            encode: A function of each input alone; it is called again by `backward` where chunks are used.
            inputs: Pixels, tokens or activations [n, ...].
        """
        import torch

        if not self.micro_batch_size or not torch.is_grad_enabled():
            return self._join(encode, inputs, [])
        states: list[_State] = []
        with torch.no_grad():
            found = self._join(encode, inputs, states)
        leaves = tuple(value.requires_grad_() if value.is_floating_point() else value for value in found)
        self._kept.append((encode, inputs, states, leaves))
        return leaves

    def backward(self) -> None:
        """Run the gradients that the loss left on features back through the towers; nothing to do without chunks."""
        import torch

        before = _State.now() if self._kept else None
        for encode, inputs, states, leaves in self._kept:
            parts = [None if leaf.grad is None else torch.split(leaf.grad, self.micro_batch_size) for leaf in leaves]
            for at, (chunk, state) in enumerate(zip(torch.split(inputs, self.micro_batch_size), states, strict=True)):
                state.put_back()
                made = self._cast(encode, chunk)
                pairs = [
                    (value, part[at])
                    for value, part in zip(made, parts, strict=True)
                    if part is not None and value.requires_grad
                ]
                if pairs:
                    torch.autograd.backward(*map(list, zip(*pairs, strict=True)))  # type: ignore[arg-type]
        self._kept.clear()
        if before is not None:
            before.put_back()

    def _join(self, encode: Encode, inputs: Tensor, states: list[_State]) -> tuple[Tensor, ...]:
        import torch

        if not self.micro_batch_size or not len(inputs):
            return self._cast(encode, inputs)
        made: list[tuple[Tensor, ...]] = []
        for chunk in torch.split(inputs, self.micro_batch_size):
            states.append(_State.now())
            made.append(self._cast(encode, chunk))
        return tuple(torch.cat(parts) for parts in zip(*made, strict=True))

    def _cast(self, encode: Encode, inputs: Tensor) -> tuple[Tensor, ...]:
        import torch

        if not self.bf16:
            return encode(inputs)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            made = encode(inputs)
        return tuple(value.float() if value.is_floating_point() else value for value in made)


@dataclass(frozen=True)
class _State:
    """The state of torch's global generators."""

    cpu: Tensor
    cuda: tuple[Tensor, ...]

    @classmethod
    def now(cls) -> _State:
        import torch

        return cls(torch.get_rng_state(), tuple(torch.cuda.get_rng_state_all()) if _has_cuda() else ())

    def put_back(self) -> None:
        import torch

        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))


def check_chunks(model: ClipModel) -> None:
    """Check that a model in train mode computes each input alone, so that it may go through in chunks.

    Raises:
        InputError: it holds batch normalisation that is trained: its statistics would be those of the chunks.
    """
    from torch import nn

    for name, module in model.module.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:  # noqa: SLF001 - all its kinds
            raise InputError(
                f"training option micro_batch_size: {name} normalises over the batch, chunks would change the result",
                allowed="models whose batch normalisation is frozen or absent",
                fix="--set train.tune=lora, or --set train.micro_batch_size=0",
            )


def choose_device(wanted: str, precision: str) -> tuple[Device, Precision]:
    """Return the device (cpu, cuda) and precision (float32, bf16) of a run.

    Args:
        wanted: `auto` takes a GPU where there is one.
        precision: `auto` takes bf16 on a GPU and float32 on a CPU.

    Raises:
        InputError: there is no such device, or bf16 is asked for on a CPU.
    """
    device = ("cuda" if _has_cuda() else "cpu") if wanted == "auto" else wanted
    if device == "cuda" and not _has_cuda():
        raise InputError("training option device='cuda': torch finds no GPU", allowed="auto, cpu", fix=_CPU)
    if device == "cpu" and precision == "bf16":
        raise InputError(
            "training option precision='bf16' on a CPU: many times slower than float32",
            allowed="auto, float32",
            fix="--set train.precision=float32",
        )
    chosen = ("bf16" if device == "cuda" else "float32") if precision == "auto" else precision
    return cast("Device", device), cast("Precision", chosen)


def on_device(config: TrainConfig) -> TrainConfig:
    """Return the config with its device and precision decided, and make that device's sums deterministic.

    Raises:
        InputError: see `choose_device`.
    """
    device, precision = choose_device(config.device, config.precision)
    allow_deterministic(device)
    return replace(config, device=device, precision=precision)


def place(model: torch.nn.Module, device: str) -> None:
    """Move a model to a device, its parameters staying the same objects."""
    if device != "cpu":
        model.to(device)


def allow_deterministic(device: str) -> None:
    """Give cuBLAS the workspace without which its sums are not deterministic; call before the first product."""
    if device != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


_CPU = "--set train.device=cpu"


@contextmanager
def deterministic(num_threads: int) -> Iterator[None]:
    """Compute with deterministic algorithms and a fixed number of threads; put everything back at the end."""
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.use_deterministic_algorithms(True)
            torch.set_num_threads(num_threads)
            yield
        finally:
            torch.use_deterministic_algorithms(before[0])
            torch.set_num_threads(before[1])
