"""Data sets of Hugging Face's `datasets` library: a name on the hub, or a folder that the library reads or wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

from curation.sources import RecordSplit, Rejected, SourceRecord
from curation.sources.parquet import IMAGE_COLUMNS
from curation.sources.reading.files import SPLITS, FileSource, clean_name, image_in, scan, shown
from curation.sources.reading.query import COLUMN_OPTIONS
from curation.sources.reading.table_columns import TableColumns, find_columns
from data_manifests.deadline import answer_within
from data_manifests.errors import InputError
from data_manifests.hub_access import hub_problem
from data_manifests.sample import ImageRef

ROWS_PER_SPLIT = 2000
"""Rows of a saved data set that are read as one split."""
ANSWER_S = 5.0
"""How long the hub has to answer, looking up its name included."""
DISK_FILES = ("dataset_dict.json", "state.json")
"""A folder that `save_to_disk` wrote has one of these."""

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class _Place:
    """Where a data set is; picklable.

    Attributes:
        path: The folder, or its name on the hub.
        is_disk: Whether `save_to_disk` wrote the folder.
        config: Name of the configuration, or None for the only one.
        revision: The commit on the hub; None for a folder.
        version: Changes when a folder's files do.
    """

    path: str
    is_disk: bool
    config: str | None
    revision: str | None
    version: str


class HfSource(FileSource):
    """``hf:NAME`` on the hub, or ``hf:FOLDER``: written by `save_to_disk`, an imagefolder, or parquet with image structs.

    Rows are streamed: nothing is downloaded or converted ahead. The image is the column of the library's type Image, or one
    that is called as in `parquet`; ``?image=A&caption=B&split=C`` names others, ``config=`` and ``revision=`` choose among
    what the hub has. The library's splits are the splits unless a column says otherwise. Names of classes stand for their
    numbers. Images that a folder names must lie in it.

    Raises:
        InputError: `datasets` is not installed, no such folder, the hub does not answer, or a column is missing.
    """

    kind: ClassVar[str] = "hf"
    OPTIONS: ClassVar[tuple[str, ...]] = (*COLUMN_OPTIONS, "config", "revision")

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        _need_library()
        config = next(iter(self._query.get("config", ())), None)
        folder = Path(self._path)
        self._licence_text: str | None = None
        if folder.is_dir():
            self._root = self._as_text(folder.resolve())
            is_disk = any((self._root / name).is_file() for name in DISK_FILES)
            self._place = _Place(str(self._root), is_disk, config, None, self.signature())
        else:
            self._name = self._path
            self._place = self._on_hub(config)
        self._splits = self._chosen_splits()

    def splits(self) -> list[RecordSplit]:
        """Return one split for each part of each of the library's splits."""
        found = []
        for name in self._splits:
            number = _num_parts(self._place, name)
            found += [RecordSplit(partial(self._records, name, part, number)) for part in range(number)]
        return found

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of a folder's files, or of the commit on the hub."""
        if hasattr(self, "_root"):
            return self._signature(scan(self._root))
        return self._signature([(f"{self._place.path}@{self._place.revision}", 0, 0)])

    def _licence(self) -> str | None:
        """Return the licence that the hub, or the saved data set, names."""
        if self._licence_text is None and self._place.is_disk:
            parts = (_opened(self._place)[name].info.license for name in self._splits)
            return "; ".join(sorted(filter(None, set(parts)))) or None
        return self._licence_text

    def _on_hub(self, config: str | None) -> _Place:
        """Return the place of a name on the hub.

        Raises:
            InputError: it is no name, there is no such data set, or the hub does not answer.
        """
        if not _HUB_NAME.fullmatch(self._path):
            raise self._error(
                "no such folder", allowed="hf:FOLDER, or hf:OWNER/NAME as on the hub", fix="check the path"
            )
        from huggingface_hub import HfApi

        revision = next(iter(self._query.get("revision", ())), None)
        ask = partial(HfApi().dataset_info, self._path, revision=revision, timeout=ANSWER_S)
        problem = hub_problem()
        answer = ConnectionError(problem) if problem else answer_within(ask, ANSWER_S)
        if isinstance(answer, Exception):
            raise self._error(
                f"neither a folder here nor a data set that the hub gives ({_first_line(answer)})",
                allowed="a folder, or OWNER/NAME of a data set that you may read",
                fix="check the name; without a network, save it where there is one: load_dataset(NAME).save_to_disk(FOLDER)",
            ) from answer
        self._licence_text = (answer.card_data or {}).get("license") if answer.card_data else None
        return _Place(self._path, is_disk=False, config=config, revision=answer.sha, version=answer.sha)

    def _chosen_splits(self) -> list[str]:
        """Return the library's splits that are read, and check the columns of each."""
        names = {name: SPLITS.get(name) for name in self._library(_opened, self._place)}
        has_column = {name: self._columns(name).split in _features(self._place, name) for name in names}
        if self._split is None:
            return list(names)
        chosen = [name for name in names if has_column[name] or names[name] == self._split]
        if not chosen:
            raise self._no_split(
                f"{self._name} has no such split; it has {', '.join(map(shown, names))}",
                allowed=", ".join(name for name in names if names[name]) or "a column 'split' with train, dev or test",
                fix="choose one of them",
            )
        return chosen

    def _library(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a call gives; errors of the library are about the path."""
        try:
            return call(*arguments)
        except InputError:
            raise
        except Exception as error:
            raise self._error(
                f"the datasets library cannot open it ({_first_line(error)})",
                allowed="a folder of save_to_disk, an imagefolder, or parquet files; config=NAME where there are several",
                fix="correct what the message says",
            ) from error

    def _columns(self, name: str) -> TableColumns:
        """Return which columns of one of the library's splits are which."""
        columns = _features(self._place, name)
        images = [column for column, kind in columns.items() if type(kind).__name__ == "Image"]
        usual = [column for column in IMAGE_COLUMNS if column in images]
        query = {option: values for option, values in self._query.items() if option in COLUMN_OPTIONS}
        return find_columns(Path(self._name), columns, query, [*usual, *images, *IMAGE_COLUMNS], "the image")

    def _records(self, name: str, part: int, number: int) -> Iterator[SourceRecord | Rejected]:
        """Yield one entry per row of a part of one of the library's splits."""
        columns, features = self._columns(name), _features(self._place, name)
        label = name if number == 1 else f"{name}-{part:05d}"
        rows = self._library(_rows, self._place, name, part, number, columns.image)
        for row_number, row in enumerate(rows):
            entry = self._entry(f"{label}#{row_number}", _named_classes(row, features), columns, SPLITS.get(name))
            if isinstance(entry, Rejected) or self._split in (None, entry.split):
                yield entry

    def _entry(
        self, name: str, row: Mapping[str, Any], columns: TableColumns, split: str | None
    ) -> SourceRecord | Rejected:
        """Return a row's record, or why it has none."""
        try:
            captions, used = columns.captions_of(row)
            split = columns.split_of(row) or split
            attributes = columns.attributes_of(row, used)
        except ValueError as error:
            return Rejected(name, "malformed_line", f"{name}: {shown(str(error))}")
        image, own_name = self._image(row[columns.image])
        if isinstance(image, Rejected):
            return Rejected(image.name or name, image.reason, f"{name}: {image.detail}")
        if not captions:
            return Rejected(own_name or name, "no_captions", f"{name}: no text in {', '.join(columns.captions)}")
        if own_name and not isinstance(image, ImageRef):
            attributes = {"file_name": own_name} | attributes
            own_name = ""
        return SourceRecord(own_name or name, image, captions, split, attributes)

    def _image(self, value: Any) -> tuple[ImageRef | bytes | Rejected, str]:
        """Return a row's image, and its own name if it has one."""
        path = value.get("path") if isinstance(value, Mapping) else value
        data = value.get("bytes") if isinstance(value, Mapping) else value
        if isinstance(data, bytes) and data:
            base = clean_name(path) if isinstance(path, str) and not os.path.isabs(path) else None  # noqa: PTH117
            return data, base or (Path(path).name if isinstance(path, str) else "")
        if not isinstance(path, str) or not path:
            return Rejected("", "missing_image", "neither bytes nor a path"), ""
        if self._place.revision is not None:
            return Rejected(shown(Path(path).name), "missing_image", "the hub's row has a path and no bytes"), ""
        own = os.path.relpath(path, self._root) if path.startswith("/") else path
        image = image_in(self._root, own)
        if isinstance(image, Rejected) and path.startswith("/"):
            return Rejected(shown(Path(path).name), image.reason, image.detail), ""
        return image, own


def _need_library() -> None:
    """Check that `datasets` is there.

    Raises:
        InputError: it is not installed.
    """
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--source hf: the package datasets is not installed ({error})",
            allowed="clipcurate with its extra 'hf'",
            fix="pip install 'clipcurate[hf]'",
        ) from error


@lru_cache(maxsize=4)
def _opened(place: _Place) -> dict[str, Any]:
    """Return the library's splits by name; nothing is read yet."""
    import datasets

    if place.is_disk:
        found: Any = datasets.load_from_disk(place.path)
        return dict(found) if isinstance(found, dict) else {str(found.split or "all"): found}
    options = {} if place.revision is None else {"revision": place.revision}
    return dict(datasets.load_dataset(place.path, place.config, streaming=True, **options))


@lru_cache(maxsize=64)
def _features(place: _Place, name: str) -> Mapping[str, Any]:
    """Return the columns of one of the library's splits with their types."""
    found = _opened(place)[name]
    features = found.features if found.features is not None else found._resolve_features().features  # noqa: SLF001
    return dict(features)


def _num_parts(place: _Place, name: str) -> int:
    """Return in how many parts one of the library's splits is read."""
    found = _opened(place)[name]
    return max(1, -(-len(found) // ROWS_PER_SPLIT) if place.is_disk else found.num_shards)


def _rows(place: _Place, name: str, part: int, number: int, image: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a part; images stay encoded."""
    import datasets

    found = _opened(place)[name]
    if type(_features(place, name)[image]).__name__ == "Image":
        found = found.cast_column(image, datasets.Image(decode=False))
    shard: Any = found.shard(num_shards=number, index=part)
    return iter(shard)


def _named_classes(row: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row in which the names of classes stand for their numbers."""
    return {
        column: features[column].int2str(value)
        if type(features.get(column)).__name__ == "ClassLabel" and isinstance(value, int) and value >= 0
        else value
        for column, value in row.items()
    }


def _first_line(error: BaseException) -> str:
    return shown((str(error).splitlines() or [type(error).__name__])[0], 200)
