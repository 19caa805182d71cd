"""Dask workers that know nothing of the caller: each runs in an empty folder, without HOME and its variables."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from curation.engine import engine
from curation.engine.replay import WorkUnit
from curation.knowledge.build import GraphSource, build_graph
from curation.knowledge.formats.rows import Keep
from data_manifests.errors import InputError
from flows.cli.demo import write_photos
from flows.execution.dask_cluster import dask_pool
from flows.execution.jobs import CurateJob, execute_locally, run_job
from flows.recipe import RecipeInputs, load_recipe
from tests.conftest import ROOT
from tests.curation.blank_models import write_masked_model
from tests.flows.plugin_code import write_parts
from training.model.checkpoint_files import architecture_file
from training.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore")
pytest.importorskip("distributed", reason="extra 'cluster' is not installed")
START_S = 120.0
FACTS = """/a/1\t/r/IsA\t/c/en/dog\t/c/en/animal\t{"weight": 2.0, "dataset": "/d/x", "license": "cc:by/4.0"}
/a/2\t/r/IsA\t/c/en/cat\t/c/en/animal\t{"weight": 2.0, "dataset": "/d/x", "license": "cc:by/4.0"}
"""


@contextmanager
def cluster(root: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Yield the address of a scheduler, and its three workers, each in an empty folder of its own."""
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    file = ("--scheduler-file", str(root / "scheduler.json"))
    commands: list[tuple[str, ...]] = [("scheduler", *file, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
    commands += [("worker", *file, "--nthreads", "1", "--no-nanny", "--no-dashboard")] * 3
    processes = []
    with ExitStack() as stack:
        for number, (kind, *options) in enumerate(commands):
            (folder := root / str(number)).mkdir(parents=True)
            log = stack.enter_context((root / f"{number}.log").open("wb"))
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        end = time.monotonic() + START_S
        while not (root / "scheduler.json").is_file():
            assert time.monotonic() < end, (root / "0.log").read_text()
            time.sleep(0.1)
        yield json.loads((root / "scheduler.json").read_bytes())["address"], processes[1:]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a scheduler with three workers."""
    with cluster(tmp_path_factory.mktemp("cluster")) as (address, _):
        yield address


def run_on(address: str) -> Callable[[Any, Callable[[engine.Executor], Any]], Any]:
    """Return what runs a job's units on the workers of a cluster."""

    def execute(job: CurateJob, work: Callable[[engine.Executor], Any]) -> Any:
        with dask_pool(f"dask:{address}", 2, Path(job.workspace).absolute()) as pool:

            def run(one: Callable[[WorkUnit], Any], units: Sequence[WorkUnit]) -> Iterable[Any]:
                return [future.result() for future in [pool.submit(one, unit) for unit in units]]

            return work(run)

    return execute


RELATIVE: dict[str, dict[str, Any]] = {
    "ahnm": {"graph": "facts.graph", "model": "tiny.json", "against": ("folder:other",)},
    "svlc": {"masked_model": "masked"},
}
"""Recipes, with every kind of file that a stage may use, by relative paths."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the files that `RELATIVE` names in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_photos(Path("photos"), 40)
    write_photos(Path("other"), 4)
    Path("facts.csv").write_text(FACTS)
    build_graph([GraphSource("assertions", Path("facts.csv"))], Path("facts.graph"), Keep(), lambda _what, _count: None)
    Path("tiny.json").write_bytes(architecture_file("tiny").read_bytes())
    write_masked_model(Path("masked"))


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts and paths in nested dataclasses and tuples."""
    if isinstance(value, str | Path):
        yield str(value)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if not (isinstance(value, ModelSpec) and field.name == "text"):  # what the user typed; `path` is used
                yield from texts_in(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from texts_in(item)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("recipe", RELATIVE)
def test_stages_have_absolute_paths(recipe: str) -> None:
    given = {word.removeprefix("folder:") for value in RELATIVE[recipe].values() for word in texts_in(value)}
    found = list(texts_in(load_recipe(recipe, RecipeInputs(workspace="w", **RELATIVE[recipe])).all_stages()))
    assert not [text for text in found if text and not Path(text).is_absolute() and Path(text).exists()]
    # an evaluation set is carried as the snapshot that was made of it
    assert given - {"other"} <= {Path(text).name for text in found if Path(text).is_absolute()}


@pytest.mark.slow
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("recipe", RELATIVE)
def test_relative_paths_of_the_caller(monkeypatch: pytest.MonkeyPatch, scheduler: str, recipe: str) -> None:
    monkeypatch.setattr(engine, "_FEW_SAMPLES", 0)  # even a single unit goes to a worker
    made = []
    for workspace, executor in (("w", run_on(scheduler)), ("here", execute_locally)):
        places = {"workspace": workspace, "manifests": f"m-{workspace}"}
        job = CurateJob(recipe=recipe, source="folder:photos", name="toy", workers=1, **places, **RELATIVE[recipe])
        made.append(run_job(job, executor).manifest.fingerprint)
    assert made[0] == made[1]


@pytest.mark.slow
def test_a_recipe_in_a_file_with_its_stage_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    monkeypatch.setattr(engine, "_FEW_SAMPLES", 0)
    sys.modules.pop("beside_letters", None)
    recipe, made = str(write_parts(tmp_path / "mine")), []
    for name, executor in (("there", run_on(scheduler)), ("here", execute_locally)):
        places = {"workspace": str(tmp_path / name), "manifests": str(tmp_path / f"m-{name}")}
        job = CurateJob(recipe=recipe, source="scenes:30@1", name="toy", workers=1, **places)
        made.append(run_job(job, executor).manifest.fingerprint)
    assert made[0] == made[1]
    sys.modules.pop("beside_letters")


@pytest.mark.slow
def test_a_killed_worker_costs_its_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made, num_units = [], []
    with cluster(tmp_path / "cluster") as (address, workers):

        def execute(job: CurateJob, work: Callable[[engine.Executor], Any]) -> Any:
            with dask_pool(f"dask:{address}", 3, Path(job.workspace).absolute()) as pool:

                def run(one: Callable[[WorkUnit], Any], units: Sequence[WorkUnit]) -> Iterable[Any]:
                    num_units.append(len(units))
                    futures = [pool.submit(one, unit) for unit in units]
                    if len(units) >= 3 and workers[0].poll() is None:
                        time.sleep(0.2)  # each worker has a unit by now
                        workers[0].kill()
                    return [future.result() for future in futures]

                return work(run)

        for workspace, executor in (("there", execute), ("here", execute_locally)):
            places = {"workspace": workspace, "manifests": f"m-{workspace}"}
            job = CurateJob(recipe="clip", source="scenes:1600@3", name="toy", workers=1, **places)
            made.append(run_job(job, executor))
        assert workers[0].poll() is not None and max(num_units) >= 3
        assert [worker.poll() for worker in workers[1:]] == [None, None]
    there, here = made
    assert there.manifest.fingerprint == here.manifest.fingerprint
    for report, alone in zip(there.reports, here.reports, strict=True):  # of a lost unit, batches may have been published
        assert report.num_computed + report.num_reused == alone.num_computed + alone.num_reused
        assert report.num_computed >= alone.num_computed - 512


@pytest.mark.slow
def test_a_flow_with_a_relative_workspace(tmp_path: Path, scheduler: str) -> None:
    command = [
        sys.executable,
        "-c",
        "from flows.cli.main import main; main()",
        "curate",
        "clip",
        "--source",
        "scenes:600",
    ]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    found = []
    for runner in (("--runner", f"dask:{scheduler}"), ("--no-prefect", "--workers", "1")):
        (folder := tmp_path / runner[0]).mkdir()
        options = ["--name", "toy", "--json", *runner]
        ran = subprocess.run(
            [*command, *options], env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        found.append(json.loads(ran.stdout)["fingerprint"])
    assert found[0] == found[1]


def test_a_folder_that_workers_do_not_see(tmp_path: Path, scheduler: str) -> None:
    with pytest.raises(InputError, match="does not see"), dask_pool(f"dask:{scheduler}", 2, tmp_path / "nowhere"):
        pass


def test_no_scheduler(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Dask scheduler"), dask_pool("dask:tcp://127.0.0.1:1", 2, tmp_path):
        pass
