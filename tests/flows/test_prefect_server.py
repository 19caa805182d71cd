"""What makes Prefect's start fail is one message that names the variable or the file, not a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CLI = (sys.executable, "-c", "from flows.cli.main import main; main()")
START = (
    sys.executable,
    "-c",
    """
import sys
from data_manifests.errors import InputError
from flows.execution.prefect_server import start_prefect
try:
    start_prefect("give --no-prefect")
except InputError as error:
    sys.exit(str(error))
""",
)
LIMIT_S = 100.0


def start(folder: Path, command: tuple[str, ...] = START, /, **variables: str) -> tuple[int, str]:
    """Run a command in an empty folder with only these variables for Prefect and proxies; return exit code and errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SSL_"))}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    paths = os.pathsep.join(path for path in (os.getcwd(), *sys.path) if path)  # noqa: PTH109
    settings = {**kept, "PYTHONPATH": paths, "PREFECT_HOME": str(folder / "home"), **variables}
    cwd = folder / "cwd"
    cwd.mkdir(exist_ok=True)
    ran = subprocess.run(command, env=settings, cwd=cwd, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stderr


def refusal(folder: Path, **variables: str) -> str:
    """Return the message with which Prefect's start is refused."""
    code, errors = start(folder, **variables)
    assert code == 1
    assert "--no-prefect" in errors
    return errors


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PREFECT_LOGGING_LEVEL", "NOISY", "Input should be 'DEBUG'"),
        ("PREFECT_API_REQUEST_TIMEOUT", "soon", "valid number"),
        ("PREFECT_PROFILE", "nope", "no such profile"),
        ("PREFECT_API_URL", "nonsense", "missing an 'http://'"),
        ("PREFECT_HOME", "/dev/null/home", "cannot be written"),
        ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "nonsense", "sqlite+aiosqlite:///FILE"),
        ("PREFECT_SERVER_EPHEMERAL_ENABLED", "false", "has no server"),
        ("ALL_PROXY", "gopher://127.0.0.1:9", "Unknown scheme"),
        ("NO_PROXY", "[::1", "cannot use it"),
        ("SSL_CERT_FILE", "/dev/null/certificates", "cannot use it"),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, name: str, value: str, expected: str) -> None:
    errors = refusal(tmp_path, **{name: value})
    assert name in errors and value in errors and expected in errors


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("cwd/.env", "PREFECT_API_REQUEST_TIMEOUT=soon", "valid number"),
        ("cwd/prefect.toml", '[api]\nrequest_timeout = "soon"', "valid number"),
        ("cwd/prefect.toml", "[logging", "Expected ']'"),
        (
            "home/profiles.toml",
            'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "nonsense"',
            "PREFECT_API_URL=nonsense",
        ),
        ("home/profiles.toml", "active = ", "Invalid value"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, file: str, text: str, expected: str) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text)
    errors = refusal(tmp_path)
    assert str(tmp_path / file) in errors and expected in errors


def test_a_server_that_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        errors = refusal(tmp_path, PREFECT_API_URL=f"http://127.0.0.1:{listening.getsockname()[1]}/api")
    assert "no answer within 5 s" in errors


class Page(BaseHTTPRequestHandler):
    """Answers everything with a page, as the address of Prefect's pages does without ``/api``."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html></html>")

    def log_message(self, *args: object) -> None:
        return


def test_an_address_without_api(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        errors = refusal(tmp_path, PREFECT_API_URL=f"http://user:secret@127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "such as http://127.0.0.1:4200/api" in errors
    assert "secret" not in errors


def test_curate_ends_with_exit_code_2(tmp_path: Path, closed_port: int) -> None:
    folders = ("--workspace", str(tmp_path / "w"), "--manifests", str(tmp_path / "m"))
    command = (*CLI, *folders, "curate", "clip", "--source", "scenes:5", "--name", "toy", "--workers", "1")
    url = f"http://127.0.0.1:{closed_port}/api"
    code, errors = start(tmp_path, command, PREFECT_API_URL=url)
    assert code == 2
    assert f"PREFECT_API_URL={url}" in errors and "Connection refused" in errors and "--no-prefect" in errors


def test_a_schedule_on_no_server_ends_with_exit_code_2(tmp_path: Path, closed_port: int) -> None:
    command = (*CLI, "schedule", "clip", "--source", "scenes:5", "--name", "toy", "--cron", "0 3 * * *")
    url = f"http://127.0.0.1:{closed_port}/api"
    code, errors = start(tmp_path, command, PREFECT_API_URL=url)
    assert code == 2
    assert f"PREFECT_API_URL={url}" in errors and "temporary" not in errors


@pytest.mark.slow
def test_a_proxy_is_not_asked_for_this_machine(tmp_path: Path, closed_port: int) -> None:
    proxy = f"http://127.0.0.1:{closed_port}"
    assert start(tmp_path, HTTP_PROXY=proxy, HTTPS_PROXY=proxy, ALL_PROXY=proxy, NO_PROXY="example.com") == (0, "")


CURATE = (
    *(*CLI, "--workspace", "w", "--manifests", "m", "curate", "clip", "--source", "scenes:5", "--name", "toy"),
    *("--workers", "1"),
)


def test_without_a_server_curation_starts_none(tmp_path: Path) -> None:
    """And looks at no setting of Prefect that is wrong: nothing is asked of it."""
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "pyproject.toml").write_text('[project]\ndependencies = ["prefect"]')
    code, errors = start(tmp_path, CURATE, PREFECT_LOGGING_LEVEL="NOISY")
    assert code == 0, errors
    assert "starting Prefect" not in errors
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("cwd/.env", "PREFECT_API_URL={}"),
        ("cwd/prefect.toml", '[api]\nurl = "{}"'),
        ("cwd/pyproject.toml", '[tool.prefect.api]\nurl = "{}"'),
        ("home/profiles.toml", 'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{}"'),
    ],
)
def test_a_server_is_configured_in_a_file(tmp_path: Path, closed_port: int, file: str, text: str) -> None:
    url = f"http://127.0.0.1:{closed_port}/api"
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text.format(url))
    code, errors = start(tmp_path, CURATE)
    assert code == 2
    assert "starting Prefect" in errors and url in errors and "--no-prefect" in errors
    assert start(tmp_path, (*CURATE, "--no-prefect"))[0] == 0


def test_a_settings_file_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "profiles.toml").write_text('active = "mine"\n[profiles.mine]\nPREFECT_LOGGING_LEVEL = "INFO"')
    code, errors = start(tmp_path, CURATE)
    assert code == 0, errors
    assert "starting Prefect" not in errors
