"""Attributes of the people that captions speak of: gender, age, ethnicity, occupation, activity; our own word lists.

Words alone mislead: the white of a shirt is nobody's, a snowman no man, a statue of a woman no woman, and a kid among
goats no child. So a describing word counts only where it hangs on a person, a noun only in its person's sense.
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
"""A man that is called one of these is none."""
_PICTURES = _SETS["pictures"]
"""What is shown in one of these is not there; a photo of a man is, where the caption is about the photo itself."""
_OF_THE_CAPTION = _SETS["pictures_of_the_caption"]
_NOUNS = ("NOUN", "PROPN", "INTJ")
_OFTEN_SUBJECTS = _SETS["often_subjects"]
_COMPOUNDS = _SETS["compounds"]
"""What these nouns are really the first half of."""


def tags_of(parses: Sequence[CaptionParse], min_captions: int = 1) -> list[str]:
    """Return the tags, sorted, that at least so many of an image's captions give (all, if it has fewer).

    A tag is ``attribute:value``: ``gender:female``, ``age:child``, ``ethnicity:asian``, ``occupation:kitchen``,
    ``activity:surf``, and ``person:yes``.
    """
    context = context_words(parses)
    found = [set(_tags(parse, context)) for parse in parses]
    wanted = max(1, min(min_captions, len(found)))
    return sorted(tag for tag in set().union(*found) if sum(tag in one for one in found) >= wanted)


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
    if people and not animals:  # "a dog with his ball" says nothing of people
        yield from (f"gender:{_PRONOUNS[word]}" for word in tree.words if word in _PRONOUNS)
    for token, pos in enumerate(tree.pos):
        activity = _ACTIVITIES.get(verb_lemma(tree.words[token])) if pos == "VERB" else None
        if activity and _doers(tree, token) & people:
            yield f"activity:{activity}"


def _of_person(tree: Dependencies, lemmas: Sequence[str], token: int) -> Iterator[str]:
    """Yield what is said of one person: by its noun and by what hangs on it or joins it to a name of a trade."""
    lemma = lemmas[token]
    near = tree.with_dep(token, "amod", "compound", "nmod")
    describing = [tree.words[one] for one in near]
    # "african-american woman" hangs "african" on "american"; the white of "white-haired" stays with the hair
    describing += [tree.words[below] for one in near if tree.words[one] == "american" for below in tree.children[one]]
    for words, value in ((_MALE, "male"), (_FEMALE, "female")):
        if lemma in words or not words.isdisjoint(describing) or f"{value}s" == lemma:
            yield f"gender:{value}"
    ages = [_AGE_WORDS[word] for word in describing if word in _AGE_WORDS] or ([_AGE[lemma]] if lemma in _AGE else [])
    yield from (f"age:{age}" for age in ages)
    yield from (f"ethnicity:{_ETHNICITY[word]}" for word in describing if word in _ETHNICITY)
    trade = _OCCUPATION.get(lemma) or next((_OCCUPATION[word] for word in describing if word in _OCCUPATION), None)
    if "police" in describing:
        trade = "security"
    if trade and not (lemma == "worker" and "office" in describing):
        yield f"occupation:{trade}"


def _is_person(tree: Dependencies, lemmas: Sequence[str], token: int, context: AbstractSet[str]) -> bool:
    lemma = lemmas[token]
    if lemma not in _PEOPLE or tree.pos[token] not in (*_NOUNS, "ADJ") or not _means_person(lemma, context):
        return False
    if tree.pos[token] == "ADJ" and tree.deps[token] in ("amod", "compound", "advmod"):
        return False  # "male dog": counted at the noun, if that is a person
    head = tree.heads[token]
    inside = tree.deps[token] in ("compound", "nmod", "amod", "poss") and tree.pos[head] in _NOUNS and head > token
    # parsers take the verb of "a woman hikes" for a noun, and the woman for its first half
    verb = lemma in _OFTEN_SUBJECTS and may_be_verb(tree.words[head]) and tree.words[head] not in _COMPOUNDS
    if inside and tree.deps[token] != "poss" and not verb:
        return False  # "lady bug", "man hole", and "police" of "police officer"
    if "-" in tree.words[max(0, token - 1) : token + 2]:
        return False  # "man-made"
    near = {tree.words[one] for one in tree.with_dep(token, "amod", "compound", "nmod")}
    if token and tree.heads[token - 1] in (token, head):
        near.add(tree.words[token - 1])
    if near & _IMITATIONS or {"no"} & {tree.words[one] for one in tree.with_dep(token, "det", "neg")}:
        return False
    return not _in_a_picture(tree, lemmas, token)


def _in_a_picture(tree: Dependencies, lemmas: Sequence[str], token: int) -> bool:
    """Say whether a noun is what a picture, a statue or a comparison is of."""
    preposition = tree.heads[token]
    if tree.deps[token] == "pobj" and tree.words[preposition] in ("like", "without"):
        return True
    if tree.deps[token] != "pobj" or tree.words[preposition] != "of":
        return False
    shown = tree.heads[preposition]
    about_itself = tree.heads[shown] == shown and lemmas[shown] in _OF_THE_CAPTION
    return lemmas[shown] in _PICTURES and not about_itself


def _doers(tree: Dependencies, verb: int) -> set[int]:
    """Return who does what a verb says: its subjects, or the noun it describes, with what is joined to it."""
    for _ in range(len(tree.heads)):
        own = tree.with_dep(verb, "nsubj")
        head = tree.heads[verb]
        if own or tree.deps[verb] in ("acl", "relcl"):
            found, waiting = set(), own if own and tree.deps[verb] != "relcl" else [*own, head]
            while waiting:
                one = waiting.pop()
                found.add(one)
                waiting += tree.with_dep(one, "conj")
            return found
        if tree.deps[verb] not in ("conj", "advcl", "xcomp", "pcomp", "ccomp") or head == verb:
            return set()
        if tree.pos[head] in _NOUNS:
            return {head}
        verb = head
    return set()


def _means_person(lemma: str, context: AbstractSet[str]) -> bool:
    """Say whether a word with several lives is a person here: by the words of the image's captions, as linking does."""
    word = homonyms().get(lemma)
    if word is None:
        return True
    speaks = {name: len(cues & (context - {lemma})) for name, cues in word.senses.items()}
    best = max(speaks.values())
    leaders = [name for name, count in speaks.items() if count == best]
    return (leaders[0] if best and len(leaders) == 1 else word.assumed) == "person"


@functools.lru_cache(maxsize=1 << 15)
def _lemma(word: str) -> str:
    irregular = {"men": "man", "women": "woman", "people": "people", "children": "child", "police": "police"}
    return irregular.get(word) or noun_lemma(word)
