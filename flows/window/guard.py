"""Who may ask: one person's browser on this machine, and no other page in it.

The address has a random token, which becomes a cookie that other sites' requests do not carry. That is not enough alone: cookies
are shared between the ports of a host, and a name that leads to 127.0.0.1 can be anybody's. So each request is also asked where
it goes (Host), where it comes from (Origin, Sec-Fetch-Site), and how long it is.
"""

from __future__ import annotations

import hmac
import secrets
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 16 * 2**20
"""Most bytes of a request: a dropped picture; everything else is a few hundred bytes."""
MAX_ADDRESS_BYTES = 8_192

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
"""On every answer; an answer's own header of the same name is kept."""


class Guard:
    """ASGI middleware that answers only requests with the token, from the page itself, to this host.

    Attributes:
        token: What the address must have; 256 bits, another one for each start.
        cookie: Name of the cookie, which has the port: cookies are shared between ports.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app, self._port = app, port
        self.token, self.cookie = token, f"clipcurate-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with the reason as plain text."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        shown = self._with_token(scope)
        refusal = self._refusal(scope, headers, shown=shown)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/" if shown else ""
        await self._app(scope, _bounded(receive), _with_headers(send, cookie))

    def _with_token(self, scope: Scope) -> bool:
        """Say whether the address of the page itself has the token."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        return bool(scope["path"] == "/" and hmac.compare_digest(given.encode(), self.token.encode()))

    def _refusal(self, scope: Scope, headers: dict[str, str], *, shown: bool) -> tuple[int, str] | None:
        """Return status and reason if a request is refused."""
        host, origin = headers.get("host", ""), headers.get("origin")
        size = headers.get("content-length", "0")
        kept = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        known = kept is not None and hmac.compare_digest(kept.value.encode(), self.token.encode())
        writes = scope["method"] == "POST"
        checks = (
            (host not in (f"127.0.0.1:{self._port}", f"localhost:{self._port}"), 421, "another host"),
            (scope["method"] not in ("GET", "HEAD", "POST"), 405, "GET or POST"),
            (len(scope["query_string"]) + len(scope["path"]) > MAX_ADDRESS_BYTES, 414, "the address is too long"),
            (origin is not None and origin != f"http://{host}", 403, "from another origin"),
            (writes and origin is None, 403, "without an origin"),
            (not shown and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"), 403, "from another site"),
            (not shown and not known, 403, "no token: open the address that clipcurate open printed"),
            (not size.isdigit() or int(size) > MAX_BODY_BYTES, 413, f"more than {MAX_BODY_BYTES:,} bytes"),
        )  # fmt: skip
        return next(((status, reason) for refused, status, reason in checks if refused), None)


def new_token() -> str:
    """Return a token of 256 random bits."""
    return secrets.token_urlsafe(32)


def _bounded(receive: Receive) -> Receive:
    """Return a `receive` that ends a request without a length at the limit."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return {"type": "http.disconnect"} if received > MAX_BODY_BYTES else message

    return bounded


def _with_headers(send: Send, cookie: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key.encode() not in there]
            more += [(b"set-cookie", cookie.encode())] if cookie else []
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    sending = _with_headers(send, "")
    await sending({"type": "http.response.start", "status": status, "headers": headers})
    await sending({"type": "http.response.body", "body": f"refused: {reason}\n".encode()})
