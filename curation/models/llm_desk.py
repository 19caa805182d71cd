"""Where a server's answers come in: a fixed number of workers in one event loop, and what they share.

Each worker takes a question, asks until there is an answer or attempts run out, and leaves the outcome in the
journal before anyone sees it. A kill costs at most two answers for each worker: one under way, one to be committed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from curation.models.language_model import Failure, Request
from curation.models.llm_journal import Entry, Journal, Outcome, entry_of, shortened
from curation.models.llm_replies import Fault
from curation.models.llm_wire import Wire
from data_manifests.errors import InputError

if TYPE_CHECKING:
    from curation.models.llm_server import ServedModel

_SOME_IN_A_ROW = 10
_SERVERS_FAULT = ("unreachable", "rate_limited")


class Desk:
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
        hand_over: Callable[[list[tuple[str, Outcome]] | BaseException], None],
    ) -> None:
        self._served, self._key, self._proxy, self._hand_over = served, key, proxy, hand_over
        self._waiting: asyncio.Queue[tuple[str, Request]] = asyncio.Queue()
        self._stopping = asyncio.Event()
        self._something = asyncio.Event()
        self._num_open = 0
        self._num_answered = 0
        self._resume_at = 0.0
        self._arrived: list[Entry] = []
        self._num_uncommitted = 0
        self._committed = asyncio.Event()  # set with the next commit, and replaced
        self._doubtful: list[Entry] = []
        self._noise = random.Random()  # noqa: S311 - spreads load; no output depends on it

    def accept(self, key: str, request: Request) -> None:
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
            async with Wire(self._served, self._key, self._proxy) as self._wire:
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

    def _doubt(self, entry: Entry, failure: Failure) -> None:
        """Hold a failure back until the server has shown that it can answer."""
        self._doubtful.append(entry)
        if len(self._doubtful) >= max(_SOME_IN_A_ROW, self._served.slots):
            raise InputError(
                f"the server at {self._served.host} answered none of {len(self._doubtful)} requests in a row; "
                f"the last one: {failure.reason}, {failure.detail}",
                allowed="a server of the OpenAI interface that works",
                fix="look at the server's log; answers so far are kept, and these requests will be asked again",
            )

    def _keep(self, entries: list[Entry]) -> None:
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

    async def _ask(self, key: str, request: Request) -> Entry:
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
            reply = await self._wire.post(request, body, proven=self._num_answered > 0)
            tries += 1
            if not isinstance(reply, Fault):
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

    def _out_of_reach(self, fault: Fault) -> InputError:
        if fault.reason == "rate_limited":
            fix = "ask with fewer --llm-slots or later; answers so far are kept"
            return InputError(f"the server at {self._served.host} refuses: too many requests (429)", fix=fix)
        return InputError(
            f"the server at {self._served.host} cannot be reached: {fault.detail}",
            allowed="the address of a running server of the OpenAI interface",
            fix="start it (vllm serve MODEL, or clipcurate llm serve) and run again; answers so far are kept",
        )
