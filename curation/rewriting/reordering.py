"""The same words in another order: a place moved to the front, an adjective or participle as a relative clause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from curation.models.parser import CaptionParse
from curation.text.dependency_tree import CaptionTree, inflected
from curation.text.lexicon import COLOURS, PEOPLE, verb_lemma
from curation.text.wordlists import word_sets

_SETS = word_sets("reordering")

_PLACES = _SETS["places"]
"""Nouns where something can be; "in a hat" is no place."""
_STATES = _SETS["states"] - {"metal"}  # fmt: skip
"""Adjectives that mean the same after their noun as before it."""
_SET_PHRASES = _SETS["set_phrases"]
"""Nouns that form fixed phrases with an adjective ("white water", "black belt"), or that read oddly with a clause."""
_THINGS_THAT_WHO = PEOPLE | _SETS["active_people"]
_ANIMATE = _THINGS_THAT_WHO | _SETS["animate"]
_UNFINISHED = _SETS["unfinished_verbs"]
_VERBS_WITH_PREPOSITION = ("look", "work", "focus", "point", "stop", "land", "stare")


def move_place(text: str, parse: CaptionParse, _synonyms: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield the caption with its place phrase moved to the front, or from the front to the end."""
    tree = CaptionTree(text, parse)
    if not tree.single_clause():
        return
    root = tree.roots[0]
    if tree.deps[0] == "prep" and tree.heads[0] == root and tree.pos[root] in ("VERB", "AUX"):
        yield from _to_end(tree, root)
    elif tree.pos[root] in ("VERB", "AUX"):
        yield from _to_front(tree, root, root)
    elif tree.pos[root] == "NOUN":
        verbs = [
            child for child in tree.with_dep(root, "acl") if tree.tags[child] == "VBG" and tree.pos[child] == "VERB"
        ]
        if len(verbs) == 1 and verbs[0] == _after_phrase(tree, root):
            yield from _to_front(tree, root, verbs[0])


def _after_phrase(tree: CaptionTree, noun: int) -> int:
    """Return the token after a noun and its prepositions."""
    stop = noun + 1
    for child in tree.with_dep(noun, "prep"):
        below = tree.subtree(child)
        if below[0] == stop and tree.is_contiguous(below):
            stop = below[-1] + 1
    return stop


def place_phrase(tree: CaptionTree, preposition: int) -> list[int]:
    """Return the tokens of a phrase of place; none for other phrases."""
    tokens = tree.subtree(preposition)
    objects = tree.with_dep(preposition, "pobj")
    if len(objects) != 1 or not tree.is_contiguous(tokens) or tokens[0] != preposition:
        return []
    noun = objects[0]
    word, name = tree.words[preposition], tree.words[noun]
    lone = {name, name.removesuffix("s"), name.removesuffix("es")}
    plain = not any(tree.pos[token] in ("VERB", "AUX", "PRON", "CCONJ", "PUNCT") for token in tokens)
    fitting = word in _SETS["near_prepositions"] or (word in _SETS["at_prepositions"] and bool(lone & _PLACES))
    return tokens if plain and fitting and tree.pos[noun] == "NOUN" and tree.children[noun] else []


def _to_front(tree: CaptionTree, root: int, verb: int) -> Iterator[str]:
    """Move a place at the end of a clause before it; a bare participle gets its "is"."""
    last = [child for child in tree.with_dep(verb, "prep") if tree.subtree(child)[-1] + 1 == tree.end]
    tokens = place_phrase(tree, last[0]) if last else []
    if (
        not tokens
        or tokens[0] <= verb
        or tree.with_dep(verb, "conj")
        or tree.pos[tokens[0] - 1] in ("ADP", "PUNCT", "CCONJ")
    ):
        return
    # Right after its verb a preposition may belong to the verb ("look at", "work on").
    if tokens[0] == verb + 1 and verb_lemma(tree.words[verb]) in _VERBS_WITH_PREPOSITION:
        return
    if tree.words[root] in ("is", "are") and tree.pos[root] == "AUX":
        yield from _inverted(tree, root, tokens)
        return
    front, clause = tree.text_of(tokens), tree.text_between(0, tokens[0])
    if any(word in ("he", "she", "they", "it", "which", "while", "as") for word in tree.words):
        return
    if tree.tags[verb] == "VBG" and not tree.with_dep(verb, "aux"):
        subject = root if root != verb else next(iter(tree.with_dep(verb, "nsubj")), -1)
        if subject < 0 or tree.pos[subject] != "NOUN" or any(tree.words[token] == "," for token in range(verb)):
            return
        be = "are" if tree.is_plural(subject, before=verb) else "is"
        clause = f"{tree.text_between(0, verb)} {be} {tree.text_between(verb, tokens[0])}"
    elif not tree.with_dep(verb, "nsubj", "nsubjpass", "expl"):
        return
    yield tree.sentence(f"{front},", clause)


def _inverted(tree: CaptionTree, root: int, tokens: list[int]) -> Iterator[str]:
    """Turn "a ball is under a bench" to "under a bench is a ball"."""
    subjects = tree.with_dep(root, "nsubj")
    if len(subjects) == 1 and tokens[0] == root + 1 and tree.subtree(subjects[0]) == list(range(root)):
        yield tree.sentence(tree.text_of(tokens), tree.words[root], tree.text_between(0, root))


def _to_end(tree: CaptionTree, root: int) -> Iterator[str]:
    """Move "in a park," from the front to the end."""
    tokens = place_phrase(tree, 0)
    if not tokens or tokens[-1] + 1 >= tree.end or tree.words[tokens[-1] + 1] != ",":
        return
    after = tokens[-1] + 2
    if tree.with_dep(root, "conj", "advcl") or "," in tree.words[after:]:
        return
    yield tree.sentence(tree.text_between(after, tree.end), tree.text_of(tokens))


def split_modifier(text: str, parse: CaptionParse, _synonyms: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield the caption with one adjective as a clause: "a black dog" becomes "a dog that is black"."""
    tree = CaptionTree(text, parse)
    if not tree.single_clause():
        return
    for noun in reversed(range(tree.end)):
        adjectives = tree.with_dep(noun, "amod")
        others = [child for child in tree.children[noun] if child not in adjectives]
        name = tree.words[noun]
        if (
            tree.pos[noun] != "NOUN" or len(adjectives) not in (1, 2) or not tree.with_dep(noun, "det", "nummod")
            or any(tree.deps[child] not in ("det", "nummod") for child in others)
            or {name, _lone(name)} & (_SET_PHRASES | PEOPLE) or name.endswith(("man", "men"))
        ):  # fmt: skip
            continue
        adjective = adjectives[0]
        word = tree.words[adjective]
        first = min([adjective, *others, *adjectives])
        plain = tree.pos[adjective] == "ADJ" and not tree.children[adjective] and adjectives[-1] == noun - 1
        side_by_side = first + len(others) + len(adjectives) == noun
        after = noun + 1 == tree.end or tree.pos[noun + 1] in ("ADP", "AUX") or tree.tags[noun + 1] in ("VBZ", "VBP")
        if not plain or not side_by_side or not after or word not in (*COLOURS, *_STATES):
            continue
        be = "are" if tree.is_plural(noun) else "is"
        clause = f"{tree.text_between(first, adjective)} {tree.text_between(adjective + 1, noun + 1)} that {be} {word}"
        # In the middle the clause would absorb what follows ("a dog that is black with a ball").
        if noun + 1 < tree.end and tree.pos[noun + 1] == "ADP":
            continue
        yield tree.sentence(tree.text_between(0, first), clause, tree.text_between(noun + 1, tree.end))
        return


def turn_participle(text: str, parse: CaptionParse, _synonyms: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield the caption with a participle as a clause ("wearing" becomes "who is wearing"), or the other way round."""
    tree = CaptionTree(text, parse)
    if not tree.single_clause():
        return
    for verb in range(1, tree.end):
        if tree.deps[verb] == "acl" and tree.tags[verb] == "VBG" and tree.pos[verb] == "VERB":
            noun = tree.heads[verb]
            if noun != verb - 1 or not _owns_participle(tree, noun) or verb_lemma(tree.words[verb]) in _UNFINISHED:
                continue
            be = "are" if tree.is_plural(noun, before=verb) else "is"
            yield tree.sentence(
                tree.text_between(0, verb), _relative(tree, noun), be, tree.text_between(verb, tree.end)
            )
            return
        if tree.deps[verb] == "relcl" and tree.pos[verb] == "VERB":
            made = _without_pronoun(tree, verb)
            if made:
                yield made
                return


def _owns_participle(tree: CaptionTree, noun: int) -> bool:
    """Return whether a participle can only belong to this noun: it is animate, or nothing before it is."""
    if tree.pos[noun] != "NOUN" or tree.deps[noun] == "pobj":
        return False
    return _lone(tree.words[noun]) in _ANIMATE or not any(_lone(word) in _ANIMATE for word in tree.words[:noun])


def _lone(word: str) -> str:
    irregular = {"men": "man", "women": "woman", "children": "child", "puppies": "puppy", "babies": "baby"}
    return irregular.get(word) or (word if word in _ANIMATE else word.removesuffix("s"))


def _relative(tree: CaptionTree, noun: int) -> str:
    return "who" if _lone(tree.words[noun]) in _THINGS_THAT_WHO else "that"


def _without_pronoun(tree: CaptionTree, verb: int) -> str:
    """Change "who is wearing" and "who wears" to "wearing"; an empty string where that is not possible."""
    subjects = tree.with_dep(verb, "nsubj")
    if len(subjects) != 1 or tree.words[subjects[0]] not in ("who", "that") or tree.heads[verb] != subjects[0] - 1:
        return ""
    helpers = tree.with_dep(verb, "aux")
    start = subjects[0]
    if tree.tags[verb] == "VBG" and [tree.words[one] for one in helpers] in (["is"], ["are"]) and verb == start + 2:
        return tree.sentence(tree.text_between(0, start), tree.text_between(verb, tree.end))
    participle = inflected(verb_lemma(tree.words[verb]), "VBG")
    if tree.tags[verb] in ("VBZ", "VBP") and not helpers and verb == start + 1 and participle:
        return tree.sentence(tree.text_between(0, start), participle, tree.text_between(verb + 1, tree.end))
    return ""
