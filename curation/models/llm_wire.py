"""One attempt over HTTP: bytes out, a bounded number of bytes back, and a verdict about them."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from yarl import URL

from curation.models.language_model import Answer, Failure, Request
from curation.models.llm_journal import shortened
from curation.models.llm_replies import (
    Fault,
    complains_about_model,
    complains_about_structure,
    error_message,
    read_reply,
)
from data_manifests.errors import InputError

if TYPE_CHECKING:
    from curation.models.llm_server import ServedModel

_CONNECT_S = 10.0
_MAX_ERROR_BYTES = 2**16


class Wire:
    """A session with one server.

    Args:
        served: Address and limits.
        key: The API key, or None.
        proxy: The proxy's address, or None.
    """

    def __init__(self, served: ServedModel, key: str | None, proxy: str | None) -> None:
        self._served, self._key, self._proxy = served, key, proxy
        self._base = served.base_url.rstrip("/")
        self._urls = {name: URL(f"{self._base}/{name}") for name in ("completions", "chat/completions")}

    async def __aenter__(self) -> Self:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._served.slots),
            timeout=aiohttp.ClientTimeout(total=self._served.timeout_s, sock_connect=_CONNECT_S),
            headers=headers,
            auto_decompress=False,  # nothing compressed was asked for, and small bytes may swell
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def post(self, request: Request, body: bytes, *, proven: bool) -> Answer | Failure | Fault:
        """Make one attempt.

        Args:
            request: What is asked.
            body: Its body as bytes.
            proven: The server has answered before: a complaint is then about this request, not about the kind.

        Raises:
            InputError: the server refuses the key, the model or the kind of request.
        """
        try:
            async with self._session.post(
                self._urls[request.endpoint], data=body, allow_redirects=False, proxy=self._proxy
            ) as reply:
                limit = self._served.max_answer_bytes if reply.status == 200 else _MAX_ERROR_BYTES
                data = await _read(reply, limit)
                if reply.status != 200:
                    return self._verdict(request, reply, data or b"", proven=proven)
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
            raise InputError(
                f"the server at {self._served.host} shows a certificate that cannot be trusted: {type(error).__name__}",
                fix="check the address, or set SSL_CERT_FILE to your authority's certificate",
            ) from error
        except aiohttp.ClientConnectorError as error:
            detail = error.os_error.strerror or type(error.os_error).__name__
            return Fault("unreachable", detail)
        except TimeoutError:
            return Fault("timeout", f"no complete answer within {self._served.timeout_s:g} s")
        except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError) as error:
            return Fault("connection_lost", type(error).__name__)
        if data is None:
            return Fault("answer_too_large", f"more than {limit} bytes")
        return read_reply(request.endpoint, data)

    def _verdict(
        self, request: Request, reply: aiohttp.ClientResponse, data: bytes, *, proven: bool
    ) -> Failure | Fault:
        """Say what an error status means: try again, give up this request, or stop the run."""
        status, host = reply.status, self._served.host
        message = error_message(data)
        for secret in filter(None, (self._key, host)):
            message = message.replace(secret, "...")
        detail = f"HTTP {status}: {shortened(message)}"
        if status == 429:
            return Fault("rate_limited", "HTTP 429", _retry_after(reply))
        if status == 408 or status >= 500:
            return Fault("server_error", f"HTTP {status}", _retry_after(reply))
        if status in (401, 403):  # servers repeat keys in these messages
            raise InputError(
                f"the server at {host} refuses {'the key' if self._key else 'a request without a key'} (HTTP {status})",
                fix="set the environment variable CLIPCURATE_LLM_KEY to a key for this server and model",
            )
        if status == 404 or (not proven and complains_about_model(message, self._served.model)):
            raise InputError(
                f"the server at {host} has no {request.endpoint} for the model '{self._served.model}' ({detail})",
                fix=f"clipcurate curate ... --llm {self._base} (without #MODEL) lists the models it offers",
            )
        if status in (400, 413, 422):
            if "response_format" in request.body and not proven and complains_about_structure(message):
                raise InputError(
                    f"the server at {host} cannot hold the model to a JSON schema ({detail})",
                    fix="--set stages.rewrite_captions.prompting=few_shot asks without one",
                )
            return Failure("refused", detail)
        raise InputError(
            f"the server at {host} answered {request.endpoint} with {detail}",
            allowed="a server of the OpenAI interface, at its address up to /v1",
            fix="check the address and the server's log; answers so far are kept",
        )


async def _read(reply: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """Return the body, or None when it is longer than `limit`: the rest is never read."""
    if (reply.content_length or 0) > limit:
        reply.close()
        return None
    parts: list[bytes] = []
    size = 0
    while chunk := await reply.content.readany():
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            reply.close()
            return None
    return b"".join(parts)


def _retry_after(reply: aiohttp.ClientResponse) -> float | None:
    """Return the seconds that a reply asks to wait; a date, or nonsense, counts as none."""
    value: Any = reply.headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if seconds >= 0 else None
