"""Features: what the model computes of a batch, with the negatives chosen for it, and what objectives look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from training.facts import Triplets, distinct_facts, encode_facts
from training.false_negative_gate import StartedGate
from training.groups import group_numbers
from training.hard_negatives import (
    NegativeChoice,
    NegativeChooser,
    candidate_similarities,
    chosen_candidates,
    fits_one_pass,
    in_slots,
    similarities,
    take_all,
)
from training.pairs import PairFeatures, encode_pairs
from training.phrases import PhraseFoils, encode_phrases

if TYPE_CHECKING:
    from torch import Tensor

    from training.batches.batch import Batch, StepTexts
    from training.model.clip_model import ClipModel, StepEncoder

NEGATIVE_TYPES = ("object", "attribute", "relation", "action", "number", "negation", "order")
"""What a negative got wrong, by the number that `Features.negative_type` holds."""


@dataclass(frozen=True)
class TextSlots:
    """Some texts of each sample. B samples, P slots each.

    Attributes:
        features: Unit norm [B, P, d]; an empty slot's values are never used.
        mask: True where a slot is filled, bool [B, P].
        shared: True where the model reads in a slot what it reads in a text of the image in the row, bool [B, B*P]; None
            where nobody looked.
    """

    features: Tensor
    mask: Tensor
    shared: Tensor | None = None


@dataclass(frozen=True)
class TokenFeatures:
    """The towers' outputs by patch and by token, projected and unit norm. N patches, L token positions.

    Attributes:
        image: Patches [B, N, d].
        text: Tokens of the captions [B, L, d].
        text_mask: True at tokens of the text (no padding, no start or end mark), bool [B, L].
        negatives: Tokens of the negatives [B, K, L, d], or None.
        negatives_mask: The same for them, bool [B, K, L]; all False in an empty slot.
    """

    image: Tensor
    text: Tensor
    text_mask: Tensor
    negatives: Tensor | None = None
    negatives_mask: Tensor | None = None


@dataclass(frozen=True)
class Features:
    """The features of a batch. B samples, K negative slots each, d dimensions.

    All but the first three cost something to make and are there only if an objective needs them.

    Attributes:
        image: Unit-norm image features [B, d].
        text: Unit-norm features of the captions [B, d].
        logit_scale: exp of the learned scale, a scalar; similarities times it are logits.
        negatives: Unit-norm features of the negatives [B, K, d], or None.
        negative_mask: True where a slot holds a negative, bool [B, K]; other slots' values are never used.
        negative_weight: How many times each negative counts in a denominator, above 0 [B, K]; None means once.
        labels: +1 positive, -1 negative, 0 left out, for each image (row) and text (column): [B, B] or, with the
            negatives as further columns in the order of `negatives` flattened, [B, B + B*K]. None means that the
            diagonal is positive and all else negative. Every row and every caption's column needs a positive.
        negative_type: Number in `NEGATIVE_TYPES` of each negative, int64 [B, K]; -1 where unknown or empty.
        positives: Further texts that are true of each image: other captions, rewrites, knowledge captions.
        tokens: Outputs by patch and token.
        teacher_image: Unit-norm image features of the model before tuning [B, d].
        teacher_text: The same for the captions [B, d].
        cut_text: Unit-norm features of the captions with a run of their tokens cut off [B, d].
        groups: Which group each sample belongs to, by attribute, int64 [B, A]; -1 where unknown.
        prompts: Unit-norm features of an objective's prompts [C, d].
        triplets: Facts.
        phrases: Parts of the captions, each with a foil.
        pairs: Samples joined two by two.
        identity: A number for each photograph and one for each caption's tokens, int64 [B, 2]; the same in every run.
        gate: Finds pairs that are no negatives, for objectives with texts and images from outside the batch.
    """

    image: Tensor
    text: Tensor
    logit_scale: Tensor
    negatives: Tensor | None = None
    negative_mask: Tensor | None = None
    negative_weight: Tensor | None = None
    labels: Tensor | None = None
    negative_type: Tensor | None = None
    positives: TextSlots | None = None
    tokens: TokenFeatures | None = None
    teacher_image: Tensor | None = None
    teacher_text: Tensor | None = None
    cut_text: Tensor | None = None
    groups: Tensor | None = None
    prompts: Tensor | None = None
    triplets: Triplets | None = None
    phrases: PhraseFoils | None = None
    pairs: PairFeatures | None = None
    identity: Tensor | None = None
    gate: StartedGate | None = None

    def __post_init__(self) -> None:
        """Check that the shapes belong together.

        Raises:
            ValueError: they do not.
        """
        batch, width = self.image.shape
        slots = 0 if self.negatives is None else self.negatives.shape[1]
        expected: dict[str, list[tuple[int, ...]]] = {
            "text": [(batch, width)],
            "negatives": [(batch, slots, width)],
            "negative_mask": [(batch, slots)],
            "negative_weight": [(batch, slots)],
            "negative_type": [(batch, slots)],
            "labels": [(batch, batch), (batch, batch + batch * slots)],
            "teacher_image": [(batch, self.teacher_image.shape[-1] if self.teacher_image is not None else 0)],
            "teacher_text": [(batch, self.teacher_text.shape[-1] if self.teacher_text is not None else 0)],
            "cut_text": [(batch, width)],
            "identity": [(batch, 2)],
        }
        for name, shapes in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) not in shapes:
                raise ValueError(f"features.{name} has shape {tuple(value.shape)}, expected {shapes}")
        if (self.negatives is None) != (self.negative_mask is None):
            raise ValueError("features.negatives and features.negative_mask come together")
        if self.positives is not None and self.positives.features.shape[:2] != self.positives.mask.shape:
            raise ValueError(f"features.positives: mask {tuple(self.positives.mask.shape)} for other slots")

    def require(self, name: str) -> Any:
        """Return a feature that an objective declares in `needs`.

        Raises:
            ValueError: it is None: the features were made without it.
        """
        if (value := getattr(self, name)) is None:
            raise ValueError(f"the objective needs features.{name}, which is None")
        return value

    def judged(self) -> tuple[Tensor, Tensor]:
        """Return the images and texts that a gate looks at, each [B, d]: of the model before tuning where they are made."""
        image = self.image if self.teacher_image is None else self.teacher_image
        return image, self.text if self.teacher_text is None else self.teacher_text

    def pair_labels(self) -> Tensor:
        """Return the labels of all images and texts, int8 [B, B + B*K]: the default where `labels` says nothing."""
        import torch

        size = len(self.image)
        slots = 0 if self.negatives is None else self.negatives.shape[1]
        labels = self.labels
        if labels is None:
            labels = 2 * torch.eye(size, dtype=torch.int8, device=self.image.device) - 1
        if labels.shape[1] < size + size * slots:
            labels = torch.cat([labels, labels.new_full((size, size * slots), -1)], dim=1)
        return labels

    def further_labels(self) -> Tensor:
        """Return the labels of all images and further texts, int8 [B, B*P]; 0 for empty slots.

        A text has the label of its sample's caption: what is true of another image by its caption is no negative of it by
        a rewrite. One that the model reads in a text of that image, too, is no negative either.
        """
        positives: TextSlots = self.require("positives")
        size, slots = positives.mask.shape
        labels = self.pair_labels()[:, :size].repeat_interleave(slots, dim=1)
        if positives.shared is not None:
            labels = labels.masked_fill(positives.shared & (labels == -1), 0)
        return labels.masked_fill(~positives.mask.flatten(), 0)

    def own_negatives(self) -> Tensor:
        """Return which of each sample's own slots hold a negative that labels do not leave out, bool [B, K].

        Raises:
            ValueError: there are no negatives at all.
        """
        import torch

        mask: Tensor = self.require("negative_mask")
        size, slots = mask.shape
        each = torch.arange(size, device=self.image.device)
        own = self.pair_labels()[:, size:].reshape(size, size, slots)[each, each]
        return mask & (own == -1)


@dataclass(frozen=True)
class FeatureNeeds:
    """What the objectives of a run need besides images, captions and negatives.

    Attributes:
        names: Fields of `Features`.
        teacher: The model before tuning, in eval mode; its frozen prefixes are the tuned model's.
        cut_ratio: From the share of the run's steps that are done to the share of tokens that is cut off.
        gate: Finds pairs of the batch that are no negatives.
        groups: Attributes that samples are grouped by; see `training.groups.group_of`.
        prompts: Texts whose features objectives look at.
        num_phrases: Most parts of a caption, drawn anew at each step.
    """

    names: frozenset[str] = frozenset()
    teacher: ClipModel | None = None
    cut_ratio: Callable[[float], float] | None = None
    gate: StartedGate | None = None
    groups: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    num_phrases: int = 0

    def cacheable(self, side: str) -> bool:
        """Return whether the activations at the end of a frozen prefix are enough."""
        return "tokens" not in self.names and not (side == "text" and "cut_text" in self.names)


def make_features(
    encoder: StepEncoder,
    batch: Batch,
    chooser: NegativeChooser | None,
    progress: float,
    needs: FeatureNeeds | None = None,
) -> tuple[Features, NegativeChoice | None]:
    """Encode a batch with the negatives chosen for it; `with_labels` comes next.

    Args:
        encoder: Its model is in train mode. The caller runs its `backward`.
        batch: From `PlannedBatches`.
        chooser: Chooses among the batch's candidates; None takes all.
        progress: Share of the run's steps that are done, 0 to below 1.
        needs: What objectives need besides.

    Returns:
        The features, and which negatives were chosen.
    """
    import torch

    needs, model = needs or FeatureNeeds(), encoder.model
    patches: Tensor | None = None
    if "tokens" in needs.names:
        from training.model.token_features import encode_patches

        image, patches = encoder.run(partial(encode_patches, model), batch.image)
    else:
        image = encoder.encode_image(batch.image, cached=batch.image_cached)
    encode = partial(_encode_texts, encoder, batch, patches, needs.cut_ratio(progress) if needs.cut_ratio else None)
    choice: NegativeChoice | None = None
    more: dict[str, Any] = {}
    if batch.negatives is None or batch.negative_mask is None:
        text = encode(None)
    elif chooser is None:
        choice = take_all(batch.negative_mask)
        text = encode(choice)
    else:
        one_pass = fits_one_pass(model, batch.negative_mask, chooser, tokens=patches is not None)
        if one_pass:
            text = encode(take_all(batch.negative_mask), without_dropout=True)
            assert text.without_dropout is not None
            similarity = similarities(image, *text.without_dropout, batch.negative_mask, model.logit_scale)
        else:
            texts = torch.cat([batch.text, batch.negatives[batch.negative_mask]])
            similarity = candidate_similarities(encoder, image, texts, batch.negative_mask, cached=batch.text_cached)
        choice = chooser.select(similarity, progress)
        text = text.chosen(choice) if one_pass else encode(choice)
    if choice is not None:
        more = {"negatives": text.negatives, "negative_mask": choice.mask, "negative_weight": choice.weight}
        if "negative_type" in needs.names:
            more["negative_type"] = negative_types(batch, choice)
    more |= _more_features(encoder, batch, needs)
    features = Features(
        image, text.captions, model.logit_scale, positives=text.positives, cut_text=text.cut, tokens=text.tokens, **more
    )
    return features, choice


def with_labels(
    features: Features,
    batch: Batch,
    choice: NegativeChoice | None,
    gate: StartedGate | None,
    *,
    ignore_equal_captions: bool,
) -> Features:
    """Return the features of a whole batch with labels: texts equal to a caption, and the gate's pairs, are no negatives."""
    labels = label_texts(batch, choice).to(features.image.device) if ignore_equal_captions else None
    positives = features.positives
    if positives is not None and ignore_equal_captions:
        positives = replace(positives, shared=shared_texts(batch.texts, positives.mask))
    if gate is not None:
        labels = gate.labels(*features.judged(), labels)
    return replace(features, labels=labels, positives=positives, gate=gate)


@dataclass(frozen=True)
class _TextFeatures:
    """The features of a batch's texts; `without_dropout` are captions and negatives as a choice sees them."""

    captions: Tensor
    negatives: Tensor | None
    positives: TextSlots | None
    cut: Tensor | None
    tokens: TokenFeatures | None
    without_dropout: tuple[Tensor, Tensor] | None

    def chosen(self, choice: NegativeChoice) -> _TextFeatures:
        """Return these texts with some of the negatives."""
        import torch

        assert self.negatives is not None
        each = torch.arange(len(choice.index), device=choice.index.device)[:, None]
        tokens = self.tokens
        if tokens is not None and tokens.negatives is not None and tokens.negatives_mask is not None:
            mask = tokens.negatives_mask[each, choice.index] & choice.mask[..., None]
            tokens = replace(tokens, negatives=tokens.negatives[each, choice.index], negatives_mask=mask)
        return replace(self, negatives=self.negatives[each, choice.index], tokens=tokens)


def _encode_texts(
    encoder: StepEncoder,
    batch: Batch,
    patches: Tensor | None,
    cut_ratio: float | None,
    choice: NegativeChoice | None,
    *,
    without_dropout: bool = False,
) -> _TextFeatures:
    """Encode captions, chosen negatives, further texts and cut captions in one pass."""
    import torch

    model, size = encoder.model, len(batch.text)
    rows, masks = [batch.text], []
    if choice is not None and batch.negatives is not None:
        each = torch.arange(size, device=choice.index.device)[:, None]
        rows.append(batch.negatives[each, choice.index][choice.mask])
        masks.append(choice.mask)
    if batch.positives is not None and batch.positive_mask is not None:
        rows.append(batch.positives[batch.positive_mask])
        masks.append(batch.positive_mask)
    if cut_ratio is not None:
        from training.model.token_features import cut_tokens

        rows.append(cut_tokens(model, batch.text, cut_ratio))
    tokens: TokenFeatures | None = None
    plain: Tensor | None = None
    if patches is not None:
        from training.model.token_features import encode_tokens

        encoded, by_token, inside = encoder.run(partial(encode_tokens, model), torch.cat(rows))
        tokens = _token_features(patches, by_token, inside, size, None if choice is None else choice.mask)
    elif without_dropout and model.has_dropout("text_head"):
        encoded, plain = encoder.encode_text_with_and_without_dropout(torch.cat(rows), cached=batch.text_cached)
    else:
        encoded = encoder.encode_text(torch.cat(rows), cached=batch.text_cached)
    parts = torch.split(encoded, [len(part) for part in rows])
    slots = [in_slots(part, mask) for part, mask in zip(parts[1:], masks, strict=False)]
    negatives = slots.pop(0) if choice is not None and batch.negatives is not None else None
    positives = TextSlots(slots[0], batch.positive_mask) if slots and batch.positive_mask is not None else None
    seen = (parts[0], negatives) if without_dropout and negatives is not None else None
    if seen is not None and plain is not None and choice is not None:
        seen = plain[:size], in_slots(plain[size : size + len(parts[1])], choice.mask)
    return _TextFeatures(parts[0], negatives, positives, parts[-1] if cut_ratio is not None else None, tokens, seen)


def _token_features(patches: Tensor, tokens: Tensor, inside: Tensor, size: int, mask: Tensor | None) -> TokenFeatures:
    if mask is None:
        return TokenFeatures(patches, tokens[:size], inside[:size])
    end = size + int(mask.sum())
    negatives = in_slots(tokens[size:end], mask), in_slots(inside[size:end], mask)
    return TokenFeatures(patches, tokens[:size], inside[:size], *negatives)


def _more_features(encoder: StepEncoder, batch: Batch, needs: FeatureNeeds) -> dict[str, Tensor]:
    """Return what objectives need of a batch besides its images and texts."""
    device, more = encoder.model.device, dict[str, Any]()
    if "identity" in needs.names:
        more["identity"] = identities(batch).to(device)
    if needs.groups:
        more["groups"] = group_numbers(batch.texts.tags, needs.groups).to(device)
    if needs.prompts:
        more["prompts"] = _prompt_features(encoder, needs.prompts)
    if "triplets" in needs.names:
        more["triplets"] = encode_facts(encoder, distinct_facts(batch.texts.facts))
    if batch.joined is not None:
        more["pairs"] = encode_pairs(encoder, batch.joined, batch.texts.pairs)
    if needs.num_phrases:
        more["phrases"] = encode_phrases(encoder, batch.texts.phrases, needs.num_phrases)
    if needs.teacher is not None:
        more |= _teacher_features(replace(encoder, model=needs.teacher), batch)
    return more


def _prompt_features(encoder: StepEncoder, prompts: Sequence[str]) -> Tensor:
    """Return the features of fixed texts, without dropout or gradient."""
    import torch

    model = encoder.model
    tokens = model.trim(model.tokenize(prompts)).to(model.device)
    model.eval()
    with torch.no_grad():
        features = encoder.encode_text(tokens, cached=False)
    model.train()
    return features


def _teacher_features(teacher: StepEncoder, batch: Batch) -> dict[str, Tensor]:
    """Return the features of the model before tuning; cached activations are its own too, since they are frozen."""
    import torch

    with torch.no_grad():
        image = teacher.encode_image(batch.image, cached=batch.image_cached)
        text = teacher.encode_text(batch.text, cached=batch.text_cached)
    return {"teacher_image": image, "teacher_text": text}


def label_texts(batch: Batch, choice: NegativeChoice | None) -> Tensor:
    """Return labels [B, B + B*K]: 0 for each text whose tokens are those of one of the image's own, as it is no negative of it."""
    import torch

    captions = batch.texts.caption_ids
    number = {name: at for at, name in enumerate(dict.fromkeys(captions))}
    own = torch.tensor([number[name] for name in captions])
    columns = [own]
    if choice is not None:
        found = [
            -1 if name is None else number.get(name, -1) for name in chosen_candidates(batch.texts.record_ids, choice)
        ]
        columns.append(torch.tensor(found))
    every = torch.cat(columns)
    labels = -(own[:, None] != every[None, :]).to(torch.int8)
    for row, names in enumerate(batch.texts.positive_ids):
        if known := [number[name] for name in names if name in number]:
            labels[row, torch.isin(every, torch.tensor(known))] = 0
    labels[torch.arange(len(captions)), torch.arange(len(captions))] = 1
    return labels


def shared_texts(texts: StepTexts, mask: Tensor) -> Tensor:
    """Return which further texts the model reads in a text of each image, too, bool [B, B*P]; see `TextSlots`."""
    import torch

    size, slots = mask.shape
    found = torch.zeros((size, size, slots), dtype=torch.bool)
    own = [{name, *more} for name, more in zip(texts.caption_ids, texts.positive_ids, strict=True)]
    for column, names in enumerate(texts.positive_ids):
        for slot, name in enumerate(names):
            found[[name in known for known in own], column, slot] = True
    return found.flatten(1).to(mask.device)


def negative_types(batch: Batch, choice: NegativeChoice) -> Tensor:
    """Return the number in `NEGATIVE_TYPES` of each chosen negative [B, K]; -1 where unknown or empty."""
    import torch

    number = {name: at for at, name in enumerate(NEGATIVE_TYPES)}
    found = [
        -1 if record is None else number.get(str(record.get("type")), -1)
        for record in chosen_candidates(batch.texts.records, choice)
    ]
    return torch.tensor(found, dtype=torch.int64, device=choice.mask.device).reshape(choice.mask.shape)


def negative_stats(batch: Batch, choice: NegativeChoice) -> dict[str, Any]:
    """Return what the log says about the negatives of a step: how many were drawn and chosen, by operation such as ``swap/noun``.

    `equal_to_caption` are negatives that were drawn and left out: the model reads the same tokens as of their caption.
    """
    records = batch.texts.records
    chosen = [record for record in chosen_candidates(records, choice) if record is not None]
    numbers = {
        "count": len(chosen),
        "candidates": sum(map(len, records)),
        "equal_to_caption": sum(batch.texts.equal_negatives),
    }
    operations = {"operation": _by_operation(chosen), "operation_drawn": _by_operation(chain(*records))}
    return {**numbers, **choice.stats, **operations}


def _by_operation(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    names = ("/".join(str(item[key]) for key in ("operation", "span_class") if item.get(key)) for item in records)
    return dict(sorted(Counter(names).items()))


def identities(batch: Batch) -> Tensor:
    """Return a number for each photograph and one for each caption's tokens, int64 [B, 2]; the same in every run."""
    import torch

    texts = batch.texts
    pairs = [[_number(uid), _number(name)] for uid, name in zip(texts.uids, texts.caption_ids, strict=True)]
    return torch.tensor(pairs, dtype=torch.int64)


def _number(text: str) -> int:
    return int.from_bytes(blake3(text.encode()).digest(length=8), "big", signed=True)
