"""Words of captions by class: which are listed, in which order."""

from __future__ import annotations

import pytest

from curation.stages.captions.list_words import ListWords
from data_manifests.errors import InputError
from tests.curation.negative_checks import parsed, sample


def words(caption: str, *classes: str) -> list[tuple[str, str]]:
    stage = ListWords(classes) if classes else ListWords()
    (result,) = stage.process(parsed([sample(caption)]))
    assert isinstance(result, dict)
    return [(one["class"], one["word"]) for one in result["words"] if one["caption"] == 0]


def test_words_are_listed_once_class_by_class() -> None:
    found = words("A man is running on wet grass beside a man .")
    assert found == [
        ("ADJ", "wet"), ("ADP", "on"), ("ADP", "beside"), ("NOUN", "man"), ("NOUN", "grass"), ("VERB", "running"),
    ]  # fmt: skip
    assert words("A man is running on wet grass .", "VERB") == [("VERB", "running")]


@pytest.mark.parametrize("caption", ["", ".", "犬", "N° 5 -- !", "dog's dog-house " * 30])
def test_odd_captions_pass(caption: str) -> None:
    assert all(word.isalnum() and word == word.lower() for _, word in words(caption))


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(InputError, match="classes"):
        ListWords(("NOUNS",))
