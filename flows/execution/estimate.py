"""Estimates of a curation run: samples to compute and to reuse, time, disk, LLM tokens, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import orjson

from curation.engine.replay import ALL_SAMPLES, FinishedStage, WorkUnit, corpus_input_hash, replay, result_id
from curation.engine.stage import CorpusStage, DescribesMethod, MapStage, Stage
from curation.engine.store import Store
from curation.llm.journal import Journal
from curation.rewriting.llm_stage import LlmStage
from curation.rewriting.rules import RuleWriter
from curation.versions.numbering import stage_record
from data_manifests.manifest import Catalog, Manifest
from flows.execution.jobs import CurationResult, PreparedCuration, existing, free_bytes

_TEXT_BYTES_PER_SAMPLE = 4096
"""Estimate for tar headers, JSON, text and sidecar of a sample; images are much larger."""


_SAMPLES = 200
"""Samples whose requests are built to measure their length, evenly over the data set."""

CHARS_PER_TOKEN = 4.3
"""Of English captions, for a model that has not answered anything here yet."""

DRAWS_PER_REWRITE = 2.2
"""Requests for each rewrite, when no version here tells how often the gate refused this model: measured with
Gemma 3 270M; a larger model needs fewer."""


@dataclass(frozen=True)
class StageEstimate:
    """What one stage will do.

    Attributes:
        stage: The stage.
        num_compute: Samples to compute; all of them for a corpus stage whose inputs change.
        num_reuse: Samples whose results are in the store.
        seconds: Estimate from earlier runs in this workspace, or None if there was none.
        why: Why it computes anything.
        llm_tokens: Tokens that a language model reads and writes for it.
    """

    stage: Stage
    num_compute: int
    num_reuse: int
    seconds: float | None
    why: str
    llm_tokens: int = 0


@dataclass(frozen=True)
class CurationEstimate:
    """What a run will do."""

    up_to_date: CurationResult | None
    num_samples: int
    num_rejected: int
    stages: list[StageEstimate] = field(default_factory=list)
    disk_bytes: int = 0
    free_bytes: int = 0

    @property
    def llm_tokens(self) -> int:
        """Sum over the stages."""
        return sum(item.llm_tokens for item in self.stages)

    @property
    def seconds(self) -> float | None:
        """Sum of the stages' estimates, or None when one is unknown."""
        known = [item.seconds for item in self.stages]
        return None if any(value is None for value in known) else sum(value or 0.0 for value in known)

    def to_json(self) -> dict[str, Any]:
        """Return what `plan --json` prints."""
        return {
            "up_to_date": self.up_to_date.ref if self.up_to_date else None,
            "samples": self.num_samples,
            "rejected": self.num_rejected,
            "disk_bytes": self.disk_bytes,
            "free_bytes": self.free_bytes,
            "llm_tokens": self.llm_tokens,
            "seconds": self.seconds,
            "stages": [
                {
                    "stage": item.stage.name,
                    "compute": item.num_compute,
                    "reuse": item.num_reuse,
                    "seconds": item.seconds,
                    "llm_tokens": item.llm_tokens,
                    "why": item.why,
                }
                for item in self.stages
            ],
        }


def estimate_curation(prepared: PreparedCuration) -> CurationEstimate:
    """Estimate a run from what its store lacks; computes nothing but input ids."""
    snapshot, job = prepared.snapshot, prepared.job
    up_to_date = existing(prepared)
    latest = job.catalog.latest(job.name)
    rates = _rates(job.catalog, job.num_workers)
    done: list[FinishedStage] = []
    stages: list[StageEstimate] = []
    blocked = False
    for stage in prepared.recipe.all_stages():
        missing, present, input_hash = _missing(prepared, stage, done, blocked=blocked)
        seconds = 0.0 if not missing else rates[stage.name] * missing if stage.name in rates else None
        why = "" if not missing else _why(stage, latest, missing, blocked=blocked, known=bool(present))
        if missing and isinstance(stage, DescribesMethod):
            why += f" ({stage.describe_method(missing)})"
        tokens = _estimate_tokens(stage, prepared, missing) if missing and isinstance(stage, LlmStage) else 0
        stages.append(StageEstimate(stage, missing, present, seconds, why, tokens))
        done.append(FinishedStage(stage, input_hash))
        blocked = blocked or missing > 0
    size = sum(sample.image.size_bytes for sample in snapshot.samples()) + snapshot.num_samples * _TEXT_BYTES_PER_SAMPLE
    disk_bytes, free = 0 if up_to_date else size, free_bytes(job.catalog.workspace)
    return CurationEstimate(up_to_date, snapshot.num_samples, len(snapshot.rejected), stages, disk_bytes, free)


def _missing(
    prepared: PreparedCuration, stage: Stage, done: Sequence[FinishedStage], *, blocked: bool
) -> tuple[int, int, str]:
    """Return how many samples a stage must compute and has stored, and a corpus stage's inputs hash.

    After a stage with missing results, input ids are known only for samples that are complete up to here.
    """
    store = Store(prepared.job.store)
    unit = WorkUnit(stage, tuple(done), prepared.snapshot.folder, prepared.job.store, ALL_SAMPLES)
    dropped: list[str] = []
    inputs = replay(
        unit, stage.required_fields(), lambda _stage, sample, _drop: dropped.append(sample.uid), partial=blocked
    )
    remaining = prepared.snapshot.num_samples - len(dropped)
    if isinstance(stage, MapStage):
        ids = store.ids(store.folder(stage))
        present = sum(result_id(stage, item) in ids for item in inputs)
        return remaining - present, present, ""
    if blocked:
        return remaining, 0, "unknown"
    input_hash = corpus_input_hash(stage, inputs)
    stored = bool(store.files(store.folder(stage, input_hash)))
    return (0, len(inputs), input_hash) if stored else (len(inputs), 0, input_hash)


def _rates(catalog: Catalog, workers: int) -> dict[str, float]:
    """Return seconds per computed sample by stage, from this workspace's newest run records."""
    rates: dict[str, float] = {}
    for name in catalog.names():
        for version in catalog.versions(name):
            path = catalog.manifests / name / f"{version}.run.json"
            if not path.is_file():
                continue
            record = orjson.loads(path.read_bytes())
            if not record["stages"]:
                continue  # a selection of another version: no stage ran
            scale = max(1, record["job"]["workers"] or record["cores"]) / workers
            for stage in record["stages"]:
                if stage["computed"]:
                    rates[stage["stage"]] = stage["wall_s"] / stage["computed"] * scale
    return rates


def _why(stage: Stage, latest: Manifest | None, missing: int, *, blocked: bool, known: bool) -> str:
    """Return why a stage must compute, from the newest version's record of it."""
    if latest is None:
        return "partly done by an earlier run" if known else "first run"
    before = next((record for record in latest.body["stages"] if record["name"] == stage.name), None)
    if before is None:
        return f"{latest.name}@{latest.version} has no such stage"
    if changes := _changes(before, stage_record(stage)):
        return "; ".join(changes)
    if isinstance(stage, CorpusStage):
        return _why_all(stage, latest, missing, blocked=blocked)
    return f"{missing} sample(s) are new, edited or not in this workspace's store"


def _why_all(stage: Stage, latest: Manifest, num_samples: int, *, blocked: bool) -> str:
    """Return why a stage that compares all samples computes all of them again."""
    before = latest.body["counts"]["samples"]
    reason = f"compares all samples with each other, so {num_samples} are done again: "
    if num_samples != before:
        return f"{reason}{latest.name}@{latest.version} has {before}"
    needs = ", ".join(name for name in stage.required_fields() if name != "uid")
    return reason + (f"an earlier stage recomputes, so {needs} may change" if blocked else f"{needs} changed")


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changes = []
    if before["version"] != now["version"]:
        changes.append(f"stage version {before['version']} -> {now['version']}")
    for name in sorted({*before["config"], *now["config"]}):
        old, new = before["config"].get(name), now["config"].get(name)
        if old != new:
            changes.append(f"{name}: {old} -> {new}")
    for name in sorted({*before["resources"], *now["resources"]}):
        old, new = before["resources"].get(name), now["resources"].get(name)
        if (old or {}).get("hash") != (new or {}).get("hash"):
            changes.append(f"{name}: {(old or {}).get('name')} -> {(new or {}).get('name')}")
    if "word_lists" not in before and now["word_lists"]:
        changes.append("the last version did not record its word lists")
    elif changed := sorted(dict(set(before.get("word_lists", {}).items()) ^ set(now["word_lists"].items()))):
        changes.append(f"word lists changed: {', '.join(changed)}")
    return changes


def _estimate_tokens(stage: LlmStage, prepared: PreparedCuration, num_samples: int) -> int:
    """Estimate the tokens that a language model reads and writes for a stage.

    Requests are built for some of the samples; characters per token come from the model's answers so far, and the
    number of draws from the newest version that this model rewrote.

    Args:
        stage: The stage.
        prepared: The job.
        num_samples: Samples that the stage must compute.
    """
    if isinstance(stage.writer, RuleWriter):
        return 0
    step = max(1, prepared.snapshot.num_samples // _SAMPLES)
    samples = prepared.snapshot.samples()[::step]
    chars = CHARS_PER_TOKEN
    if prepared.job.journal.is_file():
        with closing(Journal(prepared.job.journal)) as journal:
            chars = journal.chars_per_token(stage.writer.model) or CHARS_PER_TOKEN
    draws = _draws_per_rewrite(stage, prepared.job.catalog) or DRAWS_PER_REWRITE
    read, written, _ = stage.estimate_tokens(samples, chars, draws)
    return round((read + written) * num_samples / max(1, len(samples)))


def _draws_per_rewrite(stage: LlmStage, catalog: Catalog) -> float | None:
    """Return the requests for each rewrite in the newest version that this model rewrote with as many draws."""
    for name in catalog.names():
        for version in reversed(catalog.versions(name)):
            body = Manifest.load(catalog.manifest_path(name, version)).body
            usage = body["statistics"].get("usage", {}).get(stage.name, {})
            record = next((item for item in body["stages"] if item["name"] == stage.name), None)
            if record is None or not usage.get("wanted"):
                continue
            same_model = record["resources"]["writer"]["hash"] == stage.writer.content_hash()
            if same_model and record["config"]["max_draws"] == stage.max_draws:
                return float(usage["requests"] / usage["wanted"])
    return None
