"""Several processes, one batch: each encodes its part, all see the whole, and the sum of their gradients is exact.

Started by torchrun. Every rank takes its slice of the same global batch, features are gathered (own slice with its
graph), and each rank computes the loss of the whole batch. Its gradient is then that of its own slice, and the sum over
ranks is the gradient of one process, whatever the objective. Nothing is pickled: texts travel as JSON.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from data_manifests.errors import InputError
from training.batches.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

BUCKET = 1 << 24
"""Gradients are summed so many numbers at a time."""

PATIENCE = timedelta(hours=6)
"""How long a rank waits for another: the first may be filling caches."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train together.

    Attributes:
        rank: Number of this one, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Ranks:
        """Return the ranks that torchrun started, a single one without it. They stay together until the process ends."""
        import torch
        import torch.distributed as dist

        if dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
            return cls()
        backend = "gloo"
        if torch.cuda.is_available():
            backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group(backend, timeout=PATIENCE)
        # torchrun's rendezvous serves one group for each process: a second one would wait for ever
        atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def seed(self) -> tuple[str | int, ...]:
        """What this rank adds to a step's seed, so that no two draw the same noise; nothing for a single one."""
        return () if self.size == 1 else ("rank", self.rank)

    def share(self, batch_size: int) -> slice:
        """Return which samples of a batch are this rank's.

        Raises:
            InputError: batches do not divide by the ranks.
        """
        if over := batch_size % self.size:
            near = [size for size in (batch_size - over, batch_size - over + self.size) if size]
            raise InputError(
                f"batches of {batch_size} samples for {self.size} ranks",
                allowed="a batch_size that divides by the number of ranks",
                fix=" or ".join(f"--set train.batch_size={size}" for size in near),
            )
        each = batch_size // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def own(self, plan: Plan) -> Plan:
        """Return the plan of this rank's slice of each batch."""
        batch = plan.rows.shape[1]
        part = self.share(batch)
        if self.size == 1:
            return plan
        first = range(0, len(plan.uids), batch)
        uids = tuple(uid for at in first for uid in plan.uids[at + part.start : at + part.stop])
        return Plan(plan.rows[:, part], plan.caption[:, part], plan.epoch, uids)

    def gather(self, own: Tensor) -> Tensor:
        """Return the tensors of all ranks, one after the other along the first axis; own values keep their graph.

        Every rank's has the same shape.
        """
        import torch
        import torch.distributed as dist

        if self.size == 1:
            return own
        sent = own.detach().contiguous()
        sent = sent.to(torch.uint8) if own.dtype == torch.bool else sent
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(parts, sent)
        whole = [part.to(own.dtype) for part in parts]
        whole[self.rank] = own
        return torch.cat(whole)

    def gather_json(self, value: Any) -> list[Any]:
        """Return every rank's JSON value, in order of the ranks."""
        import torch

        data = orjson.dumps(value)
        sizes = self.gather(torch.tensor([len(data)])).tolist()
        padded = torch.frombuffer(bytearray(data.ljust(max(sizes))), dtype=torch.uint8)
        rows = self.gather(padded[None])
        return [orjson.loads(row[:size].numpy().tobytes()) for row, size in zip(rows, sizes, strict=True)]

    def largest(self, number: int) -> int:
        """Return the largest of the ranks' numbers."""
        return int(max(self.gather_json(number)))

    def once(self, value: Tensor) -> Tensor:
        """Return a value that every rank computes in full, its gradient divided so that their sum counts it once."""
        if self.size == 1 or not value.requires_grad:
            return value
        same = value.view_as(value)
        same.register_hook(lambda gradient: gradient / self.size)  # type: ignore[no-untyped-call]
        return same

    def sum_gradients(self, parameters: Sequence[Tensor], learned: Sequence[Tensor] = ()) -> None:
        """Replace gradients by their sum over the ranks.

        Args:
            parameters: Whose gradient comes from this rank's slice.
            learned: Whose gradient every rank has in full, such as an objective's bias.
        """
        if self.size == 1:
            return
        for parameter in learned:
            if parameter.grad is not None:
                parameter.grad /= self.size
        bucket: list[Tensor] = []
        for parameter in (*parameters, *learned):
            other = bucket and (parameter.dtype, parameter.device) != (bucket[0].dtype, bucket[0].device)
            if other or sum(item.numel() for item in bucket) > BUCKET:
                _sum_bucket(bucket)
                bucket = []
            bucket.append(parameter)
        _sum_bucket(bucket)

    def agree(self, what: str, value: str) -> None:
        """Check that all ranks start from the same.

        Raises:
            InputError: they do not.
        """
        found = self.gather_json(value)
        if len(set(found)) > 1:
            listed = ", ".join(f"rank {rank}: {value}" for rank, value in enumerate(found))
            raise InputError(
                f"the ranks do not start from the same {what}: {listed}",
                allowed="the same data, model, run folder and packages for every rank",
            )

    def meet(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            self.gather_json(None)

    def first_does(self, work: Callable[[], T]) -> T | None:
        """Run something on the first rank while the others wait; there the result is None.

        Raises:
            InputError: on the others, if it failed on the first.
        """
        if not self.first:
            self._wait()
            return None
        holds = False
        try:
            result = work()
            holds = True
        finally:
            if self.size > 1:
                self.gather_json(holds)
        return result

    @contextmanager
    def leading(self, context: AbstractContextManager[Any]) -> Iterator[None]:
        """Hold a context on the first rank; the others go on once it is entered.

        Raises:
            InputError: on the others, if it could not be entered.
        """
        self.first_does(context.__enter__)
        try:
            yield
        finally:
            if self.first:
                context.__exit__(None, None, None)

    def _wait(self) -> None:
        if not self.gather_json(True)[0]:
            raise InputError(f"rank {self.rank} stops: the first rank could not go on; its message says why")


def _sum_bucket(bucket: Sequence[Tensor]) -> None:
    import torch
    import torch.distributed as dist

    if not bucket:
        return
    # one flag for each: a parameter without a gradient anywhere stays without, so that the optimiser leaves it alone
    flags = torch.tensor([p.grad is not None for p in bucket]).to(bucket[0])
    filled = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
    flat = torch.cat([*(gradient.reshape(-1) for gradient in filled), flags])
    dist.all_reduce(flat)
    parts = torch.split(flat, [*(p.numel() for p in bucket), len(bucket)])
    for parameter, summed, found in zip(bucket, parts, parts[-1].tolist(), strict=False):
        parameter.grad = summed.reshape(parameter.shape).clone() if found else None
