"""Evaluation sets that training data must not hold, known by the content of their pictures."""

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
    """One set, read into a snapshot.

    Attributes:
        name: What it is called, without folders.
        snapshot: Folder of the snapshot on this machine.
        items: (uid, name) of its pictures, sorted.
    """

    name: str
    snapshot: str
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class EvaluationSets:
    """A `Resource`: sets, and the stages through which their pictures are seen.

    Attributes:
        sets: None is allowed: then nothing leaks.
        store: Memo store on this machine; hashes and embeddings of a set are computed once.
        makers: Stages that add what is compared, the same as in the recipe.
    """

    sets: tuple[EvaluationSet, ...] = ()
    store: str = ""
    makers: tuple[Stage, ...] = ()

    def content_hash(self) -> str:
        """Return a hash of names and pictures, which drops tell of, and of what makes their hashes and embeddings."""
        parts = [sorted([each.name, each.items] for each in self.sets), [stage.fingerprint() for stage in self.makers]]
        return blake3(canonical(parts)).hexdigest(length=16)

    def describe(self) -> str:
        """Return the sets' names."""
        return ", ".join(sorted(item.name for item in self.sets)) or "none"

    def through(self, *makers: Stage) -> EvaluationSets:
        """Return the same sets, seen through these stages."""
        return replace(self, makers=makers)

    def see(self, number: int, *, embedded: bool) -> ImageSignatures:
        """Return one set's pictures as detectors see them; what the store lacks is computed.

        Raises:
            InputError: the set was changed or removed while the data set was being made.
        """
        from curation.engine.engine import run_stages
        from curation.engine.intake import Snapshot
        from curation.engine.replay import ALL_SAMPLES, WorkUnit, replay

        folder = Path(self.sets[number].snapshot)
        if not (folder / "about.json").is_file():
            raise InputError(f"--against {self.sets[number].name}: its snapshot is gone", fix="run the same again")
        snapshot = Snapshot.load(folder)
        done, _ = run_stages(self.makers, snapshot, Path(self.store))
        need = ("hash_windows", "thumbnail", *(("image_embedding",) if embedded else ()))
        unit = WorkUnit(self.makers[-1], tuple(done), snapshot.folder, Path(self.store), ALL_SAMPLES)
        return image_signatures([item.sample for item in replay(unit, need)], embedded=embedded)


def image_signatures(samples: Sequence[Any], *, embedded: bool) -> ImageSignatures:
    """Return samples as detectors see them."""
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
        InputError: no such source, or nothing usable in it.
    """
    from curation.engine.intake import read_source
    from curation.sources import open_source

    place, mark, split = spec.rpartition("#")
    place, chosen = (place, split) if mark and split in SPLITS else (spec, None)
    try:
        source = open_source(place, chosen)
        snapshot = read_source(source, snapshots, location=f"{Path.cwd()}|{place}")
    except InputError as error:
        fix = error.fix or "--against takes the same as --source, with #test, #dev or #train for one split"
        raise InputError(f"--against {spec}: {error.got}", allowed=error.allowed, fix=fix) from None
    told = source.describe()
    name = ":".join(str(told[key]) for key in ("kind", "name") if told.get(key))
    items = tuple((sample.uid, sample.name) for sample in snapshot.samples())
    return EvaluationSet(f"{name}#{chosen}" if chosen else name, str(snapshot.folder), items)
