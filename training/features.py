"""What a batch becomes: features of its images, captions and chosen negatives, and who is a negative of whom."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from training import negative_scores
from training.false_negative_gate import StartedGate
from training.gradient_cache import Passes
from training.hard_negatives import Choice, Chooser
from training.labels import identities, label_texts, negative_types
from training.log import count_operations
from training.negative_scores import encode_and_look, encoder, in_one_pass, similarities, similarity_to, take_all
from training.objectives import Features, TextSlots, TokenFeatures

if TYPE_CHECKING:
    from torch import Tensor

    from training.batches.batch import Batch
    from training.model.clip_model import ClipModel
    from training.train_parts import TrainParts


@dataclass(frozen=True)
class Needs:
    """What objectives want to see besides images, captions and negatives.

    Attributes:
        names: Names in `objectives.contract.OPTIONAL`.
        teacher: The model before tuning, in eval mode; its frozen trunks are the tuned model's.
        cut_ratio: From the share of the run's steps that are done to the share of tokens that is cut off.
        gate: Finds pairs of the batch that are no negatives.
    """

    names: frozenset[str] = frozenset()
    teacher: ClipModel | None = None
    cut_ratio: Callable[[float], float] | None = None
    gate: StartedGate | None = None

    @classmethod
    def of(cls, parts: TrainParts, teacher: Callable[[], ClipModel], statistics: Mapping[str, Any]) -> Needs:
        """Return what a recipe's objectives need; `teacher` is called if they need one.

        Raises:
            InputError: the gate wants thresholds that the version's statistics do not hold.
        """
        ratios = [objective.cut_ratio for objective in parts.objectives if hasattr(objective, "cut_ratio")]
        taught = parts.needs & {"teacher_image", "teacher_text"} or (parts.gate is not None and parts.gate.teacher)
        gate = None if parts.gate is None else parts.gate.start(statistics)
        return cls(parts.needs, teacher() if taught else None, ratios[0] if ratios else None, gate)

    def cacheable(self, side: str) -> bool:
        """Say whether a frozen trunk's pooled activations are enough."""
        return "tokens" not in self.names and not (side == "text" and "cut_text" in self.names)


def make_features(
    model: ClipModel,
    batch: Batch,
    chooser: Chooser | None,
    progress: float,
    *,
    ignore_equal_captions: bool = True,
    needs: Needs | None = None,
    passes: Passes | None = None,
) -> tuple[Features, dict[str, Any], Choice | None]:
    """Encode a batch with the negatives chosen for it.

    Args:
        model: In train mode.
        batch: From `PlannedBatches`.
        chooser: Chooses among the batch's candidates; None trains without negatives.
        progress: Share of the run's steps that are done, 0 to below 1.
        ignore_equal_captions: See `TrainConfig`.
        needs: What objectives want to see besides.
        passes: How inputs go through the towers; None takes all at once. Whoever gives it calls its `backward`.

    Returns:
        The features, what the log says of the negatives (empty without), and which were chosen.
    """
    needs, passes = needs or Needs(), passes or Passes()
    made = _Encoded.of(model, batch, passes, places="tokens" in needs.names)
    choice: Choice | None = None
    stats: dict[str, Any] = {}
    cut = needs.cut_ratio(progress) if needs.cut_ratio else None
    if chooser is not None and batch.negative_mask is not None:
        choice, text = made.choose(chooser, progress, cut)
        stats = {"count": int(choice.mask.sum()), **choice.stats}
        stats["operation"] = count_operations(batch.texts.records, choice)
    else:
        text = made.encode_texts(None, cut)
    labels = label_texts(batch, choice).to(made.image.device) if ignore_equal_captions else None
    more: dict[str, Any] = {}
    if choice is not None:
        more = {"negatives": text.negatives, "negative_mask": choice.mask, "negative_weight": choice.weight}
        if "negative_type" in needs.names:
            more["negative_type"] = negative_types(batch, choice)
    if "identity" in needs.names:
        more["identity"] = identities(batch).to(made.image.device)
    if needs.teacher is not None:
        more |= _teach(needs.teacher, batch, passes)
    if needs.gate is not None:
        image = more["teacher_image"] if needs.teacher else made.image
        labels = needs.gate.labels(image, more["teacher_text"] if needs.teacher else text.captions, labels)
    features = Features(
        made.image,
        text.captions,
        logit_scale(model),
        labels=labels,
        positives=text.positives,
        cut_text=text.cut,
        tokens=text.tokens,
        **more,
    )
    return features, stats, choice


@dataclass(frozen=True)
class _Texts:
    """The features of a batch's texts."""

    captions: Tensor
    negatives: Tensor | None
    positives: TextSlots | None
    cut: Tensor | None
    tokens: TokenFeatures | None
    seen: tuple[Tensor, Tensor] | None = None
    """Captions and negatives as a choice sees them, without dropout."""

    def chosen(self, choice: Choice) -> _Texts:
        """Return these texts with some of the negatives."""
        import torch

        assert self.negatives is not None
        at = torch.arange(len(choice.index), device=choice.index.device)[:, None]
        tokens = self.tokens
        if tokens is not None and tokens.negatives is not None and tokens.negatives_mask is not None:
            stand = tokens.negatives_mask[at, choice.index] & choice.mask[..., None]
            tokens = replace(tokens, negatives=tokens.negatives[at, choice.index], negatives_mask=stand)
        return replace(self, negatives=self.negatives[at, choice.index], tokens=tokens)


@dataclass(frozen=True)
class _Encoded:
    """A batch on its way: images are encoded, texts wait for the choice of negatives."""

    model: ClipModel
    batch: Batch
    passes: Passes
    image: Tensor
    patches: Tensor | None

    @classmethod
    def of(cls, model: ClipModel, batch: Batch, passes: Passes, *, places: bool) -> _Encoded:
        """Encode the images; with `places` also their patches."""
        if not places:
            (image,) = passes.run(encoder(model, "image", batch.image_cached), batch.image)
            return cls(model, batch, passes, image, None)
        from training.model.token_features import encode_image_places

        return cls(model, batch, passes, *passes.run(partial(encode_image_places, model), batch.image))

    def choose(self, chooser: Chooser, progress: float, cut: float | None) -> tuple[Choice, _Texts]:
        """Choose negatives and encode the texts."""
        batch = self.batch
        assert batch.negative_mask is not None
        text: _Texts | None = None
        if in_one_pass(self.model, batch, chooser, places=self.patches is not None):
            text = self.encode_texts(take_all(batch.negative_mask), cut, look=True)
            assert text.seen is not None
            given = similarity_to(self.image, *text.seen)
        else:
            given = similarities(self.model, batch, chooser, self.image.detach(), self.passes)
        choice = chooser.select(*given, batch.negative_mask, logit_scale(self.model).item(), progress)
        return choice, self.encode_texts(choice, cut) if text is None else text.chosen(choice)

    def encode_texts(self, choice: Choice | None, cut: float | None, *, look: bool = False) -> _Texts:
        """Encode captions, chosen negatives, further texts and cut captions in one pass, to `look` at them if asked."""
        import torch

        batch, size = self.batch, len(self.image)
        rows, masks = [batch.text], []
        if choice is not None and batch.negatives is not None:
            at = torch.arange(size, device=choice.index.device)[:, None]
            rows.append(batch.negatives[at, choice.index][choice.mask])
            masks.append(choice.mask)
        if batch.positives is not None and batch.positive_mask is not None:
            rows.append(batch.positives[batch.positive_mask])
            masks.append(batch.positive_mask)
        if cut is not None:
            from training.model.token_features import cut_tokens

            rows.append(cut_tokens(self.model, batch.text, cut))
        tokens: list[Tensor] = []
        bare: Tensor | None = None
        if self.patches is None and look and negative_scores.head_drops(self.model):
            encode = partial(encode_and_look, self.model, cached=batch.text_cached)
            encoded, bare = self.passes.run(encode, torch.cat(rows))
        elif self.patches is None:
            (encoded,) = self.passes.run(encoder(self.model, "text", batch.text_cached), torch.cat(rows))
        else:
            from training.model.token_features import encode_text_places

            encoded, *tokens = self.passes.run(partial(encode_text_places, self.model), torch.cat(rows))
        parts = torch.split(encoded, [len(part) for part in rows])
        slots = [in_slots(part, mask) for part, mask in zip(parts[1:], masks, strict=False)]
        negatives = slots.pop(0) if choice is not None and batch.negatives is not None else None
        positives = TextSlots(slots[0], batch.positive_mask) if slots and batch.positive_mask is not None else None
        places = None
        if self.patches is not None:
            mask = None if choice is None else choice.mask
            places = _token_features(self.patches, tokens[0], tokens[1], size, mask)
        seen = (parts[0], negatives) if look and negatives is not None else None
        if seen and bare is not None and choice is not None:
            seen = bare[:size], in_slots(bare[size : size + len(parts[1])], choice.mask)
        return _Texts(parts[0], negatives, positives, parts[-1] if cut is not None else None, places, seen)


def _token_features(patches: Tensor, tokens: Tensor, inside: Tensor, size: int, mask: Tensor | None) -> TokenFeatures:
    if mask is None:
        return TokenFeatures(patches, tokens[:size], inside[:size])
    end = size + int(mask.sum())
    negatives, stand = in_slots(tokens[size:end], mask), in_slots(inside[size:end], mask)
    return TokenFeatures(patches, tokens[:size], inside[:size], negatives, stand)


def in_slots(values: Tensor, mask: Tensor) -> Tensor:
    """Return values [n, ...] in the filled slots of `mask` [B, K] as [B, K, ...], zeros elsewhere; keeps gradients."""
    filled = mask.flatten().nonzero()[:, 0]
    flat = values.new_zeros(mask.numel(), *values.shape[1:]).index_copy(0, filled, values)
    return flat.reshape(*mask.shape, *values.shape[1:])


def _teach(teacher: ClipModel, batch: Batch, passes: Passes) -> dict[str, Tensor]:
    """Return what the model before tuning makes of the batch; cached activations are its own, for they are frozen."""
    import torch

    with torch.no_grad():
        (image,) = passes.run(encoder(teacher, "image", batch.image_cached), batch.image)
        (text,) = passes.run(encoder(teacher, "text", batch.text_cached), batch.text)
    return {"teacher_image": image, "teacher_text": text}


def logit_scale(model: ClipModel) -> Tensor:
    """Return the factor from similarities to logits."""
    return cast("Tensor", model.module.logit_scale).exp()


def clamp_logit_scale(model: ClipModel, largest: float) -> None:
    """Keep the factor from similarities to logits between 1 and `largest`."""
    import torch

    with torch.no_grad():
        cast("Tensor", model.module.logit_scale).clamp_(0.0, math.log(largest))
