"""What `evaluate --on KIND:SRC` can open: one small object for each kind, opened before the model is loaded."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from data_manifests.errors import InputError, nearest

if TYPE_CHECKING:
    from training.evaluate.features import Report
    from training.evaluate.items import Outcome
    from training.model import Towers

KINDS: Mapping[str, str] = {
    "retrieval": "flows.benchmark_samples:RetrievalBenchmark",
    "order": "flows.benchmark_samples:OrderBenchmark",
    "scenes": "flows.benchmark_samples:ScenesBenchmark",
    "swaps": "flows.benchmark_samples:SwapsBenchmark",
    "zero_shot": "flows.benchmark_folders:ZeroShotBenchmark",
}
"""Kind -> ``module:class``, imported only when used."""

_OPTION = re.compile(r"[a-z_]+=.*")


@dataclass(frozen=True)
class Wishes:
    """What the command line says of every benchmark.

    Attributes:
        workspace: Where drawn tests are kept.
        split: Only this split of a source.
        limit: At most so many samples of a source.
        blind_texts: Texts from which blind judges learn how captions read; without any, the test's own.
    """

    workspace: Path
    split: str | None = None
    limit: int | None = None
    blind_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
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
    """An opened benchmark. Built as ``BenchmarkClass(place, wishes)``; what is wrong with its files is said then.

    Class attributes:
        options: Keys that it knows after ``?``.
    """

    options: ClassVar[tuple[str, ...]]

    @property
    def num_samples(self) -> int:
        """How many images or cases are evaluated; final once it has run."""

    @property
    def num_refused(self) -> int:
        """How many entries cannot be; final once it has run."""

    def run(self, towers: Towers, report: Report) -> Outcome:
        """Return a model's numbers."""


def open_benchmark(text: str, wishes: Wishes) -> Benchmark:
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
    opened: Benchmark = made(_place(text, kind, source, made.options), wishes)
    return opened


def _place(text: str, kind: str, source: str, allowed: tuple[str, ...]) -> Place:
    """Take the options off a source; a question mark inside a path is one where no option follows."""
    path, mark, after = source.rpartition("?")
    parts = after.split("&")
    if not allowed or not mark or not all(_OPTION.fullmatch(part) for part in parts):
        return Place(kind, source)
    options = dict(part.split("=", 1) for part in parts)
    unknown = sorted(set(options) - set(allowed))
    if unknown or not all(options.values()):
        raise InputError(
            f"--on {text!r}: " + (f"unknown option '{unknown[0]}'" if unknown else "an option without a value"),
            allowed=f"{kind}:SRC?" + "&".join(f"{name}=..." for name in allowed),
            fix=nearest(unknown[0], allowed) if unknown else "write the value after the equals sign",
        )
    return Place(kind, path, options)
