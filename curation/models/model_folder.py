"""Where a Hugging Face model's files lie, and what they are by content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from data_manifests.errors import InputError


def find_folder(what: str, model: str, revision: str, patterns: Sequence[str], allowed: str) -> Path:
    """Return where a model's files lie, fetching them from the hub if need be.

    Args:
        what: What the model is for, as people say it.
        model: A folder, or a name on the hub.
        revision: Of the hub's repository.
        patterns: The files that are fetched.
        allowed: What a model may be, for the error.

    Raises:
        InputError: it is no folder and the hub does not give it.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        found = snapshot_download(model, revision=revision, allow_patterns=list(patterns))
    except (OSError, ValueError, HFValidationError) as error:
        raise InputError(
            f"{what} '{model}' is no folder and cannot be had from the hub ({type(error).__name__})",
            allowed=allowed,
            fix="give a folder, or go online once",
        ) from None
    return Path(found)


def hash_folder(folder: Path, patterns: Sequence[str], purpose: str) -> str:
    """Return BLAKE3-128 (hex) of the files that match, by name and content, and of what they are used for."""
    digest = blake3(f"{purpose}\n".encode())
    files = [path for pattern in patterns for path in folder.glob(pattern)]
    for path in sorted(files, key=lambda path: path.name):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update_mmap(path)
    return digest.hexdigest(length=16)
