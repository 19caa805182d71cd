"""From one rank's part of a step to the whole: features, texts, labels and choices of all ranks."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from data_manifests.errors import InputError
from training.batches.batch import StepTexts
from training.distributed import Ranks
from training.hard_negatives import Choice, Chooser
from training.labels import label_texts
from training.log import count_operations
from training.objectives import TextSlots, TokenFeatures

if TYPE_CHECKING:
    from torch import Tensor

    from training.batches.batch import Batch
    from training.false_negative_gate import StartedGate
    from training.model.clip_model import ClipModel
    from training.objectives import Features

Step = tuple["Features", dict[str, Any], Choice | None]
"""What `make_features` returns."""

_BY_SAMPLE = ("image", "text", "negatives", "negative_mask", "negative_weight", "negative_type", "teacher_image",
              "teacher_text", "cut_text", "groups", "identity")  # fmt: skip
_BY_RANK = ("logit_scale", "prompts")


def whole_batch(ranks: Ranks, batch: Batch, step: Step, gate: StartedGate | None = None) -> tuple[Batch, Step]:
    """Return the texts and features of the whole batch, the same on every rank.

    Args:
        ranks: Who trains together; a single one gets back what it gave.
        batch: This rank's part.
        step: What `make_features` made of it.
        gate: Finds pairs of the whole batch that are no negatives.

    Returns:
        The batch with everybody's texts (its tensors stay this rank's), and features, log and choice of all.
    """
    if ranks.size == 1:
        return batch, step
    features, stats, choice = step
    batch = replace(batch, texts=_texts(ranks, batch.texts))
    more: dict[str, Any] = {
        name: ranks.gather(value) for name in _BY_SAMPLE if (value := getattr(features, name)) is not None
    }
    more |= {name: ranks.once(value) for name in _BY_RANK if (value := getattr(features, name)) is not None}
    if features.positives is not None:
        more["positives"] = TextSlots(
            *(ranks.gather(x) for x in (features.positives.features, features.positives.mask))
        )
    if features.tokens is not None:
        more["tokens"] = _tokens(ranks, features.tokens)
    if features.triplets is not None:
        triplets = features.triplets
        more["triplets"] = replace(triplets, query=ranks.once(triplets.query), tail=ranks.once(triplets.tail))
    if choice is not None:
        gated = None if choice.gated is None else ranks.gather(choice.gated)
        choice = replace(
            choice,
            index=ranks.gather(choice.index),
            mask=ranks.gather(choice.mask),
            weight=ranks.gather(choice.weight),
            gated=gated,
        )
        counts = count_operations(batch.texts.records, choice)
        stats = stats | {"count": int(choice.mask.sum()), "operation": counts}
    labels = None if features.labels is None else label_texts(batch, choice).to(features.labels.device)
    features = replace(features, labels=labels, **more)
    if gate is not None:
        seen = features.image if features.teacher_image is None else features.teacher_image
        told = features.text if features.teacher_text is None else features.teacher_text
        features = replace(features, labels=gate.labels(seen, told, labels))
    return batch, (features, stats, choice)


def _texts(ranks: Ranks, own: StepTexts) -> StepTexts:
    parts = ranks.gather_json(asdict(own))
    uids, captions = (tuple(item for part in parts for item in part[name]) for name in ("uids", "captions"))
    records, positives = ([item for part in parts for item in part[name]] for name in ("records", "positives"))
    return StepTexts(uids, captions, records, positives)


def _tokens(ranks: Ranks, own: TokenFeatures) -> TokenFeatures:
    """Gather what stands at the places; texts are as long as the longest of any rank's."""
    import torch

    length = ranks.largest(own.text.shape[1])

    def grown(value: Tensor | None, axis: int) -> Tensor | None:
        if value is None:
            return None
        shape = list(value.shape)
        shape[axis] = length - shape[axis]
        return ranks.gather(torch.cat([value, value.new_zeros(shape)], dim=axis))

    text, mask = cast("Tensor", grown(own.text, 1)), cast("Tensor", grown(own.text_mask, 1))
    negatives, negatives_mask = grown(own.negatives, 2), grown(own.negatives_mask, 2)
    return TokenFeatures(ranks.gather(own.image), text, mask, negatives, negatives_mask, grown(own.phrases, 2))


class GatheredChooser:
    """A choice of negatives that sees the candidates of all ranks, so that what it learns is the same on each.

    Args:
        chooser: Chooses for the whole batch.
        ranks: Who trains together.
    """

    def __init__(self, chooser: Chooser, ranks: Ranks) -> None:
        self._chooser, self._ranks = chooser, ranks
        self.adaptive = chooser.adaptive

    @classmethod
    def around(cls, chooser: Chooser, ranks: Ranks) -> Chooser:
        """Return the chooser, made to see all ranks if there are several."""
        return chooser if ranks.size == 1 else cast("Chooser", cls(chooser, ranks))

    def select(self, positive: Tensor, similarity: Tensor, mask: Tensor, logit_scale: float, progress: float) -> Choice:
        """Choose for the whole batch, and return this rank's part."""
        gather = self._ranks.gather
        whole = self._chooser.select(gather(positive), gather(similarity), gather(mask), logit_scale, progress)
        own = slice(self._ranks.rank * len(mask), (self._ranks.rank + 1) * len(mask))
        gated = None if whole.gated is None else whole.gated[own]
        return Choice(whole.index[own], whole.mask[own], whole.weight[own], whole.stats, gated)

    def state_dict(self) -> dict[str, float]:
        """Return what the inner one learned."""
        return self._chooser.state_dict()

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from what `state_dict` returned."""
        self._chooser.load_state_dict(state)


def check_batch_statistics(model: ClipModel, ranks: Ranks) -> None:
    """Check that no feature depends on who else is in a rank's slice.

    Raises:
        InputError: batch normalisation is trained on several ranks.
    """
    from torch import nn

    if ranks.size == 1:
        return
    for name, module in model.module.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and any(p.requires_grad for p in module.parameters()):  # noqa: SLF001 - the only name that all kinds share
            raise InputError(
                f"{name}: batch normalisation is trained on {ranks.size} ranks: each would use its own slice's statistics",
                allowed="one rank, or batch normalisation that stays frozen",
                fix="--tune lora or --tune projection",
            )
