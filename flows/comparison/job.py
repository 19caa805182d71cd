"""A comparison as a user asks for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from data_manifests.manifest import Catalog
from flows.comparison.cells import Benchmarks
from flows.comparison.statistics import ComparisonGate
from flows.comparison.variants import Variant, is_data
from flows.execution.jobs import CurateJob
from flows.recipe import recipe_arguments


@dataclass(frozen=True)
class CompareJob:
    """A comparison as a user asks for it.

    Attributes:
        rows: What is trained, the control first.
        seeds: Each row is trained once with each.
        model: Spec of the model that all start from.
        settings: ``path=value`` for all rows, ``train.steps`` among them.
        benchmarks: What all are evaluated on.
        out: Folder of the comparison.
        name: Version that all train on; None to curate one for each recipe.
        curation: Source and options that recipes are curated with; its recipe and name are filled in for each.
        gate: What may be lost.
        command: The command line, for the record.
    """

    rows: tuple[Variant, ...]
    seeds: tuple[int, ...]
    model: str
    settings: tuple[str, ...]
    benchmarks: Benchmarks
    out: Path
    name: str | None
    curation: CurateJob
    gate: ComparisonGate
    command: str

    @property
    def catalog(self) -> Catalog:
        """Where versions lie."""
        return self.curation.catalog

    def curated(self, row: Variant) -> CurateJob:
        """Return how a row's version is made; rows that only train otherwise share their recipe's."""
        folder = re.sub(r"[^a-z0-9._-]+", "-", self.out.resolve().name.lower()).strip("-._")[:20]
        words = [folder or "comparison", row.recipe[:20], *([row.name[:20]] if row.data_settings else [])]
        against = self.curation.against if "against" in recipe_arguments(row.recipe) else ()
        settings = (*filter(is_data, self.settings), *row.data_settings)
        return replace(self.curation, recipe=row.recipe, name="-".join(words), settings=settings, against=against)

    def trained(self, row: Variant, seed: int) -> tuple[str, ...]:
        """Return the settings that a row is trained with."""
        every = [*self.settings, *row.settings]
        return (*(item for item in every if not is_data(item)), f"train.seed={seed}")
