"""What people decide about words, brought into what was learned of them: it changes the named words alone.

A vocabulary's classes stand beside the learned ones, and their words are no longer exchanged as members of these; they still
count there, so that other words are exchanged as before. Any vocabulary can take the place of any other: nothing learned is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from curation.contrasts.caption_words import Phrases, WordTable
from curation.contrasts.classes import ContrastClass
from curation.contrasts.learn import (
    LearningImage,
    context_arrays,
    count_words,
    describe,
    lowered_captions,
    types_of_words,
    written_forms,
)
from curation.contrasts.vocabulary import ContrastVocabulary
from curation.engine.fits import Fit
from curation.text.languages import CaptionLanguage

_PREFIX = "given_"
"""How the names of arrays begin that say how often words stand together of which, or beside which, people have decided."""


def with_decisions(
    learned: Fit, vocabulary: ContrastVocabulary, images: Sequence[LearningImage], language: CaptionLanguage
) -> Fit:
    """Return a fit with a vocabulary in the place of the one that it had, if any.

    Args:
        learned: A fit with what `Learner.learn` returned, or what this function returned.
        vocabulary: What people have decided.
        images: The captions; needed for how often the words of its classes come, and beside what.
        language: The captions' language.
    """
    arrays = {name: array for name, array in learned.arrays.items() if not name.startswith(_PREFIX)}
    words = {word for one in vocabulary.classes for word in one}
    given: list[dict[str, Any]] = []
    if words:
        members = words | {word for one in learned.values["classes"] for word, _, _ in _open_members(one, words)}
        phrases = Phrases(members)
        table = WordTable.of([[phrases.join(caption) for caption in image] for image in lowered_captions(images)])
        counts = count_words(table)
        forms, types = written_forms(images, words, phrases), types_of_words(images)
        classes = [one for one in (_of(words_of, counts) for words_of in vocabulary.classes) if len(one.members) > 1]
        given = [describe(one, forms, types, language.negations) for one in classes]
        found = context_arrays(table, members, language, counted=words)
        arrays |= {f"{_PREFIX}{name}": array for name, array in found.items()}
    values = {
        **learned.values,
        "given": given,
        "named": sorted(words),
        "synonyms": sorted(map(sorted, vocabulary.synonyms)),
        "keep": sorted(vocabulary.keep),
    }
    return replace(learned, values=values, arrays=arrays)


def classes_of(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the classes of a fit's values, as `curation.contrasts.class_counts.Members.of` reads them.

    Members of learned classes that people have put elsewhere are listed as ``moved``.
    """
    named = set(values["named"])
    learned = []
    for one in values["classes"]:
        stay = {word for word, _, _ in _open_members(one, named)}
        learned.append({**one, "moved": [word for word, _, _ in one["members"] if word not in stay]})
    return [*({**one, "moved": []} for one in values["given"]), *learned]


def shown_classes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the classes of a fit's values for people: without words that are never exchanged, and what they would exclude."""
    keep, shown = set(values["keep"]), []
    for one in classes_of(values):
        gone = {word for word, _, _ in one["members"] if not keep.isdisjoint((word, *word.split(" ")))} | {
            *one["moved"]
        }
        members = [item for item in one["members"] if item[0] not in gone]
        if len({one["meanings"].get(word, word) for word, _, _ in members}) > 1:
            contrasts = [item for item in one["contrasts"] if gone.isdisjoint(item[:2])]
            shown.append({**one, "members": members, "contrasts": contrasts})
    return shown


def merged_contexts(arrays: Mapping[str, np.ndarray[Any, Any]], name: str) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the keys and counts of a table of a fit, where something was learned that, elsewhere what was added later."""
    keys, counts = arrays[f"{name}_keys"], arrays[f"{name}_counts"]
    if f"{_PREFIX}{name}_keys" not in arrays:
        return keys, counts
    more, times = arrays[f"{_PREFIX}{name}_keys"], arrays[f"{_PREFIX}{name}_counts"]
    is_new = ~np.isin(more, keys)
    keys, counts = np.concatenate([keys, more[is_new]]), np.concatenate([counts, times[is_new]])
    order = np.argsort(keys, kind="stable")
    return keys[order], counts[order]


def merged_forms(arrays: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return the keys of forms of a fit, and of those that were added later."""
    return np.union1d(arrays["forms"], arrays.get(f"{_PREFIX}forms", arrays["forms"][:0]))


def _open_members(described: Mapping[str, Any], named: set[str]) -> list[list[Any]]:
    """Return the members of a learned class that stay there; of a general class no phrase stays that has a named word."""
    is_general = bool(described["form"])
    return [
        item
        for item in described["members"]
        if item[0] not in named and not (is_general and not named.isdisjoint(item[0].split(" ")))
    ]


def _of(words: Sequence[str], counts: Mapping[str, int]) -> ContrastClass:
    """Return the class of some words, with those that the captions have."""
    ordered = sorted((word for word in words if word in counts), key=lambda word: (-counts[word], word))
    return ContrastClass("/".join(ordered[:2]), {word: counts[word] for word in ordered}, ())
