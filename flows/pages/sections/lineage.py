"""A graph of how a version or run was made: source, stages with their models and dropped samples, parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_manifests.manifest import Catalog, Manifest
from flows.pages.html import Html, tag

MAX_PARENTS = 12

_WIDTH, _ROW, _BOX = 360, 30, 22
_LEFT, _STAGE, _SIDE = 0, 196, 224
_CHARS = 6.6
"""Average width of a character."""


@dataclass(frozen=True)
class LineageStep:
    """One box of the graph.

    Attributes:
        text: Its text.
        tooltip: Text that is shown on hover.
        inputs: Boxes to its right that lead into it: text and tooltip.
        kind: ``here`` for the subject of the page, ``made`` for a source, else empty.
        dropped: Samples that it dropped.
    """

    text: str
    tooltip: str = ""
    inputs: Sequence[tuple[str, str]] = ()
    kind: str = ""
    dropped: int = 0


def parents_of(catalog: Catalog, manifest: Manifest) -> list[str]:
    """Return the refs of a version's parent, that one's parent and so on, as far as their manifests exist."""
    found: list[str] = []
    while (ref := manifest.parent_ref) and len(found) < MAX_PARENTS:
        found.append(ref)
        path = catalog.manifest_path(*ref.split("@"))
        if not path.is_file():
            break
        manifest = Manifest.load(path)
    return found


def version_steps(body: Mapping[str, Any], parents: Sequence[str], *, here: bool = True) -> list[LineageStep]:
    """Return the steps from the source through the stages to the version; models and graphs where they are first used."""
    source = body["source"]
    details = ", ".join(f"{key} {value}" for key, value in source.items() if value is not None)
    dropped = {stage: sum(reasons.values()) for stage, reasons in body["counts"]["dropped"].items()}
    name = f"{source.get('kind')}: {source.get('name')}"
    steps = [LineageStep(name, details, kind="made", dropped=dropped.pop("intake", 0))]
    seen: set[str] = set()
    for stage in body["stages"]:
        used = [item for item in stage["resources"].values() if item["hash"] not in seen and item["name"] != "none"]
        seen |= {item["hash"] for item in used}
        inputs = [(item["name"], f"{item['name']}, {item['hash']}") for item in used]
        tooltip = f"{stage['name']} /{stage['version']}, {stage['source']}"
        if fit := stage.get("fit"):
            tooltip += f"; fitted on {fit['learned_on']}, {fit['samples']} samples"
        steps.append(LineageStep(stage["name"], tooltip, inputs, dropped=dropped.pop(stage["name"], 0)))
    chain = [("after " + parents[0], " after ".join(["", *parents]).strip())] if parents else []
    chain += [(f"… {len(parents) - 1} earlier", " after ".join(parents[1:]))] if len(parents) > 1 else []
    ref = f"{body['name']}@{body['version']}"
    steps.append(LineageStep(ref, body["fingerprint"], chain, "here" if here else "", sum(dropped.values())))
    return steps


def lineage_graph(steps: Sequence[LineageStep], label: str) -> Html:
    """Return the graph, from top to bottom; long names are cut and shown in full on hover."""
    parts: list[Html] = []
    y = 1
    for number, step in enumerate(steps):
        if number:
            line = tag("path", d=f"M{_STAGE / 2} {y - (_ROW - _BOX)} L{_STAGE / 2} {y - 4}", class_="edge")
            parts.append(tag("g", line, _head(_STAGE / 2, y)))
        parts.append(_box(_LEFT, y, _STAGE, step.text, step.tooltip, step.kind))
        if step.dropped:
            parts.append(tag("text", f"-{step.dropped:,}", x=_STAGE - 7, y=y + 15, text_anchor="end", class_="bad"))
        for row, (text, tooltip) in enumerate(step.inputs):
            at = y + row * _ROW
            parts.append(_box(_SIDE, at, _WIDTH - _SIDE - 1, text, tooltip, "made"))
            middle = at + _BOX / 2
            bend = f"M{_SIDE} {middle} H{(_SIDE + _STAGE) / 2} V{y + _BOX / 2} H{_STAGE + 4}"
            parts += [tag("path", d=bend, class_="edge"), _head(_STAGE, y + _BOX / 2, sideways=True)]
        down = y + max(len(step.inputs), 1) * _ROW
        if len(step.inputs) > 1 and number + 1 < len(steps):
            parts.append(tag("path", d=f"M{_STAGE / 2} {y + _BOX} V{down}", class_="edge"))
        y = down
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {y}", role="img", aria_label=label, class_="graph")


def _box(x: float, y: float, width: float, text: str, tooltip: str, kind: str) -> Html:
    room = int((width - 12) / _CHARS)
    shown = text if len(text) <= room else f"{text[: room - 1]}…"
    frame = tag("rect", x=x + 0.5, y=y, width=width - 1, height=_BOX, rx=5, class_=f"box {kind}".strip())
    words = tag("text", shown, x=x + 7, y=y + 15, class_="name")
    return tag("g", tag("title", tooltip or text), frame, words)


def _head(x: float, y: float, *, sideways: bool = False) -> Html:
    shape = f"M{x} {y} l5 -3 v6 z" if sideways else f"M{x} {y} l-3 -5 h6 z"
    return tag("path", d=shape)
