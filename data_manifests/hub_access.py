"""Whether the Hugging Face Hub answers. Where it does not, its client works from its cache alone, instead of trying for minutes."""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
from collections.abc import Iterator
from typing import Any

from data_manifests.deadline import answer_within

ANSWER_S = 5.0
"""How long the hub has to answer, looking up its name included."""


@functools.cache
def hub_problem() -> str:
    """Return why the hub cannot be asked, empty if it answers; asked once in a process.

    If it does not answer in 5 seconds, `huggingface_hub` (and what stands on it) finds only cached files from then on, at once.
    """
    import huggingface_hub.utils
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    tools: Any = huggingface_hub.utils
    answer = answer_within(lambda: tools.get_session().head(constants.ENDPOINT, timeout=ANSWER_S), ANSWER_S)
    if not isinstance(answer, Exception):
        return ""
    constants.HF_HUB_OFFLINE = True
    problem = next(iter(str(answer).splitlines()), "") or type(answer).__name__
    return f"{constants.ENDPOINT} cannot be reached: {problem}"


@contextlib.contextmanager
def asking_the_hub() -> Iterator[str]:
    """Give `hub_problem`; where there is one, other clients wait 5 seconds at most, and log nothing of their own."""
    problem, timeout, disabled = hub_problem(), socket.getdefaulttimeout(), logging.root.manager.disable
    try:
        if problem:
            socket.setdefaulttimeout(ANSWER_S)
            logging.disable(logging.ERROR)
        yield problem
    finally:
        socket.setdefaulttimeout(timeout)
        logging.disable(disabled)
