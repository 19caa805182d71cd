"""Training throughput beside a plain open_clip/NegCLIP loop: same model, data, batch, negatives and optimiser.

Run: python -m tests.benchmarks.bench_train [--models lite0_minilm ViT-B-32] [--batch 16] [--steps 3] [--keep FOLDER] [--choice | --prefix TUNE]
Data: 400 generated scenes, curated by the recipe `ce_clip`; four negatives of each caption, fewer where it has fewer (the
mean is printed). LoRA of rank 4 on both towers where they have layers to adapt. The other side reads the same tars by webdataset, decodes by PIL and prepares by
the model's own transform inside the loop, pads every text to the whole context and encodes every text every time.
All sides in one process, in turns; processor time and wall time, the better of two rounds each.

- `ours`: the trainer's step with fixed negatives; `ours, cached`: with the frozen image trunk's activations (recipes do so).
- `--prefix top:1`: the trainer's step with what is frozen computed once, beside the same step that computes it each time; once
  they are there, and what computing them costs.
- `adaptive 4 of 4`, `adaptive 2 of 6` beside `fixed 2`: what choosing by the current model costs.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor, nn

from data_manifests.manifest import DatasetVersion
from flows.execution.jobs import CurateJob, run_job
from training.batches.basic import ShuffledPlan
from training.batches.epoch import load_index
from training.batches.loader import PlannedBatches
from training.batches.plan import make_plan
from training.config import TrainConfig
from training.hard_negatives import AdaptiveNegatives, Negatives, UniformNegatives
from training.log import Clock
from training.model import lora
from training.model.clip_model import ClipModel
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE
from training.precompute import FrozenPrefixes
from training.train import Trainer, make_optimizer
from training.train_parts import TrainParts

NEGATIVES = 4
ROUNDS = 2


def plain_loop(version: DatasetVersion, spec: ModelSpec, config: TrainConfig) -> Iterator[float]:
    """Yield the loss of each step of the loop that people write."""
    model = spec.load()
    lora.apply_tuning(model, "lora")
    optimizer = make_optimizer(model, config)
    model.train()
    yield 0.0
    for images, captions, negatives in plain_batches(version, model, config.batch_size):
        features = nn.functional.normalize(model.module.encode_image(images), dim=-1)  # type: ignore[operator]
        tokens = model.tokenizer([*captions, *negatives])
        texts = nn.functional.normalize(model.module.encode_text(tokens), dim=-1)  # type: ignore[operator]
        logits = model.module.logit_scale.exp() * features @ texts.T  # type: ignore[operator]
        target = torch.arange(len(captions))
        cross = nn.functional.cross_entropy
        loss = (cross(logits, target) + cross(logits[:, : len(captions)].T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def plain_batches(
    version: DatasetVersion, model: ClipModel, size: int
) -> Iterator[tuple[Tensor, list[str], list[str]]]:
    """Read the tars from the front again and again, as webdataset does without shuffling."""
    import webdataset
    from PIL import Image

    paths = [str(version.folder / shard["name"]) for shard in version.manifest.body["shards"]]
    pixels: list[Tensor] = []
    captions: list[str] = []
    negatives: list[str] = []
    for number, sample in enumerate(webdataset.WebDataset(paths, shardshuffle=False).repeat()):
        body = orjson.loads(sample["json"])
        at = number % len(body["captions"])
        kind = next(name for name in ("jpg", "png", "webp") if name in sample)
        pixels.append(model.preprocess(Image.open(io.BytesIO(sample[kind])).convert("RGB")))
        captions.append(body["captions"][at])
        negatives += [row["text"] for row in body["negatives"] if row["caption"] == at][:NEGATIVES]
        if len(pixels) == size:
            yield torch.stack(pixels), captions, negatives
            pixels, captions, negatives = [], [], []


def our_loop(
    version: DatasetVersion,
    spec: ModelSpec,
    config: TrainConfig,
    negatives: Negatives | None,
    clock: Clock,
    *,
    cached: bool,
) -> Iterator[float]:
    """Yield the loss of each step of the trainer."""
    parts = TrainParts("ce_clip", ShuffledPlan(), (InfoNCE(),), negatives)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer.start(parts, spec, config, Path(folder), lambda _: None)
    plan = make_plan(
        parts.planner, load_index(version, config.split, parts.planner), 0, config.steps, config.batch_size
    )
    batches = PlannedBatches(version, plan, trainer.model, config, parts.text_sampling)
    if cached:
        FrozenPrefixes(trainer.model, trainer.needs, config, None, trainer.ranks, lambda *_: None, print).precompute(
            batches
        )
    yield 0.0
    for batch in clock.timed(batches):
        trainer.make_step(batch)
        clock.lap()
        yield trainer.loss


def compare(sides: dict[str, Callable[[], Iterator[float]]], steps: int) -> dict[str, tuple[float, float]]:
    """Return (CPU, wall) seconds of a step of each side: the better of `ROUNDS`, the sides taking turns.

    A side's steps are timed as a whole from its first read on, so that reading ahead is paid for by who does it.
    """
    best = dict.fromkeys(sides, (float("inf"), float("inf")))
    for _ in range(ROUNDS):
        for name, start in sides.items():
            side = start()
            next(side)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps):
                next(side)
            cpu, wall = (time.process_time() - cpu) / steps, (time.perf_counter() - wall) / steps
            best[name] = min(best[name][0], cpu), min(best[name][1], wall)
            side.close()  # type: ignore[attr-defined]
    return best


def overhead(sides: dict[str, Callable[[], Iterator[float]]], steps: int) -> tuple[float, float]:
    """Return the median ratio of the second side's CPU seconds to the first's, step by step in turns, and its error.

    Both read the same samples in the same order; a step of one stands beside the same step of the other, so what a
    busy machine does to both goes out. The error is half of the middle half of the ratios over the root of their number.
    """
    running = [start() for start in sides.values()]
    for side in running:
        next(side)
    ratios = []
    for step in range(steps):
        spent = {}
        for at in (0, 1) if step % 2 else (1, 0):
            started = time.process_time()
            next(running[at])
            spent[at] = time.process_time() - started
        ratios.append(spent[1] / spent[0])
    for side in running:
        side.close()  # type: ignore[attr-defined]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, (high - low) / 2 / len(ratios) ** 0.5


def curate(folder: Path, scenes: int) -> DatasetVersion:
    """Return scenes with swapped words, bound attributes and replaced words."""
    workspace, manifests = str(folder / "w"), str(folder / "m")
    job = CurateJob(
        recipe="ce_clip",
        source=f"scenes:{scenes}",
        name="scenes",
        workspace=workspace,
        manifests=manifests,
        model="tiny",
    )
    return job.catalog.open(run_job(job).ref)


def mean_negatives(version: DatasetVersion) -> float:
    """Return how many negatives a caption brings to a step, on average over all captions."""
    used = 0
    for shard in range(len(version.manifest.body["shards"])):
        for rows in version.sidecar(shard, ["negatives"])["negatives"].to_pylist():
            counts = Counter(row["caption"] for row in rows)
            used += sum(min(number, NEGATIVES) for number in counts.values())
    return used / sum(version.index(["num_captions"])["num_captions"].to_pylist())


def bench_choice(version: DatasetVersion, name: str, batch: int, steps: int) -> None:
    """Print what it costs to choose negatives adaptively, none left out, over taking the same ones as they come."""
    spec = ModelSpec.parse(name)
    # the last steps of a plan have no batch to read ahead
    config = TrainConfig(steps=steps + 3, batch_size=batch, warmup_steps=1, device="cpu", precision="float32", lr=1e-5)
    chosen = (UniformNegatives(NEGATIVES), AdaptiveNegatives(candidates=NEGATIVES, choose=NEGATIVES))
    sides = {one.name: partial(our_loop, version, spec, config, one, Clock(), cached=True) for one in chosen}
    ratio, error = overhead(sides, steps)
    print(f"\n{name}, batch {batch}, {steps} steps in turns: adaptive {NEGATIVES} of {NEGATIVES} over fixed ", end="")
    print(f"{100 * (ratio - 1):+.1f} % CPU (+-{100 * error:.1f})")


def bench_prefix(version: DatasetVersion, name: str, batch: int, steps: int, tune: str) -> None:
    """Print how much faster a step is whose frozen prefixes were computed ahead, and what that costs once."""
    spec, filled = ModelSpec.parse(name), []
    config = TrainConfig(steps=steps, batch_size=batch, warmup_steps=1, device="cpu", precision="float32", tune=tune)
    # of two threads the one that waits for the other counts as busy on a busy machine
    torch.set_num_threads(1)
    for count in (0, NEGATIVES):
        negatives = UniformNegatives(count) if count else None

        def cached(negatives: Negatives | None = negatives) -> Iterator[float]:
            started = time.process_time()
            side = our_loop(version, spec, config, negatives, Clock(), cached=True)
            yield next(side)
            filled.append(time.process_time() - started)
            yield from side

        each_time = partial(our_loop, version, spec, config, negatives, Clock(), cached=False)
        took = compare({"cached": cached, "each time": each_time}, steps)
        (cpu, wall), (slow_cpu, slow_wall) = took["cached"], took["each time"]
        print(f"\n{name}, {tune}, batch {batch}, {steps} steps, up to {count} negatives each, one thread")
        print(f"each time {batch / slow_cpu:.1f}/s CPU, cached {batch / cpu:.1f}/s CPU: ", end="")
        print(f"{slow_cpu / cpu:.2f} times ({slow_wall / wall:.2f} by wall)")
        print(f"once: {min(filled):.1f} s CPU for the model and {steps * batch} samples computed ahead")


def bench(version: DatasetVersion, name: str, batch: int, steps: int) -> None:
    """Print what a model's steps cost."""
    spec = ModelSpec.parse(name)
    config = TrainConfig(steps=steps, batch_size=batch, warmup_steps=1, device="cpu", precision="float32", lr=1e-5)
    clocks = {key: Clock() for key in ("ours", "ours, cached", "adaptive 4 of 4", "fixed 2", "adaptive 2 of 6")}
    chosen: dict[str, Any] = {
        "adaptive 4 of 4": AdaptiveNegatives(candidates=NEGATIVES, choose=NEGATIVES),
        "fixed 2": UniformNegatives(2),
        "adaptive 2 of 6": AdaptiveNegatives(candidates=6, choose=2),
    }
    sides: dict[str, Callable[[], Iterator[float]]] = {"plain": partial(plain_loop, version, spec, config)}
    for key, clock in clocks.items():
        negatives = chosen.get(key, UniformNegatives(NEGATIVES))
        sides[key] = partial(our_loop, version, spec, config, negatives, clock, cached=key != "ours")
    took = compare(sides, steps)
    print(f"\n{name}, batch {batch}, {steps} steps")
    cpu, wall = took["plain"]
    for key, (mine, clocked) in took.items():
        stall = f"   waiting {100 * clocks[key].stall:.2f} %" if key in clocks else ""
        print(
            f"{key:<16} {batch / mine:8.2f}/s CPU  {batch / clocked:8.2f}/s wall   "
            f"ratio {cpu / mine:5.2f} CPU {wall / clocked:5.2f} wall{stall}"
        )
    for adaptive, fixed in (("adaptive 4 of 4", "ours, cached"), ("adaptive 2 of 6", "fixed 2")):
        print(f"{adaptive} over {fixed}: {100 * (took[adaptive][0] / took[fixed][0] - 1):+.1f} % CPU")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lite0_minilm", "ViT-B-32"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--keep", default="", help="folder of the curated scenes, for a second run")
    parser.add_argument("--choice", action="store_true", help="only what an adaptive choice costs, step by step")
    parser.add_argument(
        "--prefix", default="", help="a tuning such as top:1: only what computing the frozen part once saves"
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        version = curate(Path(given.keep or folder), given.scenes)
        print(f"{mean_negatives(version):.2f} negatives of each caption, at most {NEGATIVES}")
        for name in given.models:
            if given.prefix:
                bench_prefix(version, name, given.batch, given.steps, given.prefix)
            else:
                (bench_choice if given.choice else bench)(version, name, given.batch, given.steps)


if __name__ == "__main__":
    main()
