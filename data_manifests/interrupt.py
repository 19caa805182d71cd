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


def raise_interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Handle the first Ctrl-C: raise `KeyboardInterrupt`; the next one does not wait for what that has to finish."""
    signal.signal(signal.SIGINT, end_at_once)
    raise KeyboardInterrupt


def end_at_once(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Handle the second Ctrl-C: one line, and the process is gone.

    Files appear whole or not at all at any moment, and worker processes end with their parent.
    """
    cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""  # progress bars hide it
    os.write(2, f"{cursor}clipcurate: stopped at once; finished work is kept\n".encode())
    os._exit(EXIT_INTERRUPTED)
