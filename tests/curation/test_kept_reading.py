"""A reading that was killed goes on: what it had read is not read again, and the snapshot has the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from curation.engine import intake
from curation.engine.denylist import Denylist
from curation.engine.intake import read_source
from curation.sources import RecordSplit, Rejected, SourceRecord
from data_manifests.sample import ImageRef, image_uid

NUM_PARTS, RECORDS_EACH = 10, 40


@dataclass(frozen=True)
class Parts:
    """A source in parts, one of which kills its reader; each part that is read leaves a line in a file.

    Attributes:
        log: The file.
        deadly: The part that kills; -1 for none.
        state: What its signature says.
    """

    log: Path
    deadly: int = -1
    state: str = "1"
    kind: ClassVar[str] = "parts"

    def splits(self) -> list[RecordSplit]:
        return [RecordSplit(partial(self._read, number)) for number in range(NUM_PARTS)]

    def signature(self) -> str:
        return self.state

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind}

    def _read(self, part: int) -> Iterator[SourceRecord | Rejected]:
        with self.log.open("a") as file:
            file.write(f"{part}\n")
        for number in range(RECORDS_EACH):
            if part == self.deadly and number == RECORDS_EACH // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            stored = self.log.parent / "picture"
            picture = b"%d" % (part * 30 + number)  # neighbours share pictures
            yield SourceRecord(
                f"{part}/{number}", picture if number % 2 else ImageRef(str(stored), part, number + 1), ("a dog", "")
            )
        yield Rejected(f"{part}/none", "missing_image", "it is not there")


def read(root: Path, source: Parts, **options: Any) -> dict[str, bytes]:
    """Read as if the source were large; return the snapshot's files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "ALONE_S", -1.0)
        folder = read_source(source, root, location="here", **options).folder  # type: ignore[arg-type]
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill(root: Path, source: Parts) -> None:
    process = multiprocessing.get_context("spawn").Process(target=read, args=(root, source))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def parts_read(log: Path) -> list[int]:
    found = [int(line) for line in log.read_text().split()]
    log.unlink()
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "picture").write_bytes(bytes(range(100)))
    return tmp_path / "log"


def test_a_reading_killed_at_nine_tenths_reads_the_last_tenth(tmp_path: Path, log: Path) -> None:
    whole = read(tmp_path / "a", Parts(log))
    moved = tmp_path / "whole"
    (tmp_path / "a").rename(moved)
    assert parts_read(log) == list(range(NUM_PARTS))
    kill(tmp_path / "a", Parts(log, deadly=9))
    assert parts_read(log) == list(range(NUM_PARTS))
    shutil.copytree(tmp_path / "a", tmp_path / "left")
    assert read(tmp_path / "a", Parts(log)) == whole
    assert parts_read(log) == [9]
    assert [path.name for path in (tmp_path / "a").iterdir()] == [path.name for path in moved.iterdir()]
    # a file that is not whole is not trusted, and what was forgotten meanwhile is not taken
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "left").rename(tmp_path / "a")
    (rows,) = (tmp_path / "a").glob(".tmp-*/rows/000003-*.arrow")
    rows.write_bytes(rows.read_bytes()[:-1])
    denylist = Denylist().adding([image_uid(b"1")])
    shutil.copytree(tmp_path / "a", tmp_path / "left")
    assert read(tmp_path / "a", Parts(log)) == whole
    assert parts_read(log) == [3, 9]
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "left").rename(tmp_path / "a")
    forgotten = read(tmp_path / "a", Parts(log), denylist=denylist)
    assert parts_read(log) == list(range(NUM_PARTS))
    assert forgotten != whole
    assert len(list((tmp_path / "a").iterdir())) == 1, "what was left of the other reading is gone"


def test_what_is_left_of_a_changed_source_is_removed(tmp_path: Path, log: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        read(tmp_path / "a", Parts(log), processes=lambda work, parts: map(_failing(work), parts))
    assert parts_read(log) == [0, 1, 2]
    (left,) = (tmp_path / "a").iterdir()
    read(tmp_path / "a", Parts(log, state="2"))
    assert parts_read(log) == list(range(NUM_PARTS))
    assert len(list((tmp_path / "a").iterdir())) == 1 and not left.exists()


def test_a_run_beside_one_that_reads_has_a_folder_of_its_own(tmp_path: Path, log: Path) -> None:
    found: list[dict[str, bytes]] = []

    def another(work: Any, parts: Any) -> Iterator[Any]:
        yield from map(work, list(parts)[:-1])
        found.append(read(tmp_path / "a", Parts(log)))
        yield work((NUM_PARTS - 1, Parts(log).splits()[-1]))

    assert read(tmp_path / "a", Parts(log), processes=another) == found[0]
    assert len(list((tmp_path / "a").iterdir())) == 1


def _failing(work: Any) -> Any:
    return lambda part: work(part) if part[0] < 3 else 1 // 0
