"""What a version learned of its words: classes with members, evidence, how many negatives they made, and an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.contrasts.caption_words import as_written
from curation.contrasts.decisions import shown_classes
from curation.engine.fits import Fit
from curation.stages.negatives.mine_contrasts import MineContrasts
from curation.versions.numbering import kept_fits
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.negatives import ALL_KINDS, NegativeDraw, NegativePosition, ShownNegative, read_negatives


@dataclass(frozen=True)
class LearnedClass:
    """A class of words of which any two exclude each other.

    Attributes:
        name: Its two most frequent members.
        type: Type of its negatives.
        members: Word -> how often it comes, the most frequent first.
        evidence: Two words and why they exclude each other, the strongest first.
        num_negatives: Negatives of the version that exchange two of its words.
        example: One of them; None if there is none.
    """

    name: str
    type: str
    members: Mapping[str, int]
    evidence: Sequence[tuple[str, str, str]]
    num_negatives: int
    example: ShownNegative | None


@dataclass(frozen=True)
class LearnedContrasts:
    """What the stage `mine_contrasts` of a version learned.

    Attributes:
        num_captions: From how many captions.
        classes: The classes, those with the most negatives first.
        numbers: Unit -> the numbers that come before it.
    """

    num_captions: int
    classes: Sequence[LearnedClass]
    numbers: Mapping[str, Sequence[str]]


def read_contrasts(catalog: Catalog, version: DatasetVersion) -> LearnedContrasts | None:
    """Return what a version learned of its words; None if it has no such stage.

    Raises:
        InputError: the fit, or a file of the version, is missing or damaged.
    """
    kept = kept_fits(catalog, version.manifest).get(MineContrasts.name)
    if kept is None:
        return None
    values = Fit.load(kept.path).values
    counts, examples = _negatives_of_classes(version)
    classes = [
        LearnedClass(
            as_written(one["name"]),
            one["type"],
            {as_written(word): count for word, count, _ in one["members"]},
            [(as_written(a), as_written(b), evidence) for a, b, evidence, _ in one["contrasts"]],
            counts[one["name"]],
            examples.get(one["name"]),
        )
        for one in shown_classes(values)
    ]
    classes.sort(key=lambda one: (-one.num_negatives, -sum(one.members.values()), one.name))
    numbers = {unit: [number for number, _ in found] for unit, found in values["numbers"].items()}
    return LearnedContrasts(values["num_captions"], classes, numbers)


def _negatives_of_classes(version: DatasetVersion) -> tuple[Counter[str], dict[str, ShownNegative]]:
    """Return by name of the class how many negatives it made, and the first of them."""
    counts: Counter[str] = Counter()
    first: dict[str, NegativePosition] = {}
    for shard in range(len(version.manifest.body["shards"])) if version.manifest.body["counts"]["negatives"] else ():
        for row, records in enumerate(version.sidecar(shard, ["negatives"])["negatives"].to_pylist()):
            for at, record in enumerate(records):
                if record["operation"] == "contrast":
                    name = _class_of(record)
                    counts[name] += 1
                    first.setdefault(name, (shard, row, at))
    shown = read_negatives(version, NegativeDraw({}, {}, {ALL_KINDS: list(first.values())}))
    return counts, {_class_of(one.record): one for one in shown}


def _class_of(record: Mapping[str, Any]) -> str:
    """Return the class that a negative names; a rule is "class: old -> new; evidence"."""
    return str(record["rule"]).split(": ", 1)[0]
