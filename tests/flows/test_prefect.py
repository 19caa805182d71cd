"""The flows on real Prefect: a temporary server, a Dask cluster, and a schedule on a server of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_manifests.manifest import Catalog
from tests.flows.prefect_servers import real_server, running, wait_for

pytestmark = pytest.mark.slow

CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
SCHEDULE_S = 240


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("prefect")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def places(root: Path) -> list[str]:
    return ["--workspace", str(root / "w"), "--manifests", str(root / "m")]


def curate(root: Path, environment: dict[str, str], *more: str) -> str:
    command = [*CLI, *places(root), "curate", "negclip", "--source", "scenes:40", "--name", "toy", *more]
    command += ["--model", "tiny"]  # the recipe has map, fitted and indexed stages
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return Catalog(root / "m", root / "w").open("toy").manifest.fingerprint


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> str:
    """Return the fingerprint that the engine alone gives."""
    return curate(tmp_path_factory.mktemp("bare"), environment, "--no-prefect", "--workers", "1")


def test_a_flow_makes_the_same_bytes(tmp_path: Path, environment: dict[str, str], bare: str) -> None:
    assert curate(tmp_path, environment, "--workers", "2", "--prefect") == bare


def test_a_dask_cluster_makes_the_same_bytes(tmp_path: Path, environment: dict[str, str], bare: str) -> None:
    pytest.importorskip("distributed", reason="extra 'cluster' is not installed")
    assert curate(tmp_path, environment, "--runner", "dask", "--workers", "2") == bare


def test_training_as_a_flow_gives_the_same_weights(tmp_path: Path, environment: dict[str, str]) -> None:
    curate(tmp_path, environment, "--no-prefect", "--workers", "1")
    made = []
    for number, more in enumerate(((), ("--prefect",))):
        words = ["train", "toy@1", "--recipe", "clip", "--model", "tiny", "--out", str(tmp_path / f"run{number}")]
        settings = ["--steps", "2", "--set", "train.batch_size=8", "--set", "train.num_threads=1", "--json", *more]
        command = [*CLI, *places(tmp_path), *words, *settings]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        made.append(json.loads(ran.stdout)["weights_hash"])
    assert made[0] == made[1]


def test_evaluation_and_comparison_as_flows_give_the_same_numbers(tmp_path: Path, environment: dict[str, str]) -> None:
    base = ("--model", "tiny", "--source", "scenes:24@3", "--on", "scenes:12@1", "--workers", "1", "--out", "OUT")
    train = ("--steps", "1", "--seeds", "0", "--set", "train.batch_size=6", "--set", "train.num_threads=1")
    commands = {
        "evaluate": ("evaluate", "tiny", "--on", "scenes:12@1", "--json", "OUT"),
        "compare": ("compare", "efficient_cl", *base, *train),
    }
    for name, words in commands.items():
        found = []
        for folder, more in (("plain", ()), ("flow", ("--prefect",))):
            out = tmp_path / folder / name
            command = [
                *CLI,
                *places(tmp_path / folder),
                *(str(out) if word == "OUT" else word for word in words),
                *more,
            ]
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, ran.stderr[-3000:]
            document = json.loads((out if name == "evaluate" else out / "comparison.json").read_bytes())
            found.append(document["results"] if name == "evaluate" else document["rows"])
        assert found[0] == found[1]


def test_a_schedule_makes_a_version(tmp_path: Path, environment: dict[str, str], bare: str) -> None:
    serve = [
        *CLI,
        *places(tmp_path),
        "schedule",
        "negclip",
        "--source",
        "scenes:40",
        "--name",
        "toy",
        "--model",
        "tiny",
    ]
    catalog = Catalog(tmp_path / "m", tmp_path / "w")
    serve_log = tmp_path / "serve.log"
    with real_server(environment, tmp_path / "server.log") as url:
        there = {**environment, "PREFECT_API_URL": url}
        with running([*serve, "--cron", "* * * * *"], there, serve_log) as served:
            wait_for("version", lambda: bool(catalog.versions("toy")), SCHEDULE_S, served, serve_log)
    assert catalog.open("toy").manifest.fingerprint == bare


@pytest.mark.parametrize(
    ("cron", "expected"), [("every day", "--cron 'every day'"), ("0 3 * * *", "no Prefect server to schedule on")]
)
def test_a_schedule_that_cannot_be(tmp_path: Path, environment: dict[str, str], cron: str, expected: str) -> None:
    command = [*CLI, *places(tmp_path), "schedule", "clip", "--source", "scenes:5", "--name", "toy", "--cron", cron]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert expected in ran.stderr
