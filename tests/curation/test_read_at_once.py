"""Two runs that read one source into one workspace at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.engine import intake
from curation.engine.intake import Snapshot, read_source
from curation.sources.scenes import SCENES_PER_SPLIT, ScenesSource
from data_manifests.atomic_files import publish_folder

SOURCE = ScenesSource("6@1")
IN_PARTS = ScenesSource(f"{SCENES_PER_SPLIT + 1}@1")


def read(root: Path, source: ScenesSource = SOURCE, processes: Any = map) -> Snapshot:
    return read_source(source, root, location="here", processes=processes)


def test_a_snapshot_that_another_run_has_finished_meanwhile_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "ALONE_S", -1.0)
    theirs: list[tuple[Path, int]] = []

    def while_another_run_finishes(call: Callable[..., Any], *jobs: Iterable[Any]) -> Iterator[Any]:
        folder = read(tmp_path, IN_PARTS).folder
        theirs.append((folder, folder.stat().st_ino))
        return map(call, *jobs)

    ours = read(tmp_path, IN_PARTS, while_another_run_finishes)
    assert [(ours.folder, ours.folder.stat().st_ino)] == theirs, "it may be reading it"
    assert len(ours.samples()) == IN_PARTS.count
    assert [path.name for path in tmp_path.iterdir()] == [ours.folder.name], "nothing of the second reading is left"


def test_a_snapshot_that_appears_at_the_last_moment_stays_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: list[int] = []

    def after_another_run(draft: Path, folder: Path) -> None:
        monkeypatch.setattr(intake, "publish_folder", publish_folder)
        read(tmp_path)
        theirs.append(folder.stat().st_ino)
        publish_folder(draft, folder)

    monkeypatch.setattr(intake, "publish_folder", after_another_run)
    ours = read(tmp_path)
    assert [ours.folder.stat().st_ino] == theirs and len(ours.samples()) == 6
    assert [path.name for path in tmp_path.iterdir()] == [ours.folder.name]


def test_a_folder_that_cannot_be_put_in_its_place_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_draft: Path, folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(intake, "publish_folder", refuse)
    with pytest.raises(PermissionError):
        read(tmp_path)
