"""FFF: pairs of a batch that fit each other too well are positives, and an image has several texts."""

from __future__ import annotations

from curation.stages.embedding.calibrate_positives import CalibratePositives
from curation.stages.embedding.cluster_embeddings import ClusterEmbeddings
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_positives import FindPositives
from flows.recipe import Recipe
from training.batches.basic import ClusterPlan
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.false_negative_gate import PositiveGate
from training.model.spec import ModelSpec
from training.objectives.sigmoid import Sigmoid


def fff(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` embeds what the thresholds are quantiles of."""
    return Recipe(
        name="fff",
        paper="Bulat 2024, FFF: fixing flawed foundations in contrastive pre-training results in very strong "
        "vision-language models, CVPR, arXiv 2405.10286",
        differs="thresholds are quantiles of random pairs instead of absolute numbers; the image's other "
        "captions and rewrites stand for pseudo-captions",
        stages=(EmbedSamples(model), ClusterEmbeddings(), CalibratePositives(), FindPositives()),
        planner=ClusterPlan(),
        objectives=(Sigmoid(negatives=False, further=True),),
        positives=FurtherTexts(count=4),
        gate=PositiveGate(),
        train=TrainConfig(),
    )
