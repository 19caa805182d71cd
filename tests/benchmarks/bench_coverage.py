"""How many captions of a version have negatives: as made, after the gate, after balancing; and why some have none.

Run: python -m tests.benchmarks.bench_coverage NAME@VERSION --workspace DIR --manifests DIR
Reads the published version alone: negatives that were kept stand in the sidecars, those that were refused in
rejected.parquet with the stage that refused them. Captions for which nothing was made are parsed again to tell why; a
caption may be counted under several reasons.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq

from curation.models.parser import SpacyParser
from curation.stages.captions.parse_captions import triplets, verb_phrases
from curation.text.lexicon import NEGATIONS
from data_manifests.manifest import Catalog, DatasetVersion

GATE, BALANCE = "find_false_negatives", "refine_negatives"
Place = tuple[str, int]
"""uid and number of a caption."""


def captions_and_kept(version: DatasetVersion) -> tuple[dict[Place, str], Counter[Place]]:
    """Return all captions, and how many published negatives each has."""
    texts: dict[Place, str] = {}
    kept: Counter[Place] = Counter()
    shards = sorted(set(version.index(["shard"])["shard"].to_pylist()))
    for shard in shards:
        for row in version.sidecar(int(shard), ["uid", "captions", "negatives"]).to_pylist():
            texts |= {(row["uid"], at): text for at, text in enumerate(row["captions"])}
            kept.update((row["uid"], record["caption"]) for record in row["negatives"] or ())
    return texts, kept


def refused(version: DatasetVersion) -> Iterator[Mapping[str, str]]:
    path = version.folder / "rejected.parquet"
    if path.is_file():
        for batch in pq.ParquetFile(path).iter_batches(columns=["uid", "caption", "stage", "reason"]):
            yield from batch.to_pylist()


def shares(title: str, counts: Counter[Place], captions: Mapping[Place, str]) -> str:
    most = [sum(counts[place] >= number for place in captions) / max(1, len(captions)) for number in (1, 3)]
    return f"{title:34s} {counts.total():8d} negatives   >= 1: {most[0]:6.1%}   >= 3: {most[1]:6.1%}"


def reasons(texts: list[str]) -> Counter[str]:
    """Return what is missing in captions of which no operation makes a negative."""
    found: Counter[str] = Counter()
    for parse in SpacyParser().parse(texts):
        words, pos = [word.lower() for word in parse["words"]], parse["pos"]
        nouns = sum(tag in ("NOUN", "PROPN") for tag in pos)
        seen = {
            "no word": not any(word.isalpha() for word in words),
            "denies something": not NEGATIONS.isdisjoint(words),
            "no noun": nouns == 0,
            "one noun only": nouns == 1,
            "no verb": not verb_phrases(pos),
            "no adjective": "ADJ" not in pos,
            "nobody does anything to anything": not triplets(parse),
        }
        had = [reason for reason, holds in seen.items() if holds]
        found.update(had or ["all of that, but no word with a rival in our lists"])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("version")
    options.add_argument("--workspace", type=Path, default=Path("workspace"))
    options.add_argument("--manifests", type=Path, default=Path("data_manifests"))
    given = options.parse_args()
    version = Catalog(given.manifests, given.workspace).open(given.version)
    captions, kept = captions_and_kept(version)
    balanced_out: Counter[Place] = Counter()
    gated_out: Counter[Place] = Counter()
    why: dict[Place, Counter[str]] = {}
    for row in refused(version):
        place = row["uid"], int(row["caption"])
        if row["stage"] == BALANCE:
            balanced_out[place] += 1
        elif row["stage"] == GATE and row["reason"] != "repeated":
            gated_out[place] += 1
            why.setdefault(place, Counter())[row["reason"]] += 1
    passed = kept + balanced_out
    made = passed + gated_out
    print(f"{version.ref}: {len(captions)} captions")
    for title, counts in (("made", made), (f"after {GATE}", passed), (f"after {BALANCE}", kept)):
        print(shares(title, counts, captions))
    lost = Counter(why[place].most_common(1)[0][0] for place in captions if not passed[place] and place in why)
    print(f"captions that lost all at the gate: {lost.total()}, by their most frequent reason")
    for reason, count in lost.most_common():
        print(f"  {reason:50s} {count:6d}")
    without = [text for place, text in captions.items() if not made[place]]
    print(f"captions of which nothing is made: {len(without)}")
    for reason, count in reasons(without).most_common():
        print(f"  {reason:50s} {count:6d}")
    for text in without[:8]:
        print(f"    {text}")


if __name__ == "__main__":
    main()
