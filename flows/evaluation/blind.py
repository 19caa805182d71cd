"""The blind judges of a test of texts: fluency by n-grams, length, and the model's text encoder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.blind.ngram_model import NgramModel
from curation.blind.tokens import Vocabulary, read_words
from curation.sources import open_source, read_batches
from data_manifests.errors import InputError
from training.evaluate.blind import (
    Case,
    ReferenceTexts,
    add_blind_accuracy,
    flatten_texts,
    length_gaps,
    min_gaps,
    text_encoder_gaps,
)
from training.evaluate.small_files import read_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.features import EmbedTexts


def ngram_gaps(cases: Sequence[Case], reference: ReferenceTexts) -> NDArray[np.float64]:
    """Return by how much each case's right text is likelier than its wrong one under a trigram model of other captions.

    Differences of log probability (natural logarithm); 0 where there is nothing to learn from.
    """
    gaps = np.zeros(len(cases))
    for rows, texts in reference.by_half(cases):
        if not texts or not len(rows):
            continue
        known = read_words(texts)
        vocabulary = Vocabulary.of(known)
        model = NgramModel.fit(vocabulary.encode(known), len(vocabulary))
        part = [cases[row] for row in rows]
        right, wrong = (model.score(vocabulary.encode(read_words(side))) for side in flatten_texts(part))
        gaps[rows] = min_gaps(part, right, wrong)
    return gaps


def blind_gaps(embed: EmbedTexts, cases: Sequence[Case], reference: ReferenceTexts) -> dict[str, NDArray[np.float64]]:
    """Return each judge's gaps, by name."""
    return {
        "ngram": ngram_gaps(cases, reference),
        "length": length_gaps(cases),
        "text_tower": text_encoder_gaps(embed, cases, reference),
    }


def with_blind_judges(
    embed: EmbedTexts, result: BenchmarkResult, prefix: str, cases: Sequence[Case], reference: ReferenceTexts
) -> BenchmarkResult:
    """Return a result with every judge's accuracy added; see `add_blind_accuracy`.

    Args:
        embed: The model's text encoder.
        result: The model's result.
        prefix: Name of the metric with an entry for each category.
        cases: The cases.
        reference: Texts that judges learn from.
    """
    return add_blind_accuracy(result, prefix, cases, blind_gaps(embed, cases, reference))


def read_blind_texts(spec: str) -> tuple[str, ...]:
    """Return the texts of ``--blind-texts``.

    Args:
        spec: A text file with one text a line, or a source ``KIND:PATH`` or ``KIND:PATH#SPLIT``.

    Raises:
        InputError: neither, or no text in it.
    """
    path = Path(spec)
    if path.is_file():
        texts = [line for _, line in read_lines(path)]
    else:
        source, _, split = spec.partition("#")
        batches = read_batches(open_source(source, split or None))
        texts = [text for batch in batches for captions in batch["captions"].to_pylist() for text in captions or ()]
    if not texts:
        raise InputError(
            f"--blind-texts {spec}: no text", allowed="a text file with one text a line, or KIND:PATH[#SPLIT]"
        )
    return tuple(texts)
