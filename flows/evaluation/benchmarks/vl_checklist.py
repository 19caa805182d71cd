"""``vl_checklist:FOLDER?images=DIR``: files of [image, {POS: [text], NEG: [text]}] in folders of any depth."""

from __future__ import annotations

from pathlib import Path

from data_manifests.errors import InputError
from flows.evaluation.published_benchmark import PublishedBenchmark
from training.evaluate.published import PublishedCases, published_case, read_texts, require_files
from training.evaluate.small_files import read_json


class VlChecklistBenchmark(PublishedBenchmark):
    """VL-CheckList (Zhao et al. 2022, arXiv 2207.00221)."""

    def read(self, folder: Path) -> PublishedCases:
        """Read the cases."""
        files = [folder] if folder.is_file() else sorted(folder.rglob("*.json"))
        require_files(files, folder, "files of [image, {POS: [text], NEG: [text]}]")
        cases = []
        for path in files:
            where = path.relative_to(folder if folder.is_dir() else folder.parent).with_suffix("")
            rows = read_json(path)
            if not isinstance(rows, list):
                allowed = "a list of [image, {POS: [..], NEG: [..]}]"
                raise InputError(f"{path.name}: {type(rows).__name__}", allowed=allowed)
            for number, row in enumerate(rows):
                match row:
                    case [str(image), dict(texts)]:
                        right, wrong = (read_texts(path, str(number), texts, side) for side in ("POS", "NEG"))
                    case _:
                        got = f"{path.name} row {number}: {str(row)[:80]}"
                        raise InputError(got, allowed="[image, {POS: [..], NEG: [..]}]")
                record, category = {"image": image}, "_".join(where.parts)
                cases.append(published_case(path, str(number), record, "image", right, wrong, category))
        return PublishedCases(tuple(cases))
