"""What commands wrote outside a workspace (runs, pages, exports ...): listed in it, so that `forget` knows where to look."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from data_manifests.errors import InputError

OUTPUTS_FILE = "outputs.jsonl"


def record_output(workspace: Path, path: Path, command: str) -> None:
    """Add a file or folder to the list, once; not where nobody can forget: in no workspace, or in one that is read-only here.

    Args:
        workspace: The workspace whose texts or images it has.
        path: What is written.
        command: What writes it.
    """
    listed = workspace / OUTPUTS_FILE
    line = orjson.dumps({"command": command, "path": str(path.absolute())}, option=orjson.OPT_APPEND_NEWLINE)
    if not os.access(workspace, os.W_OK) or (listed.is_file() and line in listed.read_bytes()):
        return
    with open(listed, "ab") as file:
        file.write(line)


def recorded_outputs(workspace: Path) -> list[tuple[Path, str]]:
    """Return path and command of every output that still exists, in the order of writing.

    Raises:
        InputError: the list is damaged.
    """
    listed = workspace / OUTPUTS_FILE
    found = []
    for number, line in enumerate(listed.read_bytes().splitlines() if listed.is_file() else (), start=1):
        try:
            entry = orjson.loads(line)
            path, command = Path(entry["path"]), str(entry["command"])
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(
                f"{listed}:{number}: not a line of the list of outputs: {error}",
                allowed='{"command": ..., "path": ...}',
                fix="delete the line; forget does not search what it named",
            ) from error
        if path.exists():
            found.append((path, command))
    return found
