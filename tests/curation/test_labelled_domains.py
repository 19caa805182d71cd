"""Negatives of real captions of four domains that were read and labelled: what people would write stays so.

`golden/labelled_domain_negatives.tsv` has 100 negatives of each of three domains, drawn from those that `ahnm` keeps of
400 random captions (seed 12), and 200 of Flickr8k's 1,000 dev photographs, read by one person: `false` of the image as far as its caption lets one tell, `fluent`, and
`asked`, a question that a doctor, an analyst or a buyer might ask of the picture. No caption is in the file: a key is the
hash of a caption and a negative.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from blake3 import blake3

from curation.engine.stage import FittedStage, MapStage, Stage
from curation.stages.captions.parse_captions import ParseCaptions
from data_manifests.sample import ImageRef, Sample, image_uid
from flows.recipe import load_recipe
from tests.curation.listed_columns import ListedColumns

FILE = Path(__file__).parents[1] / "golden" / "labelled_domain_negatives.tsv"
LABELS = ("false", "fluent", "asked")
NUM, SEED = 400, 12


def labelled(domain: str) -> dict[str, dict[str, int]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["domain"] == domain]
    return {row["key"]: {label: int(row[label]) for label in LABELS} for row in rows}


def kept(path: Path) -> list[tuple[str, str]]:
    """Return the captions and negatives that `ahnm` keeps of some captions."""
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    first = [(row["file_name"], row["captions"][0]) for row in rows if row["captions"]]
    random.Random(SEED).shuffle(first)
    samples = [
        Sample(image_uid(name.encode()), name, ImageRef(name), (caption,)) for name, caption in sorted(first[:NUM])
    ]
    names = [stage.name for stage in load_recipe("ahnm").stages]
    made = load_recipe("ahnm").stages[names.index("swap_words") : names.index("grade_negatives") + 1]
    for stage in (ParseCaptions(), *made):
        samples = through(stage, samples)
    return [(one.captions[0], record["text"]) for one in samples for record in one["graded_negatives"]]


def through(stage: Stage, samples: Sequence[Sample]) -> list[Sample]:
    if isinstance(stage, FittedStage):
        results = stage.apply(samples, stage.fit(ListedColumns(samples)))
    else:
        assert isinstance(stage, MapStage)
        results = stage.process(samples)
    return [one.adding(result) for one, result in zip(samples, results, strict=True) if isinstance(result, dict)]


@pytest.mark.parametrize(
    ("domain", "num"), [("radiology", 100), ("remote_sensing", 99), ("products", 100), ("flickr8k", 200)]
)
def test_nine_of_ten_were_false_and_fluent(domain: str, num: int) -> None:
    found = labelled(domain)
    assert len(found) == num  # two satellite images have one caption
    good = Counter(label for row in found.values() for label in LABELS if row[label])
    assert good["false"] >= 0.9 * num and good["fluent"] >= 0.9 * num and good["asked"] >= 0.8 * num, good


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["radiology", "remote_sensing", "products"])
def test_what_is_kept_today_is_as_good(domain: str, real_data: Path) -> None:
    """Of those that were read, some are kept of the same captions under other names, too: draws go by name."""
    found = labelled(domain)
    keys = {
        blake3(f"{caption}\n{text}".encode()).hexdigest(length=8)
        for caption, text in kept(real_data / "domains" / f"{domain}.jsonl")
    }
    still = [found[key] for key in sorted(keys & found.keys())]
    assert len(still) >= 20
    for label, least in (("false", 0.9), ("fluent", 0.85), ("asked", 0.75)):
        assert sum(row[label] for row in still) >= least * len(still), (label, len(still))
