"""Frozen prefixes compute each image and text of a plan once; several ranks fill one cache, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from training import checkpoint

if TYPE_CHECKING:
    from training.batches.activation_cache import ProgressReport
    from training.batches.loader import PlannedBatches
    from training.config import TrainConfig
    from training.distributed import Ranks
    from training.features import FeatureNeeds
    from training.model.clip_model import ClipModel


@dataclass(frozen=True)
class FrozenPrefixes:
    """Computes ahead what the frozen prefixes make of the batches to come.

    A prefix is a whole frozen trunk, or the blocks before the first trained one: see `ClipModel`. Images are prepared
    without any draw (no crops, no flips), or there would be nothing to compute ahead.

    Attributes:
        model: The model; put in eval mode.
        needs: Say whether a prefix's activations are enough.
        config: Says what they are computed with, and how many gigabytes they may take.
        cache: Folder that keeps them for later runs and other ranks; None keeps them in memory.
        ranks: Who trains together.
        report: Called with the progress.
        say: Called with what is cached and what is not, and why.
    """

    model: ClipModel
    needs: FeatureNeeds
    config: TrainConfig
    cache: Path | None
    ranks: Ranks
    report: ProgressReport
    say: Callable[[str], None]

    def precompute(self, batches: PlannedBatches, sides: tuple[str, ...] = ("image", "text")) -> None:
        """Compute the images and texts of these batches, where the prefix is frozen and the budget allows it."""
        budget, used = self.config.cache_gb * 1e9, 0
        for side in sides:
            if not self.model.prefix_frozen(side):
                if reason := self.model.why_uncut(side):
                    self.say(f"the frozen blocks of the {side} tower are computed at each step: {reason}")
                continue
            what = f"the frozen {self._prefix(side)} of the {side} tower"
            if not self.needs.cacheable(side):
                self.say(
                    f"{what} is computed at each step: an objective needs more of a tower than its last activations"
                )
                continue
            self.model.eval()
            # every rank decides alike
            needed = int(sum(self.ranks.gather_json(batches.cached_bytes(side))))
            if used + needed > budget:
                more = used + needed
                self.say(
                    f"{what} is computed at each step: its activations take {needed / 1e9:.3f} GB, train.cache_gb={self.config.cache_gb:g} leaves "
                    f"{max(0, budget - used) / 1e9:.3f}; --set train.cache_gb={more / 1e9 + 0.001:.3f} caches them"
                )
                continue
            used += needed
            if side in self.model.cuts:
                self.say(f"{what} is computed once for each {side}: {needed / 1e9:.3f} GB of activations")
            self._fill(batches, side, budget)

    def _prefix(self, side: str) -> str:
        """Return how long a prefix is, for people."""
        cut = self.model.cuts.get(side)
        return "trunk" if cut is None else f"prefix ({cut} of {len(self.model.blocks(side))} blocks)"

    def _fill(self, batches: PlannedBatches, side: str, budget: float) -> None:
        if self.cache is None:
            self._compute(batches, side, None, budget)
            return
        identity: list[Any] = [self.model.prefix_hash(side), sorted(checkpoint.package_versions().items())]
        identity += [self.config.device] if self.config.device != "cpu" else []
        identity += ["bf16"] if self.config.precision == "bf16" else []
        identity += ["fast_decode"] if self.config.fast_decode and side == "image" else []
        key = blake3(str(identity).encode()).hexdigest(length=16)
        for rank in range(self.ranks.size):
            # later ranks read what the earlier ones have computed
            if rank == self.ranks.rank:
                self._compute(batches, side, self.cache / side / key, budget)
            self.ranks.barrier()

    def _compute(self, batches: PlannedBatches, side: str, folder: Path | None, budget: float) -> None:
        bf16 = self.config.precision == "bf16"
        if side == "image":
            batches.cache_images(folder, self.report, budget=budget, bf16=bf16)
        else:
            batches.cache_texts(folder, self.report, budget=budget, bf16=bf16)
