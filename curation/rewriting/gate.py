"""What a rewrite must keep and may not add, checked on its parse; every rejection has a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from curation.models.parser import Parse
from curation.rewriting.text_checks import Verdict, screen
from curation.text.caption_facts import CaptionFacts, facts_of
from curation.text.lexicon import (
    CONVERSES,
    IMPLIED_NOUNS,
    LIGHT_VERBS,
    PEOPLE,
    POSITION_VERBS,
    SAME_IN_PLURAL,
    VIEW_NOUNS,
    canonical_noun,
    may_be_same_person,
    opposites_of,
    same_action,
)

T = TypeVar("T")


@dataclass(frozen=True)
class RewriteGate:
    """Checks that a rewrite of one caption claims the same as it.

    Attributes:
        caption: The caption.
        source: Its facts.
        others: The facts of the other captions of its image.
        synonyms: Noun -> its synonyms in a knowledge graph.
        echoes: Texts of the prompt, as words, that may not be repeated.
    """

    caption: str
    source: CaptionFacts
    others: Sequence[CaptionFacts] = ()
    synonyms: Mapping[str, frozenset[str]] = field(default_factory=dict)
    echoes: frozenset[tuple[str, ...]] = frozenset()

    def screen(self, text: str, growth: float = 1.6) -> Verdict | None:
        """Check what needs no parse: length, language, repetition, echoes; return why the text is rejected, or None."""
        return screen(text, self.caption, [other.words for other in self.others], self.echoes, growth)

    def judge(self, text: str, parse: Parse, *, view: bool = False) -> Verdict | None:
        """Check the facts of a text; return why it is rejected, or None.

        Args:
            text: The rewrite.
            parse: Its parse.
            view: Whether it may say how the image was taken.
        """
        found = facts_of(text, parse)
        checks = (
            self._negations(found), self._numbers(found), self._colours(found), self._genders(found),
            self._lost(found), self._new(found, view=view), self._forms(found), self._opposites(found), self._roles(found), self._actions(found),
        )  # fmt: skip
        return next((verdict for verdict in checks if verdict), None)

    def _same(self, noun: str) -> frozenset[str]:
        """Return a noun and its synonyms in the graph; for persons the noun alone."""
        graph = frozenset() if noun in PEOPLE else self.synonyms.get(noun, frozenset()) - PEOPLE
        return graph | {noun}

    def _has_synonym(self, noun: str, others: Iterable[str]) -> bool:
        """Return whether one of the other nouns means the same."""
        mine = {canonical_noun(one) for one in self._same(noun)}
        return any(canonical_noun(other) in mine or noun in self._same(other) for other in others)

    def _lost(self, found: CaptionFacts) -> Verdict | None:
        for noun in self.source.nouns:
            if noun in found.lemmas or self._has_synonym(noun, found.nouns):
                continue
            if self._has_synonym(noun, found.lemmas) or self._replaced_by_other_caption(noun, found):
                continue
            return Verdict("lost_noun", noun)
        return None

    def _replaced_by_other_caption(self, noun: str, found: CaptionFacts) -> bool:
        """Return whether a subject of another caption of the image replaces a noun.

        Only subjects of both captions count, only where neither caption has the other's noun, and never a person of
        another gender or age: otherwise a man and a woman in one image could be exchanged.
        """
        if noun not in self.source.subjects or noun in PEOPLE:
            return False
        for other in self.others:
            fitting = {
                one
                for one in other.subjects
                if one in found.subjects and one not in PEOPLE and may_be_same_person(noun, one)
            }
            if fitting - set(self.source.nouns) and noun not in other.lemmas:
                return True
        return False

    def _new(self, found: CaptionFacts, *, view: bool) -> Verdict | None:
        grounded = self.source.lemmas.union(*(other.nouns for other in self.others))
        for noun in found.nouns:
            if noun in IMPLIED_NOUNS or (noun in VIEW_NOUNS and view):
                continue
            if noun in grounded or self._has_synonym(noun, grounded):
                continue
            return Verdict("new_object", noun)
        return None

    def _negations(self, found: CaptionFacts) -> Verdict | None:
        lost = [one for one in self.source.denied if one not in found.denied]
        added = [one for one in found.denied if one not in self.source.denied]
        if lost and (not found.denied or not added or "" not in (*lost, *added)):
            return Verdict("lost_negation", lost[0])
        if added and not self.source.denied:
            return Verdict("added_negation", added[0])
        return None

    def _numbers(self, found: CaptionFacts) -> Verdict | None:
        elsewhere = {value for other in self.others for value, _ in other.numbers}
        return _values("number", self.source.numbers, found.numbers, lambda value, _noun: value in elsewhere)

    def _colours(self, found: CaptionFacts) -> Verdict | None:
        elsewhere = {pair for other in self.others for pair in other.colours}
        return _values("colour", self.source.colours, found.colours, lambda *pair: pair in elsewhere)

    def _genders(self, found: CaptionFacts) -> Verdict | None:
        new = found.genders - self.source.genders.union(*(other.genders for other in self.others))
        # A noun that becomes one of another gender counts as a lost and a new noun; a pronoun alone does not.
        by_noun = any(noun in PEOPLE and noun not in self.source.lemmas for noun in found.nouns)
        return Verdict("changed_gender", min(new)) if new and not by_noun else None

    def _forms(self, found: CaptionFacts) -> Verdict | None:
        known = self.source.forms.union(*(other.forms for other in self.others))
        named = {noun for noun, _ in self.source.forms}
        for noun, form in sorted(found.forms - known):
            if noun in named and noun not in SAME_IN_PLURAL:
                return Verdict("changed_number", f"{form} {noun}")
        return None

    def _opposites(self, found: CaptionFacts) -> Verdict | None:
        against = opposites_of(self.source.lemmas)
        known = self.source.lemmas.union(*(other.lemmas for other in self.others))
        for word in sorted(found.lemmas & against.keys()):
            if word in known or against[word] <= found.lemmas:
                continue
            if word in CONVERSES and self._exchanged(found):
                continue
            return Verdict("contradiction", f"{word} for {min(against[word])}")
        return None

    def _exchanged(self, found: CaptionFacts) -> bool:
        """Return whether the first two nouns are exchanged, so that a converse means the same."""
        first, then = self.source.nouns[:2], [noun for noun in found.nouns if noun in self.source.nouns][:2]
        return len(first) == 2 and list(first) == then[::-1]

    def _roles(self, found: CaptionFacts) -> Verdict | None:
        for who, verb, whom in sorted(found.events - self.source.events):
            reversed_event = (whom, verb, who) in self.source.events
            # "A woman walks past a waterfall" does not make the waterfall walk.
            done_by = (whom, verb) in self.source.acts and (who, verb) not in self.source.acts
            if reversed_event or (done_by and (whom, verb) not in found.acts):
                return Verdict("swapped_roles", f"{who} {verb} {whom}")
        return None

    def _actions(self, found: CaptionFacts) -> Verdict | None:
        grounded = self.source.lemmas.union(*(other.lemmas for other in self.others))
        for verb in sorted(found.verbs - LIGHT_VERBS):
            alive = any(who not in found.nouns or who not in self._things() for who, did in found.acts if did == verb)
            if not same_action(verb, grounded) and (verb not in POSITION_VERBS or alive):
                return Verdict("new_action", verb)
        return None

    def _things(self) -> set[str]:
        """Return the nouns of the source without an action."""
        return set(self.source.nouns) - {who for who, _ in self.source.acts} - PEOPLE


def _values(
    name: str,
    source: Sequence[tuple[T, str]],
    found: Sequence[tuple[T, str]],
    in_other_caption: Callable[[T, str], bool],
) -> Verdict | None:
    """Return the verdict on a lost, new or moved number or colour, given (value, noun) of source and rewrite."""
    have, wanted = {value for value, _ in found}, {value for value, _ in source}
    new = [(value, noun) for value, noun in found if value not in wanted]
    for value, _ in source:
        if value not in have:
            return Verdict(f"changed_{name}" if new else f"lost_{name}", f"{value}")
    for value, noun in new:
        if not in_other_caption(value, noun):
            return Verdict(f"changed_{name}", f"{value}")
    moved = _moved(source, found)
    return Verdict(f"changed_{name}", moved) if moved else None


def _moved(source: Sequence[tuple[object, str]], found: Sequence[tuple[object, str]]) -> str:
    """Return a number or colour that moved to another noun, where both parses attach it to a noun."""
    for value in sorted({str(value) for value, _ in source}):
        mine = {noun for one, noun in source if str(one) == value}
        theirs = {noun for one, noun in found if str(one) == value}
        if "" in mine or "" in theirs or not theirs or mine & theirs:
            continue
        named = {noun for _, noun in source}
        # Another noun only counts when it has another value in the source: parses attach loosely.
        if theirs & (named - mine):
            return f"{value} {min(theirs)}"
    return ""
