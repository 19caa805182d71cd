"""Several processes train one model on one global batch, started by torchrun; a single process never comes here.

Every rank encodes its slice of the batch, features are gathered (own slice with its graph), and each rank computes the
loss of the global batch. Its gradient is then that of its own slice, and the sum over ranks is the gradient of one
process, whatever the objective. Nothing is pickled: texts are sent as JSON.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import orjson

from data_manifests.errors import InputError
from training.batches.batch import StepTexts
from training.batches.plan import BatchPlan
from training.features import Features, TextSlots, TokenFeatures
from training.hard_negatives import CandidateCosines, NegativeChoice, NegativeChooser
from training.pairs import PairFeatures
from training.phrases import PhraseFoils

if TYPE_CHECKING:
    from torch import Tensor

    from training.batches.batch import Batch

T = TypeVar("T")

BUCKET_NUMEL = 1 << 24
"""Gradients are summed so many numbers at a time."""

TIMEOUT = timedelta(hours=6)
"""How long a rank waits for another: rank 0 may be filling caches."""

_BY_SAMPLE = ("image", "text", "negatives", "negative_mask", "negative_weight", "negative_type", "teacher_image",
              "teacher_text", "cut_text", "groups", "identity")  # fmt: skip
_BY_RANK = ("logit_scale", "prompts")
_OF_FACTS = ("query", "pair", "entity", "relation_text")


@dataclass(frozen=True)
class Ranks:
    """The processes that train together.

    Attributes:
        rank: Number of this one, from 0; rank 0 writes all files.
        size: How many there are (the world size).
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Ranks:
        """Return the ranks that torchrun started, or a single one; the process group lasts until the process ends."""
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
        dist.init_process_group(backend, timeout=TIMEOUT)
        # torchrun's rendezvous serves one group for each process: a second one would wait for ever
        atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes."""
        return self.rank == 0

    def batch_slice(self, batch_size: int) -> slice:
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

    def own_slice(self, plan: BatchPlan) -> BatchPlan:
        """Return the plan of this rank's slice of each batch."""
        batch = plan.rows.shape[1]
        part = self.batch_slice(batch)
        if self.size == 1:
            return plan
        first = range(0, len(plan.uids), batch)
        uids = tuple(uid for at in first for uid in plan.uids[at + part.start : at + part.stop])
        return BatchPlan(plan.rows[:, part], plan.caption[:, part], plan.epoch, uids)

    def gather(self, own: Tensor) -> Tensor:
        """Return the tensors of all ranks, one after the other along the first axis; own values keep their graph.

        Every rank's has the same shape.
        """
        import torch
        import torch.distributed as dist

        if self.size == 1:
            return own
        # nccl knows no booleans
        sent = own.detach().contiguous().to(torch.uint8 if own.dtype == torch.bool else own.dtype)
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

    def count_once(self, value: Tensor) -> Tensor:
        """Return a value that every rank computes in full, with its gradient divided so that the sum counts it once."""
        if not value.requires_grad:
            return value
        same = value.view_as(value)
        same.register_hook(lambda gradient: gradient / self.size)  # type: ignore[no-untyped-call]
        return same

    def sum_gradients(self, parameters: Sequence[Tensor], learned: Sequence[Tensor] = ()) -> None:
        """Replace gradients by their sum over the ranks.

        Args:
            parameters: Those whose gradient comes from this rank's slice.
            learned: Those whose gradient every rank has in full, such as an objective's bias.
        """
        for parameter in learned:
            if parameter.grad is not None:
                parameter.grad /= self.size
        bucket: list[Tensor] = []
        for parameter in (*parameters, *learned):
            other = bucket and (parameter.dtype, parameter.device) != (bucket[0].dtype, bucket[0].device)
            if other or sum(item.numel() for item in bucket) > BUCKET_NUMEL:
                _sum_bucket(bucket)
                bucket = []
            bucket.append(parameter)
        _sum_bucket(bucket)

    def check_equal(self, what: str, value: str) -> None:
        """Check that all ranks have the same value.

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

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        if self.size > 1:
            self.gather_json(None)

    def on_rank_zero(self, work: Callable[[], T]) -> T | None:
        """Run something on rank 0 while the others wait; there the result is None.

        Raises:
            InputError: on the others, if it failed on rank 0.
        """
        if not self.first:
            if not self.gather_json(True)[0]:
                raise InputError(f"rank {self.rank} stops: rank 0 failed", fix="read the message of rank 0")
            return None
        succeeded = False
        try:
            result = work()
            succeeded = True
        finally:
            if self.size > 1:
                self.gather_json(succeeded)
        return result

    @contextmanager
    def context_on_rank_zero(self, context: AbstractContextManager[Any]) -> Iterator[None]:
        """Enter a context on rank 0 alone; the others continue once it is entered.

        Raises:
            InputError: on the others, if it could not be entered.
        """
        self.on_rank_zero(context.__enter__)
        with ExitStack() as entered:
            if self.first:
                entered.push(context)
            yield


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


def share_facts(ranks: Ranks, batch: Batch) -> Batch:
    """Return this rank's slice with the facts of the global batch, which every rank encodes in full."""
    facts = [rules for part in ranks.gather_json(batch.texts.facts) for rules in part]
    return replace(batch, texts=replace(batch.texts, facts=facts))


def gather_step(
    ranks: Ranks, batch: Batch, features: Features, choice: NegativeChoice | None
) -> tuple[Batch, Features, NegativeChoice | None]:
    """Return texts, features and choice of the global batch, the same on every rank.

    Args:
        ranks: Who trains together.
        batch: This rank's slice; its tensors stay as they are.
        features: Of the slice, without labels.
        choice: The negatives chosen for the slice.
    """
    more: dict[str, Any] = {
        name: ranks.gather(value) for name in _BY_SAMPLE if (value := getattr(features, name)) is not None
    }
    more |= {name: ranks.count_once(value) for name in _BY_RANK if (value := getattr(features, name)) is not None}
    if features.positives is not None:
        more["positives"] = TextSlots(ranks.gather(features.positives.features), ranks.gather(features.positives.mask))
    if features.tokens is not None:
        more["tokens"] = _gather_tokens(ranks, features.tokens)
    if features.phrases is not None:
        more["phrases"] = PhraseFoils(**{name: ranks.gather(value) for name, value in vars(features.phrases).items()})
    if features.pairs is not None:
        more["pairs"] = PairFeatures(**{name: ranks.gather(value) for name, value in vars(features.pairs).items()})
    if features.triplets is not None:
        texts = {name: ranks.count_once(getattr(features.triplets, name)) for name in _OF_FACTS}
        more["triplets"] = replace(features.triplets, **texts)
    if choice is not None:
        index, mask, weight = (ranks.gather(value) for value in (choice.index, choice.mask, choice.weight))
        gated = None if choice.gated is None else ranks.gather(choice.gated)
        choice = NegativeChoice(index, mask, weight, choice.stats, gated)
    return replace(batch, texts=_gather_texts(ranks, batch.texts)), replace(features, **more), choice


def _gather_texts(ranks: Ranks, own: StepTexts) -> StepTexts:
    """Join the texts of all ranks; what has been encoded already and nobody reads any more stays as it is."""
    parts = ranks.gather_json(asdict(replace(own, facts=[], phrases=[], pairs=[])))
    joined: dict[str, Any] = {name: [item for part in parts for item in part[name]] for name in parts[0]}
    joined |= {"facts": own.facts, "phrases": own.phrases, "pairs": own.pairs}
    tuples = ("uids", "captions", "caption_ids", "equal_negatives", "equal_views", "tags")
    return StepTexts(**joined | {name: tuple(joined[name]) for name in tuples})


def _gather_tokens(ranks: Ranks, own: TokenFeatures) -> TokenFeatures:
    """Gather features by patch and token; texts become as long as the longest of any rank."""
    import torch

    length = max(ranks.gather_json(own.text.shape[1]))

    def gather_padded(value: Tensor | None, axis: int) -> Tensor | None:
        if value is None:
            return None
        shape = list(value.shape)
        shape[axis] = length - shape[axis]
        return ranks.gather(torch.cat([value, value.new_zeros(shape)], dim=axis))

    text, mask = cast("Tensor", gather_padded(own.text, 1)), cast("Tensor", gather_padded(own.text_mask, 1))
    negatives = gather_padded(own.negatives, 2), gather_padded(own.negatives_mask, 2)
    return TokenFeatures(ranks.gather(own.image), text, mask, *negatives)


class GatheredChooser:
    """Chooses negatives among the candidates of all ranks, so that what it learns is the same on each.

    Args:
        chooser: Chooses for the global batch.
        ranks: Who trains together.
    """

    def __init__(self, chooser: NegativeChooser, ranks: Ranks) -> None:
        self._chooser, self._ranks = chooser, ranks
        self.choose = 0
        """Keeps the choice out of the pass with gradients."""

    def select(self, candidates: CandidateCosines, progress: float) -> NegativeChoice:
        """Choose for the global batch, and return this rank's part."""
        names = ("positive", "similarity", "text_similarity", "mask")
        whole = {name: self._ranks.gather(getattr(candidates, name)) for name in names}
        every = self._chooser.select(replace(candidates, **whole), progress)
        size = len(candidates.mask)
        own = slice(self._ranks.rank * size, (self._ranks.rank + 1) * size)
        gated = None if every.gated is None else every.gated[own]
        return NegativeChoice(every.index[own], every.mask[own], every.weight[own], every.stats, gated)

    def state_dict(self) -> dict[str, float]:
        """Return the state of the inner chooser."""
        return self._chooser.state_dict()

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore what `state_dict` returned."""
        self._chooser.load_state_dict(state)
