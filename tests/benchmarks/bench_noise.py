"""Planted noise on generated scenes, whose truth is known: how well the gates find it, and how far recipes fall.

    python -m tests.benchmarks.bench_noise --scenes 600 --level 1 --base-steps 80 --steps 60 --recipes clip negclip ahnm

A base (`clip`, everything trained) is tuned by each recipe on clean scenes, on scenes of which a share has the captions of
others (``wrong_captions``), and on scenes in whose versions a share of the negatives is replaced by true texts
(`PlantTrueNegatives`); foils and retrieval are measured on other, clean scenes, and a line says each row's distance to its clean one.

*Gate of own negatives*: of the candidates of a run of `ahnm` with planted ones, by steps: precision is the share true among those
left out, recall the share left out among those true. *Gate of pairs*: of the pairs of image and another's caption in
the run's batches, the same, for pairs that are no negatives to the loss; captions equal to the image's own aside.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import torch

from curation.engine.engine import run_stages
from curation.engine.stage import Drop, Field, MapStage, Stage
from curation.negatives.records import STAGE_OF_UNSIGNED_FIELD, NegativeRecord, NegativesStage
from curation.sources.scenes import ScenesSource
from curation.sources.synthetic.captions import captions_of
from curation.sources.synthetic.grammar import truth
from curation.sources.synthetic.simple_captions import simple_captions
from curation.sources.synthetic.world import LEVELS
from curation.versions.numbering import dataset_lock, publish_version
from data_manifests.manifest import Catalog
from data_manifests.run_files import FEEDBACK_FILE, PLAN_FILE
from data_manifests.sample import ImageRef, Sample, image_uid
from data_manifests.seeds import generator
from flows.evaluation.interface import EvalOptions
from flows.evaluation.run import run_evaluation
from flows.execution.executors import local_executor
from flows.execution.jobs import CurateJob, TrainJob, prepare, run_job
from training.batches.plan import BatchPlan
from training.evaluate.features import encode_samples
from training.false_negative_gate import PositiveGate
from training.model.spec import ModelSpec

METRICS = ("foil_accuracy", "image_to_text_R@1", "text_to_image_R@1")
CLEAN, WRONG, TRUE = "clean", "wrong captions", "true negatives"


@dataclass(frozen=True)
class PlantTrueNegatives(NegativesStage, MapStage):
    """Put a true text of the scene in the place of a share of the negatives.

    Attributes:
        fields: Fields of negatives; this stage's own is published in their place.
        level: The scenes' level.
        share: Chance of each negative.

    Source: scenes, whose captions are drawn by rules; no paper.
    Differs: -
    """

    name: ClassVar[str] = "plant_true_negatives"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "attributes")
    provides: ClassVar[tuple[Field, ...]] = (Field("planted_negatives", publish="sample", role="negatives"),)
    source: ClassVar[str] = "scenes; no paper"

    level: int = 1
    share: float = 0.1

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Replace some negatives of each sample."""
        return [{"planted_negatives": list(self._planted(sample))} for sample in samples]

    def _planted(self, sample: Sample) -> Iterator[NegativeRecord]:
        taken = {*sample.captions}
        for name in self.fields:
            unsigned = {"source": STAGE_OF_UNSIGNED_FIELD.get(name, name)}
            for number, record in enumerate(unsigned | record for record in sample[name]):
                draws = generator(0, self.name, sample.uid, name, number)
                text = self._true_text(sample, taken, draws) if draws.random() < self.share else None
                if text is None:
                    yield record
                    continue
                taken.add(text)
                old = sample.captions[record["caption"]]
                yield {
                    **record, "text": text, "operation": "plant", "span_class": "caption", "type": "object",
                    "edits": [[0, len(old), 0, len(text)]], "tokens": [[0, len(old.split()), 0, len(text.split())]],
                    "rule": "true of the scene",
                }  # fmt: skip

    def _true_text(self, sample: Sample, taken: set[str], draws: np.random.Generator) -> str | None:
        """Return a caption of the scene that it does not have; None if ten draws of captions have none."""
        scene = sample.attributes["scene"]
        for _ in range(10):
            drawn = captions_of(scene, draws) if self.level == 3 else simple_captions(scene, LEVELS[self.level], draws)
            new = [text for text in drawn if text not in taken and truth(scene, text) is True]
            if new:
                return new[0]
        return None


@dataclass(frozen=True)
class Found:
    """How well a gate finds what is true; counts may be of steps.

    Attributes:
        left_out: What the gate left out.
        true: What is true.
        both: What is true and was left out.
        all: All that was judged.
    """

    left_out: int
    true: int
    both: int
    all: int

    def __add__(self, other: Found) -> Found:
        return Found(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        precision, recall = (self.both / number if number else float("nan") for number in (self.left_out, self.true))
        return (
            f"precision {precision:.3f}, recall {recall:.3f} ({self.true:,} of {self.all:,} are true, "
            f"{self.left_out:,} left out, {self.both:,} of them true)"
        )


def own_gate(run: Path, scenes: Mapping[str, Mapping[str, Any]]) -> Found:
    """Return what the gate of own negatives found, by the oracle: of all candidates in all steps.

    Args:
        run: A finished run's folder.
        scenes: Scene of each sample, by uid.
    """
    left_out = true = both = every = 0
    for row in pq.read_table(run / FEEDBACK_FILE).to_pylist():
        is_true = row["caption"] >= 0 and truth(scenes[row["uid"]], row["text"]) is True
        every, left_out = every + row["candidate"], left_out + row["gated"]
        true, both = true + is_true * row["candidate"], both + is_true * row["gated"]
    return Found(left_out, true, both, every)


def pair_gate(
    run: Path, samples: Sequence[Sample], model: ModelSpec, statistics: Mapping[str, Any], num_steps: int
) -> Found:
    """Return what `PositiveGate` found in the first batches of a run, by the oracle: of an image and the caption of another.

    Args:
        run: A run's folder.
        samples: Its samples, with their scenes.
        model: What it was tuned from, by whose similarities the gate judges.
        statistics: Of the version, with the gate's thresholds.
        num_steps: Batches that are judged.
    """
    features = encode_samples(model.load(), samples)
    row_of = {sample.uid: row for row, sample in enumerate(samples)}
    first = np.searchsorted(features.text_owner, np.arange(len(samples)))
    plan, gate = BatchPlan.load(run / PLAN_FILE), PositiveGate().start(statistics)
    holds = lru_cache(maxsize=None)(lambda row, text: truth(samples[row].attributes["scene"], text) is True)
    size, every = plan.rows.shape[1], Found(0, 0, 0, 0)
    for step in range(min(num_steps, plan.num_steps)):
        rows = [row_of[uid] for uid in plan.uids[step * size : (step + 1) * size]]
        texts = first[rows] + plan.caption[step]
        found = gate.found(torch.from_numpy(features.image[rows]), torch.from_numpy(features.text[texts]), size)
        every += judge_pairs(found.numpy() != -1, rows, [features.captions[text] for text in texts], holds)
    return every


def judge_pairs(
    found: np.ndarray[Any, Any], rows: Sequence[int], said: Sequence[str], holds: Callable[[int, str], bool]
) -> Found:
    """Count the pairs of an image and another's caption; what equals the image's own caption is no negative anyway.

    Args:
        found: Which the gate leaves out, bool [B, B].
        rows: The sample of each image [B].
        said: The captions [B].
        holds: Says whether a text is true of a sample.
    """
    judged = [
        (bool(found[i, j]), holds(row, said[j]))
        for i, row in enumerate(rows) for j in range(len(rows)) if said[i] != said[j]
    ]  # fmt: skip
    left_out, true = (sum(pair[place] for pair in judged) for place in (0, 1))
    return Found(left_out, true, sum(out and is_true for out, is_true in judged), len(judged))


def with_planted(stages: Sequence[Stage], level: int, share: float) -> tuple[Stage, ...]:
    """Return the stages of a recipe, and one that plants true texts among all negatives that they leave."""
    fields = [item.name for stage in stages for item in stage.provides if item.role == "negatives"]
    gone = {name for stage in stages if isinstance(stage, NegativesStage) for name in stage.superseded_fields()}
    left = tuple(name for name in fields if name not in gone)
    return (*stages, PlantTrueNegatives(left, level, share)) if left else tuple(stages)


class Bench:
    """One workspace with its base."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.catalog = Catalog(folder / "m", folder / "w")
        self.train = ("train.tune=full", f"train.batch_size={options.batch}", "train.warmup_steps=10", *options.set)
        self.base = ModelSpec.parse(options.model)

    def curate(self, name: str, recipe: str, wrong: float = 0.0, true: float = 0.0) -> str:
        """Make a version and return its name; `wrong` and `true` are shares of wrong captions and of true negatives."""
        options = self.options
        source = f"scenes:{options.scenes}@{options.seed}?level={options.level}" + (
            f"&wrong_captions={wrong}" if wrong else ""
        )
        job = CurateJob(
            recipe=recipe, source=source, name=name, manifests=str(self.catalog.manifests), workers=1,
            workspace=str(self.catalog.workspace), model=self.base.text, settings=tuple(options.set_stages),
        )  # fmt: skip
        prepared = prepare(job)
        stages = prepared.recipe.all_stages()
        if true:
            stages = with_planted(stages, options.level, true)
        with local_executor(1) as runner, dataset_lock(self.catalog, name, 0.0):
            done, _ = run_stages(stages, prepared.snapshot, job.store, runner)
            publish_version(self.catalog, prepared.request, done, prepared.snapshot, job.store)
        return f"{name}@1"

    def tune(self, ref: str, recipe: str, out: str, steps: int, lr: float, seed: int) -> Path:
        """Train a run and return its folder."""
        settings = (*self.train, f"train.steps={steps}", f"train.lr={lr}", f"train.seed={seed}")
        if recipe == "ahnm":
            settings = (*settings, *self.options.set_ahnm)
        where = str(self.catalog.workspace), str(self.catalog.manifests)
        run = self.folder / out
        run_job(TrainJob(ref, recipe, self.base.text, str(run), *where, settings))
        return run

    def measure(self, run: Path) -> list[float]:
        """Return a run's numbers on scenes that nothing was trained on, in percent."""
        options = self.options
        on = f"scenes:{options.test}@{options.seed + 1}?level={options.level}"
        (result,) = run_evaluation(str(run), [on], EvalOptions(self.catalog))
        return [100 * float(result.metrics[name]) for name in METRICS]

    def samples(self) -> list[Sample]:
        """Return the clean scenes with their captions, their pictures as files."""
        options, found = self.options, []
        (self.folder / "pictures").mkdir(exist_ok=True)
        for record in ScenesSource(f"{options.scenes}@{options.seed}?level={options.level}").records():
            assert isinstance(record.image, bytes)
            path = self.folder / "pictures" / f"{record.name}.jpg"
            path.write_bytes(record.image)
            uid = image_uid(record.image)
            found.append(Sample(uid, record.name, ImageRef(str(path)), record.captions, None, record.attributes))
        return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--test", type=int, default=200, help="scenes that are measured on")
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--seed", type=int, default=31, help="of the scenes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training")
    parser.add_argument("--model", default="micro")
    parser.add_argument("--base-steps", type=int, default=80)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--share", type=float, default=0.1, help="of captions, and of negatives, that are planted")
    parser.add_argument("--gate-share", type=float, default=0.05, help="of negatives, for the gates")
    parser.add_argument("--recipes", nargs="*", default=["clip", "negclip", "ahnm"], help="none: the gates alone")
    parser.add_argument("--set", action="append", default=[], help="of training")
    parser.add_argument("--set-ahnm", action="append", default=[], help="of ahnm's training")
    parser.add_argument("--set-stages", action="append", default=[], help="of curation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options)
        bench.base = ModelSpec.parse(
            str(bench.tune(bench.curate("base", "clip"), "clip", "base", options.base_steps, 2e-3, 0))
        )
        print("base, " + ", ".join(METRICS), *(f"{value:.1f}" for value in bench.measure(Path(bench.base.text))))
        print_gates(bench, options)
        for recipe in options.recipes:
            print_falls(bench, recipe, options)


def print_gates(bench: Bench, options: argparse.Namespace) -> None:
    """Train `ahnm` with planted negatives and print what its gates found."""
    ref = bench.curate("gates", "ahnm", true=options.gate_share)
    run = bench.tune(ref, "ahnm", "gates", options.steps, options.lr, options.seeds[0])
    samples = bench.samples()
    scenes = {sample.uid: sample.attributes["scene"] for sample in samples}
    print(f"gate of own negatives, {options.gate_share:.0%} planted: {own_gate(run, scenes)}", flush=True)
    statistics = bench.catalog.open(ref).manifest.body["statistics"]
    found = pair_gate(run, samples, bench.base, statistics, 10)
    print(f"gate of pairs, in ten batches: {found}", flush=True)


def print_falls(bench: Bench, recipe: str, options: argparse.Namespace) -> None:
    """Train a recipe with each kind of noise and print how far it falls."""
    rows: dict[str, list[float]] = {}
    for kind, wrong, true in ((CLEAN, 0.0, 0.0), (WRONG, options.share, 0.0), (TRUE, 0.0, options.share)):
        name = f"{recipe}-{kind.split()[0]}".replace("_", "-")
        if kind == TRUE and recipe == "clip":
            continue
        ref = bench.curate(name, recipe, wrong, true)
        runs = [bench.tune(ref, recipe, f"{name}-{seed}", options.steps, options.lr, seed) for seed in options.seeds]
        rows[kind] = np.mean([bench.measure(run) for run in runs], axis=0).tolist()
        told = [f"{value:.1f} ({value - clean:+.1f})" for value, clean in zip(rows[kind], rows[CLEAN], strict=True)]
        print(f"{recipe}, {kind}:", ", ".join(told), flush=True)


if __name__ == "__main__":
    main()
