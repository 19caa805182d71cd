"""The manifest: an immutable description of one dataset version, and how to find and open versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from blake3 import blake3

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError, nearest
from data_manifests.shards import sha256_file

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "clipcurate/1"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"\d+(\.\d+){0,2}")


def body_fingerprint(body: Mapping[str, Any]) -> str:
    """Return BLAKE3 (128 bits, hex) of a manifest's body without its ``fingerprint``."""
    rest = {key: value for key, value in body.items() if key != "fingerprint"}
    return blake3(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest(length=16)


@dataclass(frozen=True)
class Manifest:
    """One dataset version: shards, hashes, counts, drop reasons, statistics, lineage.

    The body holds no clock time, host or path, so an equal rebuild is an equal file.
    """

    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Data set's name."""
        return str(self.body["name"])

    @property
    def version(self) -> str:
        """Version as X.Y.Z."""
        return str(self.body["version"])

    @property
    def parent_ref(self) -> str | None:
        """``name@X.Y.Z`` of the parent version, which for a selection is another data set's; None without a parent."""
        parent = self.body["parent"]
        return f"{parent.get('name', self.name)}@{parent['version']}" if parent else None

    @property
    def fingerprint(self) -> str:
        """Hash of the body."""
        return str(self.body["fingerprint"])

    @property
    def num_samples(self) -> int:
        """Samples in this version."""
        return int(self.body["counts"]["samples"])

    @classmethod
    def seal(cls, body: Mapping[str, Any]) -> Manifest:
        """Return a manifest of `body` with its fingerprint filled in."""
        return cls({**body, "fingerprint": body_fingerprint(body)})

    def save(self, path: Path) -> None:
        """Write canonical JSON (sorted keys, two spaces) atomically."""
        write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        return orjson.dumps(self.body, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest and check that it was not edited.

        Raises:
            InputError: not JSON, another format, or the fingerprint does not match the body.
        """
        try:
            body = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}", fix=_RESTORE) from None
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            got = body.get("format") if isinstance(body, dict) else type(body).__name__
            raise InputError(f"{path}: manifest format is {got!r}", allowed=repr(FORMAT))
        actual = body_fingerprint(body)
        if body.get("fingerprint") != actual:
            raise InputError(
                f"{path}: the manifest was edited by hand: its body has fingerprint {actual}, "
                f"it claims {body.get('fingerprint')}",
                allowed="manifests are immutable; a changed data set is a new version",
                fix=_RESTORE,
            )
        return cls(body)


_RESTORE = "restore the file from version control, or remove it and run clipcurate curate again"


@dataclass(frozen=True)
class DatasetVersion:
    """A manifest together with the folder of its shards."""

    manifest: Manifest
    folder: Path

    @property
    def ref(self) -> str:
        """``name@X.Y.Z``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def index(self, columns: list[str] | None = None) -> pa.Table:
        """Return index.parquet: one row per sample, in shard order."""
        return self.table("index.parquet", columns)

    def sidecar(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """Return the parquet file next to a shard: one row per sample, in the shard's order."""
        return self.table(f"{shard:05d}.parquet", columns)

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return a table of this version by its file's name, such as ``dropped.parquet``.

        Raises:
            InputError: the file is missing.
        """
        import pyarrow.parquet as pq

        path = self.folder / name
        if not path.is_file():
            raise InputError(f"{path}: file of {self.ref} is missing", fix="run clipcurate curate again")
        return pq.ParquetFile(path, memory_map=True).read(columns=columns)

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """The manifest's records of the files by name: bytes and sha256."""
        return {record["name"]: record for record in self.manifest.body["files"]}

    def verify(self) -> list[str]:
        """Hash every file again; return one line per file that is missing or differs (empty: all match)."""
        wrong, listed = [], self.records
        for name, record in sorted(listed.items()):
            path = self.folder / name
            if not path.is_file():
                wrong.append(f"{name}: missing")
            elif path.stat().st_size != record["bytes"]:
                wrong.append(f"{name}: {path.stat().st_size} bytes, manifest says {record['bytes']}")
            elif (actual := sha256_file(path)) != record["sha256"]:
                wrong.append(f"{name}: sha256 {actual}, manifest says {record['sha256']}")
        wrong += [
            f"{path.name}: not in the manifest" for path in sorted(self.folder.iterdir()) if path.name not in listed
        ]
        return wrong


@dataclass(frozen=True)
class Catalog:
    """Folders of manifests and shards.

    Attributes:
        manifests: ``<manifests>/<name>/<version>.json``, meant to be committed.
        workspace: ``<workspace>/datasets/<name>/<version>/``, the shards.
    """

    manifests: Path
    workspace: Path

    def manifest_path(self, name: str, version: str) -> Path:
        """Return the path of a version's manifest."""
        return self.manifests / name / f"{version}.json"

    def folder(self, name: str, version: str) -> Path:
        """Return the folder of a version's shards."""
        return self.workspace / "datasets" / name / version

    def names(self) -> list[str]:
        """Return the names of all data sets that have a version."""
        if not self.manifests.is_dir():
            return []
        return sorted(path.name for path in self.manifests.iterdir() if path.is_dir() and self.versions(path.name))

    def versions(self, name: str) -> list[str]:
        """Return a data set's versions, oldest first."""
        found = (path.stem for path in (self.manifests / name).glob("*.json"))
        return sorted((stem for stem in found if re.fullmatch(r"\d+\.\d+\.\d+", stem)), key=version_key)

    def latest(self, name: str) -> Manifest | None:
        """Return the newest version's manifest, or None when there is no version yet."""
        versions = self.versions(name)
        return Manifest.load(self.manifest_path(name, versions[-1])) if versions else None

    def open(self, ref: str) -> DatasetVersion:
        """Open ``name@X.Y.Z``; ``name@X`` and ``name`` mean the newest that fits.

        Raises:
            InputError: no such name or version, or its shards are not in this workspace.
        """
        name, version = self.resolve(ref)
        manifest = Manifest.load(self.manifest_path(name, version))
        folder = self.folder(name, version)
        if not folder.is_dir():
            raise InputError(
                f"{name}@{version}: its manifest is there, its shards are not (looked in {folder})",
                fix="give the right --workspace, or regenerate it with clipcurate curate",
            )
        return DatasetVersion(manifest, folder)

    def resolve(self, ref: str) -> tuple[str, str]:
        """Return the name and full version that a reference means.

        Raises:
            InputError: malformed, or nothing fits.
        """
        name, at, wanted = ref.partition("@")
        if not NAME.fullmatch(name) or (at and not _VERSION.fullmatch(wanted)):
            raise InputError(f"{ref!r} is not a dataset version", allowed="NAME, NAME@X, NAME@X.Y or NAME@X.Y.Z")
        versions = self.versions(name)
        if not versions:
            raise InputError(
                f"no data set named {name!r} under {self.manifests}; {nearest(name, self.names())}".rstrip("; "),
                allowed=", ".join(self.names()) or "(none there yet)",
                fix="clipcurate curate RECIPE --source SRC --name " + name,
            )
        fitting = [version for version in versions if not wanted or f"{version}.".startswith(f"{wanted}.")]
        if not fitting:
            raise InputError(f"{ref}: no such version", allowed=", ".join(f"{name}@{version}" for version in versions))
        return name, fitting[-1]


def check_name(name: str) -> str:
    """Return a data set's name if it is usable as folder and file name.

    Raises:
        InputError: it is not.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"--name {name!r} cannot name a data set",
            allowed="1-64 of a-z 0-9 . _ -, starting with a letter or digit",
        )
    return name


def version_key(version: str) -> tuple[int, ...]:
    """Return a sortable form of X.Y.Z."""
    return tuple(int(part) for part in version.split("."))
