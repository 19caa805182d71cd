"""Hard negatives: which of a caption's negatives a step trains on, drawn evenly or chosen by what the model finds hard.

An adaptive choice needs the similarity of every candidate first, without dropout or gradient. Where few candidates are
left out, a forward pass for that costs more than it saves: all are encoded with gradients at once and the choice is
made among the features; the same numbers, one pass less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar

from training.settings import check_settings

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from training.model.clip_model import ClipModel, StepEncoder

Band = tuple[float, float]
T = TypeVar("T")
Order = Literal["band", "uniform", "margin", "gradient"]

_GRID = 33
"""Quantiles of the gaps that are followed."""

_ROUNDING = 1e-6
"""A third of three is one, whatever the last bit of the product."""
ONE_PASS = 1.5
"""Candidates per chosen negative up to which one pass with gradients costs no more than two passes."""


@dataclass(frozen=True)
class CandidateCosines:
    """What a choice is made by: cosines without gradient. B samples, C candidates each, in the order of their draw.

    Attributes:
        positive: Of each image to its caption [B].
        similarity: Of each image to its candidates [B, C]; anything where `mask` is False.
        text_similarity: Of each caption to its candidates [B, C].
        mask: True where there is a candidate, bool [B, C].
        logit_scale: What cosines are multiplied by to become logits, a scalar.
    """

    positive: Tensor
    similarity: Tensor
    text_similarity: Tensor
    mask: Tensor
    logit_scale: Tensor

    def gaps(self) -> Tensor:
        """Return how much nearer each candidate is to the image than its caption [B, C]."""
        return self.similarity - self.positive[:, None]


@dataclass(frozen=True)
class NegativeChoice:
    """The negatives of one step. B samples, K slots.

    Attributes:
        index: Number of the candidate in each slot, int64 [B, K]; any valid number where the slot is empty.
        mask: True where a slot is filled, bool [B, K].
        weight: Factor of each negative's term in a loss, above 0 [B, K].
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

    def select(self, candidates: CandidateCosines, progress: float) -> NegativeChoice:
        """Choose among the candidates.

        Args:
            candidates: Of the whole batch.
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
        operations_in_turn: Whether negatives of each operation are drawn once before any comes twice; see `in_turn`.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    @property
    def choose(self) -> int:
        """Negatives per sample and step."""

    @property
    def candidates(self) -> int:
        """Negatives drawn per sample and step."""

    @property
    def operations_in_turn(self) -> bool:
        """Whether negatives of each operation are drawn once before any comes twice."""

    def start(self) -> NegativeChooser | None:
        """Return the chooser of a new run; None takes all candidates and needs no similarities."""


@dataclass(frozen=True)
class UniformNegatives:
    """Any of the shown caption's negatives, each as likely as the next.

    Attributes:
        choose: Negatives per sample and step, fewer where the caption has fewer.
        operations_in_turn: Draw a negative of each operation before a second of any, each operation as likely as the
            next: what a caption has many of, such as other colours, then does not crowd out its one other relation.

    Source: Yuksekgonul et al. 2023, section 4 (NegCLIP, arXiv 2210.01936): one generated negative drawn per access.
    Differs: the draw depends on (seed, step, uid) alone.
    """

    name: ClassVar[str] = "uniform"
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4 (NegCLIP, arXiv 2210.01936)"

    choose: int = 1
    operations_in_turn: bool = False

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
    """The hardest negatives for the current model; or those of a band of hardness that moves as training goes on.

    A candidate's gap is its cosine to the image less its caption's. Its hardness is the share of all candidates, of
    this step and (by moving averages of quantiles) of those before it, that have a smaller gap: 0 for the easiest, 1
    for the hardest. Candidates inside the band come first, by closeness to its middle; the rest by distance from it.
    The band is the hardest end all through, unless it is set: bands that begin with easy negatives have cost most of what
    hard ones teach (see the lab book), as the easy ones are learned without being chosen.
    Two safeguards, off unless they are set, for versions whose negatives were not checked; they are by moving averages
    over steps too (of the weights' quantiles, how far they lie above the step's median), and a model that cannot tell a
    relation yet takes its every negative for a true one:

    - *Gate.* A candidate whose gap is above the `gate_quantile` of all gaps, and above 0, is likely true of the image:
      it is never chosen.
    - *Weight.* Of the chosen, one whose gap is above their `hopeless_quantile` counts `hopeless_weight` times, one
      between that and their `moderate_quantile` counts `moderate_weight` times, any other once.

    Only cosines are compared, never logits, so that nothing depends on the learned scale.

    In place of the band, `order` may be one of three controls, with the same pool, gate and weights:

    - *uniform.* As they were drawn: any of them, each as likely as the next, with `operations_in_turn` one of each
      operation before a second.
    - *margin.* A band that is fixed and in cosines: gaps from -`margin` to 0 come first, by closeness to its middle.
    - *gradient.* Those with the largest gradient first. With v, t, n the features of image, caption and candidate, g the
      gap and T the scale, that of softplus(T g) on what v was made from, before it was set to unit norm, has the length
      T sigmoid(T g) |(I - vv')(n - t)| = T sigmoid(T g) sqrt(2 - 2 n.t - g^2), times a factor of the image alone; so
      the order is that of the gradients on the head's weights, too.

    Attributes:
        candidates: Candidates drawn per sample and step; at least three for each that is chosen is a choice.
        choose: Negatives chosen of these.
        most_share: Most that are chosen of a caption's candidates, above 0 to 1, but always one: with 1/3 a caption of few
            negatives is trained on by the best third of them, too. 1 leaves it to `choose`.
        order: band, uniform, margin or gradient. A band that does not move: `band_end` equal to `band_start`.
        margin: Width of the fixed band in cosines, above 0 to 2.
        operations_in_turn: Draw a candidate of each operation before a second of any.
        band_start: (low, high) hardness at the first step.
        band_end: (low, high) hardness at the last step; linear in between. For hard first, swap them.
        gate_quantile: 1 is no gate.
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

    candidates: int = 12
    choose: int = 4
    most_share: float = 1.0
    order: Order = "band"
    margin: float = 0.1
    operations_in_turn: bool = True
    band_start: Band = (1.0, 1.0)
    band_end: Band = (1.0, 1.0)
    gate_quantile: float = 1.0
    hopeless_quantile: float = 0.95
    hopeless_weight: float = 1.0
    moderate_quantile: float = 0.5
    moderate_weight: float = 1.0
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
        check_settings(self, 0 < self.most_share <= 1, "most_share", "above 0 to 1")
        known = ("band", "uniform", "margin", "gradient")
        check_settings(self, self.order in known, "order", ", ".join(known))
        check_settings(self, 0 < self.margin <= 2, "margin", "above 0 to 2, in cosines")
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
    """`AdaptiveNegatives` during a run: moving quantiles of gaps."""

    def __init__(self, config: AdaptiveNegatives) -> None:
        self._config, self.choose = config, config.choose
        self._averages: dict[str, float] = {}

    def select(self, candidates: CandidateCosines, progress: float) -> NegativeChoice:
        """Choose by order, gate and weight."""
        import torch

        config, similarity, mask = self._config, candidates.similarity, candidates.mask
        gap = candidates.gaps()
        gate = max(0.0, self._track("gate", gap[mask], config.gate_quantile))
        allowed = mask & (gap <= gate) if config.gate_quantile < 1 else mask
        hardness = self._hardness(gap, mask)
        low, high = config.band_at(progress)
        if config.order == "band":
            cost = distance_from_band(hardness, low, high)
        elif config.order == "margin":
            cost = distance_from_band(gap, -config.margin, 0.0)
        else:  # an even choice takes the candidates as they were drawn
            cost = -gradient_length(candidates) if config.order == "gradient" else torch.zeros_like(gap)
        cost = cost.masked_fill(~allowed, float("inf"))
        index = cost.argsort(dim=1, stable=True)[:, : config.choose]
        most = (mask.sum(dim=1) * config.most_share + _ROUNDING).floor().clamp_min(1)
        filled = allowed.gather(1, index) & (torch.arange(index.shape[1], device=mask.device) < most[:, None])
        chosen, picked, how_hard = (values.gather(1, index)[filled] for values in (gap, similarity, hardness))
        hopeless = self._threshold("hopeless", chosen, config.hopeless_quantile)
        moderate = self._threshold("moderate", chosen, config.moderate_quantile)
        weights = torch.ones_like(chosen)
        weights[chosen >= moderate] = config.moderate_weight
        weights[chosen > hopeless] = config.hopeless_weight
        weight = torch.ones_like(gap[:, : index.shape[1]])
        weight[filled] = weights
        stats = {
            "gated": float((mask & ~allowed).sum()),
            "gate": gate,
            "band_low": low,
            "band_high": high,
            "in_band": _mean((how_hard >= low) & (how_hard <= high)),
            "mean_similarity": _mean(picked),
            "mean_gap": _mean(chosen),
            "mean_hardness": _mean(how_hard),
            "hopeless": float((chosen > hopeless).sum()),
            "mean_weight": _mean(weights),
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
            self._move(name, float(values.double().quantile(quantile)))
        return self._averages.get(name, 0.0)

    def _threshold(self, name: str, values: Tensor, quantile: float) -> float:
        """Return this step's median and, by an average of steps, how far above it the quantile lies.

        An average of the quantile itself stays behind a band that moves: half of what was chosen was above the 95th.
        """
        if not values.numel():
            return 0.0
        middle = float(values.double().median())
        return middle + self._track(f"{name}_over_median", values.double() - middle, quantile)

    def _move(self, name: str, now: float) -> None:
        kept = self._config.decay
        self._averages[name] = kept * self._averages.get(name, now) + (1.0 - kept) * now

    def _hardness(self, gap: Tensor, mask: Tensor) -> Tensor:
        """Move the quantiles of all gaps, and return each gap's place among them, 0 to 1 [B, C]."""
        import torch

        if not bool(mask.any()):
            return torch.zeros_like(gap)
        shares = torch.linspace(0.0, 1.0, _GRID, dtype=torch.float64, device=gap.device)
        for number, value in enumerate(gap[mask].double().quantile(shares).tolist()):
            self._move(f"gap_{number:02d}", value)
        grid = torch.tensor([self._averages[f"gap_{number:02d}"] for number in range(_GRID)], dtype=torch.float64)
        return place_in(grid.to(gap.device), gap.double()).to(gap.dtype)


def distance_from_band(values: Tensor, low: float, high: float) -> Tensor:
    """Return by what candidates are ordered: those inside a band come first, by closeness to its middle, then the others.

    Any distance outside counts for more than every distance inside a band of a width of at most 4.
    """
    outside = (low - values).clamp_min(0) + (values - high).clamp_min(0)
    return 2.0 * (outside > 0) + outside + 0.5 * (values - (low + high) / 2).abs()


def gradient_length(candidates: CandidateCosines) -> Tensor:
    """Return the length of each candidate's gradient, up to a factor of its image [B, C]; see `AdaptiveNegatives`."""
    gap = candidates.gaps()
    across = (2.0 - 2.0 * candidates.text_similarity - gap**2).clamp_min(0.0).sqrt()
    return (candidates.logit_scale * gap).sigmoid() * across


def place_in(grid: Tensor, values: Tensor) -> Tensor:
    """Return the share of a distribution that lies below each value: 0 below the first quantile, 1 above the last.

    Args:
        grid: Quantiles at equal steps from 0 to 1, ascending [G].
        values: Any shape; where several quantiles equal a value, it takes the middle of their places.
    """
    import torch

    flat = values.contiguous()
    below, above = torch.searchsorted(grid, flat), torch.searchsorted(grid, flat, right=True)
    left = (below - 1).clamp(0, len(grid) - 2)
    step = (flat - grid[left]) / (grid[left + 1] - grid[left]).clamp_min(1e-12)
    between = left + step.clamp(0, 1)
    place = torch.where(above > below, (below + above - 1) / 2, between.to(values.dtype))
    return place / (len(grid) - 1)


def _mean(values: Tensor) -> float:
    """Return the mean of what was chosen, 0 where nothing was."""
    return float(values.double().mean()) if values.numel() else 0.0


def in_turn(kinds: Sequence[Hashable], rng: np.random.Generator) -> list[int]:
    """Return the places of some items so that each kind comes once before any comes twice; kinds in any order.

    Args:
        kinds: The kind of each item, in the order of a draw, which stays the order within each kind.
        rng: Draws the order of the kinds.
    """
    turns: Counter[Hashable] = Counter()
    order = dict(zip(dict.fromkeys(kinds), rng.permutation(len(set(kinds))).tolist(), strict=True))
    keys = []
    for place, kind in enumerate(kinds):
        keys.append((turns[kind], order[kind], place))
        turns[kind] += 1
    return [place for _, _, place in sorted(keys)]


def take_all(mask: Tensor) -> NegativeChoice:
    """Return the choice of every candidate, in their order."""
    import torch

    index = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return NegativeChoice(index, mask, torch.ones(mask.shape, device=mask.device))


def row_weight(logits: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
    """Return how often each row's loss counts [n]: the mean weight of its negatives by their softmax, no gradient.

    A weight within the softmax (log w on a logit) hardly changes the gradient once one negative has all the
    probability; outside, a negative that holds all of it passes on its weight times the gradient.

    Args:
        logits: Of the negatives [n, K].
        weight: Their weights [n, K].
        valid: Which of them take part, bool [n, K]; a row without any counts once.
    """
    share = logits.detach().masked_fill(~valid, float("-inf")).softmax(dim=1).masked_fill(~valid, 0.0)
    return (share * weight).sum(dim=1).masked_fill(~valid.any(dim=1), 1.0)


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


def similarities(
    image: Tensor, captions: Tensor, negatives: Tensor, mask: Tensor, logit_scale: Tensor
) -> CandidateCosines:
    """Return the candidates' cosines of features that are there, without gradient.

    Args:
        image: Unit-norm features [B, d].
        captions: The same [B, d].
        negatives: The same [B, C, d].
        mask: Where there is a candidate [B, C].
        logit_scale: A scalar.
    """
    import torch

    image, captions, negatives = image.detach(), captions.detach(), negatives.detach()
    by_image, by_text = (torch.einsum("bd,bcd->bc", anchor, negatives) for anchor in (image, captions))
    return CandidateCosines((image * captions).sum(dim=1), by_image, by_text, mask, logit_scale.detach())


def candidate_similarities(
    encoder: StepEncoder, image: Tensor, texts: Tensor, mask: Tensor, *, cached: bool
) -> CandidateCosines:
    """Return the candidates' cosines, without dropout or gradient.

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
    captions, others, rows = text[: len(image)], text[len(image) :], mask.nonzero()[:, 0]
    by_image, by_text = (image.new_zeros(mask.shape) for _ in range(2))
    by_image[mask], by_text[mask] = (image[rows] * others).sum(dim=1), (captions[rows] * others).sum(dim=1)
    scale = encoder.model.logit_scale.detach()
    return CandidateCosines((image * captions).sum(dim=1), by_image, by_text, mask, scale)


def chosen_candidates(candidates: Sequence[Sequence[T]], choice: NegativeChoice) -> list[T | None]:
    """Return the candidate in each slot, sample by sample; None for an empty slot."""
    slots = zip(candidates, choice.index.tolist(), choice.mask.tolist(), strict=True)
    return [
        row[slot] if filled else None for row, index, mask in slots for slot, filled in zip(index, mask, strict=True)
    ]
