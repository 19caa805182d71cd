"""Frozen trunks compute each image and text of a plan once; several ranks fill one cache, one after the other."""

from __future__ import annotations

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
class FrozenTrunks:
    """Computes ahead what frozen trunks make of the batches to come.

    Attributes:
        model: The model; put in eval mode.
        needs: Say whether pooled activations are enough.
        config: Says what they are computed with.
        cache: Folder that keeps them for later runs and other ranks; None keeps them in memory.
        ranks: Who trains together.
        report: Called with the progress.
    """

    model: ClipModel
    needs: FeatureNeeds
    config: TrainConfig
    cache: Path | None
    ranks: Ranks
    report: ProgressReport

    def precompute(self, batches: PlannedBatches, sides: tuple[str, ...] = ("image", "text")) -> None:
        """Compute the images and texts of these batches, where the trunk is frozen."""
        for side in sides:
            if not self.model.trunk_frozen(side) or not self.needs.cacheable(side):
                continue
            self.model.eval()
            fill = batches.cache_images if side == "image" else batches.cache_texts
            if self.cache is None:
                fill(None, self.report)
                continue
            identity: list[Any] = [self.model.trunk_hash(side), sorted(checkpoint.package_versions().items())]
            identity += [self.config.device] if self.config.device != "cpu" else []
            identity += ["fast_decode"] if self.config.fast_decode and side == "image" else []
            key = blake3(str(identity).encode()).hexdigest(length=16)
            for rank in range(self.ranks.size):
                # later ranks read what the earlier ones have computed
                if rank == self.ranks.rank:
                    fill(self.cache / side / key, self.report)
                self.ranks.barrier()
