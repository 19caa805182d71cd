"""Does the client keep a server busy? A simulated server that answers after 50 ms, and 64 slots.

Run: python -m tests.benchmarks.bench_llm [NUM_REQUESTS]
The server runs in another process on core 1, the client (both its threads, and the journal) on core 0. Prints the
rate against the ideal of slots / latency (and against what the server allowed: on a busy machine its own answers are
late), and the client's memory on the way: it must not grow with the requests.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
import psutil  # type: ignore[import-untyped]

from curation.models.language_model import Request
from curation.models.llm_server import ServedModel

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


def request(number: int) -> Request:
    """Return a request of the size of three pairs and a caption."""
    prompt = "A dog runs over the grass => On the grass, a dog is running\n" * 12 + f"{number} people on a boat =>"
    return Request(
        "completions", {"model": "m", "prompt": prompt, "temperature": 0.9, "max_tokens": 77, "seed": number}
    )


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
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    spent = context.Value("d", 0.0)
    server = context.Process(target=serve, args=(theirs, spent), daemon=True)
    server.start()
    os.sched_setaffinity(0, {0})
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{ours.recv()}/v1"
        run(ServedModel("m", url, str(Path(folder) / "answers.sqlite"), SLOTS), count, spent)
    server.terminate()
    server.join()


if __name__ == "__main__":
    main()
