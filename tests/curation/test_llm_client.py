"""The HTTP client with servers that work, fail, send malformed replies and disappear; no answered request is sent again."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from curation.engine.stage import Resource
from curation.llm.client import ServedModel, proxy_for
from curation.llm.interface import Answer, Failure, LanguageModel
from curation.llm.journal import CompletionOutcome, Journal, JournalEntry
from data_manifests.errors import InputError
from tests.curation.llm_servers import FAULTS, MODEL, Behaviour, Server, ask, faulty, prompt_of, question, says, well

ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {"slots": 8, "timeout_s": 2.0, "backoff_s": 0.01, "max_pause_s": 0.5}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


def model(server: Server, journal: Path, **changes: Any) -> ServedModel:
    return ServedModel(MODEL, server.url, str(journal), **{**QUICK, **changes})


def dead_model(journal: Path, **changes: Any) -> ServedModel:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    return ServedModel(MODEL, address, str(journal), **{**QUICK, **changes})


@pytest.mark.parametrize("endpoint", ["completions", "chat/completions"])
def test_an_answer_is_returned_unchanged(endpoint: Any, journal: Path) -> None:
    with Server() as server:
        got = ask(model(server, journal), [question(7, endpoint)])
    assert got == {7: Answer("snur god a :7 noitpac", "stop", 10, 5)}


@pytest.mark.slow
def test_two_thousand_requests_with_thirty_percent_failed_attempts(journal: Path) -> None:
    requests = [question(n) for n in range(2000)]
    broken = [prompt_of(dict(requests[n].body)) for n in (17, 1234)]
    with Server(faulty(0.3, seed=1, broken=broken)) as server:
        got = ask(model(server, journal, slots=64, attempts=12), requests)
        asked = server.asked.total()
        again = ask(model(server, journal, slots=64), requests)
        assert server.asked.total() == asked  # the second run asked nothing
    assert again == got
    assert sorted(got) == list(range(2000))
    failed = {tag: outcome for tag, outcome in got.items() if isinstance(outcome, Failure)}
    assert failed == dict.fromkeys((17, 1234), Failure("wrong_shape", "no 'choices' with a choice in it"))
    assert all(outcome.text == prompt_of(dict(requests[n].body))[::-1] for n, outcome in got.items() if n not in failed)
    assert set(server.answered.values()) == {1}  # nothing that was answered was asked again
    assert asked > 2500
    held = Journal(journal)
    assert held.usage(MODEL)[:2] == (1998, 2)
    assert held.failures(MODEL) == {"wrong_shape": 2}
    held.close()


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_becomes_a_named_failure_or_stops_the_run(name: str, journal: Path) -> None:
    with Server(FAULTS[name]) as server:
        if name == "rate_limited":
            with pytest.raises(InputError, match="too many requests"):
                ask(model(server, journal, attempts=2), [question(0)])
        else:
            limit = 0.2 if name == "timeout" else 5.0
            got = ask(model(server, journal, attempts=2, timeout_s=limit), [question(0)])[0]
            assert isinstance(got, Failure)
            assert got.reason == name
        assert server.asked.total() == 2


@pytest.mark.parametrize(("status", "num_asked"), [(400, 1), (413, 1), (422, 1), (408, 3), (500, 3), (503, 3)])
def test_which_statuses_are_retried(status: int, num_asked: int, journal: Path) -> None:
    with Server(says(status, '{"error": {"message": "no"}}')) as server:
        got = ask(model(server, journal, attempts=3), [question(0)])[0]
    reason = "refused" if num_asked == 1 else "server_error"
    assert got == Failure(reason, f"HTTP {status}: no" if num_asked == 1 else f"HTTP {status}")
    assert server.asked.total() == num_asked


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (says(401, "bad key sk-secret"), "CLIPCURATE_LLM_KEY"),
        (says(403, "no"), "CLIPCURATE_LLM_KEY"),
        (says(404, '{"error": {"message": "model x does not exist"}}'), "without #MODEL"),
        (says(400, f'{{"detail": "The model {MODEL} does not exist"}}'), "without #MODEL"),
        (says(400, '{"error": {"message": "response_format is not supported"}}'), "prompting=few_shot"),
        (says(302, "", Location="http://127.0.0.1:1/v1"), "HTTP 302"),
        (says(402, "pay"), "HTTP 402"),
    ],
)
def test_errors_that_stop_the_run(
    behave: Behaviour, words: str, journal: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIPCURATE_LLM_KEY", "sk-secret")
    with Server(behave) as server, pytest.raises(InputError, match=words) as stopped:
        ask(model(server, journal, slots=1), [question(n, response_format={"type": "json_schema"}) for n in range(20)])
    assert server.asked.total() == 1
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(stopped.value) + "".join(capfd.readouterr())
    assert b"sk-secret" not in journal.read_bytes() + pickle.dumps(model(server, journal))


def test_an_unusable_reply_is_asked_for_again_with_another_seed_on_record(journal: Path) -> None:
    seeds: list[int] = []

    async def behave(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
        seeds.append(body["seed"])
        return await (says(503) if nth == 1 else FAULTS["wrong_shape"] if nth < 4 else well)(request, body, nth)

    with Server(behave) as server:
        got = ask(model(server, journal), [question(0, seed=7)])[0]
    assert isinstance(got, Answer) and seeds[:2] == [7, 7]  # a busy server has seen no seed
    assert len(set(seeds)) == 3 and len(seeds) == 4
    with closing(sqlite3.connect(journal)) as held:
        assert held.execute("SELECT hex(key), detail, attempts FROM outcomes").fetchall() == [
            (question(0, seed=7).key.upper(), f"seed {seeds[-1]}", 4)
        ]
    again = Path(f"{journal}.again")
    first = list(seeds)
    with Server(behave) as server:
        assert ask(model(server, again), [question(0, seed=7)])[0] == got
    assert seeds[4:] == first


def test_a_rejected_caption_fails_alone(journal: Path) -> None:
    async def behave(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
        bad = prompt_of(body) == "caption 5: a dog runs"
        reply = says(400, "cannot read 'response_format'") if bad else well
        return await reply(request, body, nth)

    with Server(behave) as server:
        got = ask(model(server, journal, slots=1), [question(n, response_format={}) for n in range(8)])
    assert [n for n, outcome in got.items() if isinstance(outcome, Failure)] == [5]
    assert len(got) == 8


def test_an_unreachable_server_stops_the_run_without_failures(journal: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be reached(?s:.)*answers so far are kept"):
        ask(dead_model(journal, slots=2), [question(n) for n in range(5)])
    held = Journal(journal)
    assert held.models() == []
    held.close()


def test_a_broken_server_stops_the_run_without_failures(journal: Path) -> None:
    with Server(says(200, "<html>a login page</html>")) as server:
        with pytest.raises(InputError, match=r"none of 1\d requests in a row(?s:.)*invalid_json"):
            ask(model(server, journal, slots=4, attempts=2), [question(n) for n in range(500)])
        assert server.asked.total() < 40
        server.behave = well
        got = ask(model(server, journal), [question(n) for n in range(500)])
    assert all(isinstance(outcome, Answer) for outcome in got.values())


def test_rate_limits_slow_all_workers(journal: Path) -> None:
    times: list[float] = []

    async def behave(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
        times.append(time.monotonic())
        storm = times[-1] - times[0] < 0.6
        reply = says(429, "", **{"Retry-After": "0.3"}) if storm else well
        return await reply(request, body, nth)

    with Server(behave) as server:
        got = ask(model(server, journal, slots=16, backoff_s=0.05), [question(n) for n in range(200)])
    assert all(isinstance(outcome, Answer) for outcome in got.values())
    during = sum(moment - times[0] < 0.6 for moment in times)
    assert during <= 3 * 16  # each slot asks once per pause, however fast the refusals come


def test_concurrency_is_limited_and_equal_requests_are_sent_once(journal: Path) -> None:
    with Server() as server:
        requests = [question(n % 50) for n in range(500)]
        with model(server, journal, slots=3).open() as line:
            for request in requests:
                line.submit(request)
            assert len(list(line.outcomes())) == 500
    assert server.most_at_once <= 3
    assert set(server.asked.values()) == {1} and len(server.asked) == 50


def test_more_may_be_submitted_while_iterating(journal: Path) -> None:
    with Server() as server, model(server, journal).open() as line:
        line.submit(question(0))
        seen = []
        for request, _ in line.outcomes():
            seen.append(request.tag)
            if request.tag < 30:
                line.submit(question(request.tag + 1))
        assert seen == list(range(31))
        line.submit(question(99))
        assert [request.tag for request, _ in line.outcomes()] == [99]


RUN = """
import sys
from curation.llm.client import ServedModel
from tests.curation.llm_servers import MODEL, question
url, journal, first, stop = sys.argv[1:]
with ServedModel(MODEL, url, journal, slots=8).open() as line:
    for number in range(int(first), int(stop)):
        line.submit(question(number))
    for request, outcome in line.outcomes():
        print(request.tag, outcome.text, flush=True)
"""


def run(server: Server, journal: Path, first: int, stop: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, server.url, str(journal), str(first), str(stop)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


HALF_IMPORTED = """
import sys, threading, time
from curation.llm.client import ServedModel
from tests.curation.llm_servers import MODEL, question
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "httpx._client":
            time.sleep(2)
sys.meta_path.insert(0, Slow())
url, journal = sys.argv[1:]
with ServedModel(MODEL, url, journal, slots=8).open() as line:
    line.submit(question(0))
    assert len(list(line.outcomes())) == 1
    threading.Thread(target=__import__, args=["httpx"]).start()
    while "httpx" not in sys.modules:
        time.sleep(0.01)
    line.submit(question(1))
    assert len(list(line.outcomes())) == 1
"""


def test_another_thread_may_be_importing_httpx_meanwhile(journal: Path) -> None:
    with Server() as server:
        command = [sys.executable, "-c", HALF_IMPORTED, server.url, str(journal)]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert result.returncode == 0, result.stderr


async def slowly(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
    await asyncio.sleep(0.01)
    return await well(request, body, nth)


def test_after_kill_9_only_unanswered_requests_are_sent(journal: Path) -> None:
    with Server(slowly) as server:
        process = run(server, journal, 0, 3000)
        assert process.stdout is not None
        yielded = [process.stdout.readline() for _ in range(300)]
        os.kill(process.pid, signal.SIGKILL)
        yielded += process.stdout.readlines()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        held = Journal(journal)
        known = held.usage(MODEL).answers
        held.close()
        assert len(yielded) <= known < 3000
        time.sleep(0.1)
        before = server.asked.copy()
        got = ask(model(server, journal, timeout_s=10), [question(n) for n in range(3000)])
        second = server.asked - before
    assert len(got) == 3000
    assert second.total() == 3000 - known  # the server's own log
    assert before.total() - known <= 2 * 8  # at the kill, for each slot: one under way, one being committed
    for line in filter(lambda text: text.endswith("\n"), yielded):
        number, _, text = line.rstrip("\n").partition(" ")
        assert got[int(number)] == Answer(text, "stop", got[int(number)].prompt_tokens, 5)
        assert prompt_of(dict(question(int(number)).body)) not in second


def test_with_a_slow_disk_few_answers_are_uncommitted(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, recorded, at_risk = Journal.record, [0], []

    def late(self: Journal, entries: list[JournalEntry]) -> list[tuple[str, CompletionOutcome]]:
        time.sleep(0.1)  # the server answers ten times meanwhile
        outcomes = record(self, entries)
        recorded[0] += len(entries)
        at_risk.append(server.asked.total() - recorded[0])
        return outcomes

    monkeypatch.setattr(Journal, "record", late)
    with Server(slowly) as server:
        ask(model(server, journal, slots=8), [question(n) for n in range(100)])
    assert recorded[0] == 100
    assert 0 < max(at_risk) <= 2 * 8


def test_a_rebuild_needs_no_server_no_key_and_no_package(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [question(n) for n in range(200)]
    with Server(faulty(0.2, 3, ["caption 9: a dog runs"])) as server:
        first = ask(model(server, journal, attempts=8), requests)
    monkeypatch.setitem(sys.modules, "openai", None)
    assert ask(dead_model(journal), requests) == first
    assert isinstance(first[9], Failure)
    with pytest.raises(InputError, match=r"clipcurate\[llm\]"):
        ask(dead_model(journal), [question(200)])


def test_several_processes_share_a_journal(journal: Path) -> None:
    with Server(slowly) as server:
        processes = [run(server, journal, first, first + 300) for first in (0, 100, 200)]
        outputs = [process.communicate(timeout=60)[0].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0]
    assert [len(lines) for lines in outputs] == [300, 300, 300]
    assert len({line for lines in outputs for line in lines}) == 500
    held = Journal(journal)
    assert held.usage(MODEL).answers == 500
    held.close()


def test_identity_depends_only_on_the_model(journal: Path) -> None:
    one = ServedModel("a", "http://h:1/v1", str(journal))
    assert one.content_hash() == ServedModel("a", "https://other/v1", "elsewhere", slots=2).content_hash()
    assert one.content_hash() != ServedModel("b", "http://h:1/v1", str(journal)).content_hash()
    assert pickle.loads(pickle.dumps(one)) == one
    assert isinstance(one, LanguageModel) and isinstance(one, Resource)
    assert "h:1" not in one.describe()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("localhost:8080/v1", "is not an HTTP address"),
        ("ftp://h/v1", "is not an HTTP address"),
        ("http://me:pw@h/v1", "CLIPCURATE_LLM_KEY"),
    ],
)
def test_malformed_addresses_are_rejected(address: str, words: str, journal: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ServedModel("a", address, str(journal))
    assert "pw" not in str(caught.value)


def test_proxies_are_not_used_for_this_machine(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_for("http://h.example/v1") == "http://127.0.0.1:1"
    assert proxy_for("http://inside.example:80/v1") is None
    with Server() as server:
        assert isinstance(ask(model(server, journal), [question(1)])[1], Answer)


def test_a_proxy_that_refuses_is_named(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    far = ServedModel(MODEL, "http://llm.example/v1", str(journal), **{**QUICK, "attempts": 1})
    with pytest.raises(
        InputError, match=f"llm.example cannot be reached through the proxy 127.0.0.1:{port}: "
    ) as caught:
        ask(far, [question(0)])
    assert "secret" not in str(caught.value)


def test_a_client_with_pending_requests_closes_at_once(journal: Path) -> None:
    started = time.monotonic()
    with Server(FAULTS["timeout"]) as server:
        with model(server, journal, timeout_s=30).open() as line:
            for n in range(100):
                line.submit(question(n))
            time.sleep(0.05)
        assert time.monotonic() - started < 1.0


@pytest.mark.parametrize(("status", "expected"), [(503, "server_error"), (400, "refused")])
def test_of_an_endless_error_page_only_the_beginning_is_read(status: int, expected: str, journal: Path) -> None:
    sent: list[int] = []

    async def behave(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
        reply = web.StreamResponse(status=status, headers={"Content-Encoding": "gzip"})  # it is not
        await reply.prepare(request)
        with suppress(ConnectionError):
            for _ in range(400):
                await reply.write(b"<p>not now</p>" * 4096)
                sent.append(14 * 4096)
        return reply

    with Server(behave) as server:
        got = ask(model(server, journal, attempts=1), [question(0)])[0]
    assert isinstance(got, Failure)
    assert got.reason == expected
    assert sum(sent) < 400 * 14 * 4096


def test_proxies_passwords_and_addresses_of_the_environment_are_not_used(
    journal: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    for name, value in (
        ("NETRC", str(tmp_path / "netrc")),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("CLIPCURATE_LLM_KEY", raising=False)
    with Server() as server:
        assert isinstance(ask(model(server, journal), [question(1)])[1], Answer)
    assert "Authorization" not in server.headers[0]
    assert "secret" not in str(server.headers)


def test_a_certificate_that_is_not_trusted_stops_the_run(journal: Path, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Server(tls=context) as server, pytest.raises(InputError, match=r"not trusted(?s:.)*SSL_CERT_FILE"):
        ask(model(server, journal), [question(0)])
    assert server.asked.total() == 0
