"""Facts that a caption states, read from its parse: things, numbers, colours, negations, who does what to whom."""

from __future__ import annotations

import re
from dataclasses import dataclass

from curation.models.parser import Parse
from curation.text.dependencies import Dependencies
from curation.text.lexicon import (
    ALWAYS_PAIRED,
    COLOURS,
    COLOURS_OR_THINGS,
    COUNTING_NOUNS,
    GENDERS,
    LIGHT_NOUNS,
    NEGATED,
    NEGATIONS,
    agent_verb,
    canonical_noun,
    noun_in_adjective,
    noun_lemma,
    number_value,
    verb_lemma,
)
from curation.text.wordlists import word_sets

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_COLOUR_PREPOSITIONS = ("in", "of")
_HOLDING = word_sets("lexicon")["holding_verbs"]
"""Verbs whose negation negates their object: "not wearing a hat" is "without a hat"."""


@dataclass(frozen=True)
class CaptionFacts:
    """Facts that a text states.

    Attributes:
        words: Its words in lower case, in order.
        lemmas: Dictionary forms of every word, as a noun and as a verb.
        nouns: Visible things (dictionary forms), in order of appearance.
        forms: (noun, ``one`` or ``many``) by the grammar.
        subjects: Nouns that do something, or that the text is about.
        numbers: (value, noun that is counted, or empty).
        colours: (colour, noun that has it, or empty).
        denied: Nouns or verbs that are negated (dictionary forms; empty where the parse does not say).
        genders: ``m`` and ``f``, of nouns and pronouns.
        events: (agent, verb, patient) of verbs with both; two things with the same noun have their adjectives added.
        acts: (agent, verb) of verbs with a subject of their own.
        verbs: Actions (dictionary forms), without participles that only describe a noun.
    """

    words: tuple[str, ...]
    lemmas: frozenset[str]
    nouns: tuple[str, ...]
    forms: frozenset[tuple[str, str]]
    subjects: frozenset[str]
    numbers: tuple[tuple[int, str], ...]
    colours: tuple[tuple[str, str], ...]
    denied: tuple[str, ...]
    genders: frozenset[str]
    events: frozenset[tuple[str, str, str]]
    acts: frozenset[tuple[str, str]]
    verbs: frozenset[str]


def plain_words(text: str) -> tuple[str, ...]:
    """Return a text's words in lower case, without punctuation."""
    return tuple(_WORD.findall(text.casefold()))


def facts_of(text: str, parse: Parse) -> CaptionFacts:
    """Return the facts that a text states, from its parse."""
    reader = _FactReader(parse)
    lemmas = {lemma for word in reader.words for lemma in (noun_lemma(word), verb_lemma(word), word)}
    lemmas |= {part for word in reader.words if "-" in word for part in map(noun_lemma, word.split("-"))}
    lemmas |= {NEGATED[word] for word in reader.words if word in NEGATED}
    lemmas |= {form for word in reader.words for form in (noun_in_adjective(word), agent_verb(noun_lemma(word)))}
    nouns = [token for token in range(len(reader.words)) if reader.is_thing(token)]
    return CaptionFacts(
        words=plain_words(text),
        lemmas=frozenset(lemmas),
        nouns=tuple(dict.fromkeys(reader.lemma(token) for token in nouns)),
        forms=frozenset(form for token in nouns for form in reader.form(token)),
        subjects=frozenset(reader.lemma(token) for token in nouns if reader.is_subject(token)),
        numbers=tuple(sorted(reader.numbers())),
        colours=tuple(sorted(reader.colours())),
        denied=tuple(sorted(reader.denied())),
        genders=frozenset(
            GENDERS[word]
            for token, word in enumerate(reader.words)
            for word in (word, reader.lemma(token))
            if word in GENDERS
        ),
        events=frozenset(reader.events()),
        acts=frozenset(reader.acts()),
        verbs=frozenset(reader.actions()),
    )


class _FactReader(Dependencies):
    """Reads facts from one parse."""

    def lemma(self, token: int) -> str:
        word = self.words[token]
        return word if word in ("glasses", "people", "pants", "jeans") else noun_lemma(word)

    def is_thing(self, token: int) -> bool:
        word, lemma = self.words[token], self.lemma(token)
        return (
            self.pos[token] in ("NOUN", "PROPN")
            and any(char.isalpha() for char in word)
            and len(word) > 1
            and lemma not in LIGHT_NOUNS
            and not self.is_colour(token)
            and number_value(word) is None
            and word not in NEGATIONS
            and word not in NEGATED
        )

    def is_subject(self, token: int) -> bool:
        return self.deps[token] in ("nsubj", "nsubjpass", "ROOT")

    def form(self, token: int) -> list[tuple[str, str]]:
        """Return (noun, ``one`` or ``many``), or nothing for a noun that only describes another one."""
        if self.deps[token] in ("compound", "nmod", "npadvmod", "amod") or self.words[token] == "glasses":
            return []
        # The parser takes a capitalised first word for a name, whose tag has no number: the word itself says it.
        named = "many" if self.words[token] != noun_lemma(self.words[token]) else "one"
        form = {"NN": "one", "NNS": "many"}.get(self.tags[token], named)
        return [(canonical_noun(self.lemma(token)), form)]

    def is_colour(self, token: int) -> bool:
        word = self.words[token]
        if word not in COLOURS:
            return False
        if word not in COLOURS_OR_THINGS or self.pos[token] == "ADJ":
            return True
        bare = not any(self.deps[child] == "det" for child in self.children[token])
        if self.deps[token] in ("amod", "compound", "nmod", "acomp", "conj") or (bare and self.deps[token] == "attr"):
            return self.tags[token] != "NNS" and bare
        return self.deps[token] == "pobj" and bare and self.words[self.heads[token]] in _COLOUR_PREPOSITIONS

    def described(self, token: int) -> str:
        """Return the noun that a word describes, or an empty string when the parse does not say."""
        for _ in range(4):
            head, dep = self.heads[token], self.deps[token]
            if dep in ("amod", "compound", "nmod", "nummod") and self.pos[head] in ("NOUN", "PROPN"):
                return canonical_noun(self.lemma(head))
            if dep in ("acomp", "attr"):
                subjects = self.with_dep(head, "nsubj", "nsubjpass")
                return self.subject_noun(subjects[0], head) if subjects else ""
            if dep in ("conj", "amod", "advmod", "compound") and head != token:
                token = head
                continue
            break
        return ""

    def subject_noun(self, token: int, verb: int) -> str:
        """Return a subject's noun; for "that" and "which", the noun that the clause describes."""
        if self.words[token] in ("that", "which", "who"):
            token = self.heads[verb]
        return canonical_noun(self.lemma(token)) if self.pos[token] in ("NOUN", "PROPN") else ""

    def numbers(self) -> list[tuple[int, str]]:
        found = []
        for token, word in enumerate(self.words):
            value = number_value(word)
            if value is None or value == 1 or (self.pos[token] == "PROPN" and not word.isalpha()):
                continue
            noun = self.described(token)
            if word.rstrip("s") in COUNTING_NOUNS or word in COUNTING_NOUNS:
                noun = self.counted(token)
                if (not noun and word != "twins") or noun in ALWAYS_PAIRED:
                    continue
            found.append((value, noun))
        return found

    def counted(self, token: int) -> str:
        """Return the noun after "a pair of"."""
        if self.words[token + 1 : token + 2] == ["of"]:
            # By position: the parser often attaches "of" wrongly.
            after = [
                below for below in range(token + 2, len(self.words)) if self.pos[below] not in ("ADJ", "DET", "NUM")
            ]
            return canonical_noun(self.lemma(after[0])) if after else ""
        return self.described(token) if self.deps[token] in ("nummod", "amod", "compound") else ""

    def colours(self) -> list[tuple[str, str]]:
        return [
            (COLOURS[word], self.described(token)) for token, word in enumerate(self.words) if self.is_colour(token)
        ] + self.hyphenated()

    def hyphenated(self) -> list[tuple[str, str]]:
        """Return the colours in words such as "red-haired", which the parser does not split."""
        parts = [part for word in self.words if "-" in word for part in word.split("-")]
        return [(COLOURS[part], "") for part in parts if part in COLOURS]

    def denied(self) -> list[str]:
        found = [NEGATED[word] for word in self.words if word in NEGATED]
        for token, word in enumerate(self.words):
            if word not in NEGATIONS:
                continue
            below = self.with_dep(token, "pobj", "pcomp")
            head = below[0] if below else self.heads[token]
            objects = self.with_dep(head, "dobj")
            if objects and verb_lemma(self.words[head]) in _HOLDING:
                head = objects[0]
            if self.pos[head] in ("NOUN", "PROPN"):
                found.append(canonical_noun(self.lemma(head)))
            else:
                found.append(verb_lemma(self.words[head]) if self.pos[head] == "VERB" else "")
        return found

    def events(self) -> list[tuple[str, str, str]]:
        """Return (agent, verb, patient) of active and passive verbs."""
        found = []
        for verb, pos in enumerate(self.pos):
            if pos != "VERB":
                continue
            agents, patients = self.participants(verb, "nsubj"), self.with_dep(verb, "dobj")
            for preposition in self.with_dep(verb, "agent"):
                agents, patients = self.with_dep(preposition, "pobj"), patients + self.participants(verb, "nsubjpass")
            found += [
                self.event(agent, verb, patient)
                for agent in agents
                for patient in patients
                if self.pos[agent] == "NOUN" and self.pos[patient] == "NOUN"
            ]
        return found

    def event(self, agent: int, verb: int, patient: int) -> tuple[str, str, str]:
        first, second = canonical_noun(self.lemma(agent)), canonical_noun(self.lemma(patient))
        if first == second:
            first, second = (" ".join([*self.adjectives(token), first]) for token in (agent, patient))
        return first, verb_lemma(self.words[verb]), second

    def adjectives(self, noun: int) -> list[str]:
        return sorted(self.words[child] for child in self.with_dep(noun, "amod"))

    def acts(self) -> list[tuple[str, str]]:
        return [
            (canonical_noun(self.lemma(agent)), verb_lemma(self.words[verb]))
            for verb, pos in enumerate(self.pos)
            if pos == "VERB"
            for agent in self.participants(verb, "nsubj")
        ]

    def actions(self) -> list[str]:
        return [
            verb_lemma(self.words[token])
            for token, pos in enumerate(self.pos)
            if pos == "VERB"
            and self.deps[token] not in ("amod", "compound", "prep", "case")
            and not (self.words[token].endswith("ed") and self.deps[token] == "acl")
        ]

    def participants(self, verb: int, dep: str) -> list[int]:
        """Return a verb's subjects (``nsubj`` or ``nsubjpass``), or the noun that its clause describes."""
        own = self.with_dep(verb, dep)
        if own and self.words[own[0]] not in ("who", "that", "which"):
            return own
        describes = self.deps[verb] in ("acl", "relcl") and not (dep == "nsubj" and self.tags[verb] == "VBN")
        return [self.heads[verb]] if describes else []
