"""What a text claims, in a form in which two wordings of one claim are equal.

A text is read word by word into things, what is said of each, and what is said between two of them. No tree is needed:
the words of a negative are nearly all words of its captions, whose tags are known, and the few new ones stand where
a tagged word stood. So a negative costs microseconds where parsing it would cost a millisecond, and a caption and its
negative are read by the same rules, which matters more here than that every rule is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from curation.language.claim_parts import (
    PHRASE,
    Between,
    Relation,
    between_of,
    kinds_in,
    named_by,
    relation_of,
    said_by,
    telling,
)
from curation.language.claim_words import (
    DENYING,
    PARTS,
    PICTURES,
    PREPOSITIONS,
    RELATIVE,
    SHOWING,
    words_in,
)
from curation.language.claims import SCENE, Claims, Thing, with_copies
from curation.language.lexicon import BEINGS, noun_lemma, verb_lemma
from curation.language.linking import may_be_verb
from curation.language.word_meanings import PATTERN_NOUNS, PLACED_BY, PLACES, in_order, value_of

_ONE_OF = PICTURES | PARTS
_OWNING = (("'s",), ("\u2019s",))
_HAVING_PATTERN = (("with",), ("without",))


def read_claims(text: str, tags: Mapping[str, str], *, copies: bool = True) -> Claims:
    """Read a text.

    Args:
        text: Any text; one of the captions' kind is understood best.
        tags: As of `tags_of`, and one letter for each new word; unknown words count as nouns.
        copies: Turn "two dogs" into a dog and a dog, so that at least two of them make it true; without, a number is
            said of its noun and another number clashes with it.
    """
    return _Reader(words_in(text), tags, copies).claims()


class _Reader:
    """One pass over the words, thing by thing, with the words between two things as what links them."""

    def __init__(self, words: tuple[str, ...], tags: Mapping[str, str], copies: bool) -> None:
        self.words, self.copies = words, copies
        self.kinds = kinds_in(words, tags)
        self.found = Claims()
        self.subjects: list[int] = []
        self.fronted: tuple[str, int] | None = None
        self.last = -1
        self.linked: tuple[list[int], Relation] | None = None

    def claims(self) -> Claims:
        before = 0
        for phrase in PHRASE.finditer(self.kinds):
            start, stop = phrase.span()
            if stop - start > 2 and self._is_verb(start, stop - 1):
                stop -= 1
            self._take(start, stop, before)
            before = stop
        self._end(before)
        return with_copies(self.found) if self.copies else self.found

    def _is_verb(self, at: int, last: int) -> bool:
        """Say whether the last noun of a phrase is a verb that a tagger took for a plural: "a dog runs"."""
        word = self.words[last]
        found = (
            self.kinds[last] == "N"
            and self.kinds[last - 1] == "N"
            and self.words[at] in ("a", "an", "no", "one", "each", "every")
            and noun_lemma(word) != word
            and may_be_verb(word)
        )
        if found:
            self.kinds = f"{self.kinds[:last]}V{self.kinds[last + 1 :]}"
        return found

    def _take(self, start: int, stop: int, end: int) -> None:
        """Add a thing and link it to what came before, which ends at `end`."""
        run, kinds, things = self.words[end:start], self.kinds[end:start], self.found.things
        if "Q" in kinds:
            run = tuple(word for word, kind in zip(run, kinds, strict=True) if kind != "Q")
        head = self.words[stop - 1]
        if run in _HAVING_PATTERN and head in PATTERN_NOUNS and self.last >= 0 and stop == start + 1:
            things[self.last].said.add(("" if run == ("with",) else "not:") + value_of(head)[1])
            return
        between = between_of(run)
        noun, said, count, plural, denied = named_by(self.words[start:stop], self.kinds[start:stop], self.copies)
        thing = Thing(noun, set(said), count, plural, denied or between.without)
        if run == ("of",) and self.last >= 0 and things[self.last].noun in _ONE_OF:
            # "a group of dogs": the dogs, in a group.
            before = things[self.last]
            thing.said |= before.said | {before.noun} if before.noun in PARTS else set()
            thing.denied |= before.denied
            things[self.last] = thing
            return
        self.found.rest |= between.denying
        things.append(thing)
        number = len(things) - 1
        if run in _OWNING and self.last >= 0:
            self._own(number)
        else:
            self._link(number, between, stop)
        self.last = number

    def _has_verb(self, at: int) -> bool:
        """Say whether a thing that ends here is the subject of what follows, up to the next comma or "and"."""
        for word, kind in zip(self.words[at:], self.kinds[at:], strict=True):
            if kind in "CQ&" or word in RELATIVE:
                return False
            if kind == "X" or (kind == "V" and word.endswith("s")):
                return True
        return False

    def _link(self, number: int, between: Between, stop: int) -> None:
        """Say how a new thing that ends at `stop` is linked to those before it by the words in between."""
        told = between.told
        if self.last < 0:
            told = () if all(word in SHOWING or word == "we" for word in told) else told
            if len(told) == 1 and told[0] in PREPOSITIONS:
                self.fronted = told[0], number
            else:
                self.subjects = [number]
                self._say(told)
            return
        if self.fronted is not None:
            relation, place = self.fronted
            self.fronted, self.subjects = None, [number]
            self._connect([number], relation_of((relation,)), place)
            self._say(
                [word for word in told if word not in SHOWING and word != "we" and verb_lemma(word) not in BEINGS]
            )
            return
        if not told or between.clause:
            self._say(told)
            own_verb = between.clause or self._has_verb(stop)
            if self.linked is not None and not own_verb:
                self._connect(*self.linked, number)
            elif self.linked is not None and not self.found.things[number].denied:
                self.subjects, self.linked = [number], None
            elif self.linked is None:
                self.subjects.append(number)
            return
        who = [self.last] if told[0] in ("of", "'s") or between.relative else self.subjects or [self.last]
        self.subjects = who if between.relative else self.subjects
        self._connect(who, relation_of(told), number)

    def _own(self, number: int) -> None:
        """Put a thing where its owner stood: who holds "the man's hand" holds the hand, which is the man's."""
        owner = self.last
        self.found.links = {
            (number if one == owner else one, name, number if other == owner else other)
            for one, name, other in self.found.links
        }
        self.subjects = [number if one == owner else one for one in self.subjects]
        self.found.links.add((number, "of", owner))

    def _connect(self, who: Sequence[int], relation: Relation, target: int) -> None:
        """Add what links some things to another."""
        self.linked = list(who), relation
        things, links = self.found.things, self.found.links
        if relation.does:
            # Who chases a cat chases.
            for one in [target] if relation.passive else who:
                things[one].said.add(relation.does)
        for one in who:
            things[one].said.update(relation.deeds)
            if relation.name in PLACED_BY and things[target].noun in PLACES:
                links.add((SCENE, "at", target))
            else:
                sides = (target, one) if relation.passive else (one, target)
                links.add(in_order(sides[0], relation.name, sides[1]))

    def _say(self, told: Iterable[str]) -> None:
        """Say words without an object of their subject."""
        for word in told:
            said, form = said_by(word)
            for one in self.subjects or ([self.last] if self.last >= 0 else []):
                self.found.things[one].said.add(said)
            if not self.subjects and self.last < 0:
                self.found.rest.add(form)

    def _end(self, before: int) -> None:
        words = [self.words[at] for at in range(before, len(self.words)) if self.kinds[at] not in "QDC&"]
        if self.fronted is not None:
            self.found.rest.add(self.fronted[0])
        if words:
            self.found.rest |= DENYING.intersection(words)
            self._say(telling(words))
