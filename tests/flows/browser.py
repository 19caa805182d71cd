"""A real Chromium without a window, driven over its debugging pipe: keys, clicks, widths, dark mode, pictures."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine's path")

_KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Escape": 27, "Tab": 9}
_TIMEOUT_S = 60


class Browser:
    """One tab; a context manager.

    Attributes:
        said: What the console was told, errors of the page among it.
        asked: Addresses that the page asked for, apart from files.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self._number, self._pending = 0, b""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        options = f"--headless --no-sandbox --disable-gpu --no-first-run --user-data-dir={self._profile.name}"
        line = f"exec {CHROMIUM} {options} --remote-debugging-pipe about:blank 3<&{to_read} 4>&{to_write}"
        self._process = subprocess.Popen(
            ["bash", "-c", line], pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)  # the browser ends when its pipe does
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; what happens meanwhile is noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))
        raise TimeoutError(method)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            part = os.read(self._read, 1 << 20)
            if not part:
                raise EOFError("the browser ended")
            self._pending += part
        line, _, self._pending = self._pending.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: str, about: dict[str, Any]) -> None:
        if event == "Runtime.consoleAPICalled":
            self.said.append(f"{about['type']}: {[item.get('value') for item in about['args']]}")
        elif event == "Runtime.exceptionThrown":
            self.said.append(str(about["exceptionDetails"].get("exception", about["exceptionDetails"])))
        elif event == "Log.entryAdded":
            self.said.append(about["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            address = about["request"]["url"]
            self.asked += [] if address.startswith(("file:", "data:", "about:")) else [address]

    def open(self, page: Path, fragment: str = "", width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Open a page at a width in CSS pixels; below 600 as a phone."""
        self.visit(page.as_uri() + fragment, width, height, dark=dark)

    def visit(self, address: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Open an address; see `open`."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.protocol !== 'about:'")

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression holds."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key: one of `_KEYS`."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        about |= {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, wherever on the page it is."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
