"""Ctrl-C in a command: the first raises `KeyboardInterrupt`, a second ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
"""What a shell reports for a process that Ctrl-C ended."""

_SHOW_CURSOR = "\x1b[?25h"
_raised: list[int] = []


def start_quietly() -> None:
    """Make Ctrl-C end the process in one line while a command's modules are imported: nothing has begun that it could keep."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, end_at_once)


def start_raising() -> None:
    """Make the first Ctrl-C raise `KeyboardInterrupt` from now on."""
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, end_at_once):
        signal.signal(signal.SIGINT, raise_interrupt)


def was_interrupted() -> bool:
    """Return whether `raise_interrupt` has raised; an import that it hit may fail later, and with another error."""
    return bool(_raised)


def raise_interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """Handle the first Ctrl-C: raise `KeyboardInterrupt`; the next one does not wait for what that has to finish."""
    signal.signal(signal.SIGINT, end_at_once)
    _raised.append(number)
    raise KeyboardInterrupt


def end_at_once(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Handle the second Ctrl-C: one line, and the process is gone.

    Files appear whole or not at all at any moment, and worker processes end with their parent.
    """
    cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""  # progress bars hide it
    os.write(2, f"{cursor}clipcurate: stopped at once; finished work is kept\n".encode())
    os._exit(EXIT_INTERRUPTED)
