"""``aro_relation:FOLDER?images=DIR``: ``visual_genome_relation.json`` with boxes, relation_name and two captions."""

from __future__ import annotations

from pathlib import Path

from flows.evaluation.published_benchmark import PublishedBenchmark
from training.evaluate.published import PublishedCases, read_aro

SYMMETRIC = frozenset({
    "near", "next to", "beside", "by", "with", "and", "close to", "adjacent to", "alongside", "touching", "across from",
})  # fmt: skip
"""Relations that also hold the other way round, so that the false caption is true."""


class AroRelationBenchmark(PublishedBenchmark):
    """ARO's Visual Genome Relation (Yuksekgonul et al. 2023, arXiv 2210.01936)."""

    def read(self, folder: Path) -> PublishedCases:
        """Read the cases."""
        cases = read_aro(folder, "visual_genome_relation.json", lambda record: str(record["relation_name"]))
        return PublishedCases(cases, outside_mean=SYMMETRIC)
