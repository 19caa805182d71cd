"""``valse:FOLDER?images=DIR``: one file for each instrument, id -> image_file, caption, foil, mturk."""

from __future__ import annotations

from pathlib import Path

from data_manifests.errors import InputError
from flows.evaluation.published_benchmark import PublishedBenchmark
from training.evaluate.published import PublishedCases, published_case, read_records, read_texts, require_files

MIN_VOTES = 2
"""Of three annotators, so many must have confirmed the caption, as the authors have it."""


class ValseBenchmark(PublishedBenchmark):
    """VALSE (Parcalabescu et al. 2022, arXiv 2112.07566)."""

    def read(self, folder: Path) -> PublishedCases:
        """Read the cases."""
        files = [folder] if folder.is_file() else sorted(folder.glob("*.json"))
        require_files(files, folder, "actant-swap.json, existence.json and the other instruments' files")
        cases, num_not_valid = [], 0
        for path in files:
            for key, record in read_records(path):
                votes = record.get("mturk")
                if not isinstance(votes, dict) or not isinstance(votes.get("caption"), int):
                    raise InputError(f"{path.name} {key}: no mturk.caption", allowed="VALSE's instruments as published")
                if votes["caption"] < MIN_VOTES:
                    num_not_valid += 1
                    continue
                right, wrong = (read_texts(path, key, record, side) for side in ("caption", "foil"))
                cases.append(published_case(path, key, record, "image_file", right, wrong))
        return PublishedCases(tuple(cases), num_not_valid)
