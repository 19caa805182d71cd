"""Uploads of exported folders to the Hugging Face Hub; a hub that does not answer is known before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from data_manifests.deadline import answer_within
from data_manifests.errors import InputError

ANSWER_S = 5.0
"""How long the hub has to answer, looking up its name included."""


def check_hub(repo: str) -> None:
    """Check that the hub answers and knows who is asking.

    Args:
        repo: ``OWNER/NAME``, or ``NAME`` of one's own.

    Raises:
        InputError: no answer in 5 seconds, no token, a token that is refused, or a name that is none.
    """
    import huggingface_hub.utils
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError

    tools: Any = huggingface_hub.utils
    try:
        tools.validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"--push {repo!r}: {error}", allowed="OWNER/NAME", fix="correct the name") from error
    url = f"{constants.ENDPOINT}/api/whoami-v2"
    answer = answer_within(
        lambda: tools.get_session().get(url, headers=tools.build_hf_headers(), timeout=ANSWER_S), ANSWER_S
    )
    if isinstance(answer, Exception):
        problem = str(answer).splitlines()[0] if str(answer) else type(answer).__name__
        raise InputError(
            f"--push {repo}: the hub at {constants.ENDPOINT} cannot be reached ({problem})",
            allowed="a machine with access to the hub",
            fix="leave --push out, and upload the folder from such a machine: hf upload REPO DIR",
        )
    if answer.status_code != 200:
        raise InputError(
            f"--push {repo}: the hub at {constants.ENDPOINT} does not know you (status {answer.status_code})",
            allowed="a token that may write",
            fix="hf auth login, or the environment variable HF_TOKEN",
        )


def upload(folder: Path, repo: str, kind: Literal["model", "dataset"]) -> str:
    """Upload a folder as one commit, and return its address; a repository that is new is private.

    Raises:
        InputError: the hub refused, or the connection broke; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        made = hub.create_repo(repo, repo_type=kind, private=True, exist_ok=True)
        hub.upload_folder(
            folder_path=folder, repo_id=made.repo_id, repo_type=kind, commit_message="Export of clipcurate"
        )
    except Exception as error:
        problem = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"--push {repo}: the upload failed ({problem}); {folder} is complete",
            allowed="a repository that you may write to",
            fix=f"hf upload {repo} {folder}" + (" --repo-type dataset" if kind == "dataset" else ""),
        ) from error
    return str(made)
