"""Rewriting without a model: deterministic rules over a caption's parse, labelled ``rules``."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from blake3 import blake3

from curation.models.parser import CaptionParse
from curation.rewriting.passive import turn_voice
from curation.rewriting.reordering import move_place, split_modifier, turn_participle
from curation.text.articles import fix_articles
from curation.text.dependency_tree import CaptionTree, inflected
from curation.text.lexicon import PEOPLE, is_english, noun_lemma
from curation.text.wordlists import word_map
from data_manifests.seeds import canonical

_VERSION = 1
"""Raised whenever a rule writes something else."""

Rule = Callable[[str, CaptionParse, Mapping[str, frozenset[str]]], Iterator[str]]

_NOUNS = word_map("rule_synonyms")
"""Nouns that can replace each other in a caption, outside compounds."""
_ADJECTIVES: Mapping[str, str] = {"big": "large", "large": "big", "little": "small", "small": "little"}


def replace_synonym(text: str, parse: CaptionParse, synonyms: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield the caption with its first replaceable noun or adjective replaced by a synonym."""
    tree = CaptionTree(text, parse)
    for token in range(tree.end):
        new = _noun_for(tree, token, synonyms) or _adjective_for(tree, token)
        if new:
            before, after = text[: parse["starts"][token]], text[parse["starts"][token] + len(parse["words"][token]) :]
            shown = new[:1].upper() + new[1:] if parse["words"][token][:1].isupper() else new
            yield fix_articles(f"{before}{shown}{after}")
            return


def _noun_for(tree: CaptionTree, token: int, synonyms: Mapping[str, frozenset[str]]) -> str:
    alone = tree.deps[token] not in ("compound", "nmod", "amod") and not tree.with_dep(
        token, "compound", "nmod", "poss"
    )
    touching = tree.text[tree.parse["starts"][token] - 1 : tree.parse["starts"][token]] == "-"
    owner = tree.words[token + 1 : token + 2] in (["'s"], ["'"])
    if owner or tree.tags[token] not in ("NN", "NNS") or tree.pos[token] != "NOUN" or not alone or touching:
        return ""
    lemma = noun_lemma(tree.words[token])
    new = _NOUNS.get(lemma, "")
    if not new and lemma not in PEOPLE:
        known = sorted(one for one in synonyms.get(lemma, ()) if one != lemma and one.isalpha() and is_english(one))
        new = known[0] if known else ""
    plural = tree.tags[token] == "NNS"
    if not new or new in tree.words or (plural and new in ("TV", "grass")):
        return ""
    return inflected(new, "NNS") if plural else new


def _adjective_for(tree: CaptionTree, token: int) -> str:
    noun = tree.heads[token]
    plain = tree.deps[token] == "amod" and tree.pos[token] == "ADJ" and tree.pos[noun] == "NOUN"
    new = _ADJECTIVES.get(tree.words[token], "") if plain else ""
    return "" if new in tree.words else new


RULES: Mapping[str, Rule] = {
    "rules/passive": turn_voice,
    "rules/fronting": move_place,
    "rules/modifiers": split_modifier,
    "rules/relative": turn_participle,
    "rules/synonyms": replace_synonym,
}


@dataclass(frozen=True, slots=True)
class RuleWriter:
    """A writer without a model: it changes voice, order and words of a caption, and adds nothing.

    Attributes:
        graph_synonyms: Whether nouns without a synonym in our own list get one from the stage's knowledge graph. Off by
            default: a graph of all senses gives "tail" for "dog".
    """

    graph_synonyms: bool = False

    def content_hash(self) -> str:
        """Return a hash of the rules' version, the switch and the dictionary of inflections."""
        version = importlib.metadata.version("lemminflect")
        return blake3(canonical(["rules", _VERSION, self.graph_synonyms, version])).hexdigest(length=16)

    def describe(self) -> str:
        """Return its name for reports."""
        return "rules"

    def rewrite(
        self, caption: str, parse: CaptionParse, families: Sequence[str], synonyms: Mapping[str, frozenset[str]]
    ) -> list[tuple[str, str]]:
        """Return (family, text) for every rule that applies to a caption, in the order of the families."""
        known = synonyms if self.graph_synonyms else {}
        return [(family, text) for family in families for text in RULES[family](caption, parse, known)]
