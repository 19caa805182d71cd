"""The promotion flow: train on a version, compare with the last good run, and take its place unless the gate fails.

The gate is that of `compare`: points of zero-shot accuracy and of R@1 that may be lost on the same benchmarks. What is good is a
file, ``NAME-good.json`` in the folder of runs; nothing is deployed anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import orjson
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.states import Failed

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.nested import leaves
from data_manifests.run_files import RUN_FILE
from flows.comparison.metrics import choosing_metrics
from flows.comparison.rows import ComparisonGate
from flows.evaluate import evaluate_flow
from flows.evaluation.results import Evaluation
from flows.evaluation.run import EvaluateJob
from flows.execution.flow_parameters import parameters_of, typed_parameters
from flows.execution.flow_runs import artifact_key, completed, tag_run
from flows.execution.jobs import TrainJob
from flows.report import PageOptions
from flows.train import train_flow


@dataclass(frozen=True, kw_only=True)
class PromoteJob:
    """A version to train on, and what it has to keep.

    Attributes:
        ref: ``NAME@VER``.
        recipe: Recipe's name.
        model: Model spec that training starts from; the first run is compared with it.
        on: Benchmarks, ``KIND:SRC`` each; at least one of retrieval, scenes or zero_shot.
        settings: ``--set`` texts of the training.
        split: Only this split of the benchmarks' sources.
        limit: At most this many samples of the benchmarks' sources.
        gate_zero_shot: Points of zero-shot accuracy that may be lost against the last good run.
        gate_retrieval: Points of R@1 that may be lost against the last good run.
        runs: Folder of runs, and of ``NAME-good.json``, which names the last good one.
        workspace: Folder of store and shards.
        manifests: Folder of manifests.
    """

    ref: str
    recipe: str
    model: str
    on: tuple[str, ...]
    settings: tuple[str, ...] = ()
    split: str | None = None
    limit: int | None = None
    gate_zero_shot: float = 2.0
    gate_retrieval: float = 3.0
    runs: str = "runs"
    workspace: str = "workspace"
    manifests: str = "data_manifests"


@dataclass(frozen=True)
class GateNumber:
    """A number that the gate looks at.

    Attributes:
        on: ``KIND:SRC``.
        metric: Its name.
        before: Of the last good run, in percent.
        after: Of the new run, in percent.
        may_lose: Points that may be lost.
    """

    on: str
    metric: str
    before: float
    after: float
    may_lose: float

    @property
    def fails(self) -> bool:
        """Whether more is lost."""
        return round(self.before - self.after, 6) > self.may_lose

    def describe(self) -> str:
        """Return the number in a sentence."""
        lost = f"{self.before - self.after:.1f} points lost, {self.may_lose:g} may be"
        return f"{self.on} {self.metric}: {self.before:.1f} before, {self.after:.1f} now ({lost})"


def gate_numbers(
    before: Sequence[Evaluation], after: Sequence[Evaluation], gate: ComparisonGate
) -> Iterator[GateNumber]:
    """Yield the numbers of two evaluations on the same benchmarks in which no more than some points may be lost."""
    for old, new in zip(before, after, strict=True):
        now = dict(leaves(new.metrics))
        for metric, value in leaves(old.metrics):
            allowed = gate.allowed(old.on, metric) if metric in choosing_metrics(old.on) else None
            if allowed is not None:
                yield GateNumber(old.on, metric, 100 * float(value), 100 * float(now[metric]), allowed)


@flow(
    name="promote",
    flow_run_name="{ref} {recipe}",
    description="Train on a version, compare with the last good run, and take its place unless too much is lost.",
    persist_result=False,
)
@typed_parameters
def promote_flow(job: PromoteJob) -> str:
    """Train on a version, and take the last good run's place unless the gate fails."""
    catalog = Catalog(Path(job.manifests), Path(job.workspace))
    name, version = catalog.resolve(job.ref)
    tag_run(dataset=name, recipe=job.recipe)
    run, good_file = Path(job.runs) / f"{name}-{version}-{job.recipe}", Path(job.runs) / f"{name}-good.json"
    good = orjson.loads(good_file.read_bytes())["run"] if good_file.is_file() else job.model
    if good == str(run):
        return completed(f"Unchanged: {run.name} is the last good run", str(run))
    resume = (run / RUN_FILE).is_file()
    training = TrainJob(
        ref=f"{name}@{version}",
        recipe=job.recipe,
        model=job.model,
        out=str(run),
        workspace=job.workspace,
        manifests=job.manifests,
        settings=job.settings,
        resume=resume,
        fit_batch=True,
    )
    train_flow(**parameters_of(training, PageOptions()))
    before, after = _evaluated(job, good), _evaluated(job, str(run))
    numbers = list(gate_numbers(before, after, ComparisonGate(job.gate_zero_shot, job.gate_retrieval)))
    if not numbers:
        raise InputError(
            f"promote: {', '.join(job.on)} has nothing that the gate looks at",
            allowed="at least one benchmark of retrieval, scenes or zero_shot",
        )
    create_table_artifact(
        [asdict(number) | {"fails": number.fails} for number in numbers],
        key=artifact_key(name, "gate"),
        description=f"{run.name} against {Path(good).name}",
    )
    if failing := [number.describe() for number in numbers if number.fails]:
        get_run_logger().warning("refused: %s", "; ".join(failing))
        return cast("str", Failed(name="Refused", message=f"{run.name}: {'; '.join(failing)}"))
    _promote(name, run, good_file, numbers)
    return completed(f"Promoted {name}@{version}", str(run))


def _evaluated(job: PromoteJob, model: str) -> list[Evaluation]:
    """Evaluate a model as a flow run below this one."""
    evaluation = EvaluateJob(
        model=model, on=job.on, split=job.split, limit=job.limit, workspace=job.workspace, manifests=job.manifests
    )
    results: list[Evaluation] = evaluate_flow(**parameters_of(evaluation))
    return results


def _promote(name: str, run: Path, good_file: Path, numbers: Sequence[GateNumber]) -> None:
    """Make a run the last good one, and say so to whoever listens."""
    record = {"run": str(run), "numbers": [asdict(number) for number in numbers]}
    write_atomically(good_file, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    emit_event(
        event="model.promoted", resource={"prefect.resource.id": f"clipcurate.model.{name}"}, payload={"run": str(run)}
    )
