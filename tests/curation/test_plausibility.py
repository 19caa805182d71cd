"""What makes no sense and what says the same in another order, told from words."""

from __future__ import annotations

import pytest

from curation.entailment.plausibility import is_likely_swap, sort_lists


def swapped(caption: str, one: str, other: str, span_class: str) -> tuple[str, dict[str, object]]:
    """Return a caption and the record of an exchange of two of its parts."""
    edits = [[caption.index(part), caption.index(part) + len(part), 0, 0] for part in (one, other)]
    return caption, {"operation": "swap", "span_class": span_class, "edits": edits}


@pytest.mark.parametrize(
    ("caption", "one", "other", "span_class", "likely"),
    [
        ("A man and a dog .", "man", "dog", "noun", False),
        ("A dog and a cat .", "dog", "cat", "noun", True),
        ("A man in a hat .", "man", "hat", "noun", False),
        ("A red dress and a scarf .", "dress", "scarf", "noun", True),
        ("The big dog sees a small dog .", "The big dog", "a small dog", "noun_chunk", True),
        ("The black dog sees a red bus .", "The black dog", "a red bus", "noun_chunk", False),
        ("A red bus and a blue car .", "red", "blue", "adjective", True),
        ("A young boy in a blue shirt .", "young", "blue", "adjective", False),
        ("A man sitting by a man standing .", "sitting", "standing", "verb_phrase", True),
        ("A man sitting , eating cake .", "sitting", "eating", "verb_phrase", False),
        ("Only he runs happily .", "Only", "happily", "adverb", False),
    ],
)
def test_only_words_of_one_sort_change_places(
    caption: str, one: str, other: str, span_class: str, likely: bool
) -> None:
    assert is_likely_swap(*swapped(caption, one, other, span_class)) is likely


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("red , yellow , and white tulips", "White , yellow , and red tulips", True),
        ("black and white dogs", "white and black dogs", True),
        ("red and white dogs", "white and black dogs", False),
        ("a man and a dog", "a dog and a man", False),  # more than a word each: the gate reads those
    ],
)
def test_lists_are_told_without_their_order(one: str, other: str, same: bool) -> None:
    assert (sort_lists(one) == sort_lists(other)) is same
