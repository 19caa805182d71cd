"""What `make release` writes, and the image that docs/docker/Dockerfile makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.release import (
    ROOT,
    bill_of_materials,
    build,
    check_version,
    licence_of,
    runtime_packages,
)

DOCKER = ROOT / "docs" / "docker" / "Dockerfile"
BUILD_S = 3600


@pytest.mark.parametrize(
    ("version", "changelog", "final", "said"),
    [
        ("0.2.0", "## Unreleased\n## 0.1.0\n", False, "0.2.0: not released"),
        ("0.2.0", "## 0.2.0\n## 0.1.9\n", True, "0.2.0: the newest section"),
        ("0.10.0", "## 0.10.0 (2026-12-01)\n## 0.9.0\n", True, "0.10.0: the newest section"),
        ("0.1.0", "## Unreleased\n", True, None),
        ("0.1.0", "## Unreleased\n## 0.1.0\n", False, None),
        ("0.9.0", "## Unreleased\n## 0.10.0\n", False, None),
        ("1.0", "## 1.0\n", True, None),
        ("01.0.0", "## 01.0.0\n", True, None),
    ],
)
def test_a_version_goes_up_and_has_its_section(version: str, changelog: str, final: bool, said: str | None) -> None:
    if said is None:
        with pytest.raises(SystemExit, match="version|CHANGELOG"):
            check_version(version, changelog, final=final)
    else:
        assert check_version(version, changelog, final=final).startswith(said)


def test_the_bill_has_what_an_installation_brings() -> None:
    packages = runtime_packages()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.split(r"[<>=\[]", item)[0].replace("_", "-").lower() for item in wanted}
    assert names <= set(packages) and len(packages) > len(names)
    assert {"pytest", "ruff", "clipcurate", "openai"}.isdisjoint(packages), (
        "no extras, and nothing that only tests need"
    )
    assert {"sympy", "mpmath"} <= set(packages), "what torch needs, and what that needs"
    assert [name for name, package in packages.items() if licence_of(package) == "not stated"] == []
    bill = json.loads(bill_of_materials("1.2.3", packages))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["version"] == "1.2.3"
    assert {item["name"] for item in bill["components"]} == set(packages)
    assert all(item["licenses"] and item["purl"].startswith("pkg:pypi/") for item in bill["components"])


@pytest.mark.slow
def test_the_archives_have_the_documents(tmp_path: Path) -> None:
    wheel, source = sorted(build(tmp_path), key=lambda path: path.suffix, reverse=True)
    inside = zipfile.ZipFile(wheel).namelist()
    for path in [ROOT / "README.md", DOCKER, *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.ipynb")]:
        name = path.relative_to(ROOT).as_posix()
        assert any(item.endswith(f"/share/doc/clipcurate/{name}") for item in inside), name
    assert source.name.startswith("clipcurate-") and not any(item.startswith("tests/") for item in inside)


def test_the_image_is_made_of_what_there_is() -> None:
    text = DOCKER.read_text(encoding="utf-8")
    (copied,) = re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE)
    ignored = (DOCKER.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert ignored == ["*", *(f"!{name}" for name in copied.split())], "all else stays out of the context"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (installed,) = re.findall(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)
    assert set(installed.split(",")) <= set(extras)


@pytest.mark.slow
def test_the_image_runs(tmp_path: Path) -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker on the path")
    ready = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if ready.returncode:
        pytest.skip(f"docker builds nothing here: {ready.stderr.strip().splitlines()[-1]}")
    build(tmp_path / "dist")
    shutil.copy2(ROOT / "constraints.txt", tmp_path)
    making = ["docker", "build", "-f", str(DOCKER), "-t", "clipcurate-test", str(tmp_path)]
    made = subprocess.run(making, capture_output=True, text=True, check=False, timeout=BUILD_S)
    assert made.returncode == 0, made.stderr[-3000:]
    words = ["curate", "clip", "--source", "scenes:6@1", "--name", "toy", "--workers", "1"]
    ran = subprocess.run(
        ["docker", "run", "--rm", "clipcurate-test", *words], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0 and "toy@1.0.0" in ran.stdout, ran.stderr
