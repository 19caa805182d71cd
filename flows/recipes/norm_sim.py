"""NormSim: keep the fifth of the pool that is nearest to a target's images, or to the core of the pool itself."""

from __future__ import annotations

from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.selection.keep_top import KeepTop
from curation.stages.selection.score_target import ScoreTarget
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE


def norm_sim(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` is the frozen teacher.

    Without a target, NormSim-D from all samples; with `--set stages.score_target.target=npy:FILE` (or ``version:FOLDER``),
    NormSim-inf. After s-CLIPLoss it is the recipe `s_clip_loss`. The control of the same size: `--set
    stages.keep_top.at_random=true`.
    """
    return Recipe(
        name="norm_sim",
        paper="Wang 2024, CLIPLoss and norm-based data selection methods for multimodal contrastive learning, NeurIPS, "
        "arXiv 2405.19547",
        differs="any teacher instead of OpenAI's L/14; fine-tuning on what is kept instead of training from scratch on web data",
        stages=(EmbedSamples(model), ScoreTarget(), KeepTop(("norm_sim 20%",))),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False),),
        train=TrainConfig(),
    )
