"""Contrasts mined from captions of scenes, whose truth is known: false negatives, the grammar's classes, planted noise.

Run: python -m tests.benchmarks.bench_scene_contrasts [--scenes 200@3] [--one]
`--one` leaves each scene one caption. Noise is words before nouns in a third of the captions, whatever the scene. A class of the
grammar is found as far as its words stand in one class of the stage.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from curation.contrasts.decisions import shown_classes
from curation.sources.scenes import ScenesSource
from curation.sources.synthetic.grammar import ADJECTIVES, GROUND_NOUNS, NOUNS, PREPOSITIONS
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from curation.stages.negatives.mine_contrasts import MineContrasts
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.benchmarks.scene_truth import exactly_true
from tests.curation.listed_columns import ListedColumns
from tests.curation.negative_checks import parsed

NOISE = ("fine", "nice", "zorby", "quaint")
TRUE_CLASSES: Mapping[str, Sequence[Sequence[str]]] = {
    **{kind: list(values.values()) for kind, values in ADJECTIVES.items()},
    "shape": list(NOUNS.values()),
    "ground": list(GROUND_NOUNS.values()),
    "side": [PREPOSITIONS[name] for name in ("left of", "right of")],
    "height": [PREPOSITIONS[name] for name in ("above", "below")],
    "nesting": [PREPOSITIONS[name] for name in ("inside", "around")],
}


def with_noise(caption: str, draws: np.random.Generator) -> str:
    """Return a caption with a noise word before one of its nouns, in a third of the cases."""
    words = caption.split()
    nouns = [at for at, word in enumerate(words) if at and word.strip(".,") in NOUNS]
    if nouns and draws.integers(3) == 0:
        words.insert(nouns[int(draws.integers(len(nouns)))], NOISE[int(draws.integers(len(NOISE)))])
    return " ".join(words)


def scenes(spec: str, *, one: bool, noise: bool) -> list[Sample]:
    """Return parsed samples of scenes."""
    draws, found = np.random.default_rng(0), list[Sample]()
    for record in ScenesSource(spec).records():
        texts = [with_noise(text, draws) if noise else text for text in record.captions[: 1 if one else None]]
        uid = image_uid(record.name.encode())
        found.append(
            Sample(uid, record.name, ImageRef("none"), tuple(dict.fromkeys(texts)), attributes=record.attributes)
        )
    return sorted(parsed(found), key=lambda sample: sample.uid)


def measure_truth(samples: Sequence[Sample], stage: MineContrasts) -> tuple[Counter[bool | None], list[set[str]]]:
    """Return how many mined contrasts that pass the gate are true of their scene, and the classes they are of."""
    fit = stage.fit(ListedColumns(samples))
    mined = [
        replace(one, fields={**one.fields, **found})
        for one, found in zip(samples, stage.apply(samples, fit), strict=True)
        if isinstance(found, dict)
    ]
    verdicts: Counter[bool | None] = Counter()
    gate = FindFalseNegatives(("mined_negatives",), None, "exactly")
    for one, judged in zip(mined, gate.process(mined), strict=True):
        for record in judged["true_negatives"] if isinstance(judged, dict) else ():
            verdicts[exactly_true(one.attributes["scene"], record["text"])] += 1
    return verdicts, [{word for word, _, _ in item["members"]} for item in shown_classes(fit.values)]


def share_found(values: Sequence[Sequence[str]], classes: Sequence[set[str]], said: set[str]) -> float:
    """Return the largest share of a true class's values, of those that captions name, that one class has words of."""
    named = [words for words in values if any(word.split()[-2 if " of" in word else 0] in said for word in words)]
    held = [sum(any(set(words) & one or _core(words) & one for words in [value]) for value in named) for one in classes]
    return max(held, default=0) / max(len(named), 1)


def _core(words: Sequence[str]) -> set[str]:
    """Return the words of phrases that tell them apart: "left" of "to the left of"."""
    return {word for phrase in words for word in phrase.split() if word not in ("to", "the", "of", "on")}


def main() -> None:
    """Measure, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", default="200@3")
    parser.add_argument("--one", action="store_true")
    given = parser.parse_args()
    stage = MineContrasts()
    samples = scenes(given.scenes, one=given.one, noise=False)
    verdicts, classes = measure_truth(samples, stage)
    judged = verdicts[True] + verdicts[False]
    print(
        f"negatives true of their scene: {verdicts[True]} of {judged} ({verdicts[True] / max(judged, 1):.2%}), unread {verdicts[None]}"
    )
    said = {word.strip(".,").lower() for one in samples for text in one.captions for word in text.split()}
    shares = {kind: share_found(values, classes, said) for kind, values in TRUE_CLASSES.items()}
    print("found: " + ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items()))
    noisy = scenes(given.scenes, one=given.one, noise=True)
    _, classes = measure_truth(noisy, stage)
    print(f"noise words in classes: {sorted(word for one in classes for word in one if word in NOISE)}")


if __name__ == "__main__":
    main()
