"""Parsing of well-formed and malformed replies."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from curation.llm.client import ServedModel
from curation.llm.interface import Answer, Failure
from curation.llm.responses import (
    ONLY_THINKING,
    FailedAttempt,
    complains_about_model,
    error_message,
    read_reply,
    without_thinking,
)
from tests.curation.llm_servers import MODEL, Server, ask, question, reply_to

GOOD = {"choices": [{"text": "hi", "finish_reason": "length"}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}


def without(**changes: Any) -> bytes:
    return orjson.dumps({**GOOD, **changes})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (without(), Answer("hi", "length", 3, 1)),
        (without(usage=None), Answer("hi", "length", 0, 0)),
        (without(usage={"prompt_tokens": -5, "completion_tokens": "many"}), Answer("hi", "length", 0, 0)),
        (without(choices=[{"text": "", "finish_reason": None}]), Answer("", "unknown", 3, 1)),
        (without(choices=[{"text": "x", "finish_reason": "y" * 1000}]), Answer("x", "unknown", 3, 1)),
        (b"", FailedAttempt("empty_body")),
        (b" \n", FailedAttempt("empty_body")),
        (b'{"choices": [{"text": "\xff"}]}', FailedAttempt("invalid_json", "28 bytes that are not JSON")),
        (b'{"choices": [{"text": "\\ud800"}]}', FailedAttempt("invalid_json", "33 bytes that are not JSON")),
        (b"[" * 100_000, FailedAttempt("invalid_json", "100000 bytes that are not JSON")),
        (b"null", FailedAttempt("wrong_shape", "no 'choices' with a choice in it")),
        (without(choices={}), FailedAttempt("wrong_shape", "no 'choices' with a choice in it")),
        (without(choices=["hi"]), FailedAttempt("wrong_shape", "no 'choices' with a choice in it")),
        (without(choices=[{"text": 7}]), FailedAttempt("wrong_shape", "the choice holds no text")),
    ],
)
def test_completions(data: bytes, expected: Any) -> None:
    assert read_reply("completions", data) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "hi"}, Answer("hi", "unknown", 3, 1)),
        ({"content": None, "refusal": "no"}, Failure("refused", "the model declined")),
        ({"content": None, "reasoning_content": "hm"}, Answer(ONLY_THINKING, "unknown", 3, 1)),
        ({"content": "", "reasoning": "hm"}, Answer(ONLY_THINKING, "unknown", 3, 1)),
        ({"content": "hi", "reasoning_content": "hm"}, Answer("hi", "unknown", 3, 1)),
        (
            {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]},
            Answer("hi", "unknown", 3, 1),
        ),
        ({"content": None}, FailedAttempt("wrong_shape", "the choice holds no text")),
        ("hi", FailedAttempt("wrong_shape", "the choice holds no text")),
    ],
)
def test_chat(message: Any, expected: Any) -> None:
    assert read_reply("chat/completions", without(choices=[{"message": message}])) == expected


@pytest.mark.parametrize("content", [None, ""])
def test_an_answer_that_ends_before_it_begins_is_only_thinking(content: Any) -> None:
    choice = {"message": {"content": content}, "finish_reason": "length"}
    assert read_reply("chat/completions", without(choices=[choice])) == Answer(ONLY_THINKING, "length", 3, 1)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A dog", "A dog"),
        ("<think>a cat?</think>A dog", "A dog"),
        ("<THINKING>a\ncat?</THINKING>A dog", "A dog"),
        ("[THINK]a cat?[/THINK]A dog", "A dog"),
        ("a cat? no</think>A dog", "A dog"),
        ("<think>a cat? I wo", ""),
        ("<think>a<think>cat</think>?</think>A dog", "A dog"),
        ("A dog<think>right?</think>", "A dog"),
        ("<think>1</think>A<reasoning>2</reasoning> dog", "A dog"),
        (ONLY_THINKING, ""),
    ],
)
def test_thinking_is_cut_off(text: str, answer: str) -> None:
    assert without_thinking(text) == answer


def test_a_million_tags_are_cut_off_in_linear_time() -> None:
    started = time.monotonic()
    assert without_thinking("<think>" * 150_000) == "" == without_thinking("</think>" * 130_000)
    assert time.monotonic() - started < 5


def test_error_messages() -> None:
    assert error_message(b'{"error": {"message": "too long", "code": 400}}') == "too long"
    assert error_message(b'{"error": "too long"}') == error_message(b'{"detail": "too long"}') == "too long"
    assert error_message(b'{"detail": [{"loc": 1}]}') == '[{"loc":1}]'
    assert error_message(b"<html>\xff") == "<html>�"
    assert complains_about_model("The model `a/B` does not exist.", "a/B")
    assert not complains_about_model("the picture was not found by the model", "a/B")


@pytest.mark.parametrize(("how", "reason"), [("announced", "answer_too_large"), ("packed", "invalid_json")])
def test_large_and_compressed_bodies_are_not_read(how: str, reason: str, tmp_path: Path) -> None:
    async def behave(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
        if how == "announced":
            return web.Response(body=b" " * 5_000_000)
        data = gzip.compress(orjson.dumps({**reply_to(body), "padding": "0" * 2_000_000}))
        return web.Response(body=data, headers={"Content-Encoding": "gzip"})

    with Server(behave) as server:
        model = ServedModel(MODEL, server.url, str(tmp_path / "j"), attempts=2, backoff_s=0.01)
        got = ask(model, [question(0)])[0]
    assert isinstance(got, Failure) and got.reason == reason
