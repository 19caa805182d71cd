"""A comparison as the command line describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from data_manifests.manifest import Catalog
from flows.comparison.cells import Benchmarks
from flows.comparison.rows import ComparisonGate
from flows.comparison.variants import Variant, changes_curation
from flows.execution.jobs import CurateJob
from flows.recipe_finding import find_recipe


@dataclass(frozen=True)
class CompareJob:
    """A comparison as the command line describes it.

    Attributes:
        rows: Recipes and variants to train, the control first.
        seeds: Each row is trained once with each seed.
        model: Spec of the model that all start from.
        settings: ``path=value`` for all rows, ``train.steps`` among them.
        benchmarks: What all rows are evaluated on.
        out: Folder of the comparison.
        name: Version that all train on; None to curate one for each recipe.
        curation: Source and options of curation; recipe and name are filled in for each row.
        gate: Points that may be lost on the reported images.
        points: Points that the reported share may lose on the choosing images.
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
    points: float
    command: str

    @property
    def catalog(self) -> Catalog:
        """Its workspace and manifests."""
        return self.curation.catalog

    def curate_job(self, row: Variant) -> CurateJob:
        """Return the job that makes a row's version; rows that differ only in training share a version."""
        folder = re.sub(r"[^a-z0-9._-]+", "-", self.out.resolve().name.lower()).strip("-._")[:20]
        recipe = find_recipe(row.curated_by)
        words = [folder or "comparison", recipe.name[:20], *([row.name[:20]] if row.data_settings else [])]
        against = self.curation.against if "against" in recipe.arguments else ()
        settings = (*filter(changes_curation, self.settings), *row.data_settings)
        return replace(
            self.curation, recipe=row.curated_by, name="-".join(words), settings=settings, against=against, yes=True
        )

    def train_settings(self, row: Variant, seed: int) -> tuple[str, ...]:
        """Return the settings of a row's training."""
        every = [*self.settings, *row.settings]
        return (*(item for item in every if not changes_curation(item)), f"train.seed={seed}")
