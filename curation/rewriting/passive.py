"""Active to passive and back, where the parse is clear about agent and patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from curation.models.parser import CaptionParse
from curation.rewriting.reordering import place_phrase
from curation.text.dependency_tree import CaptionTree, inflected
from curation.text.lexicon import NEGATIONS, verb_lemma
from curation.text.wordlists import word_sets

_SETS = word_sets("passive")

_UNTURNED = _SETS["never_passive"]
"""Verbs that are not changed: their object is not acted on, they form idioms with it, or the parser misreads them."""
_ONWARD = _SETS["onward_prepositions"]
"""Prepositions of direction: they follow the verb whatever they were attached to."""
_LEFT_OF_NOUN = ("det", "amod", "nummod", "compound", "nmod", "poss", "predet", "quantmod")
_ALLOWED = ("nsubj", "aux", "dobj", "prep", "advmod", "punct", "auxpass", "nsubjpass", "agent")
_REFERRING = _SETS["referring"]


@dataclass(frozen=True)
class _Clause:
    """Agent, verb and patient: spans of tokens [first, stop)."""

    verb: int
    agent: tuple[int, int]
    patient: tuple[int, int]
    patient_noun: int
    adverb: str
    rest: str


def turn_voice(text: str, parse: CaptionParse, _synonyms: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield the caption in the other voice, if it is a single clause that can be changed."""
    tree = CaptionTree(text, parse)
    if not tree.single_clause():
        return
    root = tree.roots[0]
    if tree.pos[root] == "VERB" and tree.with_dep(root, "nsubjpass"):
        yield from _to_active(tree, root)
    elif tree.pos[root] == "VERB" and tree.with_dep(root, "nsubj"):
        yield from _to_passive(tree, root)
    elif tree.pos[root] == "NOUN":
        yield from _reduced_to_passive(tree, root)


def _plain_clause(tree: CaptionTree, verb: int) -> bool:
    return all(tree.deps[child] in _ALLOWED for child in tree.children[verb])


def _object(tree: CaptionTree, noun: int) -> tuple[tuple[int, int], int] | None:
    """Return an object's span and the token after it; None where its modifiers are ambiguous."""
    left = [child for child in tree.children[noun] if child < noun]
    right = [child for child in tree.children[noun] if child > noun]
    determined = tree.with_dep(noun, "det", "nummod", "poss") or tree.is_plural(noun)
    if tree.pos[noun] != "NOUN" or not determined or any(tree.deps[child] not in _LEFT_OF_NOUN for child in left):
        return None
    first, stop = min(tree.subtree(child)[0] for child in [*left, noun]) if left else noun, noun + 1
    for child in right:
        below = tree.subtree(child)
        if tree.deps[child] == "prep" and tree.words[child] == "of" and below[0] == stop and tree.is_contiguous(below):
            stop = below[-1] + 1
        elif tree.deps[child] != "prep" or tree.words[child] not in _ONWARD:
            return None
    if any(word in _REFERRING for word in tree.words[first:stop]):
        return None
    if any(tree.pos[token] in ("CCONJ", "VERB") for token in range(first, stop)):
        return None
    return (first, stop), stop


def _subject(tree: CaptionTree, noun: int, skip: int = -1) -> tuple[int, int] | None:
    """Return a subject's span, without the clause `skip` on it."""
    skipped = set(tree.subtree(skip)) if skip >= 0 else set()
    tokens = [token for token in tree.subtree(noun) if token not in skipped]
    if tree.pos[noun] != "NOUN" or not tree.is_contiguous(tokens) or "VERB" in [tree.pos[token] for token in tokens]:
        return None
    if any(tree.words[token] in (*_REFERRING, ",") for token in tokens):
        return None
    return tokens[0], tokens[-1] + 1


def _clause(tree: CaptionTree, verb: int, subject: int, skip: int = -1) -> _Clause | None:
    """Read an active clause that spans the whole caption; None where anything in it is ambiguous."""
    objects = tree.with_dep(verb, "dobj")
    if len(objects) != 1 or not _plain_clause(tree, verb) or verb_lemma(tree.words[verb]) in _UNTURNED:
        return None
    whom, who = _object(tree, objects[0]), _subject(tree, subject, skip)
    if whom is None or who is None:
        return None
    (first, stop), after = whom
    adverbs = [child for child in tree.with_dep(verb, "advmod") if child < verb and tree.words[child].endswith("ly")]
    auxiliaries = tree.with_dep(verb, "aux")
    between = set(range(who[1], first)) - {verb, *adverbs, *auxiliaries}
    rest = tree.text_between(after, tree.end)
    if who[0] != 0 or between or any(word in _REFERRING for word in tree.words[after : tree.end]):
        return None
    # A following clause or second verb could refer to either side after the exchange.
    if any(tree.pos[token] in ("VERB", "AUX", "SCONJ", "CCONJ") for token in range(after, tree.end)):
        return None
    if any(word in NEGATIONS for word in tree.words) or not _safe_rest(tree, after):
        return None
    return _Clause(verb, who, (first, stop), objects[0], " ".join(tree.words[one] for one in adverbs), rest)


def _safe_rest(tree: CaptionTree, after: int) -> bool:
    """Return whether what follows the object is a direction or place, and not about one side: "a man in a wheelchair"."""
    if after >= tree.end:
        return True
    if tree.pos[after] != "ADP":
        return False
    return tree.words[after] in _ONWARD or bool(place_phrase(tree, after))


def _to_passive(tree: CaptionTree, verb: int) -> Iterator[str]:
    subject = tree.with_dep(verb, "nsubj")[0]
    clause = _clause(tree, verb, subject)
    if clause is None:
        return
    auxiliaries = [tree.words[one] for one in tree.with_dep(verb, "aux")]
    plural = tree.is_plural(clause.patient_noun)
    match tree.tags[verb], auxiliaries:
        case ("VBZ" | "VBP", []):
            be = "are" if plural else "is"
        case ("VBD", []):
            be = "were" if plural else "was"
        case ("VBG", ["is" | "are"]):
            be = "are being" if plural else "is being"
        case ("VBG", ["was" | "were"]):
            be = "were being" if plural else "was being"
        case ("VBG", []):
            be = "being"
        case _:
            return
    yield from _passive(tree, clause, be)


def _reduced_to_passive(tree: CaptionTree, noun: int) -> Iterator[str]:
    """Turn "a dog chasing a cat" to "a cat being chased by a dog"."""
    clauses = [child for child in tree.with_dep(noun, "acl") if tree.tags[child] == "VBG" and tree.pos[child] == "VERB"]
    if len(clauses) != 1 or tree.subtree(clauses[0])[-1] + 1 < tree.end:
        return
    clause = _clause(tree, clauses[0], noun, skip=clauses[0])
    if clause is not None:
        yield from _passive(tree, clause, "being")


def _passive(tree: CaptionTree, clause: _Clause, be: str) -> Iterator[str]:
    participle = inflected(verb_lemma(tree.words[clause.verb]), "VBN")
    if participle:
        agent, patient = tree.text_between(*clause.agent), tree.text_between(*clause.patient)
        yield tree.sentence(patient, be, clause.adverb, participle, "by", agent, clause.rest)


def _to_active(tree: CaptionTree, verb: int) -> Iterator[str]:
    """Turn "a ball is thrown by a man" to "a man throws a ball"."""
    agents = tree.with_dep(verb, "agent")
    if len(agents) != 1 or not _plain_clause(tree, verb) or tree.tags[verb] != "VBN":
        return
    by = agents[0]
    doers = tree.with_dep(by, "pobj")
    patient = tree.with_dep(verb, "nsubjpass")[0]
    if len(doers) != 1 or by != verb + 1:
        return
    who, whom = _subject(tree, doers[0]), _subject(tree, patient)
    if who is None or whom is None or whom[0] != 0 or who[0] != by + 1:
        return
    passive = [tree.words[one] for one in range(whom[1], verb)]
    lemma, plural = verb_lemma(tree.words[verb]), tree.is_plural(doers[0])
    present = lemma if plural else inflected(lemma, "VBZ")
    forms = {
        ("is",): present, ("are",): present, ("was",): inflected(lemma, "VBD"), ("were",): inflected(lemma, "VBD"),
        ("is", "being"): f"{'are' if plural else 'is'} {inflected(lemma, 'VBG')}",
        ("are", "being"): f"{'are' if plural else 'is'} {inflected(lemma, 'VBG')}",
    }  # fmt: skip
    active = forms.get(tuple(passive))
    follows = range(who[1], tree.end)
    if not active or any(tree.pos[token] in ("VERB", "AUX", "CCONJ", "SCONJ", "PUNCT") for token in follows):
        return
    if any(word in _REFERRING for word in tree.words[: tree.end]):
        return
    yield tree.sentence(tree.text_between(*who), active, tree.text_between(*whom), tree.text_between(who[1], tree.end))
