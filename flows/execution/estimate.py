"""Estimates of a curation run: samples to compute and to reuse, time, disk, LLM tokens, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from curation.engine.engine import STATE_FILE, previous_index
from curation.engine.fits import FIT_OF, FITS_FOLDER, Fit, KeptFit, Overlap, fit_path
from curation.engine.followed import Followed
from curation.engine.replay import FinishedStage, Replay, inputs_hash
from curation.engine.stage import DescribesMethod, FittedStage, IndexedStage, MapStage, Stage
from curation.engine.store import Store, partitions
from curation.llm.journal import Journal
from curation.rewriting.llm_stage import LlmStage
from curation.rewriting.rules import RuleWriter
from curation.versions.numbering import stage_record
from data_manifests.disk_space import free_bytes
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.sample import REQUIRABLE
from data_manifests.seeds import canonical
from flows.execution.estimate_negatives import NegativesEstimate, estimate_negatives
from flows.execution.jobs import CurationResult, PreparedCuration, existing
from flows.execution.trial_run import TrialRun, speed_of, try_stages

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
        num_compute: Samples to compute; all of them for a stage that is fitted anew.
        num_reuse: Samples whose results are in the store.
        seconds: Estimate from earlier runs in this workspace, or from a trial on a few images; None where neither tells.
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
    """What a run will do.

    Attributes:
        up_to_date: The version that the job would only build again.
        num_samples: Images of the source, or as many as were asked for.
        num_rejected: Refused at intake.
        stages: What each stage will do.
        disk_bytes: What the version will take, and the store where that was tried.
        free_bytes: What the workspace's disk has.
        negatives: How many captions will get.
        publish_s: Seconds of publication; None where nothing tells.
        num_tried: Images of the trial that times come from; 0 without one.
        peak_bytes: Memory of a process at most, as tried; 0 without a trial.
    """

    up_to_date: CurationResult | None
    num_samples: int
    num_rejected: int
    stages: list[StageEstimate] = field(default_factory=list)
    disk_bytes: int = 0
    free_bytes: int = 0
    negatives: NegativesEstimate | None = None
    publish_s: float | None = None
    num_tried: int = 0
    peak_bytes: int = 0

    @property
    def llm_tokens(self) -> int:
        """Sum over the stages."""
        return sum(item.llm_tokens for item in self.stages)

    @property
    def seconds(self) -> float | None:
        """Sum of the stages' estimates and of publication, or None when one is unknown."""
        known = [*(item.seconds for item in self.stages), self.publish_s]
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
            "publish_seconds": self.publish_s,
            "samples_tried": self.num_tried,
            "peak_memory_bytes": self.peak_bytes,
            **({} if self.negatives is None else {"negatives_per_caption": self.negatives.to_json()}),
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


def estimate_curation(prepared: PreparedCuration, num_samples: int | None = None) -> CurationEstimate:
    """Estimate a run from what its store lacks; computes input ids, and a few images where no earlier run tells the times.

    Args:
        prepared: The job.
        num_samples: Estimate a first run over so many images like these instead; None for the source as it is.
    """
    snapshot, job = prepared.snapshot, prepared.job
    up_to_date = existing(prepared) if num_samples is None else None
    latest = job.catalog.latest(job.name)
    rates, publish_rate = _rates(job.catalog, job.num_workers, [stage.name for stage in prepared.recipe.all_stages()])
    found = _look_up(prepared, latest) if num_samples is None else _all_of(prepared, num_samples)
    unknown = {stage.name for stage, missing in found if missing.num_compute and stage.name not in rates}
    publishes = not up_to_date and any(missing.num_compute for _, missing in found)
    trial = None
    if unknown or num_samples is not None or (publishes and publish_rate is None):
        trial = try_stages(prepared.recipe.all_stages(), snapshot)
    stages: list[StageEstimate] = []
    for stage, missing in found:
        number, why = missing.num_compute, missing.why
        if missing.is_anew and isinstance(stage, DescribesMethod):
            why += f" ({stage.describe_method(number)})"
        tokens = _estimate_tokens(stage, prepared, number) if number and isinstance(stage, LlmStage) else 0
        seconds = _seconds_of(stage, number, rates, trial, job.num_workers)
        stages.append(StageEstimate(stage, number, missing.num_reuse, seconds, why, tokens))
    total = snapshot.num_samples if num_samples is None else num_samples
    images = snapshot.num_image_bytes() * total // max(snapshot.num_samples, 1)
    texts = _TEXT_BYTES_PER_SAMPLE if trial is None else trial.text_bytes + trial.store_bytes
    publish_s = 0.0 if not publishes else None if publish_rate is None else publish_rate * total
    if publishes and trial is not None:
        publish_s = trial.publication.seconds(total, 1)
    return CurationEstimate(
        up_to_date,
        total,
        len(snapshot.rejected),
        stages,
        0 if up_to_date else images + round(texts * total),
        free_bytes(job.catalog.workspace),
        estimate_negatives(prepared.recipe.all_stages(), snapshot, latest),
        publish_s,
        0 if trial is None else trial.num_samples,
        0 if trial is None else trial.peak_bytes,
    )


def _look_up(prepared: PreparedCuration, latest: Manifest | None) -> list[tuple[Stage, _Missing]]:
    """Return what the store lacks of each stage."""
    planner = _StagePlanner(prepared, latest)
    return [(stage, planner.look_up(stage)) for stage in prepared.recipe.all_stages()]


def _all_of(prepared: PreparedCuration, num_samples: int) -> list[tuple[Stage, _Missing]]:
    """Return that each stage computes all of so many samples."""
    why = f"as if the source had {num_samples:,} images"
    return [
        (stage, _Missing(num_samples, 0, why, is_anew=not isinstance(stage, MapStage)))
        for stage in prepared.recipe.all_stages()
    ]


def _seconds_of(
    stage: Stage, number: int, rates: Mapping[str, float], trial: TrialRun | None, workers: int
) -> float | None:
    """Return what a stage takes: as in an earlier run here, else as tried."""
    if not number:
        return 0.0
    if stage.name in rates:
        return rates[stage.name] * number
    tried = None if trial is None else trial.stages.get(stage.name)
    return None if tried is None else tried.seconds(number, 1 if isinstance(stage, IndexedStage) else workers)


class _Missing(NamedTuple):
    """What the store lacks of a stage; `is_anew` if it is fitted or indexed from nothing."""

    num_compute: int
    num_reuse: int
    why: str = ""
    is_anew: bool = False


class _StagePlanner:
    """Looks up stage after stage what the store has, without computing anything.

    After a stage with missing results, inputs are known only for samples that are complete up to there.
    """

    def __init__(self, prepared: PreparedCuration, latest: Manifest | None) -> None:
        self._prepared, self._latest = prepared, latest
        snapshot, self._store = prepared.snapshot, Store(prepared.job.store)
        self._samples = [Replay(snapshot, self._store, part, partial=True) for part in partitions(snapshot.num_samples)]
        self._uids = {uid for part in self._samples for uid in part.uids}
        self._uids_before = _uids_of(prepared.job.catalog, latest)
        self._blocked = False
        self._followed = Followed(prepared.fits)

    def look_up(self, stage: Stage) -> _Missing:
        """Return what the next stage must compute."""
        dropped = {uid for part in self._samples for uid in part.dropped_uids()}
        fits = self._prepared.fits
        kept = fits.of(stage.name, stage.learning_fingerprint()) if isinstance(stage, FittedStage) else None
        folder = self._store.folder(stage, kept.hash if kept else "")
        inputs = [item for part in self._samples for item in part.input_ids(stage, folder)[0]]
        remaining = len(self._uids) - len(dropped)
        if isinstance(stage, FittedStage):
            found, key = self._fitted(stage, kept, inputs, self._uids - dropped - {uid for _, uid in inputs})
        elif isinstance(stage, MapStage):
            found, key = self._results(stage, "", remaining), ""
            self._followed.passed(stage)
        else:
            found, key = self._indexed(stage, inputs, remaining)
            self._followed.passed(stage)
        self._samples = [part.after(FinishedStage(stage, key)) for part in self._samples]
        self._blocked = self._blocked or found.num_compute > 0
        return found

    def _results(self, stage: Stage, key: str, remaining: int) -> _Missing:
        """Return how many results of a map or fitted stage are missing."""
        present = sum(part.after(FinishedStage(stage, key)).results().num_rows for part in self._samples)
        missing = remaining - present
        return _Missing(missing, present, _why(stage, self._latest, missing, known=bool(present)) if missing else "")

    def _fitted(
        self, stage: FittedStage, kept: KeptFit | None, inputs: Sequence[tuple[bytes, str]], unknown: set[str]
    ) -> tuple[_Missing, str]:
        """Return what a fitted stage must compute, and the fit it will use; `unknown` are samples without inputs yet."""
        folder, remaining = self._store.folder(stage), len(inputs) + len(unknown)
        if kept is not None and (fit := _load_fit(kept, fit_path(folder, kept.hash))) is not None:
            found = self._results(stage, kept.hash, remaining)
            overlap = Overlap.of(fit, [key for key, _ in inputs])
            new, new_images = overlap.share_new * len(inputs), len(unknown - self._uids_before)
            # what an earlier stage has yet to compute is certainly new for a new image, or if the source is read
            is_certain = bool({*REQUIRABLE[1:]} & {*stage.required_fields()})
            numbers = new + (len(unknown) if is_certain else new_images), new + len(unknown)
            if self._followed.follows_decisions(stage):
                numbers = new + new_images, new + new_images
            most_new = self._followed.most_new(stage, kept, overlap)
            refits, why = _decide(kept, (*numbers, remaining), most_new, given=self._prepared.fits.given)
            self._followed.passed(stage, None if refits else kept)
            if refits:
                return _Missing(remaining, 0, why, is_anew=True), "unknown"
            if kept.stage_fingerprint != stage.fingerprint():
                why += f"; brings other {', '.join(stage.decisions)} into it"
                return _Missing(remaining, 0, why), "unknown"
            return (found._replace(why=f"{why}; {found.why}") if found.num_compute else found), kept.hash
        self._followed.passed(stage)
        if not self._blocked and (memo := folder / FITS_FOLDER / f"{FIT_OF}{inputs_hash(inputs)}").is_file():
            key = memo.read_text()
            return self._results(stage, key, remaining), key
        reason = "fits anew, as requested: " if kept is None and self._prepared.fits.refit else "fits: "
        why = reason + _why(stage, self._latest, remaining, known=False)
        return _Missing(remaining, 0, why, is_anew=True), "unknown"

    def _indexed(self, stage: Stage, inputs: Sequence[tuple[bytes, str]], remaining: int) -> tuple[_Missing, str]:
        ids = {uid: key for key, uid in inputs}
        key = inputs_hash(inputs)
        folder = self._store.folder(stage, key)
        if not self._blocked and (folder / STATE_FILE).is_file():
            return _Missing(0, len(ids)), key
        before = previous_index(self._store.folder(stage), ids)
        if before is None:
            return _Missing(remaining, 0, _why(stage, self._latest, remaining, known=False), is_anew=True), "unknown"
        present = int((before.row_now >= 0).sum())
        why = f"{remaining - present} sample(s) are new, edited or gone; only lists that have them change"
        return _Missing(remaining - present, present, why), before.key


def _decide(kept: KeptFit, numbers: tuple[float, float, int], most_new: float, *, given: bool) -> tuple[bool, str]:
    """Return whether a stage will be fitted anew, and why.

    Args:
        kept: The earlier fit.
        numbers: Samples that are certainly new to it, those that may be, and all samples.
        most_new: The share of new samples with which it is kept.
        given: Whether the fit was requested.
    """
    certain, possible, total = numbers
    bound, most = most_new * total, f"{100 * most_new:.0f} %"
    new, unclear = (f"{100 * number / max(total, 1):.1f} % of the samples" for number in (certain, possible - certain))
    if given:
        return False, f"applies the fit of {kept.learned_on}"
    if certain > bound:
        why = f"fits anew, a MINOR version: {new} are new to the fit of {kept.learned_on}, more than {most}"
        return True, f"{why}; all samples may change (--fits {kept.learned_on} keeps it)"
    if possible > bound:
        why = f"keeps the fit of {kept.learned_on} unless more than {most} of the samples prove new to it"
        return False, f"{why}: {new} are, and {unclear} are not known yet"
    return False, f"keeps the fit: {new} are new to the fit of {kept.learned_on}"


def _uids_of(catalog: Catalog, latest: Manifest | None) -> set[str]:
    """Return the samples of the newest version; none if its files are not here."""
    folder = None if latest is None else catalog.folder(latest.name, latest.version)
    if latest is None or folder is None or not (folder / "index.parquet").is_file():
        return set()
    return set(DatasetVersion(latest, folder).index(["uid"])["uid"].to_pylist())


def _load_fit(kept: KeptFit, stored: Path) -> Fit | None:
    """Return a kept fit, from the store or from its version's folder; None if it is in neither."""
    path = stored if stored.is_file() else kept.path
    return Fit.load(path) if path.is_file() else None


def _rates(catalog: Catalog, workers: int, names: Sequence[str]) -> tuple[dict[str, float], float | None]:
    """Return seconds per computed sample by stage, and per published one, from the runs in this workspace that did most of it.

    Args:
        catalog: Where run records are.
        workers: Processes of the run to come.
        names: Its stages; what publication takes is told by runs of the same.
    """
    rates: dict[str, float] = {}
    publish_rate: float | None = None
    most: Counter[str] = Counter()
    for name in catalog.names():
        for version in catalog.versions(name):
            path = catalog.manifests / name / f"{version}.run.json"
            if not path.is_file():
                continue
            record = orjson.loads(path.read_bytes())
            if not record["stages"]:
                continue  # a selection of another version: no stage ran
            scale = speed_of(max(1, record["job"]["workers"] or record["cores"])) / speed_of(workers)
            for stage in record["stages"]:
                if stage["computed"] and stage["computed"] >= most[stage["stage"]]:
                    most[stage["stage"]] = stage["computed"]
                    rates[stage["stage"]] = stage["wall_s"] / stage["computed"] * scale
            published, seconds = record.get("counts", {}).get("samples", 0), record.get("seconds", {}).get("publish")
            is_like = {stage["stage"] for stage in record["stages"]} == {*names}
            if is_like and published > most["publish"] and seconds is not None:
                most["publish"], publish_rate = published, seconds / published
    return rates, publish_rate


def _why(stage: Stage, latest: Manifest | None, missing: int, *, known: bool) -> str:
    """Return why a stage must compute, from the newest version's record of it."""
    if latest is None:
        return "partly done by an earlier run" if known else "first run"
    before = next((record for record in latest.body["stages"] if record["name"] == stage.name), None)
    if before is None:
        return f"{latest.name}@{latest.version} has no such stage"
    if changes := _changes(before, stage_record(stage)):
        return "; ".join(changes)
    return f"{missing} sample(s) are new, edited or not in this workspace's store"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    now = orjson.loads(canonical(now))  # tuples are lists in a manifest
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
    if before.get("image_decoder") != now["image_decoder"]:
        changes.append(
            f"image decoder {before.get('image_decoder', 'of an earlier version')} -> {now['image_decoder']}"
        )
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
