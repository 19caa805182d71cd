"""A curation whose language model writes nothing usable: what is printed, the exit code, and what is kept."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from curation.llm.journal import Journal
from tests.curation.llm_servers import MODEL, Server, prompt_of, reply_to
from tests.flows.test_forget_answers import photographs, shell  # noqa: F401 - a fixture
from tests.flows.test_renewing import Shell


async def only_thinks(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
    """Spend all tokens on thinking, as a reasoning model behind vLLM does."""
    message = {"role": "assistant", "content": None, "reasoning_content": "Okay, the user wants"}
    return web.json_response({**reply_to(body), "choices": [{"message": message, "finish_reason": "length"}]})


async def says_the_same(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
    """Answer with the caption."""
    text = json.dumps({"caption": json.loads(prompt_of(body))["caption"]})
    return web.json_response({**reply_to(body), "choices": [{"message": {"content": text}, "finish_reason": "stop"}]})


def curate(shell: Shell, server: Server) -> tuple[int, str, str]:  # noqa: F811
    llm = ("--llm", f"{server.url}#{MODEL}", "--set", "stages.ask_negatives.prompting=schema", "--workers", "1")
    words = ("--source", f"folder:{shell.root / 'photos'}", "--name", "t", "--no-prefect", *llm)
    return shell("curate", "triplet_clip", *words)


def test_what_ends_a_run_and_what_is_kept(shell: Shell) -> None:  # noqa: F811
    photographs(shell.root / "photos")
    with Server(only_thinks) as server:
        code, _, err = curate(shell, server)
        assert code == 2 and "spent all of max_tokens=77 on thinking" in err, err
        assert "--set stages.ask_negatives.max_tokens=2048, or switch thinking off" in err
        assert 10 <= server.asked.total() <= 72  # one seed for each draw, and no draw is asked for twice
    (shell.workspace / "answers.sqlite").unlink()
    with Server(says_the_same) as server:
        code, _, err = curate(shell, server)
        asked = server.asked.total()
        assert code == 1 and "ask_negatives: 0 of 1" in err and "rejected as copy (1" in err, err
        assert "copy, for example: 'A brown dog and a red ball lie beside the" in err
        assert curate(shell, server)[0] == 1 and server.asked.total() == asked
    assert shell("versions", "t")[0] == 2, "nothing was published"
    held = Journal(shell.workspace / "answers.sqlite")
    assert held.usage(MODEL).answers == asked >= 100
    held.close()
