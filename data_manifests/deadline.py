"""A call over the network that has a time limit as a whole, looking up names included."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def answer_within(ask: Callable[[], Any], seconds: float) -> Any:
    """Return what a call gives, or the exception that it ends with; a `TimeoutError` if it takes longer.

    Args:
        ask: The call; it goes on in the background when its time is over.
        seconds: Its time. Clients of the network limit how long they wait for bytes, not how long names are looked up.
    """
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(ask())
        except Exception as error:  # noqa: BLE001 - of several libraries; the caller makes it a message
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else TimeoutError(f"no answer in {seconds:g} seconds")
