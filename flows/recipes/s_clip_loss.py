"""s-CLIPLoss and NormSim: keep a fifth of the pool, by how well captions fit against all others, then by nearness."""

from __future__ import annotations

from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.selection.keep_top import KeepTop
from curation.stages.selection.score_alignment import ScoreAlignment
from curation.stages.selection.score_target import ScoreTarget
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE


def s_clip_loss(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` is the frozen teacher.

    Without a target, NormSim-D; with `--set stages.score_target.target=npy:FILE` (or ``version:FOLDER``), NormSim-inf.
    The control of the same size: `--set stages.keep_top.at_random=true`.
    """
    return Recipe(
        name="s_clip_loss",
        paper="Wang 2024, CLIPLoss and norm-based data selection methods for multimodal contrastive learning, NeurIPS, "
        "arXiv 2405.19547",
        differs="any teacher instead of OpenAI's L/14; fine-tuning on what is kept instead of training from scratch on web "
        "data; several captions of an image are averaged",
        stages=(
            EmbedSamples(model),
            ScoreAlignment(model=model),
            ScoreTarget(start_field="s_clip_loss"),
            KeepTop(("s_clip_loss 30%", "norm_sim 20%")),
        ),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False),),
        train=TrainConfig(),
    )
