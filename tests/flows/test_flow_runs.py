"""What Prefect's pages show of our flows, asked of a real server: forms, names, states, logs, progress, links."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from data_manifests.manifest import Catalog
from tests.flows.prefect_servers import artifacts_of, ask, real_server, runs_of

CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
LIMIT_S = 600.0


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    home = str(tmp_path_factory.mktemp("prefect"))
    return {**kept, "PREFECT_HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


@pytest.fixture(scope="module")
def server(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the API of a real server; commands of the tests find it in their environment."""
    with real_server(environment, tmp_path_factory.mktemp("server") / "log") as url:
        environment["PREFECT_API_URL"] = url
        yield url


def command(root: Path, *words: str) -> list[str]:
    return [*CLI, "--workspace", str(root / "w"), "--manifests", str(root / "m"), *words]


def run(root: Path, environment: dict[str, str], *words: str, code: int = 0) -> str:
    ran = subprocess.run(
        command(root, *words), env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert ran.returncode == code, ran.stderr[-3000:]
    return ran.stdout + ran.stderr


def call_flow(root: Path, environment: dict[str, str], module: str, **parameters: Any) -> None:
    """Run a flow by its parameters alone, as a worker does, in a process of its own."""
    places = {"workspace": str(root / "w"), "manifests": str(root / "m")}
    code = f"from flows.{module} import {module}_flow; {module}_flow(**{parameters | places!r})"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]


def schema(flow: Any) -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    return parameter_schema(flow).model_dump()


@pytest.mark.parametrize(
    ("module", "required", "types"),
    [
        ("curate", {"recipe", "source", "name"}, {"limit": "integer", "settings": "array", "yes": "boolean"}),
        ("train", {"ref", "recipe", "model", "out"}, {"settings": "array", "resume": "boolean", "page": "string"}),
        ("evaluate", {"model", "on"}, {"on": "array", "limit": "integer", "blind": "boolean"}),
        ("compare", {"model", "steps", "on"}, {"seeds": "array", "keep_within": "number", "smoke": "boolean"}),
        ("report", {"target", "page"}, {"seed": "integer", "evaluation": "array"}),
        ("forget", {"name", "file"}, {"file": "string"}),
    ],
)
def test_every_parameter_is_typed_and_described(module: str, required: set[str], types: dict[str, str]) -> None:
    found = schema(vars(__import__(f"flows.{module}", fromlist=["x"]))[f"{module}_flow"])
    assert set(found["required"]) == required
    for name, item in found["properties"].items():
        kinds = {one.get("type") for one in item.get("anyOf", [item])}
        assert kinds <= {"string", "integer", "number", "boolean", "array", "null"}, name
        assert item["description"], name
        assert types.get(name, next(iter(kinds))) in kinds


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": "five"}, {"workers": -1}, {"settings": "a=b"}, {"nme": "x"}])
def test_wrong_parameters_are_refused_before_the_run(wrong: dict[str, Any]) -> None:
    from prefect.exceptions import ParameterTypeError, SignatureMismatchError

    from flows.curate import curate_flow

    given = {"recipe": "clip", "source": "scenes:3", "name": "toy"}
    curate_flow.validate_parameters(curate_flow.serialize_parameters(given))
    with pytest.raises((ParameterTypeError, SignatureMismatchError)):
        curate_flow.validate_parameters({**given, **wrong})


@pytest.mark.slow
def test_a_curation_on_the_pages(tmp_path: Path, environment: dict[str, str], server: str) -> None:
    job = ("curate", "clip", "--source", "scenes:12@1", "--name", "shown", "--workers", "1")
    run(tmp_path, environment, *job)
    newest = runs_of(server, "curate")[0]
    assert newest["name"] == "shown@next clip" and newest["state"]["name"] == "New version 1.0.0"
    assert {"dataset:shown", "recipe:clip"} <= set(newest["tags"])
    left = artifacts_of(server, newest)
    assert float(left["shown-progress"]["data"]) == 100
    assert "12 samples" in left["shown-changes"]["data"]
    said = [line["message"] for line in ask(server, "/logs/filter", logs={"flow_run_id": {"any_": [newest["id"]]}})]
    assert any("check_images: 12 computed, 0 reused" in line for line in said)

    page = tmp_path / "page.html"
    given = {"recipe": "clip", "source": "scenes:12@1", "name": "shown", "workers": 1}
    call_flow(tmp_path, environment, "curate", **given, page=str(page), pages_url="http://pages.example/clip/")
    newest = runs_of(server, "curate")[0]
    assert newest["state"]["name"] == "Unchanged" and newest["state"]["type"] == "COMPLETED"
    assert "http://pages.example/clip/page.html" in artifacts_of(server, newest)["page-page"]["data"]
    assert page.is_file()
    assert ask(server, "/v2/concurrency_limits/filter")[0]["name"] == "clipcurate-dataset-shown"
    assert ask(server, "/v2/concurrency_limits/filter")[0]["limit"] == 1

    uids = Catalog(tmp_path / "m", tmp_path / "w").open("shown").index(["uid"])["uid"].to_pylist()[:2]
    (tmp_path / "uids.txt").write_text("\n".join(uids))
    call_flow(tmp_path, environment, "forget", name="shown", file=str(tmp_path / "uids.txt"))
    newest = runs_of(server, "forget")[0]
    assert newest["state"]["name"] == "Forgot 2"
    stored = b"".join(path.read_bytes() for path in Path(environment["PREFECT_HOME"]).glob("prefect.db*"))
    assert b"shown" in stored and not any(uid.encode() in stored for uid in uids), "Prefect keeps no forgotten uid"

    run(tmp_path, environment, *job[:4], "--limit", "5", *job[4:], code=2)
    assert len(runs_of(server, "curate")) == 2, "what a command refuses starts no run"


@pytest.mark.slow
def test_a_comparison_by_its_parameters(tmp_path: Path, environment: dict[str, str], server: str) -> None:
    """As a worker runs it: no command has prepared anything."""
    page, out = tmp_path / "pages" / "table.html", tmp_path / "flows of two"
    given: dict[str, Any] = {
        "source": "scenes:24@3",
        "model": "tiny",
        "steps": 2,
        "seeds": [0, 1],
        "on": ["scenes:16@1"],
    }
    small = ["train.batch_size=8", "train.warmup_steps=1", "train.num_threads=1"]
    given |= {"recipes": ["siglip"], "settings": small, "workers": 1, "out": str(out), "page": str(page)}
    call_flow(tmp_path, environment, "compare", **given)
    newest = runs_of(server, "compare")[0]
    assert newest["name"] == "siglip on scenes:24@3" and newest["state"]["name"] == "2 rows, 2 seeds"
    assert {"comparison:flows of two", "model:tiny"} <= set(newest["tags"])
    assert newest["parameters"]["seeds"] == [0, 1]
    left = artifacts_of(server, newest)
    assert float(left["flows-of-two-comparison-progress"]["data"]) == 100
    assert left["flows-of-two-comparison"]["data"] == (out / "table.md").read_text(encoding="utf-8")
    assert "siglip" in left["flows-of-two-comparison"]["data"]
    assert page.is_file() and "table.html" in left["table-page"]["data"]
    said = [line["message"] for line in ask(server, "/logs/filter", logs={"flow_run_id": {"any_": [newest["id"]]}})]
    assert any(line.startswith("4 of 4 cells: ") for line in said)

    words = ["--seeds", "0,1", "--model", "tiny", "--steps", "2", "--on", "scenes:16@1", "--out", str(out)]
    words += [word for item in small for word in ("--set", item)]
    printed = run(
        tmp_path, environment, "compare", "siglip", "--source", "scenes:24@3", *words, "--workers", "1", "--prefect"
    )
    assert "0 of 4 cells to run" in printed and "siglip" in printed, "the command finds the flow's cells, and prints"
    assert [item["state"]["name"] for item in runs_of(server, "compare")] == ["2 rows, 2 seeds"] * 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_a_lost_worker_is_replaced_and_only_its_units_run_again(
    tmp_path: Path, environment: dict[str, str], server: str
) -> None:
    job = ("curate", "negclip", "--source", "scenes:1200@5?level=1", "--name", "lost", "--model", "tiny")
    words = command(tmp_path, *job, "--workers", "2")
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        end, workers = time.monotonic() + LIMIT_S, list[psutil.Process]()
        while not (workers and any((tmp_path / "w" / "store").rglob("*.parquet"))):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.2)
            with suppress(psutil.NoSuchProcess):  # one that ended meanwhile
                children = psutil.Process(process.pid).children(recursive=True)
                workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        workers[0].kill()
        assert process.wait(LIMIT_S) == 0, (process.stderr.read() if process.stderr else b"")[-3000:]
    newest = runs_of(server, "curate")[0]
    assert newest["state"]["name"] == "New version 1.0.0"
    of_run = {"id": {"any_": [newest["id"]]}}
    counts = [item["run_count"] for item in ask(server, "/task_runs/filter", flow_runs=of_run)]
    assert max(counts) == 2 and counts.count(1) > counts.count(2)
