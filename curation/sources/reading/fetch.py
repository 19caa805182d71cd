"""Sources behind a URL: their files are fetched once into the workspace and then read like any others.

Curation reads pictures several times and by byte range, so a copy costs less than asking a server each time; the version has
the same bytes as one made from a copy of one's own. Each file is checked against the server at every run (size, ETag, time)
and fetched again only when it changed. A killed or broken download goes on where it stopped.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from blake3 import blake3
from filelock import BaseFileLock, FileLock

from curation.sources.reading.files import clean_name, expand_braces, shown
from curation.sources.reading.query import split_query
from data_manifests.atomic_files import DRAFT_PREFIX, publish_file
from data_manifests.disk_space import require_free_space
from data_manifests.errors import InputError
from data_manifests.object_store import (
    FIRST_PAUSE_S,
    TRIES,
    MissingFileError,
    RemoteFile,
    RemoteStore,
    TransientError,
    given_up,
    patiently,
    remote_store,
)

FOLDER = "fetched"
"""Of a workspace: copies of files behind URLs, which may be deleted at any time."""
ENDINGS = {"webdataset": ".tar", "parquet": ".parquet", "csv": ""}
"""Source kinds that take a URL -> the ending of their files."""
MAX_PICTURE_BYTES = 256 << 20
"""A picture that a table names and that is larger is not fetched; the intake rejects it by its size."""
_AT_ONCE = 8
_LONG_NAME = 1024
_MAGIC = re.compile(r"[*\[]")
_SPECIAL = re.compile(r"[*\[{]")
_MAX_NAMES = 8


@dataclass
class FetchedFiles:
    """Copies of the files of one source.

    Attributes:
        path: What stands for the URL after ``KIND:``, options included.
        folders: Folder of copies -> the URL whose files they are.
        num_fetched: Files that were fetched now.
        num_kept: Files that were here already.
        num_bytes: Bytes that were fetched now.
    """

    path: str = ""
    folders: dict[Path, str] = field(default_factory=dict)
    num_fetched: int = 0
    num_kept: int = 0
    num_bytes: int = 0

    def note(self) -> str:
        """Return a sentence about what was fetched."""
        url = next(iter(self.folders.values()))
        return (
            f"{self.num_fetched} files ({self.num_bytes / 2**20:.1f} MiB) fetched from {url}, "
            f"{self.num_kept} were here and unchanged"
        )

    def in_urls(self, text: str) -> str:
        """Return a message with the URLs in the place of the copies."""
        for folder, url in self.folders.items():
            text = text.replace(str(folder), url)
        return text


def fetch_source(kind: str, path: str, folder: Path) -> FetchedFiles:
    """Fetch the files that a URL stands for.

    Args:
        kind: The source's kind.
        path: The text after ``KIND:``: URLs of files, an s3 folder or pattern, braces, several joined by ``::``.
        folder: Where copies are kept.

    Raises:
        InputError: the kind takes no URL, there is no such file, the server refuses or does not answer, or the disk is full.
    """
    base, options = split_query(path)
    given = f"--source {kind}:{path}"
    if kind not in ENDINGS:
        raise InputError(
            f"{given}: {kind} does not read URLs",
            allowed=", ".join(f"{name}:s3://... or {name}:https://..." for name in ENDINGS),
            fix="download the files and give their folder",
        )
    if "?" in base:
        raise InputError(
            f"{given.partition('?')[0]}: the URL has a query",
            allowed="URLs without ?; after it come the source's own options, such as ?caption=NAME",
            fix="put credentials into the environment instead of a signed URL, or download the file",
        )
    found = FetchedFiles()
    parts = base.split("::")
    if not ENDINGS[kind] and len(parts) > 1:
        raise InputError(
            f"{given}: several URLs", allowed=f"{kind}:URL of one file", fix="give the URL of the table alone"
        )
    local = []
    for part in parts:
        store, url = remote_store(part), part.rstrip("/")
        special = _SPECIAL.search(url)
        above = url[: special.start() if special else None].rpartition("/")[0]
        home = folder.absolute() / blake3(above.encode()).hexdigest(length=8)
        found.folders[home] = above
        with _locked(home):
            copies = _Copies(store, home, above, found)
            copies.fetch(list(_files_at(store, url, ENDINGS[kind], given)))
            if not special and not _is_file(url, ENDINGS[kind]):
                copies.remove_others(home / url[len(above) + 1 :], ENDINGS[kind])
        local.append(str(home / url[len(above) + 1 :]))
    found.path = "::".join(local) + options
    return found


def fetch_pictures(names: Iterable[tuple[Path, str]], found: FetchedFiles) -> None:
    """Fetch the pictures that tables name; those that are not there are left out.

    Args:
        names: Folder of a table's copy, and a name as the table has it; names that lead out of the folder are not followed.
        found: The copies of the tables; counts are added.

    Raises:
        InputError: the server refuses or does not answer, or the disk is full.
    """
    wanted: dict[Path, set[str]] = {home: set() for home in found.folders}
    for folder, text in names:
        home = next(home for home in wanted if folder.is_relative_to(home))
        if len(text) <= _LONG_NAME and (name := clean_name(text)) is not None:
            wanted[home].add((folder.relative_to(home) / name).as_posix())
    for home, clean in wanted.items():
        with _locked(home):
            copies = _Copies(remote_store(found.folders[home]), home, found.folders[home], found)
            copies.fetch(copies.described(sorted(clean)), MAX_PICTURE_BYTES)


def _files_at(store: RemoteStore, url: str, ending: str, given: str) -> Iterator[RemoteFile]:
    """Yield the files that a URL, an s3 folder or pattern stands for, braces expanded."""
    for one in expand_braces(url):
        try:
            if _is_file(one, ending):
                yield patiently(one, lambda one=one: store.describe(one))  # type: ignore[misc]
                continue
        except MissingFileError as error:
            raise InputError(f"{given}: {error}", fix="check the URL") from None
        prefix = one[: found.start()].rpartition("/")[0] if (found := _MAGIC.search(one)) else one
        names: list[str] = []
        num_found = 0
        for file in store.below(f"{prefix}/"):
            name = file.url[len(prefix) + 1 :]
            names += [shown(name, 60)] if len(names) < _MAX_NAMES else []
            wanted = _matches(file.url, one) if found else not any(part.startswith(".") for part in name.split("/"))
            if wanted and name.endswith(ending):
                num_found += 1
                yield file
        if not num_found:
            raise InputError(
                f"{given}: no *{ending} object there",
                allowed=f"a URL that ends in {ending}, an s3 folder of them, a pattern with *, or {{00000..00003}}{ending}",
                fix=f"check the URL; there are: {', '.join(names)}" if names else "check the URL: nothing is there",
            )


def _is_file(url: str, ending: str) -> bool:
    """Return whether a URL names one file: always where it is a table, otherwise by its ending."""
    return not ending or (url.endswith(ending) and not _MAGIC.search(url))


def _matches(url: str, pattern: str) -> bool:
    """Return whether a URL fits a pattern, whose ``*`` stands for no slash."""
    names, patterns = url.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


class _Copies:
    """Copies of files below one URL in one folder.

    Args:
        store: What reads the URL.
        home: The folder.
        above: The URL.
        found: Counts are added here.
    """

    def __init__(self, store: RemoteStore, home: Path, above: str, found: FetchedFiles) -> None:
        self._store, self._home, self._above, self._found = store, home, above, found
        self._stopped = threading.Event()
        self._paths: dict[Path, RemoteFile] = {}

    def described(self, names: list[str]) -> list[RemoteFile]:
        """Return those of the files that are there; copies of others are removed."""

        def one(name: str) -> RemoteFile | None:
            url = f"{self._above}/{name}"
            try:
                return patiently(url, lambda: self._store.describe(url))
            except MissingFileError:
                (self._home / name).unlink(missing_ok=True)
                return None

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return [file for file in threads.map(one, names) if file is not None]

    def fetch(self, files: list[RemoteFile], most_bytes: int | None = None) -> None:
        """Fetch files unless their copies are here; several at once.

        Args:
            files: The files.
            most_bytes: A larger file is not fetched: its copy is a hole of its size.
        """
        self._paths |= {self._path(file): file for file in files}
        missing = {path: file for path, file in self._paths.items() if not _is_here(path, file)}
        sizes = [0 if _is_over(file, most_bytes) else file.size_bytes for file in missing.values()]
        require_free_space(self._home, sum(sizes))
        for folder in {path.parent for path in missing}:
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            running = [threads.submit(self._fetch, file, path, most_bytes) for path, file in missing.items()]
            try:
                for done in running:
                    done.result()
            except BaseException:
                self._stopped.set()
                threads.shutdown(cancel_futures=True)
                raise
        self._found.num_kept += len(self._paths) - len(missing)
        self._found.num_fetched += len(missing)
        self._found.num_bytes += sum(sizes)

    def remove_others(self, folder: Path, ending: str) -> None:
        """Remove copies with an ending that are no longer behind the URL."""
        for old in folder.rglob(f"*{ending}"):
            if old not in self._paths:
                old.unlink()

    def _path(self, file: RemoteFile) -> Path:
        name = file.url[len(self._above) + 1 :]
        if clean_name(name) != name:
            raise InputError(
                f"{shown(file.url)}: this name cannot be a file's name here",
                allowed="names without .., // and \\",
                fix="rename the object",
            )
        return self._home / PurePosixPath(name)

    def _fetch(self, file: RemoteFile, path: Path, most_bytes: int | None) -> None:
        """Fetch one file; what has come stays when the connection breaks, also for the next run."""
        part = path.with_name(f"{DRAFT_PREFIX}{path.name}.{_stamp(file)}")
        part.touch()
        tries, most, why = 0, part.stat().st_size, ""
        if _is_over(file, most_bytes):
            os.truncate(part, file.size_bytes)
        while part.stat().st_size != file.size_bytes:
            if tries == TRIES:
                raise given_up(file.url, f"{why} ({most:,} of {file.size_bytes:,} bytes are here)")
            if tries:
                time.sleep(FIRST_PAUSE_S * 2 ** (tries - 1))
            try:
                self._go_on(file, part)
            except MissingFileError as error:
                raise InputError(f"{error}: it was there when the run began", fix="run again") from None
            except TransientError as error:
                why = str(error)
            tries, most = (tries + 1, most) if (size := part.stat().st_size) <= most else (1, size)
        os.utime(part, ns=(_stamp(file), _stamp(file)))
        publish_file(part, path)

    def _go_on(self, file: RemoteFile, part: Path) -> None:
        """Read on where a part ends.

        Raises:
            TransientError: not everything came.
        """
        start, blocks = self._store.open(file, part.stat().st_size)
        with part.open("r+b") as out:
            out.truncate(start)
            out.seek(start)
            for block in blocks:
                if self._stopped.is_set():
                    raise InputError(f"{file.url}: stopped, because another file could not be fetched")
                out.write(block)
                if out.tell() > file.size_bytes:
                    out.truncate(0)
                    raise TransientError(f"more than the {file.size_bytes:,} bytes that the server said came")
            if out.tell() < file.size_bytes:
                raise TransientError("the connection ended early")


def _stamp(file: RemoteFile) -> int:
    """Return the modification time of a copy, ns: the file's own, and in its nanoseconds what the ETag is."""
    tag = int.from_bytes(blake3(file.tag.encode()).digest(length=8), "big") % 10**9 if file.tag else 0
    return file.mtime_s * 10**9 + tag


def _is_over(file: RemoteFile, most_bytes: int | None) -> bool:
    return most_bytes is not None and file.size_bytes > most_bytes


def _is_here(path: Path, file: RemoteFile) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size == file.size_bytes and found.st_mtime_ns == _stamp(file)


def _locked(home: Path) -> BaseFileLock:
    """Return the lock of a folder of copies: two runs do not fetch the same files at once."""
    home.mkdir(parents=True, exist_ok=True)
    return FileLock(home / ".lock")
