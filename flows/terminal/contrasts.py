"""What is printed of the contrasts that a version learned, and the vocabulary file that they suggest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.markup import escape

from curation.engine.fits import Fit
from curation.stages.negatives.mine_contrasts import MineContrasts
from curation.versions.numbering import kept_fits
from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.negatives import NegativeFilter, ShownNegative, draw_negatives, read_negatives
from flows.terminal.console import clean, out, print_json

_MAX_EXAMPLES = 500
_MAX_MEMBERS_SHOWN = 12

_HEAD = """\
# Which words of {ref} exclude one another, as mine_contrasts learned them; edit, and give the file by --vocabulary.
# classes: any two words of one exclude each other. A line that you remove is learned again; to forbid it, name its words
# under synonyms (these pairs are not exchanged) or under keep (these words never are).
"""


def learned_contrasts(catalog: Catalog, ref: str) -> tuple[DatasetVersion, Mapping[str, Any]]:
    """Return a version and what its stage `mine_contrasts` learned.

    Raises:
        InputError: the version has no such stage, or its fit is missing.
    """
    version = catalog.open(ref)
    kept = kept_fits(catalog, version.manifest).get(MineContrasts.name)
    if kept is None:
        raise InputError(
            f"{version.ref} was made without {MineContrasts.name}",
            allowed="versions of recipes with this stage: contrasts, ahnm",
            fix="clipcurate curate contrasts makes one from the same source",
        )
    return version, Fit.load(kept.path).values


def print_contrasts(catalog: Catalog, ref: str, *, as_json: bool) -> None:
    """Print classes with members, the strongest evidence and an example."""
    version, values = learned_contrasts(catalog, ref)
    examples = _examples(version)
    shown = [
        {
            "name": one["name"],
            "type": one["type"],
            "members": {word: count for word, count, _ in one["members"]},
            "evidence": [{"one": a, "other": b, "evidence": text} for a, b, text, _ in one["contrasts"]],
            "example": _example_json(examples.get(one["name"])),
        }
        for one in values["classes"]
    ]
    if as_json:
        print_json({"version": version.ref, "classes": shown, "numbers": values["numbers"]})
        return
    out.print(
        f"{version.ref}: {len(shown)} classes of words that exclude each other, from {values['num_captions']:,} captions"
    )
    for item in shown:
        members = list(item["members"].items())
        words = ", ".join(f"{word} {count:,}" for word, count in members[:_MAX_MEMBERS_SHOWN])
        more = f" and {len(members) - _MAX_MEMBERS_SHOWN} more" if len(members) > _MAX_MEMBERS_SHOWN else ""
        out.print(
            f"[bold]{escape(item['name'])}[/bold] ({item['type']}): {escape(clean(words))}{more}", highlight=False
        )
        for pair in item["evidence"][:1]:
            out.print(
                f"    {escape(clean(pair['one']))} / {escape(clean(pair['other']))}: {pair['evidence']}",
                highlight=False,
            )
        if item["example"]:
            out.print(f"    {escape(clean(item['example']['caption']))}", highlight=False)
            out.print(f"    [dim]not[/dim] {escape(clean(item['example']['negative']))}", highlight=False)
    for unit, numbers in values["numbers"].items():
        few = ", ".join(number for number, _ in numbers[:_MAX_MEMBERS_SHOWN])
        out.print(f"[bold]numbers of {escape(unit)}[/bold]: {few}", highlight=False)


def write_suggestion(catalog: Catalog, ref: str, path: Path) -> None:
    """Write a vocabulary file with the classes that a version learned.

    Raises:
        InputError: the version learned none, or the file exists.
    """
    version, values = learned_contrasts(catalog, ref)
    if path.exists():
        raise InputError(f"--out {path}: the file exists", fix="choose another name, or remove it")
    write_atomically(path, _suggestion(version.ref, values["classes"]).encode())
    out.print(f"{path}: {len(values['classes'])} classes; edit it and give it by --vocabulary {path}", highlight=False)


def _suggestion(ref: str, classes: Sequence[Mapping[str, Any]]) -> str:
    lines = [_HEAD.format(ref=ref), "classes = ["]
    for one in classes:
        for a, b, evidence, _ in one["contrasts"][:1]:
            lines.append(f"  # {a} / {b}: {evidence}")
        lines.append(f"  [{', '.join(_quoted(word) for word, _, _ in one['members'])}],")
    return "\n".join([*lines, "]", "synonyms = []", "keep = []", ""])


def _quoted(word: str) -> str:
    return orjson.dumps(word).decode()  # a JSON string is a TOML string


def _examples(version: DatasetVersion) -> dict[str, ShownNegative]:
    """Return a negative of each class, of some that are drawn."""
    counts = version.manifest.body["counts"]["negatives"]
    wanted = NegativeFilter(operations=("contrast",))
    if not counts:
        return {}
    found = read_negatives(version, draw_negatives(version, wanted, _MAX_EXAMPLES, 0))
    return {str(one.record["rule"]).split(":", 1)[0]: one for one in reversed(found)}


def _example_json(shown: ShownNegative | None) -> dict[str, str] | None:
    return None if shown is None else {"caption": shown.caption, "negative": str(shown.record["text"])}
