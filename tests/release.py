"""A release, as far as it goes without publishing: wheel and source archive with the documents, bill of materials, licences.

Run: python -m tests.release [--final] (``make release``, ``make release FINAL=--final``) writes ``dist/``. A final one wants a
section of its version at the top of the changelog; nothing is uploaded or tagged.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_BUILD = "from setuptools import build_meta as b; import sys; out = sys.argv[1]; b.build_sdist(out); b.build_wheel(out)"


def check_version(version: str, changelog: str, *, final: bool) -> str:
    """Return what the changelog says of a version that may be released; else raise `SystemExit` with the reason.

    Args:
        version: The project's version.
        changelog: The changelog's text.
        final: Whether its newest section must be of this version, instead of one that is not released yet.
    """
    if not SEMANTIC.fullmatch(version):
        raise SystemExit(f"version {version!r} of pyproject.toml is not MAJOR.MINOR.PATCH")
    sections = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    released = [tuple(map(int, name.split("."))) for name in sections if SEMANTIC.fullmatch(name)]
    own = tuple(map(int, version.split(".")))
    if any(own < other or (own == other and sections[0] != version) for other in released):
        raise SystemExit(f"version {version} is not above {max(released)} of CHANGELOG.md: raise it in pyproject.toml")
    if sections[0] == version:
        return f"{version}: the newest section of CHANGELOG.md"
    if final:
        raise SystemExit(f"CHANGELOG.md begins with '{sections[0]}': call the section {version} before the release")
    return f"{version}: not released; CHANGELOG.md begins with '{sections[0]}'"


def copy_tracked(folder: Path) -> Path:
    """Copy what git tracks, without the tests: what lies about in a checkout gets into no archive."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", ".")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def build(out: Path) -> list[Path]:
    """Build source archive and wheel by the project's own backend, from a copy; return both."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        source = copy_tracked(Path(name))
        ran = subprocess.run([sys.executable, "-W", "ignore", "-c", _BUILD, str(out)], cwd=source, capture_output=True, text=True, check=False)  # fmt: skip
    if ran.returncode:
        raise SystemExit(ran.stderr[-2000:])
    return sorted([*out.glob("*.whl"), *out.glob("*.tar.gz")])


def runtime_packages(project: str = "clipcurate") -> dict[str, importlib.metadata.Distribution]:
    """Return what an installation without extras brings, by name: the packages that are installed here, from requirement to requirement."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [Requirement(project)]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        extras = wanted.extras or {""}
        if name in found and not wanted.extras:
            continue
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or ():
            item = Requirement(text)
            applies = item.marker is None or any(item.marker.evaluate({"extra": extra}) for extra in extras)
            if applies and (canonicalize_name(item.name) not in found or item.extras):
                waiting.append(Requirement(f"{item.name}[{','.join(item.extras)}]" if item.extras else item.name))
    del found[canonicalize_name(project)]
    return dict(sorted(found.items()))


def licence_of(package: importlib.metadata.Distribution) -> str:
    """Return a package's licence as its metadata have it; ``not stated`` where they have none."""
    about = package.metadata
    text = (about.get_all("License") or [""])[0].strip().partition("\n")[0]  # some have the whole text there
    classes = [
        item.rpartition(" :: ")[2] for item in about.get_all("Classifier") or () if item.startswith("License ::")
    ]
    expression = ", ".join(about.get_all("License-Expression") or ())
    return expression or (text if 0 < len(text) <= 80 else ", ".join(classes)) or "not stated"


def licence_lines(packages: dict[str, importlib.metadata.Distribution]) -> Iterator[str]:
    """Yield the lines of the table of licences."""
    yield from ("| package | version | licence |", "| --- | --- | --- |")
    for name, package in packages.items():
        yield f"| {name} | {package.version} | {licence_of(package)} |"


def bill_of_materials(version: str, packages: dict[str, importlib.metadata.Distribution]) -> str:
    """Return a CycloneDX 1.6 document in JSON: this project, and what it needs."""
    make, bom = LicenseFactory(), Bom()
    own = Component(name="clipcurate", version=version, type=ComponentType.APPLICATION, bom_ref="clipcurate")
    bom.metadata.component = own
    needed = []
    for name, package in packages.items():
        url = PackageURL("pypi", None, name, package.version)
        licence = make.make_from_string(licence_of(package))
        needed.append(Component(name=name, version=package.version, purl=url, licenses=[licence], bom_ref=str(url)))
        bom.components.add(needed[-1])
    bom.register_dependency(own, needed)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)


def main(*, final: bool) -> None:
    """Write everything into ``dist/``, and say what is there."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    print(check_version(version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), final=final))
    shutil.rmtree(DIST, ignore_errors=True)
    made, packages = build(DIST), runtime_packages()
    (DIST / f"clipcurate-{version}.cdx.json").write_text(bill_of_materials(version, packages), encoding="utf-8")
    licences = "\n".join(("# Licences of what clipcurate installs", "", *licence_lines(packages), ""))
    (DIST / "LICENCES.md").write_text(licences, encoding="utf-8")
    for path in [*made, DIST / f"clipcurate-{version}.cdx.json", DIST / "LICENCES.md"]:
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    print(f"{len(packages)} packages; a dry run: nothing is uploaded or tagged")


if __name__ == "__main__":
    main(final="--final" in sys.argv[1:])
