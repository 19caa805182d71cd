"""Servers with the OpenAI API that misbehave as configured, and log the requests they receive."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from aiohttp import web

from curation.llm.interface import Answer, CompletionRequest, Endpoint, Failure, LanguageModel

MODEL = "test-model"
Behaviour = Callable[[web.Request, dict[str, Any], int], Awaitable[web.StreamResponse]]


def question(number: int, endpoint: Endpoint = "completions", **settings: Any) -> CompletionRequest:
    """Return a request that no other number equals."""
    text = f"caption {number}: a dog runs"
    asked = {"prompt": text} if endpoint == "completions" else {"messages": [{"role": "user", "content": text}]}
    return CompletionRequest(endpoint, {"model": MODEL, **asked, **settings}, tag=number)


def prompt_of(body: dict[str, Any]) -> str:
    """Return what a body asks."""
    return str(body["prompt"] if "prompt" in body else body["messages"][-1]["content"])


def reply_to(body: dict[str, Any]) -> dict[str, Any]:
    """Return a good reply: the prompt, backwards."""
    text, prompt = prompt_of(body)[::-1], prompt_of(body)
    choice = {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": len(prompt) // 2, "completion_tokens": 5}
    return {"choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": usage}


async def well(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
    """Answer at once."""
    return web.json_response(reply_to(body))


def says(status: int, text: str = "", **headers: str) -> Behaviour:
    """Always answer with one status and text."""

    async def behave(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return behave


async def ten_megabytes(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
    """Send an endless-looking answer without saying how long it is."""
    reply = web.StreamResponse()
    await reply.prepare(request)
    with suppress(ConnectionError):  # the client does well to leave
        for _ in range(160):
            await reply.write(b" " * 65536)
    return reply


async def cut(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
    """Promise an answer, send half of it and drop the connection."""
    reply = web.StreamResponse(headers={"Content-Length": "1000"})
    await reply.prepare(request)
    await reply.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.abort()
    return reply


async def too_late(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
    """Answer when nobody waits any more."""
    await asyncio.sleep(5.0)
    return web.Response(status=504)


FAULTS: dict[str, Behaviour] = {
    "server_error": says(500, "it broke"),
    "rate_limited": says(429, "slow down", **{"Retry-After": "0.01"}),
    "timeout": too_late,
    "connection_lost": cut,
    "invalid_json": says(200, '{"choices": [{"text": "half an ans'),
    "wrong_shape": says(200, '{"choices": []}'),
    "empty_body": says(200, ""),
    "answer_too_large": ten_megabytes,
}


def faulty(share: float, seed: int, broken: Sequence[str] = ()) -> Behaviour:
    """Fail a share of attempts by any of `FAULTS`, and always those whose prompt is among `broken`."""

    async def behave(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
        prompt = prompt_of(body)
        draw = random.Random(f"{seed}/{prompt}/{nth}")
        if prompt in broken:
            return await FAULTS["wrong_shape"](request, body, nth)
        name = draw.choice(sorted(FAULTS)) if draw.random() < share else ""
        return await FAULTS.get(name, well)(request, body, nth)

    return behave


class Server:
    """An aiohttp server in a thread; `asked` and `answered` count by prompt.

    Args:
        behave: What it does with a request, and how often it has been asked the same before.
        tls: Its certificate, for https.
    """

    def __init__(self, behave: Behaviour = well, tls: ssl.SSLContext | None = None) -> None:
        self.behave, self._tls = behave, tls
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self._now = 0
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=2**24)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/{endpoint:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": [{"id": MODEL}, {"id": "other-model"}]})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = prompt_of(body)
        self.headers.append(dict(request.headers))
        self.asked[prompt] += 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            reply = await self.behave(request, body, self.asked[prompt])
        finally:
            self._now -= 1
        if isinstance(reply, web.Response) and reply.body == web.json_response(reply_to(body)).body:
            self.answered[prompt] += 1
        return reply


def ask(model: LanguageModel, requests: Sequence[CompletionRequest]) -> dict[Any, Answer | Failure]:
    """Ask everything at once; return outcomes by tag."""
    with model.open() as line:
        for request in requests:
            line.submit(request)
        return {request.tag: outcome for request, outcome in line.outcomes()}
