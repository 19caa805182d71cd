"""What a caption claims, read off its parse: things, how many, which colour, what is denied, who does what to whom."""

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

_SETS = word_sets("lexicon")

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_COLOUR_PREPOSITIONS = ("in", "of")
_HOLDING = _SETS["holding_verbs"]
"""Verbs whose denial denies their object: "not wearing a hat" is "without a hat"."""


@dataclass(frozen=True)
class CaptionFacts:
    """What a text claims.

    Attributes:
        words: Its words in lower case, in order.
        lemmas: Every word's dictionary forms, as noun and as verb.
        nouns: Things it names (dictionary form), in order of appearance; not those that name nothing visible.
        forms: (noun, ``one`` or ``many``) where the grammar counts.
        subjects: Nouns that do something, or that the text is about.
        numbers: (value, noun that is counted or empty).
        colours: (colour, noun that has it or empty).
        denied: What is denied (dictionary form, or empty where the parse does not say).
        genders: ``m`` and ``f``, of nouns and pronouns.
        events: (who, verb, whom) of verbs with both; two things of one name are told apart by their adjectives.
        acts: (who, verb) of verbs with a subject of their own.
        verbs: What is done (dictionary form), participles that only describe a noun left out.
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
    """Return a text's words in lower case, without marks."""
    return tuple(_WORD.findall(text.casefold()))


def facts_of(text: str, parse: Parse) -> CaptionFacts:
    """Read a text's claims off its parse."""
    reader = _FactReader(parse)
    lemmas = {lemma for word in reader.words for lemma in (noun_lemma(word), verb_lemma(word), word)}
    lemmas |= {part for word in reader.words if "-" in word for part in map(noun_lemma, word.split("-"))}
    lemmas |= {NEGATED[word] for word in reader.words if word in NEGATED}
    lemmas |= {one for word in reader.words for one in (noun_in_adjective(word), agent_verb(noun_lemma(word)))}
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
        verbs=frozenset(reader.deeds()),
    )


class _FactReader(Dependencies):
    """One parse and the questions asked of it."""

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
        """Return whether there is one or many of it, unless it only describes another noun."""
        if self.deps[token] in ("compound", "nmod", "npadvmod", "amod") or self.words[token] == "glasses":
            return []
        # The first word's capital makes a name of it, so a name's number is read off the word itself.
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
        """Return the noun that a describing word belongs to, or an empty string when the parse does not say."""
        for _ in range(4):
            head, dep = self.heads[token], self.deps[token]
            if dep in ("amod", "compound", "nmod", "nummod") and self.pos[head] in ("NOUN", "PROPN"):
                return canonical_noun(self.lemma(head))
            if dep in ("acomp", "attr"):
                who = [child for child in self.children[head] if self.deps[child] in ("nsubj", "nsubjpass")]
                return self.named(who[0], head) if who else ""
            if dep in ("conj", "amod", "advmod", "compound") and head != token:
                token = head
                continue
            break
        return ""

    def named(self, token: int, verb: int) -> str:
        """Return a subject's noun; for "that" and "which", the noun that the clause hangs on."""
        if self.words[token] in ("that", "which", "who"):
            holder = self.heads[verb]
            return canonical_noun(self.lemma(holder)) if self.pos[holder] in ("NOUN", "PROPN") else ""
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
            # By position: the parser attaches "of" loosely.
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
        """Return the colours in words such as "red-haired" that the parser kept whole."""
        parts = [part for word in self.words if "-" in word for part in word.split("-")]
        return [(COLOURS[part], "") for part in parts if part in COLOURS]

    def denied(self) -> list[str]:
        found = [NEGATED[word] for word in self.words if word in NEGATED]
        for token, word in enumerate(self.words):
            if word not in NEGATIONS:
                continue
            below = [child for child in self.children[token] if self.deps[child] in ("pobj", "pcomp")]
            head = below[0] if below else self.heads[token]
            objects = [child for child in self.children[head] if self.deps[child] == "dobj"]
            if objects and verb_lemma(self.words[head]) in _HOLDING:
                head = objects[0]
            if self.pos[head] in ("NOUN", "PROPN"):
                found.append(canonical_noun(self.lemma(head)))
            else:
                found.append(verb_lemma(self.words[head]) if self.pos[head] == "VERB" else "")
        return found

    def events(self) -> list[tuple[str, str, str]]:
        """Return who does what to whom, active and passive alike."""
        found = []
        for verb, pos in enumerate(self.pos):
            if pos != "VERB":
                continue
            doers, targets = self.doers(verb), []
            for child in self.children[verb]:
                if self.deps[child] == "dobj":
                    targets.append(child)
                elif self.deps[child] == "agent":
                    by = [below for below in self.children[child] if self.deps[below] == "pobj"]
                    doers, targets = by, targets + self.patients(verb)
            found += [
                self.event(doer, verb, target)
                for doer in doers
                for target in targets
                if self.pos[doer] == "NOUN" and self.pos[target] == "NOUN"
            ]
        return found

    def event(self, doer: int, verb: int, target: int) -> tuple[str, str, str]:
        who, whom = canonical_noun(self.lemma(doer)), canonical_noun(self.lemma(target))
        if who == whom:
            who, whom = (" ".join([*self.adjectives(one), name]) for one, name in ((doer, who), (target, whom)))
        return who, verb_lemma(self.words[verb]), whom

    def adjectives(self, noun: int) -> list[str]:
        return sorted(self.words[child] for child in self.children[noun] if self.deps[child] == "amod")

    def acts(self) -> list[tuple[str, str]]:
        return [
            (canonical_noun(self.lemma(doer)), verb_lemma(self.words[verb]))
            for verb, pos in enumerate(self.pos)
            if pos == "VERB"
            for doer in self.doers(verb)
        ]

    def deeds(self) -> list[str]:
        return [
            verb_lemma(self.words[token])
            for token, pos in enumerate(self.pos)
            if pos == "VERB"
            and self.deps[token] not in ("amod", "compound", "prep", "case")
            and not (self.words[token].endswith("ed") and self.deps[token] == "acl")
        ]

    def doers(self, verb: int) -> list[int]:
        own = [child for child in self.children[verb] if self.deps[child] == "nsubj"]
        if own and self.words[own[0]] not in ("who", "that", "which"):
            return own
        return [self.heads[verb]] if self.deps[verb] in ("acl", "relcl") and self.tags[verb] != "VBN" else []

    def patients(self, verb: int) -> list[int]:
        own = [child for child in self.children[verb] if self.deps[child] == "nsubjpass"]
        if own and self.words[own[0]] not in ("who", "that", "which"):
            return own
        return [self.heads[verb]] if self.deps[verb] in ("acl", "relcl") else []
