"""HTTP client for language models: any server with the OpenAI API, many requests concurrently.

`ServedModel` names the server and the model. Its `open` gives the caller's thread a `RequestQueue`: requests in,
recorded outcomes out. A background thread runs an event loop with a `WorkerPool` of `slots` workers. Each worker sends
a request through the shared `HttpClient` (OpenAI's own client, with limits) until there is an answer or no attempt is left. Every outcome is committed to
the journal before the caller gets it, so a kill costs at most two answers per worker: one in flight and one uncommitted.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import queue
import random
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from curation.llm.interface import Answer, CompletionClient, CompletionRequest, Failure, NamedModel
from curation.llm.journal import CompletionOutcome, Journal, JournaledClient, JournalEntry, entry_of, shortened
from curation.llm.responses import (
    UNUSABLE,
    FailedAttempt,
    complains_about_model,
    complains_about_structure,
    error_message,
    read_reply,
)
from data_manifests.errors import InputError
from data_manifests.seeds import draw_seed

if TYPE_CHECKING:
    import httpx2
    import openai

_CONNECT_S = 10.0
_MIN_FAILURES_IN_A_ROW = 10  # that stop the run; more when there are more slots
_SERVER_UNAVAILABLE = ("unreachable", "rate_limited")


def api_key() -> str | None:
    """Return the API key for hosted servers, or None; it is read from the environment and stored nowhere."""
    return os.environ.get("CLIPCURATE_LLM_KEY") or os.environ.get("OPENAI_API_KEY") or None


def proxy_for(base_url: str) -> str | None:
    """Return the proxy that the environment sets for an address, or None; this machine never needs one."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)


def require_openai(host: str) -> None:
    """Check that the client of OpenAI is installed.

    Raises:
        InputError: it is not.
    """
    try:
        import openai  # noqa: F401 - an optional extra: only test that it is installed
    except ImportError as error:
        raise InputError(
            f"the language model at {host} needs the package openai, which is not installed",
            fix="pip install 'clipcurate[llm]'; answers in the journal need no package",
        ) from error


def _finish_importing(package: str) -> None:
    """Import a package where it is installed, waiting for any other thread that is importing it.

    openai compares every reply with the classes of httpx as soon as httpx is among the loaded modules; another part of
    the program, on its own thread, may then have loaded only half of it.
    """
    with suppress(ImportError):  # openai does not need it
        importlib.import_module(package)


@dataclass(frozen=True)
class ServedModel(NamedModel):
    """A model on a server with the OpenAI API.

    Attributes:
        model: The model's name in requests.
        base_url: Address up to ``/v1``; not part of the identity.
        journal: Path of the journal of answers.
        slots: Maximum number of concurrent requests.
        timeout_s: Time limit of one attempt.
        attempts: Maximum number of attempts per request.
        backoff_s: Maximum wait before the second attempt; doubles with each further attempt (full jitter: waits are
            uniform between zero and the maximum).
        max_pause_s: Maximum wait, even when the server asks for a longer one.
        max_answer_bytes: Maximum size of a reply; a longer one is not read and counts as a failed attempt.

    Raises:
        InputError: the address is malformed, or contains a user or password.
    """

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
                f"--llm: '{self.base_url.rpartition('@')[2]}' is not an HTTP address",
                allowed="http://HOST:PORT/v1 or https://HOST/v1",
                fix="give the server's address up to /v1, followed by #MODEL",
            )
        if parts.username or parts.password:
            raise InputError(
                f"--llm: the address of {parts.hostname} contains a user or password",
                allowed="an address without user and password",
                fix="put the key into the environment variable CLIPCURATE_LLM_KEY",
            )
        if self.slots < 1 or self.attempts < 1:
            raise InputError(
                f"--llm-slots {self.slots} with {self.attempts} attempts per request", allowed="at least 1 of each"
            )

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.base_url).netloc

    def describe(self) -> str:
        """Return a name for people."""
        return f"language model {self.model}"

    @contextmanager
    def open(self) -> Iterator[CompletionClient]:
        """Open a client; it connects only when a request is not answered by the journal.

        Raises:
            InputError: the journal is damaged.
        """
        with closing(Journal(self.journal)) as journal, closing(RequestQueue(self)) as requests:
            yield JournaledClient(journal, requests)


class RequestQueue:
    """The caller's side of the background thread: requests in, recorded outcomes out.

    Args:
        model: The server and model.
    """

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._inbox: deque[tuple[str, CompletionRequest]] = deque()
        self._outbox: queue.SimpleQueue[list[tuple[str, CompletionOutcome]] | BaseException] = queue.SimpleQueue()
        self._pool = WorkerPool(model, self._outbox.put)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._collect_scheduled = False
        self._error: BaseException | None = None

    def put(self, key: str, request: CompletionRequest) -> None:
        """Queue a request; the first one starts the thread.

        Raises:
            InputError: the package openai is missing.
        """
        loop = self._loop or self._start()
        self._inbox.append((key, request))
        if not self._collect_scheduled:
            self._collect_scheduled = True
            with suppress(RuntimeError):  # the loop has ended with an error, which `take` raises
                loop.call_soon_threadsafe(self._collect)

    def take(self) -> list[tuple[str, CompletionOutcome]]:
        """Wait for recorded outcomes and return all that have arrived.

        Raises:
            InputError: the run must stop; see `WorkerPool`.
        """
        if self._error is not None:  # raised before; nothing more will arrive
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
        """Stop the thread; requests in flight are abandoned."""
        if self._thread is not None and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._pool.stop)
            self._thread.join()

    def _start(self) -> asyncio.AbstractEventLoop:
        require_openai(self._model.host)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="llm", daemon=True)
        self._thread.start()
        return self._loop

    def _collect(self) -> None:
        """Move requests to the workers; runs in the event loop."""
        self._collect_scheduled = False  # before emptying the inbox: requests put from now on schedule another call
        while self._inbox:
            self._pool.submit(*self._inbox.popleft())

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._pool.run())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._outbox.put(error)


class WorkerPool:
    """The workers and their shared state; everything but the constructor runs in the event loop's thread.

    A failure becomes final only when the server has answered another request since, or no other request is pending.
    Until then failures are kept back, and when too many come in a row the run stops: a broken server must not cost
    one caption after another.

    Args:
        model: The server and model.
        deliver: Called with outcomes after they were recorded.
    """

    def __init__(self, model: ServedModel, deliver: Callable[[list[tuple[str, CompletionOutcome]]], None]) -> None:
        self._model, self._deliver = model, deliver
        self._requests: asyncio.Queue[tuple[str, CompletionRequest]] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._num_pending = 0
        self._num_answered = 0
        self._resume_at = 0.0  # the loop's clock: nobody sends before
        self._uncommitted: list[JournalEntry] = []
        self._num_uncommitted = 0  # including those of a commit in progress
        self._new_entries = asyncio.Event()
        self._committed = asyncio.Event()  # set by the next commit, and replaced
        self._unconfirmed_failures: list[JournalEntry] = []
        self._jitter = random.Random()  # noqa: S311 - spreads load; no output depends on it

    def submit(self, key: str, request: CompletionRequest) -> None:
        """Queue a request."""
        self._num_pending += 1
        self._requests.put_nowait((key, request))

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Complete requests until stopped.

        Raises:
            InputError: the server cannot be reached, or rejects the key, the model or the kind of request; the
                outcomes that have arrived are recorded first.
        """
        # The recorder has a connection of its own, because a commit may wait for the disk.
        with closing(Journal(self._model.journal)) as self._lookup, closing(Journal(self._model.journal)) as journal:
            async with HttpClient(self._model) as self._client:
                recorder = asyncio.create_task(self._record(journal))
                tasks: list[asyncio.Task[object]] = [
                    asyncio.create_task(self._work()) for _ in range(self._model.slots)
                ]
                tasks.append(asyncio.create_task(self._stopping.wait()))
                finished, _ = await asyncio.wait([recorder, *tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.stop()
                self._new_entries.set()
                await recorder
                for task in finished:
                    task.result()

    async def _work(self) -> None:
        """Complete one request after another: one worker."""
        while True:
            key, request = await self._requests.get()
            recorded = self._lookup.find(key)  # another process may have recorded it since it was queued
            entry = await self._complete(key, request) if recorded is None else entry_of(key, request, recorded)
            self._num_pending -= 1
            answered = recorded is None and not isinstance(entry.outcome, Failure)
            self._num_answered += answered
            if recorded is None and isinstance(entry.outcome, Failure):
                self._keep_back(entry, entry.outcome)
            else:
                self._commit([entry])
            if answered or not self._num_pending:
                self._commit(self._unconfirmed_failures)
                self._unconfirmed_failures = []
            while self._num_uncommitted > self._model.slots:  # with a slow disk, a kill must not cost many answers
                await self._committed.wait()

    def _keep_back(self, entry: JournalEntry, failure: Failure) -> None:
        """Keep a failure back until the server has answered another request."""
        self._unconfirmed_failures.append(entry)
        if len(self._unconfirmed_failures) >= max(_MIN_FAILURES_IN_A_ROW, self._model.slots):
            raise InputError(
                f"the server at {self._model.host} answered none of {len(self._unconfirmed_failures)} requests in a "
                f"row; the last failure: {failure.reason}, {failure.detail}",
                allowed="a working server with the OpenAI API",
                fix="look at the server's log; answers so far are kept, and the failed requests will be sent again",
            )

    def _commit(self, entries: list[JournalEntry]) -> None:
        """Have entries recorded, in one commit with all that arrive while the previous commit is in progress."""
        self._uncommitted += entries
        self._num_uncommitted += len(entries)
        self._new_entries.set()

    async def _record(self, journal: Journal) -> None:
        """Commit entries and deliver their outcomes, until stopped and nothing is left."""
        while self._uncommitted or not self._stopping.is_set():
            await self._new_entries.wait()
            self._new_entries.clear()
            if self._uncommitted:
                entries, self._uncommitted = self._uncommitted, []
                self._deliver(await asyncio.to_thread(journal.record, entries))
                self._num_uncommitted -= len(entries)
                self._committed.set()
                self._committed = asyncio.Event()

    async def _complete(self, key: str, request: CompletionRequest) -> JournalEntry:
        """Send a request until there is an outcome.

        "Too many requests" uses up an attempt only if the server answered no other request meanwhile. A reply without a
        usable answer would come again with the same seed, so the next attempt has another one, derived from the first.
        """
        model, clock = self._model, asyncio.get_running_loop().time
        body, note = dict(request.body), ""
        num_sent = num_failed = 0
        while True:
            while (delay := self._resume_at - clock()) > 0:
                await asyncio.sleep(delay + self._jitter.random() * min(delay, model.backoff_s))
            answered_before = self._num_answered
            reply = await self._client.post(request, body, has_answered=self._num_answered > 0)
            num_sent += 1
            if not isinstance(reply, FailedAttempt):
                return entry_of(key, request, reply, num_sent, note)
            if reply.reason in UNUSABLE and "seed" in body:
                body["seed"] = draw_seed(request.body["seed"], "attempt", num_sent) % 2**31
                note = f"seed {body['seed']}"
            stuck = self._num_answered == answered_before
            if reply.reason != "rate_limited" or stuck:
                num_failed += 1
            if num_failed >= model.attempts:
                if reply.reason in _SERVER_UNAVAILABLE and stuck:
                    raise self._unavailable(reply)
                return entry_of(key, request, Failure(reply.reason, shortened(reply.detail)), num_sent)
            wait = self._jitter.random() * min(model.max_pause_s, model.backoff_s * 2 ** max(0, num_failed - 1))
            if reply.pause_s is not None or reply.reason == "rate_limited":
                pause = wait if reply.pause_s is None else min(reply.pause_s, model.max_pause_s)
                self._resume_at = max(self._resume_at, clock() + pause)
            else:
                await asyncio.sleep(wait)

    def _unavailable(self, attempt: FailedAttempt) -> InputError:
        if attempt.reason == "rate_limited":
            return InputError(
                f"the server at {self._model.host} answers only: too many requests (HTTP 429)",
                fix="use fewer --llm-slots, or run again later; answers so far are kept",
            )
        proxy = proxy_for(self._model.base_url)
        through = f" through the proxy {urlsplit(proxy).netloc.rpartition('@')[2]}" if proxy else ""
        return InputError(
            f"the server at {self._model.host} cannot be reached{through}: {attempt.detail}",
            allowed="the address of a running server with the OpenAI API",
            fix="start it (vllm serve MODEL, or clipcurate llm serve) and run again; answers so far are kept",
        )


class HttpClient:
    """OpenAI's own client for one server, with our limits on time, size and addresses.

    Args:
        model: The server and its limits.

    Raises:
        InputError: the package openai is missing.
    """

    def __init__(self, model: ServedModel) -> None:
        require_openai(model.host)
        self._model, self._base_url = model, model.base_url.rstrip("/")
        self._key = api_key()

    async def __aenter__(self) -> Self:
        import httpx2
        import openai

        from curation.llm.reply_limits import limit_replies

        _finish_importing("httpx")
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._base_url,
            max_retries=0,  # the workers repeat requests: they know how the others fare, and slow down together
            http_client=httpx2.AsyncClient(
                proxy=proxy_for(self._base_url),
                trust_env=False,  # the environment's proxies are for this machine's own servers, too
                verify=ssl.create_default_context() if self._base_url.startswith("https:") else False,
                timeout=httpx2.Timeout(self._model.timeout_s, connect=_CONNECT_S),
                limits=httpx2.Limits(max_connections=self._model.slots, max_keepalive_connections=self._model.slots),
                event_hooks={"response": [limit_replies(self._model.max_answer_bytes)]},
            ),
        )
        self._headers: dict[str, Any] = {"Accept-Encoding": "identity"}
        if not self._key:
            self._headers["Authorization"] = openai.Omit()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def models(self) -> list[str]:
        """Return the names of the server's models.

        Raises:
            ValueError: the server cannot be reached, rejects the request, or its reply is no list of models.
        """
        import httpx2
        import openai

        from curation.llm.reply_limits import ReplyTooLargeError

        try:
            async with asyncio.timeout(self._model.timeout_s):
                reply = await self._client.get("/models", cast_to=httpx2.Response, options={"headers": self._headers})
            value = orjson.loads(reply.content)
        except openai.APIStatusError as error:
            raise ValueError(f"HTTP {error.status_code}") from error
        except openai.APIConnectionError as error:
            raise ValueError(_root_cause(error)) from error
        except (TimeoutError, ReplyTooLargeError, orjson.JSONDecodeError) as error:
            raise ValueError(str(error) or "it does not answer") from error
        entries = value.get("data") if isinstance(value, dict) else None
        if not isinstance(entries, list):
            raise ValueError("no list of models")  # noqa: TRY004 - a server's value, not a caller's type
        return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]

    async def post(
        self, request: CompletionRequest, body: Mapping[str, Any], *, has_answered: bool
    ) -> Answer | Failure | FailedAttempt:
        """Make one attempt.

        Args:
            request: The request.
            body: What to send: the request's body, perhaps with another seed.
            has_answered: Whether the server has answered before; an error is then about this request alone.

        Raises:
            InputError: the server rejects the key, the model or the kind of request.
        """
        import httpx2
        import openai

        from curation.llm.reply_limits import ReplyTooLargeError

        try:
            async with asyncio.timeout(self._model.timeout_s):
                reply = await self._client.post(
                    f"/{request.endpoint}", cast_to=httpx2.Response, body=body, options={"headers": self._headers}
                )
        except openai.APIStatusError as error:
            return self._error_status(request, error.response, has_answered=has_answered)
        except ReplyTooLargeError as error:
            return FailedAttempt("answer_too_large", str(error))
        except (TimeoutError, openai.APITimeoutError):
            return FailedAttempt("timeout", f"no complete answer within {self._model.timeout_s:g} s")
        except openai.APIConnectionError as error:
            return self._lost_connection(error)
        return read_reply(request.endpoint, reply.content)

    def _lost_connection(self, error: openai.APIConnectionError) -> FailedAttempt:
        """Decide what a failed connection means.

        Raises:
            InputError: the server's certificate is not trusted.
        """
        import httpx2

        if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
            raise InputError(
                f"the certificate of the server at {self._model.host} is not trusted: {_root_cause(error)}",
                fix="check the address, or set SSL_CERT_FILE to the certificate of your authority",
            ) from error
        if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ProxyError):
            return FailedAttempt("unreachable", _root_cause(error))
        return FailedAttempt("connection_lost", type(error.__cause__).__name__)

    def _error_status(
        self, request: CompletionRequest, reply: httpx2.Response, *, has_answered: bool
    ) -> Failure | FailedAttempt:
        """Decide what an error status means: retry, give up this request, or stop the run."""
        status, host = reply.status_code, self._model.host
        message = error_message(reply.content)
        for secret in filter(None, (self._key, host)):
            message = message.replace(secret, "...")
        detail = f"HTTP {status}: {shortened(message)}"
        if status == 429:
            return FailedAttempt("rate_limited", "HTTP 429", _retry_after(reply))
        if status == 408 or status >= 500:
            return FailedAttempt("server_error", f"HTTP {status}", _retry_after(reply))
        if status in (401, 403):  # servers repeat the key in their message, so it is not shown
            raise InputError(
                f"the server at {host} rejects {'the key' if self._key else 'requests without a key'} (HTTP {status})",
                fix="set the environment variable CLIPCURATE_LLM_KEY to a key for this server and model",
            )
        if status == 404 or (not has_answered and complains_about_model(message, self._model.model)):
            raise InputError(
                f"the server at {host} does not offer {request.endpoint} for the model '{self._model.model}' ({detail})",
                fix=f"clipcurate curate ... --llm {self._base_url} (without #MODEL) lists the models it offers",
            )
        if status in (400, 413, 422):
            if "response_format" in request.body and not has_answered and complains_about_structure(message):
                raise InputError(
                    f"the server at {host} does not support answers that follow a JSON schema ({detail})",
                    fix="add --set stages.STAGE.prompting=few_shot for the stage that asks (rewrite_captions or ask_negatives)",
                )
            return Failure("refused", detail)
        raise InputError(
            f"the server at {host} answered {request.endpoint} with {detail}",
            allowed="a server with the OpenAI API, by its address up to /v1",
            fix="check the address and the server's log; answers so far are kept",
        )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what an error was caused by, the nearest cause first."""
    cause = error.__cause__ or error.__context__
    while cause:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _root_cause(error: BaseException) -> str:
    """Return what lies behind a failed connection, without addresses."""
    cause: BaseException | None = None
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno:
            known = cause.errno > 0 and not isinstance(cause, ssl.SSLError)
            return os.strerror(cause.errno) if known else cause.strerror or type(cause).__name__
    return type(cause or error).__name__


def _retry_after(reply: httpx2.Response) -> float | None:
    """Return the seconds that a reply asks to wait, or None; a date or any other text counts as none."""
    try:
        seconds = float(reply.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if seconds >= 0 else None
