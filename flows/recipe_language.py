"""A recipe's stages for captions in another language than English: what knows English only is left out, the rest adapted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from curation.engine.stage import Stage
from curation.models.parser import open_parser
from curation.negatives.records import ReadsNegatives
from curation.text.languages import CaptionLanguage, other_language
from curation.versions.publish import generator_names
from data_manifests.errors import InputError
from data_manifests.sample import REQUIRABLE


def stages_in_language(
    recipe: str, stages: Sequence[Stage], language: CaptionLanguage, *, keep_graph: bool
) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    """Return the stages that captions in a language can have, and the names of those that are left out.

    A stage is left out if it knows English only, or needs what such a stage provides; a stage that judges negatives gets
    those of the stages that remain. What parses gets the language's parser, what has a setting `language` gets it.

    Args:
        recipe: The recipe's name.
        stages: Its stages.
        language: The captions' language.
        keep_graph: Whether the knowledge graph is the user's own, and not our English one.

    Raises:
        InputError: all stages that make the recipe's negatives know English only.
    """
    if language.is_english:
        return tuple(stages), ()
    known, kept, left_out = {*REQUIRABLE}, list[Stage](), list[str]()
    for stage in stages:
        able = stage.reading_only(known) if isinstance(stage, ReadsNegatives) else stage
        if stage.knows_only_english or not known.issuperset(able.required_fields()):
            left_out.append(stage.name)
            continue
        kept.append(_adapted(able, language, keep_graph=keep_graph))
        known |= {field.name for field in able.provides}
    if (gone := generator_names(stages)) and not generator_names(kept):
        raise InputError(
            f"--language {language.code}: recipe '{recipe}' makes its negatives by rules that know English only "
            f"({', '.join(gone)})",
            allowed="recipes that learn them from the captions, such as contrasts and ahnm, or that make none, such as clip",
            fix=f"clipcurate curate contrasts --language {language.code} ...",
        )
    return tuple(kept), tuple(left_out)


def _adapted(stage: Stage, language: CaptionLanguage, *, keep_graph: bool) -> Stage:
    names = {item.name for item in fields(stage)}
    changed: dict[str, Any] = {"language": language} if "language" in names else {}
    if "parser" in names:
        changed["parser"] = open_parser(language.code)
    if "graph" in names and not keep_graph:
        changed["graph"] = None
    return replace(stage, **changed) if changed else stage


def language_notes(
    stages: Sequence[Stage], language: CaptionLanguage, left_out: Sequence[str], captions: Sequence[str]
) -> list[str]:
    """Return what a run says about its language.

    Who splits the captions, which stages are left out, what is not known; and a warning if the captions are plainly in
    another language.

    Args:
        stages: The stages that run.
        language: The language given.
        left_out: Stages that do not run.
        captions: Some captions.
    """
    notes = [] if language.is_english else [_about(stages, language, left_out)]
    reads_words = any(stage.knows_only_english or hasattr(stage, "parser") for stage in stages)
    if reads_words and (seen := other_language(captions, language)):
        notes.append(
            f"warning: the captions do not look like {language.describe()}: {seen}; rules and word lists will not fit "
            "them: give their language by --language CODE"
        )
    return notes


def _about(stages: Sequence[Stage], language: CaptionLanguage, left_out: Sequence[str]) -> str:
    parsers = [value.describe() for stage in stages if (value := getattr(stage, "parser", None)) is not None]
    said = f"captions in {language.describe()}" + (f", {parsers[0]}" if parsers else "")
    if left_out:
        said += f"; left out, because they know English only: {', '.join(left_out)}"
    if not language.has_lists and any(hasattr(stage, "language") for stage in stages):
        said += f"; words that deny are not known in {language.name}, so name them under keep in a --vocabulary"
    return said
