"""A language model behind an address: any server of the OpenAI interface, asked many things at once.

A background thread with its own event loop (`curation.models.llm_desk`) does the asking; the caller's thread only
puts questions in and takes recorded outcomes out.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from blake3 import blake3

from curation.models.language_model import Line, Request
from curation.models.llm_journal import Journal, JournaledLine, Outcome
from curation.stage import canonical
from data_manifests.errors import InputError

if TYPE_CHECKING:
    from curation.models.llm_desk import Desk


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
    def open(self) -> Iterator[Line]:
        """Open a line; nothing is connected before a question that the journal cannot answer.

        Raises:
            InputError: the journal is damaged.
        """
        journal = Journal(self.journal)
        post = Post(self)
        try:
            yield JournaledLine(journal, post)
        finally:
            post.close()
            journal.close()


class Post:
    """The caller's end of the background thread: questions in, recorded outcomes out.

    Args:
        served: Whom to ask.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._inbox: deque[tuple[str, Request]] = deque()
        self._outbox: queue.SimpleQueue[list[tuple[str, Outcome]] | BaseException] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._desk: Desk | None = None
        self._called = False
        self._error: BaseException | None = None

    def put(self, key: str, request: Request) -> None:
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

    def take(self) -> list[tuple[str, Outcome]]:
        """Wait for recorded outcomes and return all that have arrived.

        Raises:
            InputError: the run cannot go on; see `Desk`.
        """
        if self._error is not None:  # it has been raised; nothing more will come
            raise self._error
        arrived: list[tuple[str, Outcome]] = []
        while not arrived or not self._outbox.empty():
            batch = self._outbox.get()
            if isinstance(batch, BaseException):
                self._error = batch
                raise batch
            arrived += batch
        return arrived

    def close(self) -> None:
        """Stop the thread; what is under way is abandoned."""
        if self._thread is None or self._loop is None or self._desk is None:
            return
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._desk.stop)
        self._thread.join()

    def _start(self) -> None:
        try:
            from curation.models.llm_desk import Desk
        except ImportError as error:
            raise InputError(
                f"asking the language model at {self._served.host} needs the package aiohttp, which is not installed",
                fix="pip install 'clipcurate[llm]'; answers in the journal need no package",
            ) from error
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._desk = Desk(self._served, api_key(), proxy_for(self._served.base_url), self._outbox.put)
        self._thread = threading.Thread(target=self._run, args=(loop, self._desk), name="llm", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        """Move questions to the workers; runs in the loop."""
        self._called = False  # before emptying: a question put from now on calls again
        while self._inbox and self._desk is not None:
            self._desk.accept(*self._inbox.popleft())

    def _run(self, loop: asyncio.AbstractEventLoop, desk: Desk) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(desk.work())
        except BaseException as error:  # noqa: BLE001 - whatever it was, the caller's thread raises it
            self._outbox.put(error)
