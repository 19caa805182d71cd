"""Denials made from checked negatives that change one word: "the right lung, not the left one" beside its reverse.

Where captions have neither verbs nor things that lists know, there is no place for "no". But a negative that has passed its checks
names a word and one that is false in its place, and so two texts: the caption that denies the false word is true, the negative
that denies the true word is false. Both have both words and one "not"; only who reads the image can tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from curation.models.parser import CaptionParse
from curation.text.articles import article_for
from curation.text.edits import Edit, apply_edits, normalise, sentence_starts, token_edits
from curation.text.lexicon import NEGATIONS

_ARTICLES = ("a", "an")
_ENDS = ".,;:!?)"


def deny_words(
    captions: Sequence[str], parses: Sequence[CaptionParse], records: Iterable[Mapping[str, Any]], source: str
) -> Iterator[dict[str, Any]]:
    """Yield a negative for each record that changes one word and stays clear of negations, with the true text as ``against``.

    Args:
        captions: The image's.
        parses: Theirs.
        records: Negatives that are false of the image.
        source: Name of the stage, for the records.
    """
    taken = {normalise(caption) for caption in captions}
    for record in records:
        index = record["caption"]
        caption, parse = captions[index], parses[index]
        found = _changed_word(caption, record)
        if found is None or not NEGATIONS.isdisjoint(map(str.lower, parse["words"])):
            continue
        (start, end, new_start, new_end), articles = found
        old, new = caption[start:end], record["text"][new_start:new_end]
        place = _token_at(parse, start, end)
        rest = caption[end : end + 1]
        apart = (not rest or rest.isspace() or rest in _ENDS) and caption[start - 1 : start] in {"", " ", "("}
        if place is None or not apart or not NEGATIONS.isdisjoint(new.lower().split()):
            continue
        before = _said_again(parse, place)
        close = "," if caption[end:].lstrip()[:1] not in {"", *_ENDS} else ""
        said_old, said_new = (_inside(caption, parse, place[0], word) for word in (old, new))
        true = apply_edits(caption, [Edit(end, end, f", not {_article(before, said_new)}{said_new}{close}")])[0]
        pieces = [*articles, Edit(start, end, f"{new}, not {_article(before, said_old)}{said_old}{close}")]
        text, edits = apply_edits(caption, pieces)
        if {normalise(text), normalise(true)} & taken:
            continue
        taken |= {normalise(text), normalise(true)}
        yield {
            "text": text, "caption": index, "operation": "negate", "span_class": "contrast", "type": "negation", "edits": edits,
            "tokens": token_edits(parse, pieces), "rule": f"'{said_new}, not {said_old}'", "source": source, "against": true,
        }  # fmt: skip


def _changed_word(caption: str, record: Mapping[str, Any]) -> tuple[tuple[int, int, int, int], list[Edit]] | None:
    """Return the one edit of a record besides those of articles, and these; None where it changes more, or nothing."""
    words, articles = [], []
    for start, end, new_start, new_end in record["edits"]:
        old, new = caption[start:end], record["text"][new_start:new_end]
        if old.lower() in _ARTICLES and new.lower() in _ARTICLES:
            articles.append(Edit(start, end, new))
        else:
            words.append((start, end, new_start, new_end))
    return (words[0], articles) if len(words) == 1 and words[0][0] < words[0][1] and words[0][2] < words[0][3] else None


def _token_at(parse: CaptionParse, start: int, end: int) -> tuple[int, int] | None:
    """Return the tokens [first, stop) that make up characters [start, end); None where they begin or end within a token."""
    starts = parse["starts"]
    ends = [at + len(word) for at, word in zip(starts, parse["words"], strict=True)]
    return (starts.index(start), ends.index(end) + 1) if start in starts and end in ends else None


def _said_again(parse: CaptionParse, place: tuple[int, int]) -> str:
    """Return what is said again before the denied word, as in "the dog, not the cat": the article of a phrase that ends with it."""
    for first, stop in parse["noun_phrases"]:
        if stop == place[1] and first < place[0] and parse["tags"][first] == "DT":
            return parse["words"][first].lower()
    return ""


def _article(before: str, word: str) -> str:
    if not before:
        return ""
    return f"{article_for(word) if before in _ARTICLES else before} "


def _inside(caption: str, parse: CaptionParse, first: int, word: str) -> str:
    """Return a word as it is written inside a sentence, where it stands at the beginning of one now."""
    capital = word[:1].isupper() and not any(char.isupper() for char in word[1:])
    title = sum(item[:1].isupper() for item in caption.split()) > 1
    named = parse["tags"][first] in ("NNP", "NNPS") and title
    return word[0].lower() + word[1:] if capital and first in sentence_starts(parse["words"]) and not named else word
