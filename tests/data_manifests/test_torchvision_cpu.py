"""A program that never heard of clipcurate imports open_clip beside a CPU torch; where torchvision is whole, nothing is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from data_manifests.torchvision_cpu import SWITCH

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = "hasattr(torch.ops.torchvision, 'nms')"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder whose metadata have the entry points of `pyproject.toml`, as an installed package's have."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    about = tmp_path / "site" / "hook-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hook\nVersion: 1\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in of.items()) for group, of in points.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return about.parent


def run(code: str, *folders: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that finds modules in these folders first, then ours."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*folders, ROOT))), **variables}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folders[0])


def is_whole(site: Path) -> bool:
    """Say whether torchvision works here by itself."""
    return run("import torchvision", site, **{SWITCH: "0"}).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", ["", "import torch", "import torchvision", "import training", "import torch, training, torchvision"]
)
def test_open_clip_is_imported_by_anyone(site: Path, first: str) -> None:
    ran = run(f"{first}\nimport open_clip, torch\nprint({OPERATOR}, open_clip.timm_model.TimmModel.__name__)", site)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["True", "TimmModel"]


def test_it_can_be_switched_off(site: Path) -> None:
    if is_whole(site):
        pytest.skip("torchvision is whole here: nothing is mended")
    for switch in (SWITCH, "TORCH_DEVICE_BACKEND_AUTOLOAD"):
        ran = run("import open_clip", site, **{switch: "0"})
        assert "operator torchvision::nms does not exist" in ran.stderr


def test_nothing_is_declared_where_the_library_loads(site: Path, tmp_path: Path) -> None:
    """A library that loads defines its operators itself; a second definition would abort the process."""
    import torch

    library = Path(torch.__file__).parent / "lib" / "libshm.so"
    (tmp_path / "whole" / "torchvision").mkdir(parents=True)
    (tmp_path / "whole" / "torchvision" / "__init__.py").write_text("import torch")
    shutil.copy(library, tmp_path / "whole" / "torchvision" / "_C.so")
    code = f"import {{}}\nimport torchvision, torch\nprint(torchvision.__file__, {OPERATOR})"
    for first in ("torch", "torchvision", "training"):
        found, declared = run(code.format(first), site, tmp_path / "whole").stdout.split()
        assert found.startswith(str(tmp_path)) and declared == "False"


def test_nothing_is_done_for_a_torch_with_cuda(site: Path) -> None:
    code = """
        import sys, torch
        torch.version.cuda = "13.0"
        from data_manifests.torchvision_cpu import declare_operators, watch
        before = list(sys.meta_path)
        watch(); declare_operators()
        print(sys.meta_path == before, hasattr(torch.ops.torchvision, "nms"))
    """
    assert run(code, site, **{SWITCH: "0"}).stdout.split() == ["True", "False"]


def test_a_program_without_torch_pays_nothing(site: Path) -> None:
    """Nothing of ours is imported at the start of Python; torch imports one module, and none of its packages' others."""
    ours = "sorted(name for name in sys.modules if name.split('.')[0] in ('flows', 'curation', 'training', 'data_manifests'))"
    assert run(f"import sys; print({ours})", site).stdout.strip() == "[]"
    shown = run(f"import sys, torch; print({ours})", site).stdout.strip()
    assert shown == "['data_manifests', 'data_manifests.torchvision_cpu']"
