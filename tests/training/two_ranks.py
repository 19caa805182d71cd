"""What each rank of tests/training/test_ranks.py does: started by torchrun, writes what it found to a folder.

Args: folder that holds manifest.json and the shards' path in folder.txt; what to do.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from data_manifests.manifest import DatasetVersion, Manifest
from training.batches.basic import ShuffledPlan
from training.batches.batch import Batch
from training.batches.index import PlanIndex
from training.batches.loader import PlannedBatches
from training.batches.plan import make_plan
from training.batches.similarity import SimclipPlan
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.distributed import Ranks
from training.hard_negatives import AdaptiveNegatives
from training.model.spec import ModelSpec
from training.objectives.ce_clip import CrossModalRank
from training.objectives.fairness import GroupParity
from training.objectives.info_nce import InfoNCE, MemoryContrast
from training.objectives.joined_contrast import JoinedContrast
from training.objectives.knowledge import Distillation, RelationContrast, TripletContrast
from training.objectives.local_contrast import LocalContrast, MultiScaleContrast
from training.objectives.negative_contrast import NegativeContrast
from training.objectives.sigmoid import Sigmoid
from training.train import Trainer, train
from training.train_parts import TrainParts

TINY = ModelSpec.parse("tiny")
OBJECTIVES = (
    InfoNCE(negatives=False),
    MemoryContrast(weight=0.5, size=12),
    NegativeContrast(),
    CrossModalRank(),
    Distillation(),
    Sigmoid(weight=0.1, further=True),
)
PARTS = TrainParts(
    "ahnm", ShuffledPlan(), OBJECTIVES, AdaptiveNegatives(candidates=4, choose=2), positives=FurtherTexts()
)
FAIR = GroupParity(groups=("hue:warm|hue:cold",), smallest=1)
LOCAL = replace(
    PARTS,
    objectives=(
        *OBJECTIVES,
        LocalContrast(),
        MultiScaleContrast(),
        JoinedContrast(),
        FAIR,
        TripletContrast(),
        RelationContrast(),
    ),
)
ONLINE = replace(PARTS, planner=SimclipPlan(cluster_size=4, online=True))
CONFIG = TrainConfig(
    steps=12, batch_size=8, lr=1e-3, warmup_steps=3, tune="lora", checkpoint_every=4, seed=11, num_threads=1
)
LONGER = replace(CONFIG, steps=40)


def three_steps(version: DatasetVersion, parts: TrainParts, folder: Path, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return gradients after each of three steps, and the weights after them, in float64."""
    config = replace(CONFIG, tune="full", grad_clip=0.0)
    trainer = Trainer.start(parts, TINY, config, folder / "none", lambda line: None, ranks=ranks)
    torch.set_default_dtype(torch.float64)
    trainer.model.module.double()
    if trainer.needs.teacher is not None:
        trainer.needs.teacher.module.double()
    for term in trainer.terms.values():
        for parameter in term.parameters():
            parameter.data = parameter.data.double()
    index = PlanIndex.from_table(version.index())
    plan = make_plan(ShuffledPlan(), index, config.seed, config.steps, config.batch_size)
    batches = PlannedBatches(version, ranks.own_slice(plan), trainer.model, config, parts.text_sampling)
    found = {}
    for step in range(3):
        batch: Batch = batches.batch(step)
        joined = None if batch.joined is None else batch.joined.double()
        record = trainer.make_step(replace(batch, image=batch.image.double(), joined=joined))
        found[f"{step}/loss"] = torch.tensor([record["loss"], record["negatives"]["count"]], dtype=torch.float64)
        for name, parameter in trainer.model.module.named_parameters():
            if parameter.grad is not None:
                found[f"{step}/{name}"] = parameter.grad.clone()
        for name, term in trainer.terms.items():
            found |= {f"{step}/{name}/{at}": p.grad.clone() for at, p in enumerate(term.parameters())}
    found |= {f"weights/{name}": value.clone() for name, value in trainer.model.module.state_dict().items()}
    if trainer.chooser is not None:
        found |= {
            f"chooser/{name}": torch.tensor(value, dtype=torch.float64)
            for name, value in trainer.chooser.state_dict().items()
        }
    batches.close()
    torch.set_default_dtype(torch.float32)
    return found


def main(folder: Path, what: str) -> None:
    """Do one of the things below on every rank."""
    warnings.simplefilter("ignore")
    version = DatasetVersion(Manifest.load(folder / "manifest.json"), Path((folder / "folder.txt").read_text()))
    if what == "steps":
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(1)
        ranks = Ranks.join()
        torch.save(three_steps(version, LOCAL, folder, ranks), folder / f"steps-{ranks.rank}.pt")
        train(version, PARTS, TINY, CONFIG, folder / "run", cache=folder / "cache")
        train(version, PARTS, TINY, replace(CONFIG, tune="projection"), folder / "frozen", cache=folder / "cache")
        train(version, ONLINE, TINY, CONFIG, folder / "online")
    else:
        train(version, PARTS, TINY, LONGER, folder / what, resume=(folder / what).exists())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
