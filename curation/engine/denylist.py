"""The denylist: samples that were forgotten and must not be read again, and the versions removed because of them.

``<manifests>/forgotten.json`` is meant to be committed with the manifests. It holds hashes of uids, no uids and no texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from blake3 import blake3

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError

FORMAT = "clipcurate/forgotten/1"
DENYLIST_FILE = "forgotten.json"
FORGET_PLAN_FILE = "forgetting.json"
"""In the workspace while a forget is running."""

_RESTORE = "restore the file from version control"


def uid_hash(uid: str) -> str:
    """Return what the denylist stores for a uid: BLAKE3-128 of its 16 bytes, hex."""
    return blake3(b"forgotten:" + bytes.fromhex(uid)).hexdigest(length=16)


@dataclass(frozen=True)
class Denylist:
    """Forgotten samples and removed versions.

    Attributes:
        hashes: `uid_hash` of each forgotten sample.
        removed: Removed version (``name@X.Y.Z``) -> its replacement, or None.
    """

    hashes: frozenset[str] = frozenset()
    removed: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def load(cls, manifests: Path) -> Denylist:
        """Read the denylist; without a file it is empty.

        Raises:
            InputError: the file is damaged; ignoring it would read a forgotten photograph again.
        """
        path = manifests / DENYLIST_FILE
        if not path.is_file():
            return cls()
        try:
            body = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}", fix=_RESTORE) from None
        match body:
            case {"format": name, "samples": [*hashes], "removed": dict(removed)} if name == FORMAT:
                if all(isinstance(value, str) for value in hashes):
                    return cls(frozenset(hashes), removed)
        raise InputError(f"{path}: not a list of forgotten samples", allowed=repr(FORMAT), fix=_RESTORE)

    def adding(self, uids: Iterable[str] = (), removed: Mapping[str, str | None] | None = None) -> Denylist:
        """Return the denylist with more entries."""
        return Denylist(self.hashes | {uid_hash(uid) for uid in uids}, {**self.removed, **(removed or {})})

    def save(self, manifests: Path) -> None:
        """Write the denylist atomically; equal contents give equal bytes."""
        body = {
            "format": FORMAT,
            "why": "samples were forgotten: clipcurate forget",
            "samples": sorted(self.hashes),
            "removed": dict(self.removed),
        }
        options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        write_atomically(manifests / DENYLIST_FILE, orjson.dumps(body, option=options))

    def contains(self, uid: str) -> bool:
        """Return whether a sample was forgotten."""
        return bool(self.hashes) and uid_hash(uid) in self.hashes


def check_no_interrupted_forget(workspace: Path) -> None:
    """Check that no forget was interrupted in a workspace.

    Raises:
        InputError: one was; nothing may be built on a half-cleaned workspace.
    """
    if (workspace / FORGET_PLAN_FILE).is_file():
        raise InputError(
            f"{workspace / FORGET_PLAN_FILE}: clipcurate forget was interrupted",
            fix="finish it: clipcurate forget NAME, without uids",
        )
