"""Open the language model that ``--llm`` names."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from curation.llm.interface import LanguageModel
from data_manifests.errors import InputError

if TYPE_CHECKING:
    from curation.llm.client import ServedModel

ALLOWED = "rules, http://HOST:PORT/v1#MODEL (or https), vllm:MODEL, batch:OUT.jsonl#MODEL"
_MAX_LIST_BYTES = 2**20
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
    try:
        names = offered_models(served.base_url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        return InputError(
            f"--llm '{spec}' has no #MODEL, and {served.host} does not list its models ({reason})",
            allowed=ALLOWED,
            fix="start the server, or add #MODEL",
        )
    more = len(names) - _MAX_MODELS_SHOWN
    shown = ", ".join(names[:_MAX_MODELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    first = names[0] if names else "MODEL"
    return InputError(f"--llm '{spec}' has no #MODEL", allowed=shown or ALLOWED, fix=f"--llm '{spec}#{first}'")


def offered_models(base_url: str) -> list[str]:
    """Return the names of a server's models.

    Raises:
        OSError: the server cannot be reached or rejects the request.
        ValueError: its reply is not a list of models.
    """
    from curation.llm.client import api_key, proxy_for

    key, proxy = api_key(), proxy_for(base_url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{base_url}/models", headers=headers)  # noqa: S310 - the scheme has been checked
    proxies = urllib.request.ProxyHandler({base_url.partition(":")[0]: proxy} if proxy else {})
    opener = urllib.request.build_opener(proxies, _NoRedirect)  # the key must not be sent to another address
    with opener.open(request, timeout=_LIST_TIMEOUT_S) as reply:
        value = orjson.loads(reply.read(_MAX_LIST_BYTES))
    entries = value.get("data") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no list of models")  # noqa: TRY004 - a server's value, not a caller's type
    return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats redirects as errors."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow no redirect."""
