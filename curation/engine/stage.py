"""What a stage is: a frozen dataclass that adds named fields to samples, or drops them with a named reason."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import orjson
from blake3 import blake3

from data_manifests.errors import InputError
from data_manifests.sample import REQUIRABLE, Sample
from data_manifests.seeds import canonical

FieldKind = Literal["json", "array"]
Publish = Literal["sample", "sidecar", "index", "store"]
FieldRole = Literal["value", "negatives", "views", "rejects", "usage", "finding"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a stage adds.

    Attributes:
        name: Its name on the sample.
        kind: ``json`` (any JSON value) or ``array`` (float16, one or two dimensions).
        publish: How far it travels: ``store`` (not published), ``sidecar`` (the parquet beside a shard),
            ``sample`` (sidecar and the JSON inside the tar), ``index`` (a number or a short text: index.parquet, sidecar and JSON).
        role: ``negatives`` and ``views`` (other texts that are true of the image) are lists of records that several
            stages add and that are published as one list each; ``rejects`` are lists of texts that a gate refused,
            published beside the shards with their reasons; ``usage`` are numbers that the manifest sums up, such as
            tokens; a ``finding`` is what a corpus stage found out of the whole, the same in every sample, and the manifest
            holds it once under ``statistics.quality``. A field of views gives its name to their kind and to a key of its own in the JSON.
    """

    name: str
    kind: FieldKind = "json"
    publish: Publish = "store"
    role: FieldRole = "value"

    def encode(self, value: Any) -> bytes:
        """Return the canonical bytes of a value: equal values give equal bytes on every machine."""
        if self.kind == "json":
            return canonical(value)
        array = np.ascontiguousarray(value, dtype="<f2")
        if array.ndim not in (1, 2):
            raise ValueError(f"field '{self.name}': arrays have 1 or 2 dimensions, got {array.ndim}")
        rows = array.shape[0] if array.ndim == 2 else 0
        return rows.to_bytes(4, "little") + array.tobytes()

    def decode(self, data: bytes) -> Any:
        """Return the value that `encode` was given (arrays as float16)."""
        if self.kind == "json":
            return orjson.loads(data)
        array: np.ndarray[Any, Any] = np.frombuffer(data, dtype="<f2", offset=4)
        rows = int.from_bytes(data[:4], "little")
        return array.reshape(rows, -1) if rows else array


@dataclass(frozen=True, slots=True)
class Drop:
    """A stage's verdict that a sample leaves the data set.

    Attributes:
        reason: A short name from the stage's `drops`, such as ``truncated_image``.
        detail: What was seen; no paths, no clock times: it is published.
    """

    reason: str
    detail: str = ""


class WaitingError(InputError):
    """A stage has said what it needs from outside and cannot go on before that is there.

    The engine lets the other batches say the same before it passes this on; finished batches are kept.
    """


@runtime_checkable
class Resource(Protocol):
    """Something big that a stage uses and that is known by its content: a model, a graph, a word list."""

    def content_hash(self) -> str:
        """Return a hash of the content (hex): files, or for generated weights the config and seed."""

    def describe(self) -> str:
        """Return a name for people, without paths of this machine."""


@runtime_checkable
class Licensed(Protocol):
    """A resource whose content reaches the texts of a data set, so that its licences come along."""

    def licences(self) -> tuple[str, ...]:
        """Return the licences as their sources state them, sorted."""


@dataclass(frozen=True)
class Stage(ABC):
    """One step of curation. Its dataclass fields are its whole configuration.

    Class attributes:
        name: A verb phrase; also the file's name.
        version: Raised whenever the output for the same input changes in meaning.
        requires: Fields it reads (see `REQUIRABLE`, or fields provided by earlier stages).
        provides: Fields it adds.
        drops: Reasons it may drop a sample for.
        source: The paper, with section or equation.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    requires: ClassVar[tuple[str, ...]]
    provides: ClassVar[tuple[Field, ...]]
    drops: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str]

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields that this configuration reads: `requires`, unless a setting asks for more."""
        return self.requires

    def resources(self) -> Mapping[str, Resource]:
        """Return the models and files it uses, by config field name; they enter the fingerprint by content."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Resource)}

    def superseded_fields(self) -> tuple[str, ...]:
        """Return fields of negatives whose records it passes on in a field of its own, judged; they are not published."""
        return ()

    def check_least(self, **least: int) -> None:
        """Check settings that have a least value.

        Args:
            least: Setting -> least value.

        Raises:
            InputError: a setting is below it.
        """
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(
                    f"{self.name}: {name} is {getattr(self, name)}", allowed=f"{value} or more", fix=f"raise {name}"
                )

    def runs_in_main_process(self) -> bool:
        """Whether its units must run in this process, one after another: it holds something that exists once."""
        return False

    def config(self) -> dict[str, Any]:
        """Return the configuration as JSON values, resources left out."""
        held = self.resources()
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name not in held}

    def identity(self) -> dict[str, Any]:
        """Return what the fingerprint is made of."""
        return {
            "stage": self.name,
            "version": self.version,
            "config": self.config(),
            "resources": {name: resource.content_hash() for name, resource in self.resources().items()},
        }

    def fingerprint(self) -> str:
        """Return BLAKE3 (128 bits, hex) of name, version, config and resource contents."""
        return blake3(canonical(self.identity())).hexdigest(length=16)


@dataclass(frozen=True)
class MapStage(Stage):
    """A stage that treats each sample by itself; memoised per sample."""

    batch_size: ClassVar[int] = 256
    """Samples per call of `process`, and the most that a kill can cost."""

    @abstractmethod
    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return, for each sample, the provided fields or a `Drop`.

        The result for a sample must not depend on which others are in the call.
        """


class Corpus(Protocol):
    """What a corpus stage may see: all samples that are still in, sorted by uid."""

    @property
    def uids(self) -> Sequence[str]:
        """Who is in."""

    def column(self, name: str) -> list[Any]:
        """Return one value per uid (decoded)."""

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """Return an ``array`` field stacked to [num_samples, ...]; one row per uid."""


@dataclass(frozen=True)
class CorpusStage(Stage):
    """A stage that must see all samples at once: neighbours, clusters, balance, ranks."""

    @abstractmethod
    def fit(self, corpus: Corpus) -> list[dict[str, Any] | Drop]:
        """Return, for each uid in order, the provided fields or a `Drop`; ties broken by uid."""


@runtime_checkable
class DescribesMethod(Protocol):
    """A stage that does its work one way or another by the number of samples, and can say which beforehand."""

    def describe_method(self, num_samples: int) -> str:
        """Say for people how so many samples will be done, and why so."""


def check_order(stages: Sequence[Stage]) -> None:
    """Check that every stage finds what it requires and that nothing is provided twice.

    Raises:
        ValueError: a recipe's stages do not fit together.
    """
    have: dict[str, str] = dict.fromkeys(REQUIRABLE, "the source")
    for stage in stages:
        for name in stage.required_fields():
            if name not in have:
                raise ValueError(f"stage '{stage.name}' requires '{name}', which no earlier stage provides")
        for item in stage.provides:
            if item.name in have:
                raise ValueError(f"stage '{stage.name}' provides '{item.name}', but {have[item.name]} already does")
            have[item.name] = f"stage '{stage.name}'"
