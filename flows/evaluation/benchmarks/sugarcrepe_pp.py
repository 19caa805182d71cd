"""``sugarcrepe_pp:FOLDER?images=DIR``: five files (json or csv) with filename, caption, caption2, negative_caption."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from flows.evaluation.published_benchmark import PublishedBenchmark
from training.evaluate.published import SUGARCREPE_CATEGORIES, PublishedCases, existing_files, read_sugarcrepe


class SugarCrepePPBenchmark(PublishedBenchmark):
    """SugarCrepe++ (Dumpala et al. 2024, arXiv 2406.11171), with its task on texts alone."""

    has_text_only_task: ClassVar[bool] = True

    def read(self, folder: Path) -> PublishedCases:
        """Read the cases."""
        names = [f"{name}.{extension}" for name in SUGARCREPE_CATEGORIES for extension in ("json", "csv")]
        return read_sugarcrepe(existing_files(folder, names), ("caption", "caption2"))
