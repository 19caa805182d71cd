"""Attributes of people in captions: gender, age, ethnicity, occupation, activity; by our own word lists.

Words alone mislead: a white shirt is not a white person, a snowman is not a man, a statue of a woman is not a woman, a kid
among goats is not a child. So an adjective counts only where it depends on a person, a noun only where it means a person.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from curation.knowledge.concept_linking import context_words, may_be_verb
from curation.knowledge.homonyms import homonyms
from curation.knowledge.word_sense import root_class
from curation.models.parser import CaptionParse
from curation.text.dependencies import Dependencies
from curation.text.lexicon import noun_lemma, verb_lemma
from curation.text.wordlists import word_sets

_SETS = word_sets("person_attributes")


def _values(attribute: str) -> dict[str, str]:
    """Return word -> value of an attribute, from the sets named ``attribute:value``."""
    return {word: value for value, words in word_sets("person_attributes", attribute).items() for word in words}


_MALE = _SETS["gender:male"]
_FEMALE = _SETS["gender:female"]
_AGE = _values("age")
_AGE_WORDS = _values("age_adjective")
_ETHNICITY = _values("ethnicity")
_OCCUPATION = _values("occupation")
_ACTIVITIES = _values("activity")
_NEUTRAL = _SETS["neutral"]
_PEOPLE = frozenset({*_MALE, *_FEMALE, *_AGE, *_NEUTRAL, *_OCCUPATION} - {"band"})
_PRONOUNS = {"he": "male", "his": "male", "him": "male", "himself": "male",
             "she": "female", "her": "female", "hers": "female", "herself": "female"}  # fmt: skip
_IMITATIONS = _SETS["imitations"]
"""A noun with one of these modifiers is not a person."""
_PICTURES = _SETS["pictures"]
"""What these show is not in the image, except where the caption is about the image itself: "a photo of a man"."""
_OF_THE_CAPTION = _SETS["pictures_of_the_caption"]
_NOUNS = ("NOUN", "PROPN", "INTJ")
_OFTEN_SUBJECTS = _SETS["often_subjects"]
_COMPOUNDS = _SETS["compounds"]
"""Nouns that form a compound with a word for people: "lady bug", "man hole"."""


def tags_of(parses: Sequence[CaptionParse], min_captions: int = 1) -> list[str]:
    """Return the tags, sorted, that at least `min_captions` of an image's captions have (all, if it has fewer).

    A tag is ``attribute:value``: ``gender:female``, ``age:child``, ``ethnicity:asian``, ``occupation:kitchen``,
    ``activity:surf``, and ``person:yes``.
    """
    context = context_words(parses)
    found = [set(_tags(parse, context)) for parse in parses]
    required = max(1, min(min_captions, len(found)))
    return sorted(tag for tag in set().union(*found) if sum(tag in tags for tags in found) >= required)


def _tags(parse: CaptionParse, context: AbstractSet[str]) -> Iterator[str]:
    tree = Dependencies(parse)
    lemmas = [
        _lemma(word) if pos in _NOUNS or tag == "NNS" else word
        for word, pos, tag in zip(tree.words, tree.pos, tree.tags, strict=True)
    ]
    people = {token for token in range(len(lemmas)) if _is_person(tree, lemmas, token, context)}
    animals = any(pos in _NOUNS and root_class(lemma) == "animal" for lemma, pos in zip(lemmas, tree.pos, strict=True))
    for token in sorted(people):
        yield "person:yes"
        yield from _of_person(tree, lemmas, token)
    if people and not animals:  # in "a dog with his ball" the pronoun is not a person's
        yield from (f"gender:{_PRONOUNS[word]}" for word in tree.words if word in _PRONOUNS)
    for token, pos in enumerate(tree.pos):
        activity = _ACTIVITIES.get(verb_lemma(tree.words[token])) if pos == "VERB" else None
        if activity and _subjects(tree, token) & people:
            yield f"activity:{activity}"


def _of_person(tree: Dependencies, lemmas: Sequence[str], token: int) -> Iterator[str]:
    """Yield the tags of one person, from its noun and the noun's modifiers."""
    lemma = lemmas[token]
    modifiers = tree.with_dep(token, "amod", "compound", "nmod")
    words = [tree.words[child] for child in modifiers]
    # in "african-american woman" "african" depends on "american"; the white of "white-haired" is only the hair's
    words += [
        tree.words[deeper] for child in modifiers if tree.words[child] == "american" for deeper in tree.children[child]
    ]
    for nouns, value in ((_MALE, "male"), (_FEMALE, "female")):
        if lemma in nouns or not nouns.isdisjoint(words) or f"{value}s" == lemma:
            yield f"gender:{value}"
    ages = [_AGE_WORDS[word] for word in words if word in _AGE_WORDS] or ([_AGE[lemma]] if lemma in _AGE else [])
    yield from (f"age:{age}" for age in ages)
    yield from (f"ethnicity:{_ETHNICITY[word]}" for word in words if word in _ETHNICITY)
    occupation = _OCCUPATION.get(lemma) or next((_OCCUPATION[word] for word in words if word in _OCCUPATION), None)
    if "police" in words:
        occupation = "security"
    if occupation and not (lemma == "worker" and "office" in words):
        yield f"occupation:{occupation}"


def _is_person(tree: Dependencies, lemmas: Sequence[str], token: int, context: AbstractSet[str]) -> bool:
    lemma = lemmas[token]
    if lemma not in _PEOPLE or tree.pos[token] not in (*_NOUNS, "ADJ") or not _means_person(lemma, context):
        return False
    if tree.pos[token] == "ADJ" and tree.deps[token] in ("amod", "compound", "advmod"):
        return False  # "male dog": counts for the noun, if that is a person
    head = tree.heads[token]
    inside = tree.deps[token] in ("compound", "nmod", "amod", "poss") and tree.pos[head] in _NOUNS and head > token
    # parsers tag the verb of "a woman hikes" as a noun, and "woman" as its compound
    verb = lemma in _OFTEN_SUBJECTS and may_be_verb(tree.words[head]) and tree.words[head] not in _COMPOUNDS
    if inside and tree.deps[token] != "poss" and not verb:
        return False  # "lady bug", "man hole", and "police" of "police officer"
    if "-" in tree.words[max(0, token - 1) : token + 2]:
        return False  # "man-made"
    modifiers = {tree.words[child] for child in tree.with_dep(token, "amod", "compound", "nmod")}
    if token and tree.heads[token - 1] in (token, head):
        modifiers.add(tree.words[token - 1])
    if modifiers & _IMITATIONS or "no" in {tree.words[child] for child in tree.with_dep(token, "det", "neg")}:
        return False
    return not _in_a_picture(tree, lemmas, token)


def _in_a_picture(tree: Dependencies, lemmas: Sequence[str], token: int) -> bool:
    """Return whether a noun is only depicted ("a statue of a man"), compared with or absent ("without a man")."""
    preposition = tree.heads[token]
    if tree.deps[token] == "pobj" and tree.words[preposition] in ("like", "without"):
        return True
    if tree.deps[token] != "pobj" or tree.words[preposition] != "of":
        return False
    shown = tree.heads[preposition]
    about_itself = tree.heads[shown] == shown and lemmas[shown] in _OF_THE_CAPTION
    return lemmas[shown] in _PICTURES and not about_itself


def _subjects(tree: Dependencies, verb: int) -> set[int]:
    """Return the subjects of a verb, or the noun that it modifies, with their conjuncts."""
    for _ in range(len(tree.heads)):
        subjects = tree.with_dep(verb, "nsubj")
        head = tree.heads[verb]
        if subjects or tree.deps[verb] in ("acl", "relcl"):
            found, pending = set(), subjects if subjects and tree.deps[verb] != "relcl" else [*subjects, head]
            while pending:
                token = pending.pop()
                found.add(token)
                pending += tree.with_dep(token, "conj")
            return found
        if tree.deps[verb] not in ("conj", "advcl", "xcomp", "pcomp", "ccomp") or head == verb:
            return set()
        if tree.pos[head] in _NOUNS:
            return {head}
        verb = head
    return set()


def _means_person(lemma: str, context: AbstractSet[str]) -> bool:
    """Return whether an ambiguous word means a person here, by the words of the image's captions, as concept linking does."""
    word = homonyms().get(lemma)
    if word is None:
        return True
    scores = {name: len(cues & (context - {lemma})) for name, cues in word.senses.items()}
    best = max(scores.values())
    leaders = [name for name, count in scores.items() if count == best]
    return (leaders[0] if best and len(leaders) == 1 else word.assumed) == "person"


@functools.lru_cache(maxsize=1 << 15)
def _lemma(word: str) -> str:
    irregular = {"men": "man", "women": "woman", "people": "people", "children": "child", "police": "police"}
    return irregular.get(word) or noun_lemma(word)
