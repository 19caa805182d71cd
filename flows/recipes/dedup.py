"""Deduplication and decontamination: nothing twice, and nothing that a model will be evaluated on."""

from __future__ import annotations

from curation.dedup.evaluation_sets import EvaluationSets
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.hygiene.check_images import CheckImages
from curation.stages.hygiene.find_duplicates import FindDuplicates
from curation.stages.hygiene.hash_images import HashImages
from curation.stages.hygiene.remove_leaks import RemoveLeaks
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE


def dedup(model: ModelSpec, against: EvaluationSets) -> Recipe:
    """Return the recipe.

    Args:
        model: Embeds pictures, so that copies too changed for a hash are candidates too.
        against: Evaluation sets, from ``--against``.
    """
    seen = (CheckImages(), HashImages(), EmbedSamples(model))
    return Recipe(
        name="dedup",
        paper="Abbas 2023, SemDeDup, arXiv 2303.09540; data overlap as in Radford 2021, section 5, arXiv 2103.00020",
        differs="hashes, embeddings and captions name candidates and the pixels decide, so that photographs of the same "
        "kind of scene stay (set similarity_alone for SemDeDup's rule); groups are stars, not chains",
        stages=(
            *seen,
            RemoveLeaks(against.with_stages(*seen), embeddings=True),
            FindDuplicates(keep="one", embeddings=True),
        ),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False),),
        train=TrainConfig(),
    )
