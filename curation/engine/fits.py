"""Fits: what a fitted stage learned from a whole data set, and which earlier fits a run keeps.

A fit is one safetensors file of arrays and JSON values, named by its hash: nothing in it is executed when it is read.
It also has the smallest hashes of the inputs it was learned from, by which the share of samples that are new to it is
estimated (exactly, up to 4,096 samples).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from blake3 import blake3

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.seeds import canonical

FIRST_FIT = "first fit"
"""Why a stage was fitted that had no fit before."""

SHARE_NEW = "share of samples new to the fit"
"""What the first check of a kept fit measures."""

FITS_FOLDER = "fits"
"""Folder of a stage's fits, beside its results."""

FIT_OF = "of-"
"""How the names of files in it begin that say, by the hash of its inputs, which fit was learned from them."""

_SKETCH_SIZE = 4096
_SKETCH = "_inputs"

UInt64s = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Fit:
    """What a fitted stage learned: immutable, and small against the data.

    Attributes:
        values: JSON values.
        arrays: Arrays of numbers, by name.
        num_samples: Number of samples that it was learned from; set by the engine.
        sketch: The smallest hashes of their inputs, sorted, at most 4,096; set by the engine.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    num_samples: int = 0
    sketch: UInt64s = field(default_factory=lambda: np.zeros(0, np.uint64))

    def to_bytes(self) -> bytes:
        """Return the bytes of its file: equal fits give equal bytes."""
        from safetensors.numpy import save

        about = {"num_samples": self.num_samples, "values": dict(self.values)}
        arrays = {name: np.ascontiguousarray(array) for name, array in sorted(self.arrays.items())}
        return bytes(save({**arrays, _SKETCH: self.sketch}, metadata={"fit": canonical(about).decode()}))

    @classmethod
    def load(cls, path: Path) -> Fit:
        """Read a fit's file.

        Raises:
            InputError: the file is missing or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                about = orjson.loads(file.metadata()["fit"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return cls(about["values"], arrays, about["num_samples"], arrays.pop(_SKETCH))
        except (SafetensorError, OSError, KeyError, TypeError, orjson.JSONDecodeError) as error:
            raise InputError(f"{path}: the fit is missing or damaged: {error}", fix="fit again: --refit") from None


class FitKey:
    """A fit as a key of a cache, by identity: fits are immutable, and comparing their arrays would take long."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit

    def __hash__(self) -> int:
        return id(self.fit)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FitKey) and self.fit is other.fit


def fit_hash(data: bytes) -> str:
    """Return the hash of a fit's file: 32 hex digits."""
    return blake3(data).hexdigest(length=16)


def sketch_of(input_ids: Iterable[bytes], before: UInt64s | None = None) -> UInt64s:
    """Return the smallest hashes of input ids, and of those of an earlier sketch, sorted, at most 4,096."""
    numbers = np.array([int.from_bytes(key[:8], "little") for key in input_ids], np.uint64)
    return np.unique(numbers if before is None else np.concatenate([numbers, before]))[:_SKETCH_SIZE]


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of some samples are among those that a fit was learned from, counted on the sketch of the fit.

    Attributes:
        num_known: Samples in the sketch.
        num_new: Samples that would be in the sketch, had the fit been learned from them.
    """

    num_known: int = 0
    num_new: int = 0

    @classmethod
    def of(cls, fit: Fit, input_ids: Iterable[bytes]) -> Overlap:
        """Compare samples with a fit."""
        bound = int(fit.sketch[-1]) if len(fit.sketch) == _SKETCH_SIZE else 2**64 - 1
        known = set(fit.sketch.tolist())
        below = [number for key in input_ids if (number := int.from_bytes(key[:8], "little")) <= bound]
        found = sum(number in known for number in below)
        return cls(found, len(below) - found)

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(self.num_known + other.num_known, self.num_new + other.num_new)

    @property
    def share_new(self) -> float:
        """Share of the samples that are new to the fit."""
        return self.num_new / max(self.num_known + self.num_new, 1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How the samples of a data set fare with a fit: numbers that `apply` gave for each sample, added up.

    Attributes:
        num_samples: Samples that the fit was applied to.
        num_dropped: Those that it dropped; they have no numbers.
        sums: Sums of the stage's field with the role ``evidence``, by name.
    """

    num_samples: int = 0
    num_dropped: int = 0
    sums: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Evidence) -> Evidence:
        names = sorted({*self.sums, *other.sums})
        sums = {name: self.sums.get(name, 0.0) + other.sums.get(name, 0.0) for name in names}
        return Evidence(self.num_samples + other.num_samples, self.num_dropped + other.num_dropped, sums)


@dataclass(frozen=True, slots=True)
class FitCheck:
    """One check of a fit on the samples of a new version; the fit is kept while the figure is at most the bound.

    Attributes:
        measure: What is measured, in words.
        figure: The measured figure.
        bound: The largest figure with which the fit is kept.
    """

    measure: str
    figure: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the figure is within the bound."""
        return self.figure <= self.bound

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's record."""
        return {"measure": self.measure, "figure": round(self.figure, 6), "bound": self.bound}


@dataclass(frozen=True, slots=True)
class KeptFit:
    """A fit of an earlier version.

    Attributes:
        stage_fingerprint: Fingerprint of the stage that learned it.
        path: Its file in that version's folder.
        hash: Its hash.
        learned_on: ``name@X.Y.Z`` of the version that it was learned on.
        learning_fingerprint: That of the stage without what people have decided.
        most_new: With which share of new samples it is kept; 0 for the stage's own.
    """

    stage_fingerprint: str
    path: Path
    hash: str
    learned_on: str
    learning_fingerprint: str
    most_new: float = 0.0


@dataclass(frozen=True)
class FitPolicy:
    """Which earlier fits a run keeps; by default there are none, and every stage fits.

    Attributes:
        kept: Fits of an earlier version, by stage name.
        refit: Stages that fit anew; ``*`` means all.
        given: Whether the fits were requested (``--fits``): they are used without checks.
        before: Fingerprints of all stages of that version, by name.
    """

    kept: Mapping[str, KeptFit] = field(default_factory=dict)
    refit: frozenset[str] = frozenset()
    given: bool = False
    before: Mapping[str, str] = field(default_factory=dict)

    def of(self, stage_name: str, learning_fingerprint: str) -> KeptFit | None:
        """Return the fit that a stage should try to keep.

        Raises:
            InputError: the fits were requested, and this stage has none there, or one with other settings.
        """
        if stage_name in self.refit or "*" in self.refit:
            return None
        fit = self.kept.get(stage_name)
        if fit is not None and fit.learning_fingerprint == learning_fingerprint:
            return fit
        if self.given:
            got = "has no fit there" if fit is None else "was fitted there with other settings, models or word lists"
            raise InputError(
                f"--fits: stage '{stage_name}' {got}",
                allowed="a version that the same recipe with the same settings made",
                fix=f"choose another version, or add --refit {stage_name}",
            )
        return None


@dataclass(frozen=True, slots=True)
class FitRecord:
    """Which fit a stage used in a run.

    Attributes:
        hash: The fit's hash.
        num_samples: Samples that it was learned from.
        learned_on: ``name@X.Y.Z``, or empty for the version being made.
        checks: The checks of a kept fit.
        why: Why it was learned, or kept, in words.
    """

    hash: str
    num_samples: int
    learned_on: str = ""
    checks: tuple[FitCheck, ...] = ()
    why: str = ""


def save_fit(folder: Path, data: bytes) -> str:
    """Write a fit into the folder of a stage's results, unless it is there; return its hash."""
    name = fit_hash(data)
    path = fit_path(folder, name)
    if not path.is_file():
        write_atomically(path, data)
    return name


def fit_path(folder: Path, name: str) -> Path:
    """Return the file of a fit in the folder of a stage's results."""
    return folder / FITS_FOLDER / f"{name}.safetensors"


@lru_cache(maxsize=8)
def load_fit(path: Path) -> Fit:
    """Return a fit by its file, which never changes: all partitions of a run share one in each process.

    Raises:
        InputError: the file is missing or damaged.
    """
    return Fit.load(path)
