"""Which of a caption's negatives a step trains on: drawn evenly, or chosen by what the current model finds hard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Band = tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """The negatives of one step. B samples, K slots.

    Attributes:
        index: Which candidate stands in each slot, int64 [B, K]; any valid number where the slot is empty.
        mask: True where a slot is filled, bool [B, K].
        weight: How many times each negative counts, above 0 [B, K].
        stats: Numbers for the log.
        gated: True where a candidate was taken for likely true of the image and left out, bool [B, C]; None for none.
    """

    index: Tensor
    mask: Tensor
    weight: Tensor
    stats: dict[str, float] = field(default_factory=dict)
    gated: Tensor | None = None


class Chooser(Protocol):
    """A choice of negatives at work in one run; what it has learned goes into the checkpoints.

    Attributes:
        adaptive: Whether `select` needs the current model's similarities; if not, it is given zeros.
    """

    adaptive: ClassVar[bool]

    def select(self, positive: Tensor, similarity: Tensor, mask: Tensor, logit_scale: float, progress: float) -> Choice:
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

    def start(self) -> Chooser:
        """Return a chooser that knows nothing yet."""


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
        if self.choose < 1:
            raise InputError(f"uniform negatives: choose={self.choose!r}", allowed="1 or more")

    @property
    def candidates(self) -> int:
        """As many as are used: the draw is the choice."""
        return self.choose

    def start(self) -> Chooser:
        """Return a chooser that takes all that were drawn."""
        return _TakeAll()


class _TakeAll:
    """Takes every candidate, once."""

    adaptive: ClassVar[bool] = False

    def select(self, positive: Tensor, similarity: Tensor, mask: Tensor, logit_scale: float, progress: float) -> Choice:
        """Return all candidates in their order."""
        import torch

        index = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        return Choice(index, mask, torch.ones_like(mask, dtype=torch.float32))

    def state_dict(self) -> dict[str, float]:
        """Return nothing: nothing is learned."""
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Accept nothing."""


@dataclass(frozen=True)
class AdaptiveNegatives:
    """Negatives from a band of hardness, by the current model, that moves as training goes on.

    Each candidate's hardness is its rank among its own sample's candidates by similarity to the image, 0 (least
    similar) to 1. Those inside the band come first, by closeness to its middle; the rest by distance from the band.
    Two moving averages over steps keep it honest:

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
        if not 1 <= self.choose <= self.candidates:
            raise InputError(
                f"adaptive negatives: choose={self.choose!r} of candidates={self.candidates!r}",
                allowed="1 <= choose <= candidates",
            )
        for name in ("band_start", "band_end"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise InputError(f"adaptive negatives: {name}={getattr(self, name)!r}", allowed="0 <= low <= high <= 1")
        shares = (self.gate_quantile, self.moderate_quantile, self.hopeless_quantile)
        if not all(0 <= share <= 1 for share in shares) or self.moderate_quantile > self.hopeless_quantile:
            raise InputError(
                f"adaptive negatives: gate, moderate, hopeless quantile = {shares}",
                allowed="0 to 1, moderate_quantile at most hopeless_quantile",
            )
        weights = (self.hopeless_weight, self.moderate_weight)
        if min(weights) <= 0 or not 0 <= self.decay < 1:
            got = f"adaptive negatives: hopeless, moderate weight = {weights}, decay={self.decay!r}"
            raise InputError(got, allowed="weights above 0, decay 0 to below 1")

    def start(self) -> Chooser:
        """Return a chooser whose moving averages start at the first step's values."""
        return _Adaptive(self)

    def band_at(self, progress: float) -> Band:
        """Return the band (low, high) at a share of the run."""
        (low, high), (last_low, last_high) = self.band_start, self.band_end
        return low + (last_low - low) * progress, high + (last_high - high) * progress


class _Adaptive:
    """`AdaptiveNegatives` at work: three moving quantiles."""

    adaptive: ClassVar[bool] = True

    def __init__(self, config: AdaptiveNegatives) -> None:
        self._config, self.choose = config, config.choose
        self._averages: dict[str, float] = {}

    def select(self, positive: Tensor, similarity: Tensor, mask: Tensor, logit_scale: float, progress: float) -> Choice:
        """Choose by band, gate and weight."""
        import torch

        config = self._config
        excess = similarity - positive[:, None]
        gate = max(0.0, self._track("gate", excess[mask], config.gate_quantile))
        open_ = mask & (excess <= gate)
        rank = _ranks(similarity, open_)
        low, high = config.band_at(progress)
        outside = (low - rank).clamp_min(0) + (rank - high).clamp_min(0)
        # any distance outside the band counts for more than every distance inside it
        cost = (2.0 * (outside > 0) + outside + 0.5 * (rank - (low + high) / 2).abs()).masked_fill(~open_, float("inf"))
        index = cost.argsort(dim=1, stable=True)[:, : config.choose]
        filled = open_.gather(1, index)
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
            "gated": float((mask & ~open_).sum()),
            "gate": gate,
            "band_low": low,
            "band_high": high,
            "mean_similarity": float(picked[filled].sum()) / count,
            "hopeless": float((filled & (loss > hopeless)).sum()),
            "mean_weight": float(weight[filled].sum()) / count,
        }
        return Choice(index, filled, weight, stats, mask & ~open_)

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
    """Return each candidate's rank among its row's, 0 (least similar) to 1; a lone one is in the middle."""
    order = similarity.masked_fill(~mask, float("inf")).argsort(dim=1, stable=True)
    place = order.argsort(dim=1, stable=True).to(similarity.dtype)
    last = (mask.sum(dim=1, keepdim=True) - 1).to(similarity.dtype)
    return (place / last.clamp_min(1)).masked_fill((last == 0).expand_as(mask), 0.5)
