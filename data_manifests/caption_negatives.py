"""How many negatives the captions of a version have, and what became of the candidates that were made for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NEGATIVES_PER_CAPTION = "negatives_per_caption"
"""The key of a manifest's statistics."""

NO_CANDIDATE = "no_candidate"
"""Why a caption has no negative: no stage made one for it."""

LEAST_NUMBERS = (1, 3, 10)
"""Numbers of negatives for which the share of captions with as many or more is said."""


@dataclass(frozen=True)
class GeneratorYield:
    """What became of the negatives that one stage made.

    Attributes:
        name: The stage.
        captions: Captions for which it made one or more.
        kept: Negatives that are in the version.
        lost: Reason -> negatives that were rejected for it, by the stage itself or a later one.
    """

    name: str
    captions: int
    kept: int
    lost: Mapping[str, int]

    @property
    def made(self) -> int:
        """How many it made."""
        return self.kept + sum(self.lost.values())


@dataclass(frozen=True)
class CaptionNegatives:
    """Numbers of negatives by caption.

    Attributes:
        captions: Number of negatives -> captions that have so many.
        without: Why captions have none -> captions: `NO_CANDIDATE`, or the commonest reason of the last stage that
            rejected one of the caption's candidates. Empty for a selection of another version, which does not record it.
        generators: What became of each stage's negatives; empty as `without` is.
    """

    captions: Mapping[int, int]
    without: Mapping[str, int] = field(default_factory=dict)
    generators: tuple[GeneratorYield, ...] = ()

    @classmethod
    def of(cls, statistics: Mapping[str, Any]) -> CaptionNegatives | None:
        """Return those of a manifest's statistics; None for a version without captions or negatives, or an older one."""
        found = statistics.get(NEGATIVES_PER_CAPTION)
        if found is None:
            return None
        generators = tuple(
            GeneratorYield(name, numbers["captions"], numbers["kept"], found["lost"][name])
            for name, numbers in found.get("made", {}).items()
        )
        captions = {int(number): captions for number, captions in found["captions"].items()}
        return cls(captions, found.get("without", {}), generators)

    @property
    def num_captions(self) -> int:
        """Captions."""
        return sum(self.captions.values())

    @property
    def mean(self) -> float:
        """Negatives per caption, on average."""
        total = sum(number * captions for number, captions in self.captions.items())
        return total / max(self.num_captions, 1)

    def share_with(self, least: int) -> float:
        """Return the share of captions that have `least` negatives or more."""
        return sum(captions for number, captions in self.captions.items() if number >= least) / max(
            self.num_captions, 1
        )

    def describe(self) -> str:
        """Return mean and shares in words."""
        shares = [f"none {1 - self.share_with(1):.1%}"]
        shares += [f"{least} or more {self.share_with(least):.1%}" for least in LEAST_NUMBERS]
        return f"{self.mean:.2f} on average ({', '.join(shares)} of the captions)"

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints: mean, shares, why captions have none, and what became of each stage's negatives."""
        found: dict[str, Any] = {
            "captions": self.num_captions,
            "mean": round(self.mean, 4),
            "share_without": round(1 - self.share_with(1), 4),
            "share_with": {str(least): round(self.share_with(least), 4) for least in LEAST_NUMBERS},
        }
        if self.generators:
            found["without"] = dict(self.without)
            found["stages"] = {
                one.name: {"captions": one.captions, "made": one.made, "kept": one.kept, "lost": dict(one.lost)}
                for one in self.generators
            }
        return found
