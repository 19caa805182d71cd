"""The demo: the main job end to end on generated scenes, in one folder, with real numbers."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from PIL import Image

from curation.sources import SourceRecord
from curation.sources.scenes import DEFAULT_LEVEL, ScenesSource
from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.cli.curate import curation_executor
from flows.cli.report import show_diff, write_page
from flows.evaluation.interface import EvalOptions, round_robin
from flows.evaluation.registry import open_benchmark
from flows.evaluation.run import ResultFiles, run_evaluation
from flows.execution.executors import process_pool, worker_death_error
from flows.execution.jobs import CurateJob, TrainJob, execute_locally, run_job
from flows.pages.sections.cases import case_changes
from flows.terminal.console import err, out, print_table
from flows.terminal.contrasts import print_contrasts
from flows.terminal.curation import run_curation, show_plan
from flows.terminal.training import print_trained, run_training

if TYPE_CHECKING:
    from flows.evaluation.interface import CaseName
    from flows.evaluation.results import Evaluation
    from training.checkpoint import RunResult

RECIPE = "fsc_clip"
"""Whose negatives are curated: many kinds, checked, balanced."""
LOSS = "ce_clip"
"""Whose objectives train on them: parts of different papers go together."""
EMPHASIS = "objectives.intra_modal_contrast.weight=2"
"""With CE-CLIP's own 0.3, only some seeds learn relations in so few steps: captions must stand apart from their negatives first."""
CONTROL = "clip"
MODEL = "micro"
NUM_STEPS = 8
CAPTIONS = Path(__file__).with_name("demo_captions.json")
"""Captions of another domain: 150 sentences in the style of reports on chest X-rays, all invented."""
_NUM_CLASSES_SHOWN = 5
NUM_NOW_RIGHT, NUM_NOW_WRONG = 3, 1
"""Pictures that are written of each way."""


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Attributes:
        scenes: Scenes to curate; eight of ten are trained on.
        held_out: What is evaluated on; other scenes.
        base: Settings of the base model's training.
        tuned: Settings of both tunings.
        seconds: What each step takes on two quiet cores.
    """

    scenes: int
    held_out: str
    base: tuple[str, ...]
    tuned: tuple[str, ...]
    seconds: tuple[int, ...]


def _settings(steps: int, lr: float) -> tuple[str, ...]:
    return (
        "train.tune=full", f"train.steps={steps}", "train.batch_size=128", f"train.lr={lr}", "train.warmup_steps=20",
        f"train.checkpoint_every={steps}",
    )  # fmt: skip


QUICK = DemoSize(2000, "scenes:300@1?level=1", _settings(110, 2e-3), _settings(150, 3e-3), (5, 35, 10, 35, 70, 15, 5, 5))
FULL = DemoSize(
    8000, "scenes:1000@1?level=1", _settings(400, 2e-3), _settings(400, 3e-3), (20, 140, 5, 110, 210, 45, 45, 5)
)


@dataclass
class _Demo:
    """One run of the demo.

    Attributes:
        folder: Where everything goes.
        size: How much it does.
        prefect: Whether the curation of step 4 is a Prefect flow; None where a server is configured.
        results: Evaluations by the name of what was evaluated.
    """

    folder: Path
    size: DemoSize
    prefect: bool | None
    results: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.folder / "data_manifests", self.folder / "workspace")

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    def run(self) -> Path:
        """Do all steps; return the run that was tuned with negatives."""
        self.say(1, f"draw {self.size.scenes:,} scenes of two objects, with captions, into {self.photos}")
        write_photos(self.photos, self.size.scenes, level=1)

        self.say(2, f"train a base model from random weights on the plain captions (recipe {CONTROL})")
        job = CurateJob(
            recipe=CONTROL,
            source=f"folder:{self.photos}",
            name="scenes-plain",
            workspace=str(self.catalog.workspace),
            manifests=str(self.catalog.manifests),
            split="train",
        )
        plain = run_curation(job, execute_locally)
        base = self.train(plain.ref, CONTROL, MODEL, "base", self.size.base)

        self.say(3, f"plan: what the recipe {RECIPE} will do, before it does it")
        job = replace(job, recipe=RECIPE, name="scenes", model=str(base))
        show_plan(job, why=True)
        self.say(4, "curate: make hard negatives" + (", as a Prefect flow" if self.prefect else ""))
        first = run_curation(job, curation_executor(self.prefect))

        self.say(
            5,
            "tune the base twice, with the same steps on the same pictures: on plain captions, and with negatives, "
            f"by the objectives of {LOSS}; both at once, on one core each",
        )
        control, tuned = self.tune_both(plain.ref, first.ref, str(base))

        self.say(6, f"evaluate all three on {self.size.held_out}, which none has seen")
        for name, run in {"base": base, "plain tuning": control, "with negatives": tuned}.items():
            self.evaluate(name, run)
        print_foils(self.results)
        self.show_changes()

        self.say(7, "edit one caption of one picture, then curate again: one sample is computed again")
        edit_one_caption(self.photos / "captions.jsonl")
        second = run_curation(job, execute_locally)
        if second.ref != first.ref:
            show_diff(self.catalog, first.ref, second.ref, self.folder / "diff.html")
        write_page(self.catalog, second.ref, self.folder / "data.html")

        self.say(
            8, "other captions, of chest X-rays: which words exclude each other is learned from them (recipe contrasts)"
        )
        self.learn_words(job)
        return tuned

    def learn_words(self, like: CurateJob) -> None:
        """Curate invented captions of another domain, and show what was learned of their words."""
        source = self.folder / "xrays"
        write_invented_captions(source)
        job = replace(like, recipe="contrasts", source=f"folder:{source}", name="xrays", model=None, split=None)
        made = run_curation(job, execute_locally)
        print_contrasts(self.catalog, made.ref, as_json=False, most=_NUM_CLASSES_SHOWN)
        write_page(self.catalog, made.ref, self.folder / "words.html")

    def say(self, step: int, what: str) -> None:
        """Print which step begins and how long it takes."""
        seconds = self.size.seconds[step - 1]
        out.print(f"\n[bold]step {step} of {NUM_STEPS}[/bold]  {what} (about {seconds} s)", soft_wrap=True)

    def tune_both(self, plain: str, negatives: str, base: str) -> tuple[Path, Path]:
        """Tune on plain captions in another process, and with negatives in this one meanwhile; return both folders."""
        settings = (*self.size.tuned, "train.num_threads=1")
        job = self.training(plain, CONTROL, base, "plain", settings)
        with process_pool(1) as pool:
            control = pool.submit(_train_silently, job)
            tuned = self.train(negatives, LOSS, base, "negatives", (*settings, EMPHASIS))
            try:
                print_trained(control.result())
            except BrokenProcessPool:
                raise worker_death_error() from None
        return Path(job.out), tuned

    def train(self, ref: str, recipe: str, model: str, name: str, settings: tuple[str, ...]) -> Path:
        """Train, or continue an earlier demo's run; return the run's folder."""
        job = self.training(ref, recipe, model, name, settings)
        run_training(job, execute_locally)
        return Path(job.out)

    def training(self, ref: str, recipe: str, model: str, name: str, settings: tuple[str, ...]) -> TrainJob:
        """Return the job of a training, or of the rest of an earlier demo's."""
        run, catalog = self.folder / "runs" / name, self.catalog
        places = str(catalog.workspace), str(catalog.manifests)
        return TrainJob(ref, recipe, model, str(run), *places, settings, resume=run.exists())

    def evaluate(self, name: str, run: Path) -> None:
        """Evaluate a run and keep the numbers next to it, where its page finds them."""
        files = ResultFiles(run.with_suffix(".json"), run.with_suffix(".parquet"))
        self.results[name] = run_evaluation(str(run), [self.size.held_out], EvalOptions(self.catalog), files)[0]

    def show_changes(self) -> None:
        """Print in how many cases negatives made a difference to plain tuning, and write some pictures of both ways."""
        control, tuned = self.results["plain tuning"].result, self.results["with negatives"].result
        changes = case_changes([control.cases], [tuned.cases], tuned.means["foil_accuracy"])
        out.print(
            f"of {changes.num:,} foils, {len(changes.now_right):,} are right with negatives and wrong with plain tuning, "
            f"{len(changes.now_wrong):,} the other way round; for example:",
            soft_wrap=True,
        )
        benchmark = open_benchmark(self.size.held_out, EvalOptions(self.catalog))
        folder = self.folder / "cases"
        folder.mkdir(exist_ok=True)
        for way, found, most in (
            ("right", changes.now_right, NUM_NOW_RIGHT),
            ("wrong", changes.now_wrong, NUM_NOW_WRONG),
        ):
            for number, (name, case) in enumerate(benchmark.show_cases(one_of_each_kind(found, most)).items(), start=1):
                path = folder / f"now-{way}-{number}.png"
                case.image.save(path)
                kind = name.metric.split(".")[1]
                out.print(f"  now {way} ({kind}): {case.right[0]!r}, not {case.wrong[0]!r}: {path}", soft_wrap=True)


def _train_silently(job: TrainJob) -> RunResult:
    """Train in a process whose output would stand between that of another."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return run_job(job)


def run_demo(folder: Path, size: DemoSize = QUICK, prefect: bool | None = None) -> None:
    """Draw scenes, train a small CLIP, curate negatives, tune on them, evaluate, edit one caption, diff.

    Args:
        folder: Where everything goes.
        size: How much it does.
        prefect: Whether the curation of step 4 is a Prefect flow; None where a server is configured.

    Raises:
        InputError: the folder holds something else, or a demo that got beyond its edit.
    """
    started = time.perf_counter()
    if folder.exists() and any(folder.iterdir()) and not (folder / "photos" / "captions.jsonl").is_file():
        raise InputError(f"--out {folder}: folder is not empty and holds no earlier demo", fix="give another --out")
    if (folder / "diff.html").is_file():
        raise InputError(
            f"--out {folder}: a demo has run here, and edited its captions",
            allowed="a new folder, or one whose demo was interrupted before its edit",
            fix="remove the folder, or give another --out",
        )
    out.print(f"{NUM_STEPS} steps, about {sum(size.seconds) / 60:.0f} minutes on two quiet cores")
    demo = _Demo(folder, size, prefect)
    tuned = demo.run()
    write_page(demo.catalog, str(tuned), folder / "run.html")
    err.print(f"done in {time.perf_counter() - started:.0f} s")
    for what, name in (
        ("the run, with pictures", "run.html"),
        ("the data", "data.html"),
        ("what the edit changed", "diff.html"),
        ("words of X-ray reports that exclude each other", "words.html"),
    ):
        out.print(f"{what}: {(folder / name).resolve()}", soft_wrap=True)


def print_foils(results: Mapping[str, Evaluation]) -> None:
    """Print the accuracy on each kind of foil, and retrieval, of several models."""
    metrics = [result.result.metrics for result in results.values()]
    rows = [
        [f"foils by {kind}", *(f"{100 * of['foils'][kind]['accuracy']:.1f}" for of in metrics)]
        for kind in metrics[0]["foils"]
    ]
    rows.append(["all kinds of foils", *(f"{100 * of['foil_accuracy']:.1f}" for of in metrics)])
    rows += [
        [f"R@1 {way.replace('_', ' ')}", *(f"{100 * of[f'{way}_R@1']:.1f}" for of in metrics)]
        for way in ("image_to_text", "text_to_image")
    ]
    print_table("in %; half of the foils are right by chance", ("", *(f">{name}" for name in results)), rows)


def one_of_each_kind(names: Sequence[CaseName], most: int) -> list[CaseName]:
    """Return the first case of each kind, then the second, and so on, up to a number; no two of one picture."""
    groups: dict[str, list[CaseName]] = {}
    for name in names:
        groups.setdefault(name.metric, []).append(name)
    one_each: dict[str, CaseName] = {}
    for name in round_robin(groups.values(), None):
        one_each.setdefault(name.image, name)
    return list(one_each.values())[:most]


def write_photos(folder: Path, count: int, level: int = DEFAULT_LEVEL) -> None:
    """Write generated scenes as a folder of pictures with ``captions.jsonl``, as a user's own data would be."""
    if (folder / "captions.jsonl").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for record in ScenesSource(f"{count}?level={level}").records():
        if not isinstance(record, SourceRecord) or not isinstance(record.image, bytes):
            raise TypeError("generated scenes are records with image bytes")
        extension = "png" if record.image.startswith(b"\x89PNG") else "jpg"
        name = f"{record.name}.{extension}"
        (folder / name).write_bytes(record.image)
        row: dict[str, Any] = {"file_name": name, "captions": list(record.captions), "split": record.split}
        lines.append(orjson.dumps(row | dict(record.attributes)))
    write_atomically(folder / "captions.jsonl", b"\n".join(lines) + b"\n")


def write_invented_captions(folder: Path) -> None:
    """Write `CAPTIONS` as a folder with a plain grey picture for each: no picture belongs to an invented caption."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, caption in enumerate(orjson.loads(CAPTIONS.read_bytes())):
        data = io.BytesIO()
        Image.new("RGB", (32, 32), (number, 128, 128)).save(data, "PNG")
        (folder / f"{number:03d}.png").write_bytes(data.getvalue())
        lines.append(orjson.dumps({"file_name": f"{number:03d}.png", "captions": [caption]}))
    write_atomically(folder / "captions.jsonl", b"\n".join(lines) + b"\n")


def edit_one_caption(path: Path) -> None:
    """Put one word into the first caption of the first image: ``a red ...`` becomes ``a shiny red ...``."""
    first, _, rest = path.read_bytes().partition(b"\n")
    row = orjson.loads(first)
    words = row["captions"][0].split()
    row["captions"][0] = " ".join([*words[:-1], "shiny", words[-1]]) if "shiny" not in words else row["captions"][0]
    write_atomically(path, orjson.dumps(row) + b"\n" + rest)
