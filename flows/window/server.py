"""The server of a window: addresses, and what answers at each. Everything is read by version and row; no address has a path of a file."""

from __future__ import annotations

import functools
import math
import socket
from collections.abc import Callable
from importlib import resources
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from data_manifests.errors import InputError
from flows.window.grid import GridQuery, window_of
from flows.window.guard import Guard, new_token
from flows.window.opened import OpenedDataset
from flows.window.pictures import picture_type
from flows.window.sample_view import sample_view

HOST = "127.0.0.1"
_FILES = {
    "window.html": ("flows.window", "text/html"),
    "icon.svg": ("flows.window", "image/svg+xml"),
    "page.css": ("flows.pages", "text/css"),
    "window.css": ("flows.window", "text/css"),
    "window.js": ("flows.window", "text/javascript"),
    "parts.js": ("flows.window", "text/javascript"),
    "sample.js": ("flows.window", "text/javascript"),
}
"""The page's own files: the package that has each, and its type."""
_KEEP = {"cache-control": "private, max-age=600"}
"""Of pictures: what a version has does not change."""


def window_app(dataset: OpenedDataset, port: int, token: str) -> Guard:
    """Return the ASGI application of a window, guarded.

    Args:
        dataset: What it shows.
        port: Where it is served; requests for another host or port are refused.
        token: What its address has.
    """
    answers = _Answers(dataset)
    routes = [
        Route("/", functools.partial(_file, "window.html")),
        *(Route(f"/{name}", functools.partial(_file, name)) for name in _FILES if name != "window.html"),
        Route("/api/start", _json(answers.start)),
        Route("/api/{version}/about", _json(answers.about)),
        Route("/api/{version}/grid", _json(answers.grid)),
        Route("/api/{version}/facets", _json(answers.facets)),
        Route("/api/{version}/dropped", _json(answers.dropped)),
        Route("/api/{version}/sample/{row:int}", _json(answers.sample)),
        Route("/small/{version}/{row:int}", answers.small),
        Route("/picture/{version}/{row:int}", answers.picture),
    ]
    return Guard(Starlette(routes=routes), port, token)


def serve(dataset: OpenedDataset, port: int, say: Callable[[str], None]) -> None:
    """Serve a window on 127.0.0.1 until Ctrl-C.

    Args:
        dataset: What it shows.
        port: Where; 0 takes a free port.
        say: Told the address once it is open.

    Raises:
        InputError: the port is taken.
    """
    import uvicorn

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"--port {port}: {error.strerror}", fix="give another port; without --port a free one is taken"
            ) from None
        listening.listen(64)
        opened, token = listening.getsockname()[1], new_token()
        say(f"http://{HOST}:{opened}/?token={token}")
        settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", "server_header": False}
        uvicorn.Server(uvicorn.Config(window_app(dataset, opened, token), **settings)).run(sockets=[listening])


class _Answers:
    """What is answered at each address."""

    def __init__(self, dataset: OpenedDataset) -> None:
        self._dataset = dataset

    def start(self, request: Request) -> dict[str, Any]:  # noqa: ARG002 - as all answers
        """Return where the page starts."""
        return {"name": self._dataset.name, "version": self._dataset.first}

    def about(self, request: Request) -> dict[str, Any]:
        """Return what a version is."""
        return self._dataset.version(request.path_params["version"]).about(self._dataset.catalog)

    def grid(self, request: Request) -> dict[str, Any]:
        """Return a window of the rows that fit, with first captions."""
        opened = self._dataset.version(request.path_params["version"])
        query = GridQuery.parse(request.query_params.multi_items(), opened.columns)
        first, count = window_of(request.query_params)
        rows = opened.grid.rows(query)
        shown: list[int] = rows[first : first + count].tolist()
        cells: list[dict[str, Any]] = [{"row": row, "text": opened.pictures.text(row)[:400]} for row in shown]
        if query.sort:
            values = opened.columns.values(query.sort)
            for row, cell in zip(shown, cells, strict=True):
                value = float(values[row])
                cell["value"] = None if math.isnan(value) else value
        return {"total": len(rows), "of": opened.columns.num_rows, "from": first, "cells": cells}

    def facets(self, request: Request) -> list[dict[str, Any]]:
        """Return counts of the fields over what fits."""
        opened = self._dataset.version(request.path_params["version"])
        query = GridQuery.parse(request.query_params.multi_items(), opened.columns)
        return opened.grid.facets(query, several=request.query_params.get("several") == "1")

    def dropped(self, request: Request) -> dict[str, Any]:
        """Return samples that were left out."""
        first, count = window_of(request.query_params)
        opened = self._dataset.version(request.path_params["version"])
        return opened.dropped(first, count, request.query_params.get("reason", ""))

    def sample(self, request: Request) -> dict[str, Any]:
        """Return a sample."""
        opened = self._dataset.version(request.path_params["version"])
        return sample_view(opened.columns, request.path_params["row"], self._dataset.runs)

    def small(self, request: Request) -> Response:
        """Return a small picture."""
        try:
            data = self._dataset.version(request.path_params["version"]).pictures.small(request.path_params["row"])
        except InputError as error:
            return _problem(error)
        if data is None:
            return Response("the picture cannot be decoded\n", 415, media_type="text/plain")
        return Response(data, media_type="image/webp", headers=_KEEP)

    def picture(self, request: Request) -> Response:
        """Return a picture's own bytes, as a type that they prove; nothing else is ever sent."""
        try:
            data = self._dataset.version(request.path_params["version"]).pictures.original(request.path_params["row"])
        except InputError as error:
            return _problem(error)
        kind = picture_type(data)
        if kind is None:
            return Response("neither JPEG, PNG nor WebP\n", 415, media_type="text/plain")
        return Response(data, media_type=kind, headers=_KEEP)


def _file(name: str, request: Request) -> Response:  # noqa: ARG001 - as all endpoints
    """Return one of the page's own files."""
    package, kind = _FILES[name]
    return Response(resources.files(package).joinpath(name).read_bytes(), media_type=kind)


def _json(answer: Callable[[Request], Any]) -> Callable[[Request], Response]:
    """Return an endpoint whose answer is JSON; what cannot be answered is an error with status 400.

    Endpoints are plain functions, so Starlette runs them in threads: one slow answer keeps no other waiting.
    """

    @functools.wraps(answer)
    def respond(request: Request) -> Response:
        try:
            return Response(orjson.dumps(answer(request)), media_type="application/json")
        except InputError as error:
            return _problem(error)

    return respond


def _problem(error: InputError) -> Response:
    return Response(orjson.dumps({"error": str(error)}), 400, media_type="application/json")
