"""Prefect made ready for a command: its settings are read, and its server answers, or a temporary one is started.

Prefect itself reports what is wrong there late (some of it after two minutes) and with a traceback; here each problem is
one message that names the variable or the file. The temporary server is a child process in a session of its own: Ctrl-C
does not reach it, so that Prefect can still record how the flow ended, and it ends when its parent does, however that ends.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

from data_manifests.errors import InputError
from flows.execution.child_server import read_port, start_child, stop_child

if TYPE_CHECKING:
    from pydantic import ValidationError

HOST = "127.0.0.1"
_ANSWER_S = 5.0
_START_S = 120.0
_STOP_S = 5.0
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def start_prefect(instead: str) -> None:
    """Import Prefect, and make sure that it has a server: that of PREFECT_API_URL, or else a temporary one.

    Args:
        instead: How the command runs without Prefect, for the error's last line.

    Raises:
        InputError: Prefect's settings, its folder or its server cannot be used.
    """
    check_settings(instead)
    _silence_interrupt()
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_ENABLED

    if url := PREFECT_API_URL.value():
        check_server(url, f"unset PREFECT_API_URL for a temporary server, or {instead}")
    elif PREFECT_SERVER_EPHEMERAL_ENABLED.value():
        _check_home(instead)
        _check_database(instead)
        _start_server(instead)
    else:
        raise InputError(
            "PREFECT_SERVER_EPHEMERAL_ENABLED=false and PREFECT_API_URL is not set: Prefect has no server",
            allowed="a temporary server, or the address of a running one",
            fix=f"unset PREFECT_SERVER_EPHEMERAL_ENABLED, set PREFECT_API_URL, or {instead}",
        )


def has_server(instead: str) -> bool:
    """Return whether a server is configured: by PREFECT_API_URL, a profile or a settings file.

    Prefect takes two seconds to import, so it is asked only where some variable or file may name one.

    Raises:
        InputError: Prefect's settings cannot be read.
    """
    if os.environ.get("PREFECT_API_URL"):
        return True
    marks = {".env": b"PREFECT_", "pyproject.toml": b"[tool.prefect"}  # files that are not Prefect's alone
    if not os.environ.get("PREFECT_PROFILE") and not any(
        marks.get(path.name, b"") in path.read_bytes() for path in _settings_files()
    ):
        return False
    check_settings(instead)
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def check_settings(instead: str) -> None:
    """Check what Prefect reads when it is imported: its settings, the active profile, the variables for proxies.

    Raises:
        InputError: one of them cannot be used.
    """
    _read_settings(instead)
    _check_profile(instead)
    _check_proxies(instead)


def _read_settings(instead: str) -> None:
    """Import the part of Prefect that reads its settings from the environment and from files."""
    warnings = io.StringIO()  # as long as the settings may be wrong: Prefect warns of it in paragraphs
    try:
        with contextlib.redirect_stderr(warnings):
            from prefect.context import get_settings_context

            get_settings_context()
        import prefect.main  # noqa: F401 - sets up logging
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - four libraries read those files, each with errors of its own
        from pydantic import ValidationError

        if isinstance(error, ValidationError):
            found = list(_invalid_settings(error))
        else:
            names = [name for name in os.environ if name.startswith("PREFECT_")]
            found = list(_broken_files()) or [f"{' '.join(str(error).split())} (set: {', '.join(sorted(names))})"]
        raise InputError(
            "Prefect's settings: " + "; ".join(found),
            allowed="what `prefect config view` accepts",
            fix=f"correct or remove it, or {instead}",
        ) from None


def _invalid_settings(error: ValidationError) -> Iterator[str]:
    """Yield each invalid setting by the variable or the file where it is set."""
    variables = sorted(name for name in os.environ if name.startswith("PREFECT_"))
    for item in error.errors():
        if item["type"] != "default_factory_not_called":  # follows from another one
            name, value = str(item["loc"][-1]).upper(), str(item["input"])
            variable = next((key for key in variables if key.endswith(name) and os.environ[key] == value), None)
            where = variable or f"{_file_with(value) or error.title}: {name.lower()}"
            yield f"{where}={value}: {item['msg']}"


def _settings_files() -> list[Path]:
    """Return the files from which Prefect reads settings, as far as they exist."""
    home = Path(os.environ.get("PREFECT_HOME") or Path("~").expanduser() / ".prefect")
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    return [path for path in (Path(".env"), Path("prefect.toml"), Path("pyproject.toml"), profiles) if path.is_file()]


def _file_with(value: str) -> str | None:
    """Return which of the settings files has a value."""
    texts = ((path, path.read_text(encoding="utf-8", errors="replace")) for path in _settings_files())
    return next((str(path.absolute()) for path, text in texts if value in text), None)


def _broken_files() -> Iterator[str]:
    """Yield each settings file that is not TOML, with the line."""
    for path in _settings_files():
        try:
            if path.suffix == ".toml":
                tomllib.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            yield f"{path.absolute()}: {error}"


def _check_profile(instead: str) -> None:
    """Check that the active profile exists: Prefect would take another one."""
    from prefect.context import get_settings_context
    from prefect.settings import load_profiles

    profiles = load_profiles()
    wanted = os.environ.get("PREFECT_PROFILE") or profiles.active_name
    if wanted != get_settings_context().profile.name:
        where = "PREFECT_PROFILE" if os.environ.get("PREFECT_PROFILE") else f"{_file_with(str(wanted))}: active"
        raise InputError(
            f"{where}={wanted}: Prefect has no such profile",
            allowed=", ".join(sorted(profiles.names)),
            fix=f"name one of them, or {instead}",
        )


def _check_proxies(instead: str) -> None:
    """Check the variables for proxies: Prefect's HTTP client reads them even if its server is on this machine."""
    import httpx

    try:
        httpx.Client().close()
    except (ValueError, ImportError, httpx.InvalidURL, OSError) as error:
        if isinstance(error, OSError):
            found, allowed = f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE')}", "a file of certificates"
        else:
            found = ", ".join(filter(None, (_proxies(), f"NO_PROXY={os.environ['NO_PROXY']}")))
            allowed = "http:// and https:// (socks5:// with the package socksio); in NO_PROXY names of hosts"
        raise InputError(
            f"{found}: Prefect's HTTP client cannot use it: {error}",
            allowed=allowed,
            fix=f"correct or unset it, or {instead}",
        ) from None


def _proxies() -> str:
    """Return the variables that name proxies, as ``NAME=value``."""
    names = [name for upper in _PROXIES for name in (upper, upper.lower()) if os.environ.get(name)]
    return ", ".join(f"{name}={_without_password(os.environ[name])}" for name in names)


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", url)


def _silence_interrupt() -> None:
    """Let Ctrl-C turn logging off first: Prefect and Dask would log it as a crash of the flow and of each task."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        return  # Ctrl-C is ignored, or not for this thread

    def handle(number: int, frame: FrameType | None) -> Any:
        logging.disable()
        return before(number, frame)

    signal.signal(signal.SIGINT, handle)


def require_server(instead: str) -> None:
    """Check that a server is configured and can be used; a temporary one would be gone before anything runs on schedule.

    Raises:
        InputError: none is, or it cannot be used.
    """
    from prefect.settings import PREFECT_API_URL

    if not (url := PREFECT_API_URL.value()):
        raise InputError(
            "no Prefect server to schedule on: PREFECT_API_URL is not set",
            allowed="a running server; a temporary one cannot schedule",
            fix="prefect server start &  then  export PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    check_server(url, instead)


def check_server(url: str, instead: str) -> None:
    """Check that a server answers, is Prefect's, and takes our credentials.

    The question is asked in a thread because nothing else bounds a slow name server, and answers that trickle in.

    Raises:
        InputError: it is none that can be used.
    """
    found: list[Exception | None] = []

    def ask() -> None:
        from prefect.client.orchestration import get_client

        try:
            with get_client(sync_client=True) as client:
                client.raise_for_api_version_mismatch()
                client.read_flows(limit=1)
            found.append(None)
        except Exception as error:  # noqa: BLE001 - whatever the client raises is why the server cannot be used
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_S)
    error = found[0] if found else TimeoutError(f"no answer within {_ANSWER_S:.0f} s")
    if error is None:
        return
    where = "" if "PREFECT_API_URL" in os.environ else f" (from {_file_with(url)})"
    reason = str(error.__cause__ or error) or type(error).__name__
    more = f"; proxies: {_proxies()}" if _proxies() else ""
    refused = " Check PREFECT_API_KEY and PREFECT_API_AUTH_STRING." if re.search(r"\b40[13]\b", reason) else ""
    raise InputError(
        f"PREFECT_API_URL={_without_password(url)}{where}: no Prefect server can be used there: "
        f"{_without_password(reason).splitlines()[0]}{more}",
        allowed="the address of a running server's API, such as http://127.0.0.1:4200/api",
        fix=f"start it (prefect server start), {instead}.{refused}",
    )


def _check_home(instead: str) -> None:
    """Check that Prefect's folder, where the temporary server keeps its database by default, can be written."""
    from prefect.settings import PREFECT_HOME

    home = PREFECT_HOME.value()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_writable(home, home / "prefect.db")
    except OSError as error:
        raise InputError(
            f"PREFECT_HOME={home}: Prefect's folder cannot be written: {error.strerror} ({error.filename})",
            allowed="a folder that can be written; without the variable it is ~/.prefect",
            fix=f"set PREFECT_HOME to another folder, or {instead}",
        ) from None


def _check_writable(folder: Path, database: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass
    if database.exists():
        database.open("r+b").close()


def _check_database(instead: str) -> None:
    """Check a database that is named in the settings: its address, and that it is there."""
    from prefect.settings import PREFECT_HOME, PREFECT_SERVER_DATABASE_CONNECTION_URL

    text = PREFECT_SERVER_DATABASE_CONNECTION_URL.value()
    if text == f"sqlite+aiosqlite:///{PREFECT_HOME.value()}/prefect.db":
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        if url.drivername == "postgresql+asyncpg":
            socket.create_connection((url.host or "localhost", url.port or 5432), _ANSWER_S).close()
        elif url.drivername != "sqlite+aiosqlite":
            raise ArgumentError(f"the driver is {url.drivername}")
        elif url.database and ":memory:" not in url.database:
            _check_writable(Path(url.database).parent, Path(url.database))
    except (ArgumentError, ValueError, OSError) as error:
        raise InputError(
            f"PREFECT_SERVER_DATABASE_CONNECTION_URL={_without_password(text)}: {error}",
            allowed="sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME",
            fix=f"correct or unset it, or {instead}",
        ) from None


def _start_server(instead: str) -> None:
    """Start a temporary server and let this process, its threads and its children use it."""
    from prefect.context import refresh_global_settings_context

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        settings = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        process = start_child("flows.execution.prefect_server", log=log, environment=settings)
        atexit.register(stop_child, process, _STOP_S)
        if (port := read_port(process, _START_S)) is None:
            raise _start_error(log, instead)
    os.environ["PREFECT_API_URL"] = f"http://{HOST}:{port}/api"
    refresh_global_settings_context()


def _start_error(log: IO[str], instead: str) -> InputError:
    """Return the error for a server that did not start, with the last error in its log."""
    from prefect.settings import PREFECT_HOME

    log.seek(0)
    lines = [line.strip() for line in log if "Error" in line]
    reason = _without_password(lines[-1]) if lines else f"it is not ready after {_START_S:.0f} s"
    return InputError(
        f"Prefect's temporary server does not start: {reason}",
        allowed=f"PREFECT_HOME (now {PREFECT_HOME.value()}) and PREFECT_SERVER_... that Prefect's server can use",
        fix=f"correct or unset them, set PREFECT_API_URL to a running server, or {instead}",
    )


def serve_until_input_ends() -> None:
    """Run in the child: serve Prefect's API, print the port once it does, and end when the parent closes the pipe or is gone."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            sys.stdout.write(f"{self.servers[0].sockets[0].getsockname()[1]}\n")
            sys.stdout.flush()

    config = uvicorn.Config(
        "prefect.server.api.server:create_app", factory=True, host=HOST, port=0, log_level="error", lifespan="on"
    )

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_STOP_S)
        os._exit(0)  # a connection is still open

    threading.Thread(target=watch, daemon=True).start()
    Server(config).run()


if __name__ == "__main__":
    serve_until_input_ends()
