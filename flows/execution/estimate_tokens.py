"""How many tokens a language model will read and write, before it is asked anything."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from curation.llm.journal import Journal
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.rewrite_captions import RewriteCaptions
from curation.stages.negatives.ask_negatives import AskNegatives
from data_manifests.manifest import Catalog, Manifest, version_key
from data_manifests.sample import Sample
from flows.execution.jobs import PreparedCuration

_SAMPLES = 200
"""Samples whose requests are made to see how long they are; evenly over the data set."""

CHARS_PER_TOKEN = 4.3
"""Of English captions, when the model has not answered anything here yet."""

DRAWS_PER_REWRITE = 2.2
"""Times a rewrite is asked for, when no version here tells how often the gate refused this model: measured with
Gemma 3 270M; a larger model needs fewer."""


def forecast_tokens(stage: RewriteCaptions | AskNegatives, prepared: PreparedCuration, num_samples: int) -> int:
    """Estimate the tokens of rewriting: read and written.

    Requests are made for a share of the samples; tokens a character come from the model's answers so far, and the
    number of draws from the newest version that this model rewrote.

    Args:
        stage: The stage.
        prepared: The job.
        num_samples: Samples that the stage must compute.
    """
    if isinstance(stage.writer, RuleWriter):
        return 0
    total = prepared.snapshot.num_samples
    step = max(1, total // _SAMPLES)
    chosen: list[Sample] = list(islice(prepared.snapshot.samples(), 0, None, step))
    chars = CHARS_PER_TOKEN
    if prepared.job.journal.is_file():
        journal = Journal(prepared.job.journal)
        try:
            chars = journal.chars_per_token(stage.writer.model) or CHARS_PER_TOKEN
        finally:
            journal.close()
    draws = _draws(stage, prepared.job.catalog) or DRAWS_PER_REWRITE
    read, written, _ = stage.estimate_tokens(chosen, chars, draws)
    return round((read + written) * num_samples / max(1, len(chosen)))


def _draws(stage: RewriteCaptions | AskNegatives, catalog: Catalog) -> float | None:
    """Return how often a rewrite was asked for in the newest version that this model rewrote with these draws."""
    for manifest in _newest_first(catalog):
        usage = manifest.body["statistics"].get("usage", {}).get(stage.name, {})
        record = next((item for item in manifest.body["stages"] if item["name"] == stage.name), None)
        if record is None or not usage.get("wanted"):
            continue
        same_model = record["resources"]["writer"]["hash"] == stage.writer.content_hash()
        if same_model and record["config"]["max_draws"] == stage.max_draws:
            return float(usage["requests"] / usage["wanted"])
    return None


def _newest_first(catalog: Catalog) -> Iterator[Manifest]:
    for name in catalog.names():
        for version in sorted(catalog.versions(name), key=version_key, reverse=True):
            yield Manifest.load(catalog.manifest_path(name, version))
