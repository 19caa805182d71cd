"""Open the language model that ``--llm`` names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from curation.llm.interface import LanguageModel
from data_manifests.errors import InputError

if TYPE_CHECKING:
    from curation.llm.client import ServedModel

ALLOWED = "rules, http://HOST:PORT/v1#MODEL (or https), vllm:MODEL, batch:OUT.jsonl#MODEL"
_LIST_TIMEOUT_S = 5.0
_MAX_MODELS_SHOWN = 12


def open_language_model(spec: str, journal: str | Path, slots: int = 16) -> LanguageModel | None:
    """Return the model that a spec names; None for ``rules``, which uses no model.

    Args:
        spec: See `ALLOWED`.
        journal: Path of the journal of answers.
        slots: Maximum number of concurrent requests to a server.

    Raises:
        InputError: the spec has none of these forms, or names no model.
    """
    if spec == "rules":
        return None
    kind, _, rest = spec.partition(":")
    shown = re.sub(r"//[^/@]*@", "//...@", spec)
    target, _, model = spec.partition("#")
    if kind in ("http", "https"):
        from curation.llm.client import ServedModel

        served = ServedModel(model or "unnamed", target.rstrip("/"), str(journal), slots)  # checks the address first
        if not model:
            raise _no_model(spec.rstrip("#"), served)
        return served
    if kind == "vllm" and rest:
        from curation.llm.vllm_engine import VllmModel

        return VllmModel(rest, str(journal))
    if kind == "batch" and model and len(target) > len("batch:"):
        from curation.llm.batch_files import BatchModel

        return BatchModel(model, str(Path(target.removeprefix("batch:")).absolute()), str(journal))
    raise InputError(
        f"--llm '{shown}' is not a language model",
        allowed=ALLOWED,
        fix="for example --llm http://localhost:8000/v1#MODEL",
    )


def _no_model(spec: str, served: ServedModel) -> InputError:
    import asyncio  # here: it brings ssl, and every list of recipes imports this module

    try:
        names = asyncio.run(_offered_models(served))
    except ValueError as error:
        return InputError(
            f"--llm '{spec}' has no #MODEL, and {served.host} does not list its models ({error})",
            allowed=ALLOWED,
            fix="start the server, or add #MODEL",
        )
    more = len(names) - _MAX_MODELS_SHOWN
    shown = ", ".join(names[:_MAX_MODELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    first = names[0] if names else "MODEL"
    return InputError(f"--llm '{spec}' has no #MODEL", allowed=shown or ALLOWED, fix=f"--llm '{spec}#{first}'")


async def _offered_models(served: ServedModel) -> list[str]:
    from curation.llm.client import HttpClient

    async with HttpClient(replace(served, timeout_s=_LIST_TIMEOUT_S)) as client:
        return await client.models()
