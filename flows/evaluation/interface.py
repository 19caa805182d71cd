"""What every benchmark is given and has; `registry.open_benchmark` opens them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from data_manifests.manifest import Catalog

if TYPE_CHECKING:
    from PIL import Image

    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.blind import Case
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel

T = TypeVar("T")
_MISSING: Any = object()


@dataclass(frozen=True)
class EvalOptions:
    """Options of the command line that hold for every benchmark.

    Attributes:
        catalog: Where drawn tests and snapshots are kept, and which samples are to be forgotten.
        split: Only this split of a source.
        limit: At most this many samples of a source.
        blind: Evaluate text alone: no image is opened.
        blind_texts: Texts from which blind judges learn what captions look like; by default the test's own.
    """

    catalog: Catalog
    split: str | None = None
    limit: int | None = None
    blind: bool = False
    blind_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """What one `--on KIND:SRC` or `--on KIND:SRC?key=value&key=value` names.

    Attributes:
        kind: The kind of benchmark.
        source: A folder, or a source's ``KIND:PATH``.
        options: The keys and values after the question mark.
    """

    kind: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict)


class CaseName(NamedTuple):
    """A case: the metric that it is counted in, its own name, and its image."""

    metric: str
    id: str
    image: str


@dataclass(frozen=True)
class ShownCase:
    """A case as a person sees it.

    Attributes:
        image: Its picture.
        right: What is true of it: texts, or the name of its class.
        wrong: Texts that are false of it; none in retrieval and classification.
    """

    image: Image.Image
    right: Sequence[str]
    wrong: Sequence[str] = ()


class Benchmark(ABC):
    """An opened benchmark. Its files are checked here, before the model is loaded.

    Class attributes:
        options: Keys that are allowed after ``?``.
        has_blind: Whether text alone can be evaluated (``--blind``).

    Attributes:
        num_samples: Images or cases that are evaluated; final after `run`.
        num_refused: Entries that cannot be evaluated; final after `run`.
        notes: What was left out, a sentence each; final after `run`, emptied by `new_notes`.
    """

    options: ClassVar[tuple[str, ...]] = ()
    has_blind: ClassVar[bool] = False
    num_samples: int
    num_refused: int

    def __init__(self, target: Target, eval_options: EvalOptions) -> None:
        self.target, self.eval_options = target, eval_options
        self.notes: list[str] = []
        self._said: set[str] = set()

    @abstractmethod
    def show_cases(self, names: Collection[CaseName]) -> dict[CaseName, ShownCase]:
        """Return the cases as far as this kind of benchmark can show them."""

    @abstractmethod
    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return a model's numbers."""

    def new_notes(self) -> list[str]:
        """Return the notes that were not returned before: models are evaluated one after the other."""
        new = [note for note in dict.fromkeys(self.notes) if note not in self._said]
        self._said.update(new)
        self.notes.clear()
        return new

    def count_unread(self, model: ClipModel, texts: Sequence[str], cases: Sequence[Case] = ()) -> BenchmarkResult:
        """Return, and note, how many texts the model cuts, and in how many cases a true and a false text are then equal.

        Args:
            model: The model.
            texts: The benchmark's texts but those of `cases`.
            cases: Its cases.

        Returns:
            Metrics `num_texts_cut` and, with cases, `num_equal_cases`.
        """
        from training.evaluate.benchmark_result import BenchmarkResult
        from training.evaluate.encoding_cache import tokens_of
        from training.evaluate.foils import equal_cases

        distinct = list(dict.fromkeys([*texts, *(text for case in cases for text in (*case.right, *case.wrong))]))
        found = {"num_texts_cut": int(model.is_cut(distinct, tokens_of(model, distinct)).sum())}
        if found["num_texts_cut"]:
            self.notes.append(
                f"{found['num_texts_cut']} of {len(distinct)} texts have more than the {model.context_length} tokens that the model reads; "
                "their ends are cut off"
            )
        if cases:
            found["num_equal_cases"] = equal_cases(model, cases)
        if found.get("num_equal_cases"):
            self.notes.append(
                f"{found['num_equal_cases']} of {len(cases)} cases: true and false text are equal in those tokens, a tie, which counts as wrong"
            )
        return BenchmarkResult(dict(found))

    def count(self, total: int, refused: int) -> None:
        """Set how many of all entries are evaluated and how many are not."""
        self.num_samples, self.num_refused = total - refused, refused


def cases_by_name(cases: Iterable[Case], names: Collection[CaseName]) -> dict[CaseName, Case]:
    """Return the cases of a test of texts that have some names; ``KIND.CATEGORY.accuracy`` is over the cases of a category."""
    wanted: dict[tuple[str | None, str], list[CaseName]] = {}
    for name in names:
        parts = name.metric.split(".")
        wanted.setdefault((".".join(parts[1:-1]) or None, name.id), []).append(name)
    found: dict[CaseName, Case] = {}
    for case in cases:
        for category in (None, case.category):
            found |= dict.fromkeys(wanted.get((category, case.id), ()), case)
    return found


def round_robin(groups: Iterable[Sequence[T]], limit: int | None) -> list[T]:
    """Return the first item of each group, then the second of each, and so on, up to a limit."""
    turns = itertools.zip_longest(*groups, fillvalue=_MISSING)
    return list(itertools.islice((item for turn in turns for item in turn if item is not _MISSING), limit))
