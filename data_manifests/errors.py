"""Errors that are the user's to fix: the command line prints them and exits with code 2, or with 1 for a failed check."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class InputError(Exception):
    """Something the user gave cannot be used.

    The message has three parts: what was got (and where), what is allowed, and what to do next.

    Args:
        got: What was found, with the file, line, key or option it was found at.
        allowed: What would have been accepted.
        fix: The next thing to do.
    """

    def __init__(self, got: str, *, allowed: str = "", fix: str = "") -> None:
        self.got, self.allowed, self.fix = got, allowed, fix
        lines = [got]
        if allowed:
            lines.append(f"  allowed: {allowed}")
        if fix:
            lines.append(f"  next:    {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.got, self.allowed, self.fix))


class CheckFailedError(InputError):
    """Everything given could be used, and what came of it does not hold: the command exits with code 1.

    Args:
        got: What was found.
        allowed: What would have held.
        fix: The next thing to do.
        examples: Lines that the command line prints below the message. They are no part of it: it may be logged, by
            Prefect for example, and examples may quote captions, which `forget` would not find there.
    """

    def __init__(self, got: str, *, allowed: str = "", fix: str = "", examples: Sequence[str] = ()) -> None:
        self.examples = tuple(examples)
        super().__init__(got, allowed=allowed, fix=fix)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_failed, (self.got, self.allowed, self.fix, self.examples))


def _rebuild(got: str, allowed: str, fix: str) -> InputError:
    """Unpickle an error that crossed a process boundary."""
    return InputError(got, allowed=allowed, fix=fix)


def _rebuild_failed(got: str, allowed: str, fix: str, examples: Sequence[str]) -> CheckFailedError:
    return CheckFailedError(got, allowed=allowed, fix=fix, examples=examples)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known word closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""
