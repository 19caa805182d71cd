"""A language model behind an address: any server of the OpenAI interface, many requests at once.

`ServedModel` names the server. The caller's thread puts requests into a `RequestQueue` and takes recorded outcomes out
of it. Behind it a background thread runs an event loop with a `WorkerPool`: a fixed number of workers, each of which
sends a request through the `HttpClient` until there is an answer or its attempts run out, and records the outcome in
the journal before anyone sees it. A kill costs at most two answers a worker: one under way, one not yet committed.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson
from blake3 import blake3

from curation.llm.interface import Answer, CompletionClient, CompletionRequest, Failure
from curation.llm.journal import CompletionOutcome, Journal, JournaledClient, JournalEntry, entry_of, shortened
from curation.llm.responses import (
    FailedAttempt,
    complains_about_model,
    complains_about_structure,
    error_message,
    read_reply,
)
from data_manifests.errors import InputError
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import aiohttp

_CONNECT_S = 10.0
_MAX_ERROR_BYTES = 2**16
_SOME_IN_A_ROW = 10
_SERVERS_FAULT = ("unreachable", "rate_limited")


def model_hash(model: str) -> str:
    """Return the identity of a model that is asked in the words of the OpenAI interface, wherever it runs."""
    return blake3(canonical(["openai", model])).hexdigest(length=16)


def api_key() -> str | None:
    """Return the key for hosted servers; it lives in the environment and nowhere else."""
    return os.environ.get("CLIPCURATE_LLM_KEY") or os.environ.get("OPENAI_API_KEY") or None


def proxy_for(base_url: str) -> str | None:
    """Return the proxy that the environment names for an address; never one for this machine itself."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)


@dataclass(frozen=True)
class ServedModel:
    """A model by name on a server of the OpenAI interface.

    Attributes:
        model: The name requests carry.
        base_url: Address up to ``/v1``; no part of the identity.
        journal: Path of the journal of answers.
        slots: Requests under way at once.
        timeout_s: Limit of one attempt.
        attempts: Tries before a request is given up.
        backoff_s: Longest wait before the second attempt; doubles with each further one (waits are drawn between
            zero and that).
        max_pause_s: Longest wait, also when the server asks for more.
        max_answer_bytes: A longer reply is cut off unread and counts as a fault.

    Raises:
        InputError: the address is none, or carries a password.
    """

    model: str
    base_url: str
    journal: str
    slots: int = 16
    timeout_s: float = 120.0
    attempts: int = 6
    backoff_s: float = 0.5
    max_pause_s: float = 60.0
    max_answer_bytes: int = 2**20

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"the language model's address '{self.base_url.rpartition('@')[2]}' is not one",
                allowed="http://HOST:PORT/v1 or https",
            )
        if parts.username or parts.password:
            raise InputError(
                f"the address of the language model at {parts.hostname} carries a user or password",
                allowed="an address without",
                fix="put the key into the environment variable CLIPCURATE_LLM_KEY",
            )
        if self.slots < 1 or self.attempts < 1:
            raise InputError(f"{self.slots} slots and {self.attempts} attempts", allowed="at least 1 of each")

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.base_url).netloc

    def content_hash(self) -> str:
        """Hash the model's name; address, slots and journal decide no answer."""
        return model_hash(self.model)

    def describe(self) -> str:
        """Name it for people."""
        return f"language model {self.model}"

    @contextmanager
    def open(self) -> Iterator[CompletionClient]:
        """Open a line; nothing is connected before a question that the journal cannot answer.

        Raises:
            InputError: the journal is damaged.
        """
        journal = Journal(self.journal)
        requests = RequestQueue(self)
        try:
            yield JournaledClient(journal, requests)
        finally:
            requests.close()
            journal.close()


class RequestQueue:
    """The caller's end of the background thread: questions in, recorded outcomes out.

    Args:
        served: Whom to ask.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._inbox: deque[tuple[str, CompletionRequest]] = deque()
        self._outbox: queue.SimpleQueue[list[tuple[str, CompletionOutcome]] | BaseException] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pool: WorkerPool | None = None
        self._called = False
        self._error: BaseException | None = None

    def put(self, key: str, request: CompletionRequest) -> None:
        """Queue a question; starts the thread at the first one.

        Raises:
            InputError: the package for HTTP is missing.
        """
        if self._thread is None:
            self._start()
        self._inbox.append((key, request))
        if not self._called and self._loop is not None:
            self._called = True
            with suppress(RuntimeError):  # the loop has ended over an error, which `take` raises
                self._loop.call_soon_threadsafe(self._collect)

    def take(self) -> list[tuple[str, CompletionOutcome]]:
        """Wait for recorded outcomes and return all that have arrived.

        Raises:
            InputError: the run cannot go on; see `WorkerPool`.
        """
        if self._error is not None:  # it has been raised; nothing more will come
            raise self._error
        arrived: list[tuple[str, CompletionOutcome]] = []
        while not arrived or not self._outbox.empty():
            batch = self._outbox.get()
            if isinstance(batch, BaseException):
                self._error = batch
                raise batch
            arrived += batch
        return arrived

    def close(self) -> None:
        """Stop the thread; what is under way is abandoned."""
        if self._thread is None or self._loop is None or self._pool is None:
            return
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._pool.stop)
        self._thread.join()

    def _start(self) -> None:
        try:
            import aiohttp  # noqa: F401 - only looked for: an optional extra
        except ImportError as error:
            raise InputError(
                f"asking the language model at {self._served.host} needs the package aiohttp, which is not installed",
                fix="pip install 'clipcurate[llm]'; answers in the journal need no package",
            ) from error
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._pool = WorkerPool(self._served, api_key(), proxy_for(self._served.base_url), self._outbox.put)
        self._thread = threading.Thread(target=self._run, args=(loop, self._pool), name="llm", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        """Move questions to the workers; runs in the loop."""
        self._called = False  # before emptying: a question put from now on calls again
        while self._inbox and self._pool is not None:
            self._pool.accept(*self._inbox.popleft())

    def _run(self, loop: asyncio.AbstractEventLoop, pool: WorkerPool) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(pool.work())
        except BaseException as error:  # noqa: BLE001 - whatever it was, the caller's thread raises it
            self._outbox.put(error)


class WorkerPool:
    """The workers and what they share, all in the event loop's thread but for its making.

    A failure is believed only when the server has answered something since, or nothing else is under way: while
    nothing but failures comes, they are held back, and when too many come in a row the run stops instead of giving
    up one caption after another because of a broken server.

    Args:
        served: Whom to ask.
        key: The API key, or None.
        proxy: The proxy's address, or None.
        hand_over: Takes recorded outcomes, or the error that ends it all.
    """

    def __init__(
        self,
        served: ServedModel,
        key: str | None,
        proxy: str | None,
        hand_over: Callable[[list[tuple[str, CompletionOutcome]] | BaseException], None],
    ) -> None:
        self._served, self._key, self._proxy, self._hand_over = served, key, proxy, hand_over
        self._waiting: asyncio.Queue[tuple[str, CompletionRequest]] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._something = asyncio.Event()
        self._num_open = 0
        self._num_answered = 0
        self._resume_at = 0.0
        self._arrived: list[JournalEntry] = []
        self._num_uncommitted = 0
        self._committed = asyncio.Event()  # set with the next commit, and replaced
        self._doubtful: list[JournalEntry] = []
        self._noise = random.Random()  # noqa: S311 - spreads load; no output depends on it

    def accept(self, key: str, request: CompletionRequest) -> None:
        """Take in a question."""
        self._num_open += 1
        self._waiting.put_nowait((key, request))

    def stop(self) -> None:
        """Make `work` return."""
        self._stopping.set()

    async def work(self) -> None:
        """Answer questions until stopped.

        Raises:
            InputError: the server cannot be reached, or refuses the key, the model or the kind of request; what
                has arrived is recorded.
        """
        self._lookup = Journal(self._served.journal)
        record = Journal(self._served.journal)  # a connection of its own: a commit may wait for the disk
        try:
            async with HttpClient(self._served, self._key, self._proxy) as self._client:
                recorder = asyncio.create_task(self._record(record))
                tasks = [asyncio.create_task(self._work()) for _ in range(self._served.slots)]
                ended = asyncio.create_task(self._stopping.wait())
                finished, _ = await asyncio.wait([ended, recorder, *tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in (ended, *tasks):
                    task.cancel()
                await asyncio.gather(ended, *tasks, return_exceptions=True)
                self.stop()
                self._something.set()
                await recorder
                for task in finished:
                    task.result()
        finally:
            self._lookup.close()
            record.close()

    async def _work(self) -> None:
        """Be one slot."""
        while True:
            key, request = await self._waiting.get()
            known = self._lookup.find(key)  # another process may have asked since it was queued
            entry = entry_of(key, request, known) if known is not None else await self._ask(key, request)
            self._num_open -= 1
            if known is None and isinstance(entry.outcome, Failure):
                self._doubt(entry, entry.outcome)
            else:
                self._num_answered += known is None
                self._keep([entry])
            if (known is None and not isinstance(entry.outcome, Failure)) or not self._num_open:
                self._keep(self._doubtful)
                self._doubtful = []
            while self._num_uncommitted > self._served.slots:  # a slow disk must not put many answers at risk
                await self._committed.wait()

    def _doubt(self, entry: JournalEntry, failure: Failure) -> None:
        """Hold a failure back until the server has shown that it can answer."""
        self._doubtful.append(entry)
        if len(self._doubtful) >= max(_SOME_IN_A_ROW, self._served.slots):
            raise InputError(
                f"the server at {self._served.host} answered none of {len(self._doubtful)} requests in a row; "
                f"the last one: {failure.reason}, {failure.detail}",
                allowed="a server of the OpenAI interface that works",
                fix="look at the server's log; answers so far are kept, and these requests will be asked again",
            )

    def _keep(self, entries: list[JournalEntry]) -> None:
        """Have entries recorded, together with others that arrive until the last commit is done."""
        self._arrived += entries
        self._num_uncommitted += len(entries)
        self._something.set()

    async def _record(self, journal: Journal) -> None:
        """Commit what has arrived, then hand it over; until `stop`, and then what is left."""
        while self._arrived or not self._stopping.is_set():
            await self._something.wait()
            self._something.clear()
            if self._arrived:
                entries, self._arrived = self._arrived, []
                self._hand_over(await asyncio.to_thread(journal.record, entries))
                self._num_uncommitted -= len(entries)
                self._committed.set()
                self._committed = asyncio.Event()

    async def _ask(self, key: str, request: CompletionRequest) -> JournalEntry:
        """Ask until there is an outcome.

        A refusal for being asked too much uses up an attempt only if the server has answered nobody meanwhile.
        """
        served, clock = self._served, asyncio.get_running_loop().time
        body = orjson.dumps(dict(request.body))
        tries = spent = 0
        while True:
            while (delay := self._resume_at - clock()) > 0:
                await asyncio.sleep(delay + self._noise.random() * min(delay, served.backoff_s))
            answered_before = self._num_answered
            reply = await self._client.post(request, body, proven=self._num_answered > 0)
            tries += 1
            if not isinstance(reply, FailedAttempt):
                return entry_of(key, request, reply, tries)
            stuck = self._num_answered == answered_before
            if reply.reason != "rate_limited" or stuck:
                spent += 1
            if spent >= served.attempts:
                if reply.reason in _SERVERS_FAULT and stuck:
                    raise self._out_of_reach(reply)
                return entry_of(key, request, Failure(reply.reason, shortened(reply.detail)), tries)
            wait = self._noise.random() * min(served.max_pause_s, served.backoff_s * 2 ** max(0, spent - 1))
            if reply.pause_s is not None or reply.reason == "rate_limited":
                pause = wait if reply.pause_s is None else min(reply.pause_s, served.max_pause_s)
                self._resume_at = max(self._resume_at, clock() + pause)
            else:
                await asyncio.sleep(wait)

    def _out_of_reach(self, fault: FailedAttempt) -> InputError:
        if fault.reason == "rate_limited":
            fix = "ask with fewer --llm-slots or later; answers so far are kept"
            return InputError(f"the server at {self._served.host} refuses: too many requests (429)", fix=fix)
        return InputError(
            f"the server at {self._served.host} cannot be reached: {fault.detail}",
            allowed="the address of a running server of the OpenAI interface",
            fix="start it (vllm serve MODEL, or clipcurate llm serve) and run again; answers so far are kept",
        )


class HttpClient:
    """A session with one server.

    Args:
        served: Address and limits.
        key: The API key, or None.
        proxy: The proxy's address, or None.
    """

    def __init__(self, served: ServedModel, key: str | None, proxy: str | None) -> None:
        self._served, self._key, self._proxy = served, key, proxy
        self._base = served.base_url.rstrip("/")

    async def __aenter__(self) -> Self:
        import aiohttp

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

    async def post(self, request: CompletionRequest, body: bytes, *, proven: bool) -> Answer | Failure | FailedAttempt:
        """Make one attempt.

        Args:
            request: What is asked.
            body: Its body as bytes.
            proven: The server has answered before: a complaint is then about this request, not about the kind.

        Raises:
            InputError: the server refuses the key, the model or the kind of request.
        """
        import aiohttp

        try:
            async with self._session.post(
                f"{self._base}/{request.endpoint}", data=body, allow_redirects=False, proxy=self._proxy
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
            return FailedAttempt("unreachable", detail)
        except TimeoutError:
            return FailedAttempt("timeout", f"no complete answer within {self._served.timeout_s:g} s")
        except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError) as error:
            return FailedAttempt("connection_lost", type(error).__name__)
        if data is None:
            return FailedAttempt("answer_too_large", f"more than {limit} bytes")
        return read_reply(request.endpoint, data)

    def _verdict(
        self, request: CompletionRequest, reply: aiohttp.ClientResponse, data: bytes, *, proven: bool
    ) -> Failure | FailedAttempt:
        """Say what an error status means: try again, give up this request, or stop the run."""
        status, host = reply.status, self._served.host
        message = error_message(data)
        for secret in filter(None, (self._key, host)):
            message = message.replace(secret, "...")
        detail = f"HTTP {status}: {shortened(message)}"
        if status == 429:
            return FailedAttempt("rate_limited", "HTTP 429", _retry_after(reply))
        if status == 408 or status >= 500:
            return FailedAttempt("server_error", f"HTTP {status}", _retry_after(reply))
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
