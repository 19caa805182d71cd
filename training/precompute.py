"""Frozen trunks compute each image and text of a plan once; several ranks fill one cache in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from training import checkpoint
from training.model import lora

if TYPE_CHECKING:
    from training.batches.activation_cache import Report
    from training.batches.loader import PlannedBatches
    from training.config import TrainConfig
    from training.distributed import Ranks
    from training.features import Needs
    from training.model.clip_model import ClipModel


@dataclass(frozen=True)
class CachedTrunks:
    """Lets frozen trunks compute ahead.

    Attributes:
        model: The model; put in eval mode.
        needs: Say whether pooled activations are enough.
        config: Says what they are computed with.
        cache: Folder that keeps them for later runs and other ranks; None forgets them.
        ranks: Who trains together.
        report: Is told how far it has come.
    """

    model: ClipModel
    needs: Needs
    config: TrainConfig
    cache: Path | None
    ranks: Ranks
    report: Report

    def both(self, batches: PlannedBatches) -> None:
        """Compute the images and texts that these batches will show."""
        self._fill("image", batches.cache_images if self.model.image_trunk_frozen() else None)
        self._fill("text", batches.cache_texts if self.model.text_trunk_frozen() else None)

    def images(self, batches: PlannedBatches) -> None:
        """Compute the images alone."""
        self._fill("image", batches.cache_images if self.model.image_trunk_frozen() else None)

    def _fill(self, side: str, fill: Callable[[Path | None, Report], None] | None) -> None:
        if fill is None or not self.needs.cacheable(side):
            return
        lora.eval_mode(self.model)
        what: list[Any] = [self.model.trunk_hash(side), sorted(checkpoint.package_versions().items())]
        what += [self.config.device] if self.config.device != "cpu" else []
        what += ["fast_decode"] if self.config.fast_decode and side == "image" else []
        key = blake3(str(what).encode()).hexdigest(length=16)
        if self.cache is None:
            fill(None, self.report)
            return
        for turn in range(self.ranks.size):
            # who comes later reads what the earlier ones have computed
            if turn == self.ranks.rank:
                fill(self.cache / side / key, self.report)
            self.ranks.meet()
