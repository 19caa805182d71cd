"""Does the client keep a server busy? A simulated server that answers after 50 ms, and 64 slots.

Run: python -m tests.benchmarks.bench_llm [NUM_REQUESTS] [--repeat 1]
The server runs in another process on core 1, the client (both its threads, and the journal) on core 0. Prints the
rate against the ideal of slots / latency (and against what the server allowed: on a busy machine its own answers are
late), and the client's memory on the way: it must not grow with the requests. Before it, in the same run, a bare
client that sends the same requests and reads, checks and records nothing: what this machine's sockets and event loop
leave of the ideal.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
import psutil  # type: ignore[import-untyped]

from curation.llm.client import ServedModel
from curation.llm.interface import CompletionRequest

LATENCY_S = 0.05
SLOTS = 64
WINDOW = 2048
"""Requests submitted ahead of the outcomes; what a stage with batches of this size does."""


class Simulated(asyncio.Protocol):
    """Just enough HTTP: reads a request by its Content-Length, answers later; sums up how long it really took."""

    spent: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        if mark and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            prompt = orjson.loads(body)["prompt"]
            self.buffer = b""
            asyncio.get_running_loop().call_later(LATENCY_S, self.answer, prompt, time.perf_counter())

    def answer(self, prompt: str, arrived: float) -> None:
        choice = {"index": 0, "text": f"A rewrite of {prompt}", "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 220, "completion_tokens": 14, "total_tokens": 234}
        body = orjson.dumps({"id": "x", "object": "text_completion", "choices": [choice], "usage": usage})
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.spent.value += time.perf_counter() - arrived


def serve(port: Connection, spent: Any) -> None:
    os.sched_setaffinity(0, {1})
    Simulated.spent = spent

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Simulated, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def request(number: int) -> CompletionRequest:
    """Return a request of the size of three pairs and a caption."""
    prompt = "A dog runs over the grass => On the grass, a dog is running\n" * 12 + f"{number} people on a boat =>"
    return CompletionRequest(
        "completions", {"model": "m", "prompt": prompt, "temperature": 0.9, "max_tokens": 77, "seed": number}
    )


class Bare(asyncio.Protocol):
    """One slot of a client that does nothing: the next request goes out as soon as an answer is whole."""

    def __init__(self, waiting: Iterator[bytes]) -> None:
        self.waiting, self.ended, self.buffer = waiting, asyncio.get_running_loop().create_future(), b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.send()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        if mark and len(body) >= int(head.rpartition(b"Content-Length:")[2]):
            self.buffer = b""
            self.send()

    def send(self) -> None:
        body = next(self.waiting, None)
        if body is None:
            self.ended.set_result(None)
        else:
            self.transport.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def run_bare(port: int, count: int) -> None:
    waiting = (orjson.dumps(dict(request(number).body)) for number in range(count))
    connect = asyncio.get_running_loop().create_connection
    started, cpu = time.perf_counter(), time.process_time()
    slots = [(await connect(lambda: Bare(waiting), "127.0.0.1", port))[1] for _ in range(SLOTS)]
    await asyncio.gather(*(slot.ended for slot in slots))
    rate, cost = count / (time.perf_counter() - started), 1e6 * (time.process_time() - cpu) / count
    print(
        f"bare client: {rate:.0f}/s, {100 * rate * LATENCY_S / SLOTS:.1f} % of the ideal; {cost:.0f} us of CPU for each"
    )
    for slot in slots:
        slot.transport.close()


def run(served: ServedModel, count: int, spent: Any) -> None:
    process, started = psutil.Process(), time.perf_counter()
    cpu, marks = time.process_time(), {count // 10, count // 2, count}
    with served.open() as line:
        for number in range(min(WINDOW, count)):
            line.submit(request(number))
        done = 0
        for _ in line.outcomes():
            done += 1
            if done + WINDOW <= count:
                line.submit(request(done + WINDOW - 1))
            if done in marks:
                print(f"{done:>8,} outcomes: {process.memory_info().rss / 2**20:6.1f} MiB resident")
    wall, ideal = time.perf_counter() - started, SLOTS / LATENCY_S
    rate, allowed = done / wall, SLOTS * done / spent.value
    print(f"{done:,} in {wall:.1f} s: {rate:.0f}/s, {100 * rate / ideal:.1f} % of {ideal:.0f}/s,", end=" ")
    print(f"{100 * rate / allowed:.1f} % of the {allowed:.0f}/s that the server allowed;", end=" ")
    print(f"client: {1e6 * (time.process_time() - cpu) / done:.0f} us of CPU for each; load {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("num", nargs="?", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=1)
    asked = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    spent = context.Value("d", 0.0)
    server = context.Process(target=serve, args=(theirs, spent), daemon=True)
    server.start()
    os.sched_setaffinity(0, {0})
    port = ours.recv()
    for _ in range(asked.repeat):
        asyncio.run(run_bare(port, asked.num))
        spent.value = 0.0
        with tempfile.TemporaryDirectory() as folder:
            served = ServedModel("m", f"http://127.0.0.1:{port}/v1", str(Path(folder) / "answers.sqlite"), SLOTS)
            run(served, asked.num, spent)
    server.terminate()
    server.join()


if __name__ == "__main__":
    main()
