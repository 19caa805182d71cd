"""Hard negatives: which of a caption's negatives a step trains on, drawn evenly or chosen by what the model finds hard.

An adaptive choice needs the similarity of every candidate first, without dropout or gradient. Where few candidates are
left out, a forward pass for that costs more than it saves: all are encoded with gradients at once and the choice is
made among the features; the same numbers, one pass less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.model.clip_model import ClipModel, StepEncoder

Band = tuple[float, float]

ONE_PASS = 1.5
"""Candidates per chosen negative up to which one pass with gradients costs no more than two passes."""


@dataclass(frozen=True)
class NegativeChoice:
    """The negatives of one step. B samples, K slots.

    Attributes:
        index: Number of the candidate in each slot, int64 [B, K]; any valid number where the slot is empty.
        mask: True where a slot is filled, bool [B, K].
        weight: How many times each negative counts, above 0 [B, K].
        stats: Numbers for the log.
        gated: True where a candidate was left out as likely true of the image, bool [B, C]; None for none.
    """

    index: Tensor
    mask: Tensor
    weight: Tensor
    stats: dict[str, float] = field(default_factory=dict)
    gated: Tensor | None = None


class NegativeChooser(Protocol):
    """Chooses negatives during one run; what it has learned goes into the checkpoints.

    Attributes:
        choose: Negatives per sample and step.
    """

    choose: int

    def select(
        self, positive: Tensor, similarity: Tensor, mask: Tensor, logit_scale: float, progress: float
    ) -> NegativeChoice:
        """Choose among the candidates.

        Args:
            positive: Similarity of each image to its caption [B].
            similarity: Similarity of each image to its candidates [B, C]; anything where `mask` is False.
            mask: True where there is a candidate, bool [B, C].
            logit_scale: Similarities times it are logits.
            progress: Share of the run's steps that are done, 0 to below 1.
        """

    def state_dict(self) -> dict[str, float]:
        """Return what was learned, as plain numbers."""

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from what `state_dict` returned."""


class Negatives(Protocol):
    """A way to choose negatives. A frozen dataclass: its fields are its config.

    Attributes:
        choose: Negatives per sample and step, K.
        candidates: Negatives per sample and step that are drawn for `start().select` to choose from, C >= K.
            Drawn without replacement from those of the shown caption, by (seed, step, uid) alone.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    @property
    def choose(self) -> int:
        """Negatives per sample and step."""

    @property
    def candidates(self) -> int:
        """Negatives drawn per sample and step."""

    def start(self) -> NegativeChooser | None:
        """Return the chooser of a new run; None takes all candidates and needs no similarities."""


@dataclass(frozen=True)
class UniformNegatives:
    """Any of the shown caption's negatives, each as likely as the next.

    Attributes:
        choose: Negatives per sample and step, fewer where the caption has fewer.

    Source: Yuksekgonul et al. 2023, section 4 (NegCLIP, arXiv 2210.01936): one generated negative drawn per access.
    Differs: the draw depends on (seed, step, uid) alone.
    """

    name: ClassVar[str] = "uniform"
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4 (NegCLIP, arXiv 2210.01936)"

    choose: int = 1

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        check_settings(self, self.choose >= 1, "choose", "1 or more")

    @property
    def candidates(self) -> int:
        """As many as are used: the draw is the choice."""
        return self.choose

    def start(self) -> None:
        """Return no chooser: all that were drawn are taken."""


@dataclass(frozen=True)
class AdaptiveNegatives:
    """Negatives from a band of hardness, by the current model, that moves as training goes on.

    Each candidate's hardness is its rank among its own sample's candidates by similarity to the image, 0 (least
    similar) to 1. Those inside the band come first, by closeness to its middle; the rest by distance from the band.
    Two safeguards, by moving averages over steps:

    - *Gate.* A candidate that beats its own caption by more than the `gate_quantile` of all candidates do, and beats
      it at all, is likely true of the image: it is never chosen.
    - *Weight.* With l = log(1 + exp(logit(negative) - logit(caption))): above the `hopeless_quantile` of l it counts
      `hopeless_weight` times, between that and the `moderate_quantile` it counts `moderate_weight` times, else once.

    Attributes:
        candidates: Candidates drawn per sample and step.
        choose: Negatives chosen of these.
        band_start: (low, high) ranks at the first step.
        band_end: (low, high) ranks at the last step; linear in between. FALCON found hard first better: swap them.
        gate_quantile: 1 turns the gate off except for what beats all others seen.
        hopeless_quantile: See above.
        hopeless_weight: See above.
        moderate_quantile: See above.
        moderate_weight: See above.
        decay: Share of the moving averages that stays at each step.

    Source: instance-level hardness quantiles: FALCON (CVPR 2026); margins that move with the model: Zhang et al. 2024
        (CE-CLIP, arXiv 2306.08832); the gate is a text-only cut of FFF's positive mining (Bulat et al. 2024,
        arXiv 2405.10286).
    Differs: the band is a schedule, not learned by reinforcement; thresholds are running quantiles, not constants.
    """

    name: ClassVar[str] = "adaptive"
    source: ClassVar[str] = "FALCON (CVPR 2026); CE-CLIP (arXiv 2306.08832); FFF (arXiv 2405.10286)"

    candidates: int = 15
    choose: int = 10
    band_start: Band = (0.0, 0.5)
    band_end: Band = (0.5, 1.0)
    gate_quantile: float = 0.98
    hopeless_quantile: float = 0.95
    hopeless_weight: float = 0.25
    moderate_quantile: float = 0.5
    moderate_weight: float = 1.5
    decay: float = 0.95

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        check_settings(self, 1 <= self.choose <= self.candidates, "choose candidates", "1 <= choose <= candidates")
        for name in ("band_start", "band_end"):
            low, high = getattr(self, name)
            check_settings(self, 0 <= low <= high <= 1, name, "0 <= low <= high <= 1")
        in_order = 0 <= self.moderate_quantile <= self.hopeless_quantile <= 1
        check_settings(self, in_order, "moderate_quantile hopeless_quantile", "0 <= moderate <= hopeless <= 1")
        check_settings(self, 0 <= self.gate_quantile <= 1, "gate_quantile", "0 to 1")
        check_settings(self, self.hopeless_weight > 0, "hopeless_weight", "above 0")
        check_settings(self, self.moderate_weight > 0, "moderate_weight", "above 0")
        check_settings(self, 0 <= self.decay < 1, "decay", "0 to below 1")

    def start(self) -> NegativeChooser:
        """Return the chooser of a new run; moving averages start at the first step's values."""
        return _Adaptive(self)

    def band_at(self, progress: float) -> Band:
        """Return the band (low, high) at a share of the run."""
        (low, high), (last_low, last_high) = self.band_start, self.band_end
        return low + (last_low - low) * progress, high + (last_high - high) * progress


class _Adaptive:
    """`AdaptiveNegatives` during a run: three moving quantiles."""

    def __init__(self, config: AdaptiveNegatives) -> None:
        self._config, self.choose = config, config.choose
        self._averages: dict[str, float] = {}

    def select(
        self, positive: Tensor, similarity: Tensor, mask: Tensor, logit_scale: float, progress: float
    ) -> NegativeChoice:
        """Choose by band, gate and weight."""
        import torch

        config = self._config
        excess = similarity - positive[:, None]
        gate = max(0.0, self._track("gate", excess[mask], config.gate_quantile))
        allowed = mask & (excess <= gate)
        rank = _ranks(similarity, allowed)
        low, high = config.band_at(progress)
        outside = (low - rank).clamp_min(0) + (rank - high).clamp_min(0)
        # any distance outside the band counts for more than every distance inside it
        cost = (2.0 * (outside > 0) + outside + 0.5 * (rank - (low + high) / 2).abs()).masked_fill(
            ~allowed, float("inf")
        )
        index = cost.argsort(dim=1, stable=True)[:, : config.choose]
        filled = allowed.gather(1, index)
        chosen = excess.gather(1, index)
        loss = torch.nn.functional.softplus(logit_scale * chosen)
        hopeless = self._track("hopeless", loss[filled], config.hopeless_quantile)
        moderate = self._track("moderate", loss[filled], config.moderate_quantile)
        weight = torch.ones_like(loss)
        weight[loss >= moderate] = config.moderate_weight
        weight[loss > hopeless] = config.hopeless_weight
        count = max(1, int(filled.sum()))
        picked = similarity.gather(1, index)
        stats = {
            "gated": float((mask & ~allowed).sum()),
            "gate": gate,
            "band_low": low,
            "band_high": high,
            "mean_similarity": float(picked[filled].sum()) / count,
            "hopeless": float((filled & (loss > hopeless)).sum()),
            "mean_weight": float(weight[filled].sum()) / count,
        }
        return NegativeChoice(index, filled, weight, stats, mask & ~allowed)

    def state_dict(self) -> dict[str, float]:
        """Return the moving averages."""
        return dict(self._averages)

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from saved moving averages."""
        self._averages = dict(state)

    def _track(self, name: str, values: Tensor, quantile: float) -> float:
        """Move an average towards this step's quantile and return it."""
        if values.numel():
            now = float(values.double().quantile(quantile))
            kept = self._config.decay
            before = self._averages.get(name, now)
            self._averages[name] = kept * before + (1.0 - kept) * now
        return self._averages.get(name, 0.0)


def _ranks(similarity: Tensor, mask: Tensor) -> Tensor:
    """Return each candidate's rank in its row, 0 (least similar) to 1; 0.5 for a row's only one."""
    order = similarity.masked_fill(~mask, float("inf")).argsort(dim=1, stable=True)
    rank = order.argsort(dim=1, stable=True).to(similarity.dtype)
    last = (mask.sum(dim=1, keepdim=True) - 1).to(similarity.dtype)
    return (rank / last.clamp_min(1)).masked_fill((last == 0).expand_as(mask), 0.5)


def take_all(mask: Tensor) -> NegativeChoice:
    """Return the choice of every candidate, in their order."""
    import torch

    index = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return NegativeChoice(index, mask, torch.ones(mask.shape, device=mask.device))


def in_slots(values: Tensor, mask: Tensor) -> Tensor:
    """Return values [n, ...] in the filled slots of `mask` [B, K] as [B, K, ...], zeros elsewhere; keeps gradients."""
    filled = mask.flatten().nonzero()[:, 0]
    flat = values.new_zeros(mask.numel(), *values.shape[1:]).index_copy(0, filled, values)
    return flat.reshape(*mask.shape, *values.shape[1:])


def fits_one_pass(model: ClipModel, mask: Tensor, chooser: NegativeChooser, *, tokens: bool) -> bool:
    """Return whether to choose among features with gradients: cheaper, and the same numbers.

    Dropout in the trunk forbids it. Where it is in the head alone, `encode_text_with_and_without_dropout` gives both,
    but not together with features of `tokens`.

    Args:
        model: In train mode.
        mask: Where there is a candidate [B, C].
        chooser: Chooses.
        tokens: Whether features of tokens are needed.
    """
    if mask.shape[1] > ONE_PASS * chooser.choose:
        return False
    return not model.has_dropout("text_trunk", *(("text_head",) if tokens else ()))


def similarities(image: Tensor, captions: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's similarity to its caption [B] and to its negatives [B, C], without gradient."""
    import torch

    image, captions, negatives = image.detach(), captions.detach(), negatives.detach()
    return (image * captions).sum(dim=1), torch.einsum("bd,bcd->bc", image, negatives)


def candidate_similarities(
    encoder: StepEncoder, image: Tensor, texts: Tensor, mask: Tensor, *, cached: bool
) -> tuple[Tensor, Tensor]:
    """Return each image's similarity to its caption [B] and to its candidates [B, C], without dropout or gradient.

    Args:
        encoder: Its model is in train mode, and is so again at the end.
        image: Unit-norm features [B, d].
        texts: Captions, then the candidates where `mask` is True, as `StepEncoder.encode_text` takes them.
        mask: Where there is a candidate [B, C].
        cached: See `StepEncoder.encode_text`.
    """
    import torch

    image = image.detach()
    encoder.model.eval()
    with torch.no_grad():
        text = encoder.encode_text(texts, cached=cached)
    encoder.model.train()
    similarity = image.new_zeros(mask.shape)
    similarity[mask] = (image[mask.nonzero()[:, 0]] * text[len(image) :]).sum(dim=1)
    return (image * text[: len(image)]).sum(dim=1), similarity
