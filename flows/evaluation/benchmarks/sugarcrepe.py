"""``sugarcrepe:FOLDER?images=DIR``: ``swap_obj.json`` and six more, id -> filename, caption, negative_caption."""

from __future__ import annotations

from pathlib import Path

from flows.evaluation.published_benchmark import PublishedBenchmark
from training.evaluate.published import SUGARCREPE_CATEGORIES, PublishedCases, existing_files, read_sugarcrepe


class SugarCrepeBenchmark(PublishedBenchmark):
    """SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610)."""

    def read(self, folder: Path) -> PublishedCases:
        """Read the cases."""
        files = existing_files(folder, [f"{name}.json" for name in SUGARCREPE_CATEGORIES])
        return read_sugarcrepe(files, ("caption",))
