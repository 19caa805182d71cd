"""Limits for replies that httpx reads; imported only when a server is asked, as httpx and openai take a second to load."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2

MAX_ERROR_BYTES = 2**16
"""What is read of a reply with any status but 200: its beginning is what a message shows."""


class ReplyTooLargeError(Exception):
    """An answer is longer than its limit; the rest was not read."""


class _LimitedBody(httpx2.AsyncByteStream):
    """The bytes of a reply up to a limit; `cut` decides whether more than that is an error or left out."""

    def __init__(self, body: httpx2.AsyncByteStream, max_bytes: int, *, cut: bool) -> None:
        self._body, self._max_bytes, self._cut = body, max_bytes, cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        async for chunk in self._body:
            num_bytes += len(chunk)
            if num_bytes > self._max_bytes:
                if self._cut:
                    return
                raise ReplyTooLargeError(f"more than {self._max_bytes} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()


def limit_replies(max_bytes: int) -> Callable[[httpx2.Response], Awaitable[None]]:
    """Return a response hook for an httpx client: more than `max_bytes` of an answer is a `ReplyTooLargeError`.

    Nothing is decompressed: compression was not asked for, and a small reply could become a huge one.
    """

    async def limit(reply: httpx2.Response) -> None:
        reply.headers.pop("Content-Encoding", None)
        assert isinstance(reply.stream, httpx2.AsyncByteStream)
        failed = reply.status_code != 200
        reply.stream = _LimitedBody(reply.stream, MAX_ERROR_BYTES if failed else max_bytes, cut=failed)

    return limit
