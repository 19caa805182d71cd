"""What to know about a version before a model is trained on it: few negatives, captions that are cut off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from curation.stages.embedding.embed_samples import CUT
from data_manifests.caption_negatives import NO_CANDIDATE, CaptionNegatives
from data_manifests.manifest import Manifest

MOST_CUT = 0.01
"""Share of captions that the embedding model may cut before a run warns."""

FEW_NEGATIVES = 1.0
"""Fewer negatives per caption, on average, are few."""

_REMEDIES: Mapping[str, str] = {
    NO_CANDIDATE: "no stage found words that it could exchange or replace: the recipe contrasts learns from the captions which "
    "words exclude each other, a masked model fills blanks of any captions "
    "(--masked-model, recipes ce_clip and svlc), a language model writes negatives (--llm, recipe triplet_clip)",
    "unbalanced": "the balance keeps as many negatives that read better than their captions as such that read worse: more of the "
    "better ones are made by mine_contrasts (recipes ahnm and contrasts) or a masked model (--masked-model)",
    "given_away": "wording alone tells nearly all of their kind from captions: --set stages.refine_negatives.least_share=0 keeps what "
    "little could be balanced, --set stages.refine_negatives=null (and stages.grade_negatives.fields to match) everything",
    "foreign_word": "they have a word that no caption has, so that it gives them away: a vocabulary of your own words helps "
    "(clipcurate vocabulary suggest, then --vocabulary)",
    "unlike": "most exchanges were of words of different classes, as far as the lists of words know them: "
    "--set stages.find_false_negatives.like_swaps=false leaves them to the balance",
}
_LISTED = "rejected.parquet in the version's folder lists each text with its reason"


def curation_warnings(manifest: Manifest) -> list[str]:
    """Return what to know before the version is trained on; often nothing."""
    found = CaptionNegatives.of(manifest.body["statistics"])
    few = None if found is None else few_negatives(found)
    return [*([] if few is None else [few]), *_cut_captions(manifest)]


def few_negatives(found: CaptionNegatives) -> str | None:
    """Return why captions have few negatives, and what to do; None if they have enough."""
    if found.mean >= FEW_NEGATIVES:
        return None
    said = f"captions have {found.mean:.2f} negatives on average"
    if not found.mean:
        said = "no caption got a negative (recipes that train with negatives refuse such a version; others, such as clip, do not)"
    if not found.without:
        return said
    reasons = sorted(found.without.items(), key=lambda item: (-item[1], item[0]))
    main, listed = reasons[0][0], ", ".join(f"{reason} {number:,}" for reason, number in reasons)
    return f"{said}; {1 - found.share_with(1):.1%} of them have none ({listed}). {main}: {_REMEDIES.get(main, _LISTED)}"


def _cut_captions(manifest: Manifest) -> Iterator[str]:
    """Yield a warning if the model that embeds the captions cuts more of them than `MOST_CUT`."""
    for stage in manifest.body["stages"]:
        usage = manifest.body["statistics"].get("usage", {}).get(stage["name"], {})
        cut, total = usage.get(CUT, 0), manifest.body["counts"]["captions"]
        if cut > MOST_CUT * total:
            yield (
                f"{cut:,} of {total:,} captions ({cut / total:.1%}) have more tokens than {stage['resources']['model']['name']} reads: "
                "their ends are cut off, and negatives that differ only there are left out in training"
            )
