"""The section of a page with the cases that one model gets right and another one wrong: counts both ways, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.seeds import draw_seed
from data_manifests.text_diff import diff_words
from flows.evaluation.interface import CaseName, EvalOptions, ShownCase
from flows.pages.html import Html, card, diff_markup, join, note, shorten, tag, tiles
from flows.pages.sections.results import benchmark_name
from flows.pages.thumbnails import thumbnail

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import CaseValues

NUM_SHOWN = 6
"""Cases shown of each way."""
MAX_GALLERIES = 3
"""Most benchmarks of a page whose cases are shown."""
_MAX_TEXTS = 4
_MAX_CHARS = 240

Cases = Mapping[str, "CaseValues"]
"""One run's cases by metric."""


@dataclass(frozen=True)
class CaseChanges:
    """Cases that two models judge differently.

    Attributes:
        num: All cases.
        now_right: Those that only the second model gets right.
        now_wrong: Those that only the first one gets right.
    """

    num: int
    now_right: Sequence[CaseName]
    now_wrong: Sequence[CaseName]


@dataclass(frozen=True)
class CaseSource:
    """Where the pictures of cases are.

    Attributes:
        on: ``KIND:SRC``.
        split: The split that was evaluated.
        limit: The limit of samples that it was evaluated with.
        catalog: Workspace and manifests.
    """

    on: str
    split: str | None
    limit: int | None
    catalog: Catalog

    def show(self, names: Sequence[CaseName]) -> dict[CaseName, ShownCase]:
        """Return the cases as far as they can be shown.

        Raises:
            InputError: the benchmark cannot be read any more.
        """
        from flows.evaluation.registry import open_benchmark

        return open_benchmark(self.on, EvalOptions(self.catalog, self.split, self.limit)).show_cases(names)


def case_changes(before: Sequence[Cases], after: Sequence[Cases], metrics: Sequence[str]) -> CaseChanges:
    """Return the cases that differ; a model of several seeds is right where more than half of them are.

    Args:
        before: The first model's runs.
        after: The second model's runs.
        metrics: Names in the cases, each of which is right (1) or wrong (0) in a case.

    Raises:
        InputError: they were evaluated on different cases.
    """
    num, now_right, now_wrong = 0, [], []
    for metric in metrics:
        runs = [[cases[metric] for cases in model if metric in cases] for model in (before, after)]
        if not all(runs):
            continue
        first = runs[0][0]
        if any((item.ids, item.images) != (first.ids, first.images) for model in runs for item in model):
            raise InputError(
                f"{metric}: the two models were evaluated on different cases",
                fix="evaluate both again with the same --on, --split and --limit",
            )
        was, now = (np.mean([item.values for item in model], axis=0) > 0.5 for model in runs)
        names = [CaseName(metric, *pair) for pair in zip(first.ids, first.images, strict=True)]
        num += len(names)
        now_right += [names[row] for row in np.flatnonzero(now & ~was)]
        now_wrong += [names[row] for row in np.flatnonzero(was & ~now)]
    return CaseChanges(num, now_right, now_wrong)


def cases_section(changes: CaseChanges, source: CaseSource, before: str, after: str) -> Html:
    """Return the counts both ways and some cases of each with their pictures.

    Args:
        changes: Result of `case_changes`.
        source: Where their pictures are.
        before: What the first model is called.
        after: What the second one is called.
    """
    ways = (
        (f"Right with {after}, wrong with {before}", changes.now_right),
        (f"Wrong with {after}, right with {before}", changes.now_wrong),
    )
    counts = [(f"{len(names):,}", heading.lower()) for heading, names in ways]
    parts: list[Html] = [tiles([*counts, (f"{changes.num:,}", "cases")])]
    drawn = [_draw(names) for _, names in ways]
    try:
        shown = source.show([name for names in drawn for name in names])
    except InputError:
        return join(
            [*parts, note(f"Pictures are not shown: {benchmark_name(source.on)} cannot be read here any more.")]
        )
    if any(case.wrong for case in shown.values()):
        parts.append(_legend())
    for (heading, names), of_way in zip(ways, drawn, strict=True):
        cards = [_card(shown[name]) for name in of_way if name in shown]
        if cards:
            number = f" {len(cards)} of {len(names):,}, drawn at random" if len(cards) < len(names) else ""
            parts.append(tag("h3", heading, tag("span", number, class_="soft")))
            parts.append(tag("div", *cards, class_="cards"))
    return join(parts)


def _draw(names: Sequence[CaseName]) -> list[CaseName]:
    """Return some cases of different images, in an order that is drawn by their names."""
    one_each: dict[str, CaseName] = {}
    for name in sorted(names, key=lambda name: (draw_seed("shown cases", *name), name)):
        one_each.setdefault(name.image, name)
    return list(one_each.values())[:NUM_SHOWN]


def _legend() -> Html:
    marks = (
        tag("del", "Struck out"),
        " is what the true text says, ",
        tag("ins", "underlined"),
        " what the false one says.",
    )
    return note(*marks)


def _card(case: ShownCase) -> Html:
    first = case.right[0] if case.right else ""
    items = [
        tag("li", tag("span", shorten(text, _MAX_CHARS), class_="text", dir="auto")) for text in case.right[:_MAX_TEXTS]
    ]
    for text in case.wrong[:_MAX_TEXTS]:
        pieces = diff_words(shorten(first, _MAX_CHARS), shorten(text, _MAX_CHARS))
        items.append(tag("li", diff_markup(pieces), class_="wrong"))
    picture = thumbnail(case.image, shorten(first, _MAX_CHARS) or "picture of a case")
    return card(picture, tag("ul", *items))
