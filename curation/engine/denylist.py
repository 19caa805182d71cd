"""The list of what must not be taken in again, and of the versions that went because of it.

``<manifests>/forgotten.json`` is meant to be committed like the manifests. It holds hashes of uids, no uids and no words.
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
"""In the workspace while a forget is under way."""

_RESTORE = "restore the file from version control"


def uid_hash(uid: str) -> str:
    """Return what the list holds of a uid: BLAKE3-128 of its 16 bytes, hex."""
    return blake3(b"forgotten:" + bytes.fromhex(uid)).hexdigest(length=16)


@dataclass(frozen=True)
class Denylist:
    """The list.

    Attributes:
        marks: Of the samples that are refused.
        removed: Version that went (``name@X.Y.Z``) -> version that took its place, or None.
    """

    marks: frozenset[str] = frozenset()
    removed: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def load(cls, manifests: Path) -> Denylist:
        """Read the list; without a file nothing is forgotten.

        Raises:
            InputError: the file is not such a list: guessing would take a forgotten photograph in again.
        """
        path = manifests / DENYLIST_FILE
        if not path.is_file():
            return cls()
        try:
            body = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}", fix=_RESTORE) from None
        known = body.get("format") == FORMAT if isinstance(body, dict) else False
        marks, removed = (body.get("samples"), body.get("removed")) if known else (None, None)
        if not (isinstance(marks, list) and all(isinstance(one, str) for one in marks) and isinstance(removed, dict)):
            raise InputError(f"{path}: not a list of forgotten samples", allowed=repr(FORMAT), fix=_RESTORE)
        return cls(frozenset(marks), removed)

    def adding(self, uids: Iterable[str] = (), removed: Mapping[str, str | None] | None = None) -> Denylist:
        """Return the list with more on it."""
        return Denylist(self.marks | {uid_hash(uid) for uid in uids}, {**self.removed, **(removed or {})})

    def save(self, manifests: Path) -> None:
        """Write the list atomically; equal lists give equal bytes."""
        body = {
            "format": FORMAT,
            "why": "samples were forgotten: clipcurate forget",
            "samples": sorted(self.marks),
            "removed": dict(self.removed),
        }
        options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        write_atomically(manifests / DENYLIST_FILE, orjson.dumps(body, option=options))

    def contains(self, uid: str) -> bool:
        """Whether a sample is to be refused."""
        return bool(self.marks) and uid_hash(uid) in self.marks


def check_no_interrupted_forget(workspace: Path) -> None:
    """Check that no forget was interrupted in a workspace.

    Raises:
        InputError: one was; what it left half done must not be built upon.
    """
    if (workspace / FORGET_PLAN_FILE).is_file():
        raise InputError(
            f"{workspace / FORGET_PLAN_FILE}: a forget was interrupted",
            fix="finish it: clipcurate forget NAME, without uids",
        )
