"""`clipcurate deploy`: what clipcurate.toml says is what prefect.yaml and a real server have, and what a real worker then runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.comparison.rows import ComparisonGate
from flows.evaluation.results import Evaluation
from flows.execution.deployments import MARK, prefect_file, read_deployments, write_prefect_file
from flows.project_file import ProjectFile
from flows.promote import gate_numbers
from tests.flows.prefect_servers import artifacts_of, ask, real_server, running, runs_of, wait_for
from training.evaluate.benchmark_result import BenchmarkResult

CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
LIMIT_S = 900.0
CURATION = '[deployments.nightly.parameters]\nrecipe = "clip"\nsource = "scenes:12@1"\nname = "photos"\nworkers = 1\n'
PROJECT = f"""
[deployments.nightly]
cron = "0 3 * * *"
timezone = "Asia/Kolkata"
tags = ["team"]

{CURATION}
[deployments.page]
flow = "report"
on_version_of = "photos"

[deployments.page.parameters]
page = "photos.html"
"""


def project(folder: Path, text: str) -> ProjectFile:
    (folder / "clipcurate.toml").write_text(text)
    return ProjectFile.open(folder / "clipcurate.toml")


def entries(folder: Path, text: str) -> dict[str, dict[str, Any]]:
    found = project(folder, text)
    document = yaml.safe_load(prefect_file(found, read_deployments(found)))
    return {entry["name"]: entry for entry in document["deployments"]}


def test_the_file_says_what_the_project_says(tmp_path: Path) -> None:
    found = entries(tmp_path, f'workspace = "ws"\n{PROJECT}')
    nightly, page = found["nightly"], found["page"]
    assert nightly["entrypoint"] == "flows.curate.curate_flow"
    assert nightly["schedules"] == [{"cron": "0 3 * * *", "timezone": "Asia/Kolkata"}]
    assert nightly["parameters"] == {
        "workspace": str(tmp_path / "ws"), "recipe": "clip", "source": "scenes:12@1", "name": "photos", "workers": 1,
    }  # fmt: skip
    assert nightly["tags"] == ["clipcurate", "team"] and "triggers" not in nightly
    assert str(tmp_path) in str(nightly["pull"]) and nightly["work_pool"] == {"name": "clipcurate"}
    (trigger,) = page["triggers"]
    assert trigger["match"] == {"prefect.resource.id": "clipcurate.dataset.photos"}
    assert trigger["parameters"] == {"target": "{{ event.payload.version }}"} and page["schedules"] == []


def test_a_comparison_on_each_new_version(tmp_path: Path) -> None:
    text = '[deployments.table]\nflow = "compare"\non_version_of = "photos"\n[deployments.table.parameters]\n'
    text += 'recipes = ["negclip"]\nmodel = "tiny"\nsteps = 3\nseeds = [0, 1]\non = ["scenes:16@1"]\n'
    table = entries(tmp_path, text)["table"]
    assert table["entrypoint"] == "flows.compare.compare_flow" and table["parameters"]["seeds"] == [0, 1]
    assert table["triggers"][0]["parameters"] == {"name": "{{ event.payload.version }}"}
    with pytest.raises(InputError, match="line 8, deployments.table.parameters.seeds: got"):
        entries(tmp_path, text.replace("seeds = [0, 1]", 'seeds = "0,1"'))


def test_a_pool_of_containers(tmp_path: Path) -> None:
    more = (
        'pool_type = "docker"\ndirectory = "/project"\njob_variables = {image = "clipcurate:1", volumes = ["/d:/d"]}\n'
    )
    nightly = entries(tmp_path, f"[deployments.nightly]\n{more}{CURATION}")["nightly"]
    assert nightly["work_pool"]["job_variables"] == {"image": "clipcurate:1", "volumes": ["/d:/d"]}
    assert "/project" in str(nightly["pull"])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", None, "no deployments"),
        (f'[deployments.nightly]\ncron = "every day"\n{CURATION}', 2, "minute hour day month weekday"),
        (f'[deployments.nightly]\ncron = "0 3 * * *"\ntimezone = "Berlin"\n{CURATION}', 3, "timezone"),
        (f'[deployments.nightly]\ntimezone = "UTC"\n{CURATION}', 2, "there is no cron"),
        (f'[deployments.nightly]\nflow = "curat"\n{CURATION}', 2, "curate"),
        (f'[deployments.nightly]\npool_type = "docker"\n{CURATION}', 2, "image"),
        (f'[deployments.nightly]\npool_type = "lambda"\n{CURATION}', 2, "process, docker, kubernetes"),
        (f'[deployments.nightly]\non_version_of = "other"\n{CURATION}', 2, "takes no version"),
        (f"[deployments.nightly]\n{CURATION}limit = 0\n", 7, "greater than or equal to 1"),
        (f'[deployments.nightly]\n{CURATION}limit = "five"\n', 7, "limit"),
        (f"[deployments.nightly]\n{CURATION}limt = 5\n", 7, "limit"),
        ("[deployments.nightly]\n[deployments.nightly.parameters]\nrecipe = 'clip'\n", 2, "needs source, name"),
    ],
)
def test_what_cannot_be_deployed_names_its_line(tmp_path: Path, text: str, line: int | None, said: str) -> None:
    with pytest.raises(InputError) as refused:
        read_deployments(project(tmp_path, text))
    assert said in str(refused.value)
    assert line is None or f"clipcurate.toml, line {line}," in str(refused.value)


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text("deployments: []\n")
    with pytest.raises(InputError, match="not written by clipcurate deploy"):
        write_prefect_file(path, MARK)
    assert path.read_text() == "deployments: []\n"
    path.write_text(f"{MARK}\nold")
    write_prefect_file(path, f"{MARK}\nnew")
    assert path.read_text() == f"{MARK}\nnew"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    home = str(tmp_path_factory.mktemp("prefect"))
    path = os.pathsep.join(folder for folder in (os.getcwd(), *sys.path) if folder)  # noqa: PTH109
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    return {**kept, **quiet, "PREFECT_HOME": home, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def server(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_server(environment, tmp_path_factory.mktemp("server") / "log") as url:
        environment["PREFECT_API_URL"] = url
        yield url


def states(url: str, flow: str) -> list[str]:
    """Return the states in which the runs of a flow ended, the newest first."""
    return [run["state"]["name"] for run in runs_of(url, flow) if run["state"]["type"] in ("COMPLETED", "FAILED")]


def deployed(url: str) -> dict[str, dict[str, Any]]:
    kept = (
        "name", "entrypoint", "parameters", "tags", "work_pool_name", "pull_steps", "parameter_openapi_schema",
    )  # fmt: skip
    return {
        item["name"]: {key: item[key] for key in kept} | {"schedules": [one["schedule"] for one in item["schedules"]]}
        for item in ask(url, "/deployments/filter")
    }


def call(folder: Path, environment: dict[str, str], *words: str) -> str:
    ran = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout


@pytest.mark.slow
def test_a_project_on_a_server_with_a_worker(tmp_path: Path, environment: dict[str, str], server: str) -> None:
    """A schedule each minute in another timezone, a version, the automation after it, runs with changed parameters."""
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    (tmp_path / "clipcurate.toml").write_text(PROJECT.replace("0 3 * * *", "* * * * *"))
    assert "deployed curate/nightly" in call(tmp_path, environment, *CLI, "deploy")
    first = deployed(server)
    assert first["nightly"]["schedules"][0]["timezone"] == "Asia/Kolkata"
    assert first["nightly"]["parameter_openapi_schema"]["properties"]["limit"]["description"]
    call(tmp_path, environment, *prefect, "deploy", "--all")
    assert deployed(server) == first, "prefect deploy gives the same from the file"

    catalog, log = Catalog(tmp_path / "data_manifests", tmp_path / "workspace"), tmp_path / "worker.log"
    with running([*prefect, "worker", "start", "--pool", "clipcurate"], environment, log) as worker:
        wait_for("version", lambda: bool(catalog.versions("photos")), LIMIT_S, worker, log)
        wait_for("page", lambda: bool(states(server, "report")), LIMIT_S, worker, log)
        call(tmp_path, environment, *prefect, "deployment", "schedule", "clear", "-y", "curate/nightly")
        report = runs_of(server, "report")[0]
        assert report["name"] == "photos@1.0.0" and (tmp_path / "photos.html").is_file()
        assert "photos.html" in artifacts_of(server, report)["photos-page"]["data"]
        run = (*prefect, "deployment", "run", "curate/nightly", "-p", "limit=5")
        call(tmp_path, environment, *run)
        wait_for("refusal", lambda: "Failed" in states(server, "curate"), LIMIT_S, worker, log)
        assert catalog.versions("photos") == ["1.0.0"]
        call(tmp_path, environment, *run, "-p", "yes=true")
        wait_for("smaller version", lambda: len(catalog.versions("photos")) == 2, LIMIT_S, worker, log)
        wait_for("second page", lambda: len(states(server, "report")) == 2, LIMIT_S, worker, log)
    assert states(server, "curate")[0] == f"New version {catalog.versions('photos')[-1]}"
    assert catalog.open("photos").manifest.body["counts"]["samples"] == 5


PROMOTION = f"""
[deployments.nightly]
{CURATION}
[deployments.promote]
flow = "promote"
on_version_of = "photos"

[deployments.promote.parameters]
recipe = "clip"
model = "tiny"
on = ["retrieval:scenes:12@1"]
settings = ["train.steps=120", "train.batch_size=5", "train.lr=1e-3", "train.tune=full", "train.num_threads=1"]
"""


@pytest.mark.slow
def test_a_new_version_is_trained_on_and_promoted_or_refused(
    tmp_path: Path, environment: dict[str, str], server: str
) -> None:
    """From a version of all photographs the model learns to find them; from five of them it forgets the rest."""
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    (tmp_path / "clipcurate.toml").write_text(PROMOTION)
    call(tmp_path, environment, *CLI, "deploy")
    good, log = tmp_path / "runs" / "photos-good.json", tmp_path / "worker.log"
    run = (*prefect, "deployment", "run", "curate/nightly")
    with running([*prefect, "worker", "start", "--pool", "clipcurate"], environment, log) as worker:
        call(tmp_path, environment, *run)
        wait_for("promotion", lambda: bool(states(server, "promote")), LIMIT_S, worker, log)
        assert states(server, "promote") == ["Promoted photos@1.0.0"], runs_of(server, "promote")[0]["state"]["message"]
        first = good.read_text()
        assert "photos-1.0.0-clip" in first
        call(tmp_path, environment, *run, "-p", "limit=5", "-p", "yes=true")
        wait_for("refusal", lambda: len(states(server, "promote")) == 2, LIMIT_S, worker, log)
    refused = runs_of(server, "promote")[0]
    assert refused["state"]["name"] == "Refused" and "points lost, 3 may be" in refused["state"]["message"]
    assert good.read_text() == first
    assert len(runs_of(server, "train")) == 2 and len(runs_of(server, "evaluate")) == 4


def test_the_gate_counts_what_is_lost_against_the_last_good_run() -> None:
    def evaluation(on: str, **metrics: float) -> Evaluation:
        return Evaluation(on, "m", 10, 0, BenchmarkResult(metrics))

    names = {"i": "image_to_text_R@1", "t": "text_to_image_R@1"}
    before = [
        evaluation("retrieval:x", **{names["i"]: 0.50, names["t"]: 0.40}, foil=0.9),
        evaluation("zero_shot:y", top1=0.60),
    ]
    after = [
        evaluation("retrieval:x", **{names["i"]: 0.47, names["t"]: 0.36}, foil=0.1),
        evaluation("zero_shot:y", top1=0.59),
    ]
    found = list(gate_numbers(before, after, ComparisonGate(2.0, 3.0)))
    assert [(number.metric, number.fails) for number in found] == [
        (names["i"], False),
        (names["t"], True),
        ("top1", False),
    ]
    assert (
        list(
            gate_numbers([evaluation("foils:z", accuracy=0.9)], [evaluation("foils:z", accuracy=0.1)], ComparisonGate())
        )
        == []
    )
