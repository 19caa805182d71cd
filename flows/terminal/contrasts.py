"""What is printed of the contrasts that a version learned, and the vocabulary file that they suggest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.text import Text

from curation.llm.interface import LanguageModel
from curation.stages.negatives.mine_contrasts import MineContrasts
from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.negatives import edit_pieces, shorten_pieces
from flows.execution.learned_contrasts import LearnedClass, LearnedContrasts, read_contrasts
from flows.execution.suggest_vocabulary import Suggestion, proposed_classes, vocabulary_text
from flows.terminal.console import clean, edit_text, out, print_json

_MAX_MEMBERS_SHOWN = 12
_MAX_CLASSES_SHOWN, _MAX_CHARS = 60, 160


def print_contrasts(catalog: Catalog, ref: str, *, as_json: bool, most: int = _MAX_CLASSES_SHOWN) -> None:
    """Print classes with members, how many negatives they made, the strongest evidence and an example.

    Args:
        catalog: Where the version is.
        ref: The version.
        as_json: Print JSON, with all classes.
        most: Most classes to print as text.

    Raises:
        InputError: the version has no stage `mine_contrasts`, or a file of it is missing.
    """
    version = catalog.open(ref)
    found = _learned(catalog, version)
    if as_json:
        print_json({"version": version.ref, "classes": list(map(_class_json, found.classes)), "numbers": found.numbers})
        return
    out.print(
        f"{version.ref}: {len(found.classes)} classes of words that exclude each other, from {found.num_captions:,} captions"
    )
    for one in found.classes[:most]:
        _print_class(one)
    if len(found.classes) > most:
        out.print(f"{len(found.classes) - most:,} more classes: clipcurate show {version.ref} --contrasts --json")
    for unit, numbers in found.numbers.items():
        out.print(
            f"[bold]numbers of {escape(clean(unit))}[/bold]: {', '.join(numbers[:_MAX_MEMBERS_SHOWN])}", highlight=False
        )


def _learned(catalog: Catalog, version: DatasetVersion) -> LearnedContrasts:
    found = read_contrasts(catalog, version)
    if found is None:
        raise InputError(
            f"{version.ref} was made without {MineContrasts.name}",
            allowed="versions of recipes with this stage: contrasts, ahnm",
            fix="clipcurate curate contrasts makes one from the same source",
        )
    return found


def _class_json(one: LearnedClass) -> dict[str, Any]:
    example = one.example and {"caption": one.example.caption, "negative": str(one.example.record["text"])}
    return {
        "name": one.name,
        "type": one.type,
        "members": dict(one.members),
        "evidence": [{"one": a, "other": b, "evidence": text} for a, b, text in one.evidence],
        "negatives": one.num_negatives,
        "example": example,
    }


def _print_class(one: LearnedClass) -> None:
    members = list(one.members.items())
    words = ", ".join(f"{word} {count:,}" for word, count in members[:_MAX_MEMBERS_SHOWN])
    more = f" and {len(members) - _MAX_MEMBERS_SHOWN} more" if len(members) > _MAX_MEMBERS_SHOWN else ""
    kind = f"{one.type}, {one.num_negatives:,} negatives"
    out.print(f"[bold]{escape(clean(one.name))}[/bold] ({kind}): {escape(clean(words))}{more}", highlight=False)
    for a, b, evidence in one.evidence[:1]:
        out.print(f"    {escape(clean(a))} / {escape(clean(b))}: {evidence}", highlight=False)
    if one.example is not None:
        pieces = shorten_pieces(edit_pieces(one.example.caption, one.example.record), _MAX_CHARS)
        out.print(Text("    ").append_text(edit_text(pieces, out)), highlight=False)


def write_suggestion(found: Suggestion, path: Path, model: LanguageModel | None) -> None:
    """Write a vocabulary file with what was learned, and with what a language model proposes as comments.

    Raises:
        InputError: the file exists, or the model gives no answer.
    """
    proposed = [] if model is None else proposed_classes(model, found)
    proposer = "" if model is None else model.describe()
    write_atomically(path, vocabulary_text(found, proposed, proposer).encode())
    said = f"{path}: {len(found.classes)} classes"
    if model is not None:
        said += (
            f", and {len(proposed)} proposed by {proposer} as comments, which have no effect until you remove the '# '"
        )
    out.print(f"{said}; edit it and give it by --vocabulary {path}", markup=False, highlight=False, soft_wrap=True)
