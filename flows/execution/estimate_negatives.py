"""How many negatives captions will get: known from the version before, or estimated from a few captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from curation.blind.image_sample import ImageSample
from curation.engine.engine import run_stages
from curation.engine.intake import Snapshot
from curation.engine.stage import FittedStage, Stage
from curation.engine.store import ALL_SAMPLES
from curation.negatives.records import NegativesStage, ReadsNegatives
from curation.versions.numbering import stage_record
from curation.versions.publish import candidate_statistics, generator_names
from data_manifests.caption_negatives import CaptionNegatives
from data_manifests.manifest import Manifest
from data_manifests.sample import REQUIRABLE

MAX_CAPTIONS, MAX_CHARS = 400, 80_000
"""Most captions, and characters of these, from which the numbers are estimated: about four seconds on one core."""


@dataclass(frozen=True)
class NegativesEstimate:
    """How many negatives captions will get.

    Attributes:
        found: Numbers of negatives; None if all stages that make them are left out.
        known_from: The version whose numbers these are; empty for an estimate from a few captions.
        left_out: Stages that make negatives with a model, or from what they learn of all samples: not estimated.
    """

    found: CaptionNegatives | None
    known_from: str = ""
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `plan --json` prints; ``known_from`` is null for an estimate."""
        found = None if self.found is None else self.found.to_json()
        return {"known_from": self.known_from or None, "numbers": found, "not_known_of": list(self.left_out)}


def estimate_negatives(
    stages: Sequence[Stage], snapshot: Snapshot, latest: Manifest | None
) -> NegativesEstimate | None:
    """Return how many negatives captions will get; None if no stage makes any.

    If the same stages made those of the newest version, the numbers are that version's. Otherwise the stages run on the
    images with the smallest hashes, `MAX_CAPTIONS` captions in all, in a store that is thrown away.

    Args:
        stages: The recipe's stages.
        snapshot: The source.
        latest: The newest version.
    """
    needed = _needed(stages)
    if not needed:
        return None
    if latest is not None and (known := CaptionNegatives.of(latest.body["statistics"])) is not None:
        before = {record["name"]: record["fingerprint"] for record in latest.body["stages"]}
        if all(before.get(stage.name) == stage_record(stage)["fingerprint"] for stage in needed):
            return NegativesEstimate(known, f"{latest.name}@{latest.version}")
    with TemporaryDirectory(prefix="clipcurate-plan-") as folder:
        part = drawn_part(snapshot, Path(folder) / "snapshot", MAX_CAPTIONS, MAX_CHARS)
        return tried_negatives(stages, part, Path(folder) / "store", are_all=part.num_samples == snapshot.num_samples)


def tried_negatives(stages: Sequence[Stage], part: Snapshot, store: Path, *, are_all: bool) -> NegativesEstimate:
    """Return how many negatives the captions of some images get, without publishing anything.

    Args:
        stages: A recipe's stages.
        part: The images.
        store: Where results are kept.
        are_all: Whether stages that learn from all samples may learn from these.
    """
    runnable, left_out = _runnable(_needed(stages), are_all=are_all)
    if not generator_names(runnable):
        return NegativesEstimate(None, left_out=left_out)
    finished, _ = run_stages(runnable, part, store)
    return NegativesEstimate(CaptionNegatives.of(candidate_statistics(finished, part, store)), left_out=left_out)


def drawn_part(snapshot: Snapshot, folder: Path, max_captions: int, max_chars: int) -> Snapshot:
    """Return the images with the smallest hashes as a snapshot of their own.

    Args:
        snapshot: The source.
        folder: A new folder.
        max_captions: Most captions.
        max_chars: Most characters of these.
    """
    drawn: ImageSample[str] = ImageSample("estimate_negatives", max_captions, max_chars)
    for batch in snapshot.batches(ALL_SAMPLES):
        for uid, captions in zip(batch["uid"].to_pylist(), batch["captions"], strict=True):
            if drawn.wants(uid):
                texts = captions.as_py()
                drawn.add(uid, uid, len(texts), sum(map(len, texts)))
    return snapshot.part(folder, drawn.items())


def _needed(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages that the negatives of a recipe depend on, in their order."""
    wanted: set[str] = set()
    needed: list[Stage] = []
    for stage in reversed(stages):
        provided = {field.name for field in stage.provides}
        if provided & wanted or any(field.role == "negatives" for field in stage.provides):
            needed.append(stage)
            wanted |= set(stage.required_fields())
    return needed[::-1]


def _runnable(stages: Sequence[Stage], *, are_all: bool) -> tuple[list[Stage], tuple[str, ...]]:
    """Return the stages to run, and the names of those that make or judge negatives and are left out.

    Those need a model, or learn from all samples what to make: of a few they would learn too little. A stage that judges
    negatives gets those of the remaining stages.

    Args:
        stages: The stages that negatives depend on.
        are_all: Whether they run on all samples.
    """
    fields, runnable, left_out = {*REQUIRABLE}, list[Stage](), list[str]()
    for stage in stages:
        able = stage.reading_only(fields) if isinstance(stage, ReadsNegatives) else stage
        learns = isinstance(stage, FittedStage) and not isinstance(stage, NegativesStage) and not are_all
        if able.runs_model() or learns or not fields.issuperset(able.required_fields()):
            left_out += [stage.name] if any(field.role == "negatives" for field in stage.provides) else []
            continue
        runnable.append(able)
        fields |= {field.name for field in able.provides}
    return runnable, tuple(left_out)
