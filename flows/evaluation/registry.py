"""What `evaluate --on KIND:SRC` can open: one small object for each kind, opened before the model is loaded."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from data_manifests.errors import InputError, nearest
from data_manifests.manifest import Catalog

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.features import ReportProgress
    from training.model.clip_model import ClipModel

PUBLISHED = ("sugarcrepe", "sugarcrepe_pp", "aro_relation", "aro_attribute", "valse", "vl_checklist")
KINDS: Mapping[str, str] = {
    "retrieval": "flows.evaluation.retrieval_and_order:RetrievalBenchmark",
    "order": "flows.evaluation.retrieval_and_order:OrderBenchmark",
    "scenes": "flows.evaluation.retrieval_and_order:ScenesBenchmark",
    "swaps": "flows.evaluation.retrieval_and_order:SwapsBenchmark",
    "zero_shot": "flows.evaluation.zero_shot:ZeroShotBenchmark",
    **dict.fromkeys(PUBLISHED, "flows.evaluation.published:PublishedBenchmark"),
    "winoground": "flows.evaluation.published:WinogroundBenchmark",
    "fairness": "flows.evaluation.fairness:FairnessBenchmark",
}
"""Kind -> ``module:class``, imported only when used."""

T = TypeVar("T")
_NOBODY: Any = object()
_OPTION = re.compile(r"[a-z_]+=.*")


@dataclass(frozen=True)
class EvalOptions:
    """What the command line says of every benchmark.

    Attributes:
        catalog: Where drawn tests are kept, and which samples are to be forgotten.
        split: Only this split of a source.
        limit: At most so many samples of a source.
        blind: Only what text alone reaches: no image is opened.
        blind_texts: Texts from which blind judges learn how captions read; without any, the test's own.
    """

    catalog: Catalog
    split: str | None = None
    limit: int | None = None
    blind: bool = False
    blind_texts: tuple[str, ...] = ()

    @property
    def workspace(self) -> Path:
        """Where drawn tests and snapshots are kept."""
        return self.catalog.workspace


@dataclass(frozen=True)
class Target:
    """What stands after the kind: ``SRC`` or ``SRC?key=value&key=value``.

    Attributes:
        kind: The kind.
        source: A folder or a source's ``KIND:PATH``.
        options: What follows the question mark.
    """

    kind: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict)


class Benchmark(Protocol):
    """An opened benchmark. Built as ``BenchmarkClass(place, eval_options)``; what is wrong with its files is said then.

    Class attributes:
        options: Keys that it knows after ``?``.
        has_blind: Whether text alone can be asked.
    """

    options: ClassVar[tuple[str, ...]]
    has_blind: ClassVar[bool]

    @property
    def num_samples(self) -> int:
        """How many images or cases are evaluated; final once it has run."""

    @property
    def num_refused(self) -> int:
        """How many entries cannot be; final once it has run."""

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return a model's numbers."""


def open_benchmark(text: str, eval_options: EvalOptions) -> Benchmark:
    """Open ``KIND:SRC``.

    Raises:
        InputError: unknown kind or option, or the benchmark itself refuses what lies there.
    """
    kind, colon, source = text.partition(":")
    if kind not in KINDS or not colon or not source:
        hint = nearest(kind, KINDS)
        raise InputError(
            f"--on {text!r}: " + (f"unknown kind '{kind}'" if kind not in KINDS else "nothing after the kind")
            + (f"; {hint}" if hint and kind not in KINDS else ""),
            allowed="KIND:SRC, KIND one of " + ", ".join(KINDS),
            fix="for example --on retrieval:flickr:/data/flickr8k or --on scenes:500@7",
        )  # fmt: skip
    module, _, name = KINDS[kind].partition(":")
    made = getattr(importlib.import_module(module), name)
    if eval_options.blind and not made.has_blind:
        raise InputError(
            f"--blind with --on {text}", allowed="tests of texts: order, scenes, swaps and the published ones"
        )
    opened: Benchmark = made(_place(text, kind, source, made.options), eval_options)
    return opened


def _place(text: str, kind: str, source: str, allowed: tuple[str, ...]) -> Target:
    """Take the options off a source; a question mark inside a path is one where no option follows."""
    path, mark, after = source.rpartition("?")
    parts = after.split("&")
    if not allowed or not mark or not all(_OPTION.fullmatch(part) for part in parts):
        return Target(kind, source)
    options = dict(part.split("=", 1) for part in parts)
    unknown = sorted(set(options) - set(allowed))
    if unknown or not all(options.values()):
        raise InputError(
            f"--on {text!r}: " + (f"unknown option '{unknown[0]}'" if unknown else "an option without a value"),
            allowed=f"{kind}:SRC?" + "&".join(f"{name}=..." for name in allowed),
            fix=nearest(unknown[0], allowed) if unknown else "write the value after the equals sign",
        )
    return Target(kind, path, options)


def round_robin(groups: Iterable[Sequence[T]], limit: int | None) -> list[T]:
    """Return the first of each group, then the second of each, and so on, up to a limit: none comes short."""
    turns = itertools.zip_longest(*groups, fillvalue=_NOBODY)
    chosen = (item for turn in turns for item in turn if item is not _NOBODY)
    return list(itertools.islice(chosen, limit))
