"""Reads the claims of a text, in a form in which two wordings of one claim are equal.

A text is read word by word into things, properties of each, and relations between two of them, without a parse: nearly
all words of a negative are words of its captions, whose tags are known, and the few new ones replace tagged words. So
a negative costs microseconds, where parsing it would cost a millisecond. A caption and its negative are read by the
same rules, which matters more here than that every rule is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from curation.entailment.claims import SCENE, Claims, Thing, expand_counts
from curation.entailment.tokens import (
    BE_FORMS,
    CLAUSE_WORDS,
    CONJUNCTIONS,
    DENIALS,
    PICTURE_NOUNS,
    PREPOSITIONS,
    QUANTITY_NOUNS,
    RELATIVE_PRONOUNS,
    SHOWING_VERBS,
    join_phrases,
    split_words,
    word_class,
)
from curation.entailment.word_meanings import (
    DIRECTIONS,
    PATTERN_NOUNS,
    SURROUNDING_PREPOSITIONS,
    SURROUNDINGS,
    canonical_link,
    feature_value,
    is_descriptive,
)
from curation.knowledge.concept_linking import may_be_verb
from curation.text.lexicon import COLOURS, POSITION_VERBS, noun_lemma, number_value, verb_lemma

_MAX_COPIES = 4
_HAVING = frozenset({"has", "have", "had", "having"})
_LINKING_WORDS = CONJUNCTIONS | BE_FORMS | RELATIVE_PRONOUNS
_SHOWING_WORDS = SHOWING_VERBS | {"we"}


def read_claims(text: str, tags: Mapping[str, str], *, copies: bool = True) -> Claims:
    """Return the claims of a text.

    Args:
        text: Any text; texts like captions are understood best.
        tags: Word classes as of `tags_of` and `tag_new_words`; unknown words count as nouns.
        copies: Whether "two dogs" becomes two things, so that it is true of three dogs as well. Otherwise the number is
            a property, which other numbers contradict.
    """
    return _ClaimReader(join_phrases(split_words(text)), tags, copies).claims()


class _ClaimReader:
    """Reads the words once, thing by thing; the words between two things relate them."""

    def __init__(self, words: Sequence[str], tags: Mapping[str, str], copies: bool) -> None:
        self.words, self.copies = words, copies
        self.classes = [word_class(word, tags) for word in words]
        if not COLOURS.keys().isdisjoint(words):
            for at, word in enumerate(words[:-1]):
                # "a red large hoop": taggers take a colour in an unusual position for a noun.
                if word in COLOURS and self.classes[at + 1] in "AN":
                    self.classes[at] = "A"
        self.found = Claims()
        self.subjects: list[int] = []
        self.fronted: tuple[str, int] | None = None
        self.last = -1
        self.linked: tuple[Sequence[int], Sequence[str]] | None = None

    def claims(self) -> Claims:
        between: list[int] = []
        at = 0
        while at < len(self.words):
            stop = self._phrase_end(at)
            if stop > at:
                self._add_thing(at, stop, between)
                between, at = [], stop
            else:
                between.append(at)
                at += 1
        self._end(between)
        return expand_counts(self.found) if self.copies else self.found

    def _phrase_end(self, at: int) -> int:
        """Return the end of the noun phrase that begins here, or `at` when none does."""
        place, noun = at, -1
        while place < len(self.words):
            kind = self.classes[place]
            if kind == "N":
                noun = place
            elif noun >= 0:
                break
            elif kind == "V":
                # "a running dog", "a checked disc": without a determiner the verb belongs to the clause, not to the phrase.
                if (
                    self.classes[at] not in "DU"
                    or place == at
                    or not self.words[place].endswith(("ing", "ed", "en", "n"))
                ):
                    break
            elif self.words[place] in ("and", ","):
                if place == at or self.classes[place - 1] != "A" or self.classes[place + 1 : place + 2] != ["A"]:
                    break
            elif kind not in "DUAR" or (kind == "R" and place == at):
                break
            place += 1
        if noun >= 0:
            return noun if self._is_verb(at, noun) else noun + 1
        # "a square", tagged as an adjective; adjectives without a determiner are no thing.
        return place if self.classes[at] == "D" and place > at + 1 and self.classes[place - 1] == "A" else at

    def _is_verb(self, at: int, last: int) -> bool:
        """Return whether the last noun of a phrase is a verb that was tagged as a plural: "a dog runs"."""
        word = self.words[last]
        found = (
            self.words[at] in ("a", "an", "no", "one", "each", "every")
            and self.classes[last - 1] == "N"
            and noun_lemma(word) != word
            and may_be_verb(word)
            and last - 1 > at
        )
        if found:
            self.classes[last] = "V"
        return found

    def _add_thing(self, start: int, stop: int, between: list[int]) -> None:
        """Add a thing and relate it to those before it."""
        words = [self.words[at] for at in between if self.classes[at] != "Q" or self.words[at] == ","]
        head = self.words[stop - 1]
        if words in (["with"], ["without"]) and head in PATTERN_NOUNS and self.last >= 0 and stop == start + 1:
            self.found.things[self.last].properties.add(("" if words == ["with"] else "not:") + feature_value(head)[1])
            return
        thing = self._thing(start, stop, denied="without" in words)
        before = self.found.things[self.last] if self.last >= 0 else None
        if words == ["of"] and before is not None and before.noun in PICTURE_NOUNS | QUANTITY_NOUNS:
            # "a group of dogs": the dogs, in a group.
            thing.properties |= before.properties | {before.noun} if before.noun in QUANTITY_NOUNS else set()
            thing.denied |= before.denied
            self.found.things[self.last] = thing
            return
        self.found.unattached |= DENIALS.intersection(words)
        self.found.things.append(thing)
        number = len(self.found.things) - 1
        self._link(number, words, stop)
        self.last = number

    def _has_verb(self, at: int) -> bool:
        """Return whether a thing that ends here has a verb after it, up to the next comma or "and"."""
        for word, kind in zip(self.words[at:], self.classes[at:], strict=True):
            if kind in "CQ" or word in RELATIVE_PRONOUNS:
                return False
            if kind == "X" or (kind == "V" and word.endswith("s")):
                return True
        return False

    def _thing(self, start: int, stop: int, *, denied: bool) -> Thing:
        head = self.words[stop - 1]
        lemma = noun_lemma(head)
        thing = Thing(lemma, set(), plural=lemma != head, denied=denied)
        for at in range(start, stop - 1):
            word, kind = self.words[at], self.classes[at]
            value = number_value(word) if kind == "U" else None
            if value is not None and value != 1:
                thing.count = value if self.copies and value <= _MAX_COPIES else 1
                thing.properties |= set() if thing.count > 1 else {f"#{value}"}
                thing.plural = False
            elif word == "one" and not self.copies:
                thing.properties.add("#1")
            elif word == "no":
                thing.denied = True
            elif kind == "V" and not feature_value(word)[0]:
                thing.properties.add(f"do:{verb_lemma(word)}")
            elif kind not in "DUC":
                thing.properties.add(feature_value(word)[1])
        return thing

    def _link(self, number: int, words: Sequence[str], stop: int) -> None:
        """Relate a new thing that ends at `stop` to those before it by the words in between."""
        if words in (["'s"], ["\u2019s"]) and self.last >= 0:
            self._replace_owner(number)
            return
        joint = bool(words) and words[0] in CONJUNCTIONS
        content = [word for word in words if word not in _LINKING_WORDS]
        if not content and not _HAVING.isdisjoint(words):
            content = ["with"]
        relative = not joint and not RELATIVE_PRONOUNS.isdisjoint(words)
        if self.last < 0:
            content = [] if _SHOWING_WORDS.issuperset(content) else content
            if len(content) == 1 and content[0] in PREPOSITIONS:
                self.fronted = content[0], number
            else:
                self.subjects = [number]
                self._describe(content)
            return
        if self.fronted is not None:
            relation, place = self.fronted
            self.fronted, self.subjects = None, [number]
            self._relate([number], [relation], place)
            content = [word for word in content if word not in _SHOWING_WORDS]
            self._describe(word for word in content if verb_lemma(word) not in POSITION_VERBS)
            return
        if not content or not CLAUSE_WORDS.isdisjoint(words):
            self._describe(content)
            own_verb = not CLAUSE_WORDS.isdisjoint(words) or self._has_verb(stop)
            if self.linked is not None and not own_verb:
                self._relate(*self.linked, number)
            elif self.linked is not None and not self.found.things[number].denied:
                self.subjects, self.linked = [number], None
            elif self.linked is None:
                self.subjects.append(number)
            return
        sources = [self.last] if content[0] in ("of", "'s") or relative else self.subjects or [self.last]
        self.subjects = sources if relative else self.subjects
        self._relate(sources, content, number)

    def _replace_owner(self, number: int) -> None:
        """Let a thing replace its owner: who holds "the man's hand" holds the hand, which is "of" the man."""
        owner = self.last
        self.found.links = {
            (number if one == owner else one, name, number if other == owner else other)
            for one, name, other in self.found.links
        }
        self.subjects = [number if one == owner else one for one in self.subjects]
        self.found.links.add((number, "of", owner))

    def _relate(self, sources: Sequence[int], content: Sequence[str], target: int) -> None:
        """Add the relation from some things to another one, and the actions that it implies."""
        self.linked = list(sources), content
        *verbs, last = [word if word in PREPOSITIONS else verb_lemma(word) for word in content]
        passive = last == "by" and content[-2:-1] and str(content[-2]).endswith(("ed", "en", "n", "t"))
        if passive:
            last, verbs = verbs[-1], verbs[:-1]
        elif last not in DIRECTIONS and last not in SURROUNDING_PREPOSITIONS and last in PREPOSITIONS and verbs:
            last = f"{verbs[-1]} {last}"
        doers = [target] if passive else sources
        if last not in PREPOSITIONS and last not in DIRECTIONS and " " not in last:
            # A dog that chases a cat chases.
            for one in doers:
                self.found.things[one].properties.add(f"do:{last}")
        for one in sources:
            self.found.things[one].properties |= {f"do:{verb}" for verb in verbs}
            if last in SURROUNDING_PREPOSITIONS and self.found.things[target].noun in SURROUNDINGS:
                self.found.links.add((SCENE, "at", target))
            else:
                first, second = (target, one) if passive else (one, target)
                self.found.links.add(canonical_link(first, last, second))

    def _describe(self, content: Iterable[str]) -> None:
        """Add words without an object to their subject."""
        for word in content:
            form = verb_lemma(word) if word not in PREPOSITIONS else word
            for one in self.subjects or ([self.last] if self.last >= 0 else []):
                self.found.things[one].properties.add(feature_value(word)[1] if is_descriptive(word) else f"do:{form}")
            if not self.subjects and self.last < 0:
                self.found.unattached.add(form)

    def _end(self, between: Sequence[int]) -> None:
        words = [self.words[at] for at in between if self.classes[at] not in "QDC"]
        self.found.unattached |= DENIALS.intersection(words)
        if self.fronted is not None:
            self.found.unattached.add(self.fronted[0])
        self._describe([word for word in words if word not in _LINKING_WORDS])
