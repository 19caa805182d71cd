"""How a version or run was made: source, stages with their models and dropped samples, parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_manifests.manifest import Catalog, Manifest
from data_manifests.plugins import describe_origin
from flows.pages.html import Html, join, link_papers, tag

MAX_PARENTS = 12


@dataclass(frozen=True)
class LineageStep:
    """One step.

    Attributes:
        name: Its name.
        about: Its paper, or what else there is to say.
        inputs: Names of models, graphs or versions that it uses.
        is_here: Whether it is the subject of the page.
        dropped: Samples that it dropped.
    """

    name: str
    about: str = ""
    inputs: Sequence[str] = ()
    is_here: bool = False
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
    dropped = {stage: sum(reasons.values()) for stage, reasons in body["counts"]["dropped"].items()}
    licence = f"licence {source['licence']}" if source.get("licence") else ""
    steps = [LineageStep(f"{source.get('kind')}: {source.get('name')}", licence, dropped=dropped.pop("intake", 0))]
    seen: set[str] = set()
    for stage in body["stages"]:
        used = [item for item in stage["resources"].values() if item["hash"] not in seen and item["name"] != "none"]
        seen |= {item["hash"] for item in used}
        about = str(stage["source"]) + (f"; from {describe_origin(stage['origin'])}" if "origin" in stage else "")
        if fit := stage.get("fit"):
            about += f"; learned from {fit['samples']:,} samples of {fit['learned_on']}"
        inputs = [str(item["name"]) for item in used]
        steps.append(LineageStep(stage["name"], about, inputs, dropped=dropped.pop(stage["name"], 0)))
    name = f"{body['name']}@{body['version']}"
    after = f"after {', '.join(parents)}" if parents else ""
    return [*steps, LineageStep(name, after, is_here=here, dropped=sum(dropped.values()))]


def lineage_list(steps: Sequence[LineageStep], label: str) -> Html:
    """Return the steps as a list, from top to bottom."""
    return tag("ol", *map(_step, steps), class_="way", aria_label=label)


def _step(step: LineageStep) -> Html:
    parts: list[object] = [tag("b", step.name)]
    if step.dropped:
        parts.append(tag("span", f" -{step.dropped:,}\N{NO-BREAK SPACE}samples", class_="bad"))
    if step.about:
        parts.append(tag("span", " ", link_papers(step.about), class_="soft"))
    if step.inputs:
        parts.append(tag("div", "uses ", ", ".join(step.inputs), class_="soft"))
    return tag("li", join(parts), class_="here" if step.is_here else None)
