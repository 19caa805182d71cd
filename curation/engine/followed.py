"""Whether what a stage is given differs from the version before by what people have decided alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.engine.fits import FitPolicy, KeptFit, Overlap
from curation.engine.stage import FittedStage, Stage


@dataclass
class Followed:
    """Follows the stages of a run in their order, and says how many new samples each one's kept fit may meet.

    A vocabulary may change what many samples have, and with it the input of later stages. A fit that was learned from these
    inputs is then kept as if they had not changed, if its other checks hold: all would change otherwise, for a few words.

    Attributes:
        fits: The earlier fits, and the fingerprints of the stages of their version.
    """

    fits: FitPolicy
    _decided: set[str] = field(default_factory=set)
    _only_decisions: bool = True

    def follows_decisions(self, stage: Stage) -> bool:
        """Return whether decisions, and nothing else, may have changed what a stage is given."""
        return self._only_decisions and not self._decided.isdisjoint(stage.required_fields())

    def most_new(self, stage: FittedStage, kept: KeptFit, overlap: Overlap) -> float:
        """Return with which share of new samples a fit is kept."""
        usual = kept.most_new or stage.max_share_new
        return max(usual, overlap.share_new + stage.max_share_new) if self.follows_decisions(stage) else usual

    def passed(self, stage: Stage, kept: KeptFit | None = None) -> None:
        """Go on to the next stage.

        Args:
            stage: A stage.
            kept: The fit that it kept, or brought decisions into; None if it learned one, or is no fitted stage.
        """
        is_amended = kept is not None and kept.stage_fingerprint != stage.fingerprint()
        if is_amended or not self._decided.isdisjoint(stage.required_fields()):
            self._decided |= {spec.name for spec in stage.provides}
        as_before = self.fits.before.get(stage.name) == stage.fingerprint()
        learned_anew = isinstance(stage, FittedStage) and kept is None
        self._only_decisions = self._only_decisions and (is_amended or (as_before and not learned_anew))
