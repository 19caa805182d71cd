"""Contrasts learned from generated captions and used on them, against scikit-learn counting three words of the same captions.

Run: python -m tests.benchmarks.bench_contrasts [--num 35000] [--no-peer]
CPU seconds of one core: `fit` learns (from at most 100,000 captions), `apply` makes the negatives of all. The peer,
`CountVectorizer(ngram_range=(1, 3))`, only counts. Captions are made while they are read, so the peak is the stage's own; it
is this process's before the peer starts.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np
from blake3 import blake3

from curation.contrasts.caption_words import split
from curation.stages.negatives.mine_contrasts import MineContrasts
from data_manifests.sample import ImageRef, Sample

BATCH = 500
SHARED, CONSONANTS, VOWELS = 400, "bdfgklmnprstvz", "aeiou"
FRAMES = (
    "{size} {colour} {thing} on the {side} side of the {place}",
    "a {colour} {thing} , {number} mm , {side} of a {other}",
    "{brand} {thing} in {colour} with {detail}",
    "the {place} has a {size} {other} and {detail}",
)
CLOSED = {
    "size": ("small", "large", "huge"),
    "colour": ("red", "blue", "green", "black", "white", "ochre", "mauve"),
    "side": ("left", "right", "upper", "lower"),
}


def made_up(kind: str, number: int) -> str:
    """Return the word of a number: two or three syllables."""
    digits = blake3(f"{kind} {number}".encode()).digest(length=6)
    pairs = zip(digits[::2], digits[1::2], strict=True)
    return "".join(CONSONANTS[one % len(CONSONANTS)] + VOWELS[other % len(VOWELS)] for one, other in pairs)


class Generated:
    """Columns of generated captions, one an image; frequent words are few and rare ones many, as in real captions."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.uids = [f"{number:032x}" for number in range(num_samples)]
        self._words = {
            kind: [made_up(kind, number) for number in range(SHARED)]
            for kind in ("thing", "place", "other", "brand", "detail")
        }

    def batches(self, *fields: str) -> Iterator[list[Sample]]:
        for start in range(0, self.num_samples, BATCH):
            draws = np.random.default_rng(start)
            yield [self._sample(number, draws) for number in range(start, min(start + BATCH, self.num_samples))]

    def _sample(self, number: int, draws: np.random.Generator) -> Sample:
        chosen = {kind: words[int(draws.integers(len(words)))] for kind, words in CLOSED.items()}
        chosen |= {kind: words[int(SHARED * draws.random() ** 3)] for kind, words in self._words.items()}
        caption = FRAMES[int(draws.integers(len(FRAMES)))].format(**chosen, number=int(draws.integers(2, 90)))
        words = split(caption)
        parse = {
            "words": [caption[word.start : word.end] for word in words],
            "starts": [word.start for word in words],
            "pos": ["X"] * len(words),
        }
        uid = self.uids[number]
        return Sample(uid, uid, ImageRef("none"), (caption,), fields={"parses": [parse]})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num", type=int, default=35_000)
    parser.add_argument("--no-peer", action="store_true")
    asked = parser.parse_args()
    columns, stage = Generated(asked.num), MineContrasts()
    begun = time.process_time()
    for _ in columns.batches():
        pass
    making = time.process_time() - begun

    begun = time.process_time()
    fit = stage.fit(columns)  # type: ignore[arg-type]  # a stage reads uids and batches only
    fitting = time.process_time() - begun - making
    begun, number = time.process_time(), 0
    for batch in columns.batches():
        number += sum(len(row["mined_negatives"]) for row in stage.apply(batch, fit) if isinstance(row, dict))
    applying = time.process_time() - begun - making
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{asked.num:,} captions: fit {fitting:.1f} s, apply {applying:.1f} s, {number:,} negatives "
        f"({number / max(applying, 1e-9):,.0f} a second), {len(fit.values['classes'])} classes, peak {peak:.2f} GiB "
        f"(making the captions, {making:.1f} s, is not counted)",
        flush=True,
    )
    if not asked.no_peer:
        from sklearn.feature_extraction.text import CountVectorizer

        begun = time.process_time()
        counts = CountVectorizer(ngram_range=(1, 3)).fit_transform(
            caption for batch in columns.batches() for sample in batch for caption in sample.captions
        )
        counting = time.process_time() - begun - making
        print(
            f"CountVectorizer, one to three words: {counting:.1f} s, {counts.shape[1]:,} n-grams; "
            f"fit and apply take {(fitting + applying) / counting:.1f} times as long",
            flush=True,
        )


if __name__ == "__main__":
    main()
