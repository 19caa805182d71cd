"""``aro_attribute:FOLDER?images=DIR``: ``visual_genome_attribution.json`` with boxes, attributes and two captions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.evaluation.published_benchmark import PublishedBenchmark
from training.evaluate.published import PublishedCases, read_aro

MIN_CASES = 25
"""A pair of attributes with fewer cases is not part of the mean, as in ARO."""


class AroAttributeBenchmark(PublishedBenchmark):
    """ARO's Visual Genome Attribution (Yuksekgonul et al. 2023, arXiv 2210.01936)."""

    def read(self, folder: Path) -> PublishedCases:
        """Read the cases."""
        cases = read_aro(folder, "visual_genome_attribution.json", _attribute_pair)
        return PublishedCases(cases, min_cases=MIN_CASES)


def _attribute_pair(record: Mapping[str, Any]) -> str:
    return f"{record['attributes'][0]}_{record['attributes'][1]}"
