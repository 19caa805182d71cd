"""Compile one graph store from one or several source files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from curation.knowledge.formats import assertions, conceptnet_lite, triples, visual_genome, visualsem
from curation.knowledge.formats.rows import BuildProgress, EdgeRow, Keep, ReadCounts, require_file
from curation.knowledge.store_reader import StoreInfo, open_store
from curation.knowledge.store_writer import publish_store, require_writable
from data_manifests.errors import InputError, nearest

GraphFormat = Literal["assertions", "conceptnet-lite", "visual-genome", "visualsem", "triples"]
_Reader = Callable[[Path, Keep, ReadCounts, BuildProgress], Iterator[EdgeRow]]


class _Format(NamedTuple):
    read: _Reader
    allowed: str
    unit: str


_FORMATS: dict[str, _Format] = {
    "assertions": _Format(assertions.read_assertions, assertions.ALLOWED, "line"),
    "conceptnet-lite": _Format(conceptnet_lite.read_conceptnet_lite, conceptnet_lite.ALLOWED, "edge"),
    "visual-genome": _Format(visual_genome.read_visual_genome, visual_genome.ALLOWED, "image"),
    "visualsem": _Format(visualsem.read_visualsem, visualsem.ALLOWED, "node"),
    "triples": _Format(triples.read_triples, triples.ALLOWED, "line"),
}


@dataclass(frozen=True, slots=True)
class GraphSource:
    """A source to compile.

    Attributes:
        kind: Its format; also the name of the command line's option.
        path: A file, or for Visual Genome and VisualSem a folder.
    """

    kind: GraphFormat
    path: Path

    def files(self) -> list[Path]:
        """Return the files to read.

        Raises:
            InputError: there are none.
        """
        if self.kind == "visual-genome":
            return visual_genome.find_files(self.path)
        if self.kind == "visualsem":
            return visualsem.find_files(self.path)
        return [require_file(self.path, f"--{self.kind}")]


@dataclass(frozen=True)
class Built:
    """The result of a build: the store's info and the counts of each file."""

    info: StoreInfo
    tallies: tuple[ReadCounts, ...]


def build_graph(sources: Sequence[GraphSource], out: Path, keep: Keep, progress: BuildProgress) -> Built:
    """Compile sources into one store at `out`, which appears only when it is complete.

    Raises:
        InputError: a source is missing, of another format or has no usable edge; a relation of `keep` occurs nowhere.
        OSError: the disk is full.
    """
    files = [(source.kind, path) for source in sources for path in source.files()]
    if not files:
        raise InputError("nothing to compile", allowed="one or more of --" + ", --".join(_FORMATS))
    require_writable(out)
    tallies = tuple(ReadCounts(path.name, _FORMATS[kind].unit) for kind, path in files)
    found: set[str] = set()

    def rows() -> Iterator[EdgeRow]:
        for (kind, path), tally in zip(files, tallies, strict=True):
            for row in _FORMATS[kind].read(path, keep, tally, progress):
                found.add(row[1])
                yield row
            # Checked within the stream of rows, so that a bad source ends the build before it is published.
            if not tally.num_kept:
                raise tally.unusable(_FORMATS[kind].allowed)
        if missing := sorted(set(keep.relations) - found):
            other = set().union(*(tally.other_relations for tally in tallies))
            raise InputError(
                f"--relations {','.join(missing)}: no edge of it in {', '.join(tally.name for tally in tallies)}",
                allowed=f"relations as the source spells them {nearest(missing[0], found | other)}".strip(),
                fix="correct or leave out the name",
            )

    publish_store(rows(), out, progress)
    reader = open_store(out)
    try:
        return Built(reader.info(), tallies)
    finally:
        reader.close()
