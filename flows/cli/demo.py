"""The demo: the main job end to end on generated scenes, in one folder, with real numbers."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from curation.sources import SourceRecord
from curation.sources.scenes import ScenesSource
from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.cli.curate import prefect_executor
from flows.cli.report import show_diff, write_page
from flows.evaluation.interface import EvalOptions
from flows.evaluation.run import ResultFiles, print_comparison, run_evaluation
from flows.execution.jobs import CurateJob, TrainJob, execute_locally
from flows.terminal.console import out
from flows.terminal.curation import run_curation, show_plan
from flows.terminal.training import run_training

NUM_SCENES = 2000
BASE_SETTINGS = ("train.tune=full", "train.steps=300", "train.batch_size=128", "train.lr=1e-3", "train.warmup_steps=50")
LORA_SETTINGS = (
    "train.steps=120",
    "train.batch_size=128",
    "train.lr=4e-3",
    "train.warmup_steps=10",
    "train.lora_rank=16",
    "train.lora_alpha=16",
)
HELD_OUT = "scenes:500@1"


def run_demo(folder: Path, *, with_prefect: bool = True) -> None:
    """Draw scenes, curate them, train a small CLIP and tune it on its negatives, evaluate, edit one caption, diff.

    Args:
        folder: Where everything goes.
        with_prefect: Whether the curation of step 4 is a Prefect flow.

    Raises:
        InputError: the folder holds something else.
    """
    started = time.perf_counter()
    if folder.exists() and any(folder.iterdir()) and not (folder / "photos" / "captions.jsonl").is_file():
        raise InputError(f"--out {folder}: folder is not empty and holds no earlier demo", fix="give another --out")
    workspace, manifests = folder / "workspace", folder / "data_manifests"
    catalog = Catalog(manifests, workspace)
    _say("1  drawing", f"{NUM_SCENES} scenes with captions into {folder / 'photos'}")
    write_photos(folder / "photos", NUM_SCENES)

    _say("2  base model", "a tiny CLIP trained from random weights on the plain captions (recipe clip)")
    job = CurateJob(
        recipe="clip",
        source=f"folder:{folder / 'photos'}",
        name="scenes-plain",
        workspace=str(workspace),
        manifests=str(manifests),
        split="train",
    )
    plain = run_curation(job, execute_locally)
    base = _train(plain.ref, "clip", "tiny", folder / "runs" / "base", BASE_SETTINGS, job)

    _say("3  plan", "what the recipe ahnm will do, before it does it")
    job = replace(job, recipe="ahnm", name="scenes", model=str(base))
    show_plan(job, why=True)
    _say("4  curate", "as a Prefect flow" if with_prefect else "without Prefect")
    first = run_curation(job, prefect_executor() if with_prefect else execute_locally)

    _say("5  train", "LoRA on the curated shards (recipe ahnm)")
    tuned = _train(first.ref, "ahnm", str(base), folder / "runs" / "ahnm", LORA_SETTINGS, job)
    _say("6  evaluate", f"before and after LoRA on {HELD_OUT}, which neither has seen")
    before = run_evaluation(str(base), [HELD_OUT], EvalOptions(catalog), ResultFiles(folder / "before.json"))[0]
    after = run_evaluation(str(tuned), [HELD_OUT], EvalOptions(catalog), ResultFiles(folder / "after.json"))[0]
    print_comparison({"before LoRA": before, "after LoRA": after})

    _say("7  edit", "one caption of one image, then curate again: one sample is computed again")
    edit_one_caption(folder / "photos" / "captions.jsonl")
    second = run_curation(job, execute_locally)
    if second.ref != first.ref:
        show_diff(catalog, first.ref, second.ref, folder / "diff.html")
    evaluations = [{"label": "before LoRA", **before.to_json()}, {"label": "after LoRA", **after.to_json()}]
    write_page(catalog, second.ref, folder / "summary.html", evaluations=evaluations, run=tuned)
    out.print(f"\ndone in {time.perf_counter() - started:.0f} s", soft_wrap=True)
    out.print(f"summary with pictures: {(folder / 'summary.html').resolve()}", soft_wrap=True)
    out.print(f"what changed:          {(folder / 'diff.html').resolve()}", soft_wrap=True)


def _say(step: str, what: str) -> None:
    out.print(f"\n[bold]{step}[/bold]  {what}", soft_wrap=True)


def _train(ref: str, recipe: str, model: str, run: Path, settings: tuple[str, ...], job: CurateJob) -> Path:
    """Train, or continue an earlier demo's run."""
    training = TrainJob(ref, recipe, model, str(run), job.workspace, job.manifests, settings, resume=run.exists())
    run_training(training, execute_locally)
    return run


def write_photos(folder: Path, count: int) -> None:
    """Write generated scenes as a folder of pictures with ``captions.jsonl``, as a user's own data would be."""
    if (folder / "captions.jsonl").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for record in ScenesSource(str(count)).records():
        if not isinstance(record, SourceRecord) or not isinstance(record.image, bytes):
            raise TypeError("generated scenes are records with image bytes")
        extension = "png" if record.image.startswith(b"\x89PNG") else "jpg"
        name = f"{record.name}.{extension}"
        (folder / name).write_bytes(record.image)
        row: dict[str, Any] = {"file_name": name, "captions": list(record.captions), "split": record.split}
        lines.append(orjson.dumps(row | dict(record.attributes)))
    write_atomically(folder / "captions.jsonl", b"\n".join(lines) + b"\n")


def edit_one_caption(path: Path) -> None:
    """Put one word into the first caption of the first image: ``a red ...`` becomes ``a shiny red ...``."""
    first, _, rest = path.read_bytes().partition(b"\n")
    row = orjson.loads(first)
    words = row["captions"][0].split()
    row["captions"][0] = " ".join([*words[:-1], "shiny", words[-1]]) if "shiny" not in words else row["captions"][0]
    write_atomically(path, orjson.dumps(row) + b"\n" + rest)
