"""A training job as the command line and the flow run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_manifests.manifest import Catalog
from flows.execution.jobs import TrainJob
from flows.recipe import load_recipe
from training.model.spec import ModelSpec

if TYPE_CHECKING:
    from training.checkpoint import RunResult


def train_here(job: TrainJob) -> RunResult:
    """Train in this process.

    Raises:
        InputError: version, recipe, model or run folder is unusable.
    """
    from training.batches.remote_shards import open_remote
    from training.train import train

    catalog = Catalog(Path(job.manifests), Path(job.workspace))
    dataset = open_remote(catalog, job.ref, job.shards) if job.shards else catalog.open(job.ref)
    recipe = load_recipe(job.recipe, settings=job.settings)
    cache = Path(job.workspace) / "activations"
    spec = ModelSpec.parse(job.model)
    replay = Path(job.replay) if job.replay else None
    run = Path(job.out)
    return train(dataset, recipe.train_parts(), spec, recipe.train, run, resume=job.resume, cache=cache, replay=replay)
