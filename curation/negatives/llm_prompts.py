"""Prompts for negatives by a language model: instructions and our own examples, each wrong in one thing.

As in `curation.rewriting.prompts`, a caption is untrusted text and never becomes part of an instruction.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from blake3 import blake3

from curation.rewriting.prompts import Prompt, RequestBuilder
from data_manifests.seeds import canonical

_KEEP = "so that it becomes false of the picture; copy every other word as it is."
INSTRUCTIONS: Mapping[str, str] = {
    "object": f"Put one other thing, person or animal in the place of one in the image caption, {_KEEP}",
    "attribute": f"Change one colour, size, material or other quality in the image caption, {_KEEP}",
    "action": f"Change what is done in the image caption to one other action, {_KEEP}",
    "relation": f"Change where something is in the image caption by one other word for the place, {_KEEP}",
}
"""Type of a negative -> instruction."""

EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "object": (
        ("A boy is flying a kite above the dunes .", "A boy is flying a drone above the dunes ."),
        ("Two women share a pizza at a small table .", "Two women share a cake at a small table ."),
        ("A brown horse looks over the gate .", "A brown cow looks over the gate ."),
        ("A mechanic in overalls repairs a truck .", "A mechanic in overalls repairs a tractor ."),
        ("An old man feeds pigeons in the square .", "An old man feeds squirrels in the square ."),
        ("The girl wears a straw hat and sandals .", "The girl wears a straw hat and boots ."),
        ("A kitten sleeps on a folded blanket .", "A puppy sleeps on a folded blanket ."),
        ("Children build a castle out of sand .", "Children build a tunnel out of sand ."),
    ),
    "attribute": (
        ("A woman carries a red umbrella in the rain .", "A woman carries a blue umbrella in the rain ."),
        ("A small boat is tied to the wooden pier .", "A large boat is tied to the wooden pier ."),
        ("The young man paints a fence .", "The old man paints a fence ."),
        ("Three goats stand on a rocky slope .", "Three goats stand on a grassy slope ."),
        ("A striped cat hides under the bed .", "A black cat hides under the bed ."),
        ("People walk past a tall glass building .", "People walk past a tall brick building ."),
        ("A wet dog shakes itself by the pool .", "A dry dog shakes itself by the pool ."),
        ("Someone left a full cup on the desk .", "Someone left an empty cup on the desk ."),
    ),
    "action": (
        ("A man is washing his car in the yard .", "A man is pushing his car in the yard ."),
        ("A girl reads a letter by the window .", "A girl tears a letter by the window ."),
        ("Two dogs run along the river .", "Two dogs sleep along the river ."),
        ("A chef cuts a large fish .", "A chef grills a large fish ."),
        ("Players are sitting on the field .", "Players are jumping on the field ."),
        ("A child throws a ball to her father .", "A child rolls a ball to her father ."),
        ("The crowd watches a man juggling on a stage .", "The crowd watches a man singing on a stage ."),
        ("A cyclist waits at the crossing .", "A cyclist falls at the crossing ."),
    ),
    "relation": (
        ("A cat sits under the kitchen table .", "A cat sits on the kitchen table ."),
        ("A man stands behind a parked van .", "A man stands on a parked van ."),
        ("Birds fly above the bridge .", "Birds fly below the bridge ."),
        ("The boy is inside the tent .", "The boy is outside the tent ."),
        ("A lamp hangs over the sofa .", "A lamp hangs behind the sofa ."),
        ("A bike leans against the wall near the door .", "A bike leans against the wall above the door ."),
        ("Children run out of the school .", "Children run into the school ."),
        ("A ball lies in front of the goal .", "A ball lies behind the goal ."),
    ),
}
"""Type -> examples (caption, negative): sentences of our own, each differing in one thing."""
TYPES = tuple(INSTRUCTIONS)


@dataclass(frozen=True, slots=True)
class NegativeRequests(RequestBuilder):
    """Builds requests for negatives."""

    stage: ClassVar[str] = "ask_negatives"
    task: ClassVar[tuple[str, str]] = ("change", "negative")

    @staticmethod
    def prompt(kind: str) -> Prompt:
        """Return the instruction and examples of a type."""
        return Prompt(INSTRUCTIONS[kind], EXAMPLES[kind])


@lru_cache(maxsize=1)
def negative_prompts_hash() -> str:
    """Return a hash of everything except the settings that decides a prompt, and of the dictionary that the gate uses."""
    return blake3(canonical([INSTRUCTIONS, EXAMPLES, importlib.metadata.version("lemminflect")])).hexdigest(length=16)
