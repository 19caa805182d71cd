"""Windows as tests open them: asked without a network, or served by the real command."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from data_manifests.manifest import DatasetVersion
from flows.window.guard import Guard
from flows.window.opened import OpenedDataset
from flows.window.server import window_app
from tests.flows.pages import catalog_of

PORT, TOKEN = 8123, "a-token-of-a-test"
OWN = {"host": f"127.0.0.1:{PORT}", "cookie": f"clipcurate-{PORT}={TOKEN}"}
"""What the page's own browser sends."""


def window_on(version: DatasetVersion, *runs: Path) -> Guard:
    """Return a window's application, not served."""
    return window_app(OpenedDataset.open(catalog_of(version), version.ref, runs), PORT, TOKEN)


def ask(
    app: Guard, address: str, headers: Mapping[str, str] = OWN, method: str = "GET", body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer to a request."""
    path, _, query = address.partition("?")
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    listed = [(key.encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(), "headers": listed, "http_version": "1.1", "scheme": "http", "root_path": "", "server": ("127.0.0.1", PORT)}  # fmt: skip
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    told = {key.decode(): value.decode() for key, value in said[0]["headers"]}
    return said[0]["status"], told, b"".join(part.get("body", b"") for part in said[1:])


def answer(app: Guard, address: str) -> Any:
    """Return the JSON of an answer that must be one."""
    status, _, body = ask(app, address)
    assert status == 200, body
    return orjson.loads(body)


def tell(app: Guard, address: str, what: Any) -> tuple[int, Any]:
    """Return status and JSON of the answer to what the page writes."""
    headers = {**OWN, "origin": f"http://127.0.0.1:{PORT}", "content-type": "application/json"}
    status, _, body = ask(app, address, headers, "POST", orjson.dumps(what))
    return status, orjson.loads(body) if body.startswith((b"{", b"[")) else body


@contextmanager
def served(version: DatasetVersion, *options: str) -> Iterator[str]:
    """Serve a window by the real command; yields its address."""
    catalog = catalog_of(version)
    words = [
        "--workspace",
        str(catalog.workspace),
        "--manifests",
        str(catalog.manifests),
        "open",
        version.ref,
        *options,
    ]
    command = [sys.executable, "-m", "flows.cli.main", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address
        try:
            yield address
        finally:
            process.terminate()
