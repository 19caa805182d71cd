"""Evaluation sets that must not leak into training data, identified by the content of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from curation.dedup.matching import ImageSignatures
from curation.engine.stage import Stage
from data_manifests.errors import InputError
from data_manifests.seeds import canonical

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class EvaluationSet:
    """One evaluation set, read into a snapshot.

    Attributes:
        name: Kind and name, without folders.
        snapshot: Folder of the snapshot on this machine.
        items: (uid, name) of its images, sorted.
    """

    name: str
    snapshot: str
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class EvaluationSets:
    """A `Resource`: evaluation sets, and the stages that compute the signatures of their images.

    Attributes:
        sets: The sets; may be empty.
        store: Memo store on this machine, so that hashes and embeddings of a set are computed once.
        stages: The recipe's stages that add hashes and embeddings.
    """

    sets: tuple[EvaluationSet, ...] = ()
    store: str = ""
    stages: tuple[Stage, ...] = ()

    def content_hash(self) -> str:
        """Return a hash of the sets' names and images, which drops name, and of the stages that process them."""
        parts = [sorted([each.name, each.items] for each in self.sets), [stage.fingerprint() for stage in self.stages]]
        return blake3(canonical(parts)).hexdigest(length=16)

    def describe(self) -> str:
        """Return the sets' names."""
        return ", ".join(sorted(item.name for item in self.sets)) or "none"

    def with_stages(self, *stages: Stage) -> EvaluationSets:
        """Return the same sets, processed by these stages."""
        return replace(self, stages=stages)

    def signatures(self, number: int, *, embedded: bool) -> ImageSignatures:
        """Return the signatures of one set's images, computing those that the store does not have.

        Raises:
            InputError: the set's snapshot was removed during the run.
        """
        from curation.engine.engine import run_stages
        from curation.engine.intake import Snapshot
        from curation.engine.replay import WorkUnit, replay
        from curation.engine.store import ALL_SAMPLES

        folder = Path(self.sets[number].snapshot)
        if not (folder / "about.json").is_file():
            raise InputError(
                f"--against {self.sets[number].name}: its snapshot was removed during the run",
                fix="run the same command again",
            )
        snapshot = Snapshot.load(folder)
        done, _ = run_stages(self.stages, snapshot, Path(self.store))
        need = ("hash_windows", "thumbnail", *(("image_embedding",) if embedded else ()))
        unit = WorkUnit(self.stages[-1], tuple(done), snapshot.folder, Path(self.store), ALL_SAMPLES)
        return image_signatures([item.sample for item in replay(unit, need)], embedded=embedded)


def image_signatures(samples: Sequence[Any], *, embedded: bool) -> ImageSignatures:
    """Return the signatures of samples' images."""
    import numpy as np

    column = {name: [sample[name] for sample in samples] for name in ("uid", "hash_windows", "thumbnail")}
    vectors = np.stack([sample["image_embedding"] for sample in samples]) if embedded and samples else None
    thumbnails = np.stack(column["thumbnail"]) if samples else np.zeros((0, 1, 1))
    return ImageSignatures(column["uid"], column["hash_windows"], thumbnails, vectors)


def read_set(spec: str, snapshots: Path) -> EvaluationSet:
    """Read an evaluation set.

    Args:
        spec: ``KIND:PATH``, or ``KIND:PATH#SPLIT``.
        snapshots: Folder of snapshots.

    Raises:
        InputError: there is no such source, or it has no usable samples.
    """
    from curation.engine.intake import read_source
    from curation.sources import open_source

    path, _, split = spec.rpartition("#")
    path, chosen = (path, split) if split in SPLITS and path else (spec, None)
    try:
        source = open_source(path, chosen, snapshots.parent)
        snapshot = read_source(source, snapshots, location=f"{Path.cwd()}|{path}")
    except InputError as error:
        got, fix = (text.replace("--source ", "--against ") for text in (error.got, error.fix))
        got = got if got.startswith("--against ") else f"--against {spec}: {got}"
        fix = fix or "--against takes the same values as --source; #test, #dev or #train at the end selects a split"
        raise InputError(got, allowed=error.allowed, fix=fix) from None
    description = source.describe()
    name = ":".join(str(description[key]) for key in ("kind", "name") if description.get(key))
    items = tuple((sample.uid, sample.name) for sample in snapshot.samples())
    return EvaluationSet(f"{name}#{chosen}" if chosen else name, str(snapshot.folder), items)
