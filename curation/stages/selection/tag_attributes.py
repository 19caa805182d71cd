"""Tag images with attributes: of people in captions, from columns of the source, or predicted by a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.encoder import EncoderSpec, embed_with_texts
from curation.selection.person_attributes import tags_of
from data_manifests.errors import InputError
from data_manifests.sample import Sample

_TAG = re.compile(r"[a-z0-9_]+:[a-z0-9_]+")
_MAX_CHARS = 64


@dataclass(frozen=True)
class TagAttributes(MapStage):
    """Provides ``attribute_tags``: ``attribute:value`` words, sorted, in one text, such as ``age:child gender:female``.

    From captions: gender, age, ethnicity, occupation and activity of people as captions describe them, by our own word
    lists; a word counts where it describes a person, a noun where it means one. From `columns` of the source: their
    values. From `prompts` with a `model`: the value whose prompts are nearest to the image, if nearer than every other
    value's by `margin`.

    Attributes:
        captions: Whether to tag from captions.
        min_captions: How many captions must agree; all, for an image with fewer.
        columns: Columns of the source (numbers, texts, booleans, or lists of them), with dots for nested objects
            (``scene.background.colour``); a sample without the column gets no tag from it.
        prompts: ``attribute:value = a text``, at least two values for each attribute.
        model: Compares prompts with images.
        margin: Minimum difference of cosine similarities between the best value and the next.

    Raises:
        InputError: an invalid prompt, prompts without a model or a model without prompts, nothing to tag from; in
            `process`, a column with any other value.

    Source: Alabdulmohsin et al. 2024 (CLIP the Bias, M4), arXiv 2403.04547, which infers attributes from texts and
        images.
    Differs: the authors' signals are not public; lists, senses and rules are this project's own.
    """

    name: ClassVar[str] = "tag_attributes"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("parses",)
    provides: ClassVar[tuple[Field, ...]] = (Field("attribute_tags", publish="sample"),)
    source: ClassVar[str] = "Alabdulmohsin et al. 2024 (M4), arXiv 2403.04547"
    knows_only_english: ClassVar[bool] = True

    captions: bool = True
    min_captions: int = 1
    columns: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    model: EncoderSpec | None = None
    margin: float = 0.02

    def __post_init__(self) -> None:
        for attribute, values in self._prompts().items():
            if len(values) < 2:
                raise InputError(
                    f"tag_attributes: prompts have one value of {attribute!r}", allowed="two values or more"
                )
        self.require(
            bool(self.prompts) == (self.model is not None),
            "prompts model",
            allowed="both, or neither",
            fix="give model and prompts",
        )
        self.require(
            bool(self.captions or self.columns or self.prompts),
            "captions columns prompts",
            allowed="at least one of them",
            fix="leave captions on, or name columns",
        )
        self.require(
            self.min_captions >= 1 and self.margin >= 0,
            "min_captions margin",
            allowed="min_captions 1 or more, margin 0 or more",
        )

    def required_fields(self) -> tuple[str, ...]:
        """Return what this configuration reads: parses for captions, attributes for columns, the image for a model."""
        used = {"parses": self.captions, "attributes": bool(self.columns), "image": self.model is not None}
        return tuple(name for name, is_used in used.items() if is_used)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return ``attribute_tags`` of each sample."""
        results: list[dict[str, Any] | Drop] = []
        for sample in samples:
            tags = set(tags_of(sample["parses"], self.min_captions)) if self.captions else set()
            tags.update(_from_columns(sample, self.columns))
            tags.update(self._from_model(sample))
            results.append({"attribute_tags": " ".join(sorted(tags))})
        return results

    def _prompts(self) -> Mapping[str, dict[str, list[str]]]:
        """Return the prompts by attribute and value."""
        found: dict[str, dict[str, list[str]]] = {}
        for line in self.prompts:
            tag, equals, text = (part.strip() for part in line.partition("="))
            if not equals or not text or not _TAG.fullmatch(tag):
                raise InputError(
                    f"tag_attributes: prompt {line!r}",
                    allowed="attribute:value = a text",
                    fix="for example: 'gender:female = a photo of a woman'",
                )
            attribute, _, value = tag.partition(":")
            found.setdefault(attribute, {}).setdefault(value, []).append(text)
        return found

    def _from_model(self, sample: Sample) -> Iterator[str]:
        """Yield the tags that the model predicts."""
        if self.model is None:
            return
        prompts = [
            (attribute, value, text)
            for attribute, values in self._prompts().items()
            for value, texts in values.items()
            for text in texts
        ]
        texts = [text for _, _, text in prompts]
        _, similarities = embed_with_texts(self.model, replace(sample, captions=()), texts)
        best: dict[str, dict[str, float]] = {}
        for (attribute, value, _), similarity in zip(prompts, similarities.tolist(), strict=True):
            of_value = best.setdefault(attribute, {})
            of_value[value] = max(of_value.get(value, -2.0), similarity)
        for attribute, values in best.items():
            (value, highest), (_, second), *_ = sorted(values.items(), key=lambda item: (-item[1], item[0]))
            if round(highest - second, 4) >= self.margin:
                yield f"{attribute}:{value}"


def _from_columns(sample: Sample, columns: Sequence[str]) -> Iterator[str]:
    """Yield the tags from a sample's columns.

    Raises:
        InputError: a value is not a number, text or boolean, nor a list of them.
    """
    for column in columns:
        values = _at(sample.attributes, column)
        for value in values if isinstance(values, list) else [values]:
            if value is None or value == "":
                continue
            if not isinstance(value, str | int | float):
                raise InputError(
                    f"tag_attributes: sample {sample.uid} ({sample.name}) has {column}={str(value)[:_MAX_CHARS]}",
                    allowed="a number, text or boolean, or a list of them",
                    fix="leave the column out of `columns`, or flatten it",
                )
            yield f"{_slug(column)}:{_slug(str(value))}"


def _at(attributes: Mapping[str, Any], column: str) -> Any:
    if column in attributes:
        return attributes[column]
    found: Any = attributes
    for part in column.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text[:_MAX_CHARS].casefold()).strip("_") or "_"
