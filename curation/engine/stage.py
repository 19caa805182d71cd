"""Stages: frozen dataclasses that add named fields to samples, or drop samples with a named reason."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import orjson
from blake3 import blake3

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.text.wordlists import list_hashes
from data_manifests.errors import InputError, nearest
from data_manifests.image_decoder import DECODER_VERSION
from data_manifests.sample import REQUIRABLE, Sample
from data_manifests.seeds import canonical

FieldKind = Literal["json", "array"]
Publish = Literal["sample", "sidecar", "index", "store"]
FieldRole = Literal["value", "negatives", "views", "rejects", "usage", "finding", "evidence"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a stage adds.

    Attributes:
        name: Its name on the sample.
        kind: ``json`` (any JSON value) or ``array`` (float16, one or two dimensions).
        publish: Where it is published: ``store`` (nowhere), ``sidecar`` (the parquet beside a shard), ``sample`` (sidecar
            and the JSON in the tar), ``index`` (a number or short text: index.parquet, sidecar and JSON).
        role: ``negatives`` and ``views`` (other texts that are true of the image) are lists of records; those of all
            stages are published as one list each, and a field of views also names their kind and a key of the JSON.
            ``rejects`` are texts that a gate rejected, published beside the shards with their reasons. ``usage`` are
            numbers that the manifest adds up, such as tokens. A ``finding`` is what a fitted stage found about all samples,
            the same in each; the manifest has it once under ``statistics.quality``. ``evidence`` are numbers by name that
            a fitted stage's `check` gets as sums.
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
    """A stage's decision to drop a sample.

    Attributes:
        reason: A short name from the stage's `drops`, such as ``truncated_image``.
        detail: What was found, without paths and times: it is published.
    """

    reason: str
    detail: str = ""


class WaitingError(InputError):
    """A stage has requested something from outside, such as answers of a language model, and must wait for it.

    The engine runs the remaining batches, so that they make their requests too, before it raises this; finished batches
    are kept.
    """


@runtime_checkable
class Resource(Protocol):
    """Something large that a stage uses and that is identified by its content: a model, a graph, a word list."""

    def content_hash(self) -> str:
        """Return a hash of the content (hex): files, or for generated weights the config and seed."""

    def describe(self) -> str:
        """Return a readable name, without paths of this machine."""


@runtime_checkable
class Licensed(Protocol):
    """A resource whose content gets into the texts of a data set, and its licences with it."""

    def licences(self) -> tuple[str, ...]:
        """Return the licences as their sources state them, sorted."""


@dataclass(frozen=True)
class Stage(ABC):
    """One step of curation. Its dataclass fields are its whole configuration.

    Class attributes:
        name: A verb phrase; also the file's name.
        version: Increased whenever the output for the same input changes in meaning.
        requires: Fields it reads: built-in ones (`REQUIRABLE`) or fields of earlier stages.
        provides: Fields it adds.
        drops: Reasons for which it may drop a sample.
        source: The paper, with section or equation.
        knows_only_english: Whether its rules or word lists are for English captions; with another language it is left out.
        starts_slowly: Whether it loads a model, which takes longer than a few samples: see `curation.engine.early`.
        judges_negatives: Whether its negatives are those of other stages, which count as having made them.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]]
    provides: ClassVar[tuple[Field, ...]]
    drops: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str]
    knows_only_english: ClassVar[bool] = False
    starts_slowly: ClassVar[bool] = False
    judges_negatives: ClassVar[bool] = False

    def require(self, condition: bool, settings: str, *, allowed: str, fix: str = "leave them out") -> None:
        """Check a condition on settings (names, separated by spaces).

        Raises:
            InputError: it does not hold; the message has the settings and their values.
        """
        if not condition:
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in settings.split())
            raise InputError(f"{self.name}: {values}", allowed=allowed, fix=fix)

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields that this configuration reads: `requires`, unless a setting changes that."""
        return self.requires

    def resources(self) -> Mapping[str, Resource]:
        """Return the models and files it uses, by config field; their content is part of the fingerprint."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Resource)}

    def word_lists(self) -> Mapping[str, str]:
        """Return the word lists that its module depends on, by name, with the hash of each."""
        return list_hashes(type(self).__module__)

    def image_decoder(self) -> int | None:
        """Return the version of the decoder that it sees images through; None if it reads no image."""
        return DECODER_VERSION if "image" in self.required_fields() else None

    def superseded_fields(self) -> tuple[str, ...]:
        """Return fields of negatives that are not published, because this stage provides those it kept in its own field."""
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

    def check_names(self, setting: str, allowed: Collection[str], *, each_once: bool = False) -> None:
        """Check a setting that is a name or a tuple of names.

        Args:
            setting: The setting.
            allowed: The known names.
            each_once: Whether there must be at least one name, and none twice.

        Raises:
            InputError: a name is unknown; with `each_once`, there is none or a repeated one.
        """
        value = getattr(self, setting)
        names = (value,) if isinstance(value, str) else tuple(value)
        fix = next((nearest(name, allowed) or "leave it out" for name in names if name not in allowed), "")
        if not fix and each_once and not 0 < len(names) == len(set(names)):
            fix = "name one or more, each once"
        self.require(not fix, setting, allowed=", ".join(allowed), fix=fix)

    def runs_in_main_process(self) -> bool:
        """Return whether its units must run in the main process, one after another, as they share one resource."""
        return False

    def runs_model(self) -> bool:
        """Return whether it runs a model of images or language; `clipcurate plan` tries only stages that run none."""
        return "image" in self.required_fields()

    def config(self) -> dict[str, Any]:
        """Return the configuration as JSON values, without resources."""
        resources = self.resources()
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name not in resources}

    def identity(self) -> dict[str, Any]:
        """Return what the fingerprint is a hash of."""
        identity = {
            "stage": self.name,
            "version": self.version,
            "config": self.config(),
            "resources": {name: resource.content_hash() for name, resource in self.resources().items()},
        }
        if (version := self.image_decoder()) is not None:
            identity["image_decoder"] = version
        return identity | ({"word_lists": lists} if (lists := self.word_lists()) else {})

    def fingerprint(self) -> str:
        """Return BLAKE3 (128 bits, hex) of name, version, config, resource contents, image decoder and word lists."""
        return blake3(canonical(self.identity())).hexdigest(length=16)


@dataclass(frozen=True)
class MapStage(Stage):
    """A stage that processes each sample by itself; its results are memoised per sample."""

    batch_size: ClassVar[int] = 256
    """Samples per call of `process`; a killed run loses at most these."""

    @abstractmethod
    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Return, for each sample, the provided fields or a `Drop`.

        A sample's result must not depend on the other samples of the call.
        """


class Columns(Protocol):
    """All samples that no earlier stage dropped, in uid order, read in batches from disk as often as needed."""

    @property
    def num_samples(self) -> int:
        """Number of samples."""

    @property
    def uids(self) -> Sequence[str]:
        """Uids, sorted."""

    def batches(self, *fields: str) -> Iterator[list[Sample]]:
        """Yield the samples in uid order, at most a few hundred at once.

        Args:
            fields: Fields that are read; without any, all that the stage requires.
        """

    def vectors(self, name: str) -> np.ndarray[Any, Any]:
        """Return an ``array`` field of one vector a sample, memory-mapped [num_samples, dims] float16."""

    def vector_lists(self, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return an ``array`` field of several vectors a sample.

        Returns:
            All vectors, memory-mapped [num_vectors, dims] float16, and where each sample's begin, and the last ones end
            [num_samples + 1].
        """


@dataclass(frozen=True)
class FittedStage(Stage):
    """A stage that learns something small from all samples, and then processes each sample by itself.

    A later version of a data set keeps its parent's fit while every check holds, so that one edited sample changes one
    sample. Results are memoised per sample and fit.
    """

    batch_size: ClassVar[int] = 256
    """Samples per call of `apply`; a killed run loses at most these."""

    max_share_new: ClassVar[float] = 0.1
    """Largest share of samples that are new to a fit with which it is kept."""

    decisions: ClassVar[tuple[str, ...]] = ()
    """Settings that say what people have decided: `amend` brings them into an earlier fit, and nothing is learned anew."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check, where a stage is written, that one with `decisions` says how a fit takes them up.

        Raises:
            TypeError: it does not.
        """
        super().__init_subclass__(**kwargs)
        if cls.decisions and cls.amend is FittedStage.amend:
            raise TypeError(f"{cls.__name__} has decisions, {', '.join(cls.decisions)}, and no method amend")

    def learning_fingerprint(self) -> str:
        """Return the fingerprint without `decisions`: fits of stages with the same one differ by these alone."""
        if not self.decisions:
            return self.fingerprint()
        identity = self.identity()
        for part in ("config", "resources"):
            identity[part] = {name: value for name, value in identity[part].items() if name not in self.decisions}
        return blake3(canonical(identity)).hexdigest(length=16)

    def amend(self, fit: Fit, _columns: Columns) -> Fit:
        """Return a fit that was learned with other `decisions`, with this stage's in their place; what was learned stays.

        A stage with `decisions` has a method of its own; without any there is nothing to bring in.
        """
        return fit

    @abstractmethod
    def fit(self, columns: Columns) -> Fit:
        """Learn from all samples, in memory that is bounded as their number grows; ties are broken by uid."""

    @abstractmethod
    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return, for each sample, the provided fields or a `Drop`.

        A sample's result must depend on the sample and the fit alone, not on the other samples of the call.
        """

    def check(self, fit: Fit, evidence: Evidence) -> Sequence[FitCheck]:  # noqa: ARG002 - for stages with measures of their own
        """Return how well a kept fit does on the samples of a new version, besides the share of new samples.

        Args:
            fit: The kept fit.
            evidence: The stage's evidence, over all samples.
        """
        return ()


@dataclass(frozen=True)
class PreviousIndex:
    """The newest state of an indexed stage, and which of its samples are still there.

    Attributes:
        state: What `update` returned.
        uids: The samples it was made from, sorted.
        row_now: For each of them, its row among the samples of now; -1 if it is gone or its input has changed.
        key: Hash of the inputs that it was made from.
    """

    state: Fit
    uids: Sequence[str]
    row_now: np.ndarray[Any, np.dtype[np.int64]]
    key: str = ""


@dataclass(frozen=True)
class IndexedStage(Stage):
    """A stage that compares every sample with all others: neighbours, duplicates, leaks.

    Its state is brought up to date by comparing just the samples that were added, removed or edited.
    """

    @abstractmethod
    def update(self, columns: Columns, before: PreviousIndex | None) -> Fit:
        """Return the state for these samples; it must not depend on `before`, which only saves work.

        Args:
            columns: All samples.
            before: An earlier state; None to start from nothing.
        """

    @abstractmethod
    def results(self, columns: Columns, state: Fit) -> Iterator[dict[str, Any] | Drop]:
        """Yield, for each sample in uid order, the provided fields or a `Drop`."""


@runtime_checkable
class DescribesMethod(Protocol):
    """A stage whose method depends on the number of samples; `clipcurate plan` prints which one it will be."""

    def describe_method(self, num_samples: int) -> str:
        """Return a readable description of the method for this many samples."""


def check_order(stages: Sequence[Stage], where: str = "") -> None:
    """Check that every required field is provided by an earlier stage, and no field twice.

    Args:
        stages: The stages, in order.
        where: What an error message begins with.

    Raises:
        InputError: the stages do not fit together.
    """
    provider: dict[str, str] = dict.fromkeys(REQUIRABLE, "the source")
    for stage in stages:
        for name in stage.required_fields():
            if name not in provider:
                later = [other.name for other in stages if name in (field.name for field in other.provides)]
                raise InputError(
                    f"{where}stage '{stage.name}' requires '{name}', which no earlier stage provides",
                    allowed=f"what the source has ({', '.join(REQUIRABLE)}) or an earlier stage provides",
                    fix=f"put {later[0]} before it" if later else nearest(name, provider),
                )
        for field in stage.provides:
            if field.name in provider:
                raise InputError(
                    f"{where}stage '{stage.name}' provides '{field.name}', but {provider[field.name]} already does",
                    allowed="each field once",
                )
            provider[field.name] = f"stage '{stage.name}'"
