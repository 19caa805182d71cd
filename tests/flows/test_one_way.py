"""`run_job` is the one way: whatever starts a job, its source is read once and its answers are imported once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from curation.engine.denylist import Denylist
from curation.sources import open_source
from data_manifests.diff import diff_versions
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.sample import image_uid
from flows.cli import demo
from tests.curation.source_inputs import records_of

COUNTED = """
import json, sys
from collections import Counter

import curation.llm.batch_files as batch_files
import flows.execution.jobs as jobs

calls = Counter()


def count(module, name):
    function = getattr(module, name)

    def counted(*args, **kwargs):
        calls[name] += 1
        return function(*args, **kwargs)

    setattr(module, name, counted)


for module, name in ((jobs, "read_source"), (jobs, "up_to_date"), (jobs, "publish_version"), (batch_files, "import_answers")):
    count(module, name)
from flows.cli.main import main

try:
    main()
finally:
    print("\\n" + json.dumps(calls))
"""


def calls(root: Path, *words: str) -> Counter[str]:
    """Run a command in a process of its own and return how often the parts of a job were called."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    places = ["--workspace", str(root / "w"), "--manifests", str(root / "m")]
    command = [sys.executable, "-c", COUNTED, *places, *words]
    environment = {**kept, "PREFECT_HOME": str(root / "prefect")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=root)
    return Counter(json.loads(ran.stdout.splitlines()[-1])) if ran.stdout else pytest.fail(ran.stderr[-3000:])


@pytest.mark.parametrize("more", [("--no-prefect",), (), pytest.param(("--prefect",), marks=pytest.mark.slow)])
def test_a_curation_reads_and_imports_once(tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "answers.jsonl").touch()
    (tmp_path / "requests.jsonl").touch()
    files = ("--llm-batch", "requests.jsonl", "--llm-answers", "answers.jsonl", "--llm", "http://127.0.0.1:1/v1#any")
    job = ("--source", "scenes:8@1", "--name", "toy", "--workers", "1", *more)
    once = {"read_source": 1, "up_to_date": 1}
    assert calls(tmp_path, "curate", "laclip", *job, *files) == once | {"import_answers": 1}, "it waits for answers"
    assert calls(tmp_path, "curate", "clip", *job) == once | {"publish_version": 1}
    assert calls(tmp_path, "curate", "clip", *job) == once


def test_a_comparison_reads_once_for_each_version(tmp_path: Path) -> None:
    train = ("--steps", "1", "--seeds", "0", "--set", "train.batch_size=4", "--set", "train.num_threads=1")
    job = ("--source", "scenes:12@3", "--model", "tiny", "--on", "scenes:8@1", "--workers", "1", "--out", "out")
    found = calls(tmp_path, "compare", "efficient_cl", "--variant", "slow=clip:train.lr=1e-6", *job, *train)
    assert found == {"read_source": 2, "up_to_date": 2, "publish_version": 2}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:model 'micro'", "ignore:TypedStorage is deprecated")
def test_the_demo_uses_its_own_workspace_and_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample that the demo's own manifests list as forgotten is neither curated nor evaluated on."""
    small = ("train.tune=full", "train.steps=1", "train.batch_size=8", "train.num_threads=1", "train.warmup_steps=0")
    size = demo.DemoSize(30, "scenes:12@1?level=1", small, small, (1,) * demo.NUM_STEPS)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "demo"
    demo.write_photos(folder / "photos", 30, level=1)
    # the demo edits the first picture, so another one is to be forgotten
    first = list(records_of(open_source(f"folder:{folder / 'photos'}", "train")))[1]
    held_out = next(iter(records_of(open_source(size.held_out))))
    uids = [image_uid(item.image if isinstance(item.image, bytes) else item.image.read()) for item in (first, held_out)]
    Denylist().adding(uids).save(folder / "data_manifests")
    demo.run_demo(folder, size, prefect=False)
    catalog = Catalog(folder / "data_manifests", folder / "workspace")
    assert uids[0] not in catalog.open("scenes@1").index(["uid"])["uid"].to_pylist()
    for run in ("base", "plain", "negatives"):
        assert json.loads((folder / "runs" / f"{run}.json").read_bytes())["results"][0]["num_samples"] == 11
    difference = diff_versions(catalog.open("scenes@1"), catalog.open("scenes@2"))
    assert (difference.num_edited, difference.num_followed) == (1, 0)
    assert {path.name for path in folder.glob("*.html")} == {"run.html", "data.html", "diff.html", "words.html"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"], "nothing is left elsewhere"
    with pytest.raises(InputError, match="a demo has run here"):
        demo.run_demo(folder, size, prefect=False)
