"""Precision and recall of each detector of duplicates and leaks, by kind of change, on photographs with planted copies.

Run: python -m tests.benchmarks.bench_duplicates FLICKR [--share 0.05] [--seed 1] [--tune 0] [--model RUN] [--workspace W]
A share of the photographs is copied and changed (crop to a tenth, JPEG 40, resize to 30-80 %, flip, re-saved with a slip
in each caption, and all of these at once). `duplicates` looks for pairs within originals and copies together, `leaks`
for originals that a set of the copies shows. The cosine of the detector "embedding" is tuned for the best F1 on the
copies of seed `tune` and reported on those of `seed`. Without --model the embeddings are left out. What is found
between two originals counts as wrong, and is listed. Times include the second look, at the pixels. Then the stage
`find_duplicates`: the time of a whole run, and of an update by one sample and by 1 %.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.dedup.captions import plain_texts, same_caption_pairs
from curation.dedup.evaluation_sets import image_signatures
from curation.dedup.matching import Candidates, Detectors, ImageSignatures, candidates_between, candidates_within
from curation.engine.engine import run_stages
from curation.engine.intake import read_source
from curation.engine.replay import WorkUnit, replay
from curation.engine.stage import PreviousIndex, Stage
from curation.engine.store import ALL_SAMPLES
from curation.sources import open_source
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.hygiene.check_images import CheckImages
from curation.stages.hygiene.find_duplicates import FindDuplicates
from curation.stages.hygiene.hash_images import HashImages
from data_manifests.sample import Sample
from tests.curation.listed_columns import ListedColumns
from tests.planted_copies import KINDS, plant
from training.model.spec import ModelSpec

Pairs = set[tuple[str, str]]
LOOK = Detectors(neighbours=0)
WIDE = Detectors(neighbours=5)


def seen(spec: str, root: Path, stages: Sequence[Stage]) -> list[Sample]:
    """Return a source's samples with hashes (and embeddings)."""
    snapshot = read_source(open_source(spec), root / "intake", location=spec)
    started = time.process_time()
    done, reports = run_stages(stages, snapshot, root / "store")
    computed = ", ".join(f"{report.stage.name} {report.num_computed}" for report in reports)
    print(
        f"{spec.partition(':')[0]}: {snapshot.num_samples} samples, computed {computed}; {time.process_time() - started:.1f} s of CPU"
    )
    need = [field.name for stage in stages for field in stage.provides]
    unit = WorkUnit(stages[-1], tuple(done), snapshot.folder, root / "store", ALL_SAMPLES)
    return [item.sample for item in replay(unit, need)]


@dataclass(frozen=True)
class Planted:
    """Originals, copies, and which copy is whose and of which kind."""

    originals: list[Sample]
    copies: list[Sample]
    kinds: Mapping[tuple[str, str], str]
    embedded: bool

    def both(self) -> list[Sample]:
        """Return originals and copies, sorted by uid."""
        return sorted([*self.originals, *self.copies], key=lambda sample: sample.uid)


def plant_into(originals: list[Sample], share: float, seed: int, root: Path, stages: Sequence[Stage]) -> Planted:
    """Plant copies of a share of the originals."""
    chosen = random.Random(seed).sample(originals, round(share * len(originals)))
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder), [(sample.name, sample.image.read(), sample.captions) for sample in chosen], seed)
        copies = seen(f"folder:{folder}", root, stages)
    by_stem = {Path(sample.name).stem: sample.uid for sample in chosen}
    kinds = {}
    for copy in copies:
        kind, _, stem = Path(copy.name).stem.partition("-")
        kinds[ordered(copy.uid, by_stem[stem])] = kind
    return Planted(originals, copies, kinds, any(isinstance(stage, EmbedSamples) for stage in stages))


def ordered(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def candidates(pictures: ImageSignatures, other: ImageSignatures | None, look: Detectors) -> Candidates:
    if other is None:
        return candidates_within(pictures, look)
    return candidates_between(pictures, np.arange(len(pictures.uids)), lambda: other, len(other.uids), look)


def pairs_by(found: Candidates, cosine: float | None = None) -> list[tuple[int, int]]:
    """Return the candidates by hash, or those by embedding from a cosine."""
    chosen = found.bits >= 0 if cosine is None else found.similarity >= cosine * 1e6
    return list(zip(found.left[chosen].tolist(), found.right[chosen].tolist(), strict=True))


def report(name: str, found: Pairs, kinds: Mapping[tuple[str, str], str], seconds: float) -> None:
    """Print precision and recall, by kind."""
    right = found & kinds.keys()
    cells = []
    for kind in KINDS:
        wanted = {pair for pair, its in kinds.items() if its == kind}
        cells.append(f"{len(wanted & found) / max(1, len(wanted)):7.1%}")
    precision = len(right) / max(1, len(found))
    print(f"{name:28} {precision:8.1%} {len(right) / len(kinds):7.1%} {' '.join(cells)} {len(found):7} {seconds:7.1f}")


def detectors(planted: Planted, pictures: ImageSignatures, other: ImageSignatures | None, cosine: float) -> None:
    """Print a line for each detector."""
    there = pictures if other is None else other

    def names(pairs: Sequence[tuple[int, int]]) -> Pairs:
        return {ordered(pictures.uids[one], there.uids[two]) for one, two in pairs}

    def timed(name: str, pairs: Sequence[tuple[int, int]], started: float) -> None:
        report(name, names(pairs), planted.kinds, time.process_time() - started)

    print(
        f"{'detector':28} {'precision':8} {'recall':>7} "
        + " ".join(f"{kind:>7}" for kind in KINDS)
        + "   pairs   CPU s"
    )
    for radius in (5, 9):
        started = time.process_time()
        found = candidates(pictures, other, Detectors(radius=radius, neighbours=0))
        timed(f"hash, {radius} bits", pairs_by(found), started)
    look = WIDE if planted.embedded else LOOK
    started = time.process_time()
    found = candidates(pictures, other, look)
    if planted.embedded:
        timed(f"embedding, cosine {cosine:.3f}", pairs_by(found, cosine), started)
    matches = found.matches(look)
    # a detector alone finds exactly those of its candidates that pass the second look; the time is of both together
    by_hash = [(item.left, item.right) for item in matches if item.bits is not None]
    timed("hash, second look", by_hash, started)
    if planted.embedded:
        by_embedding = [(item.left, item.right) for item in matches if item.similarity is not None]
        timed("embedding, second look", by_embedding, started)
        timed("hash or embedding, look", [(item.left, item.right) for item in matches], started)
    for item in matches:
        pair = ordered(pictures.uids[item.left], there.uids[item.right])
        if pair not in planted.kinds:
            called = {sample.uid: sample.name for sample in planted.both()}
            print("not planted:", *(called[uid] for uid in pair), item.evidence())
    missed = planted.kinds.keys() - names([(item.left, item.right) for item in matches])
    print("missed:", sorted(planted.kinds[pair] for pair in missed))


def tuned_cosine(planted: Planted) -> float:
    """Return the cosine with the best F1 on planted copies."""
    pictures = image_signatures(planted.both(), embedded=True)
    near = candidates_within(pictures, WIDE)
    best = (0.0, 1.0)
    for cosine in np.arange(0.5, 1.0, 0.005).round(3).tolist():
        found = {ordered(pictures.uids[one], pictures.uids[two]) for one, two in pairs_by(near, cosine)}
        score = 2 * len(found & planted.kinds.keys()) / max(1, len(found) + len(planted.kinds))
        best = max(best, (score, cosine))
    print(f"tuned cosine {best[1]:.3f}: F1 {best[0]:.3f}")
    return best[1]


def captions(planted: Planted) -> None:
    """Print what captions alone find, and what is found between originals by pixels."""
    started = time.process_time()
    both = planted.both()
    shares = same_caption_pairs([plain_texts(sample.captions) for sample in both])
    for least in (0.2, 0.5, 0.8):
        found = {ordered(both[one].uid, both[two].uid) for (one, two), share in shares.items() if share >= least}
        report(f"captions, {least:.0%} of them", found, planted.kinds, time.process_time() - started)


def updates(samples: Sequence[Sample], *, embedded: bool) -> None:
    """Print how long the stage takes for all samples, and when one of them, or 1 %, has come since."""
    stage, now = FindDuplicates(embeddings=embedded), ListedColumns(samples, batch=256)
    started = time.process_time()
    whole = stage.update(now, None)
    print(f"\nfind_duplicates of {len(samples)}: {time.process_time() - started:.2f} s of CPU", end="")
    for number in (1, len(samples) // 100):
        new = set(random.Random(number).sample(now.uids, number))
        old = ListedColumns([sample for sample in now.samples if sample.uid not in new], batch=256)
        row_now = np.array([now.uids.index(uid) for uid in old.uids])
        before = PreviousIndex(stage.update(old, None), old.uids, row_now)
        started = time.process_time()
        updated = stage.update(now, before)
        print(f"; {number} new: {time.process_time() - started:.2f} s", end="")
        assert updated.to_bytes() == whole.to_bytes()
    print()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("flickr")
    options.add_argument("--share", type=float, default=0.05)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--tune", type=int, default=0)
    options.add_argument("--model")
    options.add_argument("--workspace", type=Path)
    given = options.parse_args()
    stages: list[Stage] = [CheckImages(), HashImages()]
    stages += [EmbedSamples(ModelSpec.parse(given.model))] if given.model else []
    with tempfile.TemporaryDirectory() as folder:
        root = given.workspace or Path(folder)
        originals = seen(f"flickr:{given.flickr}", root, stages)
        embedded = bool(given.model)
        cosine = tuned_cosine(plant_into(originals, given.share, given.tune, root, stages)) if embedded else 1.0
        planted = plant_into(originals, given.share, given.seed, root, stages)
    both = image_signatures(planted.both(), embedded=embedded)
    print(f"\nduplicates among {len(both.uids)} pictures, {len(planted.kinds)} planted")
    detectors(planted, both, None, cosine)
    captions(planted)
    updates(planted.both(), embedded=embedded)
    print(f"\nleaks of {len(planted.copies)} copies in {len(originals)} originals")
    detectors(
        planted,
        image_signatures(originals, embedded=embedded),
        image_signatures(planted.copies, embedded=embedded),
        cosine,
    )


if __name__ == "__main__":
    main()
