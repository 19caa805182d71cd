"""The training half of a recipe, and the check that data set and model have what its objectives need. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data_manifests.errors import InputError
from training.batches.batch import StepTexts, TextSampling
from training.facts import distinct_facts
from training.features import FeatureNeeds
from training.groups import group_names, group_of

if TYPE_CHECKING:
    import pyarrow as pa

    from training.batches.epoch import Planner
    from training.batches.index import IndexColumn
    from training.batches.text_sampling import CaptionViews, FurtherTexts
    from training.false_negative_gate import PositiveGate
    from training.hard_negatives import Negatives
    from training.model.clip_model import ClipModel
    from training.objectives.interface import Objective

_LISTED_TAGS = 12
"""Tags that an error message names."""

MADE_FEATURES = frozenset(
    ("negatives", "negative_type", "positives", "tokens", "cut_text", "teacher_image", "teacher_text", "identity", "groups",
     "prompts", "triplets", "phrases", "pairs")
)  # fmt: skip
"""Features besides images and captions that a run can make for its objectives."""


@dataclass(frozen=True)
class TrainParts:
    """What a recipe brings to training.

    Attributes:
        name: The recipe's name.
        planner: Decides which samples are in a batch together.
        objectives: Loss terms; the loss is their weighted sum.
        negatives: Chooses each sample's negatives among those of the data set; None trains without.
        views: Draws among a caption and its rewrites and knowledge captions; None shows captions only.
        positives: Draws further texts of each image for the objectives that need them.
        gate: Finds pairs of a batch that are no negatives.
        in_turn: Whether the objectives take turns, one a step, in their order; otherwise each step has all of them.
    """

    name: str
    planner: Planner
    objectives: tuple[Objective, ...]
    negatives: Negatives | None = None
    views: CaptionViews | None = None
    positives: FurtherTexts | None = None
    gate: PositiveGate | None = None
    in_turn: bool = False

    @property
    def text_sampling(self) -> TextSampling:
        """How the texts of each sample are drawn."""
        turns = self.turns
        joining = (number for number, turn in enumerate(turns) if any("pairs" in item.needs for item in turn))
        return TextSampling(self.negatives, self.views, self.positives, tuple(joining), len(turns))

    @property
    def turns(self) -> tuple[tuple[Objective, ...], ...]:
        """The objectives that a step minimises, for the first step and the next ones, then from the first again."""
        return tuple((objective,) for objective in self.objectives) if self.in_turn else (self.objectives,)

    @property
    def needs(self) -> frozenset[str]:
        """Fields of `Features` that the objectives need."""
        return frozenset(name for objective in self.objectives for name in objective.needs)

    @property
    def group_objectives(self) -> tuple[Any, ...]:
        """The objectives that compare groups of samples."""
        return tuple(objective for objective in self.objectives if "groups" in objective.needs)

    def __post_init__(self) -> None:
        """Check that there is something to minimise.

        Raises:
            InputError: no objective, or two of one name, or two that compare different groups.
        """
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) != len(names):
            raise InputError(
                f"recipe {self.name!r}: objectives are {names}", allowed="one or more, each of its own name"
            )
        if len({item.groups for item in self.group_objectives}) > 1:
            listed = ", ".join(f"{item.name} {'; '.join(item.groups)}" for item in self.group_objectives)
            raise InputError(
                f"recipe {self.name!r}: objectives compare different groups: {listed}",
                allowed="the same groups for all of them",
                fix="--set 'objectives.NAME.groups=[\"TAG|TAG\"]' for each",
            )

    def feature_needs(self, teacher: Callable[[], ClipModel], statistics: Mapping[str, Any]) -> FeatureNeeds:
        """Return what the objectives need; `teacher` is called if they need one.

        Raises:
            InputError: the gate takes thresholds that the version's statistics do not hold.
        """
        ratios = [objective.cut_ratio for objective in self.objectives if hasattr(objective, "cut_ratio")]
        taught = self.needs & {"teacher_image", "teacher_text"} or (self.gate is not None and self.gate.teacher)
        gate = None if self.gate is None else self.gate.start(statistics)
        prompts = [objective.prompts for objective in self.objectives if hasattr(objective, "prompts")]
        return FeatureNeeds(
            self.needs,
            teacher() if taught else None,
            ratios[0] if ratios else None,
            gate,
            self.group_objectives[0].groups if self.group_objectives else (),
            prompts[0] if prompts else (),
            max([getattr(objective, "per_caption", 0) for objective in self.objectives]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the recipe's training half as JSON values: each part's name and fields."""
        optional = {name: getattr(self, name) for name in ("negatives", "views", "positives", "gate")}
        return {
            "recipe": self.name,
            "planner": describe(self.planner),
            "objectives": [describe(objective) for objective in self.objectives],
            **{name: None if part is None else describe(part) for name, part in optional.items()},
            **({"in_turn": True} if self.in_turn else {}),
        }


def describe(part: Any) -> dict[str, Any]:
    """Return the name and fields of a planner, objective or choice of negatives, nested ones included."""
    values = {item.name: getattr(part, item.name) for item in dataclasses.fields(part)}
    shown = {name: describe(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}
    return {"name": part.name} | {k: list(v) if isinstance(v, tuple) else v for k, v in shown.items()}


def check_needs(parts: TrainParts, table: pa.Table, rows: IndexColumn) -> None:
    """Check, before a run starts, that recipe and data set hold what every objective needs; see also the next function.

    Args:
        parts: The recipe's training half.
        table: The version's index.parquet.
        rows: Its rows that are trained on.

    Raises:
        InputError: naming what is lacking, the objective that needs it, and what to do.
    """
    if parts.negatives is not None and _most("num_negatives", table, rows) < 1:
        raise InputError(
            f"recipe {parts.name} trains with negatives, and no caption of the training split has one",
            allowed="a version with negatives",
            fix="curate with a recipe that makes negatives, such as negclip, from captions that have words to exchange or replace; "
            "or train with one that needs none, such as clip",
        )
    for objective in parts.objectives:
        for need in objective.needs:
            for problem, fix in _problems(need, parts, table, rows):
                raise InputError(f"objective {objective.name} needs {need}: {problem}", fix=fix)


def _problems(need: str, parts: TrainParts, table: pa.Table, rows: IndexColumn) -> Iterator[tuple[str, str]]:
    """Yield what keeps a feature from being made for any batch, and what to do about it."""
    if need in ("negatives", "negative_type"):
        if parts.negatives is None:
            yield (
                "the recipe chooses no negatives",
                "choose some: --set negatives=uniform, or in a recipe of your own negatives=UniformNegatives(...)",
            )
    elif need == "positives":
        drawn = parts.positives
        if drawn is None:
            yield (
                "the recipe draws no further texts of an image",
                "draw some: --set positives=further_texts, or in a recipe of your own positives=FurtherTexts(...)",
            )
        elif drawn.or_shown:
            return
        elif not (drawn.captions and _most("num_captions", table, rows) > 1) and (
            not (drawn.rewrites or drawn.knowledge) or _most("num_views", table, rows) < 1
        ):
            yield "no image of the training split has a further text", "curate with a recipe that rewrites captions"
    elif need not in MADE_FEATURES:
        yield "training cannot make this feature yet", "take the objective out of the recipe"


def check_texts(parts: TrainParts, steps: Iterable[StepTexts], context_length: int) -> str:
    """Check that the texts of a run differ for the model, which cuts them to its context; return a warning, often empty.

    Args:
        parts: The recipe's training half.
        steps: The texts of each step; read until two captions differ and one has a negative.
        context_length: Most tokens that the model reads.

    Raises:
        InputError: all captions are equal and there are no negatives, or all negatives equal their caption.
    """
    captions: dict[str, str] = {}
    num_texts = num_negatives = num_equal = 0
    for texts in steps:
        num_texts += len(texts.captions)
        captions |= zip(texts.caption_ids, texts.captions, strict=True)
        num_negatives += sum(map(len, texts.records))
        num_equal += sum(texts.equal_negatives)
        if len(captions) > 1 and (num_negatives or parts.negatives is None):
            return ""
    fix = "put first in a text what tells it apart, shorten the texts, or take a model that reads more tokens"
    if num_equal and not num_negatives:
        raise InputError(
            f"all {num_equal} negatives drawn equal their caption in the {context_length} tokens that the model reads",
            allowed="negatives that differ from their caption there",
            fix=fix,
        )
    if len(captions) > 1 or num_texts < 2:
        return ""
    shown = next(iter(captions.values()))
    problem = f"all {num_texts} captions are equal in the {context_length} tokens that the model reads: {shown[:60]!r}"
    if not num_negatives:
        raise InputError(
            problem, allowed="captions that differ: with equal ones the loss is 0 and nothing is learned", fix=fix
        )
    return f"{problem}; only negatives are learned from: {fix}"


def check_groups(parts: TrainParts, batches: Iterable[Sequence[str]]) -> None:
    """Check that some batch has two groups, each as large as the objectives need, of every attribute they name.

    Args:
        parts: The recipe's training half.
        batches: The tags of each step's samples; read until that is known.

    Raises:
        InputError: there is none; with the tags that samples have, and what to do.
    """
    wanted = {(name, item.smallest): item for item in parts.group_objectives for name in item.groups}
    if not wanted:
        return
    seen: dict[str, Counter[int]] = {name: Counter() for name, _ in wanted}
    tags: Counter[str] = Counter()
    for batch in batches:
        sets = [frozenset(text.split()) for text in batch]
        tags.update(tag for own in sets for tag in own)
        for name, smallest in list(wanted):
            counts = Counter(group_of(own, name) for own in sets)
            seen[name].update(counts)
            if sum(count >= smallest for group, count in counts.items() if group >= 0) > 1:
                del wanted[name, smallest]
        if not wanted:
            return
    (name, smallest), objective = next(iter(wanted.items()))
    sizes = ", ".join(f"{seen[name][group]} in {label}" for group, label in enumerate(group_names(name)))
    listed = ", ".join(f"{tag} ({count})" for tag, count in tags.most_common(_LISTED_TAGS)) or "none"
    raise InputError(
        f"objective {objective.name} compares the groups {name}, and no batch has {smallest} samples of two of them: over all steps "
        f"{sizes}, {seen[name][-1]} in none",
        allowed=f"tags that samples have: {listed}",
        fix=f"curate with a recipe that has the stage tag_attributes, such as fcl; name other groups, --set "
        f"'objectives.{objective.name}.groups=[\"TAG|TAG\"]'; larger batches, or --set objectives.{objective.name}.smallest=1",
    )


class Ingredient(NamedTuple):
    """What objectives need that only the texts of a step tell: of which data sets may have nothing.

    Attributes:
        is_in: Whether the texts of a step have enough of it for a loss.
        problem: What an objective that lacks it does, and what there is not.
        allowed: Which data sets have it.
        fix: What to do.
    """

    is_in: Callable[[StepTexts], bool]
    problem: str
    allowed: str
    fix: str


INGREDIENTS: Mapping[str, Ingredient] = {
    "triplets": Ingredient(
        lambda texts: len(distinct_facts(texts.facts)) > 1,
        "compares facts of a knowledge graph, and no batch has captions that state two of them",
        "a version with knowledge captions",
        "curate with a recipe that has the stage expand_knowledge, such as ke_negclip, and a graph that knows what the captions "
        "name (--graph FILE); larger batches",
    ),
    "phrases": Ingredient(
        lambda texts: any(texts.phrases),
        "compares phrases and words with foils, and no caption of this data set version has any",
        "a version with phrase_foils",
        "curate with a recipe that has the stage match_phrases, such as ms_svta, from captions of which words can be replaced",
    ),
    "pairs": Ingredient(
        lambda texts: any(pair.negative for pair in texts.pairs),
        "exchanges words between captions, and no two captions that are joined have words of one class",
        "a version whose samples have words",
        "curate with a recipe that has the stage list_words, such as clic",
    ),
}
"""By feature."""


def check_ingredients(parts: TrainParts, steps: Iterable[StepTexts]) -> None:
    """Check that some step has what objectives need of its texts, see `INGREDIENTS`.

    Args:
        parts: The recipe's training half.
        steps: The texts of each step; read once, until all is found.

    Raises:
        InputError: an objective needs what no step has.
    """
    wanted = [name for name in INGREDIENTS if name in parts.needs]
    texts = iter(steps)
    while wanted and (step := next(texts, None)) is not None:
        wanted = [name for name in wanted if not INGREDIENTS[name].is_in(step)]
    if wanted:
        lacking = INGREDIENTS[wanted[0]]
        objective = next(item.name for item in parts.objectives if wanted[0] in item.needs)
        raise InputError(f"objective {objective} {lacking.problem}", allowed=lacking.allowed, fix=lacking.fix)


def _most(column: str, table: pa.Table, rows: IndexColumn) -> int:
    """Return a column's largest value; older versions do not have every column, and then a batch shows it."""
    return int(np.max(table.column(column).to_numpy()[rows])) if column in table.column_names else 2


def check_model_needs(parts: TrainParts, model: ClipModel) -> None:
    """Check that the model gives what the objectives need.

    Raises:
        InputError: naming the objective, what it lacks, and what to do.
    """
    from training.model.token_features import check_patches, check_tokens

    checks = {"tokens": (check_patches, check_tokens), "cut_text": (check_tokens,)}
    for objective in parts.objectives:
        for need in objective.needs:
            for check in checks.get(need, ()):
                try:
                    check(model)
                except InputError as error:
                    got = f"objective {objective.name} needs {need}: {error.got}"
                    raise InputError(got, allowed=error.allowed, fix=error.fix) from None
